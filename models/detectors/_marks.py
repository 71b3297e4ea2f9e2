"""Words of transactions and statuses as marks that a kernel over readings can follow.

A mark is the last word of one kind about an EVSE: a number and the event time from which it holds. Marks are
overwritten in the order in which their messages took effect, so that taking one in twice changes nothing,
and a reading sees the marks of messages before its own.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import I32, I64, U8, ReadingBatch
from models.detecting import EmissionArrays, Emissions, Observed
from models.devices import DeviceTable
from models.records import Record
from models.units import NO_TIME

from ._base import RowDetector

#: Fields that a mark is kept in, to be part of a detector's record.
MARK_FIELDS = [("told_ns", "i8"), ("told", "u1")]
MARK_BLANK = {"told_ns": NO_TIME}


class Marks(NamedTuple):
    """Marks of a batch, sorted by EVSE and order; the last one is a sentinel after all EVSEs."""

    evse: I32
    order: I64
    time_ns: I64
    word: U8


def marks_of(found: list[tuple[int, int, int, int]]) -> Marks:
    """Return (EVSE, order, time, word) as columns."""
    found = [*sorted(found, key=lambda mark: mark[:2]), (np.iinfo(np.int32).max, 0, NO_TIME, 0)]
    evse, order, time_ns, word = zip(*found, strict=True)
    return Marks(
        np.array(evse, np.int32),
        np.array(order, np.int64),
        np.array(time_ns, np.int64),
        np.array(word, np.uint8),
    )


@kernel
def follow(state: Any, marks: Marks, at: int, evse: int, order: int) -> int:
    """Take in the marks before a reading of `evse` in `order`; return the first that is not."""
    while marks.evse[at] < evse or (marks.evse[at] == evse and marks.order[at] < order):
        rec = state[marks.evse[at]]
        rec["told_ns"] = marks.time_ns[at]
        rec["told"] = marks.word[at]
        at += 1
    return at


class MarkedDetector(RowDetector):
    """A detector over readings that also heeds what stations say of transactions."""

    _marks: Marks = marks_of([])

    @abstractmethod
    def _words(self, record: Record, devices: DeviceTable) -> list[tuple[int, int, int]]:
        """Return (EVSE row, event time, word) that a record says."""

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self.table.reserve(seen.devices.n_evses)
        found = [
            (evse, record.at.order, time_ns, word)
            for record in seen.records
            for evse, time_ns, word in self._words(record, seen.devices)
        ]
        self._marks = marks_of(found)
        super().process(seen, out)
        for evse, _, time_ns, word in sorted(found, key=lambda mark: mark[:2]):
            self.table.rows["told_ns"][evse] = time_ns
            self.table.rows["told"][evse] = word
        self._marks = marks_of([])

    @abstractmethod
    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        """Process readings from `start`, heeding `_marks`."""

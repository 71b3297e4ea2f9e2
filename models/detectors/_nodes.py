"""What detectors over messages, ticks and records share: one walk in order of effect, with deadlines.

The walk visits every message and tick once. At each, first everything it says is taken in, its records
included, then what is overdue at its time is decided, so that a message that comes at the deadline still
counts. Time is the journal's (`effect_ns`): no deadline passes while nothing was journaled. `due_ns` is a
lower bound of the next deadline, so that a message costs one comparison.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np

from models.detecting import DetectorSpec, Emissions, Observed
from models.records import Record

NEVER: Final = int(np.iinfo(np.int64).max)


class NodeDetector(ABC):
    """Base of detectors over messages and records.

    Subclasses set `spec` and `wanted` and implement `_record` and `_due`; `_walk` may be replaced by a kernel
    that also takes in what messages say.
    """

    spec: DetectorSpec
    wanted: tuple[type[Record], ...] = ()
    due_ns: int = NEVER

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        messages = seen.messages
        at = 0
        for record in seen.records:
            if isinstance(record, self.wanted):
                stop = int(np.searchsorted(messages.order, record.at.order))
                at = self._advance(seen, at, stop, out)
                self._record(record, seen, out)
        self._advance(seen, at, len(messages), out)

    def _advance(self, seen: Observed, at: int, stop: int, out: Emissions) -> int:
        while at < stop:
            at = self._walk(seen, at, stop)
            if at < stop:
                now_ns, order = int(seen.messages.effect_ns[at]), int(seen.messages.order[at])
                self._due(now_ns, order, seen, out)
                at += 1
        return stop

    def _walk(self, seen: Observed, at: int, stop: int) -> int:
        """Take in messages from `at`; return the first at whose time something is due, or `stop`."""
        return at + int(np.searchsorted(seen.messages.effect_ns[at:stop], self.due_ns))

    @abstractmethod
    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        """Take in one record of `wanted`."""

    @abstractmethod
    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        """Decide all that is overdue at `now_ns` and set `due_ns` anew."""

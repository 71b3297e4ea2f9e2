"""Quarters that left the energy meter's window: the columns, the protocol, and an archive in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from .batch import I32, I64


@dataclass(slots=True)
class Quarters:
    """n quarters that late readings may still change.

    Attributes
    ----------
    evse : ndarray, shape (n,), int32
        Row in the device table.
    quarter : ndarray, shape (n,), int64
        Quarter hours since the epoch.
    t_first, u_first, t_last, u_last, off : ndarray, shape (n,), int64
        First and last point, ms and unwrapped mWh, and what was added to the last register; `units.NO_TIME`
        when it has no readings.
    t_before, u_before, off_before : ndarray, shape (n,), int64
        The same of the last point before the quarter; `units.NO_TIME` when there is none.
    revision : ndarray, shape (n,), int32
        Last revision put out.
    """

    evse: I32
    quarter: I64
    t_first: I64
    u_first: I64
    t_last: I64
    u_last: I64
    off: I64
    t_before: I64
    u_before: I64
    off_before: I64
    revision: I32

    def __len__(self) -> int:
        return len(self.evse)

    def take(self, index: NDArray[Any]) -> Self:
        """Return a copy with the quarters `index` (integers or a mask)."""
        return type(self)(*(getattr(self, name)[index] for name in COLUMNS))

    def rows(self) -> list[tuple[int, ...]]:
        """Return one tuple a quarter, columns in the order of `COLUMNS`."""
        return list(zip(*(getattr(self, name).tolist() for name in COLUMNS), strict=True))

    @classmethod
    def of(cls, rows: Sequence[tuple[int, ...]]) -> Self:
        """Return the quarters whose tuples are `rows`."""
        table = np.array(rows, np.int64).reshape(len(rows), len(COLUMNS))
        (
            evse, quarter, t_first, u_first, t_last, u_last, off, t_before, u_before, off_before, revision,
        ) = table.T.copy()  # fmt: skip
        return cls(
            evse.astype(np.int32), quarter, t_first, u_first, t_last, u_last, off,
            t_before, u_before, off_before, revision.astype(np.int32),
        )  # fmt: skip


COLUMNS: Final = (
    "evse",
    "quarter",
    "t_first",
    "u_first",
    "t_last",
    "u_last",
    "off",
    "t_before",
    "u_before",
    "off_before",
    "revision",
)

#: Saved states that a restart may still go back to: what they need is kept.
KEPT_STATES: Final = 4


class Archive(Protocol):
    """Where quarters go that left the window, one archive a shard.

    A quarter may be put again: the newest version counts. The last version of each stretch between two
    saved states is kept, so that `rollback` can undo what was put since a saved state.
    """

    def put(self, rows: Quarters, keep_from: I64) -> None:
        """Store quarters.

        Parameters
        ----------
        rows : Quarters
        keep_from : ndarray, shape (n,), int64
            Quarters of the row's EVSE before this one will not be asked for again.
        """

    def load(self, evse: int, first: int, end: int) -> Quarters:
        """Return the newest versions of quarters first <= quarter < end of an EVSE, by quarter."""

    def rollback(self, order: int) -> None:
        """Return to what was there when the state at `order` was saved; 0: to nothing."""

    def flush(self, order: int) -> None:
        """Make what was put durable: the state at `order` is being saved."""


class Retention:
    """Which quarters no saved state can ask for any more."""

    def __init__(self) -> None:
        self._now: dict[int, int] = {}
        self._waiting: list[dict[int, int]] = []

    def note(self, rows: Quarters, keep_from: I64) -> None:
        """Remember what `Archive.put` was told."""
        self._now.update(zip(rows.evse.tolist(), keep_from.tolist(), strict=True))

    def saved(self) -> dict[int, int]:
        """Return EVSE row -> oldest quarter to keep, of those that can go now that another state is saved."""
        self._waiting.append(self._now)
        self._now = {}
        return self._waiting.pop(0) if len(self._waiting) > KEPT_STATES else {}


class MemoryArchive:
    """An archive that lives and dies with the process: for replay and tests.

    Parameters
    ----------
    goes_back : bool
        False: no state will be gone back to, so what no reading can change any more is dropped at once.
    """

    def __init__(self, *, goes_back: bool = True) -> None:
        self._goes_back = goes_back
        # EVSE row -> quarter -> (order of the saved state before it, row)
        self._quarters: dict[int, dict[int, list[tuple[int, tuple[int, ...]]]]] = {}
        self._retention = Retention()
        self._saved = 0

    def put(self, rows: Quarters, keep_from: I64) -> None:
        """Store quarters; see `Archive.put`."""
        for row in rows.rows():
            versions = self._quarters.setdefault(row[0], {}).setdefault(row[1], [])
            if versions and versions[-1][0] == self._saved:
                versions.pop()
            versions.append((self._saved, row))
        if self._goes_back:
            self._retention.note(rows, keep_from)
            return
        for evse, oldest in zip(rows.evse.tolist(), keep_from.tolist(), strict=True):
            quarters = self._quarters[evse]
            while quarters and (first := next(iter(quarters))) < oldest:
                del quarters[first]

    def load(self, evse: int, first: int, end: int) -> Quarters:
        """Return the newest versions; see `Archive.load`."""
        quarters = self._quarters.get(evse, {})
        return Quarters.of([quarters[q][-1][1] for q in range(first, end) if q in quarters])

    def rollback(self, order: int) -> None:
        """Forget versions; see `Archive.rollback`."""
        for quarters in self._quarters.values():
            for quarter, versions in list(quarters.items()):
                versions[:] = [version for version in versions if version[0] < order]
                if not versions:
                    del quarters[quarter]
        self._retention = Retention()
        self._saved = order

    def flush(self, order: int) -> None:
        """Note that a state is saved; see `Archive.flush`."""
        self._saved = order
        for evse, oldest in self._retention.saved().items():
            quarters = self._quarters[evse]
            for quarter in [q for q in quarters if q < oldest]:
                del quarters[quarter]

"""Readings into event-time order per EVSE: late and repeated ones out, context bits on.

Works on readings in the order in which their messages took effect. Within a message readings are
sorted by (EVSE, time) and those of equal EVSE and time (several series of one sample) become
one. A reading that is not newer than what its EVSE already had is late (billing still takes it), or a
duplicate when its time and register were seen among the last `RECENT` of its EVSE.

Registers that arrive with transaction messages wait until the readings of their EVSE reach their time, or
until a bound in journaled time, so that a begin or end register stands at its place. Of an EVSE whose
readings never carry a register they are readings too. Where readings do carry registers they stand beside
them, for energy only: stations read the two at different moments, and a mixture would seem to run
backwards. A register at the very time of a reading is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._ordering_kernels import (
    BESIDE,
    HISTORY,
    IN_ORDER,
    LATE,
    RECENT,
    WAITING,
    EvseState,
    Marks,
    Placed,
    Rows,
    arrange_kernel,
    count_kernel,
    expire_kernel,
    gather_kernel,
    gather_plain_kernel,
    group_kernel,
    join_registers_kernel,
    place_kernel,
)
from .batch import F64, I16, I32, I64, U8, ReadingBatch
from .errors import SnapshotError
from .units import NO_REGISTER, NO_TIME

VERSION: Final = 1
_FOR_EVER: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class OrderingConfig:
    """Bounds in ns.

    Attributes
    ----------
    oldest_ns : int
        Event times before this are invalid (2010-01-01).
    """

    oldest_ns: int = 1_262_304_000_000_000_000


@dataclass(slots=True)
class Ordered:
    """Result of `Orderer.run`."""

    rows: ReadingBatch
    late: ReadingBatch
    beside: ReadingBatch  # registers of transactions, for energy only
    counts: I64  # wire readings by fate: in order, late, repeated, invalid


@dataclass(slots=True)
class RawRows:
    """Readings in order of effect, as decoded.

    `rank` is non-decreasing; `time_ns` is corrected for skew.
    """

    evse: I32
    time_ns: I64
    reg_mwh: I64
    rank: I64
    values: F64
    slot_of: I16


class Orderer:
    """Ordering state of one shard's EVSEs."""

    def __init__(self, config: OrderingConfig, resume_state: dict[str, Any] | None = None) -> None:
        self.config = config
        self._n = 0
        self.state = _empty_evses(16)
        self._earliest = np.full(1, np.iinfo(np.int64).max, np.int64)
        if resume_state is not None:
            if resume_state.get("version") != VERSION:
                raise SnapshotError(
                    f"orderer has version {resume_state.get('version')!r}, this program reads {VERSION}"
                )
            n = len(resume_state["newest_ns"])
            self.reserve(n)
            for name in EvseState._fields:
                getattr(self.state, name)[:n] = resume_state[name]
            waiting = self.state.wait_ns[:n] != NO_TIME
            if waiting.any():
                self._earliest[0] = self.state.wait_until_ns[:n][waiting].min()
        _compile()

    def reserve(self, evses: int) -> None:
        """Have room for `evses` rows."""
        self._n = max(self._n, evses)
        if self._n > len(self.state.newest_ns):
            bigger = _empty_evses(max(self._n, 2 * len(self.state.newest_ns)))
            pairs: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(self.state, bigger, strict=True))
            for old, new in pairs:
                new[: len(old)] = old
            self.state = bigger

    def run(
        self,
        raw: RawRows,
        marks: Marks,
        order: I64,
        effect_ns: I64,
        live: U8,
        *,
        release_all: bool = False,
    ) -> Ordered:
        """Place readings and registers; `order`, `effect_ns`, `live` are indexed by rank.

        With `release_all` the registers that wait are placed at the last rank: the log ends here.
        """
        n = len(raw.evse)
        perm = np.arange(n)
        head = np.ones(n, np.uint8)
        plain = arrange_kernel(raw.rank, raw.evse, raw.time_ns, perm, head)
        if plain:
            rows = Rows(raw.evse, raw.time_ns, raw.reg_mwh, raw.rank, head)
        else:
            reg = raw.reg_mwh[perm]
            join_registers_kernel(reg, head)
            rows = Rows(raw.evse[perm], raw.time_ns[perm], reg, raw.rank[perm], head)
        room = n + len(marks.rank) + int((self.state.wait_ns[: self._n] != NO_TIME).sum())
        out = _empty_placed(room)
        place_kernel(
            self.state,
            rows,
            marks,
            out,
            self.config.oldest_ns,
            self._n,
            self._earliest,
        )
        if release_all and len(order):
            expire_kernel(self.state, out, _FOR_EVER, len(order) - 1, self._n, self._earliest)
        used = int(out.used[0])
        counts = np.zeros(4, np.int64)
        count_kernel(head, out.source, out.fate, used, counts)
        batches = []
        for fate in (IN_ORDER, LATE, BESIDE):
            index = group_kernel(out.evse, out.fate, fate, self._n, used)
            source = out.source[index]
            values = np.empty((raw.values.shape[0], len(index)))
            if plain:
                gather_plain_kernel(raw.values, source, values)
            else:
                gather_kernel(raw.values, perm, head, source, values)
            rank = out.rank[index]
            batches.append(
                ReadingBatch(
                    out.evse[index],
                    out.time_ns[index],
                    order[rank],
                    effect_ns[rank],
                    out.state[index],
                    live[rank],
                    out.reg_mwh[index],
                    values,
                    raw.slot_of,
                )
            )
        return Ordered(batches[0], batches[1], batches[2], counts)

    def context(self, evse: int) -> int:
        """Return the newest context bits of an EVSE."""
        if evse >= self._n or self.state.context_ns[evse, HISTORY - 1] == NO_TIME:
            return 0
        return int(self.state.context[evse, HISTORY - 1])

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        return {"version": VERSION} | {
            name: getattr(self.state, name)[: self._n].copy() for name in EvseState._fields
        }

    def nbytes(self) -> int:
        """Return the bytes of state held for the EVSEs known."""
        return sum(int(array[: self._n].nbytes) for array in self.state)


def _compile() -> None:
    """Have the kernels compiled (or read from the cache) that an ordinary message does not need."""
    index, head, out = np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros((0, 0))
    join_registers_kernel(index, head)
    for values in (np.zeros((0, 0)), np.zeros((2, 2))[:, :1]):  # whole, and cut from more room
        gather_kernel(values, index, head, index, out)
        gather_plain_kernel(values, index, out)


def _empty_evses(n: int) -> EvseState:
    return EvseState(
        np.full(n, NO_TIME, np.int64),
        np.zeros((n, RECENT), np.int64),
        np.zeros(n, np.int8),
        np.full((n, HISTORY), NO_TIME, np.int64),
        np.zeros((n, HISTORY), np.int16),
        np.full((n, WAITING), NO_TIME, np.int64),
        np.full((n, WAITING), NO_REGISTER, np.int64),
        np.zeros((n, WAITING), np.int64),
        np.zeros(n, np.uint8),
    )


def _empty_placed(n: int) -> Placed:
    return Placed(
        np.zeros(1, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int32),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int16),
        np.empty(n, np.uint8),
    )

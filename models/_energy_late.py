"""Late readings wait for the next tick: what came within a second makes one revision, not one a message."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._energy_run import Ticks
from ._energy_table import Readings
from .batch import I64, ReadingBatch
from .units import NO_REGISTER, NS_PER_MS


def readings_of(rows: ReadingBatch, beside: int = 0) -> Readings:
    """Return the columns that the kernels take; `beside`: 1 for registers of transactions."""
    return Readings(
        np.ascontiguousarray(rows.evse),
        np.ascontiguousarray(rows.time_ns),
        np.ascontiguousarray(rows.order),
        np.ascontiguousarray(rows.effect_ns),
        np.ascontiguousarray(rows.reg_mwh),
        np.full(len(rows), beside, np.uint8),
    )


def no_readings() -> Readings:
    """Return no readings."""
    return readings_of(ReadingBatch.empty())


def with_register(rows: Readings) -> Readings:
    """Return the readings that have a register."""
    known = rows.reg_mwh != NO_REGISTER
    return rows if known.all() else take(rows, np.flatnonzero(known))


def release(waiting: Readings, ticks: Ticks) -> tuple[Readings, Readings]:
    """Return (readings that a tick lets through, grouped by EVSE; those that wait on).

    Those let through take the order and the time of the first tick at or after their own order.
    """
    k = np.searchsorted(ticks.order, waiting.order)
    let = k < len(ticks.order)
    due, tick = take(waiting, np.flatnonzero(let)), k[let]
    due = due._replace(order=ticks.order[tick], effect_ns=ticks.effect_ms[tick] * NS_PER_MS)
    return by_evse(due), take(waiting, np.flatnonzero(~let))


def behind(rows: Readings, newest_ns: I64, due: Readings) -> NDArray[np.bool_]:
    """Return which readings are not newer than a register of a transaction that was taken before them.

    `rows` are by EVSE; `newest_ns`, by EVSE, is the newest such register of earlier batches, `due` are
    those of this one, with the order at which they are taken.
    """
    found = rows.time_ns <= newest_ns[rows.evse]
    first = np.searchsorted(rows.evse, due.evse)
    last = np.searchsorted(rows.evse, due.evse, side="right")
    for i in np.flatnonzero((due.beside != 0) & (last > first)).tolist():
        at = slice(first[i], last[i])
        found[at] |= (rows.order[at] > due.order[i]) & (rows.time_ns[at] <= due.time_ns[i])
    return found


def take(rows: Readings, index: NDArray[Any]) -> Readings:
    """Return the readings `index` (integers or a mask)."""
    return Readings(*(column[index] for column in rows))


def release_all(waiting: Readings, order: int) -> Readings:
    """Return all readings that wait, grouped by EVSE, at this order."""
    return by_evse(waiting._replace(order=np.full(len(waiting.order), order, np.int64)))


def by_evse(rows: Readings) -> Readings:
    """Return the readings by EVSE, order, kind, time and register: transactions' registers come second."""
    keys = rows.reg_mwh, rows.time_ns // NS_PER_MS, rows.beside, rows.order, rows.evse
    return take(rows, np.lexsort(keys))


def join(a: Readings, b: Readings) -> Readings:
    """Return the readings of both."""
    if len(a.evse) == 0 or len(b.evse) == 0:
        return b if len(a.evse) == 0 else a
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(a, b, strict=True))
    return Readings(*(np.concatenate(pair) for pair in pairs))

"""Late readings wait for the next tick: what came within a second makes one revision, not one a message."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._energy_run import Readings, Ticks
from .batch import ReadingBatch
from .units import NO_REGISTER, NS_PER_MS


def readings_of(rows: ReadingBatch) -> Readings:
    """Return the columns that the kernels take."""
    return Readings(
        np.ascontiguousarray(rows.evse),
        np.ascontiguousarray(rows.time_ns),
        np.ascontiguousarray(rows.order),
        np.ascontiguousarray(rows.effect_ns),
        np.ascontiguousarray(rows.reg_mwh),
    )


def no_readings() -> Readings:
    """Return no readings."""
    return readings_of(ReadingBatch.empty())


def with_register(rows: Readings) -> Readings:
    """Return the readings that have a register."""
    known = rows.reg_mwh != NO_REGISTER
    return rows if known.all() else _take(rows, np.flatnonzero(known))


def release(waiting: Readings, ticks: Ticks) -> tuple[Readings, Readings]:
    """Return (readings that a tick lets through, grouped by EVSE; those that wait on).

    Those let through take the order and the time of the first tick at or after their own order.
    """
    k = np.searchsorted(ticks.order, waiting.order)
    let = k < len(ticks.order)
    due, tick = _take(waiting, np.flatnonzero(let)), k[let]
    due = due._replace(order=ticks.order[tick], effect_ns=ticks.effect_ms[tick] * NS_PER_MS)
    return by_evse(due), _take(waiting, np.flatnonzero(~let))


def release_all(waiting: Readings, order: int) -> Readings:
    """Return all readings that wait, grouped by EVSE, at this order."""
    return by_evse(waiting._replace(order=np.full(len(waiting.order), order, np.int64)))


def by_evse(rows: Readings) -> Readings:
    """Return the readings by EVSE, order, time and register."""
    return _take(rows, np.lexsort((rows.reg_mwh, rows.time_ns // NS_PER_MS, rows.order, rows.evse)))


def join(a: Readings, b: Readings) -> Readings:
    """Return the readings of both."""
    if len(a.evse) == 0 or len(b.evse) == 0:
        return b if len(a.evse) == 0 else a
    return Readings(
        np.concatenate([a.evse, b.evse]),
        np.concatenate([a.time_ns, b.time_ns]),
        np.concatenate([a.order, b.order]),
        np.concatenate([a.effect_ns, b.effect_ns]),
        np.concatenate([a.reg_mwh, b.reg_mwh]),
    )


def _take(rows: Readings, index: NDArray[Any]) -> Readings:
    return Readings(
        rows.evse[index], rows.time_ns[index], rows.order[index], rows.effect_ns[index], rows.reg_mwh[index]
    )

"""Kernels of `models.rollups`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._energy_kernels import NEVER, first_from
from ._kernel import kernel
from ._rollup_table import (
    BOUND,
    EVSE,
    FIRST_CURRENT,
    FREQUENCY,
    MINUTE_NS,
    MINUTES,
    ORDER,
    ROOM,
    ROW,
    SCAN,
    Rows,
    State,
    Ticks,
    Windows,
)
from .batch import F64, I16, I64
from .units import NO_REGISTER


@kernel
def _begin(w: Any, index: int) -> None:
    w["index"] = index
    w["count"] = 0
    w["register"] = NO_REGISTER
    w["power_min"] = np.inf
    w["power_max"] = -np.inf
    for k in range(10):
        w["sums"][k] = 0.0
        w["n"][k] = 0
    for k in range(4):
        w["low"][k] = np.inf
    for k in range(8):
        w["high"][k] = -np.inf
    for k in range(3):
        w["peaks"][k] = -np.inf
    for k in range(2):
        w["lasts"][k] = np.nan


@kernel
def _merge(w: Any, into: Any) -> None:
    """Add a closed minute to its quarter, unless that was put out already."""
    quarter = int(w["index"]) // MINUTES
    if into["index"] != quarter:
        _begin(into, quarter)
    elif into["count"] == 0:
        return
    into["count"] += w["count"]
    if w["register"] != NO_REGISTER:
        into["register"] = w["register"]
    into["power_min"] = min(into["power_min"], w["power_min"])
    into["power_max"] = max(into["power_max"], w["power_max"])
    for k in range(10):
        into["sums"][k] += w["sums"][k]
        into["n"][k] += w["n"][k]
    for k in range(4):
        into["low"][k] = min(into["low"][k], w["low"][k])
    for k in range(8):
        into["high"][k] = max(into["high"][k], w["high"][k])
    for k in range(3):
        into["peaks"][k] = max(into["peaks"][k], w["peaks"][k])
    for k in range(2):
        if not np.isnan(w["lasts"][k]):
            into["lasts"][k] = w["lasts"][k]


@kernel
def _finite(x: float, decimals_factor: float) -> float:
    """Return x without the rounding of single precision, NaN for the start value of a minimum or maximum."""
    if np.isinf(x) or np.isnan(x):
        return np.nan
    rounded: float = np.rint(float(x) * decimals_factor) / decimals_factor
    return rounded


@kernel
def _put(w: Any, e: int, period: int, order: int, out: Windows) -> None:
    """Put out a window and mark it so."""
    i = out.used[0]
    out.used[0] = i + 1
    out.order[i] = order
    out.period[i] = period
    out.evse[i] = e
    out.start_ns[i] = int(w["index"]) * (MINUTE_NS if period == 0 else MINUTES * MINUTE_NS)
    out.readings[i] = w["count"]
    out.register[i] = w["register"]
    values = out.values[i]
    for k in range(10):
        values[k] = w["sums"][k] / w["n"][k] if w["n"][k] > 0 else np.nan
    values[10] = w["power_min"] if w["n"][0] > 0 else np.nan
    values[11] = w["power_max"] if w["n"][0] > 0 else np.nan
    for k in range(4):
        values[12 + k] = _finite(w["low"][k], 1e3)
    for k in range(8):
        values[16 + k] = _finite(w["high"][k], 1e3)
    for k in range(3):
        values[24 + k] = _finite(w["peaks"][k], 1e2)
    for k in range(2):
        values[27 + k] = _finite(w["lasts"][k], 1e3)
    w["count"] = 0


@kernel
def _close_minute(state: State, e: int, order: int, out: Windows) -> None:
    minute = state.windows[e, 0]
    if minute["count"] == 0:
        return
    _merge(minute, state.windows[e, 1])
    _put(minute, e, 0, order, out)


@kernel
def _close_quarter(state: State, e: int, order: int, out: Windows) -> None:
    quarter = state.windows[e, 1]
    if quarter["count"] != 0:
        _put(quarter, e, 1, order, out)


@kernel
def _add(w: Any, values: F64, lanes: I16, reg_mwh: I64, i: int, end: int) -> None:
    """Add readings i to end of one minute; `lanes` tells the rows of `values`, see `Rows`."""
    w["count"] += end - i
    sums, counts, low_of, high_of = w["sums"], w["n"], w["low"], w["high"]
    for k in range(10):
        slot = lanes[k]
        if slot < 0:
            continue
        # added one by one to what is there: another cut would round otherwise
        total, n = sums[k], 0
        low, high = np.inf, -np.inf
        for j in range(i, end):
            v = values[slot, j]
            if v == v:
                total += v
                n += 1
                low = min(low, v)
                high = max(high, v)
        if n == 0:
            continue
        sums[k] = total
        counts[k] += n
        if k == 0:
            w["power_min"] = min(w["power_min"], low)
            w["power_max"] = max(w["power_max"], high)
        elif k < FREQUENCY:
            if k < FIRST_CURRENT:
                low_of[k - 1] = min(low_of[k - 1], low)
            high_of[k - 1] = max(high_of[k - 1], high)
    for k in range(3):
        slot = lanes[10 + k]
        if slot < 0:
            continue
        for j in range(i, end):
            v = values[slot, j]
            if v > w["peaks"][k]:
                w["peaks"][k] = v
    for k in range(2):
        slot = lanes[13 + k]
        j = end - 1
        while slot >= 0 and j >= i:
            v = values[slot, j]
            if v == v:
                w["lasts"][k] = v
                break
            j -= 1
    for j in range(end - 1, i - 1, -1):
        if reg_mwh[j] != NO_REGISTER:
            w["register"] = reg_mwh[j]
            break


@kernel
def _plain(state: State, rows: Rows, graces: I64, cursor: I64) -> None:
    """Take in EVSEs from the cursor on as long as all their readings lie in their open minute.

    The common case with as few calls as can be: they cost more than the work. Only for batches whose ticks
    find no EVSE due: readings move its deadline away.
    """
    windows, effect_of = state.windows, state.effect_ns
    evse, time_ns, effect_ns, reg = rows.evse, rows.time_ns, rows.effect_ns, rows.reg_mwh
    n = len(evse)
    i, bound = cursor[ROW], cursor[BOUND]
    while i < n:
        e = evse[i]
        w = windows[e, 0]
        end_ns = (int(w["index"]) + 1) * MINUTE_NS
        due_ns = max(end_ns, effect_of[e]) + graces[e]
        if w["count"] == 0:
            break
        end = i
        while end < n and evse[end] == e and time_ns[end] < end_ns:
            end += 1
        if end < n and evse[end] == e:
            break
        _add(w, rows.values, rows.lanes, reg, i, end)
        effect_of[e] = effect_ns[end - 1]
        bound = min(bound, due_ns)
        i = end
    cursor[ROW], cursor[BOUND] = i, bound


@kernel
def _deadline(state: State, e: int, graces: I64) -> int:
    """Return the journaled time at which the next window is put out even without a later reading."""
    minute, quarter = state.windows[e, 0], state.windows[e, 1]
    if minute["count"] != 0:
        end = (int(minute["index"]) + 1) * MINUTE_NS
    elif quarter["count"] != 0:
        end = (int(quarter["index"]) + 1) * (MINUTES * MINUTE_NS)
    else:
        return NEVER
    due: int = max(end, state.effect_ns[e]) + graces[e]
    return due


@kernel
def _due(state: State, e: int, ticks: Ticks, graces: I64, after_order: int) -> int:
    k: int = first_from(ticks.effect_ns, _deadline(state, e, graces), 0)
    due: int = first_from(ticks.order, after_order + 1, k)
    return due


@kernel
def _run_end(rows: Rows, i: int, minute: int, upto: int, graces: I64) -> int:
    """Return the end of the readings from i on that lie in the same EVSE and minute, up to an order.

    A tick between two readings can only be due if they are as far apart as the grace.
    """
    e = rows.evse[i]
    end_ns = (minute + 1) * MINUTE_NS
    i += 1
    while (
        i < len(rows.evse)
        and rows.evse[i] == e
        and rows.time_ns[i] < end_ns
        and rows.order[i] <= upto
        and rows.effect_ns[i] - rows.effect_ns[i - 1] < graces[e]
    ):
        i += 1
    return i


@kernel
def _take_evse(
    state: State, e: int, rows: Rows, ticks: Ticks, graces: I64, out: Windows, cursor: I64
) -> bool:
    """Take in all that the batch has for EVSE e from the cursor on; return False for want of room."""
    i = cursor[ROW]
    complete = True
    while True:
        if out.used[0] + ROOM > len(out.order):
            complete = False
            break
        due = _due(state, e, ticks, graces, cursor[ORDER])
        due_order = ticks.order[due] if due < len(ticks.order) else NEVER
        has_row = i < len(rows.evse) and rows.evse[i] == e
        if has_row and rows.order[i] <= due_order:
            minute = rows.time_ns[i] // MINUTE_NS
            w = state.windows[e, 0]
            if minute != w["index"]:
                _close_minute(state, e, rows.order[i], out)
                if minute // MINUTES != state.windows[e, 1]["index"]:
                    _close_quarter(state, e, rows.order[i], out)
                _begin(w, minute)
                end = _run_end(rows, i, minute, due_order, graces)
                _add(w, rows.values, rows.lanes, rows.reg_mwh, i, end)
            else:
                end = _run_end(rows, i, minute, due_order, graces)
                if w["count"] != 0:
                    _add(w, rows.values, rows.lanes, rows.reg_mwh, i, end)
            i = end
            state.effect_ns[e] = rows.effect_ns[i - 1]
            cursor[ORDER] = rows.order[i - 1]
        elif due_order != NEVER:
            if state.windows[e, 0]["count"] != 0:
                _close_minute(state, e, due_order, out)
            else:
                _close_quarter(state, e, due_order, out)
            cursor[ORDER] = due_order - 1  # the same tick may find the quarter due
        else:
            break
    cursor[ROW] = i
    return complete


@kernel
def rollup_kernel(
    state: State, n_evses: int, rows: Rows, ticks: Ticks, graces: I64, out: Windows, cursor: I64
) -> bool:
    """Take in a batch from the cursor on; return False when more room is needed to go on."""
    while True:
        if cursor[EVSE] < 0:
            if cursor[SCAN] < 0:
                _plain(state, rows, graces, cursor)
            if cursor[SCAN] >= 0:
                cursor[EVSE] = cursor[SCAN] if cursor[SCAN] < n_evses else -1
                cursor[SCAN] += 1
            elif cursor[ROW] < len(rows.evse):
                cursor[EVSE] = rows.evse[cursor[ROW]]
            cursor[ORDER] = -1
            if cursor[EVSE] < 0:
                return True
        e = cursor[EVSE]
        if not _take_evse(state, e, rows, ticks, graces, out, cursor):
            return False
        cursor[BOUND] = min(cursor[BOUND], _deadline(state, e, graces))
        cursor[EVSE] = -1


@kernel
def flush_kernel(state: State, n_evses: int, order: int, out: Windows) -> None:
    """Put out every open window; the caller has made room for two an EVSE."""
    for e in range(n_evses):
        _close_minute(state, e, order, out)
        _close_quarter(state, e, order, out)

"""Kernels of `models.energy`: readings in order extend the series, close quarters, open segments."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._energy_table import (
    GAP_QUARTERS_MAX,
    INTERPOLATED,
    MISSING,
    MISSING_QUARTERS_MAX,
    QUARTER_MS,
    Evicted,
    Hot,
    Inventory,
    Out,
    Rules,
    between,
    border,
    put,
    quality_of,
    quarter_energy,
)
from ._kernel import kernel
from .batch import I64
from .units import NO_TIME

#: Implied power beyond 1.5 times the EVSE's maximum, plus this, is implausible: steps of registers and
#: uncertain sample times make short intervals look stronger than they were.
SLACK_MWH: Final = 1_000_000
#: Taken where the inventory does not say: enough for most, far below what a lifetime register would imply.
P_MAX_UNKNOWN_W: Final = 100_000.0
NEVER: Final = int(np.iinfo(np.int64).max)
_MWH_PER_W_MS: Final = 1.5 / 3600.0

# counters
SMALL_FALLS: Final = 0
LOW_READINGS: Final = 1
RESETS: Final = 2
ROLLOVERS: Final = 3
REPLACED: Final = 4
JUMPS: Final = 5
RETURNS: Final = 6
PLACEHOLDERS: Final = 7
RESTARTS: Final = 8
LATE_CONFLICTS: Final = 9
TOO_LATE: Final = 10
COUNTERS: Final = (
    "small_falls",
    "low_readings",
    "resets",
    "rollovers",
    "replaced",
    "implausible_jumps",
    "returns",
    "placeholders",
    "restarts",
    "late_conflicts",
    "too_late",
)


@kernel
def slope(p_max_w: float) -> float:
    """Return the greatest plausible energy per time, mWh/ms."""
    return (p_max_w if p_max_w == p_max_w else P_MAX_UNKNOWN_W) * _MWH_PER_W_MS


@kernel
def plausible(step_mwh: int, span_ms: int, slope_mwh_per_ms: float) -> bool:
    """Return whether a register may rise by this much in this time."""
    return step_mwh <= SLACK_MWH or step_mwh <= slope_mwh_per_ms * span_ms + SLACK_MWH


@kernel
def last_point(hot: Hot, e: int) -> tuple[int, int]:
    """Return (time, register) of the newest point; the EVSE has one."""
    q = hot.evse[e]["newest"]
    slot = hot.slots[e, q % hot.slots.shape[1]]
    return q * QUARTER_MS + int(slot["t_last"]), slot["u_last"]


@kernel
def _fill(hot: Hot, e: int, t: int, u: int, revision: int) -> None:
    q = t // QUARTER_MS
    k = q % hot.slots.shape[1]
    slot = hot.slots[e, k]
    slot["t_first"] = t - q * QUARTER_MS
    slot["t_last"] = t - q * QUARTER_MS
    slot["u_first"] = u
    slot["u_last"] = u
    slot["off"] = hot.evse[e]["off"]
    hot.revision[e, k] = revision


@kernel
def start(hot: Hot, e: int, t: int, u: int) -> None:
    """Begin the series of an EVSE with one point."""
    rec = hot.evse[e]
    for k in range(hot.slots.shape[1]):
        hot.slots[e, k]["t_first"] = -1
        hot.revision[e, k] = 0
    q = t // QUARTER_MS
    rec["newest"] = q
    rec["first"] = q
    rec["through"] = q - 1
    rec["open"] = 1
    rec["base_t"] = NO_TIME
    _fill(hot, e, t, u, 0)


@kernel
def _evict(hot: Hot, e: int, q: int, revision: int, keep_from: int, evicted: Evicted) -> None:
    """Move quarter q out of the window: to the archive if late readings may still change it."""
    rec = hot.evse[e]
    slot = hot.slots[e, q % hot.slots.shape[1]]
    empty = q > rec["newest"] or slot["t_first"] < 0
    if q >= keep_from:
        i = evicted.used[0]
        evicted.used[0] = i + 1
        evicted.keep_from[i] = keep_from
        evicted.evse[i] = e
        evicted.quarter[i] = q
        evicted.t_first[i] = NO_TIME if empty else q * QUARTER_MS + int(slot["t_first"])
        evicted.t_last[i] = NO_TIME if empty else q * QUARTER_MS + int(slot["t_last"])
        evicted.u_first[i] = 0 if empty else slot["u_first"]
        evicted.u_last[i] = 0 if empty else slot["u_last"]
        evicted.off[i] = 0 if empty else slot["off"]
        evicted.t_before[i] = rec["base_t"]
        evicted.u_before[i] = rec["base_u"]
        evicted.off_before[i] = rec["base_off"]
        evicted.revision[i] = revision
    if not empty:
        rec["base_t"] = q * QUARTER_MS + int(slot["t_last"])
        rec["base_u"] = slot["u_last"]
        rec["base_off"] = slot["off"]


@kernel
def _slide(hot: Hot, e: int, q: int, rules: Rules, evicted: Evicted) -> None:
    """Move the window so that it ends at q, a later quarter than the newest."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    newest, lowest = rec["newest"], q - width + 1
    keep_from = q - rules.late_quarters
    for j in range(max(newest - width + 1, rec["first"]), lowest):
        if j <= newest:
            revision = int(hot.revision[e, j % width])
        elif j < keep_from:
            continue
        else:
            revision = 2 if j <= rec["through"] else 1
        _evict(hot, e, j, revision, keep_from, evicted)
    for j in range(max(newest + 1, lowest), q):
        hot.slots[e, j % width]["t_first"] = -1
        hot.revision[e, j % width] = 2 if j <= rec["through"] else 1


@kernel
def _close(hot: Hot, e: int, t: int, u: int, order: int, rules: Rules, out: Out) -> None:
    """Put out the quarters from the newest one to the one before that of the point (t, u)."""
    rec = hot.evse[e]
    q0 = int(rec["newest"])
    k = q0 % hot.slots.shape[1]
    t_last, u_last = last_point(hot, e)
    v, read = border(hot, e, q0, rules.tolerance_ms)
    for j in range(q0, t // QUARTER_MS):
        v_end, read_end = between(t_last, u_last, t, u, (j + 1) * QUARTER_MS, rules.tolerance_ms)
        energy, quality = v_end - v, quality_of(read, read_end, j == q0)
        if j > q0:
            put(out, order, e, j, energy, quality, 2 if j <= rec["through"] else 1)
        elif hot.revision[e, k] == 0 or energy != rec["open_e"] or quality != rec["open_q"]:
            hot.revision[e, k] += 1
            put(out, order, e, j, energy, quality, int(hot.revision[e, k]))
        v, read = v_end, read_end


@kernel
def _restart(hot: Hot, e: int, t: int, u: int, order: int, rules: Rules, out: Out, counters: I64) -> None:
    """Put out the open quarter as it is and begin anew after a gap that is too long to be filled."""
    settle_open(hot, e, order, rules, out)
    start(hot, e, t, u)
    counters[RESTARTS] += 1


@kernel
def settle_open(hot: Hot, e: int, order: int, rules: Rules, out: Out) -> None:
    """Put out the newest quarter up to its last register, unless that is out already."""
    rec = hot.evse[e]
    q = int(rec["newest"])
    if rec["open"] == 0:
        return
    energy, quality = quarter_energy(hot, e, q, rules.tolerance_ms)
    k = q % hot.slots.shape[1]
    if hot.revision[e, k] == 0 or energy != rec["open_e"] or quality != rec["open_q"]:
        hot.revision[e, k] += 1
        put(out, order, e, q, energy, quality, int(hot.revision[e, k]))
        rec["open_e"] = energy
        rec["open_q"] = quality
    rec["open"] = 0
    rec["through"] = max(rec["through"], q)


@kernel
def append(
    hot: Hot, e: int, t: int, u: int, order: int, rules: Rules, out: Out, evicted: Evicted, counters: I64
) -> None:
    """Add a point that is not older than the newest and not lower."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    q, newest = t // QUARTER_MS, int(rec["newest"])
    if q == newest:
        slot = hot.slots[e, q % width]
        slot["t_last"] = t - q * QUARTER_MS
        slot["u_last"] = u
        slot["off"] = rec["off"]
        rec["open"] = 1
        return
    if q - newest > GAP_QUARTERS_MAX:
        _restart(hot, e, t, u, order, rules, out, counters)
        return
    _close(hot, e, t, u, order, rules, out)
    _slide(hot, e, q, rules, evicted)
    early = q <= rec["through"]
    _fill(hot, e, t, u, 1 if early else 0)
    rec["open_e"] = 0
    rec["open_q"] = MISSING if early else INTERPOLATED
    rec["newest"] = q
    rec["through"] = max(rec["through"], q - 1)
    rec["open"] = 1


@kernel
def deadline_ms(hot: Hot, e: int, inv: Inventory) -> int:
    """Return the journaled time at which the next quarter is put out even without a reading after it."""
    rec = hot.evse[e]
    if rec["newest"] < 0:
        return NEVER
    if rec["open"] != 0:
        end = (rec["newest"] + 1) * QUARTER_MS
    elif rec["through"] < rec["newest"] + MISSING_QUARTERS_MAX:
        end = (rec["through"] + 2) * QUARTER_MS
    else:
        return NEVER
    due: int = max(end, rec["effect"]) + inv.grace_ms[e]
    return due


@kernel
def settle_by_tick(hot: Hot, e: int, order: int, rules: Rules, out: Out) -> None:
    """Put out the next quarter: as far as it is known, or as missing."""
    rec = hot.evse[e]
    if rec["open"] != 0:
        settle_open(hot, e, order, rules, out)
        return
    q = rec["through"] + 1
    rec["through"] = q
    put(out, order, e, q, 0, MISSING, 1)


@kernel
def quarters_to(hot: Hot, e: int, t: int) -> int:
    """Return how many quarters lie between the newest point and time t."""
    newest = hot.evse[e]["newest"]
    return 0 if newest < 0 else max(0, t // QUARTER_MS - newest)


@kernel
def flush_kernel(hot: Hot, n_evses: int, order: int, rules: Rules, out: Out) -> None:
    """Put out every open quarter up to its last register."""
    for e in range(n_evses):
        if hot.evse[e]["newest"] >= 0:
            settle_open(hot, e, order, rules, out)


@kernel
def first_from(values: NDArray[np.int64], wanted: int, low: int) -> int:
    """Return the first index from `low` whose value is at least `wanted`; values never fall."""
    high = len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def counter_values(counters: I64) -> dict[str, Any]:
    """Return the counters by name."""
    return {name: int(counters[i]) for i, name in enumerate(COUNTERS)}

"""Kernels of `models.energy`: what a register does that is not counting up, and readings that come late."""

from __future__ import annotations

from typing import Any, Final

from ._energy_kernels import (
    JUMPS,
    LATE_CONFLICTS,
    LOW_READINGS,
    PLACEHOLDERS,
    REPLACED,
    RESETS,
    RETURNS,
    ROLLOVERS,
    SLACK_MWH,
    SMALL_FALLS,
    TOO_LATE,
    append,
    last_point,
    plausible,
    slope,
    start,
)
from ._energy_table import (
    QUARTER_MS,
    Evicted,
    Hot,
    Inventory,
    Out,
    Readings,
    Rules,
    freeze,
    point_before,
    point_from,
    put,
    quarter_energy,
)
from ._kernel import kernel
from .batch import I64, U8
from .units import NO_TIME

#: Longest time over which a transaction's register may have added energy beyond the last reading.
BESIDE_SPAN_MS: Final = 2 * 3_600_000


@kernel
def _segment(hot: Hot, e: int, t: int, r: int, u: int, low: int) -> None:
    """End the current segment at the newest point; register r at time t counts as u from here on."""
    rec = hot.evse[e]
    t_last, u_last = last_point(hot, e)
    rec["a_t"] = t_last
    rec["a_u"] = u_last
    rec["a_off"] = rec["off"]
    rec["b_t"] = t
    rec["b_u"] = u
    rec["off"] = u - r
    rec["low"] = low
    rec["level"] = 0


@kernel
def _wait(rec: Any, t: int, r: int) -> None:
    """Begin to watch low readings."""
    rec["level"] = 1
    rec["c0_t"] = t
    rec["c0_last"] = t
    rec["c0_r"] = r


@kernel
def _counts_up(rec: Any, t: int, r: int, r_last: int, resolution: int, slope_mwh: float) -> bool:
    """Take in a low reading; return whether the low register now has proved to be the meter's.

    A register near 0 proves itself by rising once (a reset), another by three values that rise.
    """
    if rec["level"] == 0:
        _wait(rec, t, r)
        return False
    second = rec["level"] == 2
    top_t = rec["c1_last"] if second else rec["c0_last"]
    top_r = rec["c1_r"] if second else rec["c0_r"]
    if t <= top_t:
        if r == rec["c0_r"]:
            rec["c0_t"] = min(rec["c0_t"], t)
        return False
    if r == top_r:
        if second:
            rec["c1_last"] = t
        else:
            rec["c0_last"] = t
        return False
    if top_r - r > 2 * resolution or not plausible(r - top_r, t - top_t, slope_mwh):
        _wait(rec, t, r)
        return False
    if r < top_r:
        return False
    near_zero = rec["c0_r"] * 10 <= r_last or rec["c0_r"] <= 2 * resolution
    if second or near_zero:
        return True
    rec["level"] = 2
    rec["c1_t"] = t
    rec["c1_last"] = t
    rec["c1_r"] = r
    return False


@kernel
def _adopt(hot: Hot, e: int, order: int, rules: Rules, out: Out, evicted: Evicted, counters: I64) -> None:
    """Open a segment with the low readings that waited; of each value its first and last time count."""
    rec = hot.evse[e]
    second = rec["level"] == 2
    _, u_last = last_point(hot, e)
    c0_t, c0_last, c0_r = rec["c0_t"], rec["c0_last"], rec["c0_r"]
    c1_t, c1_last, c1_r = rec["c1_t"], rec["c1_last"], rec["c1_r"]
    _segment(hot, e, c0_t, c0_r, u_last, 1)
    counters[RESETS] += 1
    append(hot, e, c0_t, u_last, order, rules, out, evicted, counters)
    append(hot, e, c0_last, u_last, order, rules, out, evicted, counters)
    if second:
        append(hot, e, c1_t, c1_r + rec["off"], order, rules, out, evicted, counters)
        append(hot, e, c1_last, c1_r + rec["off"], order, rules, out, evicted, counters)


@kernel
def _rise(hot: Hot, e: int, t: int, r: int, slope_mwh: float, known: bool, counters: I64) -> None:
    """Look at a rise too steep to be energy; open another segment where the register shows what it was."""
    rec = hot.evse[e]
    t_last, u_last = last_point(hot, e)
    r_last = u_last - rec["off"]
    if plausible(r - r_last, t - t_last, slope_mwh):
        return
    if known:
        counters[JUMPS] += 1
    if r_last == 0:
        # 0 stood for "not read": energy up to here is unknown
        _segment(hot, e, t, r, u_last, 0)
        counters[PLACEHOLDERS] += 1
        return
    u = r + rec["a_off"]
    if rec["low"] != 0 and u >= u_last and plausible(u - rec["a_u"], t - rec["a_t"], slope_mwh):
        # back on the line it fell from
        _segment(hot, e, t, r, u, 0)
        counters[RETURNS] += 1


@kernel
def continues(hot: Hot, e: int, t: int, r: int, inv: Inventory) -> bool:
    """Return whether a transaction's register, newer than all that counts, goes on from there.

    It may be read at another moment than its time says, or count from another zero than the readings do:
    it never shows that a register fell or jumped. Where the readings' register restarts it may add but
    little, since a lifetime register beside one of the session would.
    """
    rec = hot.evse[e]
    if rec["newest"] < 0 or inv.generation[e] != rec["generation"]:
        return True
    t_last, u_last = last_point(hot, e)
    step = r + rec["off"] - u_last
    if step < 0 or rec["level"] != 0:
        return False
    if rec["low"] != 0:
        return bool(step <= SLACK_MWH)
    return bool(plausible(step, min(t - t_last, BESIDE_SPAN_MS), slope(inv.p_max_w[e])))


@kernel
def reading(
    hot: Hot, e: int, t: int, r: int, order: int, effect_ms: int, inv: Inventory, rules: Rules, out: Out,
    evicted: Evicted, counters: I64,
) -> None:  # fmt: skip
    """Take in register r at time t, later than every reading that counts so far."""
    rec = hot.evse[e]
    rec["effect"] = effect_ms
    if rec["newest"] < 0:
        rec["generation"] = inv.generation[e]
        start(hot, e, t, r)
        return
    t_last, u_last = last_point(hot, e)
    r_last = u_last - rec["off"]
    if inv.generation[e] != rec["generation"]:
        rec["generation"] = inv.generation[e]
        _segment(hot, e, t, r, u_last, 0)
        counters[REPLACED] += 1
        append(hot, e, t, u_last, order, rules, out, evicted, counters)
        return
    slope_mwh = slope(inv.p_max_w[e])
    resolution = inv.resolution_mwh[e]
    if r >= r_last:
        if rec["level"] != 0 and t > rec["c0_t"]:
            rec["level"] = 0
        _rise(hot, e, t, r, slope_mwh, inv.p_max_w[e] == inv.p_max_w[e], counters)
        append(hot, e, t, r + rec["off"], order, rules, out, evicted, counters)
        return
    if r_last - r <= 2 * resolution:
        counters[SMALL_FALLS] += 1
        if rec["level"] != 0 and t > rec["c0_t"]:
            rec["level"] = 0
        return
    modulus = inv.modulus_mwh[e]
    over = modulus - r_last + r
    if modulus > 0 and r >= 0 and r_last < modulus and plausible(over, t - t_last, slope_mwh):
        _segment(hot, e, t, r, u_last + over, 0)
        counters[ROLLOVERS] += 1
        append(hot, e, t, u_last + over, order, rules, out, evicted, counters)
        return
    counters[LOW_READINGS] += 1
    if _counts_up(rec, t, r, r_last, resolution, slope_mwh):
        _adopt(hot, e, order, rules, out, evicted, counters)
        append(hot, e, t, r + rec["off"], order, rules, out, evicted, counters)


@kernel
def _shift(hot: Hot, e: int, begin_t: int, d: int) -> None:
    """Count d more from time `begin_t` on, where the current segment begins."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    rec["off"] += d
    for q in range(max(rec["first"], rec["newest"] - width + 1), rec["newest"] + 1):
        slot = hot.slots[e, q % width]
        if slot["t_first"] < 0:
            continue
        if q * QUARTER_MS + int(slot["t_first"]) >= begin_t:
            slot["u_first"] += d
        if q * QUARTER_MS + int(slot["t_last"]) >= begin_t:
            slot["u_last"] += d
            slot["off"] += d


@kernel
def _unwrap_in_break(hot: Hot, e: int, t: int, r: int, slope_mwh: float, beside: int) -> tuple[int, bool]:
    """Return (unwrapped register, whether it fits) of a late reading between two segments.

    It belongs to the end of the one or to the beginning of the other, whichever is nearer. A transaction's
    register (`beside`) moves no segment.
    """
    rec = hot.evse[e]
    as_a, as_b = r + rec["a_off"], r + rec["off"]
    if rec["a_u"] <= as_a <= rec["b_u"]:
        rec["a_t"] = t
        rec["a_u"] = as_a
        return as_a, True
    if rec["a_u"] <= as_b <= rec["b_u"]:
        rec["b_t"] = t
        rec["b_u"] = as_b
        return as_b, True
    if beside != 0:
        return 0, False
    beyond_a, before_b = as_a - rec["b_u"], rec["a_u"] - as_b
    fits_a = beyond_a >= 0 and plausible(as_a - rec["a_u"], t - rec["a_t"], slope_mwh)
    fits_b = before_b >= 0 and plausible(rec["b_u"] - as_b, rec["b_t"] - t, slope_mwh)
    if fits_a and (not fits_b or beyond_a <= before_b):
        _shift(hot, e, rec["b_t"], beyond_a)
        rec["b_u"] += beyond_a
        rec["a_t"] = t
        rec["a_u"] = as_a
        return as_a, True
    if fits_b:
        _shift(hot, e, rec["b_t"], before_b)
        rec["b_t"] = t
        rec["b_u"] = rec["a_u"]
        return rec["a_u"], True
    return 0, False


@kernel
def _offset_before(hot: Hot, e: int, q: int) -> int:
    """Return the offset of the last point before quarter q."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    off: int = rec["base_off"]
    for j in range(q - 1, max(rec["first"], rec["newest"] - width + 1) - 1, -1):
        slot = hot.slots[e, j % width]
        if slot["t_first"] >= 0:
            off = slot["off"]
            break
    return off


@kernel
def _offset_from(hot: Hot, e: int, q: int) -> int:
    """Return the offset of the last point of the first quarter with readings from q on."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    off: int = rec["off"]
    for j in range(max(q, rec["newest"] - width + 1), rec["newest"] + 1):
        slot = hot.slots[e, j % width]
        if slot["t_first"] >= 0:
            off = slot["off"]
            break
    return off


@kernel
def _insert(hot: Hot, e: int, t: int, r: int, slope_mwh: float, beside: int) -> bool:
    """Add a point not newer than the newest; return whether it agrees with what counts already.

    A point between the first and the last of its quarter changes nothing. Another lies between the last
    point of one quarter and the first of a later one, and is of the segment of the one or of the other.
    """
    rec = hot.evse[e]
    q = t // QUARTER_MS
    x = t - q * QUARTER_MS
    u, placed = 0, False
    if rec["a_t"] < t < rec["b_t"]:
        u, placed = _unwrap_in_break(hot, e, t, r, slope_mwh, beside)
        if not placed:
            return False
    slot = hot.slots[e, q % hot.slots.shape[1]]
    empty = slot["t_first"] < 0
    is_first = empty or x < slot["t_first"]
    is_last = empty or x > slot["t_last"]
    if not is_first and not is_last:
        return True
    # one of the two neighbours is a point of this quarter, unless it is empty
    low, high = (q + 1, q + 1) if not is_first else (q, q + 1 if empty else q)
    t0, u0 = point_before(hot, e, low)
    t1, u1 = point_from(hot, e, high)
    if t1 == NO_TIME:
        return False
    off = _offset_before(hot, e, low)
    if placed:
        off = u - r
    elif t >= rec["b_t"]:
        off = rec["off"]
    elif t0 == NO_TIME or not u0 <= r + off <= u1:
        off = _offset_from(hot, e, high)
    u = r + off
    if u > u1 or (t0 != NO_TIME and u < u0):
        return False
    doubtful = r == 0 or beside != 0
    if t0 == NO_TIME and doubtful and not plausible(u1 - u, t1 - t, slope_mwh):
        return False
    if is_first:
        slot["t_first"] = x
        slot["u_first"] = u
    if is_last:
        slot["t_last"] = x
        slot["u_last"] = u
        slot["off"] = off
    rec["first"] = min(rec["first"], q)
    return True


@kernel
def needs_archive(hot: Hot, e: int, t: int) -> bool:
    """Return whether a reading at time t changes quarters before the window."""
    rec = hot.evse[e]
    q = t // QUARTER_MS
    lowest = rec["newest"] - hot.slots.shape[1] + 1
    if q > rec["newest"]:
        return False
    if q < lowest:
        return True
    if rec["base_t"] == NO_TIME:
        return False
    slot = hot.slots[e, q % hot.slots.shape[1]]
    if slot["t_first"] >= 0 and t >= q * QUARTER_MS + int(slot["t_first"]):
        return False
    t0, _ = point_before(hot, e, q)
    return bool(t0 == rec["base_t"])


@kernel
def late_group(
    hot: Hot, e: int, late: Readings, begin: int, end: int, inv: Inventory, rules: Rules, out: Out,
    before_energy: I64, before_quality: U8, counters: I64, last_chance: bool,
) -> None:  # fmt: skip
    """Add late readings begin to end of one order, by time and none newer than the newest; put out changes.

    `before_energy` and `before_quality` are scratch, shape (width,). `last_chance`: nothing before the
    window can be put out again.
    """
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    lowest = max(rec["first"], rec["newest"] - width + 1)
    newest = rec["newest"]
    settled = newest - 1 if rec["open"] != 0 else newest
    for q in range(lowest, settled + 1):
        before_energy[q % width], before_quality[q % width] = quarter_energy(hot, e, q, rules.tolerance_ms)
    if last_chance:
        freeze(hot, e, newest - width + 1, rules.tolerance_ms)
    slope_mwh = slope(inv.p_max_w[e])
    for i in range(begin, end):
        t = late.time_ns[i] // 1_000_000
        if t // QUARTER_MS <= newest - width:
            counters[TOO_LATE] += 1
        elif not _insert(hot, e, t, late.reg_mwh[i], slope_mwh, late.beside[i]):
            counters[LATE_CONFLICTS] += 1
    for q in range(max(rec["first"], newest - width + 1), settled + 1):
        k = q % width
        energy, quality = quarter_energy(hot, e, q, rules.tolerance_ms)
        if q >= lowest and energy == before_energy[k] and quality == before_quality[k]:
            continue
        hot.revision[e, k] += 1
        put(out, late.order[begin], e, q, energy, quality, int(hot.revision[e, k]))
        if q == newest:
            rec["open_e"] = energy
            rec["open_q"] = quality

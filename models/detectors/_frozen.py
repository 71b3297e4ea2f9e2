"""Runs of equal values by channel and the load meanwhile, for `value_frozen`.

A value is remembered as 16 bits: when the next one has the same, the run gets a record. A run may therefore
begin a sample early once in 65,536, when the value before it happens to have the same 16 bits.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16, U8
from models.detecting import CLEAR, RAISE, WARNING, EmissionArrays, Timeline

from ._kernels import ROOM, emit
from ._pool import NONE, Chains, drop, find, take

#: Roles of channels: voltages, currents, the power, temperatures, the last of them the cabinet.
_AMP, _WATT, _TEMPERATURE, _BODY, _ROLES = 4, 8, 9, 11, 12


class Limits(NamedTuple):
    """Limits as in the configuration of `value_frozen`."""

    least_s: int
    temperature_s: int
    least_samples: int
    moved: float
    temperature_moved: float
    lag_s: float
    least_share: float
    ac_a: float
    dc_a: float
    gap_s: int


class Inventory(NamedTuple):
    """Columns of the device table."""

    dc: U8
    phases: Any
    max_a: F64


#: What is kept of every EVSE.
FROZEN_FIELDS: Final[list[Any]] = [
    ("last_s", "i4"),
    ("warm_s", "i4"),
    ("warm_a2", "f4"),  # lagged square of the current
    ("amps", "f4"),  # of the last reading
    ("watts", "f4"),
    ("runs", "i4"),  # first of its `RUN_FIELDS` records
    ("marks", "u2", (_ROLES,)),  # of the last value by role, 0: none, or it was 0
    ("taken", "u2"),  # bit per role that the last reading had
]

#: A value that came again, or that not every reading has: a run needs 20 samples, most end after one. The
#: first sample of others is the last reading. What is raised is the record of role `_RAISED`: since_s is its
#: start, `good_s` since when nothing is frozen.
RUN_FIELDS: Final[list[Any]] = [
    ("value", "f4"),  # NaN: what the mark says
    ("low", "f4"),  # least and greatest load of the run
    ("high", "f4"),
    ("since_s", "i4"),
    ("good_s", "i4"),
    ("n", "i2"),
    ("k", "u1"),  # role
    ("flags", "u1"),
]
_RAISED: Final = _ROLES
_FROZEN, _LIVE, _LONG = 1, 2, 4  # flags: the run froze; what is raised is live; it is about a temperature
MOST_TAKEN: Final = _ROLES + 1  # records that a reading may need

_N_MAX: Final = 32_000
_NEVER: Final = -1

FROZEN_BLANK: Final[dict[str, Any]] = {"warm_s": _NEVER, "runs": NONE}


@kernel
def _load(values: F64, slots: I16, i: int) -> float:
    """Return the greatest phase current of reading i, else the plain one; NaN when there is none."""
    greatest = np.nan
    for k in range(_AMP, _AMP + 3):
        if slots[k] >= 0:
            amps = values[slots[k], i]
            if amps == amps and not greatest >= amps:
                greatest = amps
    if greatest != greatest and slots[_AMP + 3] >= 0:
        greatest = values[slots[_AMP + 3], i]
    return float(greatest)


@kernel
def _lag(rec: Any, amps: float, t_s: int, lag_s: float) -> None:
    """Let the lagged square of the current follow."""
    if rec["warm_s"] == _NEVER:
        rec["warm_a2"] = amps * amps
    else:
        dt = t_s - rec["warm_s"]
        rec["warm_a2"] += (amps * amps - rec["warm_a2"]) * (dt / (dt + lag_s))
    rec["warm_s"] = t_s


@kernel
def _moved(run: Any, max_a: float, limits: Limits) -> bool:
    """Return whether the load of a run moved enough."""
    change = run["high"] - run["low"]
    if run["k"] < _TEMPERATURE:
        return bool(change > limits.moved * run["high"])
    least = limits.least_share * max_a * (2.0 if run["k"] == _BODY else 1.0)
    return bool(change > limits.temperature_moved * run["high"] and change >= least * least)


@kernel
def _mark(value: float) -> int:
    """Return 1 to 65535 for a value, 0 for 0: values next to each other in a channel have different ones."""
    if np.float32(value) == 0.0:
        return 0
    return max(((int(np.float32(value).view(np.uint32)) * 2_654_435_769) & 0xFFFF_FFFF) >> 16, 1)


@kernel
def _begin(rec: Any, k: int, value: float, load: float, since_s: int, pool: Chains) -> int:
    """Return a record of a run of role k with one sample."""
    slot = take(pool, rec["runs"])
    rec["runs"] = slot
    run = pool.rows[slot]
    run["k"] = k
    run["value"] = value
    run["low"] = run["high"] = load
    run["since_s"] = since_s
    run["good_s"] = _NEVER
    run["n"] = 1
    run["flags"] = 0
    return int(slot)


@kernel
def _extend(run: Any, single: Any, load: float, t_s: int, max_a: float, limits: Limits) -> bool:
    """Take in the value of a run once more; return whether it is frozen by now and was not before."""
    run["value"] = single
    run["n"] = min(run["n"] + 1, _N_MAX)
    run["low"] = min(run["low"], np.float32(load))
    run["high"] = max(run["high"], np.float32(load))
    if run["flags"] & _FROZEN:
        return False
    span_s = limits.least_s if run["k"] < _TEMPERATURE else limits.temperature_s
    if run["n"] < limits.least_samples or t_s - run["since_s"] < span_s:
        return False
    if not _moved(run, max_a, limits):
        return False
    run["flags"] |= _FROZEN
    return True


@kernel
def _take(
    rec: Any, k: int, value: float, load: float, before: float, t_s: int, max_a: float, limits: Limits,
    pool: Chains,
) -> bool:  # fmt: skip
    """Take in a value of role k; return whether it is frozen by now and was not before.

    `before` is the role's load at the last reading, where a run of one sample without a record began.
    """
    single = np.float32(value)
    mark = _mark(value)
    slot = find(pool, rec["runs"], k)
    if mark != 0 and mark == rec["marks"][k]:
        if slot == NONE:
            slot = _begin(rec, k, single, before, rec["last_s"], pool)
        known = pool.rows[slot]["value"]
        if known == single or known != known:
            return bool(_extend(pool.rows[slot], single, load, t_s, max_a, limits))
    if slot != NONE:
        rec["runs"] = drop(pool, rec["runs"], slot)
    rec["marks"][k] = mark
    return False


@kernel
def _reset(rec: Any, pool: Chains) -> None:
    """End all runs."""
    rec["warm_s"] = _NEVER
    rec["taken"] = 0
    for k in range(_ROLES):
        rec["marks"][k] = 0
        slot = find(pool, rec["runs"], k)
        if slot != NONE:
            rec["runs"] = drop(pool, rec["runs"], slot)


@kernel
def _emit(head: Any, run: Any, i: int, time: Timeline, kind: int, out: EmissionArrays) -> None:
    """Tell of what `head` says is raised; `run` is the frozen value of a raise."""
    t_s = time.time_ns[i] // 1_000_000_000
    end_s = head["good_s"] if kind == CLEAR else t_s
    j = emit(
        out, time.evse[i], kind, WARNING, 1 if head["flags"] & _LIVE else 0, head["since_s"] * 1_000_000_000,
        end_s * 1_000_000_000, time.order[i], time.effect_ns[i], 1.0 if kind == RAISE else 0.0,
    )  # fmt: skip
    if kind == RAISE:
        out.evidence[j, 0] = run["k"]
        out.evidence[j, 1] = run["value"]
        out.evidence[j, 2] = t_s - run["since_s"]
        out.evidence[j, 3] = run["n"]
        out.evidence[j, 4] = run["low"]
        out.evidence[j, 5] = run["high"]


@kernel
def _decide(
    rec: Any, i: int, time: Timeline, fresh: int, limits: Limits, pool: Chains, out: EmissionArrays
) -> None:
    """Raise for the role `fresh` that froze at reading i (-1: none did), or clear."""
    t_s = time.time_ns[i] // 1_000_000_000
    at, frozen, slot = NONE, NONE, rec["runs"]
    while slot != NONE:
        run = pool.rows[slot]
        if run["k"] == _RAISED:
            at = slot
        elif run["flags"] & _FROZEN and (frozen == NONE or run["k"] < pool.rows[frozen]["k"]):
            frozen = slot
        slot = run["next"]
    if frozen == NONE:
        if at == NONE:
            return
        head = pool.rows[at]
        if head["good_s"] == _NEVER:
            head["good_s"] = t_s
        if t_s - head["good_s"] >= (limits.temperature_s if head["flags"] & _LONG else limits.least_s):
            _emit(head, head, i, time, CLEAR, out)
            rec["runs"] = drop(pool, rec["runs"], at)
        return
    told = find(pool, rec["runs"], fresh) if fresh >= 0 else frozen
    if at == NONE:
        at = _begin(rec, _RAISED, 0.0, 0.0, pool.rows[told]["since_s"], pool)
        pool.rows[at]["flags"] = 0 if fresh < _TEMPERATURE else _LONG
    elif pool.rows[at]["flags"] & _LIVE or time.live[i] == 0:
        pool.rows[at]["good_s"] = _NEVER
        return
    head = pool.rows[at]
    head["good_s"] = _NEVER
    if time.live[i] != 0:
        head["flags"] |= _LIVE
    _emit(head, pool.rows[told], i, time, RAISE, out)


@kernel
def _role_load(k: int, amps: float, watts: float, warm_a2: float) -> float:
    """Return what role k is held against."""
    if k >= _TEMPERATURE:
        return warm_a2
    return watts if _AMP <= k < _WATT else amps


@njit(cache=True, nogil=True, fastmath=False)
def frozen_kernel(
    start: int,
    time: Timeline,
    values: F64,
    ac_slots: I16,
    dc_slots: I16,
    inv: Inventory,
    state: Any,
    limits: Limits,
    pool: Chains,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room or pool.free[1] < MOST_TAKEN:
            return i
        e = time.evse[i]
        rec = state[e]
        dc = inv.dc[e] != 0
        chosen = dc_slots if dc else ac_slots
        max_a = inv.max_a[e] if inv.max_a[e] == inv.max_a[e] else (limits.dc_a if dc else limits.ac_a)
        amps = _load(values, chosen, i)
        watts = values[chosen[_WATT], i] if chosen[_WATT] >= 0 else np.nan
        if amps != amps and watts != watts:
            continue
        t_s = time.time_ns[i] // 1_000_000_000
        if t_s - rec["last_s"] > limits.gap_s:
            _reset(rec, pool)
        last_a, last_w, last_a2 = rec["amps"], rec["watts"], rec["warm_a2"]
        if amps == amps:
            _lag(rec, amps, t_s, limits.lag_s)
        fresh, taken = -1, 0
        for k in range(_ROLES):
            known = False
            if chosen[k] >= 0 and (k != 3 or inv.phases[e] == 1):
                value = values[chosen[k], i]
                held = watts if _AMP <= k < _WATT else amps
                known = value == value and held == held
            if known:
                taken |= 1 << k
                mark = _mark(value)
                if mark != rec["marks"][k] and rec["runs"] == NONE:  # as nearly all
                    rec["marks"][k] = mark
                    continue
                load = _role_load(k, amps, watts, rec["warm_a2"])
                before = _role_load(k, last_a, last_w, last_a2)
                if _take(rec, k, value, load, before, t_s, max_a, limits, pool) and fresh < 0:
                    fresh = k
            elif rec["taken"] & (1 << k) and rec["marks"][k] != 0 and find(pool, rec["runs"], k) == NONE:
                _begin(rec, k, np.nan, _role_load(k, last_a, last_w, last_a2), rec["last_s"], pool)
        rec["last_s"], rec["taken"], rec["amps"], rec["watts"] = t_s, taken, amps, watts
        if rec["runs"] != NONE:
            _decide(rec, i, time, fresh, limits, pool, out)
    return n

"""Steps of an EVSE's own current while the rest of its site is quiet, for `source_impedance`.

Readings come grouped by EVSE. What concerns several of them (the currents of the others) is told here as
events and judged in order of effect, so that the cut into batches does not matter.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16, I32, I64
from models.detecting import Timeline
from models.units import NO_TIME

from ._kernels import phase_view, pick_phases
from ._pool import NONE, Chains, drop, take
from ._voltage import Inventory

#: Events of a site that are remembered.
RING: Final = 48

#: Fields of a record that the first pass keeps of an EVSE whose grid current is measured.
STEP_FIELDS: Final[list[Any]] = [
    ("ref_ns", "i8"),  # reading before the step
    ("order", "i8"),  # of the EVSE's newest message
    ("before_n", "u4"),  # so much less is the order of the one before
    ("ref_n", "u4"),  # and of the one before that with the reading before the step
    ("ref_v", "f4", (3,)),
    ("ref_a", "f4", (3,)),
    ("told_a", "f4"),  # sum of the phases as the site knows it
    ("moving", "i4"),  # its `MOVING_FIELDS` record
    ("bases", "i4"),  # its baselines
]

#: A current that is on its way from the one before the step, or a step that waits for the others' word of it.
MOVING_FIELDS: Final[list[Any]] = [
    ("step_ns", "i8"),  # NO_TIME: none waits
    ("step_from", "i8"),
    ("last_a", "f4", (3,)),
    ("step_v", "f4", (3,)),
    ("step_a", "f4", (3,)),
    ("step_s", "f4"),
]

#: A site remembers events from its `first` record to its `last`; older ones that nobody can ask for are gone.
SITE_FIELDS: Final[list[Any]] = [
    ("gone_order", "i8"),  # of the newest event that is gone
    ("gone_a", "f4"),  # sum of those gone, while there were fewer than `RING` ever
    ("first", "i4"),
    ("last", "i4"),
    ("kept", "u1"),
    ("ever", "u1"),  # at most `RING`
]
SITE_BLANK: Final[dict[str, Any]] = {"gone_order": -1, "first": NONE, "last": NONE}
EVENT_FIELDS: Final[list[Any]] = [("order", "i8"), ("evse", "i4"), ("change_a", "f4")]

_MOST: Final = 0xFFFF_FFFF

#: Kinds of `Notes`.
CHANGED, CLOSED = 0, 1


class Steps(NamedTuple):
    """What is a step; times in ns."""

    least_a: float
    still_a: float
    settle: int
    longest: int
    unpowered: float


class Notes(NamedTuple):
    """What the first pass tells the second, shape (capacity,) each; ``used`` has shape (1,)."""

    used: I64
    order: I64
    kind: I32
    evse: I32
    effect_ns: I64
    from_order: I64
    time_ns: I64
    change_a: F64  # of the sum of the phases
    step_s: F64
    step_v: F64  # shape (capacity, 3)
    step_a: F64  # shape (capacity, 3)


def notes(capacity: int) -> Notes:
    """Return room for `capacity` notes."""
    i64, i32 = np.int64, np.int32
    return Notes(
        np.zeros(1, i64), np.zeros(capacity, i64), np.zeros(capacity, i32), np.zeros(capacity, i32),
        np.zeros(capacity, i64), np.zeros(capacity, i64), np.zeros(capacity, i64), np.zeros(capacity),
        np.zeros(capacity), np.zeros((capacity, 3)), np.zeros((capacity, 3)),
    )  # fmt: skip


@kernel
def _note(out: Notes, kind: int, i: int, time: Timeline) -> int:
    j = out.used[0]
    out.used[0] = j + 1
    out.order[j] = time.order[i]
    out.kind[j] = kind
    out.evse[j] = time.evse[i]
    out.effect_ns[j] = time.effect_ns[i]
    return int(j)


@kernel
def _close(rec: Any, i: int, time: Timeline, moving: Chains, out: Notes) -> None:
    """Tell of the step that waited: all of the site had its say by now."""
    step = moving.rows[rec["moving"]]
    j = _note(out, CLOSED, i, time)
    out.from_order[j] = step["step_from"]
    out.time_ns[j] = step["step_ns"]
    out.step_s[j] = step["step_s"]
    for p in range(3):
        out.step_v[j, p] = step["step_v"][p]
        out.step_a[j, p] = step["step_a"][p]
    step["step_ns"] = NO_TIME


@kernel
def _message(rec: Any, i: int, time: Timeline, moving: Chains, out: Notes) -> None:
    """Begin a new message of the EVSE with reading i."""
    if rec["moving"] != NONE and moving.rows[rec["moving"]]["step_ns"] != NO_TIME:
        _close(rec, i, time, moving, out)
    order = time.order[i]
    further = order - rec["order"]
    rec["ref_n"] = min(int(rec["ref_n"]) + further, _MOST)
    rec["before_n"] = min(further, _MOST)
    rec["order"] = order


@kernel
def _refer(rec: Any, t: int, v: Any, a: Any) -> None:
    """Make this reading the one before the next step."""
    rec["ref_ns"] = t
    rec["ref_n"] = rec["before_n"]
    for p in range(3):
        rec["ref_v"][p] = v[p]
        rec["ref_a"][p] = a[p]


@kernel
def _move(rec: Any, moving: Chains) -> int:
    """Return the record of a current on its way, a new one if there is none."""
    if rec["moving"] == NONE:
        rec["moving"] = take(moving, NONE)
        step = moving.rows[rec["moving"]]
        step["step_ns"] = NO_TIME
        step["step_from"] = 0
        step["step_s"] = 0.0
        for p in range(3):
            step["step_v"][p] = step["step_a"][p] = 0.0
            step["last_a"][p] = rec["ref_a"][p]
    return int(rec["moving"])


@kernel
def _still(rec: Any, a: Any, still_a: float) -> bool:
    """Return whether no phase is further than `still_a` from the reading before the step."""
    for p in range(3):
        if abs(a[p] - rec["ref_a"][p]) >= still_a:  # false for NaN
            return False
    return True


@kernel
def _step(rec: Any, t: int, v: Any, a: Any, steps: Steps, moving: Chains) -> None:
    """Find steps: v and a are the phases of a reading that is not still, NaN where there is none."""
    moved, ramp = 0.0, 0.0
    step = moving.rows[_move(rec, moving)]
    for p in range(3):
        if a[p] == a[p]:
            moved = max(moved, abs(a[p] - rec["ref_a"][p]))
            ramp = max(ramp, abs(a[p] - step["last_a"][p]))
    gap = t - rec["ref_ns"]
    if moved < steps.least_a or (ramp >= steps.still_a and gap < steps.settle):
        return
    greater = True
    if step["step_ns"] != NO_TIME:
        before = 0.0
        for p in range(3):
            before = max(before, abs(step["step_a"][p]) if step["step_a"][p] == step["step_a"][p] else 0.0)
        greater = moved > before
    if greater:
        step["step_ns"] = t
        step["step_from"] = rec["order"] - int(rec["ref_n"])
        step["step_s"] = gap / 1e9
        for p in range(3):
            step["step_v"][p] = v[p] - rec["ref_v"][p]
            step["step_a"][p] = a[p] - rec["ref_a"][p]
    _refer(rec, t, v, a)


@kernel
def _rest(rec: Any, a: Any, moving: Chains) -> None:
    """Keep the current of the last reading while it is another than the one before the next step."""
    slot = rec["moving"]
    step = moving.rows[slot]
    same = step["step_ns"] == NO_TIME
    for p in range(3):
        step["last_a"][p] = a[p]
        ref = rec["ref_a"][p]
        same = same and (step["last_a"][p] == ref or (a[p] != a[p] and ref != ref))
    if same:
        rec["moving"] = drop(moving, slot, slot)


@kernel
def _evse(index: Any, e: int, evses: Chains) -> int:
    """Return the record of an EVSE, a new one if it has none."""
    if index[e]["at"] == NONE:
        index[e]["at"] = take(evses, NONE)
        rec = evses.rows[index[e]["at"]]
        rec["ref_ns"] = NO_TIME
        rec["order"] = -1
        rec["before_n"] = rec["ref_n"] = 0
        rec["told_a"] = np.nan
        rec["moving"] = rec["bases"] = NONE
        for p in range(3):
            rec["ref_v"][p] = rec["ref_a"][p] = 0.0
    return int(index[e]["at"])


@njit(cache=True, nogil=True, fastmath=False)
def step_kernel(
    time: Timeline,
    values: F64,
    volts: I16,
    amps: I16,
    inv: Inventory,
    index: Any,
    evses: Chains,
    moving: Chains,
    steps: Steps,
    start: int,
    out: Notes,
) -> int:
    """Note changes of the EVSEs' currents, and their steps once their next message came in.

    Returns the first reading not processed for want of a free record, or n. `out` needs room for two notes a
    reading.
    """
    n, i = len(time.evse), start
    chosen = np.empty(4, np.int16)
    v, a = np.empty(3), np.empty(3)
    while i < n:
        e = time.evse[i]
        phases = inv.phases[e]
        pick_phases(inv.dc[e], phases, volts, chosen)
        judged = inv.dc[e] == 0
        least = steps.unpowered * inv.u_n_v[e]
        single = amps[3] if phases == 1 else -1
        while i < n and time.evse[i] == e:
            if evses.free[1] < 1 or moving.free[1] < 1:
                return i
            total = np.nan
            for p in range(3):
                v[p] = phase_view(values, chosen, p)[i] if chosen[p] >= 0 else np.nan
                a[p] = values[amps[p], i] if amps[p] >= 0 else np.nan
            if chosen[3] >= 0 and v[0] != v[0]:
                v[0] = phase_view(values, chosen, 3)[i]
            if single >= 0 and a[0] != a[0]:
                a[0] = values[single, i]
            for p in range(3):
                if a[p] == a[p]:
                    total = a[p] if total != total else total + a[p]
                if not v[p] >= least:
                    v[p] = np.nan
            if judged and total == total:
                at = index[e]["at"]
                rec = evses.rows[at if at != NONE else _evse(index, e, evses)]
                t = time.time_ns[i]
                if time.order[i] != rec["order"]:
                    _message(rec, i, time, moving, out)
                if rec["told_a"] != rec["told_a"]:
                    rec["told_a"] = total
                elif abs(total - rec["told_a"]) >= steps.still_a:
                    j = _note(out, CHANGED, i, time)
                    out.change_a[j] = total - rec["told_a"]
                    rec["told_a"] = total
                known = rec["ref_ns"] != NO_TIME and t - rec["ref_ns"] <= steps.longest
                if time.live[i] == 0 or not known or _still(rec, a, steps.still_a):
                    _refer(rec, t if time.live[i] != 0 else NO_TIME, v, a)
                else:
                    _step(rec, t, v, a, steps, moving)
                if rec["moving"] != NONE:
                    _rest(rec, a, moving)
            i += 1
    return n


@kernel
def remember(site: Any, order: int, evse: int, change_a: float, events: Chains) -> None:
    """Remember that the current of an EVSE of the site changed."""
    if site["kept"] == RING:
        site["first"] = drop(events, site["first"], site["first"])
        site["kept"] -= 1
    slot = take(events, NONE)
    event = events.rows[slot]
    event["order"] = order
    event["evse"] = evse
    event["change_a"] = abs(change_a)
    if site["first"] == NONE:
        site["first"] = slot
    else:
        events.rows[site["last"]]["next"] = slot
    site["last"] = slot
    site["kept"] += 1
    site["ever"] = min(site["ever"] + 1, RING)


@kernel
def forget(sites: Any, needed: I64, events: Chains) -> None:
    """Let events go whose order is at most ``needed[site]``: no EVSE heard of so far can ask for them."""
    for s in range(len(needed)):
        site = sites[s]
        while site["first"] != NONE and events.rows[site["first"]]["order"] <= needed[s]:
            event = events.rows[site["first"]]
            site["gone_order"] = event["order"]
            site["gone_a"] += event["change_a"]
            site["first"] = drop(events, site["first"], site["first"])
            site["kept"] -= 1
        if site["ever"] == RING:
            site["gone_a"] = 0.0
        if site["first"] == NONE:
            site["last"] = NONE


@kernel
def others_a(site: Any, evse: int, from_order: int, events: Chains) -> float:
    """Return by how much the others' currents changed after `from_order`, A; infinite if not remembered.

    Only an EVSE that was never heard of before can ask for what is gone.
    """
    total, slot = 0.0, site["first"]
    if from_order < site["gone_order"]:
        if site["ever"] == RING:
            return np.inf
        total = float(site["gone_a"])
    elif site["kept"] == RING and events.rows[slot]["order"] > from_order:
        return np.inf
    while slot != NONE:
        event = events.rows[slot]
        if event["order"] > from_order and event["evse"] != evse:
            total += event["change_a"]
        slot = event["next"]
    return float(total)

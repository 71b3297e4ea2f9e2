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
from ._voltage import Inventory

#: Events of a site that are remembered.
RING: Final = 48

#: Fields of a record that the first pass keeps.
STEP_FIELDS: Final[list[Any]] = [
    ("ref_ns", "i8"),  # reading before the step
    ("ref_from", "i8"),  # order of the EVSE's message before the one with that reading
    ("order", "i8"),  # of its newest message
    ("before", "i8"),  # of the one before
    ("step_ns", "i8"),  # step that waits for the others' word of it
    ("step_from", "i8"),
    ("step_order", "i8"),
    ("ref_v", "f4", (3,)),
    ("ref_a", "f4", (3,)),
    ("last_a", "f4", (3,)),
    ("step_v", "f4", (3,)),
    ("step_a", "f4", (3,)),
    ("step_s", "f4"),
    ("told_a", "f4"),  # sum of the phases as the site knows it
]
STEP_BLANK: Final[dict[str, Any]] = {
    "ref_ns": NO_TIME,
    "ref_from": -1,
    "order": -1,
    "before": -1,
    "step_ns": NO_TIME,
    "told_a": np.nan,
}

SITE_FIELDS: Final[list[Any]] = [
    ("order", "i8", (RING,)),
    ("evse", "i4", (RING,)),
    ("change_a", "f4", (RING,)),
    ("n", "i8"),  # events ever
]

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
def _close(rec: Any, i: int, time: Timeline, out: Notes) -> None:
    """Tell of the step that waited: all of the site had its say by now."""
    j = _note(out, CLOSED, i, time)
    out.from_order[j] = rec["step_from"]
    out.time_ns[j] = rec["step_ns"]
    out.step_s[j] = rec["step_s"]
    for p in range(3):
        out.step_v[j, p] = rec["step_v"][p]
        out.step_a[j, p] = rec["step_a"][p]
    rec["step_ns"] = NO_TIME


@kernel
def _refer(rec: Any, t: int, v: Any, a: Any) -> None:
    """Make this reading the one before the next step."""
    rec["ref_ns"] = t
    rec["ref_from"] = rec["before"]
    for p in range(3):
        rec["ref_v"][p] = v[p]
        rec["ref_a"][p] = a[p]


@kernel
def _step(rec: Any, t: int, v: Any, a: Any, steps: Steps) -> None:
    """Find steps: v and a are the phases of this reading, NaN where there is none."""
    moved, ramp = 0.0, 0.0
    for p in range(3):
        if a[p] == a[p]:
            moved = max(moved, abs(a[p] - rec["ref_a"][p]))
            ramp = max(ramp, abs(a[p] - rec["last_a"][p]))
    gap = t - rec["ref_ns"]
    if moved < steps.still_a or gap > steps.longest:
        _refer(rec, t, v, a)
        return
    if moved < steps.least_a or (ramp >= steps.still_a and gap < steps.settle):
        return
    greater = True
    if rec["step_ns"] != NO_TIME:
        before = 0.0
        for p in range(3):
            before = max(before, abs(rec["step_a"][p]) if rec["step_a"][p] == rec["step_a"][p] else 0.0)
        greater = moved > before
    if greater:
        rec["step_ns"] = t
        rec["step_from"] = rec["ref_from"]
        rec["step_order"] = rec["order"]
        rec["step_s"] = gap / 1e9
        for p in range(3):
            rec["step_v"][p] = v[p] - rec["ref_v"][p]
            rec["step_a"][p] = a[p] - rec["ref_a"][p]
    _refer(rec, t, v, a)


@njit(cache=True, nogil=True, fastmath=False)
def step_kernel(
    time: Timeline,
    values: F64,
    volts: I16,
    amps: I16,
    inv: Inventory,
    state: Any,
    steps: Steps,
    out: Notes,
) -> None:
    """Note changes of the EVSEs' currents, and their steps once their next message came in.

    `out` needs room for two notes a reading.
    """
    n = len(time.evse)
    chosen = np.empty(4, np.int16)
    v, a = np.empty(3), np.empty(3)
    i = 0
    while i < n:
        e = time.evse[i]
        rec = state[e]
        phases = inv.phases[e]
        pick_phases(inv.dc[e], phases, volts, chosen)
        judged = inv.dc[e] == 0
        least = steps.unpowered * inv.u_n_v[e]
        single = amps[3] if phases == 1 else -1
        while i < n and time.evse[i] == e:
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
                t = time.time_ns[i]
                if time.order[i] != rec["order"]:
                    if rec["step_ns"] != NO_TIME and rec["step_order"] < time.order[i]:
                        _close(rec, i, time, out)
                    rec["before"] = rec["order"]
                    rec["order"] = time.order[i]
                if rec["told_a"] != rec["told_a"]:
                    rec["told_a"] = total
                elif abs(total - rec["told_a"]) >= steps.still_a:
                    j = _note(out, CHANGED, i, time)
                    out.change_a[j] = total - rec["told_a"]
                    rec["told_a"] = total
                if time.live[i] == 0:
                    rec["ref_ns"] = NO_TIME
                elif rec["ref_ns"] == NO_TIME:
                    _refer(rec, t, v, a)
                else:
                    _step(rec, t, v, a, steps)
                for p in range(3):
                    rec["last_a"][p] = a[p]
            i += 1


@kernel
def remember(site: Any, order: int, evse: int, change_a: float) -> None:
    """Remember that the current of an EVSE of the site changed."""
    k = site["n"] % RING
    site["order"][k] = order
    site["evse"][k] = evse
    site["change_a"][k] = abs(change_a)
    site["n"] += 1


@kernel
def others_a(site: Any, evse: int, from_order: int) -> float:
    """Return by how much the others' currents changed after `from_order`, A; infinite if not remembered."""
    n = min(site["n"], RING)
    if n == RING and site["order"][site["n"] % RING] > from_order:
        return np.inf
    total = 0.0
    for k in range(n):
        if site["order"][k] > from_order and site["evse"][k] != evse:
            total += site["change_a"][k]
    return float(total)

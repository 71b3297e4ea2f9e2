"""The thermal model behind `contact_resistance`: heat of the current, ambient, and how sure both are.

A plug warms as ``tau dT/dt = T_a + k u - T``, u the square of the current over the square of the rated one,
so k is the rise in kelvin at rated current. The square of the current goes through the same lag first, which
leaves ``T = T_a + k u`` at every moment. Recursive least squares then estimate T_a and k; forgetting is a
random walk of both (Kalman's form of it), so that what the current does not excite is not forgotten without
bound: T_a may wander by `ambient_walk_k` in an hour, and k by `rise_walk_k` in an hour at rated current (a
contact does not change while nothing flows).
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, U8
from models.detecting import EmissionArrays, Timeline
from models.units import NO_TIME

from ._connector import Currents, flowing
from ._kernels import ROOM
from ._pool import Known, lacks, record_of

#: Columns of the evidence of a published estimate.
PUBLISHED: Final = ("k", "sigma", "baseline", "load_s", "temperature_c", "ambient_c")

#: Of a plug whose temperature and current are known. Sums of the baseline need double precision: in single
#: precision it would stand still after weeks.
FIELDS: Final[list[tuple[str, str]]] = [
    ("update_ns", "i8"),  # last step of the estimate, NO_TIME: none
    ("baseline", "f8"),
    ("last_us", "u4"),  # last reading with a current: so long after that step, microseconds
    ("said_ms", "u4"),  # last publication, milliseconds of the epoch without the high bits, 0: long ago
    ("amps", "f4"),  # current of the last reading
    ("charge", "f4"),  # integral of u since the last step, ns
    ("u", "f4"),  # lagged square of the current, of the rated one
    ("ambient", "f4"),
    ("k", "f4"),
    ("p_aa", "f4"),  # covariance
    ("p_ak", "f4"),
    ("p_kk", "f4"),
    ("load_s", "f4"),  # time under load behind the baseline
    ("rated", "f4"),
    ("said_k", "f4"),  # k as last published, inf: without a baseline, NaN: never
]

BLANK: Final[dict[str, Any]] = {
    "update_ns": NO_TIME,
    "ambient": math.nan,
    "k": math.nan,
    "said_k": math.nan,
}


class Thermal(NamedTuple):
    """Constants of the model; times in ns unless said."""

    tau_ns: float
    step_ns: int  # least time between two steps of the estimate
    gap_ns: int  # beyond, the estimate starts again from what it knows of k
    said_ns: int  # least time between two publications
    noise_var: float  # K²
    ambient_var: float  # K² an hour
    k_var: float  # K² an hour, at rated current
    prior_k: float
    prior_var: float
    clip: float  # in standard deviations
    load_u: float  # least u at which the plug is under load
    learn_ratio: float  # no learning of the baseline above it
    learn_error: float  # nor while the standard error is above this share of k
    span_s: float  # time under load that the baseline averages over
    failed_high: float
    failed_low: float


@kernel
def _restart(rec: Any, celsius: float, c: Thermal) -> None:
    """Begin anew after a gap: ambient is what the plug shows, k what it was, both unsure."""
    rec["ambient"] = celsius
    rec["p_aa"] = 25.0
    rec["p_ak"] = 0.0
    if rec["k"] != rec["k"]:
        rec["k"] = c.prior_k
        rec["p_kk"] = c.prior_var


@kernel
def _step(rec: Any, celsius: float, dt_ns: float, c: Thermal) -> None:
    """Take in one temperature: predict, clip, correct."""
    hours = dt_ns / 3.6e12
    p_aa = rec["p_aa"] + c.ambient_var * hours
    p_ak = rec["p_ak"]
    u = rec["u"]
    p_kk = min(rec["p_kk"] + c.k_var * hours * min(u, 1.0), c.prior_var)
    found = celsius - rec["ambient"] - rec["k"] * u
    var = p_aa + 2.0 * u * p_ak + u * u * p_kk + c.noise_var
    bound = c.clip * math.sqrt(var)
    found = min(max(found, -bound), bound)
    gain_a = (p_aa + u * p_ak) / var
    gain_k = (p_ak + u * p_kk) / var
    rec["ambient"] += gain_a * found
    rec["k"] = max(rec["k"] + gain_k * found, 0.0)
    rec["p_aa"] = p_aa - gain_a * (p_aa + u * p_ak)
    rec["p_kk"] = p_kk - gain_k * (p_ak + u * p_kk)
    rec["p_ak"] = p_ak - gain_a * (p_ak + u * p_kk)


@kernel
def _learn(rec: Any, dt_s: float, warm_up_s: float, c: Thermal) -> None:
    """Average k under load into the baseline, not while it is unsure or already off."""
    load_s = float(rec["load_s"])
    if rec["p_kk"] > (c.learn_error * rec["k"]) ** 2:
        return
    if load_s >= warm_up_s and rec["k"] > c.learn_ratio * rec["baseline"]:
        return
    load_s += dt_s
    # no longer than it matters, while single precision still tells seconds
    rec["load_s"] = min(load_s, max(c.span_s, warm_up_s))
    rec["baseline"] += (rec["k"] - rec["baseline"]) * dt_s / min(load_s, c.span_s)


@kernel
def _due(rec: Any, t: int, under_load: bool, c: Thermal) -> bool:
    """Return whether an estimate is to be published, and note that."""
    t_ms = t // 1_000_000 & 0xFFFF_FFFF
    if rec["said_ms"] != 0:
        if (t_ms - int(rec["said_ms"])) & 0xFFFF_FFFF < c.said_ns // 1_000_000:
            return False
        rec["said_ms"] = 0
    if under_load:
        rec["said_ms"] = max(t_ms, 1)
    return under_load


@kernel
def _advance(rec: Any, t: int, amps: float, celsius: float, warm_up_s: float, c: Thermal) -> bool:
    """Take in one reading; return whether an estimate is to be published."""
    update = rec["update_ns"]
    last = update + rec["last_us"] * 1000
    if update == NO_TIME or t - last > c.gap_ns:
        _due(rec, t, False, c)
        rec["update_ns"] = t
        rec["last_us"] = 0
        rec["amps"] = amps
        rec["charge"] = 0.0
        rec["u"] = 0.0 if update != NO_TIME else (amps / rec["rated"]) ** 2
        _restart(rec, celsius, c)
        return False
    rec["charge"] += (rec["amps"] / rec["rated"]) ** 2 * (t - last)
    rec["amps"] = amps
    dt = t - update
    if dt < c.step_ns:
        rec["last_us"] = dt // 1000
        return False
    rec["u"] += (rec["charge"] / dt - rec["u"]) * (1.0 - math.exp(-dt / c.tau_ns))
    rec["charge"] = 0.0
    rec["update_ns"] = t
    rec["last_us"] = 0
    _step(rec, celsius, float(dt), c)
    under_load = rec["u"] >= c.load_u
    if under_load:
        _learn(rec, dt / 1e9, warm_up_s, c)
    return bool(_due(rec, t, under_load, c))


@kernel
def thermal_kernel(
    start: int,
    time: Timeline,
    currents: Currents,
    cable_c: F64,
    outlet_c: F64,
    dc: U8,
    max_a: F64,
    rated_ac: float,
    rated_dc: float,
    warm_up_s: float,
    state: Known,
    c: Thermal,
    out: EmissionArrays,
) -> int:
    """Follow the plugs; write a published estimate where one is due (see `PUBLISHED`)."""
    n, room = len(time.evse), len(out.order) - ROOM
    low, high = c.failed_low, c.failed_high
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e = time.evse[i]
        celsius = -1e9
        if low < cable_c[i] < high:  # false for NaN
            celsius = cable_c[i]
        if low < outlet_c[i] < high and outlet_c[i] > celsius:
            celsius = outlet_c[i]
        amps = flowing(currents, i, dc[e])
        if celsius < -1e8 or amps != amps:
            continue
        if lacks(state, e):
            return i
        rec = state.rows[record_of(state, e)]
        rated = np.float32(max_a[e] if max_a[e] > 0.0 else (rated_dc if dc[e] != 0 else rated_ac))
        if rated != rec["rated"]:  # another plug by inventory: nothing of the old one holds
            rec["rated"] = rated
            rec["update_ns"] = NO_TIME
            rec["k"] = math.nan
            rec["load_s"] = 0.0
            rec["baseline"] = 0.0
        if _advance(rec, time.time_ns[i], amps, celsius, warm_up_s, c):
            j = out.used[0]
            out.used[0] = j + 1
            out.order[j] = time.order[i]
            out.effect_ns[j] = time.effect_ns[i]
            out.subject[j] = e
            out.live[j] = time.live[i]
            out.time_ns[j] = time.time_ns[i]
            out.evidence[j, 0] = rec["k"]
            out.evidence[j, 1] = math.sqrt(max(rec["p_kk"], 0.0))
            out.evidence[j, 2] = rec["baseline"] if rec["load_s"] >= warm_up_s else math.nan
            out.evidence[j, 3] = rec["load_s"]
            out.evidence[j, 4] = celsius
            out.evidence[j, 5] = rec["ambient"]
    return n

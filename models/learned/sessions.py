"""What a finished session looks like: a row of features per session, gathered in constant memory per EVSE.

A session begins with the first reading inside a transaction. It ends with the first reading outside one, with
the transaction's Ended message, or before a reading that comes `GAP_S` after the one before it. What was not
measured is NaN.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I32, I64, IN_TRANSACTION, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Timeline
from models.units import NO_REGISTER, NO_TIME

#: Names of the features, unit last. `power_centroid` is when half way through its energy a session is, as a
#: share of its time: 0.5 is flat, less is a taper. `power_swing` is how far power moved up and down in all,
#: in peaks. `heating_c_per_ka2` is the rise of the plug's temperature by the mean square of its current.
FEATURES: Final = (
    "energy_kwh",
    "duration_h",
    "peak_power_kw",
    "mean_power_share",
    "last_power_share",
    "power_centroid",
    "power_swing",
    "active_share",
    "temperature_rise_c",
    "heating_c_per_ka2",
    "power_factor",
    "voltage_response_ohm",
    "soc_per_kwh",
)
N_FEATURES: Final = len(FEATURES)

_LOGARITHMIC: Final = {"energy_kwh", "duration_h", "peak_power_kw", "power_swing", "heating_c_per_ka2"}

#: Version of the features' meaning: a model is trained for one.
FEATURES_VERSION: Final = 1

CHANNELS: Final = tuple(
    CHANNEL_ID[name]
    for name in (
        "Power.Active.Import",
        "Power.Active.Import@L1",
        "Power.Active.Import@L2",
        "Power.Active.Import@L3",
        "Current.Import@L1",
        "Current.Import@L2",
        "Current.Import@L3",
        "Current.Import",
        "Voltage@L1-N",
        "Voltage",
        "Temperature/Cable",
        "Power.Factor",
        "SoC",
    )
)

GAP_S: Final = 14_400.0  # four hours: longer than the slowest readings, shorter than a night between sessions
_GAP_NS: Final = round(GAP_S * 1e9)
_ACTIVE_W: Final = 100.0  # more than a car asleep draws
_LEAST_READINGS: Final = 3
_LEAST_NS: Final = 120_000_000_000
_LEAST_SPREAD_A2: Final = 1.0  # variance of current below which voltage shows no response

SESSION_FIELDS: Final[list[Any]] = [
    ("start_ns", "i8"),  # NO_TIME: no session
    ("last_ns", "i8"),
    ("reg_first", "i8"),
    ("reg_last", "i8"),
    ("power_ns", "i8"),  # first reading with power, and the last one
    ("power_last_ns", "i8"),
    ("power", "f8"),
    ("peak", "f8"),
    ("energy_ws", "f8"),
    ("moment", "f8"),  # of energy about the first reading with power, W s2
    ("active_s", "f8"),
    ("moved", "f8"),
    ("square", "f8"),  # sum of squares of current
    ("cold", "f8"),
    ("hot", "f8"),
    ("factor", "f8"),  # sum of power factors
    ("soc_first", "f8"),
    ("soc_last", "f8"),
    ("mean_a", "f8"),
    ("mean_v", "f8"),
    ("spread", "f8"),  # sums of squares and products about the means
    ("product", "f8"),
    ("n", "i4"),
    ("n_square", "i4"),
    ("n_factor", "i4"),
    ("n_pair", "i4"),
    ("live", "u1"),
]
SESSION_BLANK: Final[dict[str, Any]] = {"start_ns": NO_TIME}


class Ends(NamedTuple):
    """Ended messages by EVSE, then order."""

    evse: I32
    order: I64
    effect_ns: I64
    live: U8


class Finished(NamedTuple):
    """Sessions that were finished: room for as many as readings and Ended messages together."""

    used: I64  # (1,)
    evse: I32
    order: I64
    effect_ns: I64
    live: U8
    start_ns: I64
    end_ns: I64
    features: F64  # (capacity, N_FEATURES)


def room_for(n: int) -> Finished:
    """Return arrays for n sessions."""
    i64 = np.zeros(n, np.int64)
    return Finished(
        np.zeros(1, np.int64),
        np.zeros(n, np.int32),
        i64,
        i64.copy(),
        np.zeros(n, np.uint8),
        i64.copy(),
        i64.copy(),
        np.full((n, N_FEATURES), np.nan),
    )


def chosen(sessions: Finished, index: Any) -> Finished:
    """Return the sessions `index` (a slice, integers or a mask), in that order."""
    _, evse, order, effect_ns, live, start_ns, end_ns, features = sessions
    out = room_for(0)
    out.used[0] = len(evse[index])
    return out._replace(
        evse=evse[index],
        order=order[index],
        effect_ns=effect_ns[index],
        live=live[index],
        start_ns=start_ns[index],
        end_ns=end_ns[index],
        features=features[index],
    )


@kernel
def _begin(rec: Any, t: int) -> None:
    rec["start_ns"] = t
    rec["reg_first"] = rec["reg_last"] = NO_REGISTER
    rec["power_ns"] = rec["power_last_ns"] = NO_TIME
    rec["power"] = rec["peak"] = rec["energy_ws"] = rec["moment"] = rec["active_s"] = rec["moved"] = 0.0
    rec["square"] = rec["factor"] = 0.0
    rec["cold"] = rec["hot"] = rec["soc_first"] = rec["soc_last"] = np.nan
    rec["mean_a"] = rec["mean_v"] = rec["spread"] = rec["product"] = 0.0
    rec["n"] = rec["n_square"] = rec["n_factor"] = rec["n_pair"] = 0


@kernel
def _power(rec: Any, t: int, watts: float) -> None:
    """Take in a power, W: it is taken as a straight line between readings."""
    if rec["power_ns"] == NO_TIME:
        rec["power_ns"], rec["peak"] = t, watts
    else:
        dt = (t - rec["power_last_ns"]) * 1e-9
        mean = 0.5 * (watts + rec["power"])
        middle = (rec["power_last_ns"] - rec["power_ns"]) * 1e-9 + 0.5 * dt
        rec["energy_ws"] += mean * dt
        rec["moment"] += mean * dt * middle
        if mean > _ACTIVE_W:
            rec["active_s"] += dt
        rec["moved"] += abs(watts - rec["power"])
        rec["peak"] = max(rec["peak"], watts)
    rec["power"], rec["power_last_ns"] = watts, t


@kernel
def _electric(rec: Any, v: F64, i: int) -> None:
    """Take in currents and voltages of reading i, A and V."""
    amps = v[7, i]
    for k in range(4, 7):
        if v[k, i] == v[k, i] and not v[k, i] <= amps:
            amps = v[k, i]
    if amps == amps:
        rec["square"] += amps * amps
        rec["n_square"] += 1
    a = v[4, i] if v[4, i] == v[4, i] else v[7, i]
    u = v[8, i] if v[8, i] == v[8, i] else v[9, i]
    if a == a and u == u:
        rec["n_pair"] += 1
        da, du = a - rec["mean_a"], u - rec["mean_v"]
        rec["mean_a"] += da / rec["n_pair"]
        rec["mean_v"] += du / rec["n_pair"]
        rec["spread"] += da * (a - rec["mean_a"])
        rec["product"] += da * (u - rec["mean_v"])


@kernel
def _take(rec: Any, t: int, v: F64, i: int, reg: int) -> None:
    """Take in reading i; `v` has a row for each of `CHANNELS`."""
    rec["n"] += 1
    if reg != NO_REGISTER:
        if rec["reg_first"] == NO_REGISTER:
            rec["reg_first"] = reg
        rec["reg_last"] = reg
    watts = v[0, i]
    if watts != watts:
        watts = v[1, i] + v[2, i] + v[3, i]
    if abs(watts) < np.inf:
        _power(rec, t, watts)
    _electric(rec, v, i)
    if v[10, i] == v[10, i]:
        if rec["cold"] != rec["cold"]:
            rec["cold"] = rec["hot"] = v[10, i]
        rec["hot"] = max(rec["hot"], v[10, i])
    if v[11, i] == v[11, i]:
        rec["factor"] += v[11, i]
        rec["n_factor"] += 1
    if v[12, i] == v[12, i]:
        if rec["soc_first"] != rec["soc_first"]:
            rec["soc_first"] = v[12, i]
        rec["soc_last"] = v[12, i]


@kernel
def _shape(rec: Any, x: Any) -> None:
    """Write what the course of power says into x, from feature 2 on."""
    if rec["power_ns"] == NO_TIME:
        return
    x[2] = rec["peak"] / 1e3
    span = (rec["power_last_ns"] - rec["power_ns"]) * 1e-9
    if not (rec["peak"] > _ACTIVE_W and span > 0.0):
        return
    x[3] = rec["energy_ws"] / (rec["peak"] * span)
    x[4] = rec["power"] / rec["peak"]
    if rec["energy_ws"] > 0.0:
        x[5] = rec["moment"] / (rec["energy_ws"] * span)
    x[6] = rec["moved"] / rec["peak"]
    x[7] = rec["active_s"] / span


@kernel
def _describe(rec: Any, x: Any) -> None:
    """Write the features of a session into x."""
    for k in range(N_FEATURES):
        x[k] = np.nan
    if rec["reg_first"] != NO_REGISTER and rec["reg_last"] >= rec["reg_first"]:
        x[0] = (rec["reg_last"] - rec["reg_first"]) / 1e6
    elif rec["power_ns"] != NO_TIME and rec["reg_first"] == NO_REGISTER:
        x[0] = rec["energy_ws"] / 3.6e6
    x[1] = (rec["last_ns"] - rec["start_ns"]) / 3.6e12
    _shape(rec, x)
    x[8] = rec["hot"] - rec["cold"]
    if rec["n_square"] > 0 and rec["square"] / rec["n_square"] > _LEAST_SPREAD_A2:
        x[9] = x[8] / (rec["square"] / rec["n_square"]) * 1e6
    if rec["n_factor"] > 0:
        x[10] = rec["factor"] / rec["n_factor"]
    if rec["n_pair"] > 2 and rec["spread"] / rec["n_pair"] > _LEAST_SPREAD_A2:
        x[11] = -rec["product"] / rec["spread"]
    gained = rec["soc_last"] - rec["soc_first"]
    if gained > 0.0 and x[0] > 0.1:
        x[12] = gained / x[0]


@kernel
def _finish(rec: Any, e: int, order: int, effect_ns: int, live: int, out: Finished) -> None:
    """End the session of EVSE e; one too short to say anything is forgotten."""
    start, end = rec["start_ns"], rec["last_ns"]
    if rec["n"] >= _LEAST_READINGS and end - start >= _LEAST_NS:
        j = out.used[0]
        out.used[0] = j + 1
        out.evse[j], out.order[j], out.effect_ns[j] = e, order, effect_ns
        out.live[j], out.start_ns[j], out.end_ns[j] = live, start, end
        _describe(rec, out.features[j])
    rec["start_ns"] = NO_TIME


@kernel
def _end(k: int, state: Any, ends: Ends, out: Finished) -> None:
    rec = state[ends.evse[k]]
    if rec["start_ns"] != NO_TIME:
        _finish(rec, ends.evse[k], ends.order[k], ends.effect_ns[k], ends.live[k], out)


@kernel
def gather(time: Timeline, reg_mwh: I64, values: F64, ends: Ends, state: Any, out: Finished) -> None:
    """Take in readings and Ended messages of a batch; write the sessions they finish to `out`.

    `values` has a row for each of `CHANNELS`, NaN where missing.
    """
    k, m = 0, len(ends.evse)
    for i in range(len(time.evse)):
        e, t = time.evse[i], time.time_ns[i]
        while k < m and (ends.evse[k] < e or (ends.evse[k] == e and ends.order[k] < time.order[i])):
            _end(k, state, ends, out)
            k += 1
        rec = state[e]
        inside = (time.state[i] & IN_TRANSACTION) != 0
        if rec["start_ns"] == NO_TIME and not inside:
            continue
        known = reg_mwh[i] != NO_REGISTER
        for c in range(len(values)):
            known = known or abs(values[c, i]) < np.inf
        if not known:
            continue
        if rec["start_ns"] != NO_TIME and (not inside or t - rec["last_ns"] > _GAP_NS):
            _finish(rec, e, time.order[i], time.effect_ns[i], time.live[i], out)
        if inside:
            if rec["start_ns"] == NO_TIME:
                _begin(rec, t)
            rec["last_ns"] = t
            _take(rec, t, values, i, reg_mwh[i])
    while k < m:
        _end(k, state, ends, out)
        k += 1


def columns(rows: ReadingBatch) -> F64:
    """Return the values of `CHANNELS`, shape (channels, n), NaN where absent."""
    out = np.full((len(CHANNELS), len(rows)), np.nan)
    for k, channel in enumerate(CHANNELS):
        slot = int(rows.slot_of[channel])
        if slot >= 0:
            out[k] = rows.values[slot]
    return out


def transformed(features: F64) -> F64:
    """Return features as models see them: quantities that span decades on a logarithmic scale."""
    out = features.copy()
    for k, name in enumerate(FEATURES):
        if name in _LOGARITHMIC:
            out[:, k] = np.sign(out[:, k]) * np.log1p(np.abs(out[:, k]))
    return out


def restored(name: str, value: float) -> float:
    """Return what `transformed` made `value` of, for the feature `name`."""
    return float(np.sign(value) * np.expm1(abs(value))) if name in _LOGARITHMIC else value

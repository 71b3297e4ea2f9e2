"""State and kernel of `models.wear`: what readings say of wear."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from ._kernel import kernel
from .batch import CHARGING, F64, I16, I32, I64
from .channels import CHANNEL_ID
from .units import NO_REGISTER

#: 64 bytes. Times are whole seconds since the epoch: the sum of such steps has no rounding error.
WEAR_DTYPE: Final = np.dtype(
    [
        ("register_mwh", "i8"),  # newest register
        ("energy_mwh", "i8"),
        ("last_s", "u4"),  # newest reading; 0 = none yet
        ("register_s", "u4"),  # of that register
        ("first_s", "u4"),  # first heard of, journaled time; 0 = not yet
        ("use_s", "u4"),
        ("warm_s", "u4"),
        ("hot_s", "u4"),
        ("body_hot_s", "u4"),
        ("plug_cycles", "u4"),
        ("closed_said", "u4"),  # times charging began by the station's words
        ("closed_seen", "u4"),  # times current began to flow by readings
        ("closed_counted", "u4"),  # the station's own counter of contactor operations
        ("flags", "u2"),  # low byte: the bits below; high byte: the connector plugged in
        ("unheard_s", "u2"),  # since the last temperature, saturating
    ]
)

# what the last reading said, and holds until the next
FLOWS: Final = 1
WARM: Final = 2
HOT: Final = 4
BODY_HOT: Final = 8
# what records said
PLUGGED: Final = 16
CHARGES: Final = 32
STATUS_HEARD: Final = 64
# something that is told of changed
CHANGED: Final = 128

_HEAT: Final = WARM | HOT | BODY_HOT
_NO_HEAT: Final = 0xFFFF ^ _HEAT
_NO_FLOW: Final = 0xFFFF ^ FLOWS
_U4_MAX: Final = 0xFFFFFFFF
_U2_MAX: Final = 0xFFFF

#: Channels read, by lane.
LANES: Final = tuple(
    CHANNEL_ID[name]
    for name in (
        "Power.Active.Import",
        "Current.Import",
        "Current.Import@L1",
        "Current.Import@L2",
        "Current.Import@L3",
        "Temperature/Cable",
        "Temperature/Outlet",
        "Temperature/Body",
        "x.Contactor.Cycles",
    )
)
_CURRENTS: Final = (1, 5)
_PLUG: Final = (5, 7)
_BODY: Final = 7
_COUNTER: Final = 8


class Rows(NamedTuple):
    """Columns of a `ReadingBatch`, where `LANES` lie in `values` (-1 = absent), and which row is
    taken when."""

    evse: I32
    time_ns: I64
    effect_ns: I64
    state: I16
    register_mwh: I64
    values: F64
    lanes: I16
    picked: I64


class Limits(NamedTuple):
    """Settings of the kernel."""

    gap_s: int
    warm_c: float
    hot_c: float
    body_hot_c: float
    flow_w: float
    flow_a: float
    sensor_low_c: float
    sensor_high_c: float


@kernel
def _greatest_c(rows: Rows, i: int, lanes: tuple[int, int], limits: Limits) -> float:
    """Return the greatest plausible temperature of a reading, NaN when it has none."""
    greatest = np.nan
    for lane in range(lanes[0], lanes[1]):
        slot = rows.lanes[lane]
        if slot >= 0:
            c = rows.values[slot, i]
            plausible = limits.sensor_low_c < c < limits.sensor_high_c
            if plausible and not greatest >= c:
                greatest = c
    return greatest


@kernel
def _flows(rows: Rows, i: int, limits: Limits) -> bool:
    """Return whether current flows; the station's word counts where neither power nor current is there."""
    measured = False
    slot = rows.lanes[0]
    if slot >= 0:
        power = rows.values[slot, i]
        if power > limits.flow_w:
            return True
        measured = power == power
    for lane in range(_CURRENTS[0], _CURRENTS[1]):
        slot = rows.lanes[lane]
        if slot >= 0:
            amps = rows.values[slot, i]
            if amps > limits.flow_a:
                return True
            measured = measured or amps == amps
    return not measured and rows.state[i] & CHARGING != 0


@kernel
def _take_register(rec: Any, mwh: int, t: int, p_max_w: float) -> bool:
    """Add what the register rose by, unless no EVSE of that power could do so; return whether it did."""
    if mwh == NO_REGISTER:
        return False
    known, before, since = rec["register_s"] != 0, rec["register_mwh"], t - rec["register_s"]
    rec["register_mwh"] = mwh
    rec["register_s"] = t
    if not known:
        return True
    risen = mwh - before
    if risen <= 0 or risen > 1_000_000 + 1.5 * p_max_w * since / 3.6:
        return False
    rec["energy_mwh"] += risen
    return True


@kernel
def _take_heat(rec: Any, rows: Rows, i: int, dt: int, limits: Limits) -> None:
    """Note how hot plug and cabinet are; a temperature holds until the next one, at most `gap_s`."""
    plug_c = _greatest_c(rows, i, _PLUG, limits)
    body_c = _greatest_c(rows, i, (_BODY, _BODY + 1), limits)
    flags = int(rec["flags"])
    heard = plug_c == plug_c or body_c == body_c
    rec["unheard_s"] = 0 if heard else min(int(rec["unheard_s"]) + dt, _U2_MAX)
    if rec["unheard_s"] > limits.gap_s:
        flags &= _NO_HEAT
    if plug_c == plug_c:
        flags = flags & (0xFFFF ^ (WARM | HOT))
        flags |= (WARM if plug_c >= limits.warm_c else 0) | (HOT if plug_c >= limits.hot_c else 0)
    if body_c == body_c:
        flags = (flags & (0xFFFF ^ BODY_HOT)) | (BODY_HOT if body_c >= limits.body_hot_c else 0)
    rec["flags"] = flags


@kernel
def wear_kernel(rows: Rows, start: int, stop: int, p_max_w: F64, state: Any, limits: Limits) -> None:
    """Take in the readings ``rows.picked[start:stop]``."""
    counter = rows.lanes[_COUNTER]
    for at in range(start, stop):
        i = rows.picked[at]
        e = rows.evse[i]
        rec = state[e]
        t = rows.time_ns[i] // 1_000_000_000
        dt = t - rec["last_s"] if rec["last_s"] != 0 else 0
        held = 0 < dt <= limits.gap_s
        flags = int(rec["flags"])
        changed = False
        if rec["first_s"] == 0:
            rec["first_s"] = rows.effect_ns[i] // 1_000_000_000
            changed = True
        if held and flags & (FLOWS | _HEAT):
            rec["use_s"] += dt if flags & FLOWS else 0
            rec["warm_s"] += dt if flags & WARM else 0
            rec["hot_s"] += dt if flags & HOT else 0
            rec["body_hot_s"] += dt if flags & BODY_HOT else 0
            changed = True
        rec["last_s"] = t
        if not held and dt > 0:
            flags &= _NO_HEAT
            rec["flags"] = flags
        _take_heat(rec, rows, i, dt if held else 0, limits)
        flags = int(rec["flags"])
        if _flows(rows, i, limits):
            if flags & FLOWS == 0:
                rec["closed_seen"] += 1
                changed = True
            flags |= FLOWS
        else:
            flags &= _NO_FLOW
        if _take_register(rec, rows.register_mwh[i], t, p_max_w[e]):
            changed = True
        if counter >= 0:
            counted = rows.values[counter, i]
            if rec["closed_counted"] < counted <= _U4_MAX:
                rec["closed_counted"] = np.uint32(counted)
                changed = True
        rec["flags"] = flags | (CHANGED if changed else 0)

"""The station throttles a hot plug and does not tell: less than 90 % of the offer for five minutes.

Judged in state Charging with an offer that is at most 15 minutes old, no SuspendedEV and, where it is known,
a state of charge below 80 %. The current must have *fallen*: it had followed the offer in this charge, and is
now below what flowed then; a car that never took its offer, or a higher offer that it cannot use, is no fall.
When it fell the plug was at 60 °C or above, or had been within the ten minutes before.

That the heat is the reason shows in one of two ways: the plug was heating when the current fell (its
temperature above its own mean of the last minutes), or the current came back to the offer after the plug had
cooled. The first raises after five minutes, the second when the current is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models import batch as b
from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import RowDetector, columns, ns, require
from ._connector import CURRENT_CHANNELS, Currents, flowing
from ._kernels import ROOM, emit

SPEC = DetectorSpec(
    "silent_derate",
    "evse",
    "rule",
    (
        *(CHANNEL_ID[name] for name in ("Temperature/Cable", "Temperature/Outlet")),
        *CURRENT_CHANNELS,
        *(CHANNEL_ID[name] for name in ("Current.Offered", "SoC")),
    ),
    ("current_a", "offered_a", "share", "temperature_c", "temperature_at_fall_c", "duration_s"),
    needs_channels=True,
)

_HEATING: Final = 1
_COOLED: Final = 2


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `silent_derate`.

    Attributes
    ----------
    share : float
        Share of the offer below which the current is reduced. Unit: 1 (per unit). Default 0.9. Source:
        CONVENTIONS.
    hot_c : float
        Temperature of the plug when the current fell, or before. Unit: Celsius. Default 60. Source:
        CONVENTIONS; controllers throttle from 65 °C (OpenEVSE), measured with some error.
    hot_within_s : float
        Time before the fall in which it counts. Unit: s. Default 600. Source: CONVENTIONS.
    least_s : float
        Time that the current must stay reduced. Unit: s. Default 300. Source: CONVENTIONS.
    least_samples : int
        Samples that it must. Unit: samples. Default 2. Source: CONVENTIONS, a rule over time needs more
        than one sample.
    full_percent : float
        State of charge from which the car limits. Unit: Percent. Default 80. Source: CONVENTIONS.
    heating_k : float
        Temperature above its own mean at which the plug is heating. Unit: K. Default 0.5. Source: sensor
        noise of 0.1 K and resolution.
    mean_s : float
        Time constant of that mean. Unit: s. Default 300. Source: lag of a plug.
    cooled_k : float
        Fall of the temperature after which a current that comes back says that heat was the reason. Unit:
        K. Default 3. Source: hysteresis of OpenEVSE, 65 to 62 °C.
    fall_share : float
        Share of the current that followed the offer below which it fell. Unit: 1 (per unit). Default 0.97.
        Source: own choice, cars waver by a percent or two.
    hold_s : float
        Clear after this long without it. Unit: s. Default 300. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    offered_max_age_s : float
        An older offer is not known any more. Unit: s. Default 900. Source: OCPP aligned data interval.
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    share: float = 0.9
    hot_c: float = 60.0
    hot_within_s: float = 600.0
    least_s: float = 300.0
    least_samples: int = 2
    full_percent: float = 80.0
    heating_k: float = 0.5
    mean_s: float = 300.0
    cooled_k: float = 3.0
    fall_share: float = 0.97
    hold_s: float = 300.0
    gap_s: float = 1800.0
    offered_max_age_s: float = 900.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            share=(0.1, 1.0),
            hot_c=(30.0, 149.0),
            hot_within_s=(0.0, 86_400.0),
            least_s=(0.0, 86_400.0),
            least_samples=(1, 1000),
            full_percent=(1.0, 101.0),
            heating_k=(0.0, 50.0),
            mean_s=(1.0, 86_400.0),
            cooled_k=(0.0, 100.0),
            fall_share=(0.1, 1.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            offered_max_age_s=(1.0, 86_400.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


class _Limits(NamedTuple):
    share: float
    hot: float
    hot_within_ns: int
    least_ns: int
    least_n: int
    full: float
    heating: float
    mean_ns: float
    cooled: float
    fall_share: float
    hold_ns: int
    gap_ns: int
    offered_max_age_ns: int
    failed_high: float
    failed_low: float


@kernel
def _temperature(rec: Any, t: int, cable_c: float, outlet_c: float, limits: _Limits) -> None:
    """Take in the plug's temperature: the last one, its mean before it, and when it was last hot."""
    celsius = -np.inf
    if limits.failed_low < cable_c < limits.failed_high:  # false for NaN
        celsius = cable_c
    if limits.failed_low < outlet_c < limits.failed_high and outlet_c > celsius:
        celsius = outlet_c
    if celsius == -np.inf:
        return
    if rec["warm_ns"] == NO_TIME or t - rec["warm_ns"] > limits.gap_ns:
        rec["mean_c"] = celsius
    else:
        dt = t - rec["warm_ns"]
        rec["mean_c"] += (celsius - rec["mean_c"]) * dt / (limits.mean_ns + dt)
    rec["warm_ns"] = t
    rec["celsius"] = celsius
    if celsius >= limits.hot:
        rec["hot_ns"] = t


@kernel
def _reset(rec: Any) -> None:
    rec["followed_a"] = np.nan
    rec["since_ns"] = NO_TIME
    rec["n"] = 0
    rec["why"] = 0


@kernel
def _fall(rec: Any, t: int, amps: float, limits: _Limits) -> None:
    """Take in a reduced current: note a fall of a hot plug."""
    if rec["since_ns"] != NO_TIME:
        rec["n"] += 1
        return
    hot = rec["hot_ns"] != NO_TIME and t - rec["hot_ns"] <= limits.hot_within_ns
    if hot and amps < limits.fall_share * rec["followed_a"]:  # false for NaN: it never followed
        rec["since_ns"] = t
        rec["n"] = 1
        rec["fall_c"] = rec["celsius"]
        rec["why"] = _HEATING if rec["celsius"] - rec["mean_c"] >= limits.heating else 0
        rec["fell_a"] = amps


@kernel
def _judge(rec: Any, t: int, amps: float, offered: float, live: int, limits: _Limits) -> int:
    """Take in a judged current; return what to emit, 0 for nothing."""
    if rec["since_ns"] != NO_TIME and t - rec["seen_ns"] > limits.gap_ns:
        rec["since_ns"] = NO_TIME
    rec["seen_ns"] = t
    if amps < limits.share * offered:
        rec["good_ns"] = NO_TIME
        _fall(rec, t, amps, limits)
        if rec["since_ns"] == NO_TIME or rec["why"] == 0:
            return 0
        if rec["n"] < limits.least_n or t - rec["since_ns"] < limits.least_ns:
            return 0
    else:
        rec["followed_a"] = amps
        since = rec["since_ns"]
        cooled = rec["fall_c"] - rec["celsius"] >= limits.cooled
        long = since != NO_TIME and rec["n"] >= limits.least_n and t - since >= limits.least_ns
        if rec["raised"] != 0 or not (long and cooled):
            rec["since_ns"] = NO_TIME
            return 0
        rec["why"] = _COOLED
        rec["good_ns"] = t
        rec["since_ns"] = NO_TIME
        rec["start_ns"] = since
        rec["raised"] = 1
        rec["live"] = live
        return RAISE
    if rec["raised"] == 0:
        rec["start_ns"] = rec["since_ns"]
    elif rec["live"] >= live:
        return 0
    rec["raised"] = 1
    rec["live"] = live
    return RAISE


@kernel
def _recovered(rec: Any, t: int, limits: _Limits) -> bool:
    """Return whether what is raised has been absent long enough."""
    if rec["raised"] == 0 or rec["since_ns"] != NO_TIME:
        return False
    if rec["good_ns"] == NO_TIME:
        rec["good_ns"] = t
    if t - rec["good_ns"] < limits.hold_ns:
        return False
    rec["raised"] = 0
    return True


@kernel
def _derate_kernel(
    start: int,
    time: Timeline,
    cable_c: F64,
    outlet_c: F64,
    currents: Currents,
    offered_a: F64,
    soc: F64,
    dc: U8,
    state: Any,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e, t, bits = time.evse[i], time.time_ns[i], time.state[i]
        rec = state[e]
        _temperature(rec, t, cable_c[i], outlet_c[i], limits)
        if offered_a[i] == offered_a[i]:
            rec["offered_a"] = offered_a[i]
            rec["offered_ns"] = t
        if soc[i] == soc[i]:
            rec["soc"] = soc[i]
        amps = flowing(currents, i, dc[e])
        if amps != amps:
            continue
        offered = rec["offered_a"]
        kind = 0
        if bits & b.CHARGING == 0:
            _reset(rec)
            rec["soc"] = np.nan  # of another car
        elif rec["soc"] >= limits.full or bits & (b.SUSPENDED_EV | b.SUSPENDED_EVSE) != 0:
            _reset(rec)
        elif offered > 0.0 and t - rec["offered_ns"] <= limits.offered_max_age_ns:
            kind = _judge(rec, t, amps, offered, time.live[i], limits)
        if kind == 0 and _recovered(rec, t, limits):
            kind = CLEAR
        if kind == 0:
            continue
        end = rec["good_ns"] if kind == CLEAR else t
        j = emit(
            out, e, kind, WARNING, rec["live"], rec["start_ns"], end, time.order[i], time.effect_ns[i], 1.0
        )
        out.evidence[j, 5] = (end - rec["start_ns"]) / 1e9
        if kind == RAISE:
            reduced = rec["fell_a"] if rec["why"] == _COOLED else amps
            out.evidence[j, 0] = reduced
            out.evidence[j, 1] = offered
            out.evidence[j, 2] = reduced / offered
            out.evidence[j, 3] = rec["celsius"]
            out.evidence[j, 4] = rec["fall_c"]
    return n


class _Detector(RowDetector):
    spec = SPEC
    dtype: ClassVar[list[Any]] = [
        ("warm_ns", "i8"),  # last temperature
        ("hot_ns", "i8"),  # last temperature at or above the limit
        ("offered_ns", "i8"),
        ("seen_ns", "i8"),  # last current judged
        ("since_ns", "i8"),  # when the current fell
        ("good_ns", "i8"),
        ("start_ns", "i8"),
        ("celsius", "f8"),
        ("mean_c", "f8"),
        ("fall_c", "f8"),
        ("offered_a", "f8"),
        ("followed_a", "f8"),  # last current that followed the offer in this charge
        ("fell_a", "f8"),
        ("soc", "f8"),
        ("n", "i4"),
        ("why", "u1"),
        ("raised", "u1"),
        ("live", "u1"),
    ]
    blank: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("warm_ns", "hot_ns", "offered_ns", "seen_ns", "since_ns", "good_ns", "start_ns"), NO_TIME
    ) | dict.fromkeys(("celsius", "mean_c", "fall_c", "offered_a", "followed_a", "fell_a", "soc"), np.nan)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.share),
            float(config.hot_c),
            ns(config.hot_within_s),
            ns(config.least_s),
            int(config.least_samples),
            float(config.full_percent),
            float(config.heating_k),
            config.mean_s * 1e9,
            float(config.cooled_k),
            float(config.fall_share),
            ns(config.hold_s),
            ns(config.gap_s),
            ns(config.offered_max_age_s),
            float(config.failed_high_c),
            float(config.failed_low_c),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        given = columns(rows, SPEC.channels)
        return int(
            _derate_kernel(
                start,
                timeline(rows),
                given[0],
                given[1],
                Currents(*given[2:6]),
                given[6],
                given[7],
                devices.dc,
                self.table.rows,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

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
from ._sparse import Sparse, SparseDetector, find, full, give, take

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
_SUSPENDED: Final = b.SUSPENDED_EV | b.SUSPENDED_EVSE


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


class _Given(NamedTuple):
    """Columns beside the currents, NaN where a batch has none."""

    cable_c: F64
    outlet_c: F64
    offered_a: F64
    soc: F64


@kernel
def _plug(cable_c: float, outlet_c: float, limits: _Limits) -> float:
    """Return the plug's temperature, -inf where no sensor that works tells it."""
    celsius = -np.inf
    if limits.failed_low < cable_c < limits.failed_high:  # false for NaN
        celsius = cable_c
    if limits.failed_low < outlet_c < limits.failed_high and outlet_c > celsius:
        celsius = outlet_c
    return float(celsius)


@kernel
def _mean(rec: Any, t: int, celsius: float, limits: _Limits) -> None:
    """Take in a temperature to the mean of those before."""
    if rec["warm_ns"] == NO_TIME or t - rec["warm_ns"] > limits.gap_ns:
        rec["mean_c"] = celsius
    else:
        dt = t - rec["warm_ns"]
        rec["mean_c"] += (celsius - rec["mean_c"]) * dt / (limits.mean_ns + dt)
    rec["warm_ns"] = t


@kernel
def _fall(rec: Any, hot: Any, t: int, amps: float, limits: _Limits) -> None:
    """Take in a reduced current of a plug that was hot: note its fall."""
    if hot["since_ns"] != NO_TIME:
        hot["n"] += 1
        return
    if t - hot["hot_ns"] <= limits.hot_within_ns and amps < limits.fall_share * rec["followed_a"]:
        # false for NaN: it never followed
        hot["since_ns"] = t
        hot["n"] = 1
        hot["fall_c"] = hot["celsius"]
        hot["why"] = _HEATING if hot["celsius"] - rec["mean_c"] >= limits.heating else 0
        hot["fell_a"] = amps


@kernel
def _judge(rec: Any, hot: Any, t: int, amps: float, live: int, limits: _Limits) -> int:
    """Take in a judged current of a plug that was hot; return what to emit, 0 for nothing."""
    if hot["since_ns"] != NO_TIME and t - hot["seen_ns"] > limits.gap_ns:
        hot["since_ns"] = NO_TIME
    hot["seen_ns"] = t
    if amps < limits.share * rec["offered_a"]:
        hot["good_ns"] = NO_TIME
        _fall(rec, hot, t, amps, limits)
        if hot["since_ns"] == NO_TIME or hot["why"] == 0:
            return 0
        if hot["n"] < limits.least_n or t - hot["since_ns"] < limits.least_ns:
            return 0
    else:
        since = hot["since_ns"]
        cooled = hot["fall_c"] - hot["celsius"] >= limits.cooled
        long = since != NO_TIME and hot["n"] >= limits.least_n and t - since >= limits.least_ns
        hot["since_ns"] = NO_TIME
        if hot["raised"] != 0 or not (long and cooled):
            return 0
        hot["why"] = _COOLED
        hot["good_ns"] = t
        hot["start_ns"] = since
        hot["raised"] = 1
        hot["live"] = live
        return RAISE
    if hot["raised"] == 0:
        hot["start_ns"] = hot["since_ns"]
    elif hot["live"] >= live:
        return 0
    hot["raised"] = 1
    hot["live"] = live
    return RAISE


@kernel
def _recovered(hot: Any, t: int, limits: _Limits) -> bool:
    """Return whether what is raised has been absent long enough."""
    if hot["raised"] == 0 or hot["since_ns"] != NO_TIME:
        return False
    if hot["good_ns"] == NO_TIME:
        hot["good_ns"] = t
    if t - hot["good_ns"] < limits.hold_ns:
        return False
    hot["raised"] = 0
    return True


@kernel
def _report(rec: Any, hot: Any, i: int, kind: int, amps: float, time: Timeline, out: EmissionArrays) -> None:
    end = hot["good_ns"] if kind == CLEAR else time.time_ns[i]
    j = emit(
        out, time.evse[i], kind, WARNING, hot["live"], hot["start_ns"], end,
        time.order[i], time.effect_ns[i], 1.0,
    )  # fmt: skip
    out.evidence[j, 5] = (end - hot["start_ns"]) / 1e9
    if kind == RAISE:
        reduced = hot["fell_a"] if hot["why"] == _COOLED else amps
        out.evidence[j, 0] = reduced
        out.evidence[j, 1] = rec["offered_a"]
        out.evidence[j, 2] = reduced / rec["offered_a"]
        out.evidence[j, 3] = hot["celsius"]
        out.evidence[j, 4] = hot["fall_c"]


@kernel
def _derate_kernel(
    start: int,
    time: Timeline,
    given: _Given,
    currents: Currents,
    dc: U8,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room, at, last = len(time.evse), len(out.order) - ROOM, 0, -1
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e, t, bits = time.evse[i], time.time_ns[i], time.state[i]
        rec, kind = state[e], 0
        if e != last:
            at, last = find(sparse, e), e
        celsius = _plug(given.cable_c[i], given.outlet_c[i], limits)
        if celsius >= limits.hot and at == 0:
            if full(sparse):
                return i
            at = take(sparse, e)
        if celsius != -np.inf:
            _mean(rec, t, celsius, limits)
            if at != 0:
                sparse.records[at]["celsius"] = celsius
                if celsius >= limits.hot:
                    sparse.records[at]["hot_ns"] = t
        if given.offered_a[i] == given.offered_a[i]:
            rec["offered_a"] = given.offered_a[i]
            rec["offered_ns"] = t
        if given.soc[i] == given.soc[i]:
            rec["full"] = given.soc[i] >= limits.full
        amps = flowing(currents, i, dc[e])
        if amps != amps:
            continue
        if bits & b.CHARGING == 0:
            rec["full"] = 0  # of another car
        if bits & b.CHARGING == 0 or rec["full"] != 0 or bits & _SUSPENDED != 0:
            rec["followed_a"] = np.nan
            if at != 0:
                sparse.records[at]["since_ns"] = NO_TIME
        elif rec["offered_a"] > 0.0 and t - rec["offered_ns"] <= limits.offered_max_age_ns:
            if at != 0:
                kind = _judge(rec, sparse.records[at], t, amps, time.live[i], limits)
            if amps >= limits.share * rec["offered_a"]:
                rec["followed_a"] = amps
        if at == 0:
            continue
        hot = sparse.records[at]
        if kind == 0 and _recovered(hot, t, limits):
            kind = CLEAR
        if kind != 0:
            _report(rec, hot, i, kind, amps, time, out)
        if hot["raised"] == 0 and hot["since_ns"] == NO_TIME and t - hot["hot_ns"] > limits.hot_within_ns:
            give(sparse, e)
            at = 0
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    dtype: ClassVar[list[Any]] = [
        ("warm_ns", "i8"),  # last temperature
        ("offered_ns", "i8"),
        ("mean_c", "f4"),
        ("offered_a", "f4"),
        ("followed_a", "f4"),  # last current that followed the offer in this charge
        ("full", "u1"),  # the car's battery: it limits the current
    ]
    blank: ClassVar[dict[str, Any]] = dict.fromkeys(("warm_ns", "offered_ns"), NO_TIME) | dict.fromkeys(
        ("mean_c", "offered_a", "followed_a"), np.nan
    )
    #: Of plugs that are hot or were lately, whose current fell then, or of which something is raised.
    sparse_dtype: ClassVar[list[Any]] = [
        ("hot_ns", "i8"),  # last temperature at or above the limit
        ("seen_ns", "i8"),  # last current judged
        ("since_ns", "i8"),  # when the current fell
        ("good_ns", "i8"),
        ("start_ns", "i8"),
        ("celsius", "f8"),
        ("fall_c", "f8"),
        ("fell_a", "f8"),
        ("n", "i4"),
        ("why", "u1"),
        ("raised", "u1"),
        ("live", "u1"),
    ]
    sparse_blank: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("hot_ns", "seen_ns", "since_ns", "good_ns", "start_ns"), NO_TIME
    ) | dict.fromkeys(("celsius", "fall_c", "fell_a"), np.nan)

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
                _Given(given[0], given[1], given[6], given[7]),
                Currents(*given[2:6]),
                devices.dc,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

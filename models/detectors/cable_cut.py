"""All signals of the cable lost at once: both plug sensors fail together, or the pilot opens under current.

Sensors: `Temperature/Cable` and `Temperature/Outlet` at full scale (150 °C and above, -40 °C and below) in
two readings, after a reading with both good at most `gap_s` before, and neither failed more than `together_s`
before the other.

Pilot: from a reading with current and the station's word that it charges to one with the pilot at 11 V and
above and no current, at most `step_s` later, for two readings, and without a stop: neither a transaction
message nor a status says that somebody or something ended or paused the charge since just before that
reading. A pilot of a car that is still connected (state B or C without current) in between is an orderly end,
too. What the station then says itself, that the car departed, is what a cut cable looks like to it.

It clears 60 s after the sensors are good again, and after a pilot of a connected car.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import CHARGING, F64, SUSPENDED_EV, SUSPENDED_EVSE, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, CRITICAL, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.records import Record, Status, Transaction
from models.units import NO_TIME

from ._base import ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._marks import MARK_BLANK, MARK_FIELDS, MarkedDetector, Marks, follow
from ._slim import (
    CURRENTS,
    MOST_SAMPLES,
    SLIM_BLANK,
    SLIM_FIELDS,
    greatest_current,
    lasting,
    slim_watch,
)
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

_CABLE, _OUTLET, _PILOT = (CHANNEL_ID[n] for n in ("Temperature/Cable", "Temperature/Outlet", "x.CP.V"))

#: Reasons of an end (OCPP 2.x and 1.6) that a cut cable may have.
_TORN: Final = frozenset({"", "EVDisconnected"})
#: What triggered a message when the car went away by itself.
_GONE: Final = frozenset({"EVDeparted", "EVCommunicationLost", "EVDetected", "AbnormalCondition"})
#: Charging states and 1.6 statuses of a charge that somebody paused or ended with the cable whole.
_PAUSED: Final = frozenset({"EVConnected", "SuspendedEV", "SuspendedEVSE", "Finishing"})

# what is cut, as `cause`
_SENSORS: Final = 1
_OPEN: Final = 2

# what a reading says of sensors or pilot
_GOOD: Final = 1
_BAD: Final = 2

SPEC = DetectorSpec(
    "cable_cut",
    "evse",
    "rule",
    (_CABLE, _OUTLET, _PILOT, *CURRENTS),
    ("cause", "temperature_cable_c", "temperature_outlet_c", "pilot_v", "current_before_a", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `cable_cut`.

    Attributes
    ----------
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    together_s : float
        Both sensors fail within it. Unit: s. Default 10. Source: sensors are read in turn.
    open_v : float
        Pilot from which no car is connected. Unit: V. Default 11. Source: IEC 61851-1, state A is 12 V
        with a tolerance of 1 V.
    least_a : float
        Current that shows that energy flows. Unit: A. Default 1. Source: idle readings of meters are
        below.
    step_s : float
        Longest time of the step. Unit: s. Default 30. Source: to end a charge, unlock and pull the plug
        takes about as long.
    stop_s : float
        A stop may be told this long before the last reading with current. Unit: s. Default 5. Source: a
        car has 5 s to follow (IEC 61851-1).
    least_samples : int
        Readings that it must last. Unit: samples. Default 2. Source: one reading may be a disturbed bus.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    failed_high_c: float = 150.0
    failed_low_c: float = -40.0
    together_s: float = 10.0
    open_v: float = 11.0
    least_a: float = 1.0
    step_s: float = 30.0
    stop_s: float = 5.0
    least_samples: int = 2
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
            together_s=(0.0, 3600.0),
            open_v=(9.5, 12.0),
            least_a=(0.1, 100.0),
            step_s=(1.0, 3600.0),
            stop_s=(0.0, 600.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    high_c: float
    low_c: float
    together_ns: int
    open_v: float
    least_a: float
    step_ns: int
    stop_ns: int


class _Columns(NamedTuple):
    cable_c: F64
    outlet_c: F64
    pilot_v: F64
    current_a: F64


_DTYPE: Final[list[Any]] = [
    *MARK_FIELDS,  # the last stop
    ("both_ns", "i8"),  # last reading with both sensors good, NO_TIME once both had failed
    ("flow_ns", "i8"),  # last reading of a charge
    ("flow_a", "f4"),  # and its current
]

#: Of an EVSE of which something has failed.
_ODD: Final[list[Any]] = [
    ("one_ns", "i8"),  # since when exactly one sensor has failed
    *SLIM_FIELDS,
    ("cut", "u1"),  # causes that hold: _SENSORS, _OPEN
]


@kernel
def _suspicious(
    rec: Any, t: int, cable_c: float, outlet_c: float, pilot_v: float, amps: float, limits: _Limits
) -> bool:
    """Return whether a reading may begin anything: a sensor failed, or the pilot opened after a charge."""
    low, high = limits.low_c, limits.high_c
    if not (cable_c != cable_c or low < cable_c < high) or not (
        outlet_c != outlet_c or low < outlet_c < high
    ):
        return True
    if rec["flow_ns"] == NO_TIME or t - rec["flow_ns"] > limits.step_ns:
        return False
    return bool(pilot_v >= limits.open_v and amps < limits.least_a)


@kernel
def _whole(odd: Any, cause: int) -> None:
    """Note that `cause` does not hold; the blank record is not written to."""
    if odd["cut"] & cause != 0:
        odd["cut"] &= 255 - cause


@kernel
def _sensors(
    rec: Any, odd: Any, t: int, cable_c: float, outlet_c: float, limits: _Limits, gap_ns: int
) -> int:
    """Take in the plug's sensors; return what they say, 0 for nothing."""
    good_1 = limits.low_c < cable_c < limits.high_c  # false for NaN
    good_2 = limits.low_c < outlet_c < limits.high_c
    if cable_c != cable_c or outlet_c != outlet_c:
        if not (good_1 or good_2):
            return 0
    elif good_1 and good_2:
        rec["both_ns"] = t
        if odd["one_ns"] != NO_TIME:
            odd["one_ns"] = NO_TIME
    elif good_1 or good_2:
        if odd["one_ns"] == NO_TIME:
            odd["one_ns"] = t
    else:
        recent = rec["both_ns"] != NO_TIME and t - rec["both_ns"] <= gap_ns
        together = odd["one_ns"] == NO_TIME or t - odd["one_ns"] <= limits.together_ns
        if recent and together:
            odd["cut"] |= _SENSORS
        rec["both_ns"] = NO_TIME
        return _BAD
    _whole(odd, _SENSORS)
    return _GOOD


@kernel
def _pilot(rec: Any, odd: Any, t: int, pilot_v: float, amps: float, context: int, limits: _Limits) -> int:
    """Take in pilot and current; return what they say, 0 for nothing."""
    if pilot_v != pilot_v:
        return 0
    flows = amps >= limits.least_a
    stopped = (
        rec["told_ns"] != NO_TIME
        and rec["flow_ns"] != NO_TIME
        and rec["flow_ns"] - limits.stop_ns <= rec["told_ns"] <= t
    )
    if pilot_v < limits.open_v or flows:
        _whole(odd, _OPEN)
        rec["flow_ns"] = NO_TIME
        if flows and context & CHARGING != 0:
            rec["flow_ns"] = t
            rec["flow_a"] = amps
        return _GOOD
    if amps != amps:
        return 0
    if stopped or context & (SUSPENDED_EV | SUSPENDED_EVSE) != 0:
        rec["flow_ns"] = NO_TIME
        if odd["raised"] == 0:
            _whole(odd, _OPEN)
    elif rec["flow_ns"] != NO_TIME and odd["cut"] & _OPEN == 0 and t - rec["flow_ns"] <= limits.step_ns:
        odd["cut"] |= _OPEN
    return _BAD


@kernel
def _judge(odd: Any, t: int, sensors: int, pilot: int, live: int, rule: Lasting) -> int:
    """Watch what holds at one reading; return what to emit."""
    cut = int(odd["cut"])
    shown = (sensors == _BAD and cut & _SENSORS != 0) or (pilot == _BAD and cut & _OPEN != 0)
    if not shown and (cut != 0 or idle(odd)):
        return NOTHING
    if not shown and sensors != _GOOD and pilot != _GOOD and odd["raised"] != 0:
        return NOTHING
    return int(slim_watch(odd, t, shown, live, rule))


@kernel
def _report(
    odd: Any, flow_a: float, i: int, time: Timeline, kind: int, columns: _Columns, out: EmissionArrays
) -> None:
    cut = int(odd["cut"])
    end = odd["mark_ns"] if kind == CLEAR else time.time_ns[i]
    j = emit(
        out, time.evse[i], kind, CRITICAL, odd["live"], odd["since_ns"], end,
        time.order[i], time.effect_ns[i], 1.0,
    )  # fmt: skip
    out.evidence[j, 5] = (end - odd["since_ns"]) / 1e9
    if kind != CLEAR:
        out.evidence[j, 0] = cut
        out.evidence[j, 1] = columns.cable_c[i]
        out.evidence[j, 2] = columns.outlet_c[i]
        out.evidence[j, 3] = columns.pilot_v[i]
        if cut & _OPEN != 0:
            out.evidence[j, 4] = flow_a


@kernel
def _cut_kernel(
    start: int,
    time: Timeline,
    columns: _Columns,
    marks: Marks,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room, mark = len(time.evse), len(out.order) - ROOM, 0
    for i in range(start, n):
        cable_c, outlet_c, volt = columns.cable_c[i], columns.outlet_c[i], columns.pilot_v[i]
        if cable_c != cable_c and outlet_c != outlet_c and volt != volt:
            continue
        if out.used[0] > room:
            return i
        e, t, amps = time.evse[i], time.time_ns[i], columns.current_a[i]
        mark = follow(state, marks, mark, e, time.order[i])
        rec, at = state[e], find(sparse, e)
        if at == 0 and _suspicious(rec, t, cable_c, outlet_c, volt, amps, limits):
            if full(sparse):
                return i  # the words are taken in again
            at = take(sparse, e)
        odd = sparse.records[at]
        sensors = _sensors(rec, odd, t, cable_c, outlet_c, limits, rule.gap_ns)
        pilot = _pilot(rec, odd, t, volt, amps, time.state[i], limits)
        if at == 0:
            continue
        kind = _judge(odd, t, sensors, pilot, time.live[i], rule)
        if kind != NOTHING:
            _report(odd, rec["flow_a"], i, time, kind, columns, out)
        if odd["one_ns"] == NO_TIME and odd["cut"] == 0 and idle(odd):
            give(sparse, e)
    return n


class _Detector(MarkedDetector, SparseDetector):
    spec = SPEC
    version = 2
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = MARK_BLANK | {
        "both_ns": NO_TIME,
        "flow_ns": NO_TIME,
        "flow_a": np.nan,
    }
    sparse_dtype = _ODD
    sparse_blank: ClassVar[dict[str, Any]] = SLIM_BLANK | {"one_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.failed_high_c),
            float(config.failed_low_c),
            ns(config.together_s),
            float(config.open_v),
            float(config.least_a),
            ns(config.step_s),
            ns(config.stop_s),
        )
        self._rule = lasting(0.0, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _words(self, record: Record, devices: DeviceTable) -> list[tuple[int, int, int]]:
        if isinstance(record, Transaction) and record.evse_row >= 0 and _stops(record):
            return [(record.evse_row, record.time_ns, 1)]
        if isinstance(record, Status) and record.evse_row >= 0 and record.status16 in _PAUSED:
            return [(record.evse_row, record.time_ns, 1)]
        return []

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        seen = _Columns(
            np.ascontiguousarray(rows.column(_CABLE)),
            np.ascontiguousarray(rows.column(_OUTLET)),
            np.ascontiguousarray(rows.column(_PILOT)),
            np.ascontiguousarray(greatest_current(rows)),
        )
        return int(
            _cut_kernel(
                start,
                timeline(rows),
                seen,
                self._marks,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def _stops(record: Transaction) -> bool:
    """Return whether a message of a transaction says that the charge was ended or paused in good order."""
    if record.event_type == "Ended":
        return record.stopped_reason not in _TORN or (
            not record.stopped_reason and record.trigger not in _GONE
        )
    return record.charging_state in _PAUSED and record.trigger not in _GONE


def build(config: Config, resume_state: dict[str, Any] | None = None) -> MarkedDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

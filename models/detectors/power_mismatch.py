"""Measured power against voltage x current x power factor: more than 8 % apart for ten minutes.

Judged above 6 A (DC 10 A) and 10 % of `p_max_w`, where the errors of the meter itself are small. Below that a
reading says nothing: a wrong transformer ratio is not mended by the end of a charge. AC power is the sum over
the phases of U x I x pf, DC power the output's U x I. Without a reported power factor (the last one counts
for 15 minutes) it may lie anywhere from 0.90 to 1, so the power may, too. A phase without a voltage takes the
nominal one only where no phase has any: else the mean of the others.

The ten minutes are event time with at least two samples, so a ramp between two averages of a meter does not
count. Single-phase cars, taper and throttling change both sides alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

SPEC = DetectorSpec(
    "power_mismatch",
    "evse",
    "rule",
    tuple(
        CHANNEL_ID[name]
        for name in (
            "Power.Active.Import",
            "Power.Active.Import@L1",
            "Power.Active.Import@L2",
            "Power.Active.Import@L3",
            "Current.Import",
            "Current.Import@L1",
            "Current.Import@L2",
            "Current.Import@L3",
            "Voltage",
            "Voltage@L1-N",
            "Voltage@L2-N",
            "Voltage@L3-N",
            "Power.Factor",
        )
    ),
    ("power_w", "expected_w", "deviation_percent", "limit_percent", "current_a", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `power_mismatch`.

    Attributes
    ----------
    share : float
        Deviation from what voltage, current and power factor give. Unit: 1 (per unit). Default 0.08. Source:
        CONVENTIONS; 5 % is the sum of two class B errors (MID), and a margin for averages over ramps.
    least_power_factor : float
        Least power factor of a charging car, for stations that report none. Unit: 1. Default 0.90. Source: EN
        61851-21-1, on-board chargers above 25 % load; measured cars have 0.97 and more.
    ac_least_a, dc_least_a : float
        Greatest phase current (DC: output) from which on it is judged. Unit: A. Default 6 and 10. Source:
        CONVENTIONS; 6 A is the least charging current of IEC 61851-1.
    least_load : float
        Share of `p_max_w` from which on it is judged. Unit: 1 (per unit). Default 0.10. Source: CONVENTIONS.
    least_s : float
        Time that the condition must last. Unit: s. Default 600. Source: CONVENTIONS.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without it, under load. Unit: s. Default 600. Source: CONVENTIONS, clear.
    gap_s : float
        Two judged samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest
        usual meter interval (OCPP aligned data, 900 s).
    factor_max_age_s : float
        An older power factor is not known any more. Unit: s. Default 900. Source: OCPP aligned data interval.
    """

    share: float = 0.08
    least_power_factor: float = 0.90
    ac_least_a: float = 6.0
    dc_least_a: float = 10.0
    least_load: float = 0.10
    least_s: float = 600.0
    least_samples: int = 2
    hold_s: float = 600.0
    gap_s: float = 1800.0
    factor_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            share=(0.001, 1.0),
            least_power_factor=(0.1, 1.0),
            ac_least_a=(0.0, 1000.0),
            dc_least_a=(0.0, 1000.0),
            least_load=(0.0, 1.0),
            least_s=(0.0, 86_400.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            factor_max_age_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    share: float
    least_factor: float
    ac_least_a: float
    dc_least_a: float
    least_load: float
    factor_max_age_ns: int


class _Columns(NamedTuple):
    """The channels read, in the order of the specification, NaN where a batch has none."""

    power_w: F64
    l1_w: F64
    l2_w: F64
    l3_w: F64
    current_a: F64
    l1_a: F64
    l2_a: F64
    l3_a: F64
    voltage_v: F64
    l1_v: F64
    l2_v: F64
    l3_v: F64
    factor: F64


class _Inventory(NamedTuple):
    u_n_v: F64
    phases: Any
    dc: Any
    p_max_w: F64


@kernel
def _plus(a: float, b: float) -> float:
    """Return the sum of what is there, NaN when nothing is."""
    if a != a:
        return b
    return a if b != b else float(a + b)


@kernel
def _measured(c: _Columns, i: int) -> float:
    """Return the active power of reading i, NaN when it has none."""
    power = c.power_w[i]
    if power == power:
        return float(power)
    return float(_plus(_plus(c.l1_w[i], c.l2_w[i]), c.l3_w[i]))


@kernel
def _apparent(c: _Columns, i: int, u_n: float, phases: int) -> tuple[float, float]:
    """Return (sum of U x I over the phases of an AC EVSE, greatest phase current), NaN when not known."""
    total = _plus(_plus(c.l1_v[i], c.l2_v[i]), c.l3_v[i])
    n = (c.l1_v[i] == c.l1_v[i]) + (c.l2_v[i] == c.l2_v[i]) + (c.l3_v[i] == c.l3_v[i])
    mean = total / n if n > 0 else (c.voltage_v[i] if phases == 1 else np.nan)
    if mean != mean:
        mean = u_n
    va, amps = np.nan, np.nan
    if c.l1_a[i] == c.l1_a[i]:
        va, amps = c.l1_a[i] * (c.l1_v[i] if c.l1_v[i] == c.l1_v[i] else mean), c.l1_a[i]
    if c.l2_a[i] == c.l2_a[i]:
        va = _plus(va, c.l2_a[i] * (c.l2_v[i] if c.l2_v[i] == c.l2_v[i] else mean))
        amps = c.l2_a[i] if amps != amps else max(amps, c.l2_a[i])
    if c.l3_a[i] == c.l3_a[i]:
        va = _plus(va, c.l3_a[i] * (c.l3_v[i] if c.l3_v[i] == c.l3_v[i] else mean))
        amps = c.l3_a[i] if amps != amps else max(amps, c.l3_a[i])
    if amps != amps and phases == 1:
        amps = c.current_a[i]
        va = amps * mean
    return va, amps


@kernel
def _report(
    rec: Any,
    i: int,
    time: Timeline,
    kind: int,
    power: float,
    expected: float,
    deviation: float,
    amps: float,
    limits: _Limits,
    out: EmissionArrays,
) -> None:
    end = rec["mark_ns"] if kind == CLEAR else time.time_ns[i]
    j = emit(
        out, time.evse[i], kind, WARNING, rec["live"], rec["since_ns"], end,
        time.order[i], time.effect_ns[i], abs(deviation) / limits.share,
    )  # fmt: skip
    out.evidence[j, 0] = power
    out.evidence[j, 1] = expected
    out.evidence[j, 2] = 100.0 * deviation
    out.evidence[j, 3] = 100.0 * limits.share
    out.evidence[j, 4] = amps
    out.evidence[j, 5] = (end - rec["since_ns"]) / 1e9


@kernel
def _mismatch_kernel(
    start: int,
    time: Timeline,
    c: _Columns,
    inv: _Inventory,
    factors: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, time_ns = time.evse, time.time_ns
    i = start
    while i < n:
        e = evse[i]
        last, at = factors[e], find(sparse, e)
        dc = inv.dc[e] != 0
        least_w = limits.least_load * inv.p_max_w[e] if inv.p_max_w[e] == inv.p_max_w[e] else 0.0
        least_a = limits.dc_least_a if dc else limits.ac_least_a
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            t = time_ns[i]
            if not dc and 0.0 < c.factor[i] <= 1.0:
                last["factor"] = c.factor[i]
                last["factor_ns"] = t
            power = _measured(c, i)
            if dc:
                amps, va = c.current_a[i], c.voltage_v[i] * c.current_a[i]
            else:
                va, amps = _apparent(c, i, inv.u_n_v[e], inv.phases[e])
            # what is judged needs load on both sides; a power of 0 at full current is a mismatch
            if power == power and amps > least_a and max(power, va) > least_w and va > 0.0:
                low = high = va
                if not dc:
                    known = last["factor_ns"] != NO_TIME and t - last["factor_ns"] <= limits.factor_max_age_ns
                    high = va * last["factor"] if known else va
                    low = high if known else va * limits.least_factor
                expected = min(max(power, low), high)  # of what is possible, the nearest to what is measured
                deviation = power / expected - 1.0 if expected != power else 0.0
                if abs(deviation) > limits.share or at != 0:
                    if at == 0 and full(sparse):
                        return i
                    if at == 0:
                        at = take(sparse, e)
                    rec = sparse.records[at]
                    kind = slim_watch(rec, t, abs(deviation) > limits.share, time.live[i], rule)
                    if kind != NOTHING:
                        _report(rec, i, time, kind, power, expected, deviation, amps, limits, out)
                    if idle(rec):
                        give(sparse, e)
                        at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype: ClassVar[list[Any]] = [("factor_ns", "i8"), ("factor", "f8")]
    blank: ClassVar[dict[str, Any]] = {"factor_ns": NO_TIME, "factor": np.nan}
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.share),
            float(config.least_power_factor),
            float(config.ac_least_a),
            float(config.dc_least_a),
            float(config.least_load),
            ns(config.factor_max_age_s),
        )
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _mismatch_kernel(
                start,
                timeline(rows),
                _Columns(*columns(rows, SPEC.channels)),
                _Inventory(devices.u_n_v, devices.phases, devices.dc, devices.p_max_w),
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

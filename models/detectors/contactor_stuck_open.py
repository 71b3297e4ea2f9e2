"""Nothing flows although it should: in state Charging, with at least 6 A offered and the car asking, less
than 1 A for 60 s and two samples.

The car asks while the pilot, where there is one, is in state C, and its state of charge, where it is known,
is below the level at which it may be full. A charge whose current had already fallen below half of the offer
before it went to zero tapered: the car was done. A current sensor that shows nothing while power flows is
another fault. The offer is the last ``Current.Offered`` that is at most 15 minutes old; an offer below 6 A is
throttling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models import batch as b
from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._connector import CURRENT_CHANNELS, Currents, flowing
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

SPEC = DetectorSpec(
    "contactor_stuck_open",
    "evse",
    "rule",
    (
        *CURRENT_CHANNELS,
        *(CHANNEL_ID[name] for name in ("Current.Offered", "x.CP.V", "SoC", "Power.Active.Import")),
    ),
    ("current_a", "offered_a", "duration_s", "pilot_v", "soc_percent"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `contactor_stuck_open`.

    Attributes
    ----------
    current_a : float
        Current below which nothing flows. Unit: A. Default 1. Source: CONVENTIONS.
    offered_a : float
        Least offer at which a car must charge. Unit: A. Default 6. Source: IEC 61851-1, least current of
        mode 3.
    power_w : float
        Power above which energy flows whatever the current sensor says. Unit: W. Default 500. Source:
        below one phase at 6 A (1380 W), above standby.
    pilot_c_high_v : float
        Pilot above which the car does not ask. Unit: V. Default 7.5. Source: IEC 61851-1, half way between
        states B (9 V) and C (6 V).
    full_percent : float
        State of charge from which a car may be full. Unit: Percent. Default 95. Source: cars balance and
        stop near their upper limit while in state C.
    taper_share : float
        A charge that fell below this share of the offer tapered. Unit: 1 (per unit). Default 0.5. Source:
        AC charging holds its current up to the last percent; a contactor opens at once.
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS, a rule over
        time needs more than one sample.
    least_s : float
        Time that it must last. Unit: s. Default 60. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    offered_max_age_s : float
        An older offer is not known any more. Unit: s. Default 900. Source: OCPP aligned data interval.
    """

    current_a: float = 1.0
    offered_a: float = 6.0
    power_w: float = 500.0
    pilot_c_high_v: float = 7.5
    full_percent: float = 95.0
    taper_share: float = 0.5
    least_samples: int = 2
    least_s: float = 60.0
    hold_s: float = 60.0
    gap_s: float = 1800.0
    offered_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            current_a=(0.01, 6.0),
            offered_a=(1.0, 32.0),
            power_w=(1.0, 10_000.0),
            pilot_c_high_v=(6.6, 9.0),
            full_percent=(50.0, 100.0),
            taper_share=(0.0, 1.0),
            least_samples=(1, MOST_SAMPLES),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            offered_max_age_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    current: float
    offered: float
    power: float
    pilot_c_high: float
    full: float
    taper: float
    offered_max_age_ns: int


class _Columns(NamedTuple):
    offered_a: F64
    pilot_v: F64
    soc: F64
    power_w: F64


@kernel
def _level(rec: Any, t: int, bits: int, amps: float, i: int, c: _Columns, limits: _Limits) -> int:
    """Note what a reading says; return 1 where current should flow and none does."""
    if c.offered_a[i] == c.offered_a[i]:
        rec["offered_a"] = c.offered_a[i]
        rec["offered_ns"] = t
    charging = bits & b.CHARGING != 0 and bits & (b.SUSPENDED_EV | b.SUSPENDED_EVSE) == 0
    if not charging:
        rec["tapered"] = 0
        return 0
    offered = rec["offered_a"]
    fresh = rec["offered_ns"] != NO_TIME and t - rec["offered_ns"] <= limits.offered_max_age_ns
    if not fresh or offered < limits.offered:
        return 0
    if amps >= limits.current:
        rec["tapered"] = amps / offered < limits.taper
        return 0
    if c.power_w[i] > limits.power or c.pilot_v[i] > limits.pilot_c_high or c.soc[i] >= limits.full:
        return 0
    return 0 if rec["tapered"] != 0 else 1


@kernel
def _open_kernel(
    start: int,
    time: Timeline,
    currents: Currents,
    c: _Columns,
    dc: U8,
    charges: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e, t = time.evse[i], time.time_ns[i]
        charge = charges[e]
        amps = flowing(currents, i, dc[e])
        if amps != amps:
            if c.offered_a[i] == c.offered_a[i]:
                charge["offered_a"] = c.offered_a[i]
                charge["offered_ns"] = t
            continue
        level = _level(charge, t, time.state[i], amps, i, c, limits)
        at = find(sparse, e)
        if at == 0 and level == 0:
            continue
        if at == 0 and full(sparse):
            return i  # what was noted of the charge is noted again
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        kind = slim_watch(rec, t, level != 0, time.live[i], rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else t
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], 1.0,
            )  # fmt: skip
            out.evidence[j, 2] = (end - rec["since_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0] = amps
                out.evidence[j, 1] = charge["offered_a"]
                out.evidence[j, 3] = c.pilot_v[i]
                out.evidence[j, 4] = c.soc[i]
        if idle(rec):
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype: ClassVar[list[Any]] = [
        ("offered_ns", "i8"),
        ("offered_a", "f4"),
        ("tapered", "u1"),  # the last current of this charge that flowed was below its share of the offer
    ]
    blank: ClassVar[dict[str, Any]] = {"offered_ns": NO_TIME, "offered_a": np.nan}
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.current_a),
            float(config.offered_a),
            float(config.power_w),
            float(config.pilot_c_high_v),
            float(config.full_percent),
            float(config.taper_share),
            ns(config.offered_max_age_s),
        )
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        given = columns(rows, SPEC.channels)
        return int(
            _open_kernel(
                start,
                timeline(rows),
                Currents(*given[:4]),
                _Columns(*given[4:]),
                devices.dc,
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

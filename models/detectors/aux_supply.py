"""The station's own 12 V supply is out of its band: beyond 10 % either way for 60 s and at two samples.

Any EVSE of a station that reports ``x.Supply12V`` speaks for it: the first one out of the band raises, the
last one back in it clears.
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

from ._base import columns, ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take
from ._stations import StationDetector

SPEC = DetectorSpec(
    "aux_supply",
    "station",
    "rule",
    (CHANNEL_ID["x.Supply12V"],),
    ("supply_v", "nominal_v", "deviation_percent", "worst_v", "duration_s", "evse"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `aux_supply`.

    Attributes
    ----------
    nominal_v : float
        Voltage of the supply. Unit: V. Default 12. Source: the channel, x.Supply12V.
    band : float
        Greatest deviation. Unit: 1 (per unit). Default 0.10. Source: CONVENTIONS; the pilot's +12 V must be
        within 5 % (IEC 61851-1) and is made from it.
    least_s : float
        Time that the condition must last. Unit: s. Default 60. Source: CONVENTIONS.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: one sample is no condition.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, clear.
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    nominal_v: float = 12.0
    band: float = 0.10
    least_s: float = 60.0
    least_samples: int = 2
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            nominal_v=(1.0, 60.0),
            band=(0.001, 0.9),
            least_s=(0.0, 3600.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    nominal_v: float
    low_v: float
    high_v: float


@kernel
def _aux_kernel(
    start: int,
    time: Timeline,
    supply_v: F64,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        volts = supply_v[i]
        if volts != volts:
            continue
        e = time.evse[i]
        at, bad = find(sparse, e), not limits.low_v <= volts <= limits.high_v
        if at == 0 and not bad:
            continue
        if at == 0 and full(sparse):
            return i
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        if idle(rec) or abs(volts - limits.nominal_v) > abs(rec["worst_v"] - limits.nominal_v):
            rec["worst_v"] = volts
        kind = slim_watch(rec, time.time_ns[i], bad, time.live[i], rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else time.time_ns[i]
            deviation = volts / limits.nominal_v - 1.0
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], abs(deviation) / (limits.high_v / limits.nominal_v - 1.0),
            )  # fmt: skip
            out.evidence[j, 0] = volts
            out.evidence[j, 1] = limits.nominal_v
            out.evidence[j, 2] = 100.0 * deviation
            out.evidence[j, 3] = rec["worst_v"]
            out.evidence[j, 4] = (end - rec["since_ns"]) / 1e9
        if idle(rec):
            give(sparse, e)
    return n


class _Detector(StationDetector, SparseDetector):
    spec = SPEC
    version = 3
    sparse_dtype: ClassVar[list[Any]] = [*SLIM_FIELDS, ("worst_v", "f8")]
    sparse_blank: ClassVar[dict[str, Any]] = SLIM_BLANK | {"worst_v": np.nan}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        # a value that is printed as the limit is within it
        tiny_v = 1e-9
        self._limits = _Limits(
            float(config.nominal_v),
            config.nominal_v * (1.0 - config.band) - tiny_v,
            config.nominal_v * (1.0 + config.band) + tiny_v,
        )
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (supply_v,) = columns(rows, SPEC.channels)
        return int(
            _aux_kernel(start, timeline(rows), supply_v, self.sparse.arrays, self._limits, self._rule, out)
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> StationDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

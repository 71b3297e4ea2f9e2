"""Cabinet too hot: ``Temperature/Body`` of a station at 70 °C for two samples and 60 s.

Each EVSE of the station may report the temperature of its own compartment: the station is too hot while any
of them is. A sensor at 150 °C and above, or at -40 °C and below, has failed and says nothing.
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
from ._kernels import NOTHING, ROOM, WATCH_BLANK, WATCH_FIELDS, Lasting, emit, watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take
from ._stations import StationDetector

SPEC = DetectorSpec(
    "cabinet_over_temperature",
    "station",
    "rule",
    (CHANNEL_ID["Temperature/Body"],),
    ("temperature_c", "limit_c", "temperature_max_c", "duration_s", "evse"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `cabinet_over_temperature`.

    Attributes
    ----------
    limit_c : float
        Limit of the cabinet. Unit: Celsius. Default 70. Source: CONVENTIONS; upper end of the extended
        temperature range of industrial electronics, at which power stages already reduce.
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS.
    least_s : float
        Time that it must last. Unit: s. Default 60. Source: CONVENTIONS.
    hold_s : float
        Clear after this long below the limit. Unit: s. Default 60. Source: CONVENTIONS, max(raise
        duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    limit_c: float = 70.0
    least_samples: int = 2
    least_s: float = 60.0
    hold_s: float = 60.0
    gap_s: float = 1800.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            limit_c=(30.0, 149.0),
            least_samples=(1, 1000),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


class _Limits(NamedTuple):
    limit: float
    failed_high: float
    failed_low: float


@kernel
def _body_kernel(
    start: int,
    time: Timeline,
    body_c: F64,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    low, high, limit = limits.failed_low, limits.failed_high, limits.limit
    for i in range(start, n):
        if out.used[0] > room:
            return i
        celsius = body_c[i]
        if not low < celsius < high:  # NaN, too
            continue
        e = time.evse[i]
        at = find(sparse, e)
        if at == 0 and celsius < limit:
            continue
        if at == 0 and full(sparse):
            return i
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        if idle(rec) or celsius > rec["max_c"]:
            rec["max_c"] = celsius
        kind = watch(rec, time.time_ns[i], 1 if celsius >= limit else 0, time.live[i], rule)
        if kind != NOTHING:
            end = rec["good_ns"] if kind == CLEAR else time.time_ns[i]
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["start_ns"], end,
                time.order[i], time.effect_ns[i], rec["max_c"] / limit,
            )  # fmt: skip
            out.evidence[j, 2] = rec["max_c"]
            out.evidence[j, 3] = (end - rec["start_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0] = celsius
                out.evidence[j, 1] = limit
        if idle(rec):
            give(sparse, e)
    return n


class _Detector(StationDetector, SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = [*WATCH_FIELDS, ("max_c", "f8")]
    sparse_blank: ClassVar[dict[str, Any]] = WATCH_BLANK | {"max_c": np.nan}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(float(config.limit_c), float(config.failed_high_c), float(config.failed_low_c))
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (body_c,) = columns(rows, SPEC.channels)
        return int(
            _body_kernel(start, timeline(rows), body_c, self.sparse.arrays, self._limits, self._rule, out)
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> StationDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

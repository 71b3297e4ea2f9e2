"""Plug too hot: an AC plug at 65 °C or a DC plug at 90 °C for two samples and 30 s; critical at 80 and
100 °C.

The hotter of the plug's sensors (``Temperature/Cable``, ``Temperature/Outlet``) decides; a sensor at 150
°C and above, or at -40 °C and below, has failed and says nothing. The severity of a finding does not fall
while it is open. AC or DC is the inventory's word; an EVSE that none declared is taken as AC, the lower
limit: this code is about safety, so not knowing counts as the worse case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, CRITICAL, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable

from ._base import columns, ns, require
from ._kernels import NOTHING, ROOM, WATCH_BLANK, WATCH_FIELDS, Lasting, emit, watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

SPEC = DetectorSpec(
    "connector_over_temperature",
    "evse",
    "rule",
    (CHANNEL_ID["Temperature/Cable"], CHANNEL_ID["Temperature/Outlet"]),
    ("temperature_c", "limit_c", "temperature_max_c", "duration_s", "sensor"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `connector_over_temperature`.

    Attributes
    ----------
    ac_warning_c, ac_critical_c : float
        Limits of an AC plug. Unit: Celsius. Default 65 and 80. Source: controllers throttle at 65 °C
        (OpenEVSE) and a wall connector halves its current above it (Tesla); IEC 62196-1 allows 50 K rise
        at the terminals.
    dc_warning_c, dc_critical_c : float
        Limits of a DC plug. Unit: Celsius. Default 90 and 100. Source: 90 °C at the contacts of CCS plugs
        (IEC 62196-3-1).
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS.
    least_s : float
        Time that it must last. Unit: s. Default 30. Source: CONVENTIONS.
    hold_s : float
        Clear after this long below the warning limit. Unit: s. Default 60. Source: CONVENTIONS, max(raise
        duration, 60 s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    failed_high_c, failed_low_c : float
        A sensor at or beyond these has failed. Unit: Celsius. Default 150 and -40. Source: CONVENTIONS,
        channels.
    """

    ac_warning_c: float = 65.0
    ac_critical_c: float = 80.0
    dc_warning_c: float = 90.0
    dc_critical_c: float = 100.0
    least_samples: int = 2
    least_s: float = 30.0
    hold_s: float = 60.0
    gap_s: float = 1800.0
    failed_high_c: float = 150.0
    failed_low_c: float = -40.0

    def __post_init__(self) -> None:
        require(
            self,
            ac_warning_c=(30.0, 149.0),
            ac_critical_c=(30.0, 149.0),
            dc_warning_c=(30.0, 149.0),
            dc_critical_c=(30.0, 149.0),
            least_samples=(1, 1000),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            failed_high_c=(100.0, 1000.0),
            failed_low_c=(-273.0, 0.0),
        )


class _Limits(NamedTuple):
    ac_warning: float
    ac_critical: float
    dc_warning: float
    dc_critical: float
    failed_high: float
    failed_low: float


@kernel
def _report(
    rec: Any,
    i: int,
    time: Timeline,
    kind: int,
    limit: float,
    hottest: float,
    sensor: int,
    out: EmissionArrays,
) -> None:
    t = time.time_ns[i]
    severity = CRITICAL if rec["raised"] == 2 else WARNING
    end = rec["good_ns"] if kind == CLEAR else t
    j = emit(
        out, time.evse[i], kind, severity, rec["live"], rec["start_ns"], end,
        time.order[i], time.effect_ns[i], rec["max_c"] / limit,
    )  # fmt: skip
    out.evidence[j, 2] = rec["max_c"]
    out.evidence[j, 3] = (end - rec["start_ns"]) / 1e9
    if kind != CLEAR:
        out.evidence[j, 0] = hottest
        out.evidence[j, 1] = limit
        out.evidence[j, 4] = sensor


@kernel
def _temperature_kernel(
    start: int,
    time: Timeline,
    cable_c: F64,
    outlet_c: F64,
    dc: U8,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, low, high = time.evse, limits.failed_low, limits.failed_high
    i = start
    while i < n:
        e = evse[i]
        at = find(sparse, e)
        warning = limits.dc_warning if dc[e] != 0 else limits.ac_warning
        critical = limits.dc_critical if dc[e] != 0 else limits.ac_critical
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            hottest, sensor = -np.inf, 0
            if low < cable_c[i] < high:  # false for NaN
                hottest, sensor = cable_c[i], 1
            if low < outlet_c[i] < high and outlet_c[i] > hottest:
                hottest, sensor = outlet_c[i], 2
            level = 2 if hottest >= critical else (1 if hottest >= warning else 0)
            if sensor != 0 and (level != 0 or at != 0):
                if at == 0 and full(sparse):
                    return i
                if at == 0:
                    at = take(sparse, e)
                rec = sparse.records[at]
                if idle(rec) or hottest > rec["max_c"]:
                    rec["max_c"] = hottest
                kind = watch(rec, time.time_ns[i], level, time.live[i], rule)
                if kind != NOTHING:
                    limit = critical if rec["raised"] == 2 else warning
                    _report(rec, i, time, kind, limit, hottest, sensor, out)
                if idle(rec):
                    give(sparse, e)
                    at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = [*WATCH_FIELDS, ("max_c", "f8")]
    sparse_blank = WATCH_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.ac_warning_c),
            float(config.ac_critical_c),
            float(config.dc_warning_c),
            float(config.dc_critical_c),
            float(config.failed_high_c),
            float(config.failed_low_c),
        )
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _temperature_kernel(
                start,
                timeline(rows),
                *columns(rows, SPEC.channels),
                devices.dc,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

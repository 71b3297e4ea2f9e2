"""Too hot for too long: what `connector_over_temperature` and `cabinet_over_temperature` share.

The hottest of the sensors that work decides. The severity of a finding does not fall while it is open.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.detecting import CLEAR, CRITICAL, WARNING, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable

from ._base import columns, ns
from ._kernels import NOTHING, ROOM, WATCH_BLANK, WATCH_FIELDS, Lasting, emit, watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

EVIDENCE: Final = ("temperature_c", "limit_c", "temperature_max_c", "duration_s")


class Limits(NamedTuple):
    """From where on it is too hot, Celsius, and between which values a sensor works (exclusive)."""

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
    first_c: F64,
    second_c: F64,
    dc: U8,
    sparse: Sparse,
    limits: Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    """Watch the hotter of two sensors; evidence as `EVIDENCE` says, and the number of the sensor."""
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
            if low < first_c[i] < high:  # false for NaN
                hottest, sensor = first_c[i], 1
            if low < second_c[i] < high and second_c[i] > hottest:
                hottest, sensor = second_c[i], 2
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


def lasting(config: Any) -> Lasting:
    """Return how long it must be so, by the settings that both have."""
    return Lasting(ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s))


class TemperatureDetector(SparseDetector):
    """The detector behind both; subclasses set `spec`, with one or two channels, `_limits` and `_rule`."""

    version = 2
    sparse_dtype: ClassVar[list[Any]] = [*WATCH_FIELDS, ("max_c", "f8")]
    sparse_blank = WATCH_BLANK
    _limits: Limits
    _rule: Lasting

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        sensors = columns(rows, self.spec.channels)
        return int(
            _temperature_kernel(
                start,
                timeline(rows),
                sensors[0],
                sensors[-1],
                devices.dc,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )

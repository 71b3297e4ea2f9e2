"""Plug-ins without the step that pressing the latch makes: three in a row, type 1 plugs sampled each second.

The proximity voltage of such a plug falls from open (above 3.16 V) to latched (1.23 to 1.82 V) over the step
of the pressed latch (2.38 to 3.16 V): no step, no latch. A plug-in counts only where no gap between samples
could hide the step. One with the step clears. Where sampling is slower, only the station's own event (CX025)
says so, under the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from models._kernel import kernel
from models.batch import F64, I8, I64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._connector import TYPE_1, TYPE_1_COMBO
from ._kernels import ROOM, emit
from ._sparse import Sparse, SparseDetector, find, full, give, take

SPEC = DetectorSpec(
    "broken_latch",
    "evse",
    "rule",
    (CHANNEL_ID["x.PP.V"],),
    ("plug_ins", "proximity_v", "step_low_v", "step_high_v"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `broken_latch`.

    Attributes
    ----------
    latched_low_v, step_low_v, step_high_v : float
        Lower end of the latched band, and the band of the pressed latch, above which the socket is open.
        Unit: V. Default 1.23, 2.38 and 3.16. Source: EVgo MREC F004; SAE J1772 6.5.9.
    latched_high_v : float
        Upper end of the latched band. Unit: V. Default 1.82. Source: EVgo MREC F000.
    plug_ins : int
        Plug-ins without the step, in a row. Unit: plug-ins. Default 3. Source: CONVENTIONS.
    sample_max_s : float
        Slowest declared sampling that can show the step. Unit: s. Default 1. Source: CONVENTIONS; a hand
        holds the latch for about a second.
    gap_s : float
        Longest time between two samples of a plug-in. Unit: s. Default 2.5. Source: two samples and
        jitter.
    """

    latched_low_v: float = 1.23
    latched_high_v: float = 1.82
    step_low_v: float = 2.38
    step_high_v: float = 3.16
    plug_ins: int = 3
    sample_max_s: float = 1.0
    gap_s: float = 2.5

    def __post_init__(self) -> None:
        require(
            self,
            latched_low_v=(0.0, 5.0),
            latched_high_v=(0.0, 5.0),
            step_low_v=(0.0, 5.0),
            step_high_v=(0.0, 5.0),
            plug_ins=(1, 100),
            sample_max_s=(0.01, 60.0),
            gap_s=(0.01, 60.0),
        )


class _Limits(NamedTuple):
    latched_low: float
    latched_high: float
    step_low: float
    step_high: float
    plug_ins: int
    sample_max_ns: int
    gap_ns: int


# what the proximity voltage has passed since the socket was open
_NOT_OPEN = 0
_OPEN = 1
_STEP = 2


@kernel
def _plug_in(rec: Any, t: int, volts: float, limits: _Limits) -> int:
    """Follow the voltage; return 1 at a plug-in without the step, 2 at one with it, else 0."""
    if rec["phase"] != _NOT_OPEN and t - rec["seen_ns"] > limits.gap_ns:
        rec["phase"] = _NOT_OPEN
    rec["seen_ns"] = t
    if volts > limits.step_high:
        rec["phase"] = _OPEN
        return 0
    if rec["phase"] == _NOT_OPEN:
        return 0
    if volts >= limits.step_low:
        rec["phase"] = _STEP
        return 0
    if not limits.latched_low <= volts <= limits.latched_high:
        return 0  # on its way
    found = 2 if rec["phase"] == _STEP else 1
    rec["phase"] = _NOT_OPEN
    return found


@kernel
def _latch_kernel(
    start: int,
    time: Timeline,
    proximity_v: F64,
    conn_type: I8,
    sample_ns: I64,
    evse_node: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        volts, e = proximity_v[i], time.evse[i]
        if volts != volts or (conn_type[e] != TYPE_1 and conn_type[e] != TYPE_1_COMBO):
            continue
        period = sample_ns[evse_node[e]]
        if period == NO_TIME or period > limits.sample_max_ns:
            continue
        at, t = find(sparse, e), time.time_ns[i]
        if at == 0 and not volts > limits.step_high:
            continue  # only an open socket begins a plug-in
        if at == 0 and full(sparse):
            return i
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        found = _plug_in(rec, t, volts, limits)
        kind = 0
        if found == 1:
            if rec["missed"] == 0:
                rec["start_ns"] = t
            rec["missed"] = min(rec["missed"] + 1, 1_000_000)
            if rec["missed"] >= limits.plug_ins and (rec["raised"] == 0 or rec["live"] < time.live[i]):
                kind = RAISE
                rec["raised"] = 1
                rec["live"] = time.live[i]
        elif found == 2:
            if rec["raised"] != 0:
                kind = CLEAR
            rec["raised"] = 0
        if kind != 0:
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["start_ns"], t, time.order[i], time.effect_ns[i], 1.0
            )
            out.evidence[j, 0] = rec["missed"]
            if kind == RAISE:
                out.evidence[j, 1] = volts
                out.evidence[j, 2] = limits.step_low
                out.evidence[j, 3] = limits.step_high
        if found == 2:
            rec["missed"] = 0
        if rec["phase"] == _NOT_OPEN and rec["missed"] == 0 and rec["raised"] == 0:
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = [
        ("seen_ns", "i8"),
        ("start_ns", "i8"),  # first plug-in without the step of those in a row
        ("missed", "i4"),
        ("phase", "u1"),
        ("raised", "u1"),
        ("live", "u1"),
    ]
    sparse_blank: ClassVar[dict[str, Any]] = {"seen_ns": NO_TIME, "start_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.latched_low_v),
            float(config.latched_high_v),
            float(config.step_low_v),
            float(config.step_high_v),
            int(config.plug_ins),
            ns(config.sample_max_s),
            ns(config.gap_s),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (proximity_v,) = columns(rows, SPEC.channels)
        return int(
            _latch_kernel(
                start,
                timeline(rows),
                proximity_v,
                devices.conn_type,
                devices.sample_ns,
                devices.evse_node,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

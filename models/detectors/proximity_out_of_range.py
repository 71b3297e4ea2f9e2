"""Proximity voltage outside 1.23 to 1.82 V while charging, type 1 plugs only: two samples, or three episodes
in ten minutes.

On plugs of other types the proximity resistor codes the cable's rating, so that no band holds for all. An
episode begins at a sample outside the band after one inside. The condition is absent when a sample lies
inside and no more than two episodes began within the last ten minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from models import batch as b
from models._kernel import kernel
from models.batch import F64, I8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._connector import TYPE_1, TYPE_1_COMBO
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, take

SPEC = DetectorSpec(
    "proximity_out_of_range",
    "evse",
    "rule",
    (CHANNEL_ID["x.PP.V"],),
    ("proximity_v", "low_v", "high_v", "episodes", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `proximity_out_of_range`.

    Attributes
    ----------
    low_v, high_v : float
        Band of a plug that is seated and latched. Unit: V. Default 1.23 and 1.82. Source: EVgo MREC F000
        and F001; SAE J1772.
    least_samples : int
        Samples outside in a row. Unit: samples. Default 2. Source: CONVENTIONS.
    episodes_window_s : float
        Three episodes that begin within this time raise, too. Unit: s. Default 600. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    low_v: float = 1.23
    high_v: float = 1.82
    least_samples: int = 2
    episodes_window_s: float = 600.0
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            low_v=(0.0, 5.0),
            high_v=(0.0, 5.0),
            least_samples=(1, MOST_SAMPLES),
            episodes_window_s=(1.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    low: float
    high: float
    samples: int
    window_ns: int


@kernel
def _level(rec: Any, t: int, outside: bool, limits: _Limits) -> int:
    """Count episodes; return 1 where the condition holds at this sample."""
    if outside:
        if rec["n_out"] == 0:
            rec["third_ns"] = rec["second_ns"]
            rec["second_ns"] = rec["first_ns"]
            rec["first_ns"] = t
        if rec["n_out"] < limits.samples:
            rec["n_out"] += 1
    else:
        rec["n_out"] = 0
    often = rec["third_ns"] != NO_TIME and t - rec["third_ns"] <= limits.window_ns
    return 1 if rec["n_out"] >= limits.samples or often else 0


@kernel
def _episodes(rec: Any, t: int, window_ns: int) -> int:
    """Return how many of the last three episodes began within the window before t."""
    n = 0
    if rec["first_ns"] != NO_TIME and t - rec["first_ns"] <= window_ns:
        n += 1
    if rec["second_ns"] != NO_TIME and t - rec["second_ns"] <= window_ns:
        n += 1
    if rec["third_ns"] != NO_TIME and t - rec["third_ns"] <= window_ns:
        n += 1
    return n


@kernel
def _over(rec: Any, t: int, window_ns: int) -> bool:
    """Return whether nothing runs, and no episode is young enough to be one of three."""
    young = rec["first_ns"] != NO_TIME and t - rec["first_ns"] <= window_ns
    return bool(rec["n_out"] == 0 and rec["raised"] == 0 and not young)


@kernel
def _report(
    rec: Any, i: int, time: Timeline, kind: int, volts: float, limits: _Limits, out: EmissionArrays
) -> None:
    t = time.time_ns[i]
    episodes = _episodes(rec, t, limits.window_ns)
    if kind != CLEAR and episodes == 3:  # the third last is where it began
        rec["since_ns"] = min(rec["since_ns"], rec["third_ns"])
    elif kind != CLEAR:
        rec["since_ns"] = min(rec["since_ns"], rec["first_ns"])
    end = rec["mark_ns"] if kind == CLEAR else t
    j = emit(
        out, time.evse[i], kind, WARNING, rec["live"], rec["since_ns"], end,
        time.order[i], time.effect_ns[i], 1.0,
    )  # fmt: skip
    out.evidence[j, 4] = (end - rec["since_ns"]) / 1e9
    if kind != CLEAR:
        out.evidence[j, 0] = volts
        out.evidence[j, 1] = limits.low
        out.evidence[j, 2] = limits.high
        out.evidence[j, 3] = episodes


@kernel
def _proximity_kernel(
    start: int,
    time: Timeline,
    proximity_v: F64,
    conn_type: I8,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        volts, e = proximity_v[i], time.evse[i]
        if volts != volts or (conn_type[e] != TYPE_1 and conn_type[e] != TYPE_1_COMBO):
            continue
        t, charging = time.time_ns[i], time.state[i] & b.CHARGING != 0
        outside = charging and not limits.low <= volts <= limits.high
        at = find(sparse, e)
        if at == 0 and not outside:
            continue
        if at == 0 and full(sparse):
            return i
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        if rec["n_out"] != 0 and t - rec["seen_ns"] > rule.gap_ns:
            rec["n_out"] = 0
        rec["seen_ns"] = t
        level = _level(rec, t, outside, limits)
        if level != 0 or rec["raised"] != 0:
            kind = slim_watch(rec, t, level != 0, time.live[i], rule)
            if kind != NOTHING:
                _report(rec, i, time, kind, volts, limits, out)
        if _over(rec, t, limits.window_ns):
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    sparse_dtype: ClassVar[list[Any]] = [
        *SLIM_FIELDS,
        ("seen_ns", "i8"),  # last sample
        ("first_ns", "i8"),  # begin of the last episode
        ("second_ns", "i8"),  # of the one before
        ("third_ns", "i8"),
        ("n_out", "i4"),  # samples outside in a row, counted up to the limit
    ]
    sparse_blank: ClassVar[dict[str, Any]] = SLIM_BLANK | {
        "seen_ns": NO_TIME,
        "first_ns": NO_TIME,
        "second_ns": NO_TIME,
        "third_ns": NO_TIME,
    }

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.low_v),
            float(config.high_v),
            int(config.least_samples),
            ns(config.episodes_window_s),
        )
        self._rule = Lasting(0, 1, ns(config.hold_s), ns(config.gap_s))
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (proximity_v,) = columns(rows, SPEC.channels)
        return int(
            _proximity_kernel(
                start,
                timeline(rows),
                proximity_v,
                devices.conn_type,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

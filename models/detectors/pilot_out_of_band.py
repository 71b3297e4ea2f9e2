"""Control pilot outside its band in state C: 5.47 to 6.53 V, for two samples, or in three episodes in 10 min.

State C is where energy flows: a current of 1 A shows it, and in a reading without currents the station's
word (chargingState Charging). A pilot near 3 V is state D, a car that asks for ventilation, and says
nothing here. An episode begins with a sample outside the band after one inside it. The finding clears after
10 min of state C without the condition; while no car charges it stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import CURRENTS, MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, in_state_c, lasting, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

_PILOT = CHANNEL_ID["x.CP.V"]

SPEC = DetectorSpec(
    "pilot_out_of_band",
    "evse",
    "rule",
    (_PILOT, *CURRENTS),
    ("pilot_v", "limit_v", "episodes", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `pilot_out_of_band`.

    Attributes
    ----------
    low_v, high_v : float
        Band of state C. Unit: V. Default 5.47 and 6.53. Source: EVgo MREC F002 and F003 (ChargeX CX014);
        IEC 61851-1 states 6 V.
    state_d_low_v, state_d_high_v : float
        A pilot between them is state D. Unit: V. Default 2.47 and 3.53. Source: IEC 61851-1, 3 V, with
        the same width.
    least_a : float
        Current that shows that energy flows. Unit: A. Default 1. Source: idle readings of meters are
        below.
    least_samples : int
        Samples outside the band in a row. Unit: samples. Default 2. Source: CONVENTIONS.
    window_s : float
        Three episodes within it raise, too. Unit: s. Default 600. Source: CONVENTIONS.
    hold_s : float
        Clear after this long inside the band. Unit: s. Default 600. Source: CONVENTIONS, max(raise
        duration, 60 s), where the window of episodes is the duration.
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    low_v: float = 5.47
    high_v: float = 6.53
    state_d_low_v: float = 2.47
    state_d_high_v: float = 3.53
    least_a: float = 1.0
    least_samples: int = 2
    window_s: float = 600.0
    hold_s: float = 600.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            low_v=(4.5, 6.0),
            high_v=(6.0, 7.5),
            state_d_low_v=(0.0, 3.0),
            state_d_high_v=(3.0, 4.5),
            least_a=(0.0, 100.0),
            least_samples=(1, MOST_SAMPLES),
            window_s=(1.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    low_v: float
    high_v: float
    window_ns: int


@kernel
def _third(rec: Any, t: int, window_ns: int) -> bool:
    """Take in the begin of an episode; return whether it is the third within the window."""
    third = bool(rec["first_ns"] != NO_TIME and t - rec["first_ns"] <= window_ns)
    if not third:
        rec["first_ns"] = rec["second_ns"]
        rec["second_ns"] = t
    return third


@kernel
def _take(rec: Any, t: int, bad: bool, live: int, limits: _Limits, rule: Lasting) -> int:
    """Take in one sample of state C; return what to emit."""
    idle = rec["raised"] == 0
    begins = idle and bad and (rec["n"] == 0 or t - rec["mark_ns"] > rule.gap_ns)
    kind = slim_watch(rec, t, bad, live, rule)
    if begins and _third(rec, t, limits.window_ns):
        rec["since_ns"] = rec["first_ns"]
        rec["mark_ns"] = NO_TIME
        rec["raised"] = 1
        rec["live"] = live
        rec["episodes"] = 3
        kind = RAISE
    elif idle and kind == RAISE:
        rec["episodes"] = 1
    if kind == CLEAR or (idle and kind == RAISE):
        rec["first_ns"] = NO_TIME
        rec["second_ns"] = NO_TIME
    return int(kind)


@kernel
def _over(rec: Any, t: int, window_ns: int) -> bool:
    """Return whether nothing runs, and no episode is young enough to be one of three."""
    return bool(idle(rec) and (rec["second_ns"] == NO_TIME or t - rec["second_ns"] > window_ns))


@kernel
def _pilot_kernel(
    start: int,
    time: Timeline,
    pilot_v: F64,
    judged: NDArray[np.bool_],
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if not judged[i]:
            continue
        v = pilot_v[i]
        bad = v < limits.low_v or v > limits.high_v
        e, t = time.evse[i], time.time_ns[i]
        at = find(sparse, e)
        if at == 0 and not bad:
            continue
        if out.used[0] > room or (at == 0 and full(sparse)):
            return i
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        kind = NOTHING
        if bad or not idle(rec):
            kind = _take(rec, t, bad, time.live[i], limits, rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else t
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], abs(v - 6.0) / (limits.high_v - 6.0),
            )  # fmt: skip
            out.evidence[j, 3] = (end - rec["since_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0] = v
                out.evidence[j, 1] = limits.low_v if v < limits.low_v else limits.high_v
                out.evidence[j, 2] = rec["episodes"]
        if _over(rec, t, limits.window_ns):
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype: ClassVar[list[Any]] = [
        ("first_ns", "i8"),  # begins of the last two episodes
        ("second_ns", "i8"),
        *SLIM_FIELDS,
        ("episodes", "u1"),  # that raised what is raised
    ]
    sparse_blank: ClassVar[dict[str, Any]] = SLIM_BLANK | {"first_ns": NO_TIME, "second_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._config = config
        self._limits = _Limits(float(config.low_v), float(config.high_v), ns(config.window_s))
        self._rule = lasting(0.0, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        if not rows.has(_PILOT):
            return len(rows)
        pilot, config = rows.column(_PILOT), self._config
        ventilated = (pilot >= config.state_d_low_v) & (pilot <= config.state_d_high_v)
        judged = (pilot == pilot) & ~ventilated & in_state_c(rows, config.least_a)
        return int(
            _pilot_kernel(
                start, timeline(rows), pilot, judged, self.sparse.arrays, self._limits, self._rule, out
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

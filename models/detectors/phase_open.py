"""A phase that carried current in this transaction carries none: below 10 % of the mean for 60 s.

It counts only where it is known that the car charges on three phases: all three carried at least 1 A in this
transaction, or the station declares three phases for it. A declaration of one or two phases (a car, or a
station that switches) takes that back until all three carry current again. Cars on one or two phases never
had three and are normal. A mean below 2 A says nothing (standby, the end of a charge). The finding clears
when all three carry current again, or the station declares fewer phases; while no three-phase car charges it
stays as it is. Readings that arrive after a newer declaration than their own time are not judged: what held
for them was overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from models._kernel import kernel
from models.batch import F64, IN_TRANSACTION, STATE_KNOWN, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.records import Record, Transaction
from models.units import NO_TIME

from ._base import columns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._marks import MARK_BLANK, MARK_FIELDS, MarkedDetector, Marks, follow
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, UNKNOWN, lasting, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

#: Word of a mark: a transaction began; 1 to 3 are phases declared.
_BEGAN: Final = 4

#: Level of a reading of which three phases are not expected: what ran is over, what is raised stays.
_UNEXPECTED: Final = -2

SPEC = DetectorSpec(
    "phase_open",
    "evse",
    "rule",
    tuple(CHANNEL_ID[f"Current.Import@L{p}"] for p in (1, 2, 3)),
    ("phase", "current_a", "mean_a", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `phase_open`.

    Attributes
    ----------
    share : float
        A phase below this share of the mean is open. Unit: 1. Default 0.1. Source: CONVENTIONS.
    carries_a : float
        A phase carries current from here. Unit: A. Default 1. Source: idle readings of meters are below.
    least_mean_a : float
        Least mean of the phases that is judged. Unit: A. Default 2. Source: 6 A, the least charging
        current of IEC 61851-1, on one phase of three.
    least_s : float
        Time that it must last. Unit: s. Default 60. Source: CONVENTIONS.
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: a time needs two samples.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    share: float = 0.1
    carries_a: float = 1.0
    least_mean_a: float = 2.0
    least_s: float = 60.0
    least_samples: int = 2
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            share=(0.001, 0.9),
            carries_a=(0.1, 100.0),
            least_mean_a=(0.1, 100.0),
            least_s=(0.0, 3600.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    share: float
    carries_a: float
    least_mean_a: float


class _Currents(NamedTuple):
    l1_a: F64
    l2_a: F64
    l3_a: F64


@kernel
def _level(rec: Any, t: int, context: int, least_a: float, mean_a: float, limits: _Limits) -> int:
    """Return 1 when a phase is open, 0 when none is, UNKNOWN or _UNEXPECTED when that cannot be said."""
    told = rec["told"] if rec["told_ns"] != NO_TIME and rec["told_ns"] <= t else 0
    if least_a >= limits.carries_a:
        rec["carried_ns"] = t
    elif context & (STATE_KNOWN | IN_TRANSACTION) == STATE_KNOWN:
        rec["carried_ns"] = NO_TIME
        told = 0
    elif context & STATE_KNOWN == 0 and mean_a < limits.carries_a / 2.0:
        rec["carried_ns"] = NO_TIME  # nothing is known of transactions: a pause ends one
    if rec["told_ns"] != NO_TIME and rec["told_ns"] > t and least_a < limits.carries_a:
        return UNKNOWN  # a word came before this reading and holds after it: the one before it is not known
    carried = rec["carried_ns"] != NO_TIME and (told == 0 or rec["carried_ns"] >= rec["told_ns"])
    if not carried and told != 3:
        return 0 if told == 1 or told == 2 else _UNEXPECTED
    if least_a >= limits.share * mean_a and mean_a >= limits.carries_a:
        return 0
    if mean_a < limits.least_mean_a:
        return UNKNOWN
    return 1 if least_a < limits.share * mean_a else 0


@kernel
def _phase_kernel(
    start: int,
    time: Timeline,
    currents: _Currents,
    dc: U8,
    marks: Marks,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room, mark = len(time.evse), len(out.order) - ROOM, 0
    for i in range(start, n):
        e = time.evse[i]
        a, b, c = currents.l1_a[i], currents.l2_a[i], currents.l3_a[i]
        mean_a = (a + b + c) / 3.0
        if mean_a != mean_a or dc[e] != 0:
            continue
        if out.used[0] > room:
            return i
        mark = follow(state, marks, mark, e, time.order[i])
        t, least_a = time.time_ns[i], min(a, b, c)
        level = _level(state[e], t, time.state[i], least_a, mean_a, limits)
        at = find(sparse, e)
        if level == UNKNOWN or (at == 0 and level != 1):
            continue
        if at == 0 and full(sparse):
            return i  # words and currents are noted again, and say the same
        if at == 0:
            at = take(sparse, e)
        rec, kind = sparse.records[at], NOTHING
        if level == _UNEXPECTED:
            rec["n"] = 0
        else:
            kind = slim_watch(rec, t, level == 1, time.live[i], rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else t
            j = emit(
                out, e, kind, WARNING, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], 1.0 - least_a / mean_a if mean_a > 0.0 else 0.0,
            )  # fmt: skip
            out.evidence[j, 3] = (end - rec["since_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0] = 1 if least_a == a else (2 if least_a == b else 3)
                out.evidence[j, 1] = least_a
                out.evidence[j, 2] = mean_a
        if idle(rec):
            give(sparse, e)
    return n


class _Detector(MarkedDetector, SparseDetector):
    spec = SPEC
    version = 2
    dtype: ClassVar[list[Any]] = [*MARK_FIELDS, ("carried_ns", "i8")]
    blank: ClassVar[dict[str, Any]] = MARK_BLANK | {"carried_ns": NO_TIME}
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(float(config.share), float(config.carries_a), float(config.least_mean_a))
        self._rule = lasting(config.least_s, config.least_samples, config.hold_s, config.gap_s)
        super().__init__(resume_state)

    def _words(self, record: Record, devices: DeviceTable) -> list[tuple[int, int, int]]:
        if not isinstance(record, Transaction) or record.evse_row < 0:
            return []
        if record.phases in {1, 2, 3}:
            return [(record.evse_row, record.time_ns, int(record.phases or 0))]
        return [(record.evse_row, record.time_ns, _BEGAN)] if record.event_type == "Started" else []

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _phase_kernel(
                start,
                timeline(rows),
                _Currents(*columns(rows, SPEC.channels)),
                devices.dc,
                self._marks,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> MarkedDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

"""Register against the integral of power over a session: 5 % apart beyond what sampling explains, and 200 Wh.

A session is a transaction where the station tells of them, else a stretch with more than 100 W. Over pairs of
neighbouring readings that carry both a register and a power, the register's steps and the trapezoids of the
power are summed. Sampling may account for P T / 2 for each step of the power, where T is the time between the
two samples (11 kW at 120 s: 183 Wh, at 1 s: 1.5 Wh), and for two resolutions of the register. A pair further
apart than three declared sample periods (at least 60 s; 1800 s where none is declared), over the begin or the
end of a transaction, over a fall of the register or over another meter is left out on both sides: between two
cars nothing need have flowed, however alike the powers before and after are.

A session is judged when it ends; while it lasts only at readings whose register advanced, with the greatest
power times the longest time that the register stood still added to the tolerance: meters that refresh their
register each quarter hour lag behind by that much. A session that is judged sound at its end clears.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I32, I64, IN_TRANSACTION, STATE_KNOWN, ReadingBatch
from models.channels import CHANNEL_ID, REGISTER_CHANNEL
from models.detecting import (
    CLEAR,
    RAISE,
    WARNING,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.devices import DeviceTable
from models.records import Transaction
from models.units import NO_REGISTER, NO_TIME

from ._base import columns, ns, require
from ._kernels import ROOM, emit
from ._marks import Marks, marks_of
from ._sparse import Sparse, SparseDetector, find, full, give, take

_POWER: Final = tuple(CHANNEL_ID[f"Power.Active.Import{phase}"] for phase in ("", "@L1", "@L2", "@L3"))

#: Energy this near to its limit is at it: a sum of floats may miss it by less.
_ROUNDING_WH: Final = 1e-6

SPEC = DetectorSpec(
    "register_mismatch",
    "evse",
    "rule",
    (*_POWER, REGISTER_CHANNEL),
    ("register_wh", "energy_wh", "difference_wh", "tolerance_wh", "difference_percent", "duration_s"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `register_mismatch`.

    Attributes
    ----------
    share : float
        Difference beyond the tolerance, of the integral of power. Unit: 1 (per unit). Default 0.05. Source:
        CONVENTIONS; 2 % for a class B register and 2 % for the power, and a margin.
    least_wh : float
        Least difference beyond the tolerance. Unit: Wh. Default 200. Source: CONVENTIONS.
    resolutions : float
        Part of the tolerance. Unit: resolutions of the meter. Default 2. Source: a register is cut at both
        ends.
    session_w : float
        Power above which a session runs, where the station tells of no transactions. Unit: W. Default 100.
        Source: CONVENTIONS, idle power of `contactor_welded`.
    gap_samples : float
        Longest time between two readings that are compared. Unit: declared sample periods. Default 3. Source:
        two lost samples in a row are bridged.
    gap_least_s : float
        Never shorter than this. Unit: s. Default 60. Source: three periods of a 20 s cadence.
    gap_undeclared_s : float
        The same where no period is declared. Unit: s. Default 1800. Source: twice the slowest usual meter
        interval (OCPP aligned data, 900 s).
    """

    share: float = 0.05
    least_wh: float = 200.0
    resolutions: float = 2.0
    session_w: float = 100.0
    gap_samples: float = 3.0
    gap_least_s: float = 60.0
    gap_undeclared_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            share=(0.001, 10.0),
            least_wh=(0.0, 1_000_000.0),
            resolutions=(0.0, 1000.0),
            session_w=(0.0, 1_000_000.0),
            gap_samples=(1.0, 100.0),
            gap_least_s=(1.0, 86_400.0),
            gap_undeclared_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    share: float
    least_wh: float
    resolutions: float
    session_w: float
    gap_samples: float
    gap_least_ns: int
    gap_undeclared_ns: int


class _Meters(NamedTuple):
    resolution_mwh: I64
    generation: NDArray[np.int32]
    evse_node: I32
    sample_ns: I64


class _Columns(NamedTuple):
    """The channels read, NaN where a batch has none."""

    power_w: F64
    l1_w: F64
    l2_w: F64
    l3_w: F64


_DTYPE: Final[list[Any]] = [
    ("reg_mwh", "i8"),  # last reading with both
    ("time_ns", "i8"),
    ("begin_ns", "i8"),  # of the session
    ("counted_mwh", "i8"),  # the register's steps in the session
    ("energy_wh", "f8"),  # integral of power over the same time
    ("unsure_wh", "f8"),  # what sampling accounts for
    ("power_w", "f4"),
    ("max_w", "f4"),
    ("still_s", "f4"),  # longest time that the register stood still
    ("waits_s", "f4"),  # since it advanced last
    ("generation", "u2"),  # of the meter, its last 16 bits
    ("session", "u1"),
]

#: What is raised.
_SPARSE_DTYPE: Final[list[Any]] = [("start_ns", "i8"), ("live", "u1")]


@kernel
def _power(c: _Columns, i: int) -> float:
    """Return the power of reading i, or the sum of the phases that are there; NaN when there is none."""
    if c.power_w[i] == c.power_w[i]:
        return float(c.power_w[i])
    total, n = 0.0, 0
    if c.l1_w[i] == c.l1_w[i]:
        total, n = total + c.l1_w[i], n + 1
    if c.l2_w[i] == c.l2_w[i]:
        total, n = total + c.l2_w[i], n + 1
    if c.l3_w[i] == c.l3_w[i]:
        total, n = total + c.l3_w[i], n + 1
    return float(total) if n > 0 else np.nan


@kernel
def _tolerance(rec: Any, ended: int, resolution: int, limits: _Limits) -> float:
    """Return how far register and integral may be apart, Wh."""
    tolerance = rec["unsure_wh"] + limits.resolutions * resolution / 1000.0
    if ended == 0:
        tolerance += rec["max_w"] * rec["still_s"] / 3600.0
    return float(tolerance)


@kernel
def _wrong(rec: Any, tolerance: float, limits: _Limits) -> bool:
    beyond = abs(rec["counted_mwh"] / 1000.0 - rec["energy_wh"]) - tolerance
    return bool(beyond >= limits.least_wh - _ROUNDING_WH and beyond >= limits.share * rec["energy_wh"])


@kernel
def _judge(
    rec: Any,
    sparse: Sparse,
    i: int,
    time: Timeline,
    t: int,
    tolerance: float,
    wrong: bool,
    limits: _Limits,
    out: EmissionArrays,
) -> None:
    """Raise, or clear at the end of a session, at reading i; `t` is the last reading that is judged."""
    counted_wh = rec["counted_mwh"] / 1000.0
    difference = counted_wh - rec["energy_wh"]
    e, live, kind = time.evse[i], time.live[i], 0
    at = find(sparse, e)
    if wrong:
        if at == 0:
            at, kind = take(sparse, e), RAISE
            sparse.records[at]["start_ns"] = rec["begin_ns"]
        elif live != 0 and sparse.records[at]["live"] == 0:
            kind = RAISE
        if kind != 0:
            sparse.records[at]["live"] = live
    elif at != 0 and limits.share * rec["energy_wh"] >= limits.least_wh:
        kind = CLEAR
    if kind == 0:
        return
    raised = sparse.records[at]
    j = emit(
        out, e, kind, WARNING, raised["live"], raised["start_ns"], t,
        time.order[i], time.effect_ns[i], abs(difference) / max(tolerance + limits.least_wh, 1.0),
    )  # fmt: skip
    out.evidence[j, 0] = counted_wh
    out.evidence[j, 1] = rec["energy_wh"]
    out.evidence[j, 2] = difference
    out.evidence[j, 3] = tolerance
    if rec["energy_wh"] > 0.0:
        out.evidence[j, 4] = 100.0 * difference / rec["energy_wh"]
    out.evidence[j, 5] = (t - rec["begin_ns"]) / 1e9
    if kind == CLEAR:
        give(sparse, e)


@kernel
def _pair(rec: Any, reg: int, power: float, t: int, resolution: int, limits: _Limits) -> bool:
    """Add the time since the last reading to the session; return whether the register advanced."""
    seconds = (t - rec["time_ns"]) / 1e9
    hours = seconds / 3600.0
    step = reg - rec["reg_mwh"]
    if step < -limits.resolutions * resolution:
        rec["waits_s"] = 0.0
        return False
    rec["waits_s"] += seconds
    rec["counted_mwh"] += step
    rec["energy_wh"] += 0.5 * (power + rec["power_w"]) * hours
    rec["unsure_wh"] += 0.5 * abs(power - rec["power_w"]) * hours
    rec["max_w"] = max(rec["max_w"], power)
    if step <= 0:
        return False
    rec["still_s"] = max(rec["still_s"], rec["waits_s"])
    rec["waits_s"] = 0.0
    return True


@kernel
def _begin(rec: Any, reg: int, power: float, t: int, near: bool, resolution: int, limits: _Limits) -> None:
    """Start a session at the reading before, or at t if there is none of this meter."""
    rec["begin_ns"] = rec["time_ns"] if rec["time_ns"] != NO_TIME else t
    rec["counted_mwh"] = 0
    rec["energy_wh"] = 0.0
    rec["unsure_wh"] = 0.0
    rec["max_w"] = 0.0
    rec["still_s"] = 0.0
    rec["waits_s"] = 0.0 if near else (t - rec["begin_ns"]) / 1e9
    if near:
        _pair(rec, reg, power, t, resolution, limits)


@kernel
def _register_kernel(
    start: int,
    time: Timeline,
    c: _Columns,
    reg_mwh: I64,
    meters: _Meters,
    marks: Marks,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room, i, at = len(time.evse), len(out.order) - ROOM, start, 0
    while i < n:
        e = time.evse[i]
        rec = state[e]
        resolution, generation = meters.resolution_mwh[e], meters.generation[e] & 0xFFFF
        told_ns = np.int64(NO_TIME)
        sample_ns = meters.sample_ns[meters.evse_node[e]]
        gap_ns = limits.gap_undeclared_ns
        if sample_ns != NO_TIME:
            gap_ns = max(limits.gap_least_ns, int(limits.gap_samples * sample_ns))
        while i < n and time.evse[i] == e:
            if out.used[0] > room or full(sparse):
                return i
            reg, power = reg_mwh[i], _power(c, i)
            if reg != NO_REGISTER and power == power:
                while marks.evse[at] < e or (marks.evse[at] == e and marks.order[at] < time.order[i]):
                    if marks.evse[at] == e:
                        told_ns = marks.time_ns[at]
                    at += 1
                t, power = time.time_ns[i], float(np.float32(max(power, 0.0)))
                told = time.state[i] & STATE_KNOWN
                session = time.state[i] & IN_TRANSACTION if told != 0 else power > limits.session_w
                if rec["generation"] != generation:
                    rec["session"] = 0
                    rec["time_ns"] = NO_TIME
                    rec["generation"] = generation
                advanced = False
                known = rec["time_ns"] != NO_TIME
                near = known and not rec["time_ns"] < told_ns <= t and t - rec["time_ns"] <= gap_ns
                if known and rec["session"] != 0:
                    if near:
                        advanced = _pair(rec, reg, power, t, resolution, limits)
                    else:
                        rec["waits_s"] = 0.0
                    if not session or advanced:
                        tolerance = _tolerance(rec, 0 if session else 1, resolution, limits)
                        wrong = _wrong(rec, tolerance, limits)
                        if wrong or not session:
                            _judge(rec, sparse, i, time, t, tolerance, wrong, limits, out)
                elif session:
                    _begin(rec, reg, power, t, near, resolution, limits)
                rec["session"] = 1 if session else 0
                rec["reg_mwh"] = reg
                rec["power_w"] = power
                rec["time_ns"] = t
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"time_ns": NO_TIME, "begin_ns": NO_TIME}
    sparse_dtype = _SPARSE_DTYPE
    sparse_blank: ClassVar[dict[str, Any]] = {"start_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._marks = marks_of([])
        #: EVSE -> newest begin or end of a transaction, until a reading after it came.
        self._told: dict[int, int] = dict(resume_state.get("told", [])) if resume_state is not None else {}
        self._limits = _Limits(
            float(config.share),
            float(config.least_wh),
            float(config.resolutions),
            float(config.session_w),
            float(config.gap_samples),
            ns(config.gap_least_s),
            ns(config.gap_undeclared_s),
        )
        super().__init__(resume_state)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self.table.reserve(seen.devices.n_evses)
        found = [(evse, -1, time_ns, 1) for evse, time_ns in self._told.items()]
        found += [
            (record.evse_row, record.at.order, record.time_ns, 1)
            for record in seen.records
            if isinstance(record, Transaction)
            and record.evse_row >= 0
            and record.event_type in {"Started", "Ended"}
        ]
        self._marks = marks_of(found)
        super().process(seen, out)
        newest = {evse: time_ns for evse, _, time_ns, _ in sorted(found, key=lambda mark: mark[:2])}
        last_ns = self.table.rows["time_ns"]
        self._told = {evse: time_ns for evse, time_ns in sorted(newest.items()) if time_ns > last_ns[evse]}
        self._marks = marks_of([])

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return super().snapshot() | {"told": [list(told) for told in self._told.items()]}

    def nbytes(self) -> int:
        """Return the bytes of state held (of what was told an estimate)."""
        return super().nbytes() + 100 * len(self._told)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        meters = _Meters(
            devices.resolution_mwh, devices.meter_generation, devices.evse_node, devices.sample_ns
        )
        return int(
            _register_kernel(
                start,
                timeline(rows),
                _Columns(*columns(rows, _POWER)),
                rows.reg_mwh,
                meters,
                self._marks,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

"""Short supply voltage dip: a sample below 0.90 Un that recovers within 60 s.

Needs samples at least every 20 s (the node's declared `sample_s`), else a dip cannot be told from low
voltage. It is raised at the first sample with all phases at 0.90 Un or more, starts at the first low
sample, ends at the recovery, and clears 60 s after the last dip. A low voltage that lasts longer is
`under_voltage`, never a dip.

Phases and readings that say nothing are those of `under_voltage`: all phases below 5 % is an
interruption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16, I32, I64, ReadingBatch
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import GRID_CHANNELS, ns, require, slots
from ._kernels import NOTHING, ROOM, emit, phase_view, pick_phases
from ._sparse import Sparse, SparseDetector, find, full, give, take
from ._voltage import Inventory, inventory

SPEC = DetectorSpec(
    "voltage_dip",
    "evse",
    "rule",
    GRID_CHANNELS,
    ("voltage_min_v", "u_n_v", "limit_v", "duration_s", "phase"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `voltage_dip`.

    Attributes
    ----------
    dip_pu : float
        A sample below this share of Un is low. Unit: 1 (per unit). Default 0.90. Source: EN 50160, dip
        threshold.
    longest_s : float
        Longest time from the first low sample to the recovery. Unit: s. Default 60. Source: EN 50160,
        dips last up to a minute; CONVENTIONS.
    sample_max_s : float
        Slower nodes are not judged. Unit: s. Default 20. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without a dip. Unit: s. Default 60. Source: CONVENTIONS, clear.
    unpowered_pu : float
        Readings with all phases below this share say nothing. Unit: 1 (per unit). Default 0.05. Source:
        EN 50160, interruption below 5 %.
    undeclared_v : float
        Un taken for EVSEs without inventory. Unit: V. Default 208. Source: as in `under_voltage`.
    undeclared_floor_v : float
        Voltages below this say nothing of EVSEs without inventory. Unit: V. Default 150. Source: as in
        `under_voltage`.
    """

    dip_pu: float = 0.90
    longest_s: float = 60.0
    sample_max_s: float = 20.0
    hold_s: float = 60.0
    unpowered_pu: float = 0.05
    undeclared_v: float = 208.0
    undeclared_floor_v: float = 150.0

    def __post_init__(self) -> None:
        require(
            self,
            dip_pu=(0.1, 1.0),
            longest_s=(1.0, 600.0),
            sample_max_s=(0.1, 60.0),
            hold_s=(1.0, 86_400.0),
            unpowered_pu=(0.0, 0.5),
            undeclared_v=(50.0, 1000.0),
            undeclared_floor_v=(0.0, 1000.0),
        )


class _Limits(NamedTuple):
    dip: float
    longest_ns: int
    sample_max_ns: int
    hold_ns: int
    unpowered: float
    undeclared_v: float
    undeclared_floor_v: float


class _Nodes(NamedTuple):
    evse_node: I32
    sample_ns: I64


_DTYPE: Final[list[Any]] = [
    ("low_ns", "i8"),  # first sample of the low run, NO_TIME outside one
    ("start_ns", "i8"),
    ("end_ns", "i8"),  # last recovery
    ("lowest_v", "f8"),
    ("phase", "i1"),
    ("raised", "u1"),
    ("live", "u1"),
]


@kernel
def _step(rec: Any, t: int, lowest: float, phase: int, limit: float, live: int, limits: _Limits) -> int:
    """Take in the lowest phase of one sample; return what to emit first (a clear may follow a raise)."""
    if lowest < limit:
        if rec["low_ns"] == NO_TIME:
            rec["low_ns"] = t
            rec["lowest_v"] = lowest
            rec["phase"] = phase
        elif lowest < rec["lowest_v"]:
            rec["lowest_v"] = lowest
            rec["phase"] = phase
        return NOTHING
    if rec["low_ns"] != NO_TIME:
        began = rec["low_ns"]
        rec["low_ns"] = NO_TIME
        if t - began <= limits.longest_ns:
            rec["end_ns"] = t
            if rec["raised"] == 0 or (live != 0 and rec["live"] == 0):
                rec["start_ns"] = began
                rec["raised"] = 1
                rec["live"] = live
                return RAISE
    if rec["raised"] != 0 and t - rec["end_ns"] >= limits.hold_ns:
        rec["raised"] = 0
        return CLEAR
    return NOTHING


@kernel
def _report(
    rec: Any, i: int, time: Timeline, kind: int, u_n: float, limit: float, out: EmissionArrays
) -> None:
    score = (u_n - rec["lowest_v"]) / (u_n - limit) if kind == RAISE else 0.0
    j = emit(
        out, time.evse[i], kind, WARNING, rec["live"], rec["start_ns"], rec["end_ns"],
        time.order[i], time.effect_ns[i], score,
    )  # fmt: skip
    if kind == RAISE:
        out.evidence[j, 0] = rec["lowest_v"]
        out.evidence[j, 1] = u_n
        out.evidence[j, 2] = limit
        out.evidence[j, 3] = (rec["end_ns"] - rec["start_ns"]) / 1e9
        out.evidence[j, 4] = rec["phase"]


@njit(cache=True, nogil=True, fastmath=False)
def _dip_kernel(
    start: int,
    time: Timeline,
    values: F64,
    columns: I16,
    inv: Inventory,
    nodes: _Nodes,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, time_ns, live = time.evse, time.time_ns, time.live
    chosen = np.empty(4, np.int16)
    i = start
    while i < n:
        e = evse[i]
        at = find(sparse, e)
        sample_ns = nodes.sample_ns[nodes.evse_node[e]]
        judged = sample_ns != NO_TIME and sample_ns <= limits.sample_max_ns
        declared = inv.declared[e] != 0
        u_n = inv.u_n_v[e] if declared else limits.undeclared_v
        floor = 0.0 if declared else limits.undeclared_floor_v
        limit = limits.dip * u_n
        least = max(limits.unpowered * u_n, floor)
        if pick_phases(inv.dc[e], inv.phases[e], columns, chosen) == 0:
            judged = False
        one, two = phase_view(values, chosen, 0), phase_view(values, chosen, 1)
        three, single = phase_view(values, chosen, 2), phase_view(values, chosen, 3)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            a = one[i] if chosen[0] >= 0 else np.nan
            if chosen[3] >= 0 and a != a:
                a = single[i]
            b = two[i] if chosen[1] >= 0 else np.nan
            c = three[i] if chosen[2] >= 0 else np.nan
            if judged and (a >= least or b >= least or c >= least):
                lowest, phase = np.inf, 0
                if a >= floor:
                    lowest, phase = a, 1
                if floor <= b < lowest:
                    lowest, phase = b, 2
                if floor <= c < lowest:
                    lowest, phase = c, 3
                if lowest < limit or at != 0:
                    if at == 0 and full(sparse):
                        return i
                    if at == 0:
                        at = take(sparse, e)
                    rec = sparse.records[at]
                    kind = _step(rec, time_ns[i], lowest, phase, limit, live[i], limits)
                    if kind != NOTHING:
                        _report(rec, i, time, kind, u_n, limit, out)
                    if rec["low_ns"] == NO_TIME and rec["raised"] == 0:
                        give(sparse, e)
                        at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    sparse_dtype = _DTYPE
    sparse_blank: ClassVar[dict[str, Any]] = {"low_ns": NO_TIME, "start_ns": NO_TIME, "end_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.dip_pu),
            ns(config.longest_s),
            ns(config.sample_max_s),
            ns(config.hold_s),
            float(config.unpowered_pu),
            float(config.undeclared_v),
            float(config.undeclared_floor_v),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _dip_kernel(
                start,
                timeline(rows),
                np.ascontiguousarray(rows.values),
                slots(rows, GRID_CHANNELS),
                inventory(devices),
                _Nodes(devices.evse_node, devices.sample_ns),
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

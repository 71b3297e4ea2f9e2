"""Import register stands still while energy flows.

Raised when the register stands for at least 60 s and at two readings running (one reading may be stale)
although, since it last advanced, the integral of ``Power.Active.Import`` (or of the sum of its phases)
exceeds the greatest of two resolutions, 50 Wh, and what sampling can account for: P T / 2 for each step
of the power, where T is the time between the two samples. The integral is the trapezoid over event time;
two samples further apart than three declared sample periods (at least 60 s; 1800 s where none is
declared) add nothing, since what flowed between them is not known. It starts at the last advance of the
register and clears 60 s after the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I32, I64, ReadingBatch
from models.channels import CHANNEL_ID, REGISTER_CHANNEL
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_REGISTER, NO_TIME

from ._base import RowDetector, columns, ns, require
from ._kernels import ROOM, emit
from ._sparse import Sparse, SparseDetector, find, full, give, take

_POWER: Final = tuple(CHANNEL_ID[f"Power.Active.Import{phase}"] for phase in ("", "@L1", "@L2", "@L3"))

#: Energy this near to its limit is at it: a sum of floats may miss it by less.
_ROUNDING_WH: Final = 1e-6

SPEC = DetectorSpec(
    "register_stuck",
    "evse",
    "rule",
    (*_POWER, REGISTER_CHANNEL),
    ("energy_wh", "limit_wh", "register_wh", "resolution_wh", "flat_s", "power_w"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `register_stuck`.

    Attributes
    ----------
    resolutions : float
        Energy of this many resolutions may flow. Unit: resolutions of the meter. Default 2. Source:
        CONVENTIONS.
    least_wh : float
        Energy that may flow in any case. Unit: Wh. Default 50. Source: CONVENTIONS.
    least_s : float
        Time for which the register must stand. Unit: s. Default 60. Source: meters that refresh their
        register each minute.
    least_readings : int
        Readings of the register beyond the limit. Unit: readings. Default 2. Source: a stale register in
        one reading is lawful (seen in the sample log).
    hold_s : float
        Clear this long after the register advances again. Unit: s. Default 60. Source: CONVENTIONS,
        clear.
    gap_samples : float
        Longest time between two power samples that are integrated. Unit: declared sample periods. Default
        3. Source: two lost samples in a row are bridged.
    gap_least_s : float
        Never shorter than this. Unit: s. Default 60. Source: three periods of a 20 s cadence.
    gap_undeclared_s : float
        The same where no period is declared. Unit: s. Default 1800. Source: twice the slowest usual meter
        interval (OCPP aligned data, 900 s).
    """

    resolutions: float = 2.0
    least_wh: float = 50.0
    least_s: float = 60.0
    least_readings: int = 2
    hold_s: float = 60.0
    gap_samples: float = 3.0
    gap_least_s: float = 60.0
    gap_undeclared_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            resolutions=(0.0, 1000.0),
            least_wh=(0.0, 1_000_000.0),
            least_s=(0.0, 86_400.0),
            least_readings=(1, 1000),
            hold_s=(1.0, 86_400.0),
            gap_samples=(1.0, 100.0),
            gap_least_s=(1.0, 86_400.0),
            gap_undeclared_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    resolutions: float
    least_wh: float
    least_ns: int
    least_readings: int
    hold_ns: int
    gap_samples: float
    gap_least_ns: int
    gap_undeclared_ns: int


class _StuckMeters(NamedTuple):
    resolution_mwh: I64
    generation: NDArray[np.int32]
    evse_node: I32
    sample_ns: I64


_DTYPE: Final[list[Any]] = [
    ("base_mwh", "i8"),  # register that stands still
    ("base_ns", "i8"),  # since when
    ("power_ns", "i8"),
    ("energy_wh", "f8"),  # integral since base_ns
    ("unsure_wh", "f8"),  # what sampling can account for
    ("power_w", "f4"),
    ("generation", "u2"),  # of the meter, its last 16 bits
]

#: Of EVSEs through which more energy flows than may be, or of which something is raised.
_SPARSE_DTYPE: Final[list[Any]] = [
    ("start_ns", "i8"),
    ("good_ns", "i8"),
    ("n", "i4"),  # readings of the register beyond the limit
    ("raised", "u1"),
    ("live", "u1"),
]


class _StuckColumns(NamedTuple):
    """The channels read, NaN where a batch has none."""

    power_w: F64
    l1_w: F64
    l2_w: F64
    l3_w: F64


@kernel
def _phase_sum(l1_w: float, l2_w: float, l3_w: float) -> float:
    """Return the sum of the phases that are there, NaN when none is."""
    total, n = 0.0, 0
    if l1_w == l1_w:
        total, n = total + l1_w, n + 1
    if l2_w == l2_w:
        total, n = total + l2_w, n + 1
    if l3_w == l3_w:
        total, n = total + l3_w, n + 1
    return total if n > 0 else np.nan


@kernel
def _hours(rec: Any, t: int, gap_ns: int) -> float:
    """Return half the time since the last power sample, h; 0 where what flowed meanwhile is not known."""
    if rec["power_ns"] == NO_TIME or t - rec["power_ns"] > gap_ns:
        return 0.0
    return float((t - rec["power_ns"]) / 7.2e12)


@kernel
def _integrate(rec: Any, power_w: float, t: int, gap_ns: int) -> None:
    """Add the trapezoid from the last power sample to this one."""
    half_h = _hours(rec, t, gap_ns)
    if half_h > 0.0:
        rec["energy_wh"] += (power_w + rec["power_w"]) * half_h
        rec["unsure_wh"] += abs(power_w - rec["power_w"]) * half_h
    rec["power_w"] = power_w
    rec["power_ns"] = t


@kernel
def _judge(
    rec: Any, odd: Any, i: int, time: Timeline, resolution: int, limits: _Limits, out: EmissionArrays
) -> None:
    """Raise or clear at reading i, whose register is taken in."""
    t = time.time_ns[i]
    limit = max(limits.resolutions * resolution / 1000.0, limits.least_wh, rec["unsure_wh"])
    if rec["energy_wh"] > limit + _ROUNDING_WH:
        odd["n"] += 1
        if odd["n"] < limits.least_readings or t - rec["base_ns"] < limits.least_ns:
            return
        odd["good_ns"] = NO_TIME
        if odd["raised"] == 0:
            odd["start_ns"] = rec["base_ns"]
            odd["live"] = 0
        elif time.live[i] == 0 or odd["live"] != 0:
            return
        odd["raised"] = 1
        odd["live"] = time.live[i]
        j = emit(
            out, time.evse[i], RAISE, WARNING, odd["live"], odd["start_ns"], t,
            time.order[i], time.effect_ns[i], rec["energy_wh"] / limit,
        )  # fmt: skip
        out.evidence[j, 0] = rec["energy_wh"]
        out.evidence[j, 1] = limit
        out.evidence[j, 2] = rec["base_mwh"] / 1000.0
        out.evidence[j, 3] = resolution / 1000.0
        out.evidence[j, 4] = (t - rec["base_ns"]) / 1e9
        out.evidence[j, 5] = rec["power_w"]
    elif odd["raised"] != 0 and odd["good_ns"] != NO_TIME and t - odd["good_ns"] >= limits.hold_ns:
        odd["raised"] = 0
        emit(
            out, time.evse[i], CLEAR, WARNING, odd["live"], odd["start_ns"], odd["good_ns"],
            time.order[i], time.effect_ns[i], 0.0,
        )  # fmt: skip


@kernel
def _advance(rec: Any, reg: int, t: int, generation: int) -> None:
    """The register stands at `reg` from t on."""
    rec["base_mwh"] = reg
    rec["base_ns"] = t
    rec["generation"] = generation
    rec["energy_wh"] = 0.0
    rec["unsure_wh"] = 0.0


@kernel
def _stuck_kernel(
    start: int,
    time: Timeline,
    columns: _StuckColumns,
    reg_mwh: I64,
    meters: _StuckMeters,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, time_ns = time.evse, time.time_ns
    all_w, l1_w, l2_w, l3_w = columns.power_w, columns.l1_w, columns.l2_w, columns.l3_w
    i = start
    while i < n:
        e = evse[i]
        rec = state[e]
        at = find(sparse, e)
        resolution, generation = meters.resolution_mwh[e], meters.generation[e] & 0xFFFF
        sample_ns = meters.sample_ns[meters.evse_node[e]]
        gap_ns = limits.gap_undeclared_ns
        if sample_ns != NO_TIME:
            gap_ns = max(limits.gap_least_ns, int(limits.gap_samples * sample_ns))
        least_wh = max(limits.resolutions * resolution / 1000.0, limits.least_wh)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            t = time_ns[i]
            power_w = all_w[i] if all_w[i] == all_w[i] else _phase_sum(l1_w[i], l2_w[i], l3_w[i])
            power_w = float(np.float32(max(power_w, 0.0))) if power_w == power_w else np.nan  # no export
            if at == 0 and full(sparse):
                more_wh = (power_w + rec["power_w"]) * _hours(rec, t, gap_ns)
                if rec["energy_wh"] > least_wh or rec["energy_wh"] + more_wh > least_wh:
                    return i
            if power_w == power_w:
                _integrate(rec, power_w, t, gap_ns)
            reg = reg_mwh[i]
            if reg != NO_REGISTER:
                change = reg - rec["base_mwh"]
                other = rec["base_ns"] == NO_TIME or rec["generation"] != generation
                if other or change > 0 or change < -limits.resolutions * resolution:
                    _advance(rec, reg, t, generation)
                    if at != 0:
                        odd = sparse.records[at]
                        odd["n"] = 0
                        if odd["good_ns"] == NO_TIME:
                            odd["good_ns"] = t
                elif at == 0 and rec["energy_wh"] > least_wh:
                    at = take(sparse, e)
                if at != 0:
                    _judge(rec, sparse.records[at], i, time, resolution, limits, out)
                    if sparse.records[at]["raised"] == 0 and sparse.records[at]["n"] == 0:
                        give(sparse, e)
                        at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"base_ns": NO_TIME, "power_ns": NO_TIME, "power_w": np.nan}
    sparse_dtype = _SPARSE_DTYPE
    sparse_blank: ClassVar[dict[str, Any]] = {"start_ns": NO_TIME, "good_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.resolutions),
            float(config.least_wh),
            ns(config.least_s),
            int(config.least_readings),
            ns(config.hold_s),
            float(config.gap_samples),
            ns(config.gap_least_s),
            ns(config.gap_undeclared_s),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        meters = _StuckMeters(
            devices.resolution_mwh, devices.meter_generation, devices.evse_node, devices.sample_ns
        )
        return int(
            _stuck_kernel(
                start,
                timeline(rows),
                _StuckColumns(*columns(rows, _POWER)),
                rows.reg_mwh,
                meters,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

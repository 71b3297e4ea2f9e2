"""Import register falls by more than two resolutions of the meter.

The fall is measured from the highest register since the last one found, so that many small falls count as
what they add up to. No rollback is: another meter (the inventory declares a new serial), and the
roll-over of a meter whose modulus is declared, if the energy it implies could have flowed since the last
register (1.5 x `p_max_w`, 1 MW when unknown). The finding starts at the last register before the fall and
clears after 60 s without another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I64, ReadingBatch
from models.channels import REGISTER_CHANNEL
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_REGISTER, NO_TIME

from ._base import ns, require
from ._kernels import ROOM, emit
from ._sparse import Sparse, SparseDetector, find, full, give, take

SPEC = DetectorSpec(
    "register_rollback",
    "evse",
    "rule",
    (REGISTER_CHANNEL,),
    ("fall_wh", "register_before_wh", "register_after_wh", "resolution_wh"),
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `register_rollback`.

    Attributes
    ----------
    resolutions : float
        A fall beyond this many resolutions counts. Unit: resolutions of the meter. Default 2. Source:
        CONVENTIONS.
    hold_s : float
        Clear after this long without a fall. Unit: s. Default 60. Source: CONVENTIONS, clear.
    power_factor : float
        A roll-over may imply at most this share of `p_max_w`. Unit: 1. Default 1.5. Source: CONVENTIONS,
        implausible.
    unknown_p_max_w : float
        `p_max_w` where the inventory has none. Unit: W. Default 1000000. Source: above the largest public
        chargers.
    """

    resolutions: float = 2.0
    hold_s: float = 60.0
    power_factor: float = 1.5
    unknown_p_max_w: float = 1_000_000.0

    def __post_init__(self) -> None:
        require(
            self,
            resolutions=(0.0, 1000.0),
            hold_s=(1.0, 86_400.0),
            power_factor=(1.0, 10.0),
            unknown_p_max_w=(1000.0, 10_000_000.0),
        )


class _Limits(NamedTuple):
    resolutions: float
    hold_ns: int
    power_factor: float
    unknown_p_max_w: float


class _Meters(NamedTuple):
    resolution_mwh: I64
    modulus_mwh: I64
    generation: NDArray[np.int32]
    p_max_w: F64


_DTYPE: Final[list[Any]] = [
    ("high_mwh", "i8"),  # highest register since the last fall found
    ("last_ns", "i8"),
    ("generation", "u1"),  # of the meter, its low byte: nobody changes 256 meters between two registers
]

#: Of what is raised.
_RAISED: Final[list[Any]] = [("start_ns", "i8"), ("fall_ns", "i8"), ("live", "u1")]


@kernel
def _rolled_over(
    rec: Any, reg: int, t: int, modulus: int, resolution: int, p_max_w: float, limits: _Limits
) -> bool:
    """Return whether the fall to `reg` is the roll-over of a counter with a known modulus."""
    if modulus <= 0 or rec["high_mwh"] > modulus or reg < 0:
        return False
    if not p_max_w > 0.0:
        p_max_w = limits.unknown_p_max_w
    hours = (t - rec["last_ns"]) / 3.6e12
    plausible = limits.power_factor * p_max_w * hours * 1000.0 + limits.resolutions * resolution
    return bool(modulus - rec["high_mwh"] + reg <= plausible)


@kernel
def _raise(
    rec: Any, raised: Any, i: int, time: Timeline, reg: int, resolution: int, out: EmissionArrays
) -> None:
    raised["live"] = time.live[i]
    raised["start_ns"] = rec["last_ns"]
    j = emit(
        out, time.evse[i], RAISE, WARNING, raised["live"], raised["start_ns"], time.time_ns[i],
        time.order[i], time.effect_ns[i], 1.0,
    )  # fmt: skip
    out.evidence[j, 0] = (rec["high_mwh"] - reg) / 1000.0
    out.evidence[j, 1] = rec["high_mwh"] / 1000.0
    out.evidence[j, 2] = reg / 1000.0
    out.evidence[j, 3] = resolution / 1000.0


@kernel
def _rollback_kernel(
    start: int,
    time: Timeline,
    reg_mwh: I64,
    meters: _Meters,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, time_ns = time.evse, time.time_ns
    i = start
    while i < n:
        e = evse[i]
        rec, at = state[e], find(sparse, e)
        resolution, generation = meters.resolution_mwh[e], meters.generation[e] & 255
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            reg = reg_mwh[i]
            if reg == NO_REGISTER:
                i += 1
                continue
            t = time_ns[i]
            if rec["last_ns"] == NO_TIME or rec["generation"] != generation or reg >= rec["high_mwh"]:
                rec["high_mwh"] = reg
                rec["generation"] = generation
            elif rec["high_mwh"] - reg > limits.resolutions * resolution:
                if not _rolled_over(
                    rec, reg, t, meters.modulus_mwh[e], resolution, meters.p_max_w[e], limits
                ):
                    if at == 0 and full(sparse):
                        return i
                    new = at == 0
                    if new:
                        at = take(sparse, e)
                    raised = sparse.records[at]
                    raised["fall_ns"] = t
                    if new or (time.live[i] != 0 and raised["live"] == 0):
                        _raise(rec, raised, i, time, reg, resolution, out)
                rec["high_mwh"] = reg
            rec["last_ns"] = t
            if at != 0 and t - sparse.records[at]["fall_ns"] >= limits.hold_ns:
                raised = sparse.records[at]
                emit(
                    out, e, CLEAR, WARNING, raised["live"], raised["start_ns"], raised["fall_ns"],
                    time.order[i], time.effect_ns[i], 0.0,
                )  # fmt: skip
                give(sparse, e)
                at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"last_ns": NO_TIME}
    sparse_dtype = _RAISED
    sparse_blank: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.resolutions),
            ns(config.hold_s),
            float(config.power_factor),
            float(config.unknown_p_max_w),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        meters = _Meters(
            devices.resolution_mwh, devices.modulus_mwh, devices.meter_generation, devices.p_max_w
        )
        return int(
            _rollback_kernel(
                start,
                timeline(rows),
                rows.reg_mwh,
                meters,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

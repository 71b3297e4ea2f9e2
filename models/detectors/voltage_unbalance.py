"""Unbalance of the three phase voltages: negative sequence above 2 % of the positive one over ten minutes.

Meters give magnitudes without angles, so the angles are taken as 120 degrees apart; a shifted neutral then
counts as well. Means are over clock-aligned ten-minute windows with at least three readings that carry all
three phases, judged when the first such reading after the window arrives. A whole window at or below the
limit clears.

Unequal currents of a single-phase car are no unbalance of the supply: only voltages are read, on the grid
side (at the inlet of DC stations). EVSEs that declare one or two phases are not judged; where the number of
phases is not declared, a phase below 5 % of Un is taken as not connected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16, ReadingBatch
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import GRID_CHANNELS, ns, require, slots
from ._kernels import ROOM, emit, phase_view, pick_phases
from ._sparse import Sparse, SparseDetector, find, full, give, take
from ._voltage import Inventory, inventory

_TEN_NS: Final = 600_000_000_000
_HALF_SQRT3: Final = math.sqrt(3.0) / 2.0

#: A share this near to the limit is at it: sums of floats may miss it by less.
_ROUNDING: Final = 1e-9

SPEC = DetectorSpec(
    "voltage_unbalance",
    "evse",
    "rule",
    GRID_CHANNELS,
    ("unbalance_percent", "limit_percent", "voltage_l1_v", "voltage_l2_v", "voltage_l3_v", "samples"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `voltage_unbalance`.

    Attributes
    ----------
    limit : float
        Negative sequence as a share of the positive one. Unit: 1 (per unit). Default 0.02. Source: EN 50160,
        2 % over ten minutes.
    least_samples : int
        Readings that a window needs. Unit: samples. Default 3. Source: CONVENTIONS, means.
    unpowered_pu : float
        Readings with all phases below this share of Un say nothing. Unit: 1 (per unit). Default 0.05. Source:
        EN 50160, interruption below 5 %.
    stale_s : float
        A window judged later than this after its end is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    limit: float = 0.02
    least_samples: int = 3
    unpowered_pu: float = 0.05
    stale_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            limit=(0.001, 1.0),
            least_samples=(1, 10_000),
            unpowered_pu=(0.0, 0.5),
            stale_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    limit: float
    least_samples: int
    unpowered: float
    stale_ns: int


_DTYPE: Final[list[Any]] = [
    ("sum_v", "f8", (3,)),
    ("window", "i4"),  # open window, ten minutes counted from the epoch, -1 before the first
    ("n", "u2"),
    ("last_live", "u1"),  # the last reading in the window was live
]

#: Of what is raised.
_RAISED: Final[list[Any]] = [
    ("start_ns", "i8"),
    ("end_ns", "i8"),  # end of the last window beyond the limit
    ("live", "u1"),
]


@kernel
def _share(a: float, b: float, c: float) -> float:
    """Return negative over positive sequence of three magnitudes 120 degrees apart."""
    positive = a + b + c
    if positive <= 0.0:
        return 0.0
    real = a - 0.5 * (b + c)
    imag = _HALF_SQRT3 * (b - c)
    return math.sqrt(real * real + imag * imag) / positive


@kernel
def _window_share(rec: Any, least_samples: int) -> float:
    """Return the share of the open window, NaN where it has too few readings."""
    n = rec["n"]
    if n < least_samples:
        return np.nan
    return float(_share(rec["sum_v"][0] / n, rec["sum_v"][1] / n, rec["sum_v"][2] / n))


@kernel
def _close(
    rec: Any, raised: Any, share: float, i: int, time: Timeline, limits: _Limits, out: EmissionArrays
) -> None:
    """Judge the open window at reading i, the first one after it, where it is raised or to be raised."""
    kind, n = CLEAR, rec["n"]
    if share > limits.limit + _ROUNDING:
        start_ns = rec["window"] * _TEN_NS
        end_ns = start_ns + _TEN_NS
        live = rec["last_live"] if time.time_ns[i] - end_ns <= limits.stale_ns else 0
        new = raised["end_ns"] == NO_TIME
        if new:
            raised["start_ns"] = start_ns
        raised["end_ns"] = end_ns
        if not new and (live == 0 or raised["live"] != 0):
            return
        raised["live"] = live
        kind = RAISE
    j = emit(
        out, time.evse[i], kind, WARNING, raised["live"], raised["start_ns"], raised["end_ns"],
        time.order[i], time.effect_ns[i], share / limits.limit,
    )  # fmt: skip
    out.evidence[j, 0] = 100.0 * share
    out.evidence[j, 1] = 100.0 * limits.limit
    out.evidence[j, 2] = rec["sum_v"][0] / n
    out.evidence[j, 3] = rec["sum_v"][1] / n
    out.evidence[j, 4] = rec["sum_v"][2] / n
    out.evidence[j, 5] = n


@njit(cache=True, nogil=True, fastmath=False)
def _unbalance_kernel(
    start: int,
    time: Timeline,
    values: F64,
    columns: I16,
    inv: Inventory,
    state: Any,
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
        rec, at = state[e], find(sparse, e)
        phases = inv.phases[e]
        least = limits.unpowered * inv.u_n_v[e]
        lowest = 0.0 if phases == 3 else least
        pick_phases(inv.dc[e], phases, columns, chosen)
        judged = phases in (0, 3) and chosen[0] >= 0 and chosen[1] >= 0 and chosen[2] >= 0
        one, two = phase_view(values, chosen, 0), phase_view(values, chosen, 1)
        three = phase_view(values, chosen, 2)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            a, b, c = one[i], two[i], three[i]
            if judged and a >= lowest and b >= lowest and c >= lowest and max(a, b, c) >= least:
                window = time_ns[i] // _TEN_NS
                if window != rec["window"]:
                    share = _window_share(rec, limits.least_samples)
                    bad = share > limits.limit + _ROUNDING
                    if bad and at == 0 and full(sparse):
                        return i
                    if bad and at == 0:
                        at = take(sparse, e)
                    if at != 0 and share == share:
                        _close(rec, sparse.records[at], share, i, time, limits, out)
                        if not bad:
                            give(sparse, e)
                            at = 0
                    rec["window"] = window
                    rec["n"] = 0
                    rec["sum_v"][0] = 0.0
                    rec["sum_v"][1] = 0.0
                    rec["sum_v"][2] = 0.0
                rec["sum_v"][0] += a
                rec["sum_v"][1] += b
                rec["sum_v"][2] += c
                rec["n"] += 1
                rec["last_live"] = live[i]
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 2
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"window": -1}
    sparse_dtype = _RAISED
    sparse_blank: ClassVar[dict[str, Any]] = {"start_ns": NO_TIME, "end_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.limit), int(config.least_samples), float(config.unpowered_pu), ns(config.stale_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _unbalance_kernel(
                start,
                timeline(rows),
                np.ascontiguousarray(rows.values),
                slots(rows, GRID_CHANNELS),
                inventory(devices),
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

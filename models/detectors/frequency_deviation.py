"""Grid frequency of a site off: ten-minute mean beyond 49.5 to 50.5 Hz, or two samples beyond 47 to 52 Hz.

The frequency is one for the whole site, so its EVSEs vote: each is off after a clock-aligned ten-minute
window (three samples at least) whose mean is beyond nominal -0.5 to +0.5 Hz, or at two samples running
beyond nominal -3 to +2 Hz, and right again after a window that is neither. The site is off while more than
half of the EVSEs that ever reported a frequency are: one broken meter among several is none of the grid's.
A single EVSE decides alone.

Nominal is 60 Hz where the inventory declares a nominal voltage of 60 Hz grids (100 to 127 V, 208, 277, 347,
480 V), 50 Hz at 220 to 230 V, elsewhere the nearer to the reading. A meter without supply shows values near
0: below 10 Hz nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import (
    CLEAR,
    RAISE,
    UPDATE,
    WARNING,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._kernels import ROOM, emit
from ._sparse import Sparse, SparseDetector, find, full, give, take
from ._votes import Votes

_TEN_NS: Final = 600_000_000_000

SPEC = DetectorSpec(
    "frequency_deviation",
    "site",
    "rule",
    (CHANNEL_ID["Frequency"],),
    ("frequency_hz", "nominal_hz", "limit_hz", "window_s", "evses_off", "evses"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `frequency_deviation`.

    Attributes
    ----------
    band_hz : float
        Greatest deviation of a ten-minute mean. Unit: Hz. Default 0.5. Source: EN 50160, 49.5 to 50.5 Hz
        for 99.5 % of a year.
    below_hz, above_hz : float
        Greatest deviation of single samples. Unit: Hz. Default 3 and 2. Source: EN 50160, 47 to 52 Hz always.
    least_samples : int
        Samples that a window needs. Unit: samples. Default 3. Source: CONVENTIONS, means.
    least_hz : float
        Lower readings say nothing. Unit: Hz. Default 10. Source: meters show 0 without supply.
    stale_s : float
        A window judged later than this after its end is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    band_hz: float = 0.5
    below_hz: float = 3.0
    above_hz: float = 2.0
    least_samples: int = 3
    least_hz: float = 10.0
    stale_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            band_hz=(0.01, 10.0),
            below_hz=(0.01, 20.0),
            above_hz=(0.01, 20.0),
            least_samples=(1, 10_000),
            least_hz=(0.0, 40.0),
            stale_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    band_hz: float
    below_hz: float
    above_hz: float
    least_samples: int
    least_hz: float
    stale_ns: int


_DTYPE: Final[list[Any]] = [
    ("sum_hz", "f8"),  # of the open window, deviations from nominal
    ("window", "i4"),  # ten minutes counted from the epoch, -1 before the first
    ("n", "u2"),
    ("nominal", "u1"),
    ("last_live", "u1"),
]

#: Of an EVSE that is off, or may be.
_ODD: Final[list[Any]] = [
    ("far_ns", "i8"),  # first sample of a run beyond the wide band
    ("off", "u1"),  # its vote
    ("far_n", "u1"),  # samples of the run beyond the wide band, at most 2
    ("told", "u1"),  # such a run was told in the open window
]


@kernel
def _nominal(u_n: float, hertz: float) -> float:
    """Return the nominal frequency of a grid with this nominal voltage, near this reading."""
    if 100.0 <= u_n <= 127.0 or u_n in (208.0, 277.0, 347.0, 480.0):
        return 60.0
    if 220.0 <= u_n <= 230.0:
        return 50.0
    return 60.0 if hertz > 55.0 else 50.0


@kernel
def _tell(
    i: int,
    time: Timeline,
    kind: int,
    live: int,
    start_ns: int,
    time_ns: int,
    hertz: float,
    nominal: float,
    limit: float,
    window_s: float,
    out: EmissionArrays,
) -> None:
    j = emit(
        out, time.evse[i], kind, WARNING, live, start_ns, time_ns, time.order[i], time.effect_ns[i],
        abs(hertz - nominal) / abs(limit - nominal),
    )  # fmt: skip
    out.evidence[j, 0] = hertz
    out.evidence[j, 1] = nominal
    out.evidence[j, 2] = limit
    out.evidence[j, 3] = window_s


@kernel
def _off(rec: Any, window: int, limits: _Limits) -> bool:
    """Return whether the open window is over at a reading in `window`, and its mean is off."""
    if rec["window"] < 0 or window == rec["window"] or rec["n"] < limits.least_samples:
        return False
    return bool(abs(rec["sum_hz"] / rec["n"]) > limits.band_hz + 1e-9)


@kernel
def _close(rec: Any, odd: Any, i: int, time: Timeline, limits: _Limits, out: EmissionArrays) -> None:
    """Vote by the open window at reading i, the first one after it."""
    if rec["n"] < limits.least_samples:
        return
    nominal = float(rec["nominal"])
    deviation = rec["sum_hz"] / rec["n"]
    start_ns = rec["window"] * _TEN_NS
    end_ns = start_ns + _TEN_NS
    limit = nominal + (limits.band_hz if deviation > 0.0 else -limits.band_hz)
    live = rec["last_live"] if time.time_ns[i] - end_ns <= limits.stale_ns else 0
    if abs(deviation) > limits.band_hz + 1e-9:
        odd["off"] = 1
        _tell(i, time, RAISE, live, start_ns, end_ns, nominal + deviation, nominal, limit, 600.0, out)
    elif odd["told"] == 0 and odd["off"] != 0:
        odd["off"] = 0
        _tell(i, time, CLEAR, live, start_ns, start_ns, nominal + deviation, nominal, limit, 600.0, out)


@kernel
def _ordinary(rec: Any, t: int, live: int, hertz: float, u_n: float, limits: _Limits) -> bool:
    """Take in a reading of the open window near the nominal frequency, of no odd EVSE; False: another one.

    `_sample` does the same for every reading, but costs ten times as much: it is given all arrays.
    """
    nominal = _nominal(u_n, hertz)
    if t // _TEN_NS != rec["window"] or nominal != rec["nominal"]:
        return False
    if not nominal - limits.below_hz <= hertz <= nominal + limits.above_hz:
        return False
    rec["sum_hz"] += hertz - nominal
    rec["n"] += 1
    rec["last_live"] = live
    return True


@kernel
def _sample(
    rec: Any,
    odd: Any,
    i: int,
    time: Timeline,
    hertz: float,
    nominal: float,
    far: bool,
    limits: _Limits,
    out: EmissionArrays,
) -> None:
    """Take in one reading; `odd` is the blank record, not to be written to, where nothing was odd nor is."""
    t = time.time_ns[i]
    window = t // _TEN_NS
    if rec["window"] < 0:
        _tell(i, time, UPDATE, time.live[i], t, t, hertz, nominal, nominal + limits.band_hz, 0.0, out)
    if window != rec["window"] or nominal != rec["nominal"]:
        if rec["window"] >= 0 and window != rec["window"]:
            _close(rec, odd, i, time, limits, out)
        rec["window"] = window
        rec["nominal"] = int(nominal)
        rec["sum_hz"] = 0.0
        rec["n"] = 0
        if odd["told"] != 0:
            odd["told"] = 0
    rec["sum_hz"] += hertz - nominal
    rec["n"] += 1
    rec["last_live"] = time.live[i]
    if not far:
        if odd["far_n"] != 0:
            odd["far_n"] = 0
        return
    if odd["far_n"] == 0:
        odd["far_ns"] = t
    odd["far_n"] = min(odd["far_n"] + 1, 2)
    if odd["far_n"] == 2 and odd["told"] == 0:
        odd["told"] = 1
        odd["off"] = 1
        limit = nominal + (limits.above_hz if hertz > nominal else -limits.below_hz)
        _tell(i, time, RAISE, time.live[i], odd["far_ns"], t, hertz, nominal, limit, 0.0, out)


@kernel
def _frequency_kernel(
    start: int,
    time: Timeline,
    frequency_hz: F64,
    u_n_v: F64,
    declared: U8,
    state: Any,
    sparse: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        hertz = frequency_hz[i]
        if not hertz >= limits.least_hz:  # NaN, too
            continue
        e, t = time.evse[i], time.time_ns[i]
        u_n = u_n_v[e] if declared[e] != 0 else np.nan
        rec, at = state[e], find(sparse, e)
        if at == 0 and _ordinary(rec, t, time.live[i], hertz, u_n, limits):
            continue
        nominal = _nominal(u_n, hertz)
        far = not nominal - limits.below_hz <= hertz <= nominal + limits.above_hz
        if at == 0 and (far or _off(rec, t // _TEN_NS, limits)):
            if full(sparse):
                return i
            at = take(sparse, e)
        odd = sparse.records[at]
        _sample(rec, odd, i, time, hertz, nominal, far, limits, out)
        if at != 0 and odd["off"] == 0 and odd["far_n"] == 0 and odd["told"] == 0:
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"window": -1}
    sparse_dtype = _ODD
    sparse_blank: ClassVar[dict[str, Any]] = {"far_ns": NO_TIME}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.band_hz),
            float(config.below_hz),
            float(config.above_hz),
            int(config.least_samples),
            float(config.least_hz),
            ns(config.stale_s),
        )
        self._votes = Votes(SPEC, None if resume_state is None else resume_state.get("sites"))
        self._found = Emissions()
        super().__init__(resume_state)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed of sites."""
        super().process(seen, self._found)
        self._votes.merge(self._found.drain(), seen.devices, out)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (frequency_hz,) = columns(rows, SPEC.channels)
        return int(
            _frequency_kernel(
                start,
                timeline(rows),
                frequency_hz,
                devices.u_n_v,
                devices.declared,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return super().snapshot() | {"sites": self._votes.snapshot()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._votes.nbytes()


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

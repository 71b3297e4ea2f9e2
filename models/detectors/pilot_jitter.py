"""Control pilot wavers inside its band: standard deviation over 5 min of at least 0.08 V and three times
its own baseline.

Windows of 5 min are clock-aligned and hold samples of state C inside the band (what is outside is
`pilot_out_of_band`); one with fewer than 5 says nothing, so that stations that sample more slowly than every
60 s are not judged. The baseline is the variance of the EVSE's own windows: the plain mean of its first six
(30 min of charging), in which nothing is raised, then a mean with a memory of 288 windows (24 h of charging)
over windows that were not raised about. Two levels must be passed at once because a baseline of a quantised
reading may be next to nothing, and an honest noise of a measuring circuit may be large.

With five samples of normal noise at the baseline, three times the baseline is passed by chance in fewer than
one of a million windows (chi-squared of 4 degrees of freedom above 36: 2.9e-7), which is less than one false
alarm in ten years of charging without a break.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable

from ._base import RowDetector, ns, require
from ._kernels import NOTHING, ROOM, emit
from ._slim import CURRENTS, in_state_c

_PILOT = CHANNEL_ID["x.CP.V"]

#: Nominal pilot of state C: sums of squares are taken about it.
_NOMINAL_V: Final = 6.0

SPEC = DetectorSpec(
    "pilot_jitter",
    "evse",
    "statistical",
    (_PILOT, *CURRENTS),
    ("std_v", "limit_v", "baseline_v", "samples", "windows", "duration_s"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `pilot_jitter`.

    Attributes
    ----------
    least_v : float
        Standard deviation that raises at least. Unit: V. Default 0.08. Source: CONVENTIONS.
    factor : float
        And this many times the baseline. Unit: 1. Default 3. Source: CONVENTIONS.
    window_s : float
        Length of a window; clears after a whole good one. Unit: s. Default 300. Source: CONVENTIONS.
    least_samples : int
        Samples that a window must have. Unit: samples. Default 5. Source: one false alarm in a million
        windows (chi-squared), see above.
    warm_up : int
        Windows before anything is raised. Unit: windows. Default 6. Source: the baseline's standard
        deviation is then known to 20 % with 5 samples a window.
    memory : int
        Windows after which the baseline has forgotten. Unit: windows. Default 288. Source: a day of
        charging.
    low_v, high_v : float
        Band of state C. Unit: V. Default 5.47 and 6.53. Source: EVgo MREC F002 and F003.
    least_a : float
        Current that shows that energy flows. Unit: A. Default 1. Source: idle readings of meters are
        below.
    """

    least_v: float = 0.08
    factor: float = 3.0
    window_s: float = 300.0
    least_samples: int = 5
    warm_up: int = 6
    memory: int = 288
    low_v: float = 5.47
    high_v: float = 6.53
    least_a: float = 1.0

    def __post_init__(self) -> None:
        require(
            self,
            least_v=(0.001, 1.0),
            factor=(1.0, 100.0),
            window_s=(10.0, 3600.0),
            least_samples=(3, 1000),
            warm_up=(1, 10_000),
            memory=(2, 60_000),
            low_v=(4.5, 6.0),
            high_v=(6.0, 7.5),
            least_a=(0.0, 100.0),
        )


class _Limits(NamedTuple):
    least_v: float
    factor: float
    window_ns: int
    least_n: int
    warm_up: int
    memory: int


_DTYPE: Final[list[Any]] = [
    ("sum_v", "f8"),  # of the window, about the nominal pilot
    ("sum_v2", "f8"),
    ("baseline_v2", "f4"),
    ("window", "i4"),  # number of the window in the epoch
    ("since", "i4"),  # and of the first window raised about
    ("windows", "u2"),  # that the baseline is of
    ("n", "u2"),
    ("raised", "u1"),
    ("live", "u1"),
    ("window_live", "u1"),  # the last sample of the window was live
]


@kernel
def _judge(rec: Any, variance: float, limits: _Limits) -> int:
    """Take in a finished window; return what to emit."""
    warm = rec["windows"] >= limits.warm_up
    high = max(limits.least_v**2, limits.factor**2 * rec["baseline_v2"])
    if warm and variance >= high:
        if rec["raised"] == 0:
            rec["raised"] = 1
            rec["since"] = rec["window"]
            rec["live"] = rec["window_live"]
            return RAISE
        if rec["window_live"] != 0 and rec["live"] == 0:
            rec["live"] = 1
            return RAISE
        return NOTHING
    if rec["windows"] < limits.memory:
        rec["windows"] += 1
    rec["baseline_v2"] += (variance - rec["baseline_v2"]) / rec["windows"]
    if rec["raised"] == 0:
        return NOTHING
    rec["raised"] = 0
    return CLEAR


@kernel
def _jitter_kernel(
    start: int,
    time: Timeline,
    pilot_v: F64,
    counts: NDArray[np.bool_],
    state: Any,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        v = pilot_v[i]
        if v != v:
            continue
        if out.used[0] > room:
            return i
        rec = state[time.evse[i]]
        window = time.time_ns[i] // limits.window_ns
        if rec["window"] != window:
            samples = int(rec["n"])
            if samples >= limits.least_n:
                mean = rec["sum_v"] / samples
                variance = max((rec["sum_v2"] - mean * rec["sum_v"]) / (samples - 1), 0.0)
                baseline_v2 = rec["baseline_v2"]
                kind = _judge(rec, variance, limits)
                if kind != NOTHING:
                    since_ns = rec["since"] * limits.window_ns
                    end = (rec["window"] + (0 if kind == CLEAR else 1)) * limits.window_ns
                    limit = max(limits.least_v, limits.factor * np.sqrt(baseline_v2))
                    j = emit(
                        out, time.evse[i], kind, WARNING, rec["live"], since_ns, end,
                        time.order[i], time.effect_ns[i], np.sqrt(variance) / limit,
                    )  # fmt: skip
                    out.evidence[j, 0] = np.sqrt(variance)
                    out.evidence[j, 1] = limit
                    out.evidence[j, 2] = np.sqrt(baseline_v2)
                    out.evidence[j, 3] = samples
                    out.evidence[j, 4] = rec["windows"]
                    out.evidence[j, 5] = (end - since_ns) / 1e9
            rec["window"] = window
            rec["n"] = 0
            rec["sum_v"] = 0.0
            rec["sum_v2"] = 0.0
        if counts[i]:
            rec["n"] += 1
            rec["sum_v"] += v - _NOMINAL_V
            rec["sum_v2"] += (v - _NOMINAL_V) ** 2
            rec["window_live"] = time.live[i]
    return n


class _Detector(RowDetector):
    spec = SPEC
    dtype = _DTYPE
    version = 2
    blank: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._config = config
        self._limits = _Limits(
            float(config.least_v),
            float(config.factor),
            ns(config.window_s),
            int(config.least_samples),
            int(config.warm_up),
            int(config.memory),
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        if not rows.has(_PILOT):
            return len(rows)
        pilot, config = rows.column(_PILOT), self._config
        inside = (pilot >= config.low_v) & (pilot <= config.high_v)
        counts = inside & in_state_c(rows, config.least_a)
        return int(_jitter_kernel(start, timeline(rows), pilot, counts, self.table.rows, self._limits, out))


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

"""The baselines of an EVSE's source impedance and the test against them, for `source_impedance`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel

from ._site_quiet import STEP_FIELDS

#: Steps that make a baseline.
_WARM_UP: Final = 5
#: A median of normal numbers is worth this share of their mean.
_MEDIAN: Final = 2.0 / np.pi
#: The baseline is known when this many of its standard deviations are less than `least_ohm`.
_SURE: Final = 6.0
#: Kept in these units until there are that many.
_OHM: Final = 1e-4


class Limits(NamedTuple):
    """Limits of the test, see the configuration of `source_impedance`."""

    factor: float
    least_ohm: float
    least_step_a: float
    quiet_share: float
    noise_v: float
    drift_v: float
    memory: int
    threshold: float


FIELDS: Final[list[Any]] = [
    *STEP_FIELDS,
    # by phase, then by phase for steps that are not of all phases alike
    ("base_ohm", "f4", (6,)),
    ("mean_ohm", "f4", (6,)),  # of the last steps
    ("sum", "f4", (6,)),
    ("weight", "f4", (6,)),  # of the baseline: 1 over its variance, 1/ohm²
    ("since_s", "i4", (6,)),  # first step of the sum
    ("n", "u2", (6,)),
    ("warm", "i2", (6, _WARM_UP)),
    ("start_s", "i4"),
    ("end_s", "i4"),
    ("raised", "u1"),  # bit per baseline
]


@kernel
def _median(warm: Any) -> float:
    """Return the median of five numbers: the one that two others lie below, or at in an earlier place."""
    for k in range(_WARM_UP):
        below = 0
        for j in range(_WARM_UP):
            if warm[j] < warm[k] or (warm[j] == warm[k] and j < k):
                below += 1
        if below == _WARM_UP // 2:
            return float(warm[k])
    return 0.0


@kernel
def _learn(rec: Any, k: int, ohm: float, sigma: float, limits: Limits) -> None:
    """Let the baseline follow a step; the first ones make it."""
    n = rec["n"][k]
    rec["n"][k] = min(n + 1, 65_535)
    weight = 1.0 / (sigma * sigma)
    if n < _WARM_UP:
        rec["warm"][k][n] = round(min(max(ohm / _OHM, -30_000.0), 30_000.0))
        rec["weight"][k] += weight * _MEDIAN
        if n + 1 == _WARM_UP:
            rec["base_ohm"][k] = max(_median(rec["warm"][k]) * _OHM, 0.0)
            rec["mean_ohm"][k] = rec["base_ohm"][k]
        return
    rec["weight"][k] += weight
    gain = max(weight / rec["weight"][k], 1.0 / limits.memory)
    error = min(max(ohm - rec["base_ohm"][k], -2.0 * sigma), 2.0 * sigma)
    rec["base_ohm"][k] = max(0.0, rec["base_ohm"][k] + gain * error)


@kernel
def test_step(rec: Any, k: int, ohm: float, sigma: float, t_s: int, limits: Limits) -> int:
    """Take in a step of baseline k; return 1 when its limit is exceeded, -1 when no more, else 0."""
    known = rec["n"][k] >= _WARM_UP and rec["weight"][k] >= (_SURE / limits.least_ohm) ** 2
    if not known:
        _learn(rec, k, ohm, sigma, limits)
        return 0
    base = float(rec["base_ohm"][k])
    limit = max(limits.factor * base, base + limits.least_ohm)
    d = (limit - base) / sigma
    ratio = d * ((ohm - base) / sigma - 0.5 * d)
    most = limits.threshold / 3.0
    ratio = min(max(ratio, -most), most)
    rec["mean_ohm"][k] += (ohm - rec["mean_ohm"][k]) / 3.0
    raised = rec["raised"] & (1 << k)
    if rec["sum"][k] == 0.0:
        rec["since_s"][k] = t_s
    rec["sum"][k] = max(0.0, rec["sum"][k] + (-ratio if raised else ratio))
    if raised or rec["sum"][k] > most:
        rec["n"][k] = min(rec["n"][k] + 1, 65_535)  # suspicious steps teach nothing
    else:
        _learn(rec, k, ohm, sigma, limits)
    if rec["sum"][k] < limits.threshold - 1e-3:
        return 0
    if raised:
        rec["sum"][k] = 0.0
        rec["raised"] &= 255 - (1 << k)
        return -1
    if rec["mean_ohm"][k] < limit:
        return 0
    rec["sum"][k] = 0.0
    rec["raised"] |= 1 << k
    return 1

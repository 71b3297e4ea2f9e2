"""The baselines of an EVSE's source impedance and the test against them, for `source_impedance`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel

from ._pool import NONE, Chains, find, take

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


#: A baseline: 0 to 2 by phase, 3 to 5 by phase for steps that are not of all phases alike. Before there are
#: `_WARM_UP` steps, the fields from `base_ohm` to `since_s` are the first ones, in units of `_OHM`.
BASE_FIELDS: Final[list[Any]] = [
    ("base_ohm", "f4"),
    ("mean_ohm", "f4"),  # of the last steps
    ("sum", "f4"),
    ("since_s", "i4"),  # first step of the sum
    ("weight", "f4"),  # of the baseline: 1 over its variance, 1/ohm²
    ("n", "u2"),
    ("raised", "u1"),
    ("k", "u1"),
]
#: What is raised is a record of its own, with this key: its start, and of how many baselines.
RAISED: Final = 6


@kernel
def base_of(rec: Any, k: int, bases: Chains) -> int:
    """Return baseline k of an EVSE, a new one if there is none."""
    slot = find(bases, rec["bases"], k)
    if slot == NONE:
        slot = rec["bases"] = take(bases, rec["bases"])
        base = bases.rows[slot]
        base["k"] = k
        base["n"] = base["raised"] = base["since_s"] = 0
        base["base_ohm"] = base["mean_ohm"] = base["sum"] = base["weight"] = 0.0
    return int(slot)


@kernel
def _median(a: float, b: float, c: float, d: float, e: float) -> float:
    """Return the median of five numbers: `e` between the two in the middle of the others."""
    f, g = max(min(a, b), min(c, d)), min(max(a, b), max(c, d))
    return max(min(f, g), min(max(f, g), e))


@kernel
def _warm_up(base: Any, ohm: float) -> None:
    """Keep one of the first steps; the last of them makes the baseline."""
    n, value = base["n"], round(min(max(ohm / _OHM, -30_000.0), 30_000.0))
    if n == 0:
        base["base_ohm"] = value
    elif n == 1:
        base["mean_ohm"] = value
    elif n == 2:
        base["sum"] = value
    elif n == 3:
        base["since_s"] = value
    else:
        middle = _median(base["base_ohm"], base["mean_ohm"], base["sum"], float(base["since_s"]), value)
        base["base_ohm"] = base["mean_ohm"] = max(middle * _OHM, 0.0)
        base["sum"] = 0.0
        base["since_s"] = 0


@kernel
def _learn(base: Any, ohm: float, sigma: float, limits: Limits) -> None:
    """Let the baseline follow a step; the first ones make it."""
    weight = 1.0 / (sigma * sigma)
    if base["n"] < _WARM_UP:
        _warm_up(base, ohm)
        base["n"] += 1
        base["weight"] += weight * _MEDIAN
        return
    base["n"] = min(base["n"] + 1, 65_535)
    base["weight"] += weight
    gain = max(weight / base["weight"], 1.0 / limits.memory)
    error = min(max(ohm - base["base_ohm"], -2.0 * sigma), 2.0 * sigma)
    base["base_ohm"] = max(0.0, base["base_ohm"] + gain * error)


@kernel
def known(base: Any, limits: Limits) -> bool:
    """Return whether a baseline is worth comparing with."""
    return bool(base["n"] >= _WARM_UP and base["weight"] >= (_SURE / limits.least_ohm) ** 2)


@kernel
def _limit(base: Any, limits: Limits) -> float:
    usual = float(base["base_ohm"])
    return max(limits.factor * usual, usual + limits.least_ohm)


@kernel
def _weigh(base: Any, ohm: float, sigma: float, t_s: int, limits: Limits) -> int:
    """Add a step to the sum of a known baseline; return what `test_step` does."""
    usual, limit = float(base["base_ohm"]), _limit(base, limits)
    d = (limit - usual) / sigma
    ratio = d * ((ohm - usual) / sigma - 0.5 * d)
    most = limits.threshold / 3.0
    ratio = min(max(ratio, -most), most)
    base["mean_ohm"] += (ohm - base["mean_ohm"]) / 3.0
    raised = base["raised"] != 0
    if base["sum"] == 0.0:
        base["since_s"] = t_s
    base["sum"] = max(0.0, base["sum"] + (-ratio if raised else ratio))
    if base["sum"] < limits.threshold - 1e-3:
        return 0
    if raised:
        base["sum"] = 0.0
        base["raised"] = 0
        return -1
    if base["mean_ohm"] < limit:
        return 0
    base["sum"] = 0.0
    base["raised"] = 1
    return 1


@kernel
def test_step(base: Any, ohm: float, sigma: float, t_s: int, limits: Limits) -> int:
    """Take in a step of a baseline; return 1 when its limit is exceeded, -1 when no more, else 0."""
    if not known(base, limits):
        _learn(base, ohm, sigma, limits)
        return 0
    was_raised = base["raised"] != 0
    found: int = _weigh(base, ohm, sigma, t_s, limits)
    if found != 0 or was_raised or base["sum"] > limits.threshold / 3.0:
        base["n"] = min(base["n"] + 1, 65_535)  # suspicious steps teach nothing
    else:
        _learn(base, ohm, sigma, limits)
    return found


@kernel
def test_against(own: Any, more: Any, ohm: float, sigma: float, t_s: int, limits: Limits) -> int:
    """Take in a step whose `own` baseline is unknown while that of steps that see no less, `more`, is known.

    Returns what `test_step` does, of `more`, which learns nothing from it. Nor does `own` of what looks like
    a fault, or while one is open. An open one is only contradicted by a step that saw less than `more` did.
    """
    usual = float(more["base_ohm"])
    if more["raised"] != 0:
        return int(_weigh(more, ohm, sigma, t_s, limits)) if ohm < usual else 0
    suspicious = ohm > 0.5 * (usual + _limit(more, limits))
    found: int = _weigh(more, ohm, sigma, t_s, limits)
    if not suspicious:
        _learn(own, ohm, sigma, limits)
    return found

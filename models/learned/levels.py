"""Range novelty: how far a value, and its running mean, lie outside everything before them.

The family for levels and points, two comparisons and a handful of additions a value, no window. It is causal:
nothing is known of the range but what was seen. The score d / (d + K) of an excess of d ranges has no unit,
so that one threshold serves all series.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models._kernel import kernel

#: Excess, in ranges, that scores one half. Source: 0.05 of the range is the usual tolerance of range rules;
#: neighbours from 0.05 to 0.07 score alike (docs/detection-general.md).
HALF_EXCESS: Final = 0.06
#: Weight of a new value in the running mean. Source: docs/detection-general.md; 0.1 to 0.2 score alike.
MEAN_WEIGHT: Final = 0.15

LEVELS_DTYPE: Final = np.dtype(
    [
        ("low", "f8"),  # least and greatest value
        ("high", "f8"),
        ("mean", "f8"),  # running mean
        ("mean_low", "f8"),
        ("mean_high", "f8"),
    ]
)


def blank_levels(n: int) -> Any:
    """Return n records that have seen nothing, shape (n,)."""
    out = np.zeros(n, LEVELS_DTYPE)
    out["low"] = out["mean_low"] = np.inf
    out["high"] = out["mean_high"] = -np.inf
    return out


@kernel
def excess(value: float, low: float, high: float) -> float:
    """Return by how many ranges `value` lies outside [low, high]; infinity where the range is a point."""
    beyond = max(low - value, value - high)
    if not beyond > 0.0 or low > high:
        return 0.0
    return beyond / (high - low) if high > low else np.inf


@kernel
def novelty(ranges: float) -> float:
    """Return the score of an excess, in [0, 1]."""
    return 1.0 if ranges == np.inf else ranges / (ranges + HALF_EXCESS)


@kernel
def levels_step(rec: Any, value: float, weight: float) -> float:
    """Take in one finite value; return the greater excess of the value and of the mean, in ranges.

    `weight` is that of the value in the running mean.
    """
    first = rec["low"] > rec["high"]
    mean = value if first else rec["mean"] + weight * (value - rec["mean"])
    found = max(excess(value, rec["low"], rec["high"]), excess(mean, rec["mean_low"], rec["mean_high"]))
    rec["mean"] = mean
    rec["low"] = min(rec["low"], value)
    rec["high"] = max(rec["high"], value)
    rec["mean_low"] = min(rec["mean_low"], mean)
    rec["mean_high"] = max(rec["mean_high"], mean)
    return float(found)

"""Comparison of two rates of which both are uncertain."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Points of the grid over (0, 1) on which densities are added up.
_POINTS: Final = 2048
_GRID: Final = (np.arange(_POINTS) + 0.5) / _POINTS


def twice_as_often(a: float, b: float, site_a: float, site_b: float, ratio: float = 2.0) -> float:
    """Return P(p > ratio × q) for independent p ~ Beta(a, b) and q ~ Beta(site_a, site_b).

    A midpoint sum over 2048 points: good to about 1e-3 for rates above 1 in 1000.

    Parameters
    ----------
    a, b, site_a, site_b : float
        Parameters of the two distributions, greater than 0.
    ratio : float
    """
    own, site = _weights(a, b), _weights(site_a, site_b)
    below = np.concatenate([[0.0], np.cumsum(own)])  # P(p < i / points)
    at = np.minimum(ratio * _GRID * _POINTS, float(_POINTS))
    whole = np.minimum(at.astype(np.int64), _POINTS - 1)
    p_below = below[whole] + (at - whole) * own[whole]
    return float(np.sum(site * (1.0 - np.minimum(p_below, 1.0))))


def _weights(a: float, b: float) -> NDArray[np.float64]:
    """Return the probability of each cell of the grid under Beta(a, b)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    density = np.exp(scale + (a - 1.0) * np.log(_GRID) + (b - 1.0) * np.log1p(-_GRID))
    weights: NDArray[np.float64] = density / density.sum()
    return weights

"""Max-min fair sharing under several limits at once: progressive filling, also called water filling."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .batch import F64

_EPS: Final = 1e-9
#: A limit with less left is used up.
_FULL: Final = 1e-6


def water_fill(cost: F64, room: F64, floor: F64, cap: F64) -> F64:
    """Return the max-min fair allocation between `floor` and `cap`: nobody's share can grow but at the
    expense of somebody who has no more.

    The lowest shares rise together until one of them meets its cap or a limit; what is met stays, the
    others go on.

    Parameters
    ----------
    cost : ndarray, shape (c, n)
        What one unit of each share takes of each limit, at least 0.
    room : ndarray, shape (c,)
        What is left of each limit beside the floors.
    floor, cap : ndarray, shape (n,)
        A share whose cap is below its floor stays at the floor.

    Returns
    -------
    ndarray, shape (n,)

    Notes
    -----
    Bertsekas, Gallager, Data Networks, 2nd ed., 6.5.2. At most one round for each cap, limit and floor.
    """
    share = floor.copy()
    left = np.maximum(room, 0.0)
    open_: NDArray[np.bool_] = cap > share + _EPS
    open_ &= ~(cost[left <= _FULL] > 0).any(axis=0)
    while open_.any():
        level = share[open_].min()
        rising = open_ & (share <= level + _EPS)
        rate = cost[:, rising].sum(axis=1)
        waiting = share[open_ & ~rising]
        step = cap[rising].min() - level
        if len(waiting):
            step = min(step, waiting.min() - level)
        bound = rate > 0
        if bound.any():
            step = min(step, (left[bound] / rate[bound]).min())
        share[rising] += step
        left = np.maximum(left - rate * step, 0.0)
        full = left <= _FULL
        open_ &= (share < cap - _EPS) & ~(cost[full] > 0).any(axis=0)
    return share

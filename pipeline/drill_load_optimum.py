"""The most energy that a day's vehicles could have taken: a linear program that knows the whole day.

It is an upper bound: currents may change freely from quarter to quarter, fall below what a vehicle can use,
and nobody reacts late; limits hold on the mean of each quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from models.batch import F64, I64

from .drill_load_day import Visit
from .drill_load_plant import VOLTAGE_V

_SLOT_S: Final = 900


def optimum_wh(
    visits: Sequence[Visit], legs: I64, other: F64, site_a: float, demand_kw: float, seconds: int
) -> float:
    """Return the optimum in Wh (`scipy.optimize.linprog`).

    Parameters
    ----------
    legs : ndarray, shape (evses, 3)
        Phase of the site on each leg of each station.
    other : ndarray, shape (seconds, 3), A
    site_a, demand_kw : float
        Limit of each phase, and of the site's mean power in a quarter (0: none).
    """
    from scipy.optimize import linprog  # type: ignore[import-untyped]
    from scipy.sparse import coo_matrix  # type: ignore[import-untyped]

    slots = -(-seconds // _SLOT_S)
    mean = np.array([other[i * _SLOT_S : (i + 1) * _SLOT_S].mean(axis=0) for i in range(slots)])
    cells: list[tuple[int, int, float]] = []  # (row, variable, coefficient)
    most: list[float] = []
    gain: list[float] = []
    first_visit, first_demand = slots * 3, slots * 3 + len(visits)
    for i, visit in enumerate(visits):
        for slot in range(visit.arrive_s // _SLOT_S, min(slots, -(-visit.leave_s // _SLOT_S))):
            start, end = slot * _SLOT_S, (slot + 1) * _SLOT_S
            part = (min(end, visit.leave_s) - max(start, visit.arrive_s)) / _SLOT_S
            var, wh = len(most), visit.phases * VOLTAGE_V * _SLOT_S / 3600
            most.append(visit.max_a * part)
            gain.append(wh)
            cells += [(slot * 3 + int(phase), var, 1.0) for phase in legs[visit.evse, : visit.phases]]
            cells += [(first_visit + i, var, wh), (first_demand + slot, var, visit.phases * VOLTAGE_V / 1000)]
    power = np.full(slots, np.inf) if not demand_kw else demand_kw - mean.sum(axis=1) * VOLTAGE_V / 1000
    bound = np.concatenate([(site_a - mean).ravel(), [visit.wh for visit in visits], power])
    rows, columns, values = (np.array(part) for part in zip(*cells, strict=True))
    keep = np.isfinite(bound)
    matrix = coo_matrix((values, (rows, columns)), shape=(len(bound), len(most))).tocsr()[keep]
    answer: Any = linprog(
        -np.array(gain), A_ub=matrix, b_ub=bound[keep], bounds=np.column_stack([np.zeros(len(most)), most])
    )
    if not answer.success:
        raise ValueError(f"no optimum: {answer.message}; expected a day that the site can hold")
    return float(-answer.fun)

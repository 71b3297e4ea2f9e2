"""Water filling against a chain of linear programs, and the plan of cheap quarters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped]

from models._load_fill import water_fill
from models._load_plan import SLOT_MS, Job, plan
from models.batch import F64

START = 1_700_000_100_000 // SLOT_MS * SLOT_MS


def max_min(cost: F64, room: F64, floor: F64, cap: F64) -> F64:
    """Raise the least share by linear programs, one round for each that cannot rise further."""
    n = len(floor)
    fixed = np.where(cap <= floor + 1e-12, floor, np.nan)
    while np.isnan(fixed).any():
        open_ = np.isnan(fixed)
        # variables: shares, and the level that no open share is below unless its floor or cap says so
        bounds = [
            (f, f) if not o else (lo, hi) for f, o, lo, hi in zip(fixed, open_, floor, cap, strict=True)
        ]
        rows = [np.append(c, 0.0) for c in cost]
        limits = [r + float(c @ floor) for r, c in zip(room, cost, strict=True)]
        for i in np.flatnonzero(open_):
            row = np.zeros(n + 1)
            row[i], row[n] = -1.0, 1.0
            rows.append(row)
            limits.append(0.0)
        top = np.zeros(n + 1)
        top[n] = -1.0
        level = -linprog(top, A_ub=np.array(rows), b_ub=limits, bounds=[*bounds, (None, None)]).fun
        for i in np.flatnonzero(open_):
            most = np.zeros(n + 1)
            most[i] = -1.0
            held = [*bounds, (level - 1e-9, level + 1e-9)]
            best = -linprog(most, A_ub=np.array(rows), b_ub=limits, bounds=held).fun
            if best <= level + 1e-6:
                fixed[i] = level
                break
        else:
            raise AssertionError("somebody must be at the level")
    return fixed


@pytest.mark.parametrize("seed", range(12))
def test_the_allocation_is_max_min_fair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, c = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    cost = (rng.random((c, n)) < 0.7) * rng.uniform(0.5, 2.0, (c, n)).round(1)
    cost[0] = 1.0
    cap = rng.uniform(6, 32, n).round(1)
    floor = np.full(n, 6.0)
    cap = np.maximum(cap, 6.0)
    room = rng.uniform(1, 15 * n, c).round(1)
    share = water_fill(cost, room, floor, cap)
    assert np.allclose(share, max_min(cost, room, floor, cap), atol=1e-4)
    assert (cost @ (share - floor) <= room + 1e-6).all()


def test_without_a_limit_everyone_has_the_cap() -> None:
    cap = np.array([7.0, 32.0, 5.0])
    floor = np.array([6.0, 6.0, 6.0])
    share = water_fill(np.ones((1, 3)), np.array([np.inf]), floor, cap)
    assert share.tolist() == [7.0, 32.0, 6.0]


def test_floors_that_differ_are_met_by_those_below_first() -> None:
    share = water_fill(np.ones((1, 2)), np.array([10.0]), np.array([6.0, 12.0]), np.array([32.0, 32.0]))
    assert share.tolist() == pytest.approx([14.0, 14.0])


def test_the_cheapest_quarters_before_the_departure_are_chosen() -> None:
    prices = [3.0, 1.0, 2.0, 1.0, 0.5]
    job = Job(7, wh=2000 / 1.1, depart_ms=START + 4 * SLOT_MS, power_w=4000)
    assert plan([job], START, prices, 1e6) == {7: (START + SLOT_MS, START + 3 * SLOT_MS)}


def test_vehicles_share_the_sites_power_in_a_cheap_quarter() -> None:
    jobs = [Job(row, wh=1000 / 1.1, depart_ms=START + 4 * SLOT_MS, power_w=4000) for row in (0, 1)]
    found = plan(jobs, START, [2.0, 1.0, 1.5, 3.0], site_w=4000)
    assert found == {0: (START + SLOT_MS,), 1: (START + 2 * SLOT_MS,)}


def test_what_does_not_fit_is_not_planned() -> None:
    job = Job(1, wh=9000, depart_ms=START + SLOT_MS, power_w=4000)
    assert plan([job], START, [1.0, 1.0], 1e6) == {}

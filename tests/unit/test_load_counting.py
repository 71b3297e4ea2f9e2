"""What an EVSE counts with: old limits until the vehicle could follow, and the most of who disobeyed."""

from __future__ import annotations

import pytest

from .load_yard import Yard, settings


def may_draw(yard: Yard, row: int = 0) -> float:
    return float(yard.load.points.may_draw_a(yard.now)[row].max())


def test_an_old_limit_counts_until_the_vehicle_had_time_to_follow() -> None:
    yard = Yard(settings(100.0, n=1, interval_s=1.0))
    yard.plug("s0")
    yard.run(60)
    assert may_draw(yard) == 32.0
    yard.silent.add("s0")  # what is measured says nothing here
    yard.load.request({"site": "yard", "station": "s0", "limit_a": 10.0}, yard.now)
    yard.run(2)
    assert yard.amps("s0") == 10.0
    yard.load.points.meas_a[0] = 0.0
    assert may_draw(yard) == 32.0
    yard.run(9)
    assert may_draw(yard) == 10.0


def test_who_disobeyed_counts_with_its_most_not_with_what_it_draws() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0")
    yard.load.request({"site": "yard", "station": "s0", "limit_a": 10.0}, yard.now)
    yard.run(40)
    assert may_draw(yard) == 10.0
    yard.draws["s0"] = 15.0
    yard.run(7)
    assert may_draw(yard) == 15.0
    yard.run(20)
    assert may_draw(yard) == 32.0
    yard.draws.clear()
    yard.run(650)
    assert may_draw(yard) == pytest.approx(10.0)

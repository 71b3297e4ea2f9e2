"""What load management learns of a vehicle, and whose amperes count for more on a scarce phase."""

from __future__ import annotations

import pytest

from models.load_settings import Outlet

from .load_yard import T0, Yard, settings

HOUR_MS = 3_600_000


def offered(yard: Yard, station: str) -> float:
    return yard.limit[station][0]


def test_a_vehicle_is_offered_little_more_than_its_own_most() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0", amps=16.0)
    yard.run(90)
    assert yard.amps("s0") == 16.0
    assert offered(yard, "s0") == pytest.approx(16.5, abs=0.1)


def test_the_limit_follows_a_vehicle_that_tapers() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0", amps=16.0)
    yard.run(90)
    for i in range(36):
        amps = 16.0 - 0.2 * i
        yard.car["s0"] = (amps, 3)
        yard.run(10)
        assert yard.amps("s0") == amps
        assert offered(yard, "s0") <= amps + 2.0


def test_a_limit_that_was_low_teaches_nothing() -> None:
    yard = Yard(settings(24.0, n=3))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(120)
    assert yard.amps("s0") == pytest.approx(8.0, abs=0.1)
    for station in ("s1", "s2"):
        yard.load.unplug(yard.load.row(station, 1), yard.now)
        del yard.car[station]
    yard.run(100)
    assert yard.amps("s0") == pytest.approx(24.0, abs=0.1)


def test_neither_falling_nor_rising_limits_look_like_a_vehicles_own_most() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0")
    for i in range(90):
        if i % 20 == 0:
            wish = {"limit_a": 8.0 + i / 10, "until_ms": yard.now + 50_000}
            yard.load.request({"site": "yard", "station": "s0", **wish}, yard.now)
        yard.run(5)
        assert yard.load.points.own_a[0] == float("inf")
    assert yard.amps("s0") == 32.0


def test_a_vehicle_has_time_to_follow_a_limit_that_rose() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0")
    wish = {"limit_a": 8.0, "until_ms": T0 + 60_000}
    yard.load.request({"site": "yard", "station": "s0", **wish}, yard.now)
    yard.run(60)
    yard.draws["s0"] = 8.0
    yard.run(12)
    assert offered(yard, "s0") == 32.0
    yard.draws.clear()
    assert yard.load.points.own_a[0] == float("inf")


def test_a_fallback_that_comes_into_force_teaches_nothing() -> None:
    outlets = (Outlet("s0", 1, fallback_a=6.0),)
    yard = Yard(settings(100.0, outlets=outlets, commissioned=False, hysteresis_a=40.0))
    yard.plug("s0")
    yard.ignores["s0"] = ""
    yard.draws["s0"] = 32.0
    yard.run(40)
    yard.draws["s0"] = 6.0  # it took the fallback, its answer is lost
    yard.run(20)
    yard.ignores.clear()
    yard.run(80)
    assert yard.load.points.own_a[0] == float("inf")


def test_a_vehicle_that_stays_below_every_limit_is_not_led_downwards() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0")
    yard.run(60)
    for _ in range(120):
        yard.draws["s0"] = 0.9 * min(offered(yard, "s0"), 16.0)  # a tenth below the pilot
        yard.run(10)
        assert yard.amps("s0") >= 0.9 * 14.4  # once below its most, but no further
    assert max(ask.limit_a for ask in yard.asks[-20:]) >= 14.8


def test_a_vehicle_that_draws_more_after_all_is_offered_more_at_once() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0", amps=10.0)
    yard.run(120)
    assert offered(yard, "s0") < 11.0
    yard.car["s0"] = (32.0, 3)
    yard.run(30)
    assert yard.amps("s0") == 32.0


def test_what_a_vehicle_left_is_tried_again() -> None:
    yard = Yard(settings(100.0, n=1))
    yard.plug("s0", amps=10.0)
    yard.run(2000)
    assert sum(ask.limit_a == 12.5 for ask in yard.asks) == 2


def test_jitter_of_the_limit_does_not_hide_what_a_vehicle_leaves() -> None:
    yard = Yard(settings(60.0, n=1))
    yard.plug("s0", amps=16.0)
    for i in range(40):
        wish = {"limit_a": 24.0 + 2.0 * (i % 3), "until_ms": yard.now + 9000}
        yard.load.request({"site": "yard", "station": "s0", **wish}, yard.now)
        yard.run(5)
    assert yard.load.points.own_a[0] == 16.0


def crowd(first_legs: int, demand_kw: float = 0.0) -> tuple[float, float]:
    """Return what two get whose L1 cannot serve both in time, though both press alike; L2 and L3 are free."""
    outlets = (Outlet("s0", 1), Outlet("s1", 1))
    yard = Yard(settings(20.0, outlets=outlets, demand_limit_kw=demand_kw))
    for station, legs in (("s0", first_legs), ("s1", 1)):
        most = 16.0 if legs == 3 else 32.0
        yard.plug(station, amps=most, legs=legs)
        wish = {"departure_ms": T0 + 3 * HOUR_MS, "energy_wh": 0.8 * most * 3 * 230 * legs}
        assert yard.load.request({"site": "yard", "station": station, **wish}, yard.now) == ""
    yard.run(400)
    return yard.amps("s0"), yard.amps("s1")


def test_a_scarce_phase_goes_to_those_who_use_others_beside_it() -> None:
    assert crowd(first_legs=3) == pytest.approx((14.0, 6.0), abs=0.2)
    assert crowd(first_legs=1) == pytest.approx((10.0, 10.0), abs=0.2)


def test_while_the_quarter_binds_a_scarce_phase_is_shared_alike() -> None:
    wide, narrow = crowd(first_legs=3, demand_kw=8.0)
    assert wide < narrow

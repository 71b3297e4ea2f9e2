"""Load management: the limit holds whatever stations do, and what is left is shared fairly."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from models.errors import SnapshotError
from models.load import SiteLoad
from models.load_settings import OtherLoad, Outlet, Panel, Price

from .load_yard import T0, Yard, settings


def test_vehicles_share_equally_and_stay_within_the_limit() -> None:
    yard = Yard(settings(60.0))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(120)
    assert yard.limits("s0", "s1", "s2") == pytest.approx([20.0, 20.0, 20.0], abs=0.2)
    assert yard.used() <= 60.0


def test_what_a_vehicle_cannot_use_goes_to_the_others() -> None:
    yard = Yard(settings(60.0))
    yard.plug("s0", amps=10.0)
    yard.plug("s1")
    yard.plug("s2")
    yard.run(180)
    first, second, third = yard.limits("s0", "s1", "s2")
    assert first == 10.0
    assert second == pytest.approx(third, abs=0.3)
    assert second > 22.5  # 60 A less 10 A and what the first may rise by


def test_a_vehicle_gets_six_amperes_or_nothing() -> None:
    yard = Yard(settings(16.0))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(60)
    assert sorted(yard.limits("s0", "s1", "s2")) == pytest.approx([0.0, 8.0, 8.0], abs=0.2)
    assert all(ask.limit_a == 0 or ask.limit_a >= 6 for ask in yard.asks)


def test_turns_rotate_when_not_everyone_fits() -> None:
    yard = Yard(settings(13.0, rotation_s=60.0))
    had = dict.fromkeys(("s0", "s1", "s2"), 0)
    for station in had:
        yard.plug(station)
    for _ in range(40):
        yard.run(15)
        for station in had:
            had[station] += yard.amps(station) >= 6
    assert max(had.values()) - min(had.values()) <= 8  # of 40 times, two places for three
    assert sum(had.values()) >= 60


def test_a_single_phase_vehicle_counts_on_its_phase_alone() -> None:
    outlets = tuple(Outlet(f"s{i}", 1, wiring=wiring) for i, wiring in enumerate([(0, 1, 2), (1, 2, 0)]))
    yard = Yard(settings(32.0, outlets=outlets))
    yard.plug("s0", legs=1)  # on L1
    yard.plug("s1", legs=1)  # rotated: on L2
    yard.run(30)
    assert sum(yard.limits("s0", "s1")) <= 32.0  # phases are not known yet
    yard.run(120)
    assert yard.limits("s0", "s1") == [32.0, 32.0]
    assert yard.load.points.uses.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_sub_panel_binds_those_behind_it() -> None:
    panels = (Panel("grid", "", (100.0,) * 3), Panel("hall", "grid", (20.0,) * 3))
    outlets = (Outlet("s0", 1, "hall"), Outlet("s1", 1, "hall"), Outlet("s2", 1))
    yard = Yard(settings(panels=panels, outlets=outlets))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(90)
    assert yard.limits("s0", "s1", "s2") == pytest.approx([10.0, 10.0, 32.0], abs=0.2)


def test_a_class_that_comes_first_is_filled_first_but_leaves_the_least_to_others() -> None:
    outlets = (Outlet("s0", 1, priority=0), Outlet("s1", 1), Outlet("s2", 1))
    yard = Yard(settings(40.0, outlets=outlets))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(120)
    assert yard.limits("s0", "s1", "s2") == pytest.approx([28.0, 6.0, 6.0], abs=0.2)


def test_a_limit_is_raised_only_after_another_is_certainly_lower() -> None:
    yard = Yard(settings(32.0, n=2))
    yard.plug("s0")
    yard.run(60)
    assert yard.amps("s0") == 32.0
    yard.plug("s1")
    yard.ignores["s0"] = ""  # does not answer: may still draw 32 A
    yard.run(100)
    assert yard.amps("s1") == 0.0
    yard.ignores.clear()
    yard.run(300)
    assert yard.limits("s0", "s1") == pytest.approx([16.0, 16.0], abs=1.1)


def test_an_unanswered_limit_counts_until_it_has_run_out() -> None:
    yard = Yard(settings(32.0, n=2))
    yard.ignores["s0"] = ""
    row = yard.plug("s0")
    yard.run(20)
    held = yard.load.points.may_draw_a(yard.now)[row]
    assert held.max() >= 6.0
    yard.load.unplug(row, yard.now)
    yard.car.clear()
    yard.run(15)
    assert yard.load.points.may_draw_a(yard.now)[row].max() == 0.0  # its transaction ended


def test_a_refused_limit_does_not_count() -> None:
    yard = Yard(settings(32.0, n=2))
    yard.ignores["s0"] = "rejected"
    row = yard.plug("s0")
    yard.plug("s1")
    yard.run(120)
    assert yard.load.points.may_draw_a(yard.now)[row].max() == 0.0
    assert yard.amps("s1") == 26.0  # the least is kept for the other, should it accept one day


def test_a_limit_runs_out_by_itself_and_that_is_told() -> None:
    yard = Yard(settings(50.0, outlets=(Outlet("s0", 1, fallback_a=6.0),)))
    yard.plug("s0")
    yard.run(60)
    yard.ignores["s0"] = ""
    yard.run(200)
    rows = [row for outcome in yard.outcomes for row in outcome.limits]
    assert [(row.limit_a, row.cause) for row in rows][-1] == (6.0, "fallback")
    assert any(row.limit_a == 32.0 and row.cause == "full" for row in rows)
    assert yard.amps("s0") == 6.0


def test_limits_are_renewed_before_they_run_out() -> None:
    yard = Yard(settings(50.0, n=1))
    yard.plug("s0")
    for _ in range(60):
        yard.run(10)
        assert yard.now < T0 + 40_000 or yard.amps("s0") == 32.0
    assert len(yard.asks) <= 8  # not more often than each two minutes


def test_a_station_that_disobeys_counts_with_its_most() -> None:
    yard = Yard(settings(60.0, n=3))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(60)
    yard.ignores["s0"], yard.draws["s0"] = "lie:accepted", 32.0
    yard.run(40)
    assert yard.used() <= 60.5
    assert yard.load.points.may_draw_a(yard.now)[0].max() == 32.0
    assert not yard.load.points.steerable(yard.now)[0]


def test_a_silent_vehicle_gets_no_more_and_ends_at_its_fallback() -> None:
    yard = Yard(settings(40.0, n=2))
    yard.plug("s0")
    yard.plug("s1")
    yard.run(60)
    yard.silent.add("s0")
    yard.run(60)
    assert yard.load.points.may_draw_a(yard.now)[0].max() == pytest.approx(20.0, abs=0.2)
    yard.run(260)
    assert yard.load.points.may_draw_a(yard.now)[0].max() == 0.0
    assert yard.limits("s0", "s1") == [0.0, 32.0]


def test_a_station_counts_with_its_most_until_it_confirms_its_fallback() -> None:
    yard = Yard(settings(40.0, n=2, commissioned=False))
    yard.ignores["s0"] = ""
    yard.plug("s1")
    yard.run(30)
    assert yard.load.points.may_draw_a(yard.now).max(axis=1).tolist()[0] == 32.0
    assert yard.amps("s1") <= 8.0
    first = next(ask for ask in yard.asks if ask.station == "s1" and ask.limit_a < 0)
    assert first.valid_until_ms == 0
    profile = first.body["chargingProfile"]
    assert (profile["stackLevel"], profile["chargingProfilePurpose"]) == (0, "TxDefaultProfile")
    assert "validTo" not in profile
    yard.ignores.clear()
    yard.run(100)
    assert yard.amps("s1") == 32.0


def test_other_load_goes_first_and_its_worst_counts_while_the_meter_is_silent() -> None:
    other = OtherLoad("meter", 1, worst_a=45.0)
    yard = Yard(settings(50.0, n=1, other=other))
    yard.plug("s0")
    yard.run(60, other=25.0)
    assert yard.amps("s0") == 25.0
    yard.run(20, other=40.0)
    assert yard.amps("s0") == 10.0
    yard.run(70)
    assert yard.amps("s0") == 0.0  # 5 A would be left


def test_a_grid_meter_has_the_charging_in_it() -> None:
    yard = Yard(settings(50.0, n=1, other=OtherLoad("meter", 1, grid=True, worst_a=45.0)))
    yard.plug("s0")
    for _ in range(60):
        yard.load.observe_other(np.full(3, 20.0 + yard.amps("s0")), yard.now)
        yard.run(1)
    assert yard.amps("s0") == pytest.approx(30.0, abs=1.0)


def test_the_quarter_stays_below_the_demand_limit() -> None:
    yard = Yard(settings(200.0, n=4, demand_limit_kw=30.0))
    yard.now = T0 + 420_000  # the quarter is half over, nothing was used: more than 30 kW may flow now
    for i in range(4):
        yard.plug(f"s{i}")
    yard.run(200)
    assert yard.used() * 0.69 > 40.0
    yard.run(1180)
    assert yard.load.demand.peak_kw <= 30.0
    yard.run(900)
    assert 28.5 <= yard.load.demand.peak_kw <= 30.0
    assert yard.used() * 0.69 == pytest.approx(29.7, abs=1.5)


def test_commands_a_minute_are_bounded() -> None:
    yard = Yard(settings(400.0, n=12, commands_per_min=5))
    for i in range(12):
        yard.plug(f"s{i}")
    yard.run(60)
    assert len(yard.asks) == 5
    yard.run(140)
    assert len(yard.asks) <= 20


def test_a_limit_rises_no_faster_than_the_ramp() -> None:
    yard = Yard(settings(100.0, n=1, ramp_a_per_s=0.5))
    yard.plug("s0")
    yard.run(30)
    rises = [ask.limit_a for ask in yard.asks]
    assert rises[0] == 6.0
    assert all(b - a <= 2.6 for a, b in itertools.pairwise(rises))


def test_small_changes_are_not_sent() -> None:
    yard = Yard(settings(50.0, n=1, other=OtherLoad("meter", 1, rise_a=4.0)))
    yard.plug("s0")
    yard.run(60, other=25.0)
    sent = len(yard.asks)
    for i in range(20):
        yard.run(5, other=25.0 + 0.4 * (i % 2))
    assert len(yard.asks) - sent <= 2


def test_a_vehicle_waits_for_cheap_hours_but_is_in_time() -> None:
    start = (T0 // 60_000) % 1440
    cheap = Price((start + 60) % 1440, (start + 150) % 1440, 0.1)
    site = dataclasses.replace(
        settings(100.0, n=2, interval_s=30.0), shift=True, prices=(cheap,), base_price=0.4
    )
    yard = Yard(site)
    yard.plug("s0", amps=16.0)
    yard.plug("s1", amps=16.0)
    wish = {"site": "yard", "station": "s0", "departure_ms": T0 + 4 * 3_600_000, "energy_wh": 8000}
    assert yard.load.request(wish, yard.now) == ""
    yard.run(600)
    assert yard.limits("s0", "s1") == [0.0, 16.0]
    assert (
        any(r.cause == "off_peak" for o in yard.outcomes for r in o.limits) or yard.load.points.reason[0] == 6
    )
    yard.run(3600)
    assert yard.amps("s0") == 16.0


def test_an_operators_priority_chooses_the_cheap_quarter_first() -> None:
    start = (T0 // 60_000) % 1440
    cheap = Price((start + 30) % 1440, (start + 45) % 1440, 0.1)
    yard = Yard(dataclasses.replace(settings(20.0, n=2), shift=True, prices=(cheap,), base_price=0.4))
    for station, more in (("s0", {}), ("s1", {"priority": 0})):
        yard.plug(station, amps=16.0)
        wish = {"station": station, "departure_ms": T0 + 4 * 3_600_000, "energy_wh": 2500}
        assert yard.load.request({"site": "yard", **wish, **more}, yard.now) == ""
    yard.run(20)
    at = T0 + 30 * 60_000
    yard.now = at
    yard.run(20)
    assert yard.amps("s1") > 0
    assert yard.amps("s0") == 0.0


def test_a_vehicle_that_must_hurry_charges_whatever_the_price() -> None:
    site = dataclasses.replace(settings(100.0, n=1), shift=True, prices=(Price(0, 0, 0.4),), base_price=0.1)
    yard = Yard(site)
    yard.plug("s0", amps=16.0)
    yard.load.request(
        {"site": "yard", "station": "s0", "departure_ms": T0 + 3_600_000, "energy_wh": 10_000}, yard.now
    )
    yard.run(60)
    assert yard.amps("s0") == 16.0


def test_operators_limit_a_site_and_an_evse_for_a_time() -> None:
    yard = Yard(settings(100.0, n=2))
    yard.plug("s0")
    yard.plug("s1")
    yard.run(60)
    assert (
        yard.load.request({"site": "yard", "limit_a": 30.0, "until_ms": yard.now + 120_000}, yard.now) == ""
    )
    assert (
        yard.load.request(
            {"site": "yard", "station": "s1", "limit_a": 8.0, "until_ms": yard.now + 600_000}, yard.now
        )
        == ""
    )
    yard.run(60)
    assert yard.limits("s0", "s1") == pytest.approx([22.0, 8.0], abs=0.2)
    yard.run(120)
    assert yard.limits("s0", "s1") == [32.0, 8.0]
    assert "not known" in yard.load.request({"site": "yard", "station": "nobody", "limit_a": 8.0}, yard.now)


def test_a_dc_station_is_limited_in_watts() -> None:
    yard = Yard(settings(100.0, outlets=(Outlet("s0", 1, max_a=80.0, dc=True),)))
    yard.plug("s0", amps=80.0)
    yard.run(30)
    period = yard.asks[-1].body["chargingProfile"]["chargingSchedule"][0]
    assert period["chargingRateUnit"] == "W"
    assert period["chargingSchedulePeriod"][0]["limit"] == pytest.approx(80 * 690, abs=690)


def test_a_vehicle_that_has_finished_leaves_its_current_to_others() -> None:
    yard = Yard(settings(24.0, n=3))
    for station in ("s0", "s1", "s2"):
        yard.plug(station)
    yard.run(60)
    yard.car["s0"] = (0.0, 3)
    yard.run(400)
    assert yard.limits("s1", "s2") == pytest.approx([12.0, 12.0], abs=1.2)


def test_the_limit_of_one_vehicle_is_not_left_to_the_next() -> None:
    yard = Yard(settings(100.0, n=1))
    row = yard.plug("s0")
    yard.run(60)
    profile = yard.asks[-1].body["chargingProfile"]
    assert profile["chargingProfilePurpose"] == "TxProfile"
    assert profile["transactionId"] == yard.load.points.tx_id[row]
    rows = yard.load.unplug(row, yard.now)
    assert [(r.limit_a, r.cause) for r in rows] == [(None, "free")]
    assert yard.load.unplug(row, yard.now) == []


def test_a_reboot_asks_for_the_fallback_again() -> None:
    yard = Yard(settings(100.0, n=1, commissioned=False))
    yard.run(20)
    assert yard.load.points.set_up.tolist() == [1]
    yard.load.link("s0", online=True, reboot=True)
    sent = len(yard.asks)
    yard.run(20)
    assert len(yard.asks) == sent + 1


@pytest.mark.parametrize("cut", [7, 33, 61])
def test_restoring_anywhere_changes_nothing(cut: int) -> None:
    other = OtherLoad("meter", 1, worst_a=45.0, rise_a=2.0)
    site = settings(50.0, n=3, other=other, shift=True, base_price=0.2, demand_limit_kw=20.0)
    straight, broken = Yard(site), Yard(site)
    for yard in (straight, broken):
        yard.plug("s0", legs=1)
        yard.plug("s1")
        yard.load.request(
            {"site": "yard", "station": "s1", "departure_ms": T0 + 7_200_000, "energy_wh": 5000}, yard.now
        )
        yard.run(cut, other=20.0)
    broken.load = SiteLoad(site, resume_state=broken.load.snapshot())
    for yard in (straight, broken):
        yard.plug("s2")
        yard.run(90, other=24.0)
    assert straight.asks == broken.asks
    assert [o.limits for o in straight.outcomes] == [o.limits for o in broken.outcomes]
    assert [o.loads for o in straight.outcomes] == [o.loads for o in broken.outcomes]


def test_state_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 99"):
        SiteLoad(settings(), resume_state={"version": 99})

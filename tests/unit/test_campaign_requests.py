"""Campaigns: which stations they choose, when these may be asked, and what people may do."""

from __future__ import annotations

from typing import Any

import pytest

from .campaigning import HOUR, MINUTE, NEW, OLD, T0, Bench, image, plan


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        ({}, range(6)),
        ({"sites": ["s0"]}, (0, 2, 4)),
        ({"stations": ["*/cs[12]", "s1/cs5"]}, (1, 2, 5)),
        ({"tags": ["pilot"]}, (3,)),
        ({"versions": [">=1.4,<1.5"]}, range(5)),
    ],
)
def test_targets(target: dict[str, Any], chosen: Any) -> None:
    bench = Bench(0)
    for number in range(5):
        bench.birth(number)
    bench.birth(5, "1.5.1")
    bench.operator({"action": "tag", "by": "ann", "stations": ["s1/cs3"], "tags": ["pilot"]})
    bench.birth(6, OLD, model="V3")
    bench.operator(plan(target=target))
    for action, by in (("approve", "bob"), ("start", "ann")):
        bench.operator({"id": "c1", "action": action, "by": by})
    bench.go()
    assert sorted(bench.asked()) == sorted(chosen)


def test_newly_born_stations_join() -> None:
    bench = Bench(4, waves=[{"count": 2}], until_ms=T0 + 5 * HOUR)
    bench.go()
    bench.birth(10)
    for number in bench.asked():
        bench.update(number)
    bench.go()
    for number in bench.asked():
        bench.update(number)
    bench.go()
    assert bench.state == "running"  # it stays open
    assert 10 in bench.asked()
    bench.birth(11)
    bench.birth(12, NEW)
    bench.go()
    assert bench.asked()[-1] == 11
    assert bench.row(12).reason == "runs the version already"
    bench.update(11)
    bench.go(5 * HOUR)
    assert bench.state == "finished"


def test_stations_that_may_not_have_the_image_are_left_out_with_the_reason() -> None:
    bench = Bench(0)
    bench.birth(0, "1.0.0")
    bench.birth(1, "3.0.0")
    bench.birth(2, "1.4.1")
    bench.operator(plan(image=image(NEW, from_versions=[">=1.4"])))
    for action, by in (("approve", "bob"), ("start", "ann")):
        bench.operator({"id": "c1", "action": action, "by": by})
    bench.go()
    assert bench.asked() == [2]
    assert "install a version between first" in bench.row(0).reason
    assert "older than 3.0.0" in bench.row(1).reason


def test_windows_are_in_local_time_and_know_when_clocks_change() -> None:
    night = [{"from": "22:00", "to": "04:00"}]
    bench = Bench(2, windows=night, time_zone="Europe/Berlin", site_time_zones={"s1": "Pacific/Auckland"})
    asked: dict[int, int] = {}
    for _ in range(10 * 6):
        bench.go(10 * MINUTE)
        for ask in bench.asks:
            asked.setdefault(int(ask.station[2:]), (ask.at_ms - T0) // MINUTE)
    assert asked[0] <= 10  # 01:00 in Berlin
    assert 9 * 60 <= asked[1] <= 9 * 60 + 10  # 22:00 in New Zealand


@pytest.mark.parametrize(
    ("utc", "open_"),
    [
        ("2026-03-29T00:40Z", True),  # 01:40 CET
        ("2026-03-29T00:59Z", True),
        ("2026-03-29T01:00Z", False),  # 03:00 CEST: 02:00 to 03:00 does not exist
        ("2026-10-25T00:30Z", True),  # 02:30 CEST
        ("2026-10-25T01:30Z", True),  # 02:30 CET, once more
        ("2026-10-25T02:00Z", False),  # 03:00 CET
        ("2026-11-24T23:59Z", False),
        ("2026-11-25T00:30Z", True),
    ],
)
def test_windows_at_the_change_of_clocks(utc: str, open_: bool) -> None:
    from datetime import datetime

    from models._campaign_plan import read_plan
    from models._campaign_windows import Windows

    windows = Windows(read_plan(plan(windows=[{"from": "01:30", "to": "03:00"}], time_zone="Europe/Berlin")))
    assert windows.open("x", round(datetime.fromisoformat(utc).timestamp() * 1000)) is open_


def test_weekdays_are_those_on_which_the_window_begins() -> None:
    from models._campaign_plan import read_plan
    from models._campaign_windows import Windows

    windows = Windows(read_plan(plan(windows=[{"from": "22:00", "to": "02:00", "days": [1]}])))
    monday = T0 - 24 * HOUR
    hours = [h for h in range(72) if windows.open("x", monday + h * HOUR)]
    assert hours == [22, 23, 24, 25]


def test_without_a_gate_waves_follow_one_another() -> None:
    bench = Bench(10, waves=[{"count": 2}], gate={"enabled": False, "min_soak_s": 3600})
    bench.go()
    for number in bench.asked():
        bench.update(number)
    bench.go()
    assert len(bench.asks) == 10


def test_whoever_made_it_may_not_approve_it() -> None:
    bench = Bench(0)
    bench.birth(0)
    bench.operator(plan())
    bench.operator({"id": "c1", "action": "approve", "by": "ann"})
    assert (bench.state, bench.campaigns[-1].event) == ("waiting_for_approval", "refused")
    bench.operator({"id": "c1", "action": "start", "by": "ann"})
    assert bench.campaigns[-1].text == "start: the campaign is waiting_for_approval"
    bench.go(HOUR)
    assert bench.asks == []
    bench.operator({"id": "c1", "action": "approve", "by": "bob"})
    bench.go(HOUR)
    assert bench.asks == []
    bench.operator({"id": "c1", "action": "start", "by": "ann"})
    bench.go()
    assert len(bench.asks) == 1


def test_pause_resume_abort() -> None:
    bench = Bench(10, max_in_flight=4)
    bench.go()
    bench.operator({"id": "c1", "action": "pause", "by": "bob"})
    first = bench.asked()
    bench.update(first[0])
    bench.go(MINUTE)
    assert len(bench.asks) == 4
    bench.operator({"id": "c1", "action": "resume", "by": "bob"})
    bench.go()
    assert len(bench.asks) == 5
    bench.operator({"id": "c1", "action": "abort", "by": "bob"})
    bench.go()
    assert (bench.state, bench.states()["cancelled"]) == ("aborting", 5)
    for number in bench.asked()[1:]:
        bench.update(number)
    bench.go()
    assert (bench.state, bench.states()) == ("aborted", {"succeeded": 5, "cancelled": 5})
    bench.operator({"id": "c1", "action": "resume", "by": "bob"})
    assert bench.campaigns[-1].event == "refused"


@pytest.mark.parametrize("restarts", [False, True])
def test_roll_back_takes_back_what_was_and_will_be_updated(restarts: bool) -> None:
    old = {"previous": image(OLD), "previous_location": "https://fw.example/old"}
    bench = Bench(6, restarts, max_in_flight=3, **old)
    bench.go()
    first = bench.asked()
    bench.update(first[0])
    bench.update(first[1])
    bench.operator({"id": "c1", "action": "rollback", "by": "bob"})
    bench.go()
    back = [ask for ask in bench.asks if ask.cause == "campaign/c1.back/1"]
    assert sorted(int(ask.station[2:]) for ask in back) == sorted(first[:2])
    assert {ask.body["firmware"]["location"] for ask in back} == {"https://fw.example/old"}
    bench.update(first[2])  # it was under way
    bench.go()
    back = [ask for ask in bench.asks if ask.cause == "campaign/c1.back/1"]
    assert len(back) == 3
    for number in first[:3]:
        bench.birth(number, OLD, boot=5)
    bench.go()
    assert bench.book.runs["c1.back"].state.value == "finished"
    assert bench.state == "rolled_back"
    assert bench.states() == {"succeeded": 3, "cancelled": 3}
    bench.operator({"id": "c1", "action": "rollback", "by": "bob"})
    assert bench.campaigns[-1].event == "refused"


def test_two_campaigns_never_work_on_one_station() -> None:
    bench = Bench(1)
    bench.operator(plan(id="c2", image=image("2.1.0")))
    for action, by in (("approve", "bob"), ("start", "ann")):
        bench.operator({"id": "c2", "action": action, "by": by})
    bench.go(HOUR)
    assert [ask.by for ask in bench.asks] == ["campaign:c1"]
    bench.update(0)
    bench.go()
    assert [ask.by for ask in bench.asks] == ["campaign:c1", "campaign:c2"]


def test_requests_that_make_no_sense_are_told_as_refused() -> None:
    bench = Bench(0)
    for body in (
        plan(waves=[{"count": 1, "percent": 2.0}]),
        plan(waves=[{"count": 1}], pace={}),
        plan(time_zone="Europe/Atlantis"),
        plan(previous=image(OLD)),
        plan(target={"versions": ["newest"] * 2 + [">="]}),
        plan(windows=[{"from": "25:00", "to": "04:00"}]),
        plan(id="a/b"),
        plan(speed=1),
        {"id": "c9", "action": "start", "by": "ann"},
        {"id": "c9", "action": "explode", "by": "ann"},
    ):
        bench.operator(body)
        assert bench.campaigns[-1].event == "refused", body
        assert bench.campaigns[-1].text
    assert bench.book.runs == {}
    bench.operator(plan())
    before = len(bench.campaigns)
    bench.operator(plan())  # delivered twice
    assert len(bench.campaigns) == before
    bench.operator(plan(success=0.5))
    assert bench.campaigns[-1].event == "refused"

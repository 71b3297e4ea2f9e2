"""What is ahead of a campaign, whom it takes in before anybody approves it, why a station waits."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from connectors.campaign_reader import CampaignReader
from connectors.ledger import Ledger
from models._campaign_plan import read_plan
from models._campaign_windows import Windows
from models.campaign_outlook import Outlook, View, outlook, view_of, wave_of, waves_of
from models.campaign_why import Standing, why
from pipeline import cli

from ._ledger_records import blob, change
from .campaigning import HOUR, MINUTE, NEW, OLD, T0, Bench, image, plan
from .test_campaign_api import ask, stored


def seen(bench: Bench, update_s: float | None = None) -> View:
    """Return the view that the ledger would give of what a bench told."""
    states: dict[int, dict[str, int]] = {}
    for row in bench.station_rows.values():
        wave = states.setdefault(row.wave, {})
        wave[row.state] = wave.get(row.state, 0) + 1
    changes = [
        {"event": c.event, "at_ms": c.at_ms, "wave": c.wave, "text": c.text, "plan": c.plan}
        for c in bench.campaigns
    ]
    made = bench.campaigns[0].plan
    assert made is not None
    return view_of(made, bench.state, changes, states, update_s)


def waiting(bench: Bench) -> list[tuple[str, str]]:
    return [key for key, row in bench.station_rows.items() if row.state == "waiting"]


def reasons(bench: Bench, number: int, **known: Any) -> list[str]:
    view = seen(bench)
    row = bench.station_rows.get((f"s{number % 2}", f"cs{number}"))
    told = None if row is None else {name: getattr(row, name) for name in row.__struct_fields__}
    standing = Standing(
        site=f"s{number % 2}", station=f"cs{number}", row=told, waiting=waiting(bench), **known
    )
    return why(view, outlook(view, bench.now), standing, bench.now)


def test_whoever_approves_sees_whom_it_takes_in_and_why_not() -> None:
    bench = Bench(0)
    for number, fw in enumerate((OLD, OLD, OLD, NEW, "3.0.0", OLD)):
        bench.birth(number, fw)
    bench.operator(plan(waves=[{"count": 1}], target={"sites": ["s*"]}))
    assert bench.campaigns[-1].text == "4 stations would be updated in waves of 1, 3, 2 are left out"
    assert bench.states() == {"waiting": 4, "skipped": 2}
    assert bench.row(3).reason == "runs the version already"
    bench.birth(6)  # born while it waits for the approval
    assert bench.states() == {"waiting": 5, "skipped": 2}
    bench.go(HOUR)
    assert bench.asks == []
    bench.operator({"id": "c1", "action": "abort", "by": "bob"})
    assert bench.states() == {"cancelled": 5, "skipped": 2}
    assert bench.state == "aborted"
    assert bench.campaigns[-1].counts == {"cancelled": 5, "skipped": 2}


def test_who_is_no_longer_chosen_at_the_start_is_left_out() -> None:
    bench = Bench(0)
    for number in range(4):
        bench.birth(number)
    tag = {"action": "tag", "by": "ann", "tags": ["pilot"]}
    bench.operator(tag | {"stations": ["s0/*", "s1/cs1"]})
    bench.operator(plan(target={"tags": ["pilot"]}))
    assert bench.states() == {"waiting": 3}
    bench.operator(tag | {"stations": ["s1/cs1"], "remove": True})
    bench.operator(tag | {"stations": ["s1/cs3"]})
    for action, by in (("approve", "bob"), ("start", "ann")):
        bench.operator({"id": "c1", "action": action, "by": by})
    bench.go()
    assert sorted(bench.asked()) == [0, 2, 3]
    assert bench.row(1).reason == "the target does not choose it any more"


@pytest.mark.parametrize(
    "waves", [{"waves": [{"count": 3}, {"percent": 50.0}]}, {"pace": {"first": 2, "factor": 2.0}}, {}]
)
def test_the_waves_that_are_foreseen_are_those_that_come(waves: dict[str, Any]) -> None:
    bench = Bench(20, **waves)
    foreseen = [wave.stations for wave in outlook(seen(bench), bench.now).waves]
    named = waves_of(seen(bench), waiting(bench))
    for key, number in named.items():
        assert wave_of(seen(bench), *key, waiting(bench))[0] == number
    while bench.state == "running":
        bench.go()
        for number in bench.asked():
            if bench.row(number).state == "requested":
                bench.update(number)
        ahead = outlook(seen(bench), bench.now)
        opened = [wave.wave for wave in seen(bench).waves]
        assert [wave.stations for wave in ahead.waves] == foreseen[len(opened) :]
    assert {key: row.wave for key, row in bench.station_rows.items()} == named
    assert outlook(seen(bench), bench.now) == Outlook(
        at_ms=bench.now, needs="", waves=(), ends_ms=None, likely_ms=None
    )


def test_the_earliest_end_keeps_to_pace_soak_and_windows() -> None:
    gate = {"min_soak_s": 6 * 3600}
    many = {"waves": [{"count": 60}], "per_minute": 2, "max_in_flight": 1000, "gate": gate}
    bench = Bench(0)
    for number in range(120):
        bench.birth(number)
    bench.operator(plan(**many))
    ahead = outlook(seen(bench, update_s=300.0), T0)
    assert ahead.needs == "a second person approves it"
    # 60 stations at 2 a minute and 5 minutes for the last; then 6 hours of soak; then the same
    first, second = ahead.waves
    assert (first.opens_ms, first.ends_ms) == (T0, T0 + 35 * MINUTE)
    assert (second.opens_ms, ahead.ends_ms) == (T0 + 35 * MINUTE + 6 * HOUR, T0 + 70 * MINUTE + 6 * HOUR)
    bench = Bench(0)
    for number in range(120):
        bench.birth(number)
    nights = [{"from": "01:00", "to": "01:20"}]
    bench.operator(plan(**(many | {"waves": [], "gate": None}), windows=nights))
    ahead = outlook(seen(bench, update_s=300.0), T0)
    # an hour of asking takes three nights of 20 minutes
    assert ahead.waves[0].opens_ms == T0 + HOUR
    assert ahead.ends_ms == T0 + 48 * HOUR + HOUR + 25 * MINUTE
    assert ahead.likely_ms is None


def test_the_likely_end_goes_by_the_waves_so_far() -> None:
    bench = Bench(30, waves=[{"count": 10}, {"count": 10}])
    bench.go()
    bench.go(50 * MINUTE - 10_000)
    for number in bench.asked():
        bench.update(number)
    bench.go()
    bench.go()
    ahead = outlook(seen(bench), bench.now)
    assert ahead.likely_ms is not None
    assert abs(ahead.likely_ms - (bench.now + 100 * MINUTE)) < 2 * MINUTE


def test_why_a_station_waits() -> None:
    bench = Bench(0)
    for number in range(6):
        bench.birth(number)
    night = {"windows": [{"from": "22:00", "to": "04:00"}], "time_zone": "Europe/Berlin"}
    bench.operator(plan(waves=[{"count": 1}], retries=1, wave_timeout_s=86_400, **night))
    assert reasons(bench, 0)[0] == "a second person has to approve the campaign first"
    assert "it will be in wave" in reasons(bench, 0)[1]
    bench.operator({"id": "c1", "action": "approve", "by": "bob"})
    assert "somebody has to start it" in reasons(bench, 0)[0]
    bench.operator({"id": "c1", "action": "start", "by": "ann"})
    bench.go()
    canary = bench.asked()[0]
    other = next(number for number in range(6) if number != canary)
    assert reasons(bench, canary)[0].startswith("attempt 1 is under way since 2026-11-24 00:00:10 UTC")
    assert reasons(bench, other)[1] == "wave 1 is not done: 1 of its stations are on their way"
    bench.status(canary, "DownloadFailed")
    told = reasons(bench, canary, offline_ms=T0, charging_ms=T0, elsewhere="c9")
    assert told[:3] == [
        "it is offline since 2026-11-24 00:00:00 UTC",
        "a car charges since 2026-11-24 00:00:00 UTC",
        "campaign c9 is at work on it",
    ]
    assert told[3] == (
        "attempt 1 came to nothing (DownloadFailed); 1 of 2 attempts failed, "
        "again from 2026-11-24 00:15:10 UTC"
    )
    assert told[4] == "if it cannot be asked until 2026-11-25 00:00:10 UTC, it counts as unreachable"
    bench.now = T0 + 10 * HOUR
    assert "its window is shut until 2026-11-24 21:00:00 UTC (Tue 22:00 Europe/Berlin)" in reasons(
        bench, canary
    )
    bench.operator({"id": "c1", "action": "pause", "by": "bob", "text": "grid work"})
    assert reasons(bench, canary)[0] == "the campaign is paused since 2026-11-24 10:00:00 UTC: grid work"
    assert reasons(bench, 7) == ["nothing is known of it: no birth with vendor and model has come"]
    assert "it is a Bolt B1" in reasons(bench, 7, vendor="Bolt", model="B1")[0]
    assert "does not choose it" in reasons(bench, 7, vendor="Volta", model="V2")[0]


def test_why_a_station_is_at_its_end() -> None:
    bench = Bench(4, retries=0, image=image(NEW, from_versions=["1.4"]), error=1.0)
    bench.go()
    bench.update(0)
    bench.status(1, "InstallationFailed")
    bench.birth(4, "1.0.0")
    assert reasons(bench, 0)[0].startswith("it runs 2.0.0, by its own birth, since")
    assert reasons(bench, 1) == [
        "failed 2026-11-24 00:00:10 UTC: InstallationFailed",
        "1 of 1 attempts failed",
        "a birth with 2.0.0, however late, makes it good",
    ]
    assert "install a version between first" in reasons(bench, 4)[0]


def test_next_window_over_the_change_of_clocks() -> None:
    windows = Windows(read_plan(plan(windows=[{"from": "02:30", "to": "03:30"}], time_zone="Europe/Berlin")))

    def at(text: str) -> int:
        return round(datetime.fromisoformat(text).timestamp() * 1000)

    # 02:30 does not exist on 29 March: the window opens with the hour that the clocks jump to
    assert windows.next_open("x", at("2026-03-28T12:00Z")) == at("2026-03-29T01:00Z")
    assert windows.next_open("x", at("2026-03-29T01:10:30Z")) == at("2026-03-29T01:10:30Z")
    assert windows.next_open("x", at("2026-03-29T01:30Z")) == at("2026-03-30T00:30Z")
    # it is open twice on 25 October: 30 minutes, and an hour
    assert windows.next_open("x", at("2026-10-24T12:00Z")) == at("2026-10-25T00:30Z")
    assert windows.after_open("x", at("2026-10-24T12:00Z"), 80 * MINUTE) == at("2026-10-25T02:20Z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("outlook")
    bench = Bench(12, waves=[{"count": 4}], name="spring image")
    bench.go()
    bench.update(bench.asked()[0])
    ledger: Ledger = stored(made, bench)
    updated = next(row for row in bench.station_rows.values() if row.state == "succeeded")
    late = next(row for row in bench.station_rows.values() if row.state == "waiting")
    raised = [
        (updated, "a", 1, bench.now + 1),
        (updated, "a", 2, bench.now + 2),  # the same one, updated
        (updated, "b", 1, bench.now + 3),
        (late, "c", 1, bench.now + 4),
        (updated, "d", 1, T0 - 1),  # before the wave
    ]
    found = [
        change(number, finding_id=name, site=row.site, station=row.station, code=code, changed_at=at)
        for row, name, number, at in raised
        for code in ["lock_failure" if name == "c" else "over_current"]
    ]
    ledger.apply("findings", [(0, blob(*found))])
    ledger.close()
    return made


def test_over_http_and_on_the_page(folder: Path) -> None:
    told = ask(folder, "GET", "/api/v1/campaigns/c1/outlook").json()
    assert [wave["stations"] for wave in told["waves"]] == [8]
    for path in ("/api/v1/campaigns/c9/outlook", "/api/v1/campaigns/c9/stations/s0/cs0"):
        assert ask(folder, "GET", path).status_code == 404
    late = ask(folder, "GET", "/api/v1/campaigns/c1/stations?state=waiting").json()[0]
    one = ask(folder, "GET", f"/api/v1/campaigns/c1/stations/{late['site']}/{late['station']}").json()
    assert one["why"][0].startswith("it will be in wave 2")
    told = ask(folder, "GET", "/api/v1/campaigns/c1/findings").json()
    assert [(row["code"], row["updated"], row["waiting"]) for row in told] == [
        ("over_current", 2, 0),
        ("lock_failure", 0, 1),
    ]
    assert (told[0]["updated_stations"], told[0]["waiting_stations"]) == (1, 8)
    assert (
        "Findings since the newest wave opened" in ask(folder, "GET", "/api/v1/campaigns/c1/report.html").text
    )
    page = ask(folder, "GET", "/campaigns/c1").text
    assert "over current" in page
    assert "Ends not before" in page
    shown = ask(folder, "GET", f"/campaigns/c1/station?place={late['site']}/{late['station']}").text
    assert "it will be in wave 2" in shown
    assert "nothing is known of it" in ask(folder, "GET", "/campaigns/c1/station?place=%3Cb%3E/x").text
    assert ask(folder, "GET", "/campaigns/c9/station?place=a/b").status_code == 404


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(tomli_w.dumps({"service": {"data_dir": str(folder)}}))
    at = ["--config", str(config)]
    assert cli.main(["campaign", "outlook", "c1", *at]) == 0
    told = capsys.readouterr().out
    assert "wave 2            8 stations  not before" in told
    assert "ends not before" in told
    assert cli.main(["campaign", "outlook", "c1", "--stations", *at]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), sum("wave 1" in line for line in lines), sum("wave 2" in line for line in lines)) == (
        12, 4, 8,
    )  # fmt: skip
    assert cli.main(["campaign", "why", "c1", "s0/cs0", *at]) == 0
    assert capsys.readouterr().out.startswith("s0/cs0 ")
    assert cli.main(["campaign", "why", "c1", "cs0", *at]) != 0
    assert "expected SITE/STATION" in capsys.readouterr().err
    assert cli.main(["campaign", "status", "c1", *at]) == 0
    assert "ends not before" in capsys.readouterr().out


def test_the_reader_knows_no_campaign_that_is_none(folder: Path) -> None:
    reader = CampaignReader(f"sqlite:///{folder / 'ledger.sqlite'}")
    assert reader.outlook("none", 0) is None
    assert reader.why("none", "a", "b", 0) is None
    assert list(reader.planned("none")) == []
    reader.close()

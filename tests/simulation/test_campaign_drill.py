"""The drills of campaigns and of the gate at a small size, and what they say when something is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from models._campaign_run import Run
from pipeline import cli, drill_campaign
from pipeline.drill_campaign import CampaignOptions, run_campaign
from pipeline.drill_gate import GateOptions, one_campaign


def test_a_small_fleet_killed_on_the_way_ends_as_without_kills() -> None:
    result = run_campaign(CampaignOptions(seed=5, stations=200, kills=3))
    told = drill_campaign.table(result)
    assert result["passed"], told
    assert (result["kills"], result["counts"]["succeeded"]) == (3, 192)
    assert told.endswith("PASSED")
    assert "WRONG" not in told


def test_the_drill_sees_a_station_that_was_asked_while_it_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Run._ask

    def careless(self: Run, now_ms: int, step_ms: int, busy: Any) -> None:
        self.fleet.charging[:] = 0
        ask(self, now_ms, step_ms, busy)

    monkeypatch.setattr(Run, "_ask", careless)
    monkeypatch.setattr(drill_campaign, "_LONGEST_MS", 12 * 3_600_000)
    result = run_campaign(CampaignOptions(seed=5, stations=200, kills=0))
    assert result["asked_while_charging"] > 0
    assert not result["passed"]
    assert "must be 0   <- WRONG" in drill_campaign.table(result)


def test_the_gate_stops_a_bad_image_and_lets_a_harmless_one_pass() -> None:
    options = GateOptions(stations=1500, canaries=500, history_hours=48)
    assert one_campaign(options, 2101, bad=True)[::2] == ("paused", "worse findings")
    assert one_campaign(options, 2101, bad=False)[::2] == ("next wave", "every figure as before")


def test_the_table_of_the_gate_drill(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["drill", "gate", "--seeds", "1", "--stations", "600", "--canaries", "300", "--soak-hours", "24"]
    code = cli.main(words)  # too short for a verdict on most figures: it may fail, and must say why
    told = capsys.readouterr().out
    assert "300 canaries of 600 stations" in told
    assert told.strip().endswith("PASSED" if code == 0 else "FAILED")

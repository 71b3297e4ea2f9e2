"""The load drill on a small site: the optimum, stations that ignore commands, and time without control."""

from __future__ import annotations

import json

import pytest

from pipeline import cli
from pipeline.drill_load import LoadDrill, LoadOptions


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_busy_morning_against_the_optimum(seed: int) -> None:
    options = LoadOptions(seed=seed, evses=14, site_a=63.0, from_h=7.5, hours=8.75, demand_kw=36.0)
    result = LoadDrill(options, print).run()
    assert result["over_limit_s"] == 0
    assert 30.0 < result["demand_peak_kw"] <= 36.0
    assert result["share_of_optimum"] <= 1.0
    assert result["share_within_margins"] >= 0.85  # the first minutes of a short day cost
    assert "synthetic" in result["arrivals"]


def test_the_limit_holds_without_control_and_without_obedience() -> None:
    options = LoadOptions(seed=5, evses=14, site_a=63.0, from_h=8.0, hours=9.2, ignoring=0.3, dead_s=300)
    result = LoadDrill(options, print).run()
    assert sum(result["ignoring"].values()) == 4
    assert result["longest_over_limit_s"] <= result["reaction_s"]
    assert result["passed"]


def test_the_command_prints_a_table_and_one_json_line_last(capsys: pytest.CaptureFixture[str]) -> None:
    words = "drill load --seed 2 --evses 8 --site-a 40 --demand-kw 0 --from-hour 7.5 --hours 8 --data none"
    code = cli.main([*words.split(), "--json"])
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert code == (0 if result["passed"] else 1)
    assert result["over_limit_s"] == 0
    assert any(line.startswith("share_of_optimum") for line in lines)


def test_sizes_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["drill", "load", "--evses", "0"]) == 2
    assert "--evses 1 to 1000" in capsys.readouterr().err

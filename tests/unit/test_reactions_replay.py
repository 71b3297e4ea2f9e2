"""Reactions from a message log to commands, and a policy that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import cli


def test_a_replay_sends_and_records_what_a_rule_says(tmp_path: Path) -> None:
    rules = """
[reactions]
enabled = true
dry_run = false
[reactions.rules.hot-plug]
codes = ["connector_over_temperature"]
severity = "warning"
safety = true
steps = [{ action = "limit", limit_a = 10.0 }, { action = "inoperative", after_s = 60.0 }]
"""
    (tmp_path / "rules.toml").write_text(rules)
    log, out = tmp_path / "log.jsonl", tmp_path / "out"
    fault = "connector_over_temperature@AX01-02/1+30s~20000s:clear"
    wanted = ["--log", str(log), "--stations", "4", "--hours", "6", "--fault", fault]
    assert cli.main(["simulate", *wanted]) == 0
    words = ["replay", "--input", str(log), "--out", str(out), "--config", str(tmp_path / "rules.toml")]
    assert cli.main(words) == 0
    rows = [json.loads(line) for line in (out / "reactions.jsonl").read_text().splitlines()]
    assert [(row["step"], row["state"]) for row in rows] == [
        (0, "sent"),
        (1, "sent"),
        (1, "undone"),
        (0, "undone"),
    ]
    commands = [json.loads(line) for line in (out / "commands.jsonl").read_text().splitlines()]
    asked = {row["cause"]: row["command"] for row in commands if row["event"] == "asked"}
    assert asked == {row["cause"]: row["command"] for row in rows}
    (raised,) = [
        json.loads(line)["raised_at"]
        for line in (out / "findings.jsonl").read_text().splitlines()
        if json.loads(line)["state"] == "raised"
    ]
    assert rows[0]["at_ms"] == raised
    assert rows[1]["at_ms"] - raised == pytest.approx(60_000, abs=1_000)


def test_a_wrong_policy_is_told_with_file_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[reactions.rules.hot]\ncodes = ["offline"]\nsteps = [{ action = "explode" }]\n')
    assert cli.main(["check-config", str(path)]) != 0
    told = capsys.readouterr().err
    assert "explode" in told
    assert "inoperative" in told

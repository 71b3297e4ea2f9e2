"""Back-tests: findings of two configurations paired by condition, and the command over a simulated fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.journal import JournalReader, JournalWriter
from models.frame import Frame
from pipeline import cli, replay_log
from pipeline.backtest import SAME_START_MS, Raised, compare
from pipeline.config import Config
from pipeline.replay_journal import FrozenJournal


@dataclass(frozen=True)
class At:
    """Start and delay of a finding."""

    start: int
    delay: int
    code: str = "over_current"


def raised(at: At, evse: int = 1) -> Raised:
    return Raised(at.code, "site", "cp", "cp", evse, at.start, at.start + at.delay, "warning", True)


def test_pairs_by_nearest_start() -> None:
    a = [raised(At(0, 10)), raised(At(10_000_000, 10)), raised(At(0, 5, "offline"))]
    b = [raised(At(1000, 20)), raised(At(10_000_500, 5)), raised(At(0, 10), evse=2)]
    found = compare(a, b)
    assert [f.evse for f in found.new] == [2]
    assert [f.code for f in found.gone] == ["offline"]
    assert [(x.start, y.start) for x, y in found.earlier] == []
    assert [(x.start, y.start) for x, y in found.later] == [(0, 1000), (10_000_000, 10_000_500)]
    assert found.same == 0


def test_starts_too_far_apart_are_two_conditions() -> None:
    found = compare([raised(At(0, 10))], [raised(At(SAME_START_MS + 1, 10))])
    assert (len(found.new), len(found.gone)) == (1, 1)


@settings(max_examples=50, deadline=None)
@given(a=st.lists(st.integers(0, 10**8), max_size=20), b=st.lists(st.integers(0, 10**8), max_size=20))
def test_every_finding_is_counted_once(a: list[int], b: list[int]) -> None:
    left, right = [raised(At(t, 0)) for t in a], [raised(At(t, 0)) for t in b]
    found = compare(left, right)
    moved = len(found.earlier) + len(found.later) + found.same
    assert len(found.new) + moved == len(b)
    assert len(found.gone) + moved == len(a)
    assert compare(left, left).same == len(a)


def test_a_stricter_limit_finds_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    made = ["simulate", "--log", str(log), "--hours", "0.5", "--stations", "4", "--seed", "3"]
    assert cli.main([*made, "--fault", "over_current@AX01-01/1+2m~5m"]) == 0
    (tmp_path / "a.toml").write_text("[detectors.over_current]\nfactor = 3.0\nmargin_a = 100.0\n")
    (tmp_path / "b.toml").write_text("[detectors.over_current]\n")
    capsys.readouterr()
    configs = ["--config", str(tmp_path / "a.toml"), "--config", str(tmp_path / "b.toml")]
    assert cli.main(["backtest", "--log", str(log), *configs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["by_code"]["over_current"] == {"new": 1}
    assert [side["closes"] for side in found["configs"]] == [True, True]
    assert found["configs"][0]["rows"] == found["configs"][1]["rows"] > 0
    assert cli.main(["backtest", "--log", str(log), *configs]) == 0
    assert "new      over_current at AX01/AX01-01/1" in capsys.readouterr().out
    assert cli.main(["backtest", *configs]) == 2
    assert "expected --log" in capsys.readouterr().err
    replay_log.write_journal(Config(), log, tmp_path / "journal.db")
    assert cli.main(["backtest", "--journal", str(tmp_path), *configs, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for side in (*again["configs"], *found["configs"]):
        del side["flow_ns_per_row"]
    assert again == found
    assert cli.main(["backtest", "--log", str(log), *configs[:2]]) == 2
    assert "expected two" in capsys.readouterr().err


def test_a_journal_in_use_stands_still_for_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = Frame.build([(k, b"a/b", b"%d" % k, 0) for k in range(5)])
    with JournalWriter(path, 1, durable=False) as writer:
        writer.append({0: first})
        frozen = FrozenJournal(tmp_path)
        writer.append({0: first})
        with frozen, JournalReader(path) as reader:
            assert reader.ends() == {0: 10}
            assert frozen.ends() == {0: 5}
            found = frozen.read(0, 2)
            assert found is not None
            assert (found[0], len(found[1])) == (2, 3)
            assert frozen.read(0, 5) is None

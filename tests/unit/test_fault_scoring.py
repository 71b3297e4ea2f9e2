"""Findings against truth: what counts as found, as false, and as neither."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DecodeError, StorageError
from models.fault_scoring import Comparison, Found, Rules, Truth, compare, per_evse_month, raised
from pipeline.scoring import _fault_run as fault_run
from pipeline.scoring._fault_run import given, table

_T = 1_781_071_200_000
_SECOND = 1000


def truth(code: str = "over_current", **fields: Any) -> Truth:
    place: dict[str, Any] = {"site": "S", "node": "N", "station": "N", "evse": 1, "severity": "clear"}
    return Truth(code=code, **(place | {"start": _T, "end": _T + 600_000} | fields))


def found(code: str = "over_current", **fields: Any) -> Found:
    place: dict[str, Any] = {
        "site": "S",
        "node": "N",
        "station": "N",
        "evse": 1,
        "finding_id": f"{code}{fields}",
    }
    return Found(code=code, **(place | {"raised_at": _T + 5_000} | fields))


def one(truths: list[Truth], findings: list[Found]) -> tuple[int, int, int, int]:
    """Return truths found, missed, false and beside."""
    got = compare(truths, findings)
    hits = sum(cell.found for by in got.cells.values() for cell in by.values())
    return hits, len(got.missed), len(got.false), len(got.beside)


def test_a_finding_in_place_and_time_finds_its_truth_with_its_delay() -> None:
    got = compare([truth()], [found(), found(raised_at=_T + 90_000)])
    cell = got.cells["over_current"]["clear"]
    assert (cell.truths, cell.found, cell.delays_s) == (1, 1, [5.0])
    assert (got.missed, got.false, got.beside) == ([], [], [])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"site": "S2"}, (0, 1, 1, 0)),
        ({"station": "X", "node": "X"}, (0, 1, 1, 0)),
        ({"evse": 2}, (0, 1, 1, 0)),
        ({"evse": None}, (1, 0, 0, 0)),  # says it of the station
        ({"node": None}, (1, 0, 0, 0)),
        ({"code": "phase_open"}, (0, 1, 0, 1)),
        ({"raised_at": _T - 59 * _SECOND}, (1, 0, 0, 0)),
        ({"raised_at": _T - 61 * _SECOND}, (0, 1, 1, 0)),
        ({"raised_at": _T + 1500 * _SECOND}, (1, 0, 0, 0)),
        ({"raised_at": _T + 1501 * _SECOND}, (0, 1, 1, 0)),
        ({"raised_at": None, "start": _T + 60_000}, (1, 0, 0, 0)),
        # its condition began while something was wrong, and was raised long after
        ({"raised_at": _T + 9_000_000, "start": _T + 60_000}, (0, 1, 0, 1)),
        ({"raised_at": _T + 9_000_000, "start": _T + 1501 * _SECOND}, (0, 1, 1, 0)),
        ({"raised_at": _T + 9e9, "planned": True}, (0, 1, 0, 0)),  # tells nobody
        ({"raised_at": _T + 9e9, "live": False}, (0, 1, 0, 0)),
        ({"raised_at": _T + 9e9, "parent": "p"}, (0, 1, 0, 0)),
    ],
)
def test_place_time_and_code_decide(other: dict[str, Any], expected: tuple[int, int, int, int]) -> None:
    fields = {k: int(v) if isinstance(v, float) else v for k, v in other.items() if k != "code"}
    assert one([truth()], [found(other.get("code", "over_current"), **fields)]) == expected


def test_a_parent_counts_for_its_child_and_not_the_other_way() -> None:
    child = truth("under_voltage")
    assert one([child], [found("site_power_event", node=None, station=None, evse=None)]) == (1, 0, 0, 1)
    assert one([truth("site_power_event", node=None, station=None, evse=None)], [found("under_voltage")]) == (
        0, 1, 0, 1,
    )  # fmt: skip
    later = found("under_voltage", raised_at=_T + 70_000)
    both = [found("site_power_event", node=None, station=None, evse=None), later]
    assert compare([child], both).cells["under_voltage"]["clear"].delays_s == [70.0], (
        "its own code is the delay"
    )


def test_what_a_truth_leaves_out_is_open() -> None:
    assert one([Truth(code="over_current")], [found(raised_at=1), found(site="Z", raised_at=2)]) == (
        1,
        0,
        0,
        0,
    )
    assert one([truth(start=None)], [found(raised_at=1)]) == (1, 0, 0, 0)
    assert one([truth(end=None)], [found(raised_at=1 << 60)]) == (1, 0, 0, 0)


def test_the_result_does_not_depend_on_the_order_of_findings() -> None:
    truths = [truth(), truth("phase_open", severity="subtle", evse=2), truth(start=_T + 9_000_000, end=None)]
    findings = [found(), found(evse=2), found("phase_open", evse=2), found("offline", site="Z")]
    records = [compare(truths, order).record() for order in itertools.permutations(findings)]
    assert all(record == records[0] for record in records)
    assert records[0]["macro_recall"] == {"clear": 0.5, "subtle": 1.0}
    assert records[0]["false"] == {"offline": 1}
    assert records[0]["beside"] == {"over_current": 1}


def test_macro_recall_is_over_codes() -> None:
    got = compare([truth(), truth(evse=2), truth("offline", evse=None)], [found(), found(evse=2)])
    assert got.macro_recall("clear") == 0.5
    assert got.macro_recall("subtle") is None
    assert Comparison().macro_recall("clear") is None


def test_one_record_per_finding_the_first_that_told_somebody() -> None:
    quiet = found(finding_id="a", live=False)
    told = found(finding_id="a", raised_at=_T + 7_000)
    lines = [quiet, told, found(finding_id="a", state="updated"), found(finding_id="b", state="cleared")]
    assert raised(lines) == [told]
    anonymous = [found(finding_id=""), found(finding_id="")]
    assert len(raised(anonymous)) == 2


def test_rates() -> None:
    assert per_evse_month(3, 2, 730.5) == 1.5


def test_files_from_elsewhere(tmp_path: Path) -> None:
    truths, findings = tmp_path / "truth.jsonl", tmp_path / "findings.jsonl"
    truths.write_text('{"code": "over_current", "site": "S", "who": "me"}\n\n{"code": "offline"}\n')
    findings.write_text('{"code": "over_current", "site": "S", "evidence": {}}\n')
    score = given(truths, findings, Rules(), 7305.0)
    record = score.record()
    assert json.loads(json.dumps(record))["codes"]["over_current"]["any"]["recall"] == 1.0
    assert record["missed"] == [
        {"code": "offline", "site": None, "node": None, "station": None, "evse": None, "severity": "any",
         "start": None, "end": None}
    ]  # fmt: skip
    assert record["evse_months"] == 10.0
    lines = table(score)
    assert any(line.split()[:2] == ["over_current", "1/1"] for line in lines)
    assert any(line.split()[:2] == ["offline", "0/1"] for line in lines)
    findings.write_text('{"site": "S"}\n')
    with pytest.raises(DecodeError, match=r"line 1: .*code"):
        given(truths, findings, Rules(), None)
    with pytest.raises(StorageError, match="nowhere"):
        given(tmp_path / "nowhere", findings, Rules(), None)


def test_a_scene_is_charged_with_what_it_may_not_cause() -> None:
    from connectors.simulator.corpus import Corpus
    from connectors.simulator.fleets import bench_fleet
    from connectors.simulator.messages import Truth as Happened

    corpus = Corpus(bench_fleet(1), 1, _T, _T + 3_600_000)
    corpus.happened = [Happened("backlog_replay", "S", "N", "N", None, _T, _T + 600_000, "clear")]
    here = [found("offline", evse=None), found("over_current", severity="critical")]
    away = found("under_voltage", node="M", station="M")
    scene, elsewhere = fault_run.scenes(corpus, [*here, away], Rules())
    assert (scene.name, scene.found, scene.critical) == ("backlog_replay", here[1:], 1)
    assert (elsewhere.found, elsewhere.critical) == ([away], 0)

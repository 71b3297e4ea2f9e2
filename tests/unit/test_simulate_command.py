"""``chargestream simulate``: logs that read back, reproducible by seed, with their truth; plain errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.msglog import read_frames
from pipeline.cli import EXIT_USAGE, main


def _simulate(*arguments: str) -> int:
    return main(["simulate", *arguments])


def test_a_log_reads_back_and_is_the_same_for_the_same_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"]
    for log in logs:
        assert _simulate("--log", str(log), "--hours", "0.2", "--stations", "5", "--seed", "4") == 0
    assert "messages of" in capsys.readouterr().out
    first, second = ([bytes(f.payloads) for f in read_frames(log)] for log in logs)
    assert first == second
    lines = [json.loads(line) for line in logs[0].read_text().splitlines()]
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    assert {line["topic"].rsplit("/", 1)[1] for line in lines} >= {"conn", "meter", "status", "hb"}


def test_faults_are_written_with_their_truth(tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    faults = ("--fault", "under_voltage@AX01-01/1+1m~5m:moderate", "--fault", "offline@BO01-gw+2m~3m")
    log = tmp_path / "log.jsonl"
    assert _simulate("--log", str(log), "--hours", "0.2", *faults, "--truth", str(truth)) == 0
    records = [json.loads(line) for line in truth.read_text().splitlines()]
    assert [(r["code"], r["evse"], r["severity"]) for r in records] == [
        ("under_voltage", 1, "moderate"),
        ("offline", None, "clear"),
    ]
    assert records[0]["end"] - records[0]["start"] == 300_000


def test_the_bench_shape_has_the_readings_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "bench.jsonl"
    assert _simulate("--log", str(log), "--shape", "60x10", "--readings", "12000") == 0
    meters = [json.loads(line)["payload"] for line in log.read_text().splitlines() if "/up/meter" in line]
    rows = [row for payload in meters for series in payload["series"] for row in series["rows"]]
    assert len(rows) == pytest.approx(12_000, rel=0.02)
    assert {len(row) for row in rows} == {11}
    sizes = [sum(len(series["rows"]) for series in payload["series"]) for payload in meters]
    assert max(sizes) == 60


def test_the_list_of_faults_names_stations_and_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert _simulate("--list-faults", "--demo") == 0
    text = capsys.readouterr().out
    assert "under_voltage" in text
    assert "AX01-01" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "give either --broker HOST:PORT or --log FILE"),
        (("--log", "x", "--fault", "flood@A"), "no fault 'flood'"),
        (("--log", "x", "--fault", "offline@nowhere"), "no station, node or site 'nowhere'"),
        (("--log", "x", "--shape", "big"), "--shape 'big', expected rows x channels"),
        (("--log", "x", "--stations", "0"), "0 stations, expected 1 to"),
        (("--broker", "here"), "--broker 'here', expected HOST:PORT"),
    ],
)
def test_wrong_arguments_are_one_plain_line(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _simulate(*(str(tmp_path / a) if a == "x" else a for a in arguments)) == EXIT_USAGE
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error

"""``chargestream score``: subcommands come from their files."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models import plugins
from pipeline import cli
from pipeline.commands import score


def test_a_file_is_a_subcommand(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        __doc__="Score teapots.\n\nMore.",
        add_arguments=lambda parser: parser.add_argument("--cups", type=int),
        run=lambda args: args.cups,
    )
    monkeypatch.setattr(plugins, "names", lambda package: ["tea_pots"])
    monkeypatch.setattr(plugins, "load", lambda package, name: module)
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    assert score.run(parser.parse_args(["tea-pots", "--cups", "3"])) == 3
    with pytest.raises(SystemExit):
        parser.parse_args([])


def series_folder(root: Path, n: int = 1200) -> Path:
    """Write two series with a spike each, one of them compressed."""
    rng = np.random.default_rng(1)
    for group, name in (("a", "x.csv"), ("b", "y.csv.gz")):
        values = rng.normal(size=n)
        values[1000] += 30.0
        text = "timestamp,value\n" + "".join(
            f"2026-01-01 {i:05d},{v!r}\n" for i, v in enumerate(values.tolist())
        )
        path = root / "data" / group / name
        path.parent.mkdir(parents=True)
        with gzip.open(path, "wt") if name.endswith(".gz") else open(path, "w") as file:
            file.write(text)
    return root


def test_nab_writes_a_score_for_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = series_folder(tmp_path / "in"), tmp_path / "out"
    assert cli.main(["score", "nab", "--data", str(folder), "--out", str(out)]) == 0
    assert "2 series, 2400 points, " in capsys.readouterr().out
    for name in ("a/x.csv", "b/y.csv"):
        with open(out / name, newline="") as file:
            rows = list(csv.DictReader(file))
        scores = [float(row["anomaly_score"]) for row in rows]
        assert [row["timestamp"] for row in rows] == [f"2026-01-01 {i:05d}" for i in range(1200)]
        assert max(range(750, 1200), key=scores.__getitem__) == 1000


def test_skab_writes_a_score_for_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(700, 2))
    rows[600:, 1] += 20.0
    path = tmp_path / "g" / "1.csv"
    path.parent.mkdir()
    lines = [f"t{i};{a};{b};{float(i >= 600)};0.0\n" for i, (a, b) in enumerate(rows.tolist())]
    path.write_text("datetime;A;B;anomaly;changepoint\n" + "".join(lines))
    out = tmp_path / "out"
    assert cli.main(["score", "skab", "--data", str(tmp_path), "--out", str(out)]) == 0
    assert "1 runs, 300 rows after the first 400" in capsys.readouterr().out
    with open(out / "g" / "1.csv", newline="") as file:
        scores = [float(row["anomaly_score"]) for row in csv.DictReader(file)]
    assert len(scores) == 700
    assert max(scores[:600]) < 0.5 <= min(scores[620:])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("timestamp,price\n1,2\n", "no column 'value'"),
        ("time,value\n1,2\n", "no column 'timestamp'"),
        ("timestamp,value\n1,two\n", "could not convert"),
        ("timestamp,value\n1\n", ":2: 1 cells, expected 2"),
    ],
)
def test_a_wrong_file_is_named(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.csv").write_text(text)
    assert (
        cli.main(["score", "nab", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
        == cli.EXIT_STORAGE
    )
    assert "x.csv" in (error := capsys.readouterr().err)
    assert said in error
    assert cli.main(["score", "nab", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]) != 0


def tool(name: str) -> Path:
    """Return a scorer of the public benchmarks, which lies beside the data."""
    path = Path(os.environ.get("CHARGESTREAM_DATA", "/nowhere")).parent / "tools" / name
    if not path.is_file():
        pytest.skip(f"no {name} beside CHARGESTREAM_DATA: the public benchmarks are not here")
    return path


def judged(subject: str, tool_name: str, out: Path, *more: str) -> str:
    script = tool(tool_name)
    data = script.parent.parent / "data" / subject
    assert cli.main(["score", subject, "--data", str(data), "--out", str(out)]) == 0
    command = [sys.executable, str(script), str(out), f"--{subject}", str(data), *more]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_public_benchmark_of_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(judged("nab", "nab_score.py", tmp_path, "--json"))
    assert result["standard"]["score"] >= 77.0
    assert (
        float(capsys.readouterr().out.split(" points/s")[0].split()[-1]) > 200_000
    )  # shared machines are slow


def test_public_benchmark_of_channels(tmp_path: Path) -> None:
    f1, far = judged("skab", "skab_score.py", tmp_path).splitlines()[1].split()[1:4:2]
    assert float(f1) >= 0.80
    assert float(far) <= 15.0

"""The files of a replay: written as results come, in order at the end, partial when interrupted."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors import msglog
from connectors.ledger import Ledger
from connectors.msglog import LogWriter, read_frames
from models.errors import DecodeError, StorageError
from models.outputs import IntervalRow
from models.units import wh_text
from pipeline import replay_files, replay_log
from pipeline.config import Config
from pipeline.replay import replay
from pipeline.replay_files import ResultFiles, interval_line

T0_MS = 1_780_000_200_000
QUARTER_MS = 900_000


def row(quarter: int, revision: int, energy_mwh: int | None = 1500, site: str = "s") -> IntervalRow:
    """Return a quarter hour."""
    return IntervalRow(
        site=site, station="cp", evse=1, start_ms=T0_MS + quarter * QUARTER_MS, energy_mwh=energy_mwh,
        quality="measured" if energy_mwh is not None else "missing", revision=revision,
    )  # fmt: skip


def blob(*rows: IntervalRow) -> list[tuple[str, int, bytes]]:
    """Return rows as the flow puts them out."""
    return [("intervals", 3, msgspec.msgpack.encode(rows))]


@pytest.mark.parametrize("site", ["s", "a,b", 'a"b', " a ", "ä\u2028", "a\nb", ""])
def test_a_line_of_intervals_is_what_the_csv_module_writes(site: str) -> None:
    for energy in (0, 1500, None):
        out, quarter = io.StringIO(), row(1, 2, energy, site)
        text = "" if energy is None else wh_text(energy)
        csv.writer(out, lineterminator="\n").writerow(
            [site, "cp", 1, quarter.start_ms, text, quarter.quality, 2]
        )
        assert interval_line(quarter) == out.getvalue().encode()


def test_what_came_is_there_before_the_end_and_the_last_revision_at_the_end(tmp_path: Path) -> None:
    files = ResultFiles(tmp_path, points=False)
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is False
    files.append(blob(row(1, 0), row(0, 0)))
    files.leave()
    files.append(blob(row(1, 2, 7), row(1, 1, 6)))
    files.leave()
    lines = (tmp_path / "intervals.csv").read_text().splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines] == ["revision", "0", "0", "2", "1"]
    files.finish(Config().maintenance.rules())
    lines = (tmp_path / "intervals.csv").read_text().splitlines()
    assert lines[1:] == [interval_line(r).decode().strip() for r in (row(0, 0), row(1, 2, 7))]
    assert files.tally.intervals == 2
    assert not list(tmp_path.glob("*.part"))


def test_the_ledger_gets_what_came_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[str, list[int]]] = []

    def apply(_: Any, stream: str, records: list[tuple[int, bytes]]) -> int:
        rows = [r for _, data in records for r in msgspec.msgpack.decode(data, type=list[IntervalRow])]
        got.append((stream, [r.revision for r in rows]))
        return len(rows)

    monkeypatch.setattr(Ledger, "apply", apply)
    monkeypatch.setattr(replay_files, "_LEDGER_BYTES", 200)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    files = ResultFiles(tmp_path / "out", points=False, ledger=ledger)
    for revision in range(4):
        files.append(blob(row(1, revision)))
    assert [revision for _, revisions in got for revision in revisions] == [0, 1, 2]
    files.finish(Config().maintenance.rules())
    assert [revision for _, revisions in got for revision in revisions] == [0, 1, 2, 3]
    ledger.close()


def test_a_folder_that_cannot_be_written_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="results cannot be written to"):
        ResultFiles(tmp_path / "file" / "out")


def _log(path: Path) -> None:
    """Write two hours of a station, then a line that cannot be read."""
    with LogWriter(path) as writer:
        for k in range(120):
            t = T0_MS + k * 60_000
            series = {"evse": 1, "conn": 1, "t0": t, "ch": ["Energy.Active.Import.Register"]}
            body = {"v": 1, "boot": 1, "seq": k + 1, "series": [series | {"rows": [[0, 1000 + k]]}]}
            writer.write(t * 1_000_000, "evt/v1/s/cp/up/meter", msgspec.json.encode(body))
    with path.open("a", encoding="utf-8") as file:
        file.write("no message\n")


def test_an_interrupted_replay_leaves_what_came_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replay_log, "_BLOCK_MESSAGES", 1)
    monkeypatch.setattr(replay_log, "read_frames", partial(read_frames, block_messages=2))
    monkeypatch.setattr(msglog, "_BLOCK_BYTES", 500)
    _log(tmp_path / "log.jsonl")
    out = tmp_path / "out"
    out.mkdir()
    (out / "maintenance.csv").write_text("of an earlier replay")
    with pytest.raises(DecodeError):
        replay(Config(), tmp_path / "log.jsonl", out, write_points=False)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["complete"] is False
    assert 0 < summary["messages"]["total"] <= 120
    assert summary["through_ms"] > T0_MS
    assert len((out / "intervals.csv").read_text().splitlines()) > 3
    assert not (out / "maintenance.csv").exists()
    assert "interrupted" in caplog.text

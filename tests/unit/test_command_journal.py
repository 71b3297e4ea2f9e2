"""``chargestream journal``: what a person sees."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from connectors.cursors import Cursors, cursors_path
from connectors.journal import JournalWriter
from connectors.msglog import read_frames
from models.frame import COPY, RETAINED, Frame
from models.units import NS_PER_S
from pipeline.cli import EXIT_FAILED, EXIT_OK, EXIT_STORAGE, main

T0_S = 1_795_500_000  # 2026-11-24T06:00:00Z


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder: 10 seconds of two sites, a tick each second, one retained message, one copy."""
    folder = tmp_path / "data"
    with JournalWriter(folder / "journal.db", 2) as writer:
        for second in range(10):
            at_ns = (T0_S + second) * NS_PER_S
            frames = {}
            for shard in (0, 1):
                topic, payload = f"evt/v1/s{shard}/n/up/hb".encode(), b'{"k":%d}' % second
                frames[shard] = Frame.concat(
                    [
                        Frame.ticks([at_ns]),
                        Frame.build([(at_ns + (2 - shard) * 1_000_000, topic, payload, 0)]),
                    ]
                )
            writer.append(frames)
        last_ns = (T0_S + 10) * NS_PER_S
        operator = b"evt/v1/_op/tariff"
        writer.append(
            {
                0: Frame.build(
                    [(last_ns, operator, b"{}", 0), (last_ns, b"evt/v1/s0/n/up/conn", b"x", RETAINED)]
                ),
                1: Frame.build([(last_ns, operator, b"{}", COPY)]),
            }
        )
    with Cursors(cursors_path(folder / "journal.db")) as cursors:
        cursors.set_many("worker-0", {0: 22, 1: 20})
    return folder


def test_info(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "info", "--data", str(data)]) == EXIT_OK
    out = capsys.readouterr().out.splitlines()
    assert "2 shards" in out[0]
    assert out[0].endswith("last tick 2026-11-24T06:00:09.000Z")
    assert out[2].split() == ["0", "0", "22", "2026-11-24T06:00:00.000Z", "2026-11-24T06:00:10.000Z"]
    assert out[4] == "reader worker-0: 2 shards, 1 messages and ticks behind"
    assert main(["journal", "info", "--data", str(data), "--json"]) == EXIT_OK
    info = json.loads(capsys.readouterr().out)
    assert info["last_tick"] == (T0_S + 9) * 1000
    assert info["shards"][1] == {
        "shard": 1,
        "first": 0,
        "end": 21,
        "oldest": T0_S * 1000,
        "newest": (T0_S + 10) * 1000,
    }
    assert info["cursors"] == {"worker-0": {"0": 22, "1": 20}}
    assert info["file_bytes"] >= info["used_bytes"] > 0


def test_verify_says_whether_it_is_sound(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "verify", "--data", str(data)]) == EXIT_OK
    out = capsys.readouterr().out
    assert "22 chunks, 23 messages, 20 ticks" in out
    assert out.endswith("sound\n")
    path = data / "journal.db"
    path.write_bytes(path.read_bytes().replace(b'{"k":7}', b'{"k":6}'))
    assert main(["journal", "verify", "--data", str(data), "--json"]) == EXIT_FAILED
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["error_count"]) == (False, 2)
    assert report["errors"][0].startswith("shard 0, the chunk that ends before offset 16")
    assert main(["journal", "verify", "--data", str(data)]) == EXIT_FAILED
    assert capsys.readouterr().out.endswith("NOT sound: 2 errors\n")


def lines(path: Path) -> list[tuple[int, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [(line["t"] - T0_S * 1000, line["topic"]) for line in map(json.loads, text.splitlines())]


def test_export_is_a_message_log_in_order_of_arrival(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "all.jsonl.gz"
    assert main(["journal", "export", "--data", str(data), "--out", str(log)]) == EXIT_OK
    assert capsys.readouterr().out == f"22 messages written to {log}\n"
    found = lines(log)
    assert found[:3] == [(1, "evt/v1/s1/n/up/hb"), (2, "evt/v1/s0/n/up/hb"), (1001, "evt/v1/s1/n/up/hb")]
    assert found[-2:] == [(10_000, "evt/v1/_op/tariff"), (10_000, "evt/v1/s0/n/up/conn")]
    frame = Frame.concat(list(read_frames(log)))
    assert len(frame) == 22
    assert (int(frame.flags[20]), int(frame.flags[21]), frame.payload(21)) == (0, RETAINED, b"x")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--shard", "1"], 10),
        (["--shard", "1", "--shard", "0"], 22),
        (["--shard", "1", "--from", "2026-11-24T06:00:05Z"], 5),
        (["--shard", "1", "--from", "2026-11-24T07:00:05+01:00", "--to", "2026-11-24T06:00:08"], 3),
        (["--shard", "0", "--to", str(T0_S * 1000 + 2)], 0),
        (["--shard", "0", "--to", str(T0_S * 1000 + 3)], 1),
        (["--shard", "0", "--from-offset", "3", "--to-offset", "7"], 2),
    ],
)
def test_export_of_a_part(data: Path, tmp_path: Path, options: list[str], expected: int) -> None:
    log = tmp_path / "part.jsonl"
    assert main(["journal", "export", "--data", str(data), "--out", str(log), "--json", *options]) == EXIT_OK
    assert len(lines(log)) == expected


def test_mistakes_are_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.jsonl"
    assert main(["journal", "info", "--data", str(tmp_path)]) == EXIT_STORAGE
    assert "chargestream: storage: there is no journal at" in capsys.readouterr().err
    assert main(["journal", "export", "--data", str(tmp_path), "--out", str(log)]) == EXIT_STORAGE
    assert not log.exists()
    assert main(["journal", "export", "--data", str(data), "--out", str(log), "--shard", "9"]) == EXIT_STORAGE
    assert "has shards 0 to 1, not 9" in capsys.readouterr().err
    where = str(tmp_path / "none" / "x.jsonl")
    assert main(["journal", "export", "--data", str(data), "--out", where]) == EXIT_STORAGE
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["journal", "export", "--data", str(data), "--out", str(log), "--from", "yesterday"])
    assert "'yesterday' is not a time; expected ISO 8601" in capsys.readouterr().err


def test_an_export_up_to_the_damage(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, log = data / "journal.db", tmp_path / "x.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"k":7}', b'{"k":6}'))
    assert main(["journal", "export", "--data", str(data), "--out", str(log)]) == EXIT_STORAGE
    err = capsys.readouterr().err
    assert f"{log} ends where the journal could not be read" in err
    assert "is damaged: shard" in err
    assert [t for t, _ in lines(log)] == [1000 * k + i for k in range(7) for i in (1, 2)][:13]

"""The engine under kills, double crashes, clean stops and as a cluster, on real processes."""

from __future__ import annotations

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.journal import JournalWriter
from models.errors import StorageError
from models.frame import Frame
from pipeline import recovery
from pipeline.engine import make_recovery

ROOT = Path(__file__).resolve().parents[2]


def fill(writer: JournalWriter, rng: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        frames = {
            shard: Frame.build([(1, b"t", rng.randbytes(5), 0) for _ in range(rng.randint(1, 6))])
            for shard in range(3)
        }
        writer.append(frames)


def start(tmp: Path, *extra: str, out: str = "out") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "tests.unit.engine_probe", "--journal", str(tmp / "journal.db")),
            *("--out", str(tmp / out), *extra),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stderr=subprocess.PIPE,
    )


def lines(tmp: Path, *outs: str) -> dict[tuple[str, str], set[str]]:
    """Return what was put out, by (shard, count): every repetition has to be equal."""
    found: dict[tuple[str, str], set[str]] = {}
    for out in outs or ("out",):
        for line in (tmp / out).read_text().splitlines():
            shard, count, digest = line.split()
            found.setdefault((shard, count), set()).add(digest)
    return found


def complete(found: dict[tuple[str, str], set[str]], ends: dict[int, int]) -> bool:
    return all((str(s), str(c)) in found for s, end in ends.items() for c in range(1, end + 1))


def wait_for(tmp: Path, ends: dict[int, int], *outs: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if all((tmp / o).exists() for o in outs or ("out",)) and complete(lines(tmp, *outs), ends):
            return
        time.sleep(0.1)
    raise AssertionError(f"not complete after {seconds} s")


@pytest.fixture
def journal(tmp_path: Path) -> JournalWriter:
    return JournalWriter(tmp_path / "journal.db", 3)


def ends_of(journal: JournalWriter) -> dict[int, int]:
    return {shard: journal.next_offset(shard) for shard in range(3)}


def test_kills_lose_nothing_and_repeat_the_same(tmp_path: Path, journal: JournalWriter) -> None:
    rng = random.Random(5)
    fill(journal, rng, 30)
    for _ in range(5):
        process = start(tmp_path, "--recovery", str(tmp_path / "rec"))
        time.sleep(0.3 + rng.random())
        fill(journal, rng, 10)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(tmp_path, "--recovery", str(tmp_path / "rec"))
    wait_for(tmp_path, ends_of(journal))
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors.decode()
    found = lines(tmp_path)
    assert all(len(digests) == 1 for digests in found.values())
    assert complete(found, ends_of(journal))
    # what the journal was told it may forget was put out before
    last: dict[int, int] = {}
    for line in (tmp_path / "out.committed").read_text().splitlines():
        shard, offset = map(int, line.split())
        last[shard] = max(offset, last.get(shard, 0))
    assert all(last[s] <= e for s, e in ends_of(journal).items())
    assert max(last.values()) > 0


def test_clean_stop_saves_everything(tmp_path: Path, journal: JournalWriter) -> None:
    fill(journal, random.Random(1), 20)
    for _ in range(2):
        process = start(tmp_path, "--recovery", str(tmp_path / "rec"))
        wait_for(tmp_path, ends_of(journal))
        time.sleep(1.5)  # the second time all is there already: let the process get going
        process.terminate()
        assert process.wait(20) == 0
        process.communicate()
    total = sum(ends_of(journal).values())
    assert len((tmp_path / "out").read_text().splitlines()) == total, "a clean stop repeats nothing"


def test_a_log_that_ends_is_finished(tmp_path: Path, journal: JournalWriter) -> None:
    fill(journal, random.Random(2), 5)
    process = start(tmp_path, "--ends")
    assert process.wait(30) == 0
    process.communicate()
    found = lines(tmp_path)
    assert {found[str(s), "end"].pop() for s in range(3)} == {str(e) for e in ends_of(journal).values()}


def test_leftovers_of_an_unfinished_epoch_are_removed(tmp_path: Path, journal: JournalWriter) -> None:
    fill(journal, random.Random(3), 5)
    process = start(tmp_path, "--recovery", str(tmp_path / "rec"))
    wait_for(tmp_path, ends_of(journal))
    time.sleep(0.5)
    process.kill()
    process.communicate()
    part = next((tmp_path / "rec").glob("part-*.sqlite3"))
    with sqlite3.connect(part) as db:
        step, key, blob = db.execute(
            "SELECT step_id, state_key, ser_change FROM snaps WHERE step_id LIKE '%count%' LIMIT 1"
        ).fetchone()
        db.execute(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?,?,999999,?)",
            (step, key, blob),
        )
    recovery.prepare(tmp_path / "rec", make_recovery)
    with sqlite3.connect(part) as db:
        assert db.execute("SELECT count(*) FROM snaps WHERE snap_epoch = 999999").fetchone() == (0,)


def test_a_damaged_recovery_directory_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="If it is damaged, delete it"):
        recovery.prepare(tmp_path, make_recovery)


def test_rescaling_keeps_state(tmp_path: Path, journal: JournalWriter) -> None:
    rng = random.Random(4)
    fill(journal, rng, 10)
    process = start(tmp_path, "--recovery", str(tmp_path / "r" / "one"))
    wait_for(tmp_path, ends_of(journal))
    process.terminate()
    process.communicate(timeout=20)
    moved = recovery.rescale(tmp_path / "r", ["one"], ["a", "b"], lambda s: "ab"[s % 2], make_recovery)
    assert moved >= 6  # a source offset and a state for each of three shards
    fill(journal, rng, 10)
    parts = [
        start(tmp_path, "--recovery", str(tmp_path / "r" / "a"), "--shards", "0,2", out="a"),
        start(tmp_path, "--recovery", str(tmp_path / "r" / "b"), "--shards", "1", out="b"),
    ]
    wait_for(tmp_path, ends_of(journal), "out", "a", "b")
    for part in parts:
        part.terminate()
        assert part.wait(20) == 0
        part.communicate()
    found = lines(tmp_path, "out", "a", "b")
    assert all(len(digests) == 1 for digests in found.values())


def test_cluster_of_two_processes(tmp_path: Path, journal: JournalWriter) -> None:
    fill(journal, random.Random(6), 20)
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    addresses = ";".join(f"127.0.0.1:{port}" for port in ports)
    common = ("--addresses", addresses, "--recovery", str(tmp_path / "rec"))
    for _ in range(2):
        members = [
            start(tmp_path, *common, "--process", "0", "--shards", "0,2", out="out-0"),
            start(tmp_path, *common, "--process", "1", "--shards", "1", out="out-1"),
        ]
        wait_for(tmp_path, ends_of(journal), "out-0", "out-1")
        for member in members:
            member.terminate()
        for member in members:
            _, errors = member.communicate(timeout=30)
            assert member.returncode == 0, errors.decode()
        fill(journal, random.Random(7), 5)
    found = lines(tmp_path, "out-0", "out-1")
    assert all(len(digests) == 1 for digests in found.values())

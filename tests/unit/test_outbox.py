"""The outbox: what is committed is there, in order, until everyone has delivered it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import connectors.outbox
from connectors.outbox import DeadLetter, OutboxCursors, OutboxReader, OutboxWriter, outbox_cursors_path
from models.errors import StorageCorrupt, StorageError, StorageFull
from models.outputs import STREAMS
from models.units import NS_PER_S

from ._stored import flip, small_disk

ROOT = Path(__file__).resolve().parents[2]


def record(k: int, size: int = 30) -> bytes:
    return f"record {k} ".encode().ljust(size, b".")


def fill(writer: OutboxWriter) -> None:
    """Commit record after record until an error stops it."""
    while True:
        writer.append([("points", 0, record(writer.last_seq(), 10_000))])
        writer.commit()


def drain(reader: OutboxReader, stream: str, after_seq: int = 0, limit: int = 1000) -> list[bytes]:
    found = []
    while part := reader.read(stream, after_seq, limit):
        found += [blob for _, _, blob in part]
        after_seq = part[-1][0]
    return found


def test_records_come_back_by_stream_in_order_after_commit_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "outbox-0.db"
    with OutboxWriter(path) as writer, OutboxReader(path) as reader:
        assert writer.commit() == 0
        writer.append([("points", 3, b"a"), ("publish", 4, b"b"), ("points", 3, b"c")])
        assert reader.last_seq() == 0
        assert reader.read("points", 0) == []
        assert writer.commit() == 3
        assert writer.commit() == 3
        writer.append([("points", 5, b"d")])
        assert writer.commit() == writer.last_seq() == reader.last_seq() == 4
        assert reader.read("points", 0) == [(1, 3, b"a"), (3, 3, b"c"), (4, 5, b"d")]
        assert reader.read("points", 1) == [(3, 3, b"c"), (4, 5, b"d")]
        assert reader.read("points", 1, limit=1) == [(3, 3, b"c")]
        assert reader.read("points", 0, max_bytes=0) == [(1, 3, b"a")]
        assert reader.read("publish", 0) == [(2, 4, b"b")]
        assert reader.read("publish", 2) == []
        assert (reader.last_seq("points"), reader.last_seq("publish"), reader.last_seq("dead")) == (4, 2, 0)
        with pytest.raises(StorageError, match="there is no stream 'paints', streams are points, findings"):
            writer.append([("points", 0, b"x"), ("paints", 0, b"y")])
        assert writer.commit() == 4


def test_closing_commits_and_a_restart_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    with OutboxWriter(path) as writer:
        writer.append([("dead", 0, b"1"), ("late", 0, b"2")])
    with OutboxWriter(path) as writer:
        assert writer.last_seq() == 2
        writer.append([("dead", 0, b"3")])
    with OutboxReader(path) as reader:
        assert reader.read("dead", 0) == [(1, 0, b"1"), (3, 0, b"3")]


def test_a_full_buffer_commits_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connectors.outbox, "BUFFER_BYTES", 1000)
    with OutboxWriter(tmp_path / "o.db") as writer, OutboxReader(tmp_path / "o.db") as reader:
        writer.append([("points", 0, b"x" * 600)])
        assert reader.last_seq() == 0
        writer.append([("points", 0, b"x" * 600)])
        assert reader.last_seq() == 2


class Outbox(RuleBasedStateMachine):
    """Any sequence of appends, commits, reads, trims and restarts equals a list."""

    NAMES = ("points", "publish", "dead")

    @initialize(durable=st.booleans())
    def start(self, durable: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "outbox.db")
        self.durable = durable
        self.stored: list[tuple[str, int, bytes]] = []  # index + 1 = seq
        self.buffered: list[tuple[str, int, bytes]] = []
        self.trimmed = dict.fromkeys(self.NAMES, 0)
        self.made = 0
        self.writer = OutboxWriter(self.path, durable=durable)
        self.reader = OutboxReader(self.path)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.reader.close()
            self.writer.close()
            self.folder.cleanup()

    def of(self, name: str) -> list[tuple[int, int, bytes]]:
        return [
            (seq, shard, blob) for seq, (stream, shard, blob) in enumerate(self.stored, 1) if stream == name
        ]

    @rule(names=st.lists(st.sampled_from(NAMES), max_size=40), size=st.integers(0, 5000))
    def append(self, names: list[str], size: int) -> None:
        new = [(name, k % 5, record(self.made + k, size)) for k, name in enumerate(names)]
        self.made += len(new)
        self.writer.append(new)
        self.buffered += new

    @rule()
    def commit(self) -> None:
        self.stored += self.buffered
        self.buffered = []
        assert self.writer.commit() == len(self.stored)

    @rule(name=st.sampled_from(NAMES), at=st.floats(0, 1), limit=st.integers(1, 30), kib=st.integers(0, 100))
    def read(self, name: str, at: float, limit: int, kib: int) -> None:
        all_of_it = self.of(name)
        after_seq = all_of_it[round(at * (len(all_of_it) - 1))][0] if all_of_it else 0
        expected = [row for row in all_of_it if row[0] > after_seq]
        if after_seq < self.trimmed[name]:
            with pytest.raises(StorageError, match="were trimmed away, the oldest there is"):
                self.reader.read(name, after_seq)
            return
        found = self.reader.read(name, after_seq, limit, kib << 10)
        assert found == expected[: len(found)]
        assert len(found) <= limit
        assert bool(found) == bool(expected)
        assert len(found) == 1 or sum(len(row[2]) for row in found) <= kib << 10

    @rule(at=st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1)), keep=st.sampled_from([0, 100_000]))
    def trim(self, at: dict[str, float], keep: int) -> None:
        delivered = {name: round(part * len(self.stored)) for name, part in at.items()}
        self.writer.trim(delivered, keep_s=1e9 if keep else 0.0, keep_bytes=keep)
        for name in self.NAMES:
            left = self.reader.read(name, 0, limit=1)
            assert bool(left) == bool(self.of(name))
            gone = [row[0] for row in self.of(name) if row[0] < left[0][0]] if left else []
            through = gone[-1] if gone else 0
            assert through >= self.trimmed[name]
            assert through in (self.trimmed[name], *range(delivered.get(name, 0) + 1))
            self.trimmed[name] = through

    @rule()
    def restart(self) -> None:
        self.commit()
        self.writer.close()
        self.writer = OutboxWriter(self.path, durable=self.durable)
        self.reader.close()
        self.reader = OutboxReader(self.path)

    @invariant()
    def ends_agree(self) -> None:
        if hasattr(self, "folder"):
            assert self.reader.last_seq() == self.writer.last_seq() == len(self.stored)


TestOutbox = Outbox.TestCase
TestOutbox.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


_COMMIT_UNTIL_KILLED = """
import sys
from pathlib import Path
from connectors.outbox import OutboxWriter
with OutboxWriter(Path(sys.argv[1])) as writer:
    while True:
        seq = writer.last_seq()
        writer.append([("points", 1, b"%d" % (seq + 1)), ("publish", 1, b"%d" % (seq + 2))])
        print(writer.commit(), flush=True)
"""


def test_what_was_committed_is_there_after_sigkill(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "outbox.db"
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _COMMIT_UNTIL_KILLED, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(rng.randint(1, 100))]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with OutboxReader(path) as reader:
            last = reader.last_seq()
            assert last >= int(lines[-1])
            assert drain(reader, "points") == [b"%d" % k for k in range(1, last + 1, 2)]
            assert drain(reader, "publish") == [b"%d" % k for k in range(2, last + 1, 2)]


def test_records_stay_until_all_consumers_have_them_and_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    now_ns = [0]
    with (
        OutboxWriter(path, clock_ns=lambda: now_ns[0]) as writer,
        OutboxReader(path) as reader,
        OutboxCursors(outbox_cursors_path(path)) as cursors,
    ):
        for k in range(100):
            now_ns[0] = k * NS_PER_S
            writer.append([("points", 0, record(2 * k)), ("findings", 0, record(2 * k + 1))])
            writer.commit()
        assert cursors.delivered() == dict.fromkeys(STREAMS, 0)
        assert writer.trim(cursors.delivered()) == 0
        cursors.set("influx", "points", 99)
        assert cursors.get("influx", "points") == cursors.delivered()["points"] == 99
        assert writer.trim(cursors.delivered(), keep_s=89.5) == 10
        assert reader.read("points", 0)[0] == (21, 0, record(20))
        while writer.trim(cursors.delivered()):
            pass
        assert reader.read("points", 0, limit=1) == [(101, 0, record(100))]
        assert reader.read("findings", 0, limit=1) == [(2, 0, record(1))]
        # A second consumer that has to have them, or one less.
        both = {"points": ["influx", "archive"], "findings": []}
        assert cursors.delivered(both)["points"] == 0
        assert writer.trim(cursors.delivered(both), budget_s=0.0) == 64  # one step
        assert writer.trim(cursors.delivered(both), budget_s=5.0) == 35
        assert reader.read("findings", 0) == [(200, 0, record(199))]
        with pytest.raises(
            StorageError, match=r"after 50 were trimmed away, the oldest there is 101.* cursor to 99"
        ):
            reader.read("points", 50)
        assert reader.read("points", 99, limit=1) == [(101, 0, record(100))]


def test_the_size_bound_keeps_records_in_the_buffer(tmp_path: Path) -> None:
    with OutboxWriter(tmp_path / "o.db", max_bytes=200_000) as writer, OutboxReader(writer.path) as reader:
        writer.append([("points", 0, record(0, 100_000))])
        writer.commit()
        writer.append([("points", 0, record(1, 100_000)), ("dead", 0, record(2))])
        for _ in range(2):
            with pytest.raises(StorageFull, match=r"the bound is 200000\. Nothing was stored"):
                writer.commit()
        assert reader.last_seq() == writer.last_seq() == 1
        writer.max_bytes = 400_000
        assert writer.commit() == 3
        assert drain(reader, "points") == [record(0, 100_000), record(1, 100_000)]


def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 2 << 20) as disk,
        OutboxWriter(disk / "o.db", reserve_bytes=0) as writer,
    ):
        with pytest.raises(StorageFull, match=r"cannot commit: the disk is full"):
            fill(writer)
        count = writer.last_seq()
        assert count > 50
        with OutboxReader(disk / "o.db") as reader:
            assert reader.last_seq() == count
            subprocess.run(["mount", "-o", "remount,size=8388608", str(disk)], check=True)
            assert writer.commit() == count + 1
            assert drain(reader, "points") == [record(k, 10_000) for k in range(count + 1)]


def test_damage_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    with OutboxWriter(path) as writer:
        writer.append([("dead", 0, record(k)) for k in range(10)])
    path.write_bytes(path.read_bytes().replace(b"record 4 ..", b"record 4 .,"))
    with OutboxReader(path) as reader:
        assert [blob for _, _, blob in reader.read("dead", 0)] == [record(k) for k in range(4)]
        with pytest.raises(
            StorageCorrupt, match=r"outbox .*o\.db is damaged: stream dead, record 5 has checksum"
        ):
            drain(reader, "dead")
        assert drain(reader, "dead", 5) == [record(k) for k in range(5, 10)]


def test_a_missing_record_is_damage_not_silence(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    with OutboxWriter(path) as writer:
        writer.append([("dead", 0, b"1"), ("late", 0, b"2"), ("dead", 0, b"3"), ("dead", 0, b"4")])
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DELETE FROM records WHERE record = ?", (b"3",))
    db.close()
    with OutboxReader(path) as reader:
        with pytest.raises(StorageCorrupt, match="stream dead: record 3, which comes after 1, is missing"):
            drain(reader, "dead")
        assert reader.read("dead", 0) == [(1, 0, b"1")]  # what is sound comes first
        assert drain(reader, "late") == [b"2"]


@pytest.mark.parametrize("seed", range(6))
def test_any_damage_gives_our_errors_or_the_right_records(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "o.db"
    with OutboxWriter(path) as writer:
        writer.append([("dead", k % 3, record(k)) for k in range(500)])
    if seed % 2:
        flip(path, rng, count=3 * seed, start=100)
    else:
        os.truncate(path, rng.randrange(200, path.stat().st_size))
    errors = []
    found: list[bytes] = []
    try:
        with OutboxReader(path) as reader:
            found = drain(reader, "dead", limit=20)
    except StorageError as error:
        errors.append(str(error))
    assert found == [record(k) for k in range(len(found))]
    assert errors or len(found) == 500
    assert all(str(path) in error for error in errors)


def test_a_cursor_ahead_of_its_outbox_stops(tmp_path: Path) -> None:
    with OutboxWriter(tmp_path / "o.db") as writer, OutboxReader(tmp_path / "o.db") as reader:
        writer.append([("dead", 0, b"1"), ("late", 0, b"2")])
        writer.commit()
        assert reader.read("dead", 2) == []  # set to the end of the whole outbox
        with pytest.raises(StorageError, match="stream dead ends at record 1, those after 3 were asked for"):
            reader.read("dead", 3)


def test_only_one_writer_and_no_outbox(tmp_path: Path) -> None:
    with (
        OutboxWriter(tmp_path / "o.db"),
        pytest.raises(StorageError, match="is being written by another process"),
    ):
        OutboxWriter(tmp_path / "o.db")
    with pytest.raises(StorageError, match="there is no outbox at"):
        OutboxReader(tmp_path / "p.db")


def test_an_idle_outbox_costs_one_cheap_statement(tmp_path: Path) -> None:
    with OutboxWriter(tmp_path / "o.db") as writer, OutboxReader(tmp_path / "o.db") as reader:
        writer.append([("dead", 0, b"1")])
        writer.commit()
        assert reader.last_seq() == 1
        asked: list[str] = []
        reader._db.set_trace_callback(asked.append)
        assert reader.last_seq() == 1
        assert asked == ["PRAGMA data_version"]


def test_a_refused_record_is_kept_once_with_the_last_reason(tmp_path: Path) -> None:
    with DeadLetter(tmp_path / "dead.db") as letters:
        letters.add("influx", "points", 7, b"m v=x 1", "400: unable to parse", 1000)
        letters.add("influx", "points", 7, b"m v=y 1", "400: unable to parse", 1000)
        letters.add("mqtt", "publish", 7, b"\x00", "not authorised", 2000)
        letters.add("influx", "points", 7, b"m v=x 1", "400: still not", 3000)
    with DeadLetter(tmp_path / "dead.db", max_bytes=60_000) as letters:
        assert (letters.count(), letters.count("influx"), letters.count("ledger")) == (3, 2, 0)
        first, second, third = letters.list()
        assert first == (1, "influx", "points", 7, 2, 3000, "400: still not", b"m v=x 1")
        assert (second.blob, second.tries) == (b"m v=y 1", 1)
        assert third.consumer == "mqtt"
        assert letters.list("influx", after_id=1) == [second]
        assert letters.list(limit=1) == [first]
        with pytest.raises(StorageFull, match=r"dead-letter .*the bound is 60000"):
            letters.add("mqtt", "publish", 8, b"x" * 60_000, "too long", 4000)
        assert letters.count() == 3

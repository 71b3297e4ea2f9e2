"""The journal: what is appended is there, in order, whatever else happens."""

from __future__ import annotations

import math
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

from connectors.journal import Cursors, JournalReader, JournalWriter, cursors_path, verify
from models.errors import StorageError
from models.frame import Frame
from models.units import NO_TIME, NS_PER_S

from ._stored import Message, make, unpack

ROOT = Path(__file__).resolve().parents[2]


def read_all(reader: JournalReader, shard: int, offset: int = 0) -> list[Message]:
    found: list[Message] = []
    while part := reader.read(shard, offset):
        assert part[0] == offset
        found += unpack(part[1])
        offset += len(part[1])
    return found


def fill(writer: JournalWriter) -> None:
    """Append to all shards until an error stops it."""
    stored = writer.next_offset(0)
    while True:
        new = range(stored, stored + 10)
        stored = writer.append({s: Frame.build(make(new, s, 1000)) for s in range(writer.shards)})[0]


def test_every_shard_gets_its_messages_back_in_order_from_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "data" / "journal.db"
    stored: dict[int, list[Message]] = {0: [], 1: [], 2: []}
    with JournalWriter(path, 3) as writer, JournalReader(path) as reader:
        assert reader.read(0, 0) is None
        for k in range(10):
            new = {s: make(range(100 * k, 100 * k + 3 + s), s) for s in (0, 2)}
            ends = writer.append({s: Frame.build(messages) for s, messages in new.items()})
            for s, messages in new.items():
                stored[s] += messages
                assert ends[s] == len(stored[s]) == writer.next_offset(s) == reader.end(s)
        assert reader.shards() == 3
        assert reader.ends() == {0: 30, 1: 0, 2: 50}
        for s, messages in stored.items():
            for offset in range(len(messages)):
                assert read_all(reader, s, offset) == messages[offset:]
        assert reader.first(1) == 0
        assert reader.first(2) == 0


def test_bounds_limit_a_read_but_one_message_always_comes(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 1) as writer, JournalReader(tmp_path / "j.db") as reader:
        messages = make(range(5000), size=300)
        writer.append({0: Frame.build(messages)})
        one_kib = reader.read(0, 17, max_bytes=1024)
        assert one_kib is not None
        assert unpack(one_kib[1]) == messages[17:20]
        assert len((reader.read(0, 4999, max_messages=1, max_bytes=1) or (0, Frame.build([])))[1]) == 1
        for limit in (1, 7, 4096):
            part = reader.read(0, 1, max_messages=limit)
            assert part is not None
            assert 1 <= len(part[1]) <= limit
        assert read_all(reader, 0) == messages
        # Stored in pieces: a bounded read does not decode megabytes for a few messages.
        rows = sqlite3.connect(tmp_path / "j.db").execute("SELECT n, frame_bytes FROM chunk_list").fetchall()
        assert len(rows) > 1
        assert all(n <= 4096 and size < 1_200_000 for n, size in rows)


def test_a_message_of_five_megabytes_is_a_message(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 1) as writer, JournalReader(tmp_path / "j.db") as reader:
        messages = make([1]) + make([2], size=5_000_000) + make([3])
        writer.append({0: Frame.build(messages)})
        assert read_all(reader, 0) == messages


def test_offsets_and_last_tick_survive_a_restart_and_a_full_trim(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with JournalWriter(path, 2) as writer:
        assert writer.last_tick_ns() == NO_TIME
        writer.append({0: Frame.ticks([5 * NS_PER_S]), 1: Frame.ticks([5 * NS_PER_S])})
        writer.append({0: Frame.build(make([9 * NS_PER_S]))})
        for k in range(20):
            writer.append({1: Frame.build(make([k]))})
        assert writer.trim({0: 2, 1: 21}) == 21
        assert writer.trim({0: 2, 1: 21}) == 0
    with JournalWriter(path, 2) as writer, JournalReader(path) as reader:
        assert writer.last_tick_ns() == 5 * NS_PER_S
        assert (writer.next_offset(0), writer.next_offset(1)) == (2, 21)
        writer.append({1: Frame.build(make([77]))})
        assert reader.first(1) == 20
        assert read_all(reader, 1, 21) == make([77])


def test_an_empty_frame_stores_nothing(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 2) as writer:
        assert writer.append({}) == {}
        assert writer.append({1: Frame.build([])}) == {1: 0}
        assert verify(tmp_path / "j.db").chunks == 0


class Journal(RuleBasedStateMachine):
    """Any sequence of appends, reads, trims and restarts equals a list per shard."""

    SHARDS = 3

    @initialize(durable=st.booleans())
    def start(self, durable: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "journal.db")
        self.durable = durable
        self.model: dict[int, list[Message]] = {s: [] for s in range(self.SHARDS)}
        self.oldest = dict.fromkeys(range(self.SHARDS), 0)
        self.clock = 0
        self.writer = JournalWriter(self.path, self.SHARDS, durable=durable)
        self.reader = JournalReader(self.path)
        self.cursors = Cursors(cursors_path(self.path))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.reader.close()
            self.writer.close()
            self.cursors.close()
            self.folder.cleanup()

    @rule(sizes=st.dictionaries(st.integers(0, 2), st.integers(0, 12), max_size=3), long=st.booleans())
    def append(self, sizes: dict[int, int], long: bool) -> None:
        new = {}
        for s, n in sizes.items():
            count = n * 500 if long else n
            new[s] = make(range(self.clock, self.clock + count), s)
            self.clock += count
        ends = self.writer.append({s: Frame.build(messages) for s, messages in new.items()})
        for s, messages in new.items():
            self.model[s] += messages
        assert ends == {s: len(self.model[s]) for s in new}

    @rule(
        shard=st.integers(0, 2), at=st.floats(0, 1), messages=st.integers(1, 9000), kib=st.integers(0, 4096)
    )
    def read(self, shard: int, at: float, messages: int, kib: int) -> None:
        offset = round(at * len(self.model[shard]))
        if offset < self.oldest[shard]:
            with pytest.raises(StorageError, match=f"trimmed away, the oldest there is {self.oldest[shard]}"):
                self.reader.read(shard, offset, messages, kib << 10)
            return
        part = self.reader.read(shard, offset, messages, kib << 10)
        if offset == len(self.model[shard]):
            assert part is None
            return
        assert part is not None
        assert part[0] == offset
        assert 1 <= len(part[1]) <= messages
        assert unpack(part[1]) == self.model[shard][offset : offset + len(part[1])]

    @rule(shard=st.integers(0, 2), at=st.floats(0, 1), name=st.sampled_from(["a", "b"]))
    def move_cursor(self, shard: int, at: float, name: str) -> None:
        low = self.cursors.get(name, shard) or self.oldest[shard]
        self.cursors.set(name, shard, low + round(at * (len(self.model[shard]) - low)))

    @rule(age=st.sampled_from([0.0, 1e-7, math.inf]), keep_bytes=st.sampled_from([0, 1, 200_000]))
    def trim(self, age: float, keep_bytes: int) -> None:
        before = self.cursors.lowest_all()
        self.writer.trim(before, keep_s=age, keep_bytes=keep_bytes)
        for s in range(self.SHARDS):
            first = self.reader.first(s)
            assert self.oldest[s] <= first
            if first > self.oldest[s]:
                assert first <= before[s]
                assert first < len(self.model[s])
            self.oldest[s] = first

    @rule()
    def restart_writer(self) -> None:
        self.writer.close()
        self.writer = JournalWriter(self.path, self.SHARDS, durable=self.durable)

    @rule()
    def restart_reader(self) -> None:
        self.reader.close()
        self.reader = JournalReader(self.path)

    @invariant()
    def ends_agree(self) -> None:
        if hasattr(self, "folder"):
            ends = {s: len(messages) for s, messages in self.model.items()}
            assert self.reader.ends() == ends
            assert {s: self.writer.next_offset(s) for s in ends} == ends


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)

_APPEND_UNTIL_KILLED = """
import sys
from pathlib import Path
from connectors.journal import JournalWriter
from models.frame import Frame
from tests.unit._stored import make
with JournalWriter(Path(sys.argv[1]), 2) as writer:
    k = writer.next_offset(0)
    while True:
        ends = writer.append({s: Frame.build(make(range(k, k + 3), s)) for s in (0, 1)})
        k += 3
        print(ends[0], ends[1], flush=True)
"""


def test_what_was_acknowledged_is_there_after_sigkill(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "journal.db"
    end = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", _APPEND_UNTIL_KILLED, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(rng.randint(1, 100))]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        acknowledged = [int(word) for word in lines[-1].split()] if lines[-1].endswith("\n") else [0, 0]
        assert acknowledged[0] > end
        report = verify(path)
        assert report.ok, report.errors
        with JournalReader(path) as reader:
            for shard in (0, 1):
                # What was being appended at the kill may be there too, all of it or nothing.
                end = reader.end(shard)
                assert end - acknowledged[shard] in (0, 3)
                assert read_all(reader, shard) == make(range(end), shard)
            assert reader.end(0) == reader.end(1)


_FOLLOW = """
import sys
from pathlib import Path
from connectors.journal import JournalReader
from tests.unit._stored import make, unpack
with JournalReader(Path(sys.argv[1]), wait=True) as reader:
    at, last = 0, int(sys.argv[2])
    while at < last:
        part = reader.read(1, at)
        if part:
            assert unpack(part[1]) == make(range(at, at + len(part[1])), 1), at
            at += len(part[1])
print(at)
"""


def test_readers_in_other_processes_follow_while_the_writer_writes_and_trims(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    last = 3000
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", _FOLLOW, str(path), str(last)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    with JournalWriter(path, 2) as writer:
        for k in range(0, last, 10):
            writer.append({s: Frame.build(make(range(k, k + 10), s)) for s in (0, 1)})
            # Shard 0 has been read by everyone: its trimming runs beside the readers of shard 1.
            writer.trim({0: k}, budget_s=0.001)
        assert [reader.communicate(timeout=60)[0].strip() for reader in readers] == [str(last)] * 2
    report = verify(path)
    assert report.ok, report.errors


def test_a_reader_waits_for_a_journal_only_if_told_to(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no journal at .*j\.db: check the data directory"):
        JournalReader(tmp_path / "j.db")
    (tmp_path / "j.db").touch()
    with pytest.raises(StorageError, match="is empty: its writer has not created it yet"):
        JournalReader(tmp_path / "j.db", wait=True, wait_s=0.1)


def test_asking_an_idle_journal_for_its_ends_is_one_cheap_statement(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 16) as writer, JournalReader(tmp_path / "j.db") as reader:
        writer.append({s: Frame.build(make([1], s)) for s in range(16)})
        reader.ends()
        asked: list[str] = []
        reader._db.set_trace_callback(asked.append)
        assert reader.ends() == dict.fromkeys(range(16), 1)
        assert asked == ["PRAGMA data_version"]
        asked.clear()
        assert reader.read(3, 0) is not None
        assert len(asked) == 1
        writer.append({3: Frame.build(make([2], 3))})
        assert reader.ends()[3] == 2

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

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectors import _sqlite
from connectors.journal import Cursors, JournalReader, JournalWriter, cursors_path, verify
from models.errors import StorageCorrupt, StorageError, StorageFull
from models.frame import Frame
from models.units import NO_TIME, NS_PER_S

from ._stored import Message, flip, make, small_disk, unpack

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


def test_retention_by_age_and_size_never_passes_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with (
        JournalWriter(path, 2) as writer,
        JournalReader(path) as reader,
        Cursors(cursors_path(path)) as cursors,
    ):
        for second in range(100):
            arrivals = [second * NS_PER_S + i for i in range(10)]
            writer.append({s: Frame.build(make(arrivals, s, size=2000)) for s in (0, 1)})
        assert writer.trim(cursors.lowest_all()) == 0  # nobody reads yet: everything stays
        cursors.set_many("worker-0", {0: 1000, 1: 1000})
        cursors.set("slow", 1, 305)
        assert cursors.lowest(1) == 305
        assert writer.trim(cursors.lowest_all(), keep_s=math.inf) == 0
        # 60 s back from the newest arrival, second 99: seconds up to 38 go.
        while writer.trim(cursors.lowest_all(), keep_s=60.5):
            pass
        assert (reader.first(0), reader.first(1)) == (390, 300)
        before = writer.used_bytes()
        while writer.trim(cursors.lowest_all(), keep_s=60.5, keep_bytes=before - 200_000):
            pass
        assert before - 260_000 < writer.used_bytes() <= before - 200_000
        assert reader.first(0) > 400
        assert reader.first(1) == 300  # all but the chunk that the slow reader is in
        cursors.forget("slow")
        while writer.trim(cursors.lowest_all()):
            pass
        assert (reader.first(0), reader.first(1)) == (990, 990)
        assert verify(path).ok


def test_trimming_stops_when_its_time_is_over_and_gives_room_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with JournalWriter(path, 1) as writer:
        for k in range(500):
            writer.append({0: Frame.build(make([k], size=20_000))})
        full = writer.used_bytes()
        steps = 0
        while writer.trim({0: 500}, budget_s=0.0):
            steps += 1
        assert steps >= 10
        assert writer.used_bytes() < full / 20
        for _ in range(20):
            writer.trim({0: 500})
    assert path.stat().st_size < full / 4


def test_the_size_bound_refuses_and_recovers(tmp_path: Path) -> None:
    with (
        JournalWriter(tmp_path / "j.db", 1, max_bytes=300_000) as writer,
        JournalReader(writer.path) as reader,
    ):
        with pytest.raises(StorageFull, match=r"the bound is 300000\. Nothing was stored"):
            fill(writer)
        stored = writer.next_offset(0)
        assert reader.end(0) == stored
        assert stored > 200
        while writer.trim({0: stored}):
            pass
        assert writer.append({0: Frame.build(make(range(stored, stored + 10), size=1000))}) == {
            0: stored + 10
        }
        assert read_all(reader, 0, stored) == make(range(stored, stored + 10), size=1000)


def test_sqlite_full_stores_nothing_of_the_call(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 2) as writer, JournalReader(tmp_path / "j.db") as reader:
        writer._db.execute("PRAGMA max_page_count=60")
        with pytest.raises(
            StorageFull, match=r"cannot append: the disk is full .* Nothing of this call was stored"
        ):
            fill(writer)
        stored = writer.next_offset(0)
        assert reader.ends() == {0: stored, 1: stored}
        writer._db.execute("PRAGMA max_page_count=1000")
        writer.append({1: Frame.build(make(range(stored, stored + 10), 1, 1000))})
        assert read_all(reader, 1) == make(range(stored + 10), 1, 1000)
    assert verify(tmp_path / "j.db").ok


def test_an_error_in_the_middle_stores_nothing_of_the_call(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 2) as writer, JournalReader(tmp_path / "j.db") as reader:
        writer.append({s: Frame.build(make([1], s)) for s in (0, 1)})
        other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
        other.execute("INSERT INTO chunks SELECT id + 1, n, 0, 0, 0, frame FROM chunks WHERE id >= 1 << 48")
        other.close()
        with pytest.raises(StorageError, match="cannot append: UNIQUE constraint failed"):
            writer.append({s: Frame.build(make([2], s)) for s in (0, 1)})
        assert reader.end(0) == writer.next_offset(0) == 1


def test_room_inside_the_file_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JournalWriter(tmp_path / "j.db", 1, reserve_bytes=1_000_000) as writer:
        for k in range(300):
            writer.append({0: Frame.build(make([k], size=10_000))})
        frames = {0: Frame.build(make([300], size=10_000))}
        monkeypatch.setattr(_sqlite, "_free_bytes", lambda _: 500_000)
        with pytest.raises(StorageFull, match="500000 bytes are free on its disk"):
            writer.append(frames)
        monkeypatch.undo()
        assert writer.trim({0: 300}, budget_s=5.0) == 299
        monkeypatch.setattr(_sqlite, "_free_bytes", lambda _: 500_000)
        assert writer.append(frames) == {0: 301}


@pytest.mark.parametrize("reserve_bytes", [0, 5 << 20])
def test_a_full_disk_refuses_and_recovers(tmp_path: Path, reserve_bytes: int) -> None:
    with small_disk(tmp_path / "disk", 8 << 20) as disk:
        path = disk / "journal.db"
        with JournalWriter(path, 2, reserve_bytes=reserve_bytes) as writer:
            with pytest.raises(StorageFull, match=r"bytes free|bytes are free"):
                fill(writer)
            stored = writer.next_offset(0)
            assert stored > 200
            frames = {s: Frame.build(make(range(stored, stored + 10), s, 1000)) for s in (0, 1)}
            with pytest.raises(StorageFull):
                writer.append(frames)
            assert (writer.next_offset(0), writer.next_offset(1)) == (stored, stored)
            if reserve_bytes:  # room was left to delete
                while writer.trim({0: stored, 1: stored}):
                    pass
                oldest = stored - 10
            else:
                subprocess.run(["mount", "-o", "remount,size=16777216", str(disk)], check=True)
                oldest = 0
            assert writer.append(frames) == {0: stored + 10, 1: stored + 10}
        with JournalReader(path) as reader:
            for shard in (0, 1):
                assert read_all(reader, shard, oldest) == make(range(oldest, stored + 10), shard, 1000)
        assert verify(path).ok


def test_a_flipped_byte_in_a_payload_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with JournalWriter(path, 2) as writer:
        for k in range(0, 100, 10):
            writer.append({s: Frame.build(make(range(k, k + 10), s)) for s in (0, 1)})
    data = path.read_bytes()
    assert data.count(b"1:55:..") == 1
    path.write_bytes(data.replace(b"1:55:..", b"1:55:,."))
    with JournalReader(path) as reader:
        assert read_all(reader, 0) == make(range(100), 0)
        part = reader.read(1, 40, max_messages=10)
        assert part is not None
        assert unpack(part[1]) == make(range(40, 50), 1)
        wrong = rf"journal {path} is damaged: shard 1, the chunk that ends before offset 60 .*checksum"
        with pytest.raises(StorageCorrupt, match=wrong):
            reader.read(1, 50)
    report = verify(path)
    assert report.error_count == 1
    assert "shard 1, the chunk that ends before offset 60" in report.errors[0]
    assert report.chunks == 20


def test_a_damaged_end_is_found_when_the_writer_starts(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with JournalWriter(path, 1) as writer:
        writer.append({0: Frame.build(make(range(10)))})
    path.write_bytes(path.read_bytes().replace(b"0:7:..", b"0:7:,."))
    with pytest.raises(StorageCorrupt, match="Stop the service, keep a copy of the file"):
        JournalWriter(path, 1)


@pytest.mark.parametrize("seed", range(12))
def test_any_damage_gives_our_errors_or_the_right_messages(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "journal.db"
    with JournalWriter(path, 2) as writer:
        for k in range(0, 300, 3):
            writer.append({s: Frame.build(make(range(k, k + 3), s)) for s in (0, 1)})
    if seed % 3:
        flip(path, rng, count=seed, start=100)
    else:
        os.truncate(path, rng.randrange(200, path.stat().st_size))
    found = 0
    errors = []
    for shard in (0, 1):
        try:
            with JournalReader(path) as reader:
                for message in read_all(reader, shard):
                    assert message == make([found % 300], shard)[0]
                    found += 1
        except StorageError as error:
            errors.append(str(error))
    report = verify(path)
    assert not report.ok or (not errors and found == 600)
    try:
        JournalWriter(path, 2).close()
    except StorageError as error:
        errors.append(str(error))
    assert all(str(path) in error for error in errors)


def test_missing_messages_are_damage_not_silence(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with JournalWriter(path, 1) as writer:
        for k in range(5):
            writer.append({0: Frame.build(make(range(2 * k, 2 * k + 2)))})
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("DELETE FROM chunks WHERE id = 6")
    db.close()
    with JournalReader(path) as reader, pytest.raises(StorageCorrupt, match="offset 4 to 6 are missing"):
        read_all(reader, 0)
    assert verify(path).errors == ["shard 0: a chunk begins at offset 6, the one before ends at 4"]


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be taken for one" * 40, b"\0" * 4096]
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j.db").write_bytes(content)
    for make_it in (lambda: JournalReader(tmp_path / "j.db"), lambda: JournalWriter(tmp_path / "j.db", 1)):
        with pytest.raises(StorageCorrupt, match=r"j\.db is damaged: .*not a database"):
            make_it()
    assert not verify(tmp_path / "j.db").ok
    assert (tmp_path / "j.db").read_bytes() == content


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    Cursors(tmp_path / "c.db").close()
    with pytest.raises(StorageError, match=r"c\.db is not a journal: its header carries mark 0x43534331"):
        JournalWriter(tmp_path / "c.db", 4)
    foreign = sqlite3.connect(tmp_path / "f.db")
    foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    with pytest.raises(StorageError, match="is not a cursor file"):
        Cursors(tmp_path / "f.db")
    with JournalWriter(tmp_path / "v.db", 1) as writer:
        writer._db.execute("PRAGMA user_version=9")
    with pytest.raises(StorageError, match="has format 9, this program reads 1"):
        JournalReader(tmp_path / "v.db")


def test_the_number_of_shards_is_fixed_at_creation(tmp_path: Path) -> None:
    JournalWriter(tmp_path / "j.db", 16).close()
    with pytest.raises(
        StorageError, match="created with 16 shards and 8 were asked for: the number is fixed"
    ):
        JournalWriter(tmp_path / "j.db", 8)
    with JournalWriter(tmp_path / "j.db", 16) as writer, JournalReader(tmp_path / "j.db") as reader:
        with pytest.raises(StorageError, match="has shards 0 to 15, not 16"):
            writer.append({16: Frame.build(make([1]))})
        for shard in (-1, 16):
            with pytest.raises(StorageError, match="has shards 0 to 15"):
                reader.read(shard, 0)
    with pytest.raises(StorageError, match="0 shards asked for"):
        JournalWriter(tmp_path / "k.db", 0)


def test_only_one_writer(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 1) as writer:
        with pytest.raises(StorageError, match="is being written by another process"):
            JournalWriter(tmp_path / "j.db", 1)
        writer.append({0: Frame.build(make([1]))})
    JournalWriter(tmp_path / "j.db", 1).close()


def test_a_reader_ahead_of_its_journal_stops(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 1) as writer, JournalReader(tmp_path / "j.db") as reader:
        writer.append({0: Frame.build(make([1, 2]))})
        with pytest.raises(StorageError, match="shard 0 ends at offset 2, offset 3 was asked for"):
            reader.read(0, 3)


def test_a_closed_file_says_so_in_our_words(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "j.db", 1)
    writer.close()
    with pytest.raises(StorageError, match=r"cannot append.*closed"):
        writer.append({0: Frame.build(make([1]))})


_SET_CURSORS = """
import sys
from pathlib import Path
from connectors.cursors import Cursors
with Cursors(Path(sys.argv[1])) as cursors:
    for k in range(100):
        cursors.set_many(sys.argv[2], {0: k, 1: k + 1})
"""


def test_many_processes_create_and_move_cursors_at_once(tmp_path: Path) -> None:
    path = cursors_path(tmp_path / "journal.db")
    assert path.name == "journal.cursors.db"
    children = [
        subprocess.Popen([sys.executable, "-c", _SET_CURSORS, str(path), f"w{k}"], cwd=ROOT) for k in range(4)
    ]
    assert [child.wait(60) for child in children] == [0] * 4
    with Cursors(path) as cursors:
        assert cursors.all() == {f"w{k}": {0: 99, 1: 100} for k in range(4)}
        assert cursors.lowest_all() == {0: 99, 1: 100}
        assert (cursors.get("w1", 1), cursors.get("w1", 2), cursors.lowest(2)) == (100, None, None)
        cursors.set("w2", 0, 7)
        assert cursors.lowest(0) == 7


def test_columns_of_a_frame_that_came_back_do_not_share_memory_with_the_file(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j.db", 1) as writer, JournalReader(tmp_path / "j.db") as reader:
        writer.append({0: Frame.build(make([1, 2, 3]))})
        part = reader.read(0, 0)
        assert part is not None
        part[1].recv_ns[:] = 0
        again = reader.read(0, 0)
        assert again is not None
        assert np.array_equal(again[1].recv_ns, [1, 2, 3])

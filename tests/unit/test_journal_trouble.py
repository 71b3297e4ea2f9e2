"""The journal at its bounds and in trouble: retention, full disks, damage, wrong files."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from connectors import _sqlite
from connectors.journal import Cursors, JournalReader, JournalWriter, cursors_path, verify
from models.errors import StorageCorrupt, StorageError, StorageFull
from models.frame import Frame
from models.units import NS_PER_S
from tests.unit.test_journal import fill, read_all

from ._stored import flip, make, small_disk, unpack

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_journal_made_before_gets_its_control_shard_and_keeps_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with JournalWriter(path, 2) as writer:
        writer.append({1: Frame.build(make([1], 1))})
    for _ in range(2):
        with JournalWriter(path, 2, control=True) as writer, JournalReader(path) as reader:
            assert reader.ends() == {0: 0, 1: 1, 2: 0}
            assert reader.read(1, 0) is not None
            assert writer.next_offset(2) == 0
    with JournalWriter(path, 2, control=True) as writer:
        writer.append({2: Frame.build(make([2], 2))})
    with pytest.raises(StorageError, match="created with 2 shards and 3 were asked for"):
        JournalWriter(path, 3, control=True)
    with JournalWriter(path, 2) as writer:  # a caller that knows nothing of it leaves it alone
        assert writer.next_offset(2) == 1

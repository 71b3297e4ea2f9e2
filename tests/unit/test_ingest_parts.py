"""Shards, ticks, the journal's clock, the inbox: ingest without a broker."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.inbox import Inbox, Received
from connectors.journal import Cursors, JournalReader, JournalWriter, cursors_path
from connectors.status import read_status, write_status
from models.clock import JournalClock
from models.frame import COPY, OVERSIZE, TICK_FLAG, Frame
from models.sharding import ALL_SHARDS, Sharder
from models.topics import Route, Router, shard_of
from models.units import NO_TIME, NS_PER_S
from pipeline.config import Config
from pipeline.ingest import Ingest, with_ticks
from tests.servers.ingesting import settings as config_of

ROUTER = Router([Route("evt/v1/{site}/{node}/{rest}", "native"), Route("go/{node}/#", "goe")])


def frame_of(*rows: tuple[str, bytes], flags: int = 0) -> Frame:
    """Return a frame of (topic, payload) arriving 1 ns apart."""
    return Frame.build((i, topic.encode(), payload, flags) for i, (topic, payload) in enumerate(rows))


def rows_of(frame: Frame) -> list[tuple[int, bytes, bytes, int]]:
    """Return the messages of a frame."""
    return [
        (int(frame.recv_ns[i]), frame.topic(i), frame.payload(i), int(frame.flags[i]))
        for i in range(len(frame))
    ]


def test_shards_follow_the_site() -> None:
    frame = frame_of(
        ("evt/v1/depot/n1/up/meter", b""),
        ("evt/v1/depot/n2/up/hb", b""),
        ("go/123456/nrg", b""),
        ("stray/topic", b""),
        ("evt/v1/_op/maintenance", b'{"by":"me","site":"depot"}'),
        ("evt/v1/_op/maintenance", b'{"site":7}'),
        ("evt/v1/_op/maintenance", b"\xff"),
        ("evt/v1/_op/maintenance", b'{"site":"depot"'),
        ("evt/v1/_op", b"{}"),
    )
    depot = shard_of("depot", 8)
    assert Sharder(ROUTER, 8).assign(frame).tolist() == [
        depot,
        depot,
        shard_of("123456", 8),
        shard_of("stray/topic", 8),
        depot,
        ALL_SHARDS,
        ALL_SHARDS,
        ALL_SHARDS,
        shard_of("evt/v1/_op", 8),
    ]
    oversize = frame_of(("evt/v1/_op/x", b'{"site":"depot"}'), flags=OVERSIZE)
    assert Sharder(ROUTER, 8).assign(oversize).tolist() == [ALL_SHARDS]


def test_what_concerns_the_fleet_goes_to_the_control_shard_alone() -> None:
    topics = ("_ctl/station", "_op/campaign", "_op/firmware", "_op/command", "_op/other")
    body = b'{"site":"depot"}'
    frame = frame_of(*((f"evt/v1/{topic}", body) for topic in topics), ("evt/v1/_op/other", b"{}"))
    depot = shard_of("depot", 8)
    assert Sharder(ROUTER, 8).assign(frame).tolist() == [8, 8, 8, depot, depot, ALL_SHARDS]
    assert sorted(Sharder(ROUTER, 8).split(frame)) == [*range(8), 8]


names = st.sampled_from(["evt/v1/a/n/up/x", "evt/v1/b/n/up/x", "evt/v1/c/n/up/x", "evt/v1/_op/all", "odd"])


@settings(max_examples=100)
@given(st.lists(st.tuples(names, st.binary(max_size=20)), max_size=80))
def test_a_split_loses_nothing_and_keeps_order(drawn: list[tuple[str, bytes]]) -> None:
    frame = frame_of(*drawn)
    parts = Sharder(ROUTER, 4).split(frame)
    everywhere = [row for row in rows_of(frame) if row[1] == b"evt/v1/_op/all"]
    for shard, part in parts.items():
        rows = [(*row[:3], row[3] & ~COPY) for row in rows_of(part)]
        assert rows == sorted(rows, key=lambda row: row[0])
        assert [row for row in rows if row[1] == b"evt/v1/_op/all"] == everywhere
        for row in rows:
            if row[1].startswith(b"evt/v1/_op"):
                continue
            site = row[1].split(b"/")[2].decode() if row[1] != b"odd" else "odd"
            assert shard == shard_of(site, 4)
    originals = [row for part in parts.values() for row in rows_of(part) if not row[3] & COPY]
    assert sorted(originals) == rows_of(frame)  # what is not a copy is there once
    copies = 4 * len(everywhere) + len(drawn) - len(everywhere)
    assert sum(len(part) for part in parts.values()) == copies


def test_the_topic_cache_is_bounded(monkeypatch: object) -> None:
    import models.sharding as module

    sharder = Sharder(ROUTER, 4)
    frame = frame_of(*((f"evt/v1/s{i}/n/up/x", b"") for i in range(200)))
    old, module._CACHED_TOPICS = module._CACHED_TOPICS, 50  # type: ignore[misc]  # restored below
    try:
        shards = sharder.assign(frame)
    finally:
        module._CACHED_TOPICS = old  # type: ignore[misc]  # see above
    assert len(sharder._cache) <= 50
    assert shards.tolist() == [shard_of(f"s{i}", 4) for i in range(200)]


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 5 * NS_PER_S), max_size=40),
    st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True),
)
def test_ticks_come_before_what_arrived_at_or_after_them(arrivals: list[int], seconds: list[int]) -> None:
    frame = Frame.build((t, b"t", b"%d" % t, 0) for t in sorted(arrivals))
    ticks = [s * NS_PER_S for s in sorted(seconds)]
    found = with_ticks(frame if arrivals else None, ticks)
    assert found.recv_ns.tolist() == sorted([*arrivals, *ticks])
    for i in range(1, len(found)):
        if found.recv_ns[i] == found.recv_ns[i - 1]:
            assert not found.flags[i] & TICK_FLAG or found.flags[i - 1] & TICK_FLAG
    assert [p for _, _, p, f in rows_of(found) if not f & TICK_FLAG] == [b"%d" % t for t in sorted(arrivals)]


class Clock:
    """A machine's two clocks, set by hand."""

    def __init__(self, wall_s: float) -> None:
        self.wall = int(wall_s * NS_PER_S)
        self.steady = 0

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += int(seconds * NS_PER_S)
        self.steady += int(seconds * NS_PER_S)

    def journal(self, last_tick_ns: int = NO_TIME) -> JournalClock:
        """Return the journal's clock on top of them."""
        return JournalClock(lambda: self.wall, lambda: self.steady, last_tick_ns)


def test_the_clock_follows_the_machine() -> None:
    machine = Clock(1000)
    clock = machine.journal()
    assert clock() == 1000 * NS_PER_S
    machine.pass_s(2.5)
    assert clock() == int(1002.5 * NS_PER_S)
    machine.wall += 3600 * NS_PER_S
    assert clock() == machine.wall
    assert clock.behind_ns() == 0


def test_the_clock_goes_on_at_half_speed_after_a_step_back() -> None:
    machine = Clock(1000)
    clock = machine.journal()
    clock()
    machine.wall -= 10 * NS_PER_S
    assert clock() == 1000 * NS_PER_S
    assert clock.behind_ns() == 10 * NS_PER_S
    machine.pass_s(4)
    assert clock() == 1002 * NS_PER_S
    machine.pass_s(16)
    assert clock() == 1010 * NS_PER_S
    assert clock.behind_ns() == 0
    machine.pass_s(1)
    assert clock() == 1011 * NS_PER_S


def test_the_clock_starts_after_what_is_journaled() -> None:
    machine = Clock(1000)
    clock = machine.journal(last_tick_ns=1005 * NS_PER_S)
    assert clock() == 1006 * NS_PER_S - 1  # messages after that tick lie within its second


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-20, 20)), max_size=30))
def test_the_clock_never_steps_back(steps: list[tuple[float, float]]) -> None:
    machine = Clock(1000)
    clock = machine.journal()
    last = clock()
    for passed_s, set_s in steps:
        machine.pass_s(passed_s)
        machine.wall += int(set_s * NS_PER_S)
        now = clock()
        assert now >= max(last, machine.wall)
        last = now


class Told:
    """Notes what it may acknowledge."""

    def __init__(self) -> None:
        self.acked: list[int] = []

    def ack(self, received: Received) -> None:
        """Note it."""
        self.acked += received.mids.tolist()


def received(told: Told, *rows: tuple[str, bytes]) -> Received:
    """Return messages numbered from 1."""
    return Received(frame_of(*rows), np.arange(1, len(rows) + 1, dtype=np.uint16), 1, told)


def test_the_inbox_stamps_counts_and_says_when_it_is_full() -> None:
    stamps = iter([10, 20, 30])
    inbox = Inbox(lambda: next(stamps), 200)
    told = Told()
    inbox.put(received(told, ("t", b"x" * 50)))
    assert not inbox.full
    inbox.put(received(told, ("t", b"x" * 50), ("t", b"")))
    assert inbox.full
    assert inbox.wait(0, messages=3)
    assert not inbox.wait(0.01, messages=4, nbytes=10_000)
    items, now = inbox.take()
    assert [item.frame.recv_ns.tolist() for item in items] == [[10], [20, 20]]
    assert now == 30
    assert (inbox.messages, inbox.bytes, inbox.full) == (0, 0, False)


def ticks_of(path: Path, shard: int) -> list[int]:
    """Return the journaled seconds of a shard."""
    with JournalReader(path) as reader:
        run = reader.read(shard, 0)
        assert run is not None
        frame = run[1]
        return [int(t) // NS_PER_S for t, f in zip(frame.recv_ns, frame.flags, strict=True) if f & TICK_FLAG]


def no_source(config: Config, writer: JournalWriter, cursors: Cursors, machine: Clock) -> Ingest:
    """Return an ingest whose inbox the test fills."""
    ingest = Ingest(config, writer, cursors, threading.Event(), lambda: machine.wall, lambda: machine.steady)
    for source in ingest.sources:
        source.close(0)
    ingest.sources = []
    return ingest


def test_ticks_go_on_without_messages_over_stops_and_a_clock_set_back(tmp_path: Path) -> None:
    config, machine = config_of(tmp_path, 1), Clock(100.5)
    path = tmp_path / "journal.db"
    with JournalWriter(path, 4) as writer, Cursors(cursors_path(path)) as cursors:
        ingest = no_source(config, writer, cursors, machine)
        for _ in range(3):
            ingest._commit()
            machine.pass_s(1)
        ingest._commit()
        assert ticks_of(path, 0) == ticks_of(path, 3) == [100, 101, 102, 103]
        told = Told()
        ingest.inbox.put(received(told, ("evt/v1/s/n/up/x", b"1")))
        machine.pass_s(1.6)
        ingest.inbox.put(received(told, ("evt/v1/s/n/up/x", b"2")))
        ingest._commit()
        assert told.acked == [1, 1]
    machine.wall -= 50 * NS_PER_S
    with JournalWriter(path, 4) as writer, Cursors(cursors_path(path)) as cursors:
        ingest = no_source(config, writer, cursors, machine)
        told = Told()
        ingest.inbox.put(received(told, ("evt/v1/s/n/up/x", b"3")))
        ingest._commit()
        machine.pass_s(2.5)
        ingest._commit()
        machine.wall += 3600 * NS_PER_S
        ingest._commit()
    seconds = ticks_of(path, 1)
    assert seconds == [100, 101, 102, 103, 104, 105, 106, 107, 3657]
    shard = shard_of("s", 4)
    with JournalReader(path) as reader:
        run = reader.read(shard, 0)
        assert run is not None
        arrivals = run[1].recv_ns.tolist()
        texts = [p for _, _, p, f in rows_of(run[1]) if not f & TICK_FLAG]
    assert arrivals == sorted(arrivals)
    assert texts == [b"1", b"2", b"3"]


def test_a_commit_is_bounded(tmp_path: Path) -> None:
    config, machine = config_of(tmp_path, 1, {"commit_max_bytes": 65_536}), Clock(100)
    path = tmp_path / "journal.db"
    with JournalWriter(path, 4) as writer, Cursors(cursors_path(path)) as cursors:
        ingest = no_source(config, writer, cursors, machine)
        told = Told()
        for i in range(10):
            ingest.inbox.put(received(told, ("evt/v1/s/n/up/x", b"%d" % i * 20_000)))
        ingest._commit()
        assert ingest.counters.commits == 4  # 3 + 3 + 3 + 1 messages
        assert told.acked == [1] * 10


def test_retention_deletes_what_every_reader_has(tmp_path: Path) -> None:
    config, machine = config_of(tmp_path, 1, {"keep_gib": 0.01, "keep_hours": 0.1}), Clock(100)
    path = tmp_path / "journal.db"
    with JournalWriter(path, 4) as writer, Cursors(cursors_path(path)) as cursors:
        ingest = no_source(config, writer, cursors, machine)
        for _ in range(5):
            ingest.inbox.put(received(Told(), ("evt/v1/s/n/up/x", b"x")))
            ingest._commit()
            machine.pass_s(600)
        ingest._trim_at = 0.0
        ingest._housekeeping()
        assert ingest.counters.trimmed == 0
        cursors.set_many("worker", {shard: writer.next_offset(shard) for shard in range(4)})
        ingest._trim_at = 0.0
        ingest._housekeeping()
        assert ingest.counters.trimmed > 0
    assert read_status(tmp_path, "ingest")["messages"] == 5


def test_a_status_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("in the way")
    assert not write_status(tmp_path, "ingest", {"a": 1})
    assert read_status(tmp_path, "ingest") == {}


def test_quiet_ingest_still_wakes_for_its_ticks(tmp_path: Path) -> None:
    config = config_of(tmp_path, 1)
    path = tmp_path / "journal.db"
    with JournalWriter(path, 4) as writer, Cursors(cursors_path(path)) as cursors:
        stop = threading.Event()
        ingest = Ingest(config, writer, cursors, stop)
        thread = threading.Thread(target=ingest.run)
        thread.start()
        time.sleep(2.2)
        stop.set()
        thread.join(10)
    seconds = ticks_of(path, 2)
    assert len(seconds) >= 3
    assert np.diff(seconds).tolist() == [1] * (len(seconds) - 1)

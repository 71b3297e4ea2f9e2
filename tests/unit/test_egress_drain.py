"""One drain: its cursor, its patience, its end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.mqtt_link import Backoff
from connectors.outbox import DeadLetter
from models.errors import RetryLater
from pipeline.egress import dead_letter_path
from pipeline.egress_drain import Drain
from pipeline.egress_sinks import Letter, Record

from ._egress_tools import T0, cursor, letters, put, until


class FakeSink:
    """Delivers what it is told to, and remembers."""

    def __init__(self, *answers: Exception | list[Letter], streams: dict[str, float] | None = None) -> None:
        self.name = "fake"
        self.streams = streams or {"points": 0.005}
        self.answers = list(answers)
        self.seen: list[tuple[str, list[int]]] = []
        self.closed = False

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        self.seen.append((stream, [r.seq for r in records]))
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


@contextmanager
def draining(data: Path, sink: FakeSink, **options: Any) -> Iterator[Drain]:
    stop = threading.Event()
    backoff = Backoff(0.01, 0.02, random.Random(1))
    path = data / "outbox" / "worker-00.db"
    drain = Drain(path, sink, dead_letter_path(data), backoff, stop, wall_ns=lambda: T0, **options)
    drain.start()
    try:
        yield drain
    finally:
        stop.set()
        assert drain.join(10)
    assert sink.closed


def test_the_cursor_moves_only_after_the_other_side_accepted(tmp_path: Path) -> None:
    put(tmp_path, [("points", 0, b"a"), ("points", 1, b"b")])
    sink = FakeSink(RetryLater("busy"), RetryLater("busy"), RetryLater("still busy", 0.05))
    with draining(tmp_path, sink) as drain:
        until(lambda: drain.state.retries == 3, "three tries")
        assert drain.state.report() | {"cursors": {}} == {
            "state": "waiting", "last_error": "still busy", "lag_records": 2, "delivered": 0, "retries": 3,
            "refused": 0, "cursors": {},
        }  # fmt: skip
        assert cursor(tmp_path, "fake", "points") == 0
        until(lambda: drain.state.delivered == 2, "delivery")
        assert cursor(tmp_path, "fake", "points") == 2
        assert drain.state.report()["state"] == "idle"
        put(tmp_path, [("points", 0, b"c")])
        until(lambda: drain.state.delivered == 3, "what came later")
    assert sink.seen == [("points", [1, 2])] * 4 + [("points", [3])]


class OrderedFake(FakeSink):
    """Takes the records of all its streams in order."""

    def deliver_in_order(self, records: Sequence[tuple[str, Record]]) -> list[Letter]:
        self.order += [record.seq for _, record in records]
        return [Letter(r.seq, r.blob, "bad") for _, r in records if r.blob == b"bad"]

    order: list[int]


def test_streams_that_belong_together_come_in_the_order_of_the_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.egress_drain._LIMIT_RECORDS", 3)
    streams = ["late"] * 7 + ["points", "dead", "late"] * 4 + ["points"] * 6
    put(tmp_path, [(stream, 0, b"bad" if i == 7 else b"x") for i, stream in enumerate(streams)])
    sink = OrderedFake(streams={"points": 0.005, "late": 0.005})
    sink.order = []
    with draining(tmp_path, sink) as drain:
        until(lambda: drain.state.lag() == 0 and drain.state.delivered, "delivery")
        put(tmp_path, [("late", 0, b"y")])
        until(lambda: cursor(tmp_path, "fake", "late") == 26, "what came later")
    assert sink.order == [i + 1 for i, stream in enumerate([*streams, "late"]) if stream != "dead"]
    assert cursor(tmp_path, "fake", "points") == 25
    assert letters(tmp_path) == [("fake", "points", 8, b"bad", "bad")]


def test_a_restart_goes_on_at_the_cursor(tmp_path: Path) -> None:
    put(tmp_path, [("points", 0, b"a"), ("late", 0, b"x"), ("points", 0, b"b")])
    for seqs in ([1, 3], [4]):
        sink = FakeSink()
        with draining(tmp_path, sink) as drain:
            until(lambda d=drain: d.state.delivered, "delivery")  # type: ignore[misc]
        assert sink.seen == [("points", seqs)]
        put(tmp_path, [("points", 0, b"c")])


def test_refused_records_are_kept_before_the_cursor_passes_them(tmp_path: Path) -> None:
    put(tmp_path, [("points", 0, b"good"), ("points", 0, b"bad")])
    with draining(tmp_path, FakeSink([Letter(2, b"bad", "no such field")])) as drain:
        until(lambda: drain.state.delivered == 2, "delivery")
    assert letters(tmp_path) == [("fake", "points", 2, b"bad", "no such field")]
    assert drain.state.refused == 1


def test_a_mistake_of_ours_stops_neither_the_thread_nor_the_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, [("points", 0, b"a")])
    with draining(tmp_path, FakeSink(ZeroDivisionError("oops"))) as drain:
        until(lambda: drain.state.delivered == 1, "delivery after the mistake")
    assert "unexpected ZeroDivisionError: oops; report it" in drain.state.last_error
    assert "Traceback" in caplog.text


def test_an_outbox_that_cannot_be_read_is_reported_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox" / "worker-00.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    with draining(tmp_path, FakeSink()) as drain:
        until(lambda: drain.state.retries > 1, "a second try")
        assert "worker-00.db" in drain.state.last_error
        path.unlink()
        put(tmp_path, [("points", 0, b"a")])
        until(lambda: drain.state.delivered == 1, "delivery from the sound file")


def test_what_waits_at_the_end_is_delivered_in_the_time_there_is(tmp_path: Path) -> None:
    put(tmp_path, [("points", 0, b"%d" % i) for i in range(5_000)])
    sink = FakeSink(streams={"points": 30.0})
    with draining(tmp_path, sink, finish_s=5.0) as drain:
        until(lambda: drain.state.delivered == 5_000, "all")
        until(lambda: drain.state.lag() == 0, "an empty outbox seen")
        time.sleep(0.05)
        put(tmp_path, [("points", 0, b"late")])
    assert drain.state.delivered == 5_001


def test_threads_that_open_a_new_dead_letter_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def open_and_add(path: Path, number: int) -> None:
        try:
            with DeadLetter(path) as box:
                box.add("fake", "points", number, b"x", "no", 0)
        except Exception as error:
            failures.append(error)

    for attempt in range(8):
        path = tmp_path / f"{attempt}.db"
        threads = [threading.Thread(target=open_and_add, args=(path, i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with DeadLetter(path) as box:
            assert box.count() == 4
    assert not failures

"""An outbox to fill and an egress to run, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.outbox import DeadLetter, OutboxCursors, OutboxWriter, outbox_cursors_path
from pipeline.egress import Egress, SinkFactory, dead_letter_path

T0 = 1_790_000_000_000_000_000


def lines(n: int, start: int = 0, name: str = "m") -> bytes:
    return b"".join(b"%s,k=a v=%d %d\n" % (name.encode(), i, T0 + i) for i in range(start, start + n))


def put(data: Path, records: Sequence[tuple[str, int, bytes]], name: str = "worker-00") -> None:
    with OutboxWriter(data / "outbox" / f"{name}.db", durable=False) as outbox:
        outbox.append(records)


def cursor(data: Path, consumer: str, stream: str, name: str = "worker-00") -> int:
    with OutboxCursors(outbox_cursors_path(data / "outbox" / f"{name}.db")) as cursors:
        return cursors.get(consumer, stream)


def letters(data: Path) -> list[tuple[str, str, int, bytes, str]]:
    with DeadLetter(dead_letter_path(data)) as box:
        return [(x.consumer, x.stream, x.seq, x.blob, x.reason) for x in box.list()]


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextmanager
def running(data: Path, sinks: dict[str, SinkFactory], **options: Any) -> Iterator[Egress]:
    stop = threading.Event()
    quick = dict.fromkeys(sinks, (0.02, 0.1))
    egress = Egress(data, sinks, stop, retry_s=quick, **options)
    thread = threading.Thread(target=egress.run)
    thread.start()
    try:
        yield egress
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()

"""Drains one outbox into one sink, in a thread of its own, with its own cursor, pace and patience."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connectors.mqtt_link import Backoff
from connectors.outbox import DeadLetter, OutboxCursors, OutboxReader, outbox_cursors_path
from models.errors import ChargestreamError, RetryLater
from models.units import NS_PER_MS

from .egress_sinks import Letter, OrderedSink, Record, Sink

_LOG = logging.getLogger("chargestream.egress")

_LIMIT_RECORDS: Final = 2_000
_LIMIT_BYTES: Final = 4 << 20
_REMIND_S: Final = 60.0
_LOOK_S: Final = 1.0


@dataclass(slots=True)
class DrainState:
    """What a drain says of itself; written by its thread only, read by any.

    `last` and `cursor` are sequence numbers of the outbox, which count over all its streams: a lag is
    at most so many records.
    """

    waiting: bool = False
    last_error: str = ""
    delivered: int = 0
    retries: int = 0
    refused: int = 0
    last: dict[str, int] = field(default_factory=dict)
    cursor: dict[str, int] = field(default_factory=dict)

    def lag(self) -> int:
        """Return at most how many records are not delivered yet."""
        return sum(max(0, self.last.get(s, 0) - seq) for s, seq in dict(self.cursor).items())

    def report(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "state": "waiting" if self.waiting else "delivering" if self.lag() else "idle",
            "last_error": self.last_error,
            "lag_records": self.lag(),
            "delivered": self.delivered,
            "retries": self.retries,
            "refused": self.refused,
            "cursors": dict(self.cursor),
        }


class Drain:
    """One thread: one outbox, one sink.

    Parameters
    ----------
    outbox : Path
    sink : Sink
        Closed at the end.
    dead_letter : Path
    backoff : Backoff
        Waits after a delivery that was put off.
    stop : threading.Event
        Ends the thread, after the delivery in hand and at most `finish_s` of what else waits.
    finish_s : float
        Time for what still waits when `stop` is set.
    wall_ns : callable
        The machine's clock, for the date of a dead letter.
    """

    def __init__(
        self,
        outbox: Path,
        sink: Sink,
        dead_letter: Path,
        backoff: Backoff,
        stop: threading.Event,
        *,
        finish_s: float = 0.0,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.outbox = outbox
        self.sink = sink
        self.state = DrainState()
        self._dead_letter, self._backoff, self._stop = dead_letter, backoff, stop
        self._finish_s, self._wall_ns = finish_s, wall_ns
        self._failed_at = self._remind_at = self._delay_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"{sink.name}-{outbox.stem}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread's end and return whether it ended in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._open_and_drain()
                except (ChargestreamError, OSError) as error:  # a file of ours, not the server
                    self._put_off(str(error), None)
                except Exception as error:
                    _LOG.exception("%s: unexpected", self._name())
                    self._put_off(f"unexpected {type(error).__name__}: {error}; report it", None)
                self._pause()
        finally:
            self.sink.close()

    def _open_and_drain(self) -> None:
        with (
            OutboxReader(self.outbox) as reader,
            OutboxCursors(outbox_cursors_path(self.outbox)) as cursors,
            DeadLetter(self._dead_letter) as letters,
        ):
            self.state.cursor = {stream: cursors.get(self.sink.name, stream) for stream in self.sink.streams}
            due = dict.fromkeys(self.sink.streams, 0.0)
            while not self._stop.is_set():
                try:
                    if not self._round(reader, cursors, letters, due):
                        self._stop.wait(max(0.0, min(due.values()) - time.monotonic()))
                except RetryLater as error:
                    self._put_off(str(error), error.delay_s)
                    self._pause(reader)
            self._finish(reader, cursors, letters)

    def _finish(self, reader: OutboxReader, cursors: OutboxCursors, letters: DeadLetter) -> None:
        """Deliver what waits, as long as that goes well and there is time."""
        if self.state.waiting:
            return
        deadline = time.monotonic() + self._finish_s
        try:
            while time.monotonic() < deadline:
                if not self._round(reader, cursors, letters, dict.fromkeys(self.sink.streams, 0.0)):
                    break
        except RetryLater as error:
            self.state.last_error = str(error)

    def _round(
        self, reader: OutboxReader, cursors: OutboxCursors, letters: DeadLetter, due: dict[str, float]
    ) -> bool:
        """Deliver one run of every stream that is due; return whether there was any."""
        if isinstance(self.sink, OrderedSink):
            if self._step_in_order(self.sink, reader, cursors, letters):
                return True
            pace_s = time.monotonic() + min(self.sink.streams.values())
            due |= dict.fromkeys(due, pace_s)
            return False
        busy = False
        for stream, pace_s in self.sink.streams.items():
            if time.monotonic() < due[stream]:
                continue
            if self._step(stream, reader, cursors, letters):
                busy = True
                if self._stop.is_set():
                    break
            else:
                due[stream] = time.monotonic() + pace_s
        return busy

    def _step(self, stream: str, reader: OutboxReader, cursors: OutboxCursors, letters: DeadLetter) -> bool:
        found = reader.read(stream, self.state.cursor[stream], _LIMIT_RECORDS, _LIMIT_BYTES)
        self.state.last[stream] = reader.last_seq(stream)
        if not found:
            return False
        records = [(stream, Record(*row)) for row in found]
        refused = self.sink.deliver(stream, [record for _, record in records])
        self._settle(records, refused, cursors, letters)
        return True

    def _step_in_order(
        self, sink: OrderedSink, reader: OutboxReader, cursors: OutboxCursors, letters: DeadLetter
    ) -> bool:
        """Deliver what all streams hold up to one number, in the order in which it was put in."""
        end = reader.last_seq()
        found: list[tuple[str, Record]] = []
        for stream in sink.streams:
            rows = reader.read(stream, self.state.cursor[stream], _LIMIT_RECORDS, _LIMIT_BYTES)
            self.state.last[stream] = reader.last_seq(stream)
            if rows and rows[-1][0] < self.state.last[stream]:
                end = min(end, rows[-1][0])  # there is more of it, which may lie before what others have
            found += [(stream, Record(*row)) for row in rows]
        records = sorted((pair for pair in found if pair[1].seq <= end), key=lambda pair: pair[1].seq)
        if not records:
            return False
        self._settle(records, sink.deliver_in_order(records), cursors, letters)
        return True

    def _settle(
        self,
        records: Sequence[tuple[str, Record]],
        refused: Sequence[Letter],
        cursors: OutboxCursors,
        letters: DeadLetter,
    ) -> None:
        """Keep what was refused and move the cursors past `records`."""
        stream_of = {record.seq: stream for stream, record in records}
        for letter in refused:
            when_ms = self._wall_ns() // NS_PER_MS
            stream = stream_of[letter.seq]
            letters.add(self.sink.name, stream, letter.seq, letter.blob, letter.reason, when_ms)
        if refused:
            self.state.refused += len(refused)
            _LOG.error(
                "%s: %d refused for good and kept in %s, the first: %s",
                self._name(), len(refused), self._dead_letter, refused[0].reason,
            )  # fmt: skip
        # Only now: what the cursor has passed is never delivered again.
        for stream, seq in {stream: record.seq for stream, record in records}.items():
            cursors.set(self.sink.name, stream, seq)
            self.state.cursor[stream] = seq
        self.state.delivered += len(records)
        self._recovered()

    def _name(self) -> str:
        return f"{self.sink.name} of {self.outbox.stem}"

    def _put_off(self, why: str, delay_s: float | None) -> None:
        """Note that a delivery did not work; say so at first and every minute."""
        now = time.monotonic()
        self._delay_s = max(self._backoff.next_s(), delay_s or 0.0)
        changed = why != self.state.last_error
        if not self.state.waiting:
            self._failed_at = now
        if not self.state.waiting or changed or now >= self._remind_at:
            self._remind_at = now + _REMIND_S
            _LOG.warning("%s: %s; next try in %.1f s", self._name(), why, self._delay_s)
        self.state.waiting, self.state.last_error = True, why
        self.state.retries += 1

    def _pause(self, reader: OutboxReader | None = None) -> None:
        """Wait until the next try, and see meanwhile how much piles up."""
        until = time.monotonic() + self._delay_s if self.state.waiting else 0.0
        while (left := until - time.monotonic()) > 0 and not self._stop.wait(min(left, _LOOK_S)):
            if reader is not None:
                self.state.last |= {stream: reader.last_seq(stream) for stream in self.sink.streams}

    def _recovered(self) -> None:
        if self.state.waiting:
            self.state.waiting = False
            self._backoff.reset()
            _LOG.info("%s: delivering again after %.1f s", self._name(), time.monotonic() - self._failed_at)

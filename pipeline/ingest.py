"""Ingest: what the broker sends goes to the journal, and is acknowledged once it is on disk.

Receivers fill an inbox; one loop empties it into the journal, one transaction for all shards and for as
many messages as came in ``journal.group_commit_ms``, and then lets the receivers acknowledge. Every
second each shard gets a tick, so that journaled time goes on when nothing arrives.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from connectors.cursors import Cursors, cursors_path
from connectors.inbox import Inbox, Received
from connectors.journal import JournalWriter
from connectors.mqtt_link import LinkStatus
from connectors.mqtt_settings import MqttSettings
from connectors.status import write_status
from models.clock import JournalClock
from models.errors import StorageFull
from models.frame import Frame
from models.sharding import Sharder
from models.topics import CONTROL_SITE, OPERATOR_SITE, ROOT, Route, Router, subscriptions
from models.units import NO_TIME, NS_PER_S

from .config import Config
from .ingest_receivers import make_receiver, process_receiver

_LOG = logging.getLogger("chargestream.ingest")

JOURNAL_FILE: Final = "journal.db"
#: After a standstill longer than this only the present second is ticked, not each one that was missed.
_TICKS_CAUGHT_UP: Final = 10
_FULL_RETRY_S: Final = 1.0
_FULL_REMIND_S: Final = 60.0
_STATUS_S: Final = 1.0
_TRIM_S: Final = 5.0
_TRIM_AGAIN_S: Final = 0.2
_IDLE_S: Final = 0.2
#: Operator messages, and what our own shards tell the control shard, are journaled whatever the routes are.
_OWN_ROUTES: Final = [Route(f"{ROOT}/{name}/{{rest}}", "native") for name in (OPERATOR_SITE, CONTROL_SITE)]
_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


class MessageSource(Protocol):
    """A receiver: a thread or a process."""

    def start(self) -> None:
        """Start receiving."""

    def ack(self, received: Received) -> None:
        """Acknowledge what is on disk."""

    def quiesce(self, timeout_s: float) -> None:
        """Stop reading."""

    def close(self, timeout_s: float) -> None:
        """Send due acknowledgements and disconnect."""

    def status(self) -> LinkStatus:
        """Return the counters."""


def journal_file(config: Config) -> Path:
    """Return the path of the journal."""
    return Path(config.service.data_dir) / JOURNAL_FILE


def mqtt_settings(config: Config, suffix: str = "") -> MqttSettings:
    """Return how to reach the broker as the receiver."""
    mqtt = config.mqtt
    return MqttSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=(mqtt.client_id or f"{config.service.instance}-ingest") + suffix,
        version=mqtt.protocol_version,
        username=mqtt.username,
        password=mqtt.password,
        filters=subscriptions([*config.topic_routes(), *_OWN_ROUTES]),
        share_group=mqtt.share_group.reveal(),
        tls_enabled=mqtt.tls_enabled,
        tls_ca_file=mqtt.tls_ca_file,
        tls_cert_file=mqtt.tls_cert_file,
        tls_key_file=mqtt.tls_key_file,
        tls_insecure=mqtt.tls_insecure,
        keep_alive_s=mqtt.keep_alive_s,
        session_expiry_s=mqtt.session_expiry_s,
        receive_maximum=mqtt.receive_maximum,
        max_payload_bytes=mqtt.max_payload_bytes,
        reconnect_min_s=mqtt.reconnect_min_s,
        reconnect_max_s=mqtt.reconnect_max_s,
        connect_timeout_s=mqtt.connect_timeout_s,
    )


@dataclasses.dataclass(slots=True)
class IngestCounters:
    """What the writer did since its start."""

    messages: int = 0
    bytes: int = 0
    commits: int = 0
    last_commit_ns: int = 0
    trimmed: int = 0
    storage_full: bool = False


class Ingest:
    """The one writer: takes from the inbox, commits, lets acknowledge.

    Parameters
    ----------
    config : Config
    writer : JournalWriter
        Closed by the caller.
    cursors : Cursors
        How far the workers are, for retention.
    stop : threading.Event
        Ends `run`.
    wall_ns, steady_ns : callable
        The machine's clocks, in ns.
    """

    def __init__(
        self,
        config: Config,
        writer: JournalWriter,
        cursors: Cursors,
        stop: threading.Event,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.config = config
        self.counters = IngestCounters()
        self.clock = JournalClock(wall_ns, steady_ns, writer.last_tick_ns())
        self.inbox = Inbox(self.clock, config.journal.queue_max_bytes)
        self._writer, self._cursors, self._stop = writer, cursors, stop
        self._sharder = Sharder(Router(config.topic_routes()), config.journal.shards)
        self._shards = range(writer.shards + writer.control)
        self._tick_s = self._first_tick(writer.last_tick_ns())
        self._status_at = self._trim_at = self._remind_at = self._committed_at = 0.0
        self.sources: list[MessageSource] = self._make_sources()

    def _first_tick(self, last_tick_ns: int) -> int:
        """Return the second that counts as ticked: the newest in the journal, or the present one less 1."""
        return (self.clock() if last_tick_ns == NO_TIME else last_tick_ns) // NS_PER_S - (
            1 if last_tick_ns == NO_TIME else 0
        )

    def _make_sources(self) -> list[MessageSource]:
        mqtt, count = self.config.mqtt, self.config.mqtt.receivers
        if count == 1:
            return [make_receiver(mqtt.client, mqtt_settings(self.config), self.inbox)]
        log = (self.config.service.log_level, self.config.service.log_format)
        room = self.config.journal.queue_max_bytes // count
        return [
            process_receiver(mqtt.client, mqtt_settings(self.config, f"-{i}"), self.inbox, room, log)
            for i in range(count)
        ]

    def run(self) -> None:
        """Receive and commit until `stop` is set; then commit, acknowledge and disconnect.

        Raises
        ------
        StorageError
            If the journal is damaged or the disk fails; what is not stored stays with the broker.
        """
        started: list[MessageSource] = []
        try:
            for source in self.sources:
                source.start()
                started.append(source)
            while not self._stop.is_set():
                self._wait()
                self._commit()
                self._housekeeping()
            for source in started:
                source.quiesce(self.config.service.stop_timeout_s / 4)
            self._commit()
        finally:
            for source in started:
                source.close(self.config.service.stop_timeout_s / 2)
            self._report()

    def _wait(self) -> None:
        """Wait for messages, and for more of them to share a commit; not beyond the next tick."""
        journal = self.config.journal
        to_tick_s = ((self._tick_s + 1) * NS_PER_S - self.clock()) / NS_PER_S
        if not self.inbox.wait(min(max(to_tick_s, 0.0), _IDLE_S)):
            return
        # Commits keep this distance; after a pause the first message does not wait.
        linger_s = self._committed_at + journal.group_commit_ms / 1000 - time.monotonic()
        if linger_s > 0:
            self.inbox.wait(linger_s, journal.commit_max_messages, journal.commit_max_bytes)

    def _commit(self) -> None:
        """Store all that waits, and the ticks that are due, then let the receivers acknowledge."""
        items, now_ns = self.inbox.take()
        if items:
            self._committed_at = time.monotonic()
        while items:
            count = self._fits(items)
            group, items = items[:count], items[count:]
            until_ns = int(items[0].frame.recv_ns[0]) if items else now_ns
            if not self._store(group, until_ns):
                return
        self._store([], now_ns)

    def _fits(self, items: list[Received]) -> int:
        """Return how many of `items` make one commit, at least 1."""
        size = 0
        for count, item in enumerate(items):
            size += item.size
            if size > self.config.journal.commit_max_bytes and count:
                return count
        return len(items)

    def _store(self, group: list[Received], now_ns: int) -> bool:
        """Store one commit and let it be acknowledged; False when we stop before there is room."""
        ticks = self._due_ticks(now_ns)
        frames: dict[int, Frame] = {}
        if group:
            frames = self._sharder.split(Frame.concat([item.frame for item in group]))
        if ticks:
            frames = {s: with_ticks(frames.get(s), ticks) for s in self._shards}
        if not frames:
            return True
        if not self._append(frames):
            return False
        if ticks:
            self._tick_s = ticks[-1] // NS_PER_S
        for item in group:
            item.source.ack(item)
            self.counters.messages += len(item.frame)
            self.counters.bytes += len(item.frame.payloads)
        self.counters.commits += 1
        self.counters.last_commit_ns = now_ns
        return True

    def _due_ticks(self, now_ns: int) -> list[int]:
        now_s = now_ns // NS_PER_S
        first = self._tick_s + 1 if now_s - self._tick_s <= _TICKS_CAUGHT_UP else now_s
        return [second * NS_PER_S for second in range(first, now_s + 1)]

    def _append(self, frames: dict[int, Frame]) -> bool:
        """Append, waiting for room as long as it takes; nothing is acknowledged meanwhile."""
        while True:
            try:
                self._writer.append(frames)
            except StorageFull as error:
                self._say_full(error)
                if self._stop.wait(_FULL_RETRY_S):
                    return False
                self._trim_at = 0.0
                self._housekeeping()
                continue
            if self.counters.storage_full:
                self.counters.storage_full = False
                _LOG.warning("there is room again: storing and acknowledging goes on")
            return True

    def _say_full(self, error: StorageFull) -> None:
        now = time.monotonic()
        if self.counters.storage_full and now < self._remind_at:
            return
        self.counters.storage_full = True
        self._remind_at = now + _FULL_REMIND_S
        _LOG.error(
            "%s. Nothing is acknowledged, so the broker keeps all new messages; ingest goes on by itself "
            "when there is room",
            error,
        )

    def _housekeeping(self) -> None:
        now = time.monotonic()
        if now >= self._trim_at:
            journal = self.config.journal
            deleted = self._writer.trim(
                self._cursors.lowest_all(),
                keep_s=journal.keep_hours * 3600,
                keep_bytes=int(journal.keep_gib * _GIB),
            )
            self.counters.trimmed += deleted
            self._trim_at = now + (_TRIM_AGAIN_S if deleted else _TRIM_S)
        if now >= self._status_at:
            self._status_at = now + _STATUS_S
            self._report()

    def status(self) -> dict[str, Any]:
        """Return what the status file says; times in ns."""
        links = [source.status() for source in self.sources]
        return {
            "pid": os.getpid(),
            "updated_ns": self.clock(),
            "clock_behind_ns": self.clock.behind_ns(),
            **dataclasses.asdict(self.counters),
            "waiting_messages": self.inbox.messages,
            "waiting_bytes": self.inbox.bytes,
            "connected": sum(link.connected for link in links),
            "receivers": len(links),
            "in_flight": sum(link.in_flight for link in links),
            "acked": sum(link.acked for link in links),
            "stale_acks": sum(link.stale_acks for link in links),
            "oversize": sum(link.oversize for link in links),
            "reconnects": sum(max(link.connects - 1, 0) for link in links),
            "last_error": next((link.last_error for link in links if link.last_error), ""),
        }

    def _report(self) -> None:
        write_status(Path(self.config.service.data_dir), "ingest", self.status())


def with_ticks(frame: Frame | None, ticks: Sequence[int]) -> Frame:
    """Return `frame` with a tick before the first message at or after each of `ticks`."""
    if frame is None:
        return Frame.ticks(ticks)
    cuts = np.searchsorted(frame.recv_ns, np.array(ticks, np.int64), side="left").tolist()
    parts, start = [], 0
    for tick, cut in zip(ticks, cuts, strict=True):
        parts += [frame.slice(start, cut), Frame.ticks([tick])]
        start = cut
    return Frame.concat([*parts, frame.slice(start, len(frame))])


def run_ingest(config: Config, stop: threading.Event) -> int:
    """Run the ingest process until `stop` is set and return its exit code.

    Raises
    ------
    StorageError
        If the journal cannot be opened, is damaged or cannot be written.
    ConfigError
        If a TLS file cannot be used.
    """
    mqtt_settings(config).tls_context()  # a TLS file that cannot be used is a mistake to be told now
    path = journal_file(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        JournalWriter(
            path, config.journal.shards, control=True, reserve_bytes=config.journal.min_free_mib * _MIB
        ) as writer,
        Cursors(cursors_path(path)) as cursors,
    ):
        ingest = Ingest(config, writer, cursors, stop)
        ingest.run()
        counters = ingest.counters
        _LOG.info("stopped: %d messages in %d commits", counters.messages, counters.commits)
    return 0

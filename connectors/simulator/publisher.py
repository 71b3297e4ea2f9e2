"""Publishing simulated messages over MQTT: connections with wills, a bounded window, proof of PUBACKs.

Two forms. With a connection per node, births and wills are real: a birth opens the node's connection with
the matching will, and where the simulated broker would publish a will, the connection is dropped so that
the real one does. With one shared connection, wills are published like any other message.
"""

from __future__ import annotations

import hashlib
import logging
import select
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from models.errors import RetryLater, StorageError

from .messages import SimMessage

log = logging.getLogger(__name__)
_RETRY_S: Final = 0.5
_PATIENCE_S: Final = 3.0  # for the first connection


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to publish. The password never shows in text."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    keep_alive_s: int = 60

    def __repr__(self) -> str:
        return f"Broker({self.host}:{self.port}, username={self.username!r}, password=***)"


class Link:
    """One MQTT connection, served by the thread that publishes; it reconnects when told to.

    Messages that wait for their PUBACK survive a reconnect. There is no network thread: two threads that take
    turns publish a tenth of what one can.
    """

    def __init__(self, broker: Broker, client_id: str, acks: deque[tuple[Link, int]], window: int) -> None:
        self.broker = broker
        self.wanted = False
        self.fresh_loss = False
        self.retry_at = 0.0
        self._acks = acks
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv311,
            clean_session=True,
        )
        if broker.username:
            self.client.username_pw_set(broker.username, broker.password)
        self.client.max_inflight_messages_set(max(20, window))
        self.client.max_queued_messages_set(0)
        self.client.on_publish = self._on_publish
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect

    def open(self, will_topic: str = "", will: bytes = b"") -> None:
        """Connect, or connect anew, with this will; a failed try is repeated by `retry`."""
        self.close()
        if will_topic:
            self.client.will_set(will_topic, will, qos=1, retain=True)
        self.wanted = True
        self._try()

    def _try(self) -> None:
        self.retry_at = 0.0
        try:
            self.client.connect(self.broker.host, self.broker.port, self.broker.keep_alive_s)
        except OSError as error:
            self.retry_at = time.monotonic() + _RETRY_S
            log.warning("no connection to %s:%d: %s", self.broker.host, self.broker.port, error)

    def retry(self) -> None:
        """Try again if the last try failed long enough ago."""
        if self.wanted and self.retry_at and time.monotonic() >= self.retry_at:
            self._try()

    def publish(self, message: SimMessage) -> int:
        """Publish and return the packet id; without a connection, a QoS 1 message waits in the client."""
        return self.client.publish(message.topic, message.payload, message.qos, message.retain).mid

    def drop(self) -> None:
        """Break the connection without a goodbye, so that the broker publishes the will."""
        self.wanted = False
        sock: Any = self.client.socket()
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                log.debug("the connection was gone already: %s", error)

    def close(self) -> None:
        """Say goodbye, if connected."""
        self.wanted = False
        self.client.disconnect()

    def _on_publish(self, _client: Any, _data: Any, mid: int, _code: Any, _properties: Any) -> None:
        self._acks.append((self, mid))

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            log.error("%s:%d refuses the connection: %s", self.broker.host, self.broker.port, code)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, _code: Any, _properties: Any) -> None:
        if self.wanted:
            self.fresh_loss = True
            self.retry_at = time.monotonic() + _RETRY_S


def serve(links: list[Link]) -> None:
    """Read and write what the sockets of all links are ready for, without waiting; send pings when due."""
    ready: dict[Any, Link] = {}
    for link in links:
        sock = link.client.socket()
        if sock is not None:
            ready[sock] = link
    if not ready:
        return
    busy = [sock for sock, link in ready.items() if link.client.want_write()]
    readable, writable, _ = select.select(list(ready), busy, [], 0)
    for sock in writable:
        ready[sock].client.loop_write()
    for sock in readable:
        ready[sock].client.loop_read()
    for link in ready.values():
        link.client.loop_misc()


class Publisher:
    """Publishes messages and keeps the account of what the broker acknowledged.

    Parameters
    ----------
    broker : Broker
    nodes : list of str
        Node names by row.
    per_node : bool
        A connection per node, with wills.
    window : int
        QoS 1 messages that may wait for their PUBACK; `send` waits when it is full.
    acked : Path, optional
        File that gets a line per acknowledged QoS 1 message: topic, boot, seq and SHA-256 of the payload,
        separated by tabs (-1 where a message has no boot or seq).
    """

    def __init__(
        self,
        broker: Broker,
        nodes: list[str],
        *,
        per_node: bool,
        window: int = 1000,
        acked: Path | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.per_node, self.window = per_node, window
        self.stop = stop or threading.Event()
        self.sent = self.acknowledged = 0
        self._acks: deque[tuple[Link, int]] = deque()
        self._waiting: dict[tuple[Link, int], bytes] = {}
        names = nodes if per_node else ["shared"]
        unique = f"{time.time_ns() & 0xFFFFFF:06x}"
        self.links = [Link(broker, f"sim-{unique}-{name}", self._acks, window) for name in names]
        try:
            self._file = acked.open("ab") if acked else None
        except OSError as error:
            raise StorageError(f"acknowledged list {acked} cannot be written: {error.strerror}") from error
        if not per_node:
            self.links[0].open()
            self._await_connection(broker)

    def _await_connection(self, broker: Broker) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            if self.links[0].client.is_connected():
                return
            self.links[0].retry()
            serve(self.links)
            time.sleep(0.02)
        self.links[0].close()
        raise RetryLater(
            f"no MQTT broker answers at {broker.host}:{broker.port}; start one, or give --broker"
        )

    @property
    def unacknowledged(self) -> int:
        """QoS 1 messages that wait for their PUBACK."""
        return len(self._waiting)

    def send(self, message: SimMessage) -> None:
        """Publish one message; waits while the window is full."""
        link = self.links[message.node if self.per_node else 0]
        if self.per_node and message.retain:
            if message.will:
                link.drop()
                return
            birth = msgspec.json.decode(message.payload)
            will = b'{"v":1,"online":false,"boot":%d,"cid":%d}' % (birth["boot"], birth["cid"])
            link.open(message.topic, will)
        while len(self._waiting) >= self.window and not self.stop.is_set():
            self.settle()
            time.sleep(0.0005)
        mid = link.publish(message)
        self.sent += 1
        if message.qos:
            self._waiting[link, mid] = self._line(message)
        if self.sent % 50 == 0:
            self.settle()

    def _line(self, message: SimMessage) -> bytes:
        if self._file is None:
            return b""
        digest = hashlib.sha256(message.payload).hexdigest()
        return f"{message.topic}\t{message.boot}\t{message.seq}\t{digest}\n".encode()

    def settle(self) -> None:
        """Serve the connections, note the PUBACKs that came, and repeat failed connection tries."""
        serve(self.links)
        lines = []
        while self._acks:
            line = self._waiting.pop(self._acks.popleft(), None)
            if line is not None:
                self.acknowledged += 1
                lines.append(line)
        if lines and self._file:
            self._file.write(b"".join(lines))
            self._file.flush()
        for link in self.links:
            if link.retry_at:
                link.retry()

    def lost(self) -> list[int]:
        """Return the node rows whose connection broke by itself since the last call; -1 = the shared one."""
        rows = [row for row, link in enumerate(self.links) if link.fresh_loss]
        for row in rows:
            self.links[row].fresh_loss = False
        return rows if self.per_node else [-1] * bool(rows)

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for outstanding PUBACKs, then say goodbye on every connection."""
        until = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < until:
            self.settle()
            time.sleep(0.005)
        for link in self.links:
            link.close()
        self.settle()
        if self._file:
            self._file.close()

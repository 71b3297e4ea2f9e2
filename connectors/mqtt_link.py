"""One lasting connection to an MQTT broker: connect, serve, reconnect, and say once what is wrong.

`Link` owns the network thread. Nothing in it ever waits for a consumer: received messages go into an
`Inbox`; past its bound the thread stops reading, so TCP and the broker's in-flight window hold the
rest back. Acknowledgements come from another thread and are dropped when their connection is gone:
the broker sends those messages again.
"""

from __future__ import annotations

import contextlib
import logging
import random
import select
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import DeliveryError
from models.frame import Frame

from .inbox import Inbox, Received
from .mqtt_settings import TAKEN_OVER, LinkLost, MqttSettings, reason_text

_LOG = logging.getLogger("chargestream.mqtt")

#: A connection that lasted this long counts as healthy: the next wait starts small again.
STABLE_S: Final = 30.0
#: A connection that ends sooner than this, again and again, is being thrown out.
_SHORT_S: Final = 5.0
_PAUSED_POLL_S: Final = 0.02
_RESUBSCRIBE_S: Final = 30.0
_HANG_UP_S: Final = 1.0


class Backoff:
    """Jittered exponential waits: half to full of minimum × 2^n, up to a maximum."""

    def __init__(self, min_s: float, max_s: float, rng: random.Random) -> None:
        self._min_s, self._max_s, self._rng = min_s, max_s, rng
        self._n = 0

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        bound = min(self._max_s, self._min_s * 2.0 ** min(self._n, 30))
        self._n += 1
        return bound * (0.5 + 0.5 * self._rng.random())

    def reset(self) -> None:
        """Start small again."""
        self._n = 0


@dataclass(slots=True)
class LinkStatus:
    """Counters of one receiver since its start."""

    connected: bool = False
    connects: int = 0
    messages: int = 0
    bytes: int = 0
    acked: int = 0
    in_flight: int = 0
    stale_acks: int = 0
    oversize: int = 0
    last_error: str = ""


class Link(ABC):
    """A network thread that keeps one connection and serves it; subclasses speak MQTT."""

    def __init__(self, settings: MqttSettings, inbox: Inbox, rng: random.Random | None = None) -> None:
        self.settings = settings
        self.tls = settings.tls_context()
        self.state = LinkStatus()
        self.generation = 0
        self._inbox = inbox
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, rng or random.Random())
        self._acks: deque[tuple[int, NDArray[np.uint16]]] = deque()
        self._closing = threading.Event()
        self._quiescing = threading.Event()
        self._quiet = threading.Event()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{settings.client_id}", daemon=True)
        self._said = ""
        self._short = 0
        self._resubscribe_at = 0.0

    # -- what other threads call -----------------------------------------------------------------

    def start(self) -> None:
        """Start the network thread; it connects on its own, and again, until `close`."""
        self._thread.start()

    def ack(self, received: Received) -> None:
        """Acknowledge messages that are on disk; those of a former connection are dropped."""
        self._acks.append((received.generation, received.mids))
        self._wake()

    def quiesce(self, timeout_s: float) -> None:
        """Stop reading; what was read is in the inbox on return."""
        self._quiescing.set()
        self._wake()
        if self.state.connected:
            self._quiet.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send the acknowledgements that are due, disconnect and end the thread."""
        self._closing.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._wake_r.close()
            self._wake_w.close()

    def status(self) -> LinkStatus:
        """Return the counters."""
        return self.state

    def _wake(self) -> None:
        try:
            self._wake_w.send(b"\0")
        except (BlockingIOError, OSError):  # a full or closed pair wakes as well
            return

    # -- what a protocol provides, all in the network thread -------------------------------------

    @abstractmethod
    def _open(self) -> None:
        """Connect and log in; raise LinkLost or OSError."""

    @abstractmethod
    def _socket(self) -> socket.socket:
        """Return the connected socket; raise LinkLost when there is none."""

    @abstractmethod
    def _read(self) -> None:
        """Read what is there and put messages into the inbox."""

    @abstractmethod
    def _pending(self) -> bool:
        """Return whether `_read` has work that the socket does not show."""

    @abstractmethod
    def _write(self) -> None:
        """Write what is due, as far as the socket takes it."""

    @abstractmethod
    def _wants_write(self) -> bool:
        """Return whether bytes wait to be written."""

    @abstractmethod
    def _keep_alive(self) -> None:
        """Ping when due; raise LinkLost when the broker does not answer."""

    @abstractmethod
    def _queue_acks(self, mids: NDArray[np.uint16]) -> None:
        """Queue a PUBACK for each non-zero identifier."""

    @abstractmethod
    def _subscribe(self) -> None:
        """Queue the SUBSCRIBE."""

    @abstractmethod
    def _shut(self, polite: bool) -> None:
        """Close the socket, after a DISCONNECT if `polite`; safe to call twice."""

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            if self._quiescing.is_set():
                self._quiet.set()
                self._closing.wait()
                break
            polite = False
            since: float | None = None
            try:
                self.generation += 1
                self._open()
                since = time.monotonic()
                self._connected()
                self._serve()
                polite = True
            except (OSError, DeliveryError) as error:
                self._lost(error, since)
            except Exception as error:
                # A fault of ours or of the client library must not end reception for good.
                _LOG.exception("fault in the MQTT client: connecting anew")
                self._lost(error, since)
            finally:
                self.state.connected = False
                self.state.in_flight = 0
                self._shut(polite)
            if not self._closing.is_set() and not self._quiescing.is_set():
                self._closing.wait(self._backoff.next_s())

    def _connected(self) -> None:
        self.state.connected = True
        self.state.connects += 1
        settings = self.settings
        _LOG.info(
            "connected to MQTT broker %s:%d as client %r", settings.host, settings.port, settings.client_id
        )
        self._subscribe()

    def _lost(self, error: Exception, since: float | None) -> None:
        """Say what happened, once per kind of trouble, and decide how long to wait."""
        lasted_s = 0.0 if since is None else time.monotonic() - since
        self._short = self._short + 1 if since is not None and lasted_s < _SHORT_S else 0
        if lasted_s >= STABLE_S:
            self._backoff.reset()
            self._said = ""
        text = self._explain(error, since is not None)
        self.state.last_error = text
        if text != self._said:
            self._said = text
            _LOG.warning("%s; trying again, at most every %g s", text, self.settings.reconnect_max_s)

    def _explain(self, error: Exception, was_connected: bool) -> str:
        settings = self.settings
        where = f"MQTT broker {settings.host}:{settings.port}"
        code = error.code if isinstance(error, LinkLost) else 0
        same_id = (
            f"another client uses the same client id {settings.client_id!r}: "
            "give each installation its own mqtt.client_id or service.instance"
        )
        if code == TAKEN_OVER:
            return f"{where} ended our connection because {same_id}"
        if was_connected and code == 0 and self._short >= 3:
            return f"{where} ends our connection within seconds, again and again; probably {same_id}"
        if code and not was_connected:
            name, check = reason_text(code)
            user = f"user {settings.username!r}" if settings.username else "no user name"
            return (
                f"{where} refused the login of client {settings.client_id!r} with {user}: "
                f"{name} (reason code {code}); {check}"
            )
        if was_connected:
            return f"{where}: connection lost: {error}"
        if isinstance(error, ssl.SSLError):
            return f"{where}: TLS failed: {error}; check mqtt.tls_* and the broker's certificate"
        return f"{where} cannot be reached: {error}; check mqtt.host, mqtt.port and that the broker runs"

    def _serve(self) -> None:
        """Serve the connection until `close`; raise when it is lost."""
        poller = select.poll()
        poller.register(self._wake_r, select.POLLIN)
        sock = self._socket()
        fd = sock.fileno()
        idle_s = min(1.0, self.settings.keep_alive_s / 4 or 1.0)
        while not self._closing.is_set():
            quiescing = self._quiescing.is_set()
            if quiescing:
                self._quiet.set()
            reading = not quiescing and not self._inbox.full
            poller.register(
                fd, (select.POLLIN if reading else 0) | (select.POLLOUT if self._wants_write() else 0)
            )
            buffered = reading and self._pending()
            wait_s = 0.0 if buffered else (idle_s if reading else _PAUSED_POLL_S)
            ready = dict(poller.poll(wait_s * 1000))
            self._drain_wakes(ready)
            if reading and (buffered or ready.get(fd, 0) & ~select.POLLOUT):
                self._read()
            self._send_acks()
            if self._wants_write():
                self._write()
            self._keep_alive()
            if self._resubscribe_at and time.monotonic() >= self._resubscribe_at:
                self._resubscribe_at = 0.0
                self._subscribe()
        self._send_acks()
        self._flush()

    def _drain_wakes(self, ready: dict[int, int]) -> None:
        if self._wake_r.fileno() in ready:
            try:
                self._wake_r.recv(65536)
            except BlockingIOError:
                return

    def _send_acks(self) -> None:
        while self._acks:
            generation, mids = self._acks.popleft()
            count = int(np.count_nonzero(mids))
            if generation != self.generation:
                self.state.stale_acks += count
                continue
            self._queue_acks(mids)
            self.state.acked += count
            self.state.in_flight -= count

    def _flush(self) -> None:
        deadline = time.monotonic() + self.settings.connect_timeout_s
        while self._wants_write() and time.monotonic() < deadline:
            select.select([], [self._socket()], [], 0.1)
            self._write()

    @staticmethod
    def _hang_up(sock: socket.socket) -> None:
        """Close after the broker has read all: closing on unread bytes resets the connection, and a reset
        throws away acknowledgements that the broker has received and not yet read."""
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(_HANG_UP_S)
            while sock.recv(65536):
                continue

    # -- shared by protocols ---------------------------------------------------------------------

    def _deliver(self, frame: Frame, mids: NDArray[np.uint16]) -> None:
        """Put messages into the inbox and count them."""
        self.state.messages += len(frame)
        self.state.bytes += len(frame.payloads)
        self.state.in_flight += int(np.count_nonzero(mids))
        self._inbox.put(Received(frame, mids, self.generation, self))

    def _subscribed(self, codes: list[int]) -> None:
        """Judge the broker's answer to our SUBSCRIBE; refused filters are asked for again later."""
        refused = [f for f, code in zip(self.settings.filters, codes, strict=False) if code >= 0x80]
        if not refused:
            return
        name, check = reason_text(max(codes))
        text = (
            f"MQTT broker {self.settings.host}:{self.settings.port} refused the subscription to "
            f"{', '.join(refused)}: {name} (reason code {max(codes)}); {check}"
        )
        self.state.last_error = text
        if text != self._said:
            self._said = text
            _LOG.error("%s; nothing arrives from there; asking again every %g s", text, _RESUBSCRIBE_S)
        self._resubscribe_at = time.monotonic() + _RESUBSCRIBE_S

    def _too_long(self, topic: bytes, size: int) -> None:
        """Count and report a payload of which only the first bytes are kept."""
        self.state.oversize += 1
        _LOG.warning(
            "message of %d bytes on %s is longer than mqtt.max_payload_bytes = %d: kept as a dead letter",
            size,
            topic.decode(errors="replace"),
            self.settings.max_payload_bytes,
        )

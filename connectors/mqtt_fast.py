"""A lean receiver: MQTT 3.1.1 and 5 read straight from the socket's bytes into columns.

It does what `connectors.mqtt.Receiver` does, with the same tests, for sites where one paho client is too
slow: no Python runs per message. It takes QoS 0 and 1, which is all that a QoS 1 subscription delivers.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED, Frame
from models.publish_scan import (
    FULL,
    MALFORMED,
    OTHER,
    QOS2,
    PublishColumns,
    gather,
    packet_length,
    publish_spans,
    scan_publishes,
)

from . import mqtt_wire as wire
from .inbox import Inbox
from .mqtt_link import Link
from .mqtt_settings import LinkLost, MqttSettings

_BUFFER_BYTES: Final = 1 << 20
_ROOM: Final = 8_192
#: Room for the header, topic, identifier and properties of a message that is itself too long to keep.
_HEAD_BYTES: Final = 192 << 10
_SUBSCRIBE_MID: Final = 1


class LeanReceiver(Link):
    """Receives at QoS 0 and 1 in a persistent session; acknowledges only what it is told to."""

    def __init__(self, settings: MqttSettings, inbox: Inbox, rng: random.Random | None = None) -> None:
        super().__init__(settings, inbox, rng)
        self._version5 = settings.version == "5"
        self._columns = PublishColumns.room(_ROOM)
        self._buffer = np.zeros(_BUFFER_BYTES, np.uint8)
        self._start = self._end = 0
        self._skip = 0
        self._skipped: tuple[Frame, int] | None = None
        self._unread = False
        self._out = bytearray()
        self._sock: socket.socket | None = None
        self._keep_alive_s = settings.keep_alive_s
        self._last_out_s = 0.0
        self._pinged_s: float | None = None
        # Compile or load the kernel before the broker starts to wait for us.
        scan_publishes(self._buffer, 0, 0, self._version5, settings.max_payload_bytes, self._columns)
        gather(self._buffer, self._columns.topic_start[:0], self._columns.topic_end[:0], self._buffer[:0])
        publish_spans(self._buffer, 0, 0, True, self._version5)

    # -- connection --------------------------------------------------------------------------------

    def _open(self) -> None:
        settings = self.settings
        self._start = self._end = self._skip = 0
        self._skipped, self._unread, self._pinged_s = None, False, None
        self._out.clear()
        self._sock = socket.create_connection((settings.host, settings.port), settings.connect_timeout_s)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            self._sock = self.tls.wrap_socket(self._sock, server_hostname=settings.host)
        self._sock.sendall(wire.connect(settings))
        deadline = time.monotonic() + settings.connect_timeout_s
        packet = None
        while packet is None:
            self._sock.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                self._fill()
            except TimeoutError as error:
                raise LinkLost(f"no CONNACK within {settings.connect_timeout_s:g} s") from error
            packet = self._next_packet()
        kind, body = packet
        if kind != wire.CONNACK:
            raise LinkLost(f"packet type {kind} where a CONNACK was expected; is this an MQTT broker?")
        code, keep_alive_s = wire.connack(body, settings.version)
        if code:
            raise LinkLost("login refused", code)
        self._keep_alive_s = settings.keep_alive_s if keep_alive_s is None else keep_alive_s
        self._sock.setblocking(False)
        self._last_out_s = time.monotonic()
        self._unread = self._end > self._start

    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise LinkLost("the connection is closed")
        return self._sock

    def _shut(self, polite: bool) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        if polite:
            with contextlib.suppress(OSError):
                sock.settimeout(1.0)
                sock.sendall(wire.DISCONNECT_PACKET)
            self._hang_up(sock)
        sock.close()

    def _subscribe(self) -> None:
        self._out += wire.subscribe(self.settings, _SUBSCRIBE_MID)

    def _queue_acks(self, mids: NDArray[np.uint16]) -> None:
        self._out += wire.pubacks(mids)

    def _keep_alive(self) -> None:
        if not self._keep_alive_s:
            return
        now = time.monotonic()
        if self._inbox.full or self._quiescing.is_set():
            self._pinged_s = None  # the answer waits in the socket, unread: it is not missing
        # Early, because the broker counts from when it hears it, and we look once per poll.
        if now - self._last_out_s >= self._keep_alive_s * 0.75:
            self._out += wire.PINGREQ_PACKET
            self._last_out_s = now
            if self._pinged_s is None:
                self._pinged_s = now
        if self._pinged_s is not None and now - self._pinged_s >= self._keep_alive_s:
            raise LinkLost(f"no answer to a ping for {self._keep_alive_s:g} s")

    # -- writing -----------------------------------------------------------------------------------

    def _wants_write(self) -> bool:
        return bool(self._out)

    def _write(self) -> None:
        try:
            sent = self._socket().send(self._out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        del self._out[:sent]
        self._last_out_s = time.monotonic()

    # -- reading -----------------------------------------------------------------------------------

    def _pending(self) -> bool:
        sock = self._socket()
        return self._unread or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)

    def _read(self) -> None:
        self._unread = False
        try:
            self._fill()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self._end == self._start:
                return
        self._parse()

    def _fill(self) -> None:
        """Receive once, to the end of the buffer."""
        if self._start == self._end:
            self._start = self._end = 0
        if self._end == len(self._buffer):
            self._make_room()
        count = self._socket().recv_into(memoryview(self._buffer)[self._end :])  # type: ignore[arg-type]  # numpy buffers
        if count == 0:
            raise LinkLost("the broker closed the connection")
        if self._skip:
            dropped = min(self._skip, count)
            self._skip -= dropped
            self._buffer[self._end : self._end + count - dropped] = self._buffer[
                self._end + dropped : self._end + count
            ]
            count -= dropped
        self._end += count

    def _make_room(self) -> None:
        """Move what is left to the front, and grow the buffer when a whole packet does not fit."""
        left = self._end - self._start
        if self._start:
            self._buffer[:left] = self._buffer[self._start : self._end].copy()
        else:
            grown = np.zeros(2 * len(self._buffer), np.uint8)
            grown[:left] = self._buffer
            self._buffer = grown
        self._start, self._end = 0, left

    def _parse(self) -> None:
        if self._skip:
            return
        if self._skipped is not None:
            frame, mid = self._skipped
            self._skipped = None
            self._deliver(frame, np.array([mid], np.uint16))
        while True:
            count, self._start, why = scan_publishes(
                self._buffer,
                self._start,
                self._end,
                self._version5,
                self.settings.max_payload_bytes,
                self._columns,
            )
            if count:
                self._hand_over(count)
            if why == OTHER:
                packet = self._next_packet()
                assert packet is not None  # the scan saw it whole
                self._handle(*packet)
            elif why == MALFORMED:
                raise LinkLost("the broker sent a malformed packet")
            elif why == QOS2:
                raise LinkLost("the broker sent a QoS 2 message to a QoS 1 subscription")
            elif why != FULL:
                self._skip_too_long()
                return

    def _hand_over(self, count: int) -> None:
        """Put `count` scanned messages into the inbox."""
        columns = self._columns.first(count)
        for i in np.flatnonzero(columns.flags & OVERSIZE):
            topic = self._buffer[columns.topic_start[i] : columns.topic_end[i]].tobytes()
            self._too_long(topic, int(columns.payload_size[i]))
        topic_end, topics = self._join(columns.topic_start, columns.topic_end)
        payload_end, payloads = self._join(columns.payload_start, columns.payload_end)
        frame = Frame(
            np.zeros(count, np.int64), topic_end, payload_end, columns.flags.copy(), topics, payloads
        )
        self._deliver(frame, columns.mids.copy())

    def _join(self, start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], bytes]:
        ends = np.cumsum(end - start)
        joined = np.empty(int(ends[-1]), np.uint8)
        gather(self._buffer, start, end, joined)
        return ends, joined.tobytes()

    def _next_packet(self) -> tuple[int, bytes] | None:
        """Return type and body of the next packet and step over it, or None when it is not complete."""
        header, size = packet_length(self._buffer, self._start, self._end)
        if header < 0:
            raise LinkLost("the broker sent a malformed packet; is this an MQTT port?")
        at = self._start + header
        if header == 0 or at + size > self._end:
            return None
        kind = int(self._buffer[self._start]) >> 4
        body = self._buffer[at : at + size].tobytes()
        self._start = at + size
        return kind, body

    def _handle(self, kind: int, body: bytes) -> None:
        if kind == wire.PINGRESP:
            self._pinged_s = None
        elif kind == wire.SUBACK:
            self._subscribed(wire.suback_codes(body, self.settings.version))
        elif kind == wire.DISCONNECT:
            raise LinkLost("the broker ended the connection", wire.disconnect_code(body))
        else:
            raise LinkLost(f"unexpected packet type {kind} from the broker")

    def _skip_too_long(self) -> None:
        """When the incomplete packet is too long to keep, keep its head and skip the rest unread."""
        header, size = packet_length(self._buffer, self._start, self._end)
        if header < 0:
            raise LinkLost("the broker sent a malformed packet")
        body, have = self._start + header, self._end - self._start
        if header == 0 or size <= self.settings.max_payload_bytes + _HEAD_BYTES or have < _HEAD_BYTES:
            return
        first = int(self._buffer[self._start])
        topic_end, mid, payload = publish_spans(self._buffer, body, self._end, first & 6 != 0, self._version5)
        if first >> 4 != wire.PUBLISH or topic_end < 0 or first & 4:
            raise LinkLost(f"the broker sent a packet of {size} bytes that cannot be read")
        topic = self._buffer[body + 2 : topic_end].tobytes()
        prefix = self._buffer[payload : min(payload + OVERSIZE_PREFIX_BYTES, self._end)].tobytes()
        flags = OVERSIZE | (RETAINED if first & 1 else 0) | (REDELIVERED if first & 8 else 0)
        self._too_long(topic, body + size - payload)
        # Acknowledged only when all of it is through, like any other.
        self._skipped = (Frame.from_columns([0], [topic], [prefix], [flags]), int(mid))
        self._skip = body + size - self._end
        self._start = self._end

"""The receiver of MQTT messages through paho, which acknowledges by hand."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from models.frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED, Frame

from .inbox import Inbox
from .mqtt import connect, new_client
from .mqtt_link import Link
from .mqtt_settings import LinkLost, MqttSettings
from .mqtt_wire import DISCONNECT_PACKET, pubacks

#: Messages read before acknowledgements and pings get their turn.
_READ_RUN: Final = 512


class Receiver(Link):
    """Receives over paho in a persistent session; acknowledges only what it is told to.

    Each connection has a paho client of its own, driven through its public loop functions by one
    thread, so no state of a former connection survives.
    """

    def __init__(self, settings: MqttSettings, inbox: Inbox, rng: random.Random | None = None) -> None:
        super().__init__(settings, inbox, rng)
        self._client: paho.Client | None = None
        self._connack: int | None = None
        self._reason = 0
        self._topics: list[bytes] = []
        self._payloads: list[bytes] = []
        self._flags: list[int] = []
        self._mids: list[int] = []
        self._out = bytearray()

    def _open(self) -> None:
        client = self._client = new_client(self.settings, self.tls, persistent=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        # With this set paho queues what it has to send, and writes when we say so.
        client.on_socket_register_write = lambda *_: None
        self._connack, self._reason = None, 0
        self._out.clear()
        connect(client, self.settings, persistent=True)
        deadline = time.monotonic() + self.settings.connect_timeout_s
        while self._connack is None:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or self._closing.is_set():
                raise LinkLost(f"no CONNACK within {self.settings.connect_timeout_s:g} s")
            writing = [self._socket()] if client.want_write() else []
            readable, writable, _ = select.select([self._socket()], writing, [], min(wait_s, 0.2))
            if writable:
                self._check(client.loop_write())
            if readable:
                self._check(client.loop_read())
        if self._connack:
            raise LinkLost("login refused", self._connack)

    def _socket(self) -> socket.socket:
        found = self._client.socket() if self._client is not None else None
        if found is None:
            raise LinkLost("the broker closed the connection", self._reason or self._connack or 0)
        assert isinstance(found, socket.socket)  # a plain or TLS socket: we never ask for websockets
        return found

    def _check(self, code: MQTTErrorCode) -> None:
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and not self._connack:
            raise LinkLost(paho.error_string(code), self._reason)

    def _pending(self) -> bool:
        sock = self._socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _read(self) -> None:
        assert self._client is not None
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        before = -1
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and before < len(self._mids) < _READ_RUN:
            before = len(self._mids)
            code = self._client.loop_read()
        self._hand_over()
        self._check(code)

    def _hand_over(self) -> None:
        """Put what the callback collected into the inbox."""
        if not self._mids:
            return
        frame = Frame.from_columns([0] * len(self._mids), self._topics, self._payloads, self._flags)
        mids = np.array(self._mids, np.uint16)
        self._topics, self._payloads, self._flags, self._mids = [], [], [], []
        self._deliver(frame, mids)

    def _wants_write(self) -> bool:
        return bool(self._out) or (self._client is not None and self._client.want_write())

    def _write(self) -> None:
        assert self._client is not None
        # Never between the halves of a packet: ours are 4 bytes each, paho's end when it has no more.
        if len(self._out) % 4 == 0:
            self._check(self._client.loop_write())
            if self._client.want_write():
                return
        if self._out:
            try:
                sent = self._socket().send(self._out)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            del self._out[:sent]

    def _keep_alive(self) -> None:
        assert self._client is not None
        code = self._client.loop_misc()
        self._socket()
        self._check(code)

    def _queue_acks(self, mids: NDArray[np.uint16]) -> None:
        self._out += pubacks(mids)

    def _subscribe(self) -> None:
        assert self._client is not None
        if self.settings.version == "5":
            # As published = no: the flag then says "this is the retained copy", never "was published so".
            options = SubscribeOptions(
                qos=1, retainAsPublished=False, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            )
            self._client.subscribe([(f, options) for f in self.settings.subscriptions])
        else:
            self._client.subscribe([(f, 1) for f in self.settings.subscriptions])

    def _shut(self, polite: bool) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        sock = client.socket()
        if sock is None:
            return
        if polite:
            # Written by hand: paho would close the socket at once, see `_hang_up`.
            assert isinstance(sock, socket.socket)
            with contextlib.suppress(OSError):
                sock.settimeout(1.0)
                sock.sendall(DISCONNECT_PACKET)
            self._hang_up(sock)
        client.on_disconnect = None
        sock.close()

    # -- paho's callbacks, in the network thread ---------------------------------------------------

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
        self._connack = int(reason.value)

    def _on_disconnect(self, _c: Any, _u: Any, flags: Any, reason: ReasonCode, _p: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._reason = int(reason.value)

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        self._subscribed([int(reason.value) for reason in reasons])

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        payload = message.payload
        flags = (RETAINED if message.retain else 0) | (REDELIVERED if message.dup else 0)
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError:
            topic = b"\xff"  # no route matches it: kept as dead, with its payload
        if len(payload) > self.settings.max_payload_bytes:
            self._too_long(topic, len(payload))
            flags |= OVERSIZE
            payload = payload[:OVERSIZE_PREFIX_BYTES]
        self._topics.append(topic)
        self._payloads.append(bytes(payload))
        self._flags.append(flags)
        self._mids.append(message.mid if message.qos else 0)

"""MQTT through paho: the receiver that acknowledges by hand, and the publisher for the way back."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from models.errors import RetryLater
from models.frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED, Frame
from models.outputs import Publish

from .inbox import Inbox
from .mqtt_link import Backoff, Link
from .mqtt_settings import LinkLost, MqttSettings, reason_text
from .mqtt_wire import DISCONNECT_PACKET, pubacks

#: Messages read before acknowledgements and pings get their turn.
_READ_RUN: Final = 512
_IN_FLIGHT: Final = 1_000


def new_client(settings: MqttSettings, tls: ssl.SSLContext | None, persistent: bool) -> paho.Client:
    version5 = settings.version == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
        clean_session=None if version5 else not persistent,
        reconnect_on_failure=False,  # one client is one connection: we decide when there is a next one
        manual_ack=persistent,
    )
    client.connect_timeout = settings.connect_timeout_s
    if settings.username:
        client.username_pw_set(settings.username, settings.password.reveal() or None)
    if tls is not None:
        client.tls_set_context(tls)
        client.tls_insecure_set(settings.tls_insecure)
    return client


def connect(client: paho.Client, settings: MqttSettings, persistent: bool) -> None:
    """Open the connection and send the CONNECT."""
    if settings.version != "5":
        client.connect(settings.host, settings.port, settings.keep_alive_s)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types this loosely
    if persistent:
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
    client.connect(
        settings.host,
        settings.port,
        settings.keep_alive_s,
        clean_start=not persistent,
        properties=properties,
    )


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the broker will never take: its place in the batch, and the broker's words."""

    index: int
    reason: str


class Publisher:
    """Publishes batches and waits for the broker's acknowledgement of each message.

    A batch is repeated whole after `RetryLater`: receivers must tolerate a message twice.
    """

    def __init__(self, settings: MqttSettings, rng: random.Random | None = None) -> None:
        self.settings = settings
        self._tls = settings.tls_context()
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, rng or random.Random())
        self._changed = threading.Condition()
        self._client: paho.Client | None = None
        self._connack: int | None = None
        self._lost = ""
        self._done: dict[int, int] = {}
        self._max_packet_bytes: int | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker took our login and the connection is up."""
        return self._client is not None and self._connack == 0 and not self._lost

    def publish(self, batch: Sequence[Publish], timeout_s: float = 10.0) -> list[Refusal]:
        """Publish `batch`, wait for every acknowledgement and return what the broker refused.

        Raises
        ------
        RetryLater
            If there is no connection, it was lost on the way, or answers are missing after `timeout_s`.
        """
        refused: list[Refusal] = []
        left = list(range(len(batch)))
        while left:
            self._ensure_connected()
            answers, why = self._send(batch, left, timeout_s)
            refused += [Refusal(index, text) for index, text in answers.items() if text]
            left = [index for index in left if index not in answers]
            if left:
                self._drop()
            if not answers:
                raise RetryLater(
                    f"{self._where()}: {len(left)} of {len(batch)} messages unacknowledged: {why}",
                    self._backoff.next_s(),
                )
            # Some brokers end the connection over a message they refuse: the others go on without it.
            self._backoff.reset()
        return sorted(refused, key=lambda refusal: refusal.index)

    def _send(
        self, batch: Sequence[Publish], indexes: Sequence[int], timeout_s: float
    ) -> tuple[dict[int, str], str]:
        """Publish some of `batch`; return the answers (empty text: taken) and why any are missing."""
        client = self._client
        assert client is not None
        answers: dict[int, str] = {}
        waiting: dict[int, int] = {}
        self._done.clear()
        for index in indexes:
            message = batch[index]
            size = len(message.payload) + len(message.topic.encode()) + 16
            if self._max_packet_bytes is not None and size > self._max_packet_bytes:
                answers[index] = f"{size} bytes; the broker takes {self._max_packet_bytes}"
                continue
            try:
                info = client.publish(
                    message.topic,
                    message.payload,
                    message.qos,
                    message.retain,
                    self._properties(message),
                )
            except ValueError as error:  # a wildcard in the topic, a payload beyond the protocol's limit
                answers[index] = str(error)
                continue
            waiting[info.mid] = index
        with self._changed:
            self._changed.wait_for(lambda: bool(self._lost) or len(self._done) >= len(waiting), timeout_s)
            lost, done = self._lost, dict(self._done)
        for mid, code in done.items():
            name, check = reason_text(code)
            answers[waiting[mid]] = f"{name} (reason code {code}); {check}" if code >= 0x80 else ""
        return answers, lost or f"no answer within {timeout_s:g} s"

    def _properties(self, message: Publish) -> Properties | None:
        """Return the expiry that the broker observes; MQTT 3.1.1 has none."""
        if message.expires_s is None or self.settings.version != "5":
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types this loosely
        properties.MessageExpiryInterval = max(message.expires_s, 1)
        return properties

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.disconnect()
        self._drop()

    def _where(self) -> str:
        return f"MQTT broker {self.settings.host}:{self.settings.port}"

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _ensure_connected(self) -> None:
        if self.connected:
            return
        self._drop()
        self._connack, self._lost = None, ""
        client = new_client(self.settings, self._tls, persistent=False)
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        try:
            connect(client, self.settings, persistent=False)
        except OSError as error:
            raise RetryLater(
                f"{self._where()} cannot be reached: {error}; check mqtt.host, mqtt.port and that it runs",
                self._backoff.next_s(),
            ) from error
        client.loop_start()
        self._client = client
        with self._changed:
            self._changed.wait_for(
                lambda: self._connack is not None or bool(self._lost), self.settings.connect_timeout_s
            )
        if self._connack != 0:
            self._drop()
            name, check = reason_text(self._connack or 0)
            said = (
                f"refused the login of {self.settings.username or self.settings.client_id!r}: {name}; {check}"
            )
            raise RetryLater(
                f"{self._where()} {said if self._connack else self._lost or 'does not answer'}",
                self._backoff.next_s(),
            )

    # -- paho's callbacks, in its thread -----------------------------------------------------------

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        with self._changed:
            self._connack = int(reason.value)
            self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)
            self._changed.notify_all()

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
        with self._changed:
            self._lost = f"connection lost ({reason})"
            self._changed.notify_all()

    def _on_publish(self, _c: Any, _u: Any, mid: int, reason: ReasonCode, _p: Any) -> None:
        with self._changed:
            self._done[mid] = int(reason.value)
            self._changed.notify_all()

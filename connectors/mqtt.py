"""MQTT through paho: a connection, and the publisher for the way back."""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from models.errors import RetryLater
from models.outputs import Publish
from models.units import NS_PER_MS

from .mqtt_link import Backoff
from .mqtt_settings import MqttSettings, reason_text

_LOG = logging.getLogger("chargestream.mqtt")

_IN_FLIGHT: Final = 1_000
#: Commands named in a line of the log.
_NAMED: Final = 5


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the broker will never take: its place in the batch, and the broker's words."""

    index: int
    reason: str


def named(keys: Sequence[str]) -> str:
    """Return the first few of `keys` for a line of the log."""
    return ", ".join(keys[:_NAMED]) + (" ..." if len(keys) > _NAMED else "")


class Publisher:
    """Publishes batches and waits for the broker's acknowledgement of each message.

    A batch is repeated whole after `RetryLater`: receivers must tolerate a message twice. Not so messages
    with `Publish.once`: what was handed to a connection that broke before the broker acknowledged it may
    have arrived, so it is named in the log and not handed over again.
    """

    def __init__(
        self,
        settings: MqttSettings,
        rng: random.Random | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self._tls = settings.tls_context()
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, rng or random.Random())
        self._wall_ns = wall_ns
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
            self.connect()
            answers, why = self._send(batch, left, timeout_s)
            refused += [Refusal(index, text) for index, text in answers.items() if text]
            left = [index for index in left if index not in answers]
            if left:
                self._drop()
                left = self._to_repeat(batch, left, why)
            if left and not answers:
                raise RetryLater(
                    f"{self._where()}: {len(left)} of {len(batch)} messages unacknowledged: {why}",
                    self._backoff.next_s(),
                )
            # Some brokers end the connection over a message they refuse: the others go on without it.
            self._backoff.reset()
        return sorted(refused, key=lambda refusal: refusal.index)

    def _to_repeat(self, batch: Sequence[Publish], left: Sequence[int], why: str) -> list[int]:
        """Return which unacknowledged messages may be handed over again; name the others in the log."""
        uncertain = [batch[index].once for index in left if batch[index].once]
        if uncertain:
            _LOG.warning(
                "%s: %s; nobody knows whether %d commands arrived, and they are not sent again: %s",
                self._where(), why, len(uncertain), named(uncertain),
            )  # fmt: skip
        return [index for index in left if not batch[index].once]

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
        if message.until_ms is None or self.settings.version != "5":
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types this loosely
        left_ms = message.until_ms - self._wall_ns() // NS_PER_MS
        properties.MessageExpiryInterval = max(1, -(-left_ms // 1000))
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

    def connect(self) -> None:
        """Connect, unless that is done.

        Raises
        ------
        RetryLater
            If the broker cannot be reached, does not answer or refuses the login.
        """
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

"""Listens to a broker beside the receivers and writes what it hears to a message log."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from paho.mqtt import client as paho
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from models.command_request import shown_message
from models.errors import DeliveryError, StorageError

from .mqtt import connect, new_client
from .mqtt_link import Backoff
from .mqtt_settings import MqttSettings, reason_text
from .msglog import LogWriter

_LOG = logging.getLogger("chargestream.record")
_POLL_S: Final = 0.1
_FLUSH_S: Final = 1.0


class Recorder:
    """A client with a clean session of its own, at QoS 1: it takes nothing away from others.

    What is published while the connection is down is not recorded.

    Attributes
    ----------
    gaps : int
        Connections lost while recording.
    retained : int
        Retained messages that were left out.
    """

    def __init__(
        self,
        settings: MqttSettings,
        filters: Sequence[str],
        log: LogWriter,
        stop: threading.Event,
        *,
        include_retained: bool,
    ) -> None:
        self.gaps = 0
        self.retained = 0
        self._settings, self._filters, self._log = settings, filters, log
        self._tls = settings.tls_context()
        self._include_retained = include_retained
        self._backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random.Random())
        self._stop = stop
        self._changed = threading.Event()  # something that `run` should look at
        self._ready = False
        self._lost = ""
        self._failure: StorageError | None = None
        self._log_lock = threading.Lock()

    def run(self, duration_s: float | None = None) -> None:
        """Record until `stop` is set or for `duration_s`, counted from the first subscription.

        Raises
        ------
        DeliveryError
            If the broker cannot be reached at first, or refuses login or subscription.
        StorageError
            If the log cannot be written.
        """
        deadline: float | None = None
        while not self._stop.is_set():
            client = self._connected_client(first=deadline is None)
            if client is None:
                self._stop.wait(self._backoff.next_s())
                continue
            if deadline is None:
                deadline = time.monotonic() + duration_s if duration_s is not None else float("inf")
            try:
                self._record_until(deadline)
            finally:
                client.disconnect()
                client.loop_stop()
            if time.monotonic() >= deadline:
                return

    def _connected_client(self, *, first: bool) -> paho.Client | None:
        settings = self._settings
        where = f"MQTT broker {settings.host}:{settings.port}"
        self._ready, self._lost = False, ""
        client = new_client(settings, self._tls, persistent=False)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        try:
            connect(client, settings, persistent=False)
        except OSError as error:
            self._lost = f"cannot be reached: {error}; check mqtt.host, mqtt.port and that it runs"
        else:
            client.loop_start()
            self._await_ready(time.monotonic() + settings.connect_timeout_s)
            if self._ready:
                self._backoff.reset()
                return client
            client.disconnect()
            client.loop_stop()
        text = f"{where} {self._lost or 'does not answer'}"
        if first and not self._stop.is_set():
            raise DeliveryError(text)
        _LOG.warning("%s; trying again", text)
        return None

    def _await_ready(self, deadline: float) -> None:
        while not (self._ready or self._lost or self._stop.is_set()):
            if time.monotonic() >= deadline:
                return
            self._changed.wait(_POLL_S)
            self._changed.clear()

    def _record_until(self, deadline: float) -> None:
        """Flush the log each second until there is a reason to stop."""
        flush_at = 0.0
        while not self._stop.is_set() and time.monotonic() < deadline:
            self._changed.wait(_POLL_S)
            self._changed.clear()
            if time.monotonic() >= flush_at:
                flush_at = time.monotonic() + _FLUSH_S
                self._guarded(self._log.flush)
            if self._failure is not None:
                raise self._failure
            if self._lost:
                self.gaps += 1
                _LOG.warning("connection lost: %s; what is published now is not recorded", self._lost)
                return

    # -- paho's callbacks, in its thread -----------------------------------------------------------

    def _on_connect(self, client: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
        if reason.is_failure:
            name, check = reason_text(int(reason.value))
            self._lose(f"refused the login of client {self._settings.client_id!r}: {name}; {check}")
        elif self._settings.version == "5":
            handling = (
                SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
                if self._include_retained
                else SubscribeOptions.RETAIN_DO_NOT_SEND
            )
            options = SubscribeOptions(qos=1, retainAsPublished=False, retainHandling=handling)
            client.subscribe([(f, options) for f in self._filters])
        else:
            client.subscribe([(f, 1) for f in self._filters])

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, reasons: list[ReasonCode], _p: Any) -> None:
        refused = [f for f, r in zip(self._filters, reasons, strict=False) if r.is_failure]
        if refused:
            self._lose(f"refused the subscription to {', '.join(refused)}; check the broker's access rules")
        else:
            self._ready = True
            self._changed.set()

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: ReasonCode, _p: Any) -> None:
        self._lose(f"closed the connection: {reason}")

    def _lose(self, text: str) -> None:
        self._lost = self._lost or text
        self._changed.set()

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        if message.retain and not self._include_retained:
            self.retained += 1
            return
        now_ns = time.time_ns()
        try:
            topic = message.topic
        except UnicodeDecodeError:
            _LOG.warning("a message with a topic that is not UTF-8 was left out")
            return
        payload = shown_message(topic, bytes(message.payload))
        self._guarded(lambda: self._log.write(now_ns, topic, payload, retained=message.retain))

    def _guarded(self, action: Callable[[], None]) -> None:
        """Use the log from one thread at a time; a failure ends `run`, not paho's thread."""
        with self._log_lock:
            try:
                action()
            except StorageError as error:
                self._failure = error
                self._changed.set()

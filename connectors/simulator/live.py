"""The fleet in real time over MQTT, with faults injected from outside while it runs."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from models.errors import ConfigError

from .faultspec import FaultSpec
from .fleet import Fleet
from .manners import Manners
from .messages import SimMessage
from .obeying import Obeying
from .publisher import Broker, Publisher

log = logging.getLogger(__name__)

INJECT_TOPIC: Final = "evt/v1/_sim/inject"
COMMAND_FILTER: Final = "evt/v1/+/+/dn/cmd"
MAX_CONNECTIONS: Final = 200  # beyond this many nodes one shared connection serves all
_PAUSE_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How to run live.

    Attributes
    ----------
    duration_s : float
        0 = until told to stop.
    speed : float
        Simulated seconds per second; event times run ahead of the clock when it is above 1.
    window : int
        QoS 1 messages that may wait for their PUBACK.
    per_node : bool, optional
        A connection per node with real wills; None = yes up to `MAX_CONNECTIONS` nodes.
    acked : Path, optional
        See `Publisher`.
    manners : Manners
        How stations treat commands.
    """

    duration_s: float = 0.0
    speed: float = 1.0
    window: int = 1000
    per_node: bool | None = None
    acked: Path | None = None
    manners: Manners = field(default_factory=Manners)


@dataclass(slots=True)
class LiveResult:
    """What a live run did."""

    sent: int
    acknowledged: int
    unacknowledged: int
    wall_s: float
    behind_s: float  # how far publishing lagged at most


class _Control:
    """Listens for injections and commands; `take` passes on what came since."""

    def __init__(self, broker: Broker) -> None:
        self._requests: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        if broker.username:
            self._client.username_pw_set(broker.username, broker.password)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._receive
        self._client.connect_async(broker.host, broker.port)
        self._client.loop_start()

    def _subscribe(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(INJECT_TOPIC, 1), (COMMAND_FILTER, 1)])

    def _receive(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.retain:
            self._requests.put((message.topic, bytes(message.payload)))

    def take(self, fleet: Fleet, obeying: Obeying, now_ms: int) -> None:
        """Inject what was asked for, let stations take commands; what is wrong is logged and forgotten."""
        while not self._requests.empty():
            topic, payload = self._requests.get()
            if topic != INJECT_TOPIC:
                obeying.receive(topic, payload, now_ms)
                continue
            try:
                truth = FaultSpec.from_json(payload).inject(fleet)
                log.info("injected %s", truth.record())
            except ConfigError as error:
                log.warning("injection refused: %s", error)

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()


def run_live(
    fleet: Fleet,
    broker: Broker,
    options: LiveOptions | None = None,
    stop: threading.Event | None = None,
    obeying: Obeying | None = None,
) -> LiveResult:
    """Publish a fleet in real time until its time is over or `stop` is set.

    The fleet's `start_ms` should be the time now. A connection that breaks by itself is opened again with
    the node's next birth.

    Raises
    ------
    RetryLater
        If the shared connection finds no broker at the start.
    StorageError
        If the list of acknowledged messages cannot be written.
    """
    options, stop = options or LiveOptions(), stop or threading.Event()
    names = [node.node for node in fleet.topology.nodes]
    per_node = len(names) <= MAX_CONNECTIONS if options.per_node is None else options.per_node
    publisher = Publisher(
        broker, names, per_node=per_node, window=options.window, acked=options.acked, stop=stop
    )
    control = _Control(broker)
    obeying = obeying or Obeying(fleet, options.manners, fleet.seed)
    begin = time.monotonic()
    behind_s = 0.0
    try:
        while not stop.is_set():
            elapsed_s = time.monotonic() - begin
            if options.duration_s and elapsed_s >= options.duration_s:
                break
            now_ms = fleet.start_ms + int(elapsed_s * options.speed * 1000)
            for message in fleet.advance(now_ms):
                publisher.send(message)
            # Between the ticks of the physics, which may be a minute apart: an answer takes no minute.
            control.take(fleet, obeying, now_ms)
            obeying.step(now_ms)
            publisher.settle()
            for row in publisher.lost():
                for node in range(len(names)) if row < 0 else (row,):
                    fleet.reconnect(node)
            behind_s = max(behind_s, time.monotonic() - begin - elapsed_s)
            stop.wait(_PAUSE_S)
        if not stop.is_set():
            for message in fleet.finish():
                if not message.will:
                    publisher.send(message)
    finally:
        control.close()
        publisher.close()
    return LiveResult(
        publisher.sent,
        publisher.acknowledged,
        publisher.unacknowledged,
        time.monotonic() - begin,
        behind_s,
    )


def publish_all(
    messages: Iterable[SimMessage],
    broker: Broker,
    *,
    rate: float = 0.0,
    window: int = 2000,
    acked: Path | None = None,
    stop: threading.Event | None = None,
) -> LiveResult:
    """Publish ready messages over one connection, `rate` a second (0 = as fast as the window allows).

    Raises
    ------
    RetryLater
        If no broker answers at the start.
    """
    stop = stop or threading.Event()
    publisher = Publisher(broker, [], per_node=False, window=window, acked=acked, stop=stop)
    begin = time.monotonic()
    behind_s = 0.0
    try:
        for number, message in enumerate(messages):
            if stop.is_set():
                break
            if rate:
                ahead_s = begin + number / rate - time.monotonic()
                if ahead_s > 0.002:
                    publisher.settle()
                    time.sleep(ahead_s)
                behind_s = max(behind_s, -ahead_s)
            publisher.send(message)
    finally:
        publisher.close(30.0)
    wall_s = time.monotonic() - begin
    return LiveResult(publisher.sent, publisher.acknowledged, publisher.unacknowledged, wall_s, behind_s)

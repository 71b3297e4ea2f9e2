"""What of the commands drill stands between workers and stations: egress and broker, which die.

The outbox is a list and the broker a heap of deliveries, but what decides what leaves is egress's own sink
with its claims on disk. It is killed at the two worst moments: with the claim noted and nothing sent, and
with everything sent and nothing noted. The connection to the broker breaks with messages on it.
"""

from __future__ import annotations

import heapq
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from connectors.claims import claims_path
from connectors.mqtt import Refusal
from models.errors import RetryLater
from models.outputs import Publish
from models.units import NS_PER_MS

from .egress_sinks import MqttSink, Record

#: What happens to egress, in turn, with a batch in hand that has something that may leave once.
TROUBLES: Final = ("killed with the claim noted", "killed before the cursor moved", "connection broken")


class Delivery(NamedTuple):
    """A message on its way from the broker to whoever listens."""

    at_ms: int
    number: int
    topic: str
    payload: bytes
    until_ms: int | None


class LossyBroker:
    """Takes messages and delivers them later: some never, some twice, none while it is down.

    Parameters
    ----------
    rng : Random
    loss, double : float
        Shares of messages.
    down_ms : (int, int)
        From when until when it is down; its senders repeat then what it did not take.
    """

    def __init__(self, rng: random.Random, loss: float, double: float, down_ms: tuple[int, int]) -> None:
        self.counts: Counter[str] = Counter()
        self.down_ms = down_ms
        self._rng, self._loss, self._double = rng, loss, double
        self._wire: list[Delivery] = []
        self._number = 0

    def take(self, at_ms: int, message: Publish, *, lossless: bool = False, doubles: bool = True) -> None:
        """Take a message that somebody published at a time."""
        rng, times = self._rng, 1
        if not lossless:
            lost, twice = rng.random() < self._loss, rng.random() < self._double and doubles
            times = 0 if lost else 2 if twice else 1
            self.counts["lost"] += lost
            self.counts["doubled"] += times == 2
        for time in range(times):
            arrival = at_ms + rng.randrange(5, 400) + time * rng.randrange(100, 5_000)
            if self.down_ms[0] <= arrival < self.down_ms[1]:
                arrival = self.down_ms[1] + rng.randrange(10, 3_000)
                self.counts["delayed"] += 1
            self._number += 1
            delivery = Delivery(arrival, self._number, message.topic, message.payload, message.until_ms)
            heapq.heappush(self._wire, delivery)

    def due(self, now_ms: int) -> list[Delivery]:
        """Return what arrives up to a time; what has expired on the way does not."""
        found = []
        while self._wire and self._wire[0].at_ms <= now_ms:
            one = heapq.heappop(self._wire)
            if one.until_ms is not None and one.at_ms >= one.until_ms:
                self.counts["expired on the way"] += 1
            else:
                found.append(one)
        return found


class _Killed(Exception):
    """Egress is gone."""


class Egress:
    """The way from the workers to the broker.

    Parameters
    ----------
    broker : LossyBroker
    rng : Random
    say : callable
        Told of its troubles.
    """

    def __init__(self, broker: LossyBroker, rng: random.Random, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._broker, self._rng, self._say = broker, rng, say
        self._folder = tempfile.TemporaryDirectory(prefix="chargestream-drill-")
        self._box: list[Publish] = []
        self._now_ms = 0
        self._coming = 0  # troubles that wait for a batch that suits them
        self._trouble = ""
        self._sink = self._start()

    def _start(self) -> MqttSink:
        path = claims_path(Path(self._folder.name))
        return MqttSink(self, path, lambda: self._now_ms * NS_PER_MS)

    def put(self, message: Publish) -> None:
        """Take a message into the outbox."""
        self._box.append(message)

    def expect_trouble(self) -> None:
        """Let something happen to the next batch that has something that may leave once."""
        self._coming += 1

    def drain(self, now_ms: int) -> None:
        """Deliver what is in the outbox; what egress did not note as delivered comes again."""
        self._now_ms = now_ms
        if not self._box:
            return
        if self._coming and any(message.once for message in self._box):
            self._coming -= 1
            self._trouble = TROUBLES[sum(self.counts[name] for name in TROUBLES) % len(TROUBLES)]
        try:
            self._sink.deliver("publish", [Record(1, 0, msgspec.msgpack.encode(self._box))])
        except RetryLater:
            return
        except _Killed:
            self._sink.close()
            self._sink = self._start()
            return
        self._box.clear()

    def _happened(self) -> None:
        self._say(f"egress: {self._trouble}, {len(self._box)} messages in hand")
        self.counts[self._trouble] += 1
        self._trouble = ""

    # -- the publisher of its sink -----------------------------------------------------------------

    def connect(self) -> None:
        """Connect to the broker; raises RetryLater while it is down."""
        down = self._broker.down_ms
        if down[0] <= self._now_ms < down[1]:
            self.counts["tries without a broker"] += 1
            raise RetryLater("the broker is down")

    def publish(self, batch: Sequence[Publish]) -> list[Refusal]:
        """Hand a batch to the broker, as `connectors.mqtt.Publisher` does."""
        self.connect()
        killed = self._trouble.startswith("killed")
        if self._trouble == TROUBLES[0]:
            self._happened()
            raise _Killed
        broken = bool(self._trouble) and not killed
        for message in batch:
            if not broken or self._rng.random() < 0.5:
                self.counts["published"] += 1
                # A gateway that takes its messages as they come gets none twice from the broker.
                self._broker.take(self._now_ms, message, doubles=message.topic.endswith("/dn/cmd"))
        if killed:
            self._happened()
            raise _Killed
        if broken:
            self._happened()
            if any(not message.once for message in batch):
                raise RetryLater("the connection broke")
        return []

    def close(self) -> None:
        """Disconnect, which is nothing here: a sink closes its publisher with itself."""

    def end(self) -> None:
        """Close the sink and remove its files."""
        self._sink.close()
        self._folder.cleanup()

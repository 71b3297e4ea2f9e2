"""What the network does between a node and the broker: delay, duplicates, reordering, waiting backlogs."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque

from .config import TransportConfig
from .messages import SimMessage


class Transport:
    """Turns sent messages into arriving ones; a node's messages keep their order, but for a chosen few."""

    def __init__(self, config: TransportConfig, n_nodes: int, rng: random.Random) -> None:
        self.config = config
        self.rng = rng
        self.dropped = 0  # messages lost because a backlog was full
        self._heap: list[tuple[int, int, SimMessage]] = []
        self._count = 0
        self._last_ms = [0] * n_nodes
        self._blocks = [0] * n_nodes
        self._queues: dict[int, deque[SimMessage]] = {}
        self._plain = config.duplicate_share == 0 and config.reorder_share == 0

    def blocked(self, node: int) -> bool:
        """Return whether the node has no way to the broker now."""
        return self._blocks[node] > 0

    def backlog(self, node: int) -> int:
        """Return how many messages wait at a node."""
        return len(self._queues.get(node, ()))

    def block(self, node: int) -> None:
        """Cut a node off; it keeps its QoS 1 messages."""
        self._blocks[node] += 1

    def unblock(self, node: int, now_ms: int) -> None:
        """Take back one `block`; when it was the last, the backlog drains in order."""
        self._blocks[node] -= 1
        if self._blocks[node]:
            return
        gap_ms = 1000.0 / self.config.drain_per_s
        for place, message in enumerate(self._queues.pop(node, ())):
            arrival = max(now_ms + self._delay_ms() + int(place * gap_ms), self._last_ms[node] + 1)
            self._last_ms[node] = arrival
            self._push(SimMessage(arrival, *message[1:]))

    def send(self, message: SimMessage, *, past_block: bool = False) -> None:
        """Take a message sent at its `t_ms`; `past_block`: a birth or a will, which a block does not stop."""
        node = message.node
        if self._blocks[node] and not past_block:
            if message.qos:
                queue = self._queues.setdefault(node, deque())
                if len(queue) >= self.config.backlog_max:
                    queue.popleft()
                    self.dropped += 1
                queue.append(message)
            return
        arrival = max(message.t_ms + self._delay_ms(), self._last_ms[node] + 1)
        if self._plain or message.qos == 0 or message.seq < 0:
            self._last_ms[node] = arrival
            self._push(SimMessage(arrival, *message[1:]))
            return
        config, rng = self.config, self.rng
        if rng.random() < config.reorder_share:
            arrival += rng.randrange(200, 900)
        else:
            self._last_ms[node] = arrival
        self._push(SimMessage(arrival, *message[1:]))
        if rng.random() < config.duplicate_share:
            self._push(SimMessage(arrival + rng.randrange(500, 8000), *message[1:]))

    def release(self, to_ms: int) -> list[SimMessage]:
        """Return the messages that arrive up to `to_ms`, in order of arrival."""
        heap, out = self._heap, []
        while heap and heap[0][0] <= to_ms:
            out.append(heapq.heappop(heap)[2])
        return out

    def _delay_ms(self) -> int:
        if self._plain:
            return int(self.config.latency_ms)
        spread = -math.log(1.0 - self.rng.random())
        return int(self.config.latency_ms * min(10.0, 0.45 + 0.8 * spread))

    def _push(self, message: SimMessage) -> None:
        self._count += 1
        heapq.heappush(self._heap, (message.t_ms, self._count, message))

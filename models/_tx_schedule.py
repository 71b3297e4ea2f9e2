"""When transactions are looked at again, by journaled time: the ticks that come after what scheduled it."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from ._tx_state import Tx

LOOK: Final = 0  # judge it again
COST: Final = 1  # tell what it has cost
Key = tuple[int, str]  # station row, transaction id


class Schedule:
    """What is due when; the transaction itself knows which entry counts."""

    def __init__(self) -> None:
        #: (when, order of the first message, id, what, station): rows of the device table decide nothing
        self._heap: list[tuple[int, int, str, int, int]] = []

    def push(self, key: Key, tx: Tx, what: int) -> None:
        """Note what a transaction says is due."""
        due = tx.due_ns if what == LOOK else tx.cost_due_ns
        if due:
            heapq.heappush(self._heap, (due, tx.first_order, key[1], what, key[0]))

    def due(
        self, known: dict[Key, Tx], at: int, order: int, tick_order: Sequence[int], tick_ns: Sequence[int]
    ) -> Iterator[tuple[Key, Tx, int, int, int]]:
        """Yield (key, transaction, what, order, time) of what ticks below `order` bring.

        `at` is the order of what was taken in last: a tick before it brings nothing of it.
        """
        while self._heap:
            k = bisect_left(tick_ns, self._heap[0][0])
            # only ticks that come after what scheduled it, also within the same second
            k = bisect_right(tick_order, at, lo=k)
            if k >= len(tick_order) or tick_order[k] >= order:
                return
            due, _, tx_id, what, station = heapq.heappop(self._heap)
            tx = known.get((station, tx_id))
            if tx is None or due != (tx.due_ns if what == LOOK else tx.cost_due_ns):
                continue
            if what == LOOK:
                tx.due_ns = 0
            else:
                tx.cost_due_ns = 0
            at = tick_order[k] - 1  # others may be due at the same tick
            yield (station, tx_id), tx, what, tick_order[k], tick_ns[k]

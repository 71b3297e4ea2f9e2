"""How long a transaction is waited for, and since when nothing is heard of it. Journaled time, ns."""

from __future__ import annotations

from ._tx_judge import register_after
from ._tx_state import TransactionConfig, Tx
from .batch import I64
from .units import NO_TIME


class Waits:
    """The waiting times of the transactions of a shard; `batch_ns` is each node's longest batch.

    Set `batch_ns` anew with every batch: nodes are added to it.
    """

    def __init__(self, config: TransactionConfig, batch_ns: I64) -> None:
        self._config, self.batch_ns = config, batch_ns

    def settle_ns(self, tx: Tx) -> int:
        """Return how long after an end it is judged."""
        known = int(self.batch_ns[tx.node_row]) if tx.node_row >= 0 else NO_TIME
        least = self._config.settle_ns
        return least if known == NO_TIME else max(least, known + known // 2)

    def batch_of(self, tx: Tx) -> int:
        """Return the longest time between two meter messages of its node."""
        known = int(self.batch_ns[tx.node_row])
        return self._config.batch_ns if known == NO_TIME else max(known, self._config.settle_ns // 3)

    def awaits_register(self, tx: Tx, now: int) -> bool:
        """Return whether a reading may still come that shows an end register that was not told."""
        untold = tx.end_ns is not None and tx.end_mwh is None and not tx.final
        longest = max(3 * self.batch_of(tx), self._config.batch_ns)
        return untold and register_after(tx) is None and now - tx.end_heard_ns < longest

    def note_silence(self, tx: Tx, read_ns: int, now: int) -> None:
        """Note since when a transaction without an end is silent; `read_ns`: its EVSE was read then."""
        heard = max(tx.heard_ns, read_ns)
        gone = tx.free_ns is not None or tx.next_start_ns is not None
        if not gone and now - heard < 3 * self.batch_of(tx):
            tx.silent_ns = 0
        elif not tx.silent_ns:
            tx.silent_ns = now
        tx.aged = tx.aged or (tx.silent_ns > 0 and now - tx.silent_ns >= self._config.review_ns)

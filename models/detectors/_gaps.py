"""Numbers that were passed over: of a node's messages, and of transactions."""

from __future__ import annotations

from typing import Any, Final

from ._nodes import NEVER

#: Ranges of missing numbers remembered per node; beyond, the oldest is forgotten.
_MOST_RANGES: Final = 32

#: Transactions watched per shard, and lost numbers remembered per node; beyond, the oldest is forgotten.
_MOST_TRANSACTIONS: Final = 20_000
_MOST_LOST: Final = 64


class Gaps:
    """Missing numbers of one node as ranges [first, last, when they were passed over, lost], oldest first."""

    def __init__(self, resume_state: list[list[int]] | None = None) -> None:
        self._ranges: list[list[int]] = [list(r) for r in resume_state or []]

    def add(self, first: int, last: int, noticed_ns: int) -> None:
        """Numbers `first` to `last` (inclusive) were passed over."""
        self._ranges.append([first, last, noticed_ns, 0])
        if len(self._ranges) > _MOST_RANGES:
            del self._ranges[0]

    def fill(self, number: int) -> bool:
        """Take `number` out; return whether it was missing."""
        for i, (first, last, noticed_ns, lost) in enumerate(self._ranges):
            if first <= number <= last:
                parts = [[first, number - 1, noticed_ns, lost], [number + 1, last, noticed_ns, lost]]
                self._ranges[i : i + 1] = [p for p in parts if p[0] <= p[1]]
                return True
        return False

    def settle(self, passed_ns: int, after: int) -> tuple[int, int]:
        """Count as lost what was passed over until `passed_ns`; forget what is lost and not `after` a
        number.

        Returns how many lost numbers are greater than `after`, and when the first of them was passed
        over.
        """
        lost, since_ns = 0, NEVER
        for r in self._ranges:
            if r[2] <= passed_ns:
                r[3] = 1
            n = r[1] - max(r[0], after + 1) + 1
            if r[3] and n > 0:
                lost += n
                since_ns = min(since_ns, r[2])
        self._ranges = [r for r in self._ranges if not r[3] or r[1] > after]
        return lost, since_ns

    @property
    def pending_ns(self) -> int:
        """When the oldest range that is not lost yet was passed over."""
        return min((r[2] for r in self._ranges if not r[3]), default=NEVER)

    @property
    def empty(self) -> bool:
        """Whether nothing is missing."""
        return not self._ranges

    @property
    def nbytes(self) -> int:
        """Bytes held (an estimate)."""
        return 200 * len(self._ranges)

    def snapshot(self) -> list[list[int]]:
        """Return plain data."""
        return [list(r) for r in self._ranges]


class TransactionGaps:
    """Missing ``seqNo`` of transactions.

    Watched are transactions between their first and last message, by a key of the caller's. A missing
    number belongs to the node whose message passed it over.
    """

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"watched": [], "missing": [], "lost": []}
        self._watched: dict[str, int] = dict(state["watched"])  # highest number
        #: node -> {(transaction, number): when it was passed over}
        self._missing: dict[int, dict[tuple[str, int], int]] = {
            node: {(key, n): when for key, n, when in items} for node, items in state["missing"]
        }
        #: node -> {(transaction, number): (when it was passed over, when it was lost)}
        self._lost: dict[int, dict[tuple[str, int], tuple[int, int]]] = {
            node: {(key, n): (noticed, lost) for key, n, noticed, lost in items}
            for node, items in state["lost"]
        }

    def number(self, key: str, seq_no: int, ended: bool, node: int, recv_ns: int) -> tuple[bool, list[int]]:
        """Take in a number of a transaction.

        Returns whether numbers of `node` are newly missing, and the nodes one of whose numbers came after
        all.
        """
        filled = self._fill((key, seq_no))
        if filled:
            return False, filled
        top = self._watched.get(key, seq_no - 1)
        passed_over = range(max(top + 1, seq_no - _MOST_LOST), seq_no)
        if passed_over:
            self._missing.setdefault(node, {}).update({(key, n): recv_ns for n in passed_over})
        self._watched[key] = max(top, seq_no)
        if ended:
            del self._watched[key]
        elif len(self._watched) > _MOST_TRANSACTIONS:
            del self._watched[next(iter(self._watched))]
        return len(passed_over) > 0, []

    def _fill(self, number: tuple[str, int]) -> list[int]:
        nodes = []
        tables: tuple[dict[int, dict[tuple[str, int], Any]], ...] = (self._missing, self._lost)
        for table in tables:
            for node in [n for n, items in table.items() if number in items]:
                del table[node][number]
                if not table[node]:
                    del table[node]
                nodes.append(node)
        return nodes

    def settle(self, node: int, passed_ns: int, now_ns: int, keep_ns: int) -> tuple[int, int]:
        """Count as lost what was passed over until `passed_ns`; forget what was lost `keep_ns` ago.

        Returns how many numbers of transactions the node lost, and when the first was passed over.
        """
        missing = self._missing.get(node, {})
        lost = self._lost.get(node, {})
        for number, noticed_ns in list(missing.items()):
            if noticed_ns <= passed_ns:
                lost[number] = (noticed_ns, now_ns)
                del missing[number]
        kept = [(number, when) for number, when in lost.items() if now_ns - when[1] < keep_ns]
        lost = dict(kept[-_MOST_LOST:])
        self._lost[node], self._missing[node] = lost, missing
        if not lost:
            del self._lost[node]
        if not missing:
            del self._missing[node]
        return len(lost), min((when[0] for when in lost.values()), default=NEVER)

    def pending_ns(self, node: int) -> int:
        """When the oldest missing number of a node that is not lost yet was passed over."""
        return min(self._missing.get(node, {}).values(), default=NEVER)

    @property
    def nbytes(self) -> int:
        """Bytes held (an estimate)."""
        kept = sum(map(len, self._lost.values())) + sum(map(len, self._missing.values()))
        return 100 * (len(self._watched) + kept)

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "watched": [list(item) for item in self._watched.items()],
            "missing": [
                [node, [[key, n, when] for (key, n), when in items.items()]]
                for node, items in self._missing.items()
            ],
            "lost": [
                [node, [[key, n, *when] for (key, n), when in items.items()]]
                for node, items in self._lost.items()
            ],
        }

"""What OCPP-J remembers: calls waiting for their answer, calls seen, open transactions, errors raised.

Everything is bounded per node or per shard and driven by journaled time, so that a replay
remembers the same.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from models.errors import SnapshotError

VERSION: Final = 1

MAX_SEEN: Final = 20_000  # calls remembered per shard
MAX_WAITING: Final = 16  # calls waiting per node
MAX_OPEN: Final = 64  # transactions per node
MAX_RAISED: Final = 64  # errors per node


@dataclass(slots=True)
class Waiting:
    """A call whose record waits for the answer: ``boot`` or ``start``."""

    kind: str
    since_ns: int
    fields: dict[str, Any]


@dataclass(slots=True)
class OpenTransaction:
    """Where a transaction runs; `provisional` when the id is ours because no answer was seen."""

    evse: int
    provisional: bool = False


@dataclass(slots=True)
class NodeState:
    """Memory of one node."""

    waiting: dict[str, Waiting] = field(default_factory=dict)  # by message id
    open: dict[str, OpenTransaction] = field(default_factory=dict)  # by transaction id
    raised: list[tuple[int, str, str]] = field(default_factory=list)  # connector, taxonomy, code

    def note_open(self, tx_id: str, evse: int, *, provisional: bool = False) -> None:
        """Remember where a transaction runs, forgetting the oldest beyond the bound."""
        self.open.pop(tx_id, None)
        while len(self.open) >= MAX_OPEN:
            del self.open[next(iter(self.open))]
        self.open[tx_id] = OpenTransaction(evse, provisional)

    def note_raised(self, connector: int, taxonomy: str, code: str) -> None:
        """Remember an error, so that NoError can clear it."""
        entry = (connector, taxonomy, code)
        if entry not in self.raised:
            self.raised = [*self.raised[-MAX_RAISED + 1 :], entry]

    def take_raised(self, connector: int) -> list[tuple[str, str]]:
        """Return and forget the errors of a connector."""
        mine = [(taxonomy, code) for c, taxonomy, code in self.raised if c == connector]
        self.raised = [entry for entry in self.raised if entry[0] != connector]
        return mine


class State:
    """Memory of one shard."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self._seen: OrderedDict[int, tuple[int, int]] = OrderedDict()  # call -> (arrival, CRC of content)

    def node(self, name: str) -> NodeState:
        """Return the memory of a node."""
        return self.nodes.setdefault(name, NodeState())

    def tidy(self, name: str) -> None:
        """Forget a node that nothing is remembered of."""
        node = self.nodes.get(name)
        if node is not None and not (node.waiting or node.open or node.raised):
            del self.nodes[name]

    def was_seen(self, node: str, call_id: str, action: str, content: bytes | None) -> bool:
        """Return whether this call came before (with the same content, if given)."""
        known = self._seen.get(_key(node, call_id, action))
        return known is not None and (content is None or known[1] == zlib.crc32(content))

    def note_seen(self, node: str, call_id: str, action: str, content: bytes, now_ns: int) -> None:
        """Remember a call."""
        key = _key(node, call_id, action)
        self._seen.pop(key, None)
        self._seen[key] = (now_ns, zlib.crc32(content))
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def forget_seen(self, before_ns: int) -> None:
        """Forget calls that came before `before_ns`."""
        while self._seen:
            key, (arrived, _) = next(iter(self._seen.items()))
            if arrived >= before_ns:
                return
            del self._seen[key]

    def snapshot(self) -> dict[str, Any]:
        """Return plain data from which `restore` makes an equal memory."""
        return {
            "version": VERSION,
            "seen": [[key, arrived, crc] for key, (arrived, crc) in self._seen.items()],
            "nodes": {
                name: {
                    "waiting": [[i, w.kind, w.since_ns, dict(w.fields)] for i, w in node.waiting.items()],
                    "open": [[i, t.evse, t.provisional] for i, t in node.open.items()],
                    "raised": [list(entry) for entry in node.raised],
                }
                for name, node in self.nodes.items()
            },
        }

    @classmethod
    def restore(cls, saved: dict[str, Any]) -> State:
        """Return the memory saved in `saved`.

        Raises
        ------
        SnapshotError
            If `saved` is of another version.
        """
        if saved.get("version") != VERSION:
            raise SnapshotError(
                f"state of dialect ocpp_j has version {saved.get('version')!r}, this program reads {VERSION}"
            )
        state = cls()
        for key, arrived, crc in saved["seen"]:
            state._seen[key] = (arrived, crc)
        for name, node in saved["nodes"].items():
            state.nodes[name] = NodeState(
                {i: Waiting(kind, since, dict(fields)) for i, kind, since, fields in node["waiting"]},
                {i: OpenTransaction(evse, provisional) for i, evse, provisional in node["open"]},
                [(connector, taxonomy, code) for connector, taxonomy, code in node["raised"]],
            )
        return state


def _key(node: str, call_id: str, action: str) -> int:
    digest = blake2b(f"{node}\0{call_id}\0{action}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # fits a signed 64-bit integer of any store

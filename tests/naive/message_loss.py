"""Twin of `message_loss`: keeps every number of every node and looks at all of them when it judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .plain import Expected, Message, S, Story

NUMBERED = {"meter", "status", "tx", "event", "link", "cmdres", "firmware"}
MINUTE = 60 * S


@dataclass
class _Node:
    row: int
    boot: int = -1
    boots: dict[int, int] = field(default_factory=dict)  # boot -> what was counted before it
    top: int = 0
    first: int = 0
    used: list[tuple[int, int]] = field(default_factory=list)  # minute, running number
    missing: dict[int, int] = field(default_factory=dict)  # running number -> when it was passed over
    lost: dict[int, int] = field(default_factory=dict)
    tx_missing: dict[tuple[Any, int], int] = field(default_factory=dict)
    tx_lost: dict[tuple[Any, int], tuple[int, int]] = field(default_factory=dict)
    backlog_ns: int | None = None
    judge_ns: int | None = None  # when it is judged next
    raised: bool = False
    start_ns: int = 0
    absent_ns: int | None = None

    def soon(self, t: int) -> None:
        self.judge_ns = t if self.judge_ns is None else min(self.judge_ns, t)


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    out: list[Expected] = []
    nodes = [_Node(row) for row in range(len(story.nodes))]
    watched: dict[Any, int] = {}
    records = [r for r in story.records if type(r).__name__ == "Transaction"]
    for message in sorted(story.messages, key=lambda m: m.order):
        while records and records[0].at.order <= message.order:
            _transaction(records.pop(0), nodes, watched)
        if message.node >= 0 and message.boot >= 0 and message.seq >= 0 and not message.duplicate:
            _number(nodes[message.node], message)
        for node in nodes:
            if node.judge_ns is not None and node.judge_ns <= message.effect_ns:
                _judge(node, message, out)
    return out


def _number(node: _Node, message: Message) -> None:
    heartbeat = message.kind == "heartbeat"
    if not message.live:
        node.backlog_ns = message.effect_ns
    boot, seq = message.boot, message.seq
    if boot < node.boot:
        known = sorted(node.boots)
        if not heartbeat and boot in known and known.index(boot) == len(known) - 2:
            _late(node, node.boots[boot] + seq, message.effect_ns)
        return
    if boot > node.boot:
        if node.boot < 0:
            node.first = node.top = seq if heartbeat else seq - 1
            node.boots[boot] = 0
        else:
            node.boots[boot] = node.boots[node.boot] + node.top
            node.top = 0
        node.boot = boot
    before = node.boots[boot]
    if seq > node.top:
        arrived = set() if heartbeat else {seq}
        for s in range(node.top + 1, seq + 1):
            node.used.append((message.effect_ns // MINUTE, before + s))
            if s not in arrived:
                node.missing[before + s] = message.recv_ns
                node.soon(message.recv_ns + 120 * S)
        node.top = seq
    elif not heartbeat:
        _late(node, before + seq, message.effect_ns)


def _late(node: _Node, number: int, now: int) -> None:
    if number in node.missing or number in node.lost:
        node.missing.pop(number, None)
        node.lost.pop(number, None)
        node.soon(now)


def _transaction(record: Any, nodes: list[_Node], watched: dict[Any, int]) -> None:
    if record.seq_no is None or record.at.node_row < 0:
        return
    tx = (record.station_row, record.tx_id)
    for node in nodes:
        for table in (node.tx_missing, node.tx_lost):
            if (tx, record.seq_no) in table:
                del table[(tx, record.seq_no)]
                node.soon(record.at.effect_ns)
                return
    mine = nodes[record.at.node_row]
    for n in range(watched.get(tx, record.seq_no) + 1, record.seq_no):
        mine.tx_missing[(tx, n)] = record.at.recv_ns
        mine.soon(record.at.recv_ns + 120 * S)
    watched[tx] = max(record.seq_no, watched.get(tx, record.seq_no))
    if record.event_type == "Ended":
        del watched[tx]


def _judge(node: _Node, message: Message, out: list[Expected]) -> None:
    now = message.effect_ns
    draining = node.backlog_ns is not None and node.backlog_ns > now - 120 * S
    final = now - (600 if draining else 120) * S
    for number, noticed in list(node.missing.items()):
        if noticed <= final:
            node.lost[number] = noticed
            del node.missing[number]
    for key, noticed in list(node.tx_missing.items()):
        if noticed <= final:
            node.tx_lost[key] = (noticed, now)
            del node.tx_missing[key]
    node.tx_lost = {n: when for n, when in node.tx_lost.items() if now - when[1] < 3600 * S}
    total = node.boots.get(node.boot, 0) + node.top
    recent = [n for minute, n in node.used if now // MINUTE - minute < 60]
    window = min(max(len(recent), 200), total - node.first)
    lost = {n: when for n, when in node.lost.items() if n > total - window}
    enough = len(lost) >= 5 and len(lost) >= 0.01 * window
    evidence: dict[str, Any] = {"lost": len(lost), "numbers": window}
    evidence["lost_in_transactions"] = len(node.tx_lost)
    if window:
        evidence["lost_percent"] = 100 * len(lost) / window
    kind = ""
    if enough or node.tx_lost:
        node.absent_ns = None
        if not node.raised:
            began = list(lost.values()) if enough else []
            node.raised, kind = True, "raise"
            node.start_ns = min(began + [when[0] for when in node.tx_lost.values()])
    elif node.raised:
        node.absent_ns = now if node.absent_ns is None else node.absent_ns
        if now - node.absent_ns >= 60 * S:
            node.raised, kind = False, "clear"
    if kind:
        at = now if kind == "raise" else node.absent_ns or 0
        out.append(
            Expected(
                message.order, "message_loss", "node", node.row, kind, "warning", True,
                node.start_ns, at, evidence,
            )
        )  # fmt: skip
    waiting = list(node.missing.values()) + list(node.tx_missing.values())
    node.judge_ns = None
    if waiting:
        node.soon(min(waiting) + (600 if draining else 120) * S)
        if draining and node.backlog_ns is not None:
            node.soon(node.backlog_ns + 120 * S)
    if node.raised or len(lost) >= 5:
        node.soon(now + 60 * S)

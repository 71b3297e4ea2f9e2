"""Twin of `offline`: at every journal entry looks at everybody and everything heard so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .plain import Expected, Message, S, Story

MS = 1_000_000


@dataclass
class _Subject:
    scope: str
    row: int
    state: str = "heard"  # heard, pending, open, back
    reason: str = ""
    start_ns: int = 0
    back_ns: int = 0
    live: bool = True
    settle_ns: int | None = None
    plan_until: float | None = None  # None: not planned
    last_ns: int | None = None


@dataclass
class _Node(_Subject):
    heard_since: int = 0
    seen: bool = False
    connection: tuple[int, int] = (-1, -1)
    hb_s: float | None = None
    batch_s: float | None = None

    @property
    def silence(self) -> int:
        return round(3 * (1800 if self.hb_s is None else self.hb_s) * S)


@dataclass
class _World:
    story: Story
    nodes: list[_Node]
    stations: list[_Subject]
    tx: dict[int, int] = field(default_factory=dict)  # EVSE -> since when
    tx_since: dict[int, int] = field(default_factory=dict)  # station -> since when
    availability: dict[int, bool] = field(default_factory=dict)  # EVSE -> Unavailable
    windows: list[tuple[str, str, str, int, int]] = field(default_factory=list)
    listening: int = 0
    now: int | None = None
    out: list[Expected] = field(default_factory=list)

    def behind(self, station: int) -> bool:
        _, name, node = self.story.stations[station]
        return self.story.nodes[node][1] != name

    def plan(self, who: _Subject, start: int, now: int) -> float | None:
        """Return until when an absence is planned."""
        if who.scope == "node":
            node = who.row
            stations = [s for s, item in enumerate(self.story.stations) if item[2] == node]
            name = self.story.nodes[node][1]
        else:
            node = self.story.stations[who.row][2]
            stations, name = [who.row], self.story.stations[who.row][1]
        said = [
            self.availability[e]
            for e, (s, _) in enumerate(self.story.evses)
            if s in stations and e in self.availability
        ]
        if said and all(said):
            return float("inf")
        site, node_name = self.story.sites[self.story.nodes[node][0]], self.story.nodes[node][1]
        ends = [
            w[4]
            for w in self.windows
            if w[0] == site
            and w[1] in ("", node_name)
            and w[2] in ("", name)
            and w[3] <= now
            and w[4] >= start
        ]
        return max(ends) if ends else None

    def emit(self, who: _Subject, kind: str, order: int, at_ns: int, evidence: dict[str, Any]) -> None:
        planned = who.plan_until is not None
        self.out.append(
            Expected(
                order, "offline", who.scope, who.row, kind, "info" if planned else "warning",
                who.live or who.scope == "node", who.start_ns, at_ns, evidence, planned,
            )
        )  # fmt: skip

    def open(self, who: _Subject, order: int, now: int, limit_s: float = 0.0, words: str = "") -> None:
        who.state, who.settle_ns = "open", None
        who.plan_until = self.plan(who, who.start_ns, now)
        since = who.start_ns if who.last_ns is None else max(who.last_ns, who.start_ns)
        evidence: dict[str, Any] = {"reason": who.reason, "silent_s": (now - since) / S}
        if limit_s:
            evidence["limit_s"] = limit_s
        if who.last_ns is not None:
            evidence["last_heard_ms"] = who.last_ns // MS
        if words:
            evidence["words"] = words
        self.emit(who, "raise", order, now, evidence)


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    world = _World(
        story,
        [_Node("node", n) for n in range(len(story.nodes))],
        [_Subject("station", s) for s in range(len(story.stations))],
    )
    records = list(story.records)
    arrivals = _arrivals(world)
    for message in sorted(story.messages, key=lambda m: m.order):
        while records and records[0].at.order <= message.order:
            _record(world, records.pop(0))
        _entry(world, message, arrivals)
    return world.out


def _arrivals(world: _World) -> list[tuple[int, int, int, int]]:
    """Return (order, effect, station, newest time) of live rows behind gateways, in order."""
    found: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    for r in world.story.readings:
        if r.live and world.behind(r.about.station):
            key = (r.order, r.about.row)
            newest = max(r.time_ns, found[key][3]) if key in found else r.time_ns
            found[key] = (r.order, r.effect_ns, r.about.station, newest)
    return sorted(found.values(), key=lambda a: a[0])


def _heard_again(who: _Subject, now: int) -> None:
    who.state, who.back_ns = "back", now


def _entry(world: _World, message: Message, arrivals: list[tuple[int, int, int, int]]) -> None:
    now, order = message.effect_ns, message.order
    if world.now is None or now - world.now > 30 * S:
        world.listening = now
    world.now = now
    while arrivals and arrivals[0][0] <= order:
        _, effect, station, newest = arrivals.pop(0)
        _station_word(world.stations[station], newest, effect)
    if message.node >= 0 and not message.duplicate and message.kind != "conn":
        _hear(world.nodes[message.node], message)
        _silent_stations(world, message)
    for node in world.nodes:
        _overdue(world, node, order, now)
    for who in world.stations:
        _overdue(world, who, order, now)


def _hear(node: _Node, message: Message) -> None:
    now = message.effect_ns
    quiet = max(node.silence // 2, 0 if node.batch_s is None else round(3 * node.batch_s * S))
    if not node.seen or not message.live or node.last_ns is None or now - node.last_ns > quiet:
        node.heard_since = now
    node.seen, node.last_ns = True, now
    if message.recv_ns > node.start_ns:
        if node.state == "pending":
            node.state = "heard"
        elif node.state == "open":
            _heard_again(node, now)


def _silent_stations(world: _World, message: Message) -> None:
    node = world.nodes[message.node]
    if node.batch_s is None:
        return
    limit = round(3 * node.batch_s * S)
    for row, (_, _, owner) in enumerate(world.story.stations):
        who = world.stations[row]
        if owner != node.row or row not in world.tx_since or who.state not in ("heard", "back"):
            continue
        base = max(who.last_ns or 0, world.tx_since[row], node.heard_since)
        if base + limit <= message.effect_ns:
            if who.state == "back":
                who.state = "open"
            else:
                who.start_ns, who.reason, who.live = base, "no_rows", True
                world.open(who, message.order, message.effect_ns, limit / S)


def _overdue(world: _World, who: _Subject, order: int, now: int) -> None:
    if who.state == "back" and who.back_ns + 60 * S <= now:
        world.emit(who, "clear", order, who.back_ns, {})
        who.state, who.plan_until, who.settle_ns = "heard", None, None
    if who.state == "open" and who.plan_until is not None and who.plan_until <= now:
        who.plan_until = world.plan(who, now, now)
        if who.plan_until is None:
            world.emit(who, "update", order, now, {})
    if who.state == "open" and who.settle_ns is not None and who.settle_ns <= now:
        who.live = True
        world.open(who, order, now)
    if isinstance(who, _Node):
        if who.state == "pending" and who.start_ns + 5 * S <= now:
            world.open(who, order, now)
        elif who.state == "heard" and who.seen and who.last_ns is not None:
            quiet = max(who.last_ns, world.listening) + who.silence <= now
            if quiet:
                who.start_ns, who.reason = who.last_ns, "silence"
                world.open(who, order, now, who.silence / S)


def _record(world: _World, record: Any) -> None:
    name = type(record).__name__
    if name == "Birth":
        _birth(world.nodes[record.at.node_row], record)
    elif name == "Link":
        who = world.stations[record.station_row]
        if record.online:
            _station_word(who, record.time_ns, record.at.effect_ns)
        elif who.state == "back":
            who.state = "open"
        elif who.state == "heard":
            who.start_ns, who.reason, who.live = record.time_ns, "link", _is_live(record)
            world.open(who, record.at.order, record.at.effect_ns, words=record.reason)
            if not who.live:
                who.settle_ns = record.at.effect_ns + 600 * S
                who.plan_until = None if who.plan_until is None else math.inf
    elif name == "Status":
        evses = [record.evse_row]
        if record.evse_row < 0:
            evses = [e for e, (s, _) in enumerate(world.story.evses) if s == record.station_row]
        for e in evses:
            world.availability[e] = (record.status16 or record.status) == "Unavailable"
        if _is_live(record):
            _station_word(world.stations[record.station_row], record.time_ns, record.at.effect_ns)
    elif name == "Transaction":
        _transaction(world, record)
    elif name == "Operator" and record.topic == "maintenance":
        b = record.body
        times = [b.get("from"), b.get("until")]
        if isinstance(b.get("site"), str) and all(isinstance(t, int) for t in times) and times[0] <= times[1]:
            names = (b["site"], b.get("node") or "", b.get("station") or "")
            world.windows.append((*names, times[0] * MS, times[1] * MS))


def _is_live(record: Any) -> bool:
    return bool(record.at.live) and record.at.recv_ns - record.time_ns <= 900 * S


def _station_word(who: _Subject, time_ns: int, now: int) -> None:
    who.last_ns = now
    if who.state == "open" and time_ns > who.start_ns:
        _heard_again(who, now)


def _birth(node: _Node, birth: Any) -> None:
    connection = (birth.at.boot, birth.cid)
    if birth.online:
        if birth.retained and connection < node.connection:
            return
        node.connection = connection
        node.hb_s = birth.hb_s if birth.hb_s is not None else node.hb_s
        batch_s = birth.batch_s if birth.batch_s is not None else birth.sample_s
        node.batch_s = batch_s if batch_s is not None else node.batch_s
        if birth.retained:
            return
        now = birth.at.effect_ns
        node.seen, node.last_ns, node.heard_since = True, now, now
        if node.state == "open":
            _heard_again(node, now)
        elif node.state == "pending":
            node.state = "heard"
    elif not birth.retained and connection >= node.connection:
        if node.state == "back":
            node.state = "open"
        elif node.state == "heard":
            node.state, node.reason, node.start_ns = "pending", "will", birth.at.recv_ns


def _transaction(world: _World, record: Any) -> None:
    if _is_live(record):
        _station_word(world.stations[record.station_row], record.time_ns, record.at.effect_ns)
    if record.evse_row < 0 or not world.behind(record.station_row):
        return
    station = record.station_row
    if record.event_type == "Ended":
        world.tx.pop(record.evse_row, None)
    else:
        world.tx.setdefault(record.evse_row, record.at.effect_ns)
    running = [e for e in world.tx if world.story.evses[e][0] == station]
    if not running:
        world.tx_since.pop(station, None)
    else:
        world.tx_since.setdefault(station, record.at.effect_ns)

"""Twin of `site_power_event`: one site at a time, one thing after the other, everything searched anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from models.records import Birth, StationEvent, Status

from .plain import Expected, Message, Reading, S, Story, grid_voltages


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return [e for site in range(len(story.sites)) for e in _Site(story, site).run()]


def _depth(r: Reading) -> str | None:
    """Return what a reading says of the supply: fine, some, all, gone; None when nothing."""
    u_n = r.about.u_n_v if r.about.declared else 208.0
    volts = [v for v in grid_voltages(r).values() if r.about.declared or v >= 150.0]
    if not volts or max(volts) < 0:
        return None
    if max(volts) < 0.05 * u_n:
        return "gone"
    if max(volts) < 0.90 * u_n:
        return "all"
    return "some" if min(volts) < 0.90 * u_n else "fine"


@dataclass
class _Evse:
    seen: str = "fine"
    onset: int = 0
    deepest: str = ""


@dataclass
class _Node:
    last: int | None = None
    will: int | None = None
    gone: bool = False
    connection: tuple[int, int] = (-1, -1)
    hb: int = 1800 * S
    sample: int = 60 * S
    batch: int = 60 * S


@dataclass
class _Open:
    start: int
    live: bool
    nodes: set[int]
    good: int | None = None
    end: int = 0


@dataclass
class _Station:
    evses: dict[int, _Evse] = field(default_factory=dict)
    was: tuple[int, str, int] | None = None
    loss: tuple[int, int] | None = None  # event time, order of the last report


class _Site:
    def __init__(self, story: Story, site: int) -> None:
        self.story, self.site = story, site
        self.nodes = {n: _Node() for n, (s, _) in enumerate(story.nodes) if s == site}
        self.stations = {k: _Station() for k, (s, _, _) in enumerate(story.stations) if s == site}
        self.spoken: set[int] = set()
        self.open: _Open | None = None
        self.over = -1
        self.listening = self.before = -1
        self.out: list[Expected] = []

    def run(self) -> list[Expected]:
        """Return what the whole story causes."""
        readings: dict[int, list[Reading]] = {}
        for r in self.story.readings:
            if r.about.node in self.nodes:
                readings.setdefault(r.order, []).append(r)
        records: dict[int, list[Any]] = {}
        for record in self.story.records:
            records.setdefault(record.at.order, []).append(record)
        for m in sorted(self.story.messages, key=lambda m: m.order):
            mine = sorted(readings.get(m.order, []), key=lambda r: (r.about.row, r.time_ns))
            self.spoken |= {r.about.station for r in mine}
            told = [r for r in records.get(m.order, []) if r.at.node_row in self.nodes]
            self.spoken |= {r.station_row for r in told if getattr(r, "station_row", -1) >= 0}
            for r in mine:
                self.reading(r)
            for record in told:
                self.record(record)
            self.message(m)
        return self.out

    def reading(self, r: Reading) -> None:
        """Take in a reading."""
        depth = _depth(r)
        station = self.stations[r.about.station]
        evse = station.evses.setdefault(r.about.row, _Evse())
        if depth is None or depth == evse.seen:
            return
        if depth == "fine":
            station.was = (evse.onset, evse.deepest, r.effect_ns)
        else:
            if evse.seen == "fine":
                evse.onset, evse.deepest = r.time_ns, ""
            evse.deepest = "all" if "all" in {depth, evse.deepest} else depth
        evse.seen = depth
        self.decide(r.order, r.effect_ns, r.live, r.time_ns, over=depth == "fine")

    def record(self, record: Any) -> None:
        """Take in a birth, a station's event or a status."""
        at = record.at
        if isinstance(record, Birth):
            self.birth(record)
            return
        if not isinstance(record, StationEvent | Status):
            return
        station = self.stations[record.station_row]
        before = station.loss
        if isinstance(record, StationEvent):
            if (record.taxonomy, record.code) != ("mrec", "CX015"):
                return
            if record.cleared:
                station.loss = None
            else:
                station.loss = (record.time_ns if before is None else before[0], at.order)
        elif (
            record.status not in {"Faulted", "Unavailable"}
            and before is not None
            and before[1] < at.order
            and before[0] <= record.time_ns
        ):
            station.loss = None
        if (before is None) != (station.loss is None):
            live = at.live and at.recv_ns - record.time_ns <= 900 * S
            self.decide(at.order, at.effect_ns, live, record.time_ns)

    def birth(self, birth: Birth) -> None:
        """Take in a birth or will."""
        node, now = self.nodes[birth.at.node_row], birth.at.effect_ns
        connection = (birth.at.boot, birth.cid)
        if birth.retained:
            return
        if not birth.online:
            if connection >= node.connection and node.last is not None and not node.gone:
                node.will = now + 5 * S
            return
        node.connection = connection
        if birth.hb_s is not None:
            node.hb = round(birth.hb_s * S)
        if birth.sample_s is not None:
            node.sample = node.batch = round(birth.sample_s * S)
        if birth.batch_s is not None:
            node.batch = round(birth.batch_s * S)
        node.last, node.will = now, None
        if node.gone:
            node.gone = False
            self.decide(birth.at.order, now, True, now)

    def message(self, m: Message) -> None:
        """Take in that something was journaled, and decide what is overdue."""
        now = m.effect_ns
        if self.before < 0 or now - self.before > 30 * S:
            self.listening = now
        self.before = now
        if m.node in self.nodes and m.kind != "conn":
            node = self.nodes[m.node]
            node.last, node.will = now, None
            if node.gone:
                node.gone = False
                self.decide(m.order, now, True, now)
        silent = []
        for node in self.nodes.values():
            if node.last is None or node.gone:
                continue
            long = max(node.last, self.listening) + 3 * node.hb <= now
            if long or (node.will is not None and node.will <= now):
                node.gone, node.will = True, None
                silent.append(node)
        for _ in silent:
            self.decide(m.order, now, True, now)
        found = self.open
        if found is not None and found.good is not None and found.good + 60 * S <= now:
            self.emit("clear", m.order, found.end, {})
            self.open, self.over = None, found.end

    def decide(self, order: int, now: int, live: bool, time_ns: int, *, over: bool = False) -> None:
        """Decide after something changed."""
        spoken = sorted(self.spoken)
        behind = {s: self.story.stations[s][2] for s in spoken}
        window = max([10 * S, *(self.nodes[n].sample for n in behind.values())])
        slow = max([window, *(self.nodes[n].batch for n in behind.values())])
        gone = {n: node.last or 0 for n in behind.values() if (node := self.nodes[n]).gone}
        newest = max(gone.values(), default=0)
        silent = {n for n, last in gone.items() if last >= newest - slow and now - newest <= 7200 * S}
        if self.open is not None:
            silent |= self.open.nodes & gone.keys()
        reporting = [s for s in spoken if behind[s] in silent or behind[s] not in gone]
        causes: list[tuple[int, int, str, bool]] = []
        for s in reporting:
            station = self.stations[s]
            lows = [(e.onset, e.deepest, True) for e in station.evses.values() if e.seen != "fine"]
            if station.was is not None and now - station.was[2] <= max(60 * S, slow):
                lows.append((station.was[0], station.was[1], False))
            causes += [(t, s, "low_voltage", on) for t, d, on in lows if len(reporting) >= 3 or d == "all"]
            if station.loss is not None:
                causes.append((station.loss[0], s, "power_loss", True))
            if behind[s] in silent and len(silent) >= 3:
                causes.append((gone[behind[s]], s, "silent", True))
        causes = [c for c in causes if c[0] > self.over]
        need = len(reporting) if len(reporting) < 3 else max(3, math.ceil(0.6 * len(reporting) - 1e-9))
        need = max(need, 1)
        if self.open is None or (live and not self.open.live):
            self.gather(causes, window, slow, need, len(reporting), silent, order, live, time_ns)
        if self.open is None:
            return
        if len({s for _, s, _, on in causes if on}) >= need:
            self.open.good = None
        elif self.open.good is None:
            self.open.good, self.open.end = now, time_ns
        elif over:
            self.open.end = max(self.open.end, time_ns)

    def gather(
        self,
        causes: list[tuple[int, int, str, bool]],
        window: int,
        slow: int,
        need: int,
        reporting: int,
        silent: set[int],
        order: int,
        live: bool,
        time_ns: int,
    ) -> None:
        """Raise if enough stations were affected together."""
        rank = {"low_voltage": 0, "power_loss": 1, "silent": 2}
        for t0, _, why0, _ in sorted(causes, key=lambda c: (c[0], c[1], rank[c[2]], c[3])):
            near = slow if why0 == "silent" else window
            found = [
                c
                for c in causes
                if (c[2] == "silent" and abs(c[0] - t0) <= slow)
                or (c[2] != "silent" and 0 <= c[0] - t0 <= near)
            ]
            stations = {s for _, s, _, _ in found}
            if len(stations) < need:
                continue
            start = min(c[0] for c in found) if self.open is None else self.open.start
            self.open = _Open(start, live, set(silent))
            evidence: dict[str, Any] = {
                "stations": len(stations),
                "reporting": reporting,
                "window_s": window / S,
            }
            for why in rank:
                evidence[why] = len({s for _, s, w, _ in found if w == why})
            self.emit("raise", order, time_ns, evidence)
            return

    def emit(self, kind: str, order: int, time_ns: int, evidence: dict[str, Any]) -> None:
        """Note an emission."""
        assert self.open is not None
        self.out.append(
            Expected(
                order, "site_power_event", "site", self.site, kind, "critical", self.open.live,
                self.open.start, time_ns, evidence,
            )
        )  # fmt: skip

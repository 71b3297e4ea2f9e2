"""Whether enough stations of a site are affected at the same moment, for `site_power_event`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from models.detecting import CLEAR, CRITICAL, RAISE, DetectorSpec, Emission, Emissions, Observed
from models.devices import DeviceTable
from models.records import Birth, StationEvent
from models.units import NO_TIME

from ._nodes import NEVER
from ._site_nodes import Nodes
from ._site_supply import ALL

#: Seconds between samples and messages of nodes that declare none.
_UNDECLARED_NS: Final = 60_000_000_000

#: Who fell silent longer ago does not report any more.
_LATELY_NS: Final = 7_200_000_000_000

_EVEREST_15: Final = re.compile(r"MREC15(?!\d)")


def is_power_loss(taxonomy: str, code: str) -> bool:
    """Return whether a station's own code means that it lost its supply."""
    if taxonomy == "mrec":
        return re.fullmatch(r"CX0*15", code, re.IGNORECASE) is not None
    if taxonomy == "everest":
        return _EVEREST_15.search(code) is not None
    return taxonomy == "uec" and code == "GridPowerLoss"


class Rules(NamedTuple):
    """Limits of the vote; times in ns."""

    share: float
    least_stations: int
    least_silent: int
    window: int
    keep: int
    hold: int


class At(NamedTuple):
    """What is decided upon: place in the order of effect, journaled time, whether live, event time.

    `over`: a low voltage is over.
    """

    order: int
    effect_ns: int
    live: bool
    time_ns: int
    over: bool = False


@dataclass(slots=True)
class _Station:
    """What affects a station."""

    #: EVSE -> (onset, depth) while its voltage is low.
    low: dict[int, tuple[int, int]] = field(default_factory=dict)
    #: The newest low voltage that is over: onset, depth, journaled time at which that was known.
    was: tuple[int, int, int] | None = None
    loss_ns: int = NO_TIME  # since when it reports power loss
    loss_order: int = -1


@dataclass(slots=True)
class _Event:
    """What is raised of a site."""

    start_ns: int
    live: bool
    nodes: list[int]  # that were silent when it was raised
    good_ns: int = NEVER  # journaled time since when too few stations are affected
    end_ns: int = NO_TIME  # event time of the same


class _Cause(NamedTuple):
    """Why and since when a station is affected."""

    onset_ns: int
    station: int
    why: int  # index into the evidence: 2 voltage, 3 power loss, 4 silence
    now: bool  # it still is


class Sites:
    """Stations and events of one shard's sites."""

    def __init__(self, rules: Rules, nodes: Nodes, spec: DetectorSpec, state: dict[str, Any] | None) -> None:
        self.rules, self.nodes, self.spec = rules, nodes, spec
        self.due_ns = NEVER
        self._stations: dict[int, _Station] = {}
        self._events: dict[int, _Event] = {}
        self._over: dict[int, int] = {}  # site -> newest onset of its last event
        self._site_of = np.full(16, -1, np.int32)  # site of each station that said a word
        self._spoken = 0  # how many
        self._since: dict[int, int] = {}  # order of the first word of those that this batch is the first of
        if state is not None:
            self._load(state)

    def learn(self, seen: Observed) -> None:
        """Take in which stations a batch speaks of for the first time."""
        devices = seen.devices
        self._since = {}
        if self._spoken == devices.n_stations:
            return
        if devices.n_stations > len(self._site_of):
            more = max(devices.n_stations, 2 * len(self._site_of)) - len(self._site_of)
            self._site_of = np.concatenate([self._site_of, np.full(more, -1, np.int32)])
        stations = devices.evse_station[seen.rows.evse]
        at = np.flatnonzero(self._site_of[stations] < 0)
        earliest = np.full(devices.n_stations, NEVER, np.int64)
        np.minimum.at(earliest, stations[at], seen.rows.order[at])
        first = {station: int(earliest[station]) for station in np.unique(stations[at]).tolist()}
        for record in seen.records:
            station = -1 if isinstance(record, Birth) else getattr(record, "station_row", -1)
            if station >= 0:
                first[station] = min(record.at.order, first.get(station, record.at.order))
        for station, order in sorted(first.items()):
            if self._site_of[station] < 0:
                self._since[station] = order
                self._site_of[station] = devices.station_site[station]
                self._spoken += 1

    def supply(self, station: int, e: Emission) -> None:
        """Take in that an EVSE began or ceased to see a low voltage, or sees another depth."""
        own = self._stations.setdefault(station, _Station())
        if e.kind == CLEAR:
            onset, depth = own.low.pop(e.subject)
            own.was = (onset, depth, e.effect_ns)
        else:
            onset, depth = own.low.get(e.subject, (e.start_ns, 0))
            # of a deep dip that comes back in steps the depth that compares best stays
            own.low[e.subject] = (onset, ALL if ALL in {depth, e.severity} else e.severity)

    def power_loss(self, event: StationEvent) -> bool:
        """Take in a station's report; return whether it changes anything."""
        if not is_power_loss(event.taxonomy, event.code):
            return False
        own = self._stations.setdefault(event.station_row, _Station())
        if event.cleared:
            changed = own.loss_ns != NO_TIME
            own.loss_ns = NO_TIME
            return changed
        own.loss_order = event.at.order
        if own.loss_ns != NO_TIME:
            return False
        own.loss_ns = event.time_ns
        return True

    def power_back(self, station: int, order: int, time_ns: int) -> bool:
        """Take in a normal state; return whether it ends a reported power loss."""
        own = self._stations.get(station)
        if own is None or own.loss_ns == NO_TIME or own.loss_order >= order or own.loss_ns > time_ns:
            return False
        own.loss_ns = NO_TIME
        return True

    def decide(self, site: int, at: At, devices: DeviceTable, out: Emissions) -> None:
        """Decide about a site of which something changed."""
        now_ns, live = at.effect_ns, at.live
        spoken = np.flatnonzero(self._site_of == site).tolist()
        spoken = [s for s in spoken if self._since.get(s, -1) <= at.order]
        window, slow = self._windows(spoken, devices)
        event = self._events.get(site)
        silent = self._silent(spoken, event, now_ns, slow, devices)
        causes, reporting = self._causes(site, spoken, now_ns, slow, silent, devices)
        need = max(self.rules.least_stations, math.ceil(self.rules.share * reporting - 1e-9))
        need = max(1, min(need, reporting)) if reporting < self.rules.least_stations else need
        if event is None or (live and not event.live):
            found = _together(causes, window, slow, need)
            if found:
                start = min(c.onset_ns for c in found) if event is None else event.start_ns
                event = self._events[site] = _Event(start, live, sorted(silent))
                self._emit(site, RAISE, event, at, found, reporting, window, out)
        if event is None:
            return
        if len({c.station for c in causes if c.now}) >= need:
            event.good_ns = NEVER
        elif event.good_ns == NEVER:
            event.good_ns, event.end_ns = now_ns, at.time_ns
            self.due_ns = min(self.due_ns, now_ns + self.rules.hold)
        elif at.over:
            event.end_ns = max(event.end_ns, at.time_ns)

    def _windows(self, stations: list[int], devices: DeviceTable) -> tuple[int, int]:
        """Return the windows for voltages and reports, and for silence."""
        sample, batch = 0, 0
        for node in {devices.station_node[s] for s in stations}:
            _, sample_ns, batch_ns = self.nodes.declared(node)
            sample = max(sample, _UNDECLARED_NS if sample_ns == NO_TIME else sample_ns)
            batch = max(batch, _UNDECLARED_NS if batch_ns == NO_TIME else batch_ns)
        window = max(self.rules.window, sample)
        return window, max(window, batch)

    def _silent(
        self, stations: list[int], event: _Event | None, now_ns: int, slow: int, devices: DeviceTable
    ) -> set[int]:
        """Return the nodes that are silent and were not before: the last to fall silent, within two hours.

        While an event is open, those of its begin are among them for as long as they are silent.
        """
        rows = self.nodes.table.rows
        gone = {n for n in {devices.station_node[s] for s in stations} if self.nodes.gone(n)}
        newest = max((int(rows[n]["last_ns"]) for n in gone), default=NO_TIME)
        lately = {
            n for n in gone if int(rows[n]["last_ns"]) >= newest - slow and now_ns - newest <= _LATELY_NS
        }
        return lately | (gone & set(event.nodes) if event is not None else set())

    def _causes(
        self, site: int, stations: list[int], now_ns: int, slow: int, silent: set[int], devices: DeviceTable
    ) -> tuple[list[_Cause], int]:
        """Return what affects the stations of a site, and how many of them report."""
        rows, rules = self.nodes.table.rows, self.rules
        keep = max(rules.keep, slow)
        over = self._over.get(site, NO_TIME)
        reporting = [
            s
            for s in stations
            if devices.station_node[s] in silent or not self.nodes.gone(devices.station_node[s])
        ]
        few = len(reporting) < rules.least_stations
        causes: list[_Cause] = []
        for station in reporting:
            own = self._stations.get(station)
            if own is not None:
                lows = [(onset, depth, True) for onset, depth in own.low.values()]
                if own.was is not None and now_ns - own.was[2] <= keep:
                    lows.append((own.was[0], own.was[1], False))
                causes += [_Cause(t, station, 2, now) for t, depth, now in lows if not few or depth == ALL]
                if own.loss_ns != NO_TIME:
                    causes.append(_Cause(own.loss_ns, station, 3, True))
            node = devices.station_node[station]
            if node in silent and len(silent) >= rules.least_silent:
                causes.append(_Cause(int(rows[node]["last_ns"]), station, 4, True))
        return [c for c in causes if c.onset_ns > over], len(reporting)

    def clear_due(self, order: int, now_ns: int, out: Emissions) -> int:
        """Clear what is over for long enough; return the next deadline."""
        if now_ns >= self.due_ns:
            for site, event in list(self._events.items()):
                if event.good_ns != NEVER and event.good_ns + self.rules.hold <= now_ns:
                    self._emit(site, CLEAR, event, At(order, now_ns, True, event.end_ns), [], 0, 0, out)
                    del self._events[site]
                    self._over[site] = event.end_ns
            self.due_ns = min(
                (e.good_ns + self.rules.hold for e in self._events.values() if e.good_ns != NEVER),
                default=NEVER,
            )
        return self.due_ns

    def _emit(
        self,
        site: int,
        kind: int,
        event: _Event,
        at: At,
        found: list[_Cause],
        reporting: int,
        window: int,
        out: Emissions,
    ) -> None:
        evidence: dict[str, Any] = {}
        if found:
            names = self.spec.evidence
            evidence = {names[0]: len({c.station for c in found}), names[1]: reporting}
            for why in (2, 3, 4):
                evidence[names[why]] = len({c.station for c in found if c.why == why})
            evidence[names[5]] = window / 1e9
        out.add(
            self.spec,
            order=at.order,
            effect_ns=at.effect_ns,
            subject=site,
            kind=kind,
            severity=CRITICAL,
            start_ns=event.start_ns,
            time_ns=at.time_ns,
            live=event.live,
            score=len({c.station for c in found}) / reporting if found else 0.0,
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        return {
            "stations": [
                [
                    s,
                    [[evse, *low] for evse, low in own.low.items()],
                    None if own.was is None else list(own.was),
                    own.loss_ns,
                    own.loss_order,
                ]
                for s, own in self._stations.items()
            ],
            "events": [
                [s, e.start_ns, e.live, list(e.nodes), e.good_ns, e.end_ns] for s, e in self._events.items()
            ],
            "over": [[s, t] for s, t in self._over.items()],
            "site_of": self._site_of[: 1 + max(np.flatnonzero(self._site_of >= 0), default=-1)].copy(),
            "due_ns": self.due_ns,
        }

    def _load(self, state: dict[str, Any]) -> None:
        for station, low, was, loss_ns, loss_order in state["stations"]:
            own = _Station({evse: (onset, depth) for evse, onset, depth in low}, None, loss_ns, loss_order)
            own.was = None if was is None else (was[0], was[1], was[2])
            self._stations[station] = own
        self._events = {
            s: _Event(start, live, list(nodes), good, end)
            for s, start, live, nodes, good, end in state["events"]
        }
        self._over = dict(state["over"])
        self._site_of = state["site_of"].copy()
        self._spoken = int(np.count_nonzero(self._site_of >= 0))
        self.due_ns = state["due_ns"]

    def nbytes(self) -> int:
        """Return the bytes of state held (of affected stations an estimate)."""
        return 4 * self._spoken + 300 * len(self._stations)


def _together(causes: list[_Cause], window: int, slow: int, need: int) -> list[_Cause]:
    """Return the first causes of `need` stations that lie within the windows, none if there are none."""
    causes = sorted(causes)
    for first in causes:
        found = [
            c
            for c in causes
            if (c.why == 4 and abs(c.onset_ns - first.onset_ns) <= slow)
            or (c.why != 4 and 0 <= c.onset_ns - first.onset_ns <= (slow if first.why == 4 else window))
        ]
        if len({c.station for c in found}) >= need:
            return found
    return []

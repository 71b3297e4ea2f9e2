"""Most stations of a site lose their supply at the same moment.

A station is affected when one of its EVSEs sees a phase below 0.90 of nominal, when it reports power loss
(MREC CX015 in any spelling), or when its node falls silent: by will, or for three heartbeats, but silence
counts only from three nodes with connections of their own. The event is raised when at least 60 % of the
reporting stations of the site, at least 3 (all, if there are fewer), were affected within 10 s or one
sample period of each other, for silence within the longest time between two messages; a silence begins with
the last word. At a site of one or two nodes only voltages and reported power loss decide. Where fewer than
three stations report, a low voltage must be on all phases and a meter that shows nothing at all (below 5 %,
behind an open contactor) says nothing, since there is nobody to compare with.

Stations report from their first word until their node falls silent. What was over again before the others'
word of it came in still counts for `keep_s`, and longer where messages come more rarely. It clears 60 s
after fewer stations than that are affected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.batch import MessageColumns, ReadingBatch
from models.detecting import (
    CLEAR,
    DetectorSpec,
    Emission,
    Emissions,
    Observed,
    timeline,
)
from models.devices import DeviceTable
from models.records import Birth, StationEvent, Status

from ._base import GRID_CHANNELS, Table, check_version, ns, require, slots
from ._site_nodes import DUE, Heard, Nodes, Waits, walk_kernel
from ._site_quorum import At, Rules, Sites
from ._site_supply import FIELDS, Limits, low_kernel
from ._voltage import inventory

SPEC = DetectorSpec(
    "site_power_event",
    "site",
    "rule",
    GRID_CHANNELS,
    ("stations", "reporting", "low_voltage", "power_loss", "silent", "window_s"),
)

VERSION: Final = 2

_NOT_NORMAL: Final = frozenset({"Faulted", "Unavailable"})


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `site_power_event`.

    Attributes
    ----------
    low_pu : float
        Voltage below this share of nominal is low. Unit: 1 (per unit). Default 0.90. Source: EN 50160, dip
        threshold; CONVENTIONS.
    share : float
        Share of the reporting stations that must be affected. Unit: 1. Default 0.6. Source: CONVENTIONS.
    least_stations : int
        At least this many, or all where there are fewer. Unit: stations. Default 3. Source: CONVENTIONS.
    least_silent_nodes : int
        Silence counts from this many nodes on. Unit: nodes. Default 3. Source: CONVENTIONS; fewer may share
        one router or modem.
    window_s : float
        Longest time between the first and the last to be affected; one sample period where that is longer.
        Unit: s. Default 10. Source: CONVENTIONS.
    keep_s : float
        What was over before the others' word came still counts for this long. Unit: s. Default 60. Source:
        usual time between two messages.
    hold_s : float
        Clear after this long. Unit: s. Default 60. Source: CONVENTIONS, clear.
    periods : float
        Silent heartbeat periods that make a node silent. Unit: periods. Default 3. Source: CONVENTIONS,
        offline.
    will_grace_s : float
        A will followed by a word within this time is a reconnect. Unit: s. Default 5. Source: as in
        `offline`.
    undeclared_hb_s : float
        Heartbeat period of nodes that declare none. Unit: s. Default 1800. Source: as in `offline`.
    listen_gap_s : float
        A longer stretch without any journal entry means that we did not listen. Unit: s. Default 30. Source:
        ticks are journaled each second.
    unpowered_pu : float
        All phases below this share of nominal: the meter shows nothing. Unit: 1 (per unit). Default 0.05.
        Source: EN 50160, interruption below 5 %.
    undeclared_v : float
        Nominal voltage taken for EVSEs without inventory. Unit: V. Default 208. Source: as in
        `under_voltage`.
    undeclared_floor_v : float
        Lower voltages say nothing of EVSEs without inventory. Unit: V. Default 150. Source: as in
        `under_voltage`.
    live_max_age_s : float
        A report older than this at arrival is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    low_pu: float = 0.90
    share: float = 0.6
    least_stations: int = 3
    least_silent_nodes: int = 3
    window_s: float = 10.0
    keep_s: float = 60.0
    hold_s: float = 60.0
    periods: float = 3.0
    will_grace_s: float = 5.0
    undeclared_hb_s: float = 1800.0
    listen_gap_s: float = 30.0
    unpowered_pu: float = 0.05
    undeclared_v: float = 208.0
    undeclared_floor_v: float = 150.0
    live_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            low_pu=(0.1, 1.0),
            share=(0.01, 1.0),
            least_stations=(1, 1000),
            least_silent_nodes=(1, 1000),
            window_s=(0.0, 3600.0),
            keep_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            periods=(1.0, 100.0),
            will_grace_s=(0.0, 3600.0),
            undeclared_hb_s=(1.0, 86_400.0),
            listen_gap_s=(2.0, 3600.0),
            unpowered_pu=(0.0, 0.5),
            undeclared_v=(50.0, 1000.0),
            undeclared_floor_v=(0.0, 1000.0),
            live_max_age_s=(1.0, 86_400.0),
        )


_Event = Emission | Birth | StationEvent | Status


class Detector:
    """The detector behind `site_power_event`: one walk over rows, records and messages in order of effect."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._limits = Limits(
            float(config.low_pu),
            float(config.unpowered_pu),
            float(config.undeclared_v),
            float(config.undeclared_floor_v),
        )
        self._live_max_age_ns = ns(config.live_max_age_s)
        waits = Waits(
            float(config.periods),
            ns(config.undeclared_hb_s),
            ns(config.will_grace_s),
            ns(config.listen_gap_s),
        )
        rules = Rules(
            float(config.share),
            int(config.least_stations),
            int(config.least_silent_nodes),
            ns(config.window_s),
            ns(config.keep_s),
            ns(config.hold_s),
        )
        state = resume_state
        if state is not None:
            check_version(SPEC, VERSION, state)
        self._evses = Table(FIELDS, {})
        self._nodes = Nodes(waits, state)
        self._sites = Sites(rules, self._nodes, SPEC, state)
        self._found = Emissions()
        if state is not None:
            self._evses.load(state["evses"], SPEC.code)
        # compiled (or read from the cache) here, not at the first message of a live stream
        none = Observed(DeviceTable(), ReadingBatch.empty(0, GRID_CHANNELS[:1]), MessageColumns.empty(), [])
        self._low(none)
        self._walk(none, 0, 0)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._evses.reserve(seen.devices.n_evses)
        self._nodes.reserve(seen.devices.n_nodes)
        self._sites.learn(seen)
        self._low(seen)
        events: list[tuple[int, int, Any]] = [(e.order, 0, e) for e in self._found.drain()]
        events += [(r.at.order, 1, r) for r in seen.records if isinstance(r, Birth | StationEvent | Status)]
        events.sort(key=lambda event: event[:2])
        at = 0
        for order, _, event in events:
            at = self._advance(seen, at, int(np.searchsorted(seen.messages.order, order)), out)
            self._event(event, seen.devices, out)
        self._advance(seen, at, len(seen.messages), out)

    def _low(self, seen: Observed) -> None:
        """Find where EVSEs begin and cease to see a low supply."""
        rows, at = seen.rows, 0
        if not any(rows.has(channel) for channel in GRID_CHANNELS):
            return
        while True:
            at = int(
                low_kernel(
                    at,
                    timeline(rows),
                    np.ascontiguousarray(rows.values),
                    slots(rows, GRID_CHANNELS),
                    inventory(seen.devices),
                    self._evses.rows,
                    self._limits,
                    self._found.arrays,
                )
            )
            if at >= len(rows):
                break
            self._found.grow()
        self._found.collect(SPEC)

    def _event(self, event: _Event, devices: DeviceTable, out: Emissions) -> None:
        sites = self._sites
        if isinstance(event, Emission):
            station = int(devices.evse_station[event.subject])
            sites.supply(station, event)
            at = At(event.order, event.effect_ns, event.live, event.time_ns, event.kind == CLEAR)
            sites.decide(devices.station_site[station], at, devices, out)
            return
        order, now_ns = event.at.order, event.at.effect_ns
        if isinstance(event, Birth):
            if self._nodes.birth(event):
                self._of_node(event.at.node_row, order, now_ns, devices, out)
            return
        live = event.at.live and event.at.recv_ns - event.time_ns <= self._live_max_age_ns
        if isinstance(event, StationEvent):
            changed = sites.power_loss(event)
        else:
            normal = (event.status16 or event.status) not in _NOT_NORMAL
            changed = normal and sites.power_back(event.station_row, order, event.time_ns)
        if changed:
            at = At(order, now_ns, live, event.time_ns)
            sites.decide(devices.station_site[event.station_row], at, devices, out)

    def _of_node(self, node: int, order: int, now_ns: int, devices: DeviceTable, out: Emissions) -> None:
        """Decide about the site of a node that fell silent or is back."""
        self._sites.decide(int(devices.node_site[node]), At(order, now_ns, True, now_ns), devices, out)

    def _advance(self, seen: Observed, at: int, stop: int, out: Emissions) -> int:
        while at < stop:
            at = self._walk(seen, at, stop)
            if at >= stop:
                break
            order, now_ns = int(seen.messages.order[at]), int(seen.messages.effect_ns[at])
            node = int(seen.messages.node[at])
            if node >= 0 and self._nodes.word(node):
                self._of_node(node, order, now_ns, seen.devices, out)
            for silent in self._nodes.overdue(now_ns):
                self._of_node(silent, order, now_ns, seen.devices, out)
            self._sites.clear_due(order, now_ns, out)
            at += 1
        return stop

    def _walk(self, seen: Observed, at: int, stop: int) -> int:
        messages = seen.messages
        clock = self._nodes.clock
        clock[DUE] = min(int(clock[DUE]), self._sites.due_ns)
        heard = Heard(messages.node, messages.kind, messages.effect_ns)
        nodes = self._nodes
        return int(walk_kernel(at, stop, heard, nodes.table.rows, nodes.periods.values, clock, nodes.waits))

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {
            "code": SPEC.code,
            "version": VERSION,
            "evses": self._evses.columns(),
            **self._nodes.snapshot(),
            **self._sites.snapshot(),
        }

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return self._evses.nbytes + self._nodes.nbytes + self._sites.nbytes()


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)

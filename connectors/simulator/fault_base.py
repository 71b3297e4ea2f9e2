"""What every fault is: where it may sit, how strong it is, and the hooks in which it acts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np

from models.errors import ConfigError

from .messages import Truth
from .plant import Plant
from .sampling import Sample
from .sessions import Sessions
from .topology import Index, Target, Topology
from .transport import Transport
from .wire import Wire

SEVERITIES: Final = ("clear", "moderate", "subtle")


@dataclass(slots=True)
class Parts:
    """The fleet's parts that faults may touch."""

    topology: Topology
    plant: Plant
    sessions: Sessions
    wire: Wire
    transport: Transport
    cadence: Index  # per EVSE: only every n-th sample is taken
    rng: random.Random


class Fault:
    """One injected fault. A subclass is one finding code.

    Attributes
    ----------
    code : str
        Finding code.
    scope : str
        Subject of its truth record: evse, station, node or site. A fault of an EVSE that is aimed at
        more takes the first EVSE it fits.
    kind : str
        ``ac`` or ``dc`` where only such EVSEs can have it.
    load, idle : bool
        It shows only while a car charges (a test load is plugged in for its time), or only without one.
    charging : bool
        It shows only while a car charges, and waits for the cars that come: its truth begins with the first
        current that flows, and a fault that no current met was never there to be seen.
    levels : tuple of float
        Its strength for clear, moderate and subtle, in the unit that the subclass names.
    """

    code: ClassVar[str] = ""
    scope: ClassVar[Literal["evse", "station", "node", "site"]] = "evse"
    kind: ClassVar[Literal["", "ac", "dc"]] = ""
    load: ClassVar[bool] = False
    idle: ClassVar[bool] = False
    charging: ClassVar[bool] = False
    levels: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)

    def __init__(self, parts: Parts, target: Target, at_ms: int, until_ms: int, severity: str) -> None:
        if severity not in SEVERITIES:
            raise ConfigError(
                f"simulator: {self.code}: severity {severity!r}, expected one of {', '.join(SEVERITIES)}"
            )
        if until_ms <= at_ms:
            raise ConfigError(f"simulator: {self.code}: ends at {until_ms}, not after its begin {at_ms}")
        self.parts = parts
        self.at_ms, self.until_ms = at_ms, until_ms
        self.severity = severity
        self.level = self.levels[SEVERITIES.index(severity)]
        self.site = target.site
        self.node, self.station, self.evses = self._narrow(target)
        self.nodes = target.nodes if self.scope == "site" else (self.node,)
        self.truth = self._truth()
        self.seen = not self.charging

    @property
    def evse(self) -> int:
        """The EVSE row of a fault of one EVSE."""
        return int(self.evses[0])

    def _narrow(self, target: Target) -> tuple[int, int, Index]:
        topology, plant = self.parts.topology, self.parts.plant
        evses = target.evses
        if self.kind:
            evses = evses[plant.dc[evses] == (self.kind == "dc")]
        if not len(evses):
            raise ConfigError(f"simulator: {self.code} is a fault of {self.kind} EVSEs, the target has none")
        station = int(topology.evse_station[evses[0]])
        node = topology.station_node[station]
        if self.scope == "evse":
            return node, station, evses[:1]
        if self.scope == "station":
            return node, station, np.array(topology.station_evses[station], np.intp)
        if self.scope == "node":
            rows = [e for s in topology.node_stations[node] for e in topology.station_evses[s]]
            return node, -1 if topology.nodes[node].gateway else station, np.array(rows, np.intp)
        return -1, -1, np.flatnonzero(topology.evse_site == self.site)

    def _truth(self) -> Truth:
        topology = self.parts.topology
        return Truth(
            self.code,
            topology.sites[self.site].site,
            topology.nodes[self.node].node if self.node >= 0 else None,
            topology.stations[self.station].station if self.station >= 0 else None,
            topology.evse_number[self.evse] if self.scope == "evse" else None,
            self.at_ms,
            self.until_ms,
            self.severity,
        )

    def begin(self, now_ms: int) -> None:
        """Break it."""
        sessions = self.parts.sessions
        for evse in self.evses.tolist():
            if self.load:
                sessions.hold(evse, now_ms)
            elif self.idle:
                sessions.block(evse, now_ms)
        self.on_begin(now_ms)

    def finish(self, now_ms: int) -> None:
        """Mend it."""
        self.on_end(now_ms)
        sessions = self.parts.sessions
        for evse in self.evses.tolist():
            if self.load:
                sessions.let_go(evse, now_ms)
            elif self.idle:
                sessions.unblock(evse, now_ms)

    def on_begin(self, now_ms: int) -> None:
        """Act once, at the first tick."""

    def on_end(self, now_ms: int) -> None:
        """Act once, at the end."""

    def step(self, now_ms: int) -> None:
        """Act at every tick between, before the physics."""

    def measure(self, sample: Sample) -> None:
        """Change what the meters show."""

    def watch(self, now_ms: int) -> None:
        """Note after the physics of a tick whether the fault can be seen by now."""
        if not self.seen and bool((self.parts.plant.set_a[self.evses] > 0).any()):
            self.seen, self.truth.start = True, now_ms

    def report(self, now_ms: int, code: str, taxonomy: str, **fields: Any) -> None:
        """Let the station report an event for the fault's EVSE or station."""
        parts = self.parts
        evse = self.evse if self.scope == "evse" else -1
        station = self.station if self.station >= 0 else int(parts.topology.evse_station[self.evses[0]])
        parts.wire.event(station, evse, now_ms, code=code, taxonomy=taxonomy, **fields)


class Repeating(Fault):
    """A fault that comes and goes: `pulse` seconds bad out of every `period_s`."""

    period_s: ClassVar[float] = 120.0

    def pulse_s(self) -> float:
        """Return how long one occurrence lasts, s."""
        return 5.0

    def bad(self, now_ms: int) -> bool:
        """Return whether an occurrence is on, and note it in the truth."""
        since = now_ms - self.at_ms
        on = since % (self.period_s * 1000) < self.pulse_s() * 1000
        if on:
            start = self.at_ms + int(since // (self.period_s * 1000) * self.period_s * 1000)
            end = start + int(self.pulse_s() * 1000)
            if not self.truth.episodes or self.truth.episodes[-1][0] != start:
                self.truth.episodes.append([start, end])
        return bool(on)

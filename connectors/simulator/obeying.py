"""Commands take effect on a simulated fleet: its stations answer, charge, stop, keep limits, boot and update.

Each station of the fleet gets an `Obedient` that decides what to answer and when; what it does is done to the
fleet's sessions, loads and connections, so that it shows in all that the fleet reports.
"""

from __future__ import annotations

import json
import logging
import math
import random
from typing import Any

from .fleet import Fleet
from .manners import Manners
from .obey import Obedient, Said

log = logging.getLogger(__name__)


class Obeying:
    """The stations of a fleet as takers of commands.

    Parameters
    ----------
    fleet : Fleet
    manners : Manners
        Shares of misbehaviour; which station has which is drawn by `seed`.
    seed : int
    """

    def __init__(self, fleet: Fleet, manners: Manners, seed: int) -> None:
        self._fleet = fleet
        self._second = 0
        rng = random.Random(f"manners {seed}")
        self.stations: dict[tuple[str, str], FleetStation] = {}
        topology = fleet.topology
        for row, station in enumerate(topology.stations):
            node = topology.station_node[row]
            site = topology.sites[topology.node_site[node]].site
            own = manners.of(rng)
            one = FleetStation(fleet, row, station.station, own, random.Random(rng.random()))
            self.stations[site, station.station] = one

    def receive(self, topic: str, payload: bytes, now_ms: int) -> None:
        """Take a message of ``evt/v1/<site>/<node>/dn/cmd``; what is none is logged and forgotten."""
        try:
            command = json.loads(payload)
            _, _, site, node, *_ = topic.split("/")
            one = self.stations.get((site, command.get("st") or node))
            if one is not None:
                one.receive(command, now_ms)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            log.warning("no command on %s: %r", topic, error)

    def step(self, now_ms: int) -> None:
        """Let happen what is due; limits run out by the second."""
        second = now_ms // 1000 != self._second
        self._second = now_ms // 1000
        for one in self.stations.values():
            one.idle(now_ms)
            if second and one.profiles:
                one.hold(now_ms)
            due = one.next_ms()
            if due is not None and due <= now_ms:
                for said in one.step(now_ms):
                    one.do(said, now_ms)


class FleetStation(Obedient):
    """One station of a fleet."""

    def __init__(self, fleet: Fleet, row: int, station: str, manners: Manners, rng: random.Random) -> None:
        self._fleet, self._row = fleet, row
        topology = fleet.topology
        self._node = topology.station_node[row]
        self._evses = list(topology.station_evses[row])
        self._behind = topology.nodes[self._node].gateway
        super().__init__(station, topology.nodes[self._node].fw, manners, rng)

    def clock_ms(self, now_ms: int) -> int:
        """Return what the clock of the station's node says."""
        return self._fleet.wire.local_ms(self._node, now_ms)

    @property
    def running(self) -> str | None:
        """The first transaction that runs."""
        sessions = self._fleet.sessions
        return next((tx for tx in map(sessions.transaction, self._evses) if tx), None)

    @running.setter
    def running(self, tx_id: str | None) -> None:
        """The fleet's sessions say what runs."""

    def start(self, tx_id: str, now_ms: int) -> None:
        """Let a car charge at the first free EVSE."""
        for evse in self._evses:
            if self._fleet.sessions.begin(evse, now_ms):
                return

    def stop(self, now_ms: int) -> None:
        """End what runs."""
        for evse in self._evses:
            self._fleet.sessions.stop(evse, now_ms)

    def transaction(self, evse: int) -> str | None:
        """Return the transaction that runs at an EVSE; 0: the first of the station."""
        rows = [row for row in self._evses if self._fleet.topology.evse_number[row] == evse]
        return (self._fleet.sessions.transaction(rows[0]) or None) if rows else self.running

    def hold(self, now_ms: int) -> None:
        """Keep every EVSE within what its profiles allow now."""
        fleet = self._fleet
        for row in self._evses:
            limit = self.limit_a(now_ms, fleet.topology.evse_number[row])
            own = math.inf if limit is None else limit
            if own != fleet.loads.own_a[row]:
                fleet.loads.own_a[row] = own
                fleet.loads.again()

    def _carry_out(self, action: str, body: dict[str, Any], now_ms: int) -> dict[str, Any]:
        answer = super()._carry_out(action, body, now_ms)
        fleet = self._fleet
        if action == "ChangeAvailability":
            for evse in self._evses:
                if self.available:
                    fleet.sessions.unblock(evse, now_ms)
                elif not fleet.sessions.transaction(evse):
                    fleet.sessions.block(evse, now_ms)
                    fleet.wire.status(evse, now_ms, "Unavailable", "Unavailable")
        if action in ("SetChargingProfile", "ClearChargingProfile"):
            self.hold(now_ms)
        return answer

    def do(self, said: Said, now_ms: int) -> None:
        """Let the fleet say it."""
        wire, node = self._fleet.wire, self._node
        if said.kind in ("cmdres", "fw"):
            wire.tell(node, now_ms, said.kind, {"t": wire.local_ms(node, now_ms)} | said.body)
        elif said.kind == "conn" and self._behind:
            wire.station_link(self._row, now_ms, online=self.online, reason="" if self.online else "reboot")
        elif said.kind == "conn" and not self.online:
            wire.send_will(node, now_ms)
            self._fleet.transport.block(node)
        elif said.kind == "conn":
            wire.fw[node] = self.fw
            self._fleet.transport.unblock(node, now_ms)
            wire.reboot(node, now_ms)

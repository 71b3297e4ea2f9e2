"""Names to row numbers: which EVSE belongs to which station, node and site."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError

from .config import FleetConfig, NodeConfig, SiteConfig, StationConfig

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a fault sits: rows, -1 where the target is wider than that level."""

    site: int
    node: int
    station: int
    evse: int  # EVSE row, -1 = all EVSEs in `evses`
    evses: Index
    nodes: tuple[int, ...]


class Topology:
    """Rows of sites, nodes, stations and EVSEs in the order of the configuration.

    Attributes
    ----------
    evse_station, evse_node, evse_site, evse_id : ndarray, shape (n_evses,), int
    station_node, node_site : list of int
    """

    def __init__(self, config: FleetConfig, rng: random.Random) -> None:
        self.sites: list[SiteConfig] = list(config.sites)
        self.nodes: list[NodeConfig] = []
        self.stations: list[StationConfig] = []
        self.node_site: list[int] = []
        self.station_node: list[int] = []
        self.node_stations: list[list[int]] = []
        self.station_evses: list[list[int]] = []
        evse_station: list[int] = []
        self.evse_number: list[int] = []
        for site_row, site in enumerate(self.sites):
            for node in site.nodes:
                node_row = len(self.nodes)
                self.nodes.append(node)
                self.node_site.append(site_row)
                self.node_stations.append([])
                for station in node.stations:
                    row = len(self.stations)
                    self.stations.append(station)
                    self.station_node.append(node_row)
                    self.node_stations[node_row].append(row)
                    first = len(evse_station)
                    self.station_evses.append(list(range(first, first + station.evses)))
                    evse_station.extend([row] * station.evses)
                    self.evse_number.extend(range(1, station.evses + 1))
        self.evse_station: Index = np.array(evse_station, np.intp)
        self.evse_node: Index = np.array(self.station_node, np.intp)[self.evse_station]
        self.evse_site: Index = np.array(self.node_site, np.intp)[self.evse_node]
        self.meter_serial = [f"EM{rng.randrange(10**7, 10**8)}" for _ in evse_station]
        self.node_serial = [f"SN{rng.randrange(10**7, 10**8)}" for _ in self.nodes]
        self._by_name = self._names()

    @property
    def n_evses(self) -> int:
        """Number of EVSEs."""
        return len(self.evse_number)

    def _names(self) -> dict[str, Target]:
        table: dict[str, Target] = {}
        for row, site in enumerate(self.sites):
            nodes = (
                tuple(n for n, s in enumerate(self.node_site) if s == row) if len(self.sites) < 500 else ()
            )
            table[site.site] = Target(row, -1, -1, -1, np.flatnonzero(self.evse_site == row), nodes)
        for row, node in enumerate(self.nodes):
            evses = [e for s in self.node_stations[row] for e in self.station_evses[s]]
            table[node.node] = Target(self.node_site[row], row, -1, -1, np.array(evses, np.intp), (row,))
        for row, station in enumerate(self.stations):
            node_row = self.station_node[row]
            table[station.station] = Target(
                self.node_site[node_row],
                node_row,
                row,
                -1,
                np.array(self.station_evses[row], np.intp),
                (node_row,),
            )
        return table

    def target(self, text: str) -> Target:
        """Return what ``STATION``, ``STATION/EVSE``, a node or a site names.

        Raises
        ------
        ConfigError
            If nothing in the fleet has that name.
        """
        name, _, evse = text.partition("/")
        found = self._by_name.get(name)
        if found is None:
            some = ", ".join(station.station for station in self.stations[:8])
            raise ConfigError(
                f"simulator: target {text!r}: no station, node or site {name!r}; there are {some}, …"
            )
        if not evse:
            return found
        rows = self.station_evses[found.station] if found.station >= 0 else []
        if not evse.isdecimal() or not 1 <= int(evse) <= len(rows):
            raise ConfigError(f"simulator: target {text!r}: {name} has EVSEs 1 to {len(rows)}")
        row = rows[int(evse) - 1]
        return Target(found.site, found.node, found.station, row, np.array([row], np.intp), found.nodes)

    def declared(self, evse: int, *, with_station: bool) -> dict[str, Any]:
        """Return the inventory of an EVSE as births and link messages declare it."""
        station = self.stations[self.evse_station[evse]]
        meter: dict[str, Any] = {
            "serial": self.meter_serial[evse],
            "resolution_wh": plain(station.resolution_wh),
        }
        if station.modulus_wh:
            meter["modulus_wh"] = plain(station.modulus_wh)
        out: dict[str, Any] = {"st": station.station} if with_station else {}
        out |= {
            "evse": self.evse_number[evse],
            "u_n_v": 230,
            "phases": station.phases,
            "p_max_w": plain(station.evse_w),
        }
        if station.dc:
            out["dc"] = True
        out["meter"] = meter
        out["conns"] = [{"conn": 1, "type": station.connector_type, "max_a": plain(station.max_a)}]
        return out


def plain(value: float) -> float | int:
    """Return a whole number as int, so that JSON shows 32, not 32.0."""
    return int(value) if value == int(value) else value

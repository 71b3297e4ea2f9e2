"""Where a finding is: names, surroundings and identity of its subject, and the order of emissions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from .batch import ReadingBatch
from .detecting import SCOPES, Emission, Observed, Scope
from .devices import DeviceTable
from .faults import FAULTS, PARENTS
from .records import Birth, Record

#: Site, node, station and EVSE, None below the scope.
Names = tuple[str, str | None, str | None, int | None]


class Subjects:
    """What emissions are about.

    A node is a stand-alone station from the moment in the order of effect at which a station of its name
    was first spoken of. The device table may know that name earlier, from a message that still waits.

    Parameters
    ----------
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"stations": 0, "waiting": []}
        self.devices = DeviceTable()
        self._stations: int = state["stations"]
        self._waiting: set[int] = set(state["waiting"])  # stations in the table, not spoken of yet
        self._since: dict[int, int] = {}  # stations first spoken of in this batch -> order

    def learn(self, seen: Observed) -> None:
        """Take in which stations a batch speaks of."""
        devices = self.devices = seen.devices
        self._since = {}
        self._waiting.update(range(self._stations, devices.n_stations))
        self._stations = devices.n_stations
        if not self._waiting:
            return
        for station, order in _spoken_of(seen.rows, seen.records, devices):
            if station in self._waiting:
                self._since[station] = min(order, self._since.get(station, order))
        self._waiting -= self._since.keys()

    def key(self, e: Emission) -> tuple[Scope, int]:
        """Return scope and subject row: what is said of a stand-alone station is said of its node."""
        if e.scope == "station" and "node" in FAULTS[e.code].scopes:
            node = self.devices.station_node[e.subject]
            if self.devices.nodes[node] == self.devices.stations[e.subject]:
                return "node", node
        return e.scope, e.subject

    def sort_key(self, e: Emission) -> tuple[Any, ...]:
        """Order of emissions: by effect; within one moment parents before children, wide scopes first.

        Then by names: in which order rows came into being depends on how messages were batched.
        """
        width = -SCOPES.index(e.scope)
        depth = 0 if e.code not in PARENTS else 1
        site, node, station, evse = self.names_of(e)[1]
        what = (e.code, site, node or "", station or "", evse or 0, e.source, e.taxonomy or "")
        return (e.order, e.effect_ns, depth, width, *what, e.time_ns, e.kind)

    def names_of(self, e: Emission) -> tuple[str, Names]:
        """Return the published scope and (site, node, station, EVSE) of an emission's subject.

        A stand-alone station's own findings have scope node, with its name as station, where the code
        knows nodes.
        """
        devices = self.devices
        scope, row = self.key(e)
        if scope == "site":
            return "site", (devices.sites[row], None, None, None)
        if scope == "node":
            name = devices.nodes[row]
            site = devices.sites[int(devices.node_site[row])]
            alone = e.scope == "station" or self._spoken(devices.find_station(site, name), e.order)
            return "node", (site, name, name if alone else None, None)
        station = int(devices.evse_station[row]) if scope == "evse" else row
        node = devices.nodes[devices.station_node[station]]
        site, name = devices.sites[devices.station_site[station]], devices.stations[station]
        return scope, (site, node, name, int(devices.evse_id[row]) if scope == "evse" else None)

    def _spoken(self, station: int, order: int) -> bool:
        return station >= 0 and station not in self._waiting and self._since.get(station, order) <= order

    def snapshot(self) -> dict[str, Any]:
        """Return plain data, copied."""
        return {"stations": self._stations, "waiting": sorted(self._waiting)}


def _spoken_of(rows: ReadingBatch, records: list[Record], devices: DeviceTable) -> Iterator[tuple[int, int]]:
    """Yield (station row, order) of everything that names a station, at least its first time."""
    by_order = np.argsort(rows.order, kind="stable")
    stations, first = np.unique(devices.evse_station[rows.evse[by_order]], return_index=True)
    yield from zip(stations.tolist(), rows.order[by_order[first]].tolist(), strict=True)
    for record in records:
        if isinstance(record, Birth):
            site = devices.sites[int(devices.node_site[record.at.node_row])]
            node = devices.nodes[record.at.node_row]
            for item in record.evses:
                yield devices.find_station(site, item.st or node), record.at.order
        else:
            yield getattr(record, "station_row", -1), record.at.order


def around(scope: str, subject: int, devices: DeviceTable) -> Iterator[tuple[Scope, int]]:
    """Yield the subject itself and what lies around it: its station, node and site."""
    station = node = -1
    if scope == "evse":
        yield "evse", subject
        station = int(devices.evse_station[subject])
    elif scope == "station":
        station = subject
    if station >= 0:
        yield "station", station
        node = devices.station_node[station]
    elif scope == "node":
        node = subject
    if node >= 0:
        yield "node", node
    yield "site", int(devices.node_site[node]) if node >= 0 else subject


def identity(names: Names, code: str, start_ms: int) -> str:
    """Return uuid5 of "site/node-or-station/evse/code/start"; what a scope has not is empty."""
    site, node, station, evse = names
    where = f"{site}/{station or node or ''}/{'' if evse is None else evse}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{where}/{code}/{start_ms}"))

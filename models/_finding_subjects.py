"""Where a finding is: names, surroundings and identity of its subject, and the order of emissions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from .detecting import SCOPES, Emission, Scope
from .devices import DeviceTable
from .faults import FAULTS, PARENTS

#: Site, node, station and EVSE, None below the scope.
Names = tuple[str, str | None, str | None, int | None]


def sort_key(e: Emission, devices: DeviceTable) -> tuple[Any, ...]:
    """Order of emissions: by effect; within one moment parents before children, wide scopes first.

    Then by names: in which order rows came into being depends on how messages were batched.
    """
    width = -SCOPES.index(e.scope)
    depth = 0 if e.code not in PARENTS else 1
    site, node, station, evse = names_of(e, devices)[1]
    what = (e.code, site, node or "", station or "", evse or 0, e.source, e.taxonomy or "")
    return (e.order, e.effect_ns, depth, width, *what, e.time_ns, e.kind)


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


def names_of(e: Emission, devices: DeviceTable) -> tuple[str, Names]:
    """Return the published scope and (site, node, station, EVSE) of an emission's subject.

    A stand-alone station's own findings have scope node, with its name as station, where the code knows
    nodes.
    """
    if e.scope == "site":
        return "site", (devices.sites[e.subject], None, None, None)
    if e.scope == "node":
        name = devices.nodes[e.subject]
        site = devices.sites[int(devices.node_site[e.subject])]
        alone = devices.find_station(site, name) >= 0
        return "node", (site, name, name if alone else None, None)
    station = int(devices.evse_station[e.subject]) if e.scope == "evse" else e.subject
    node = devices.nodes[devices.station_node[station]]
    site, name = devices.sites[devices.station_site[station]], devices.stations[station]
    if e.scope == "evse":
        return "evse", (site, node, name, int(devices.evse_id[e.subject]))
    alone = name == node and "node" in FAULTS[e.code].scopes
    return "node" if alone else "station", (site, node, name, None)


def identity(names: Names, code: str, start_ms: int) -> str:
    """Return uuid5 of "site/node-or-station/evse/code/start"; what a scope has not is empty."""
    site, node, station, evse = names
    where = f"{site}/{station or node or ''}/{'' if evse is None else evse}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{where}/{code}/{start_ms}"))

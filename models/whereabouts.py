"""Where stations are: behind which node, online or not, in which boot, and spoken to in which dialect.

Fed record by record, so that what it knows depends on nothing but the order of effect.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .devices import DeviceTable
from .errors import SnapshotError
from .records import Birth, Link

VERSION: Final = 1
UNKNOWN, OFFLINE, ONLINE = -1, 0, 1


class Speech(NamedTuple):
    """How a node was heard: dialect, topic of its birth, protocol it named."""

    dialect: str
    topic: str
    proto: str


class Whereabouts:
    """Nodes and stations of one shard; grows with the device table."""

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(
                f"whereabouts have version {state['version']!r}, this program reads {VERSION}"
            )
        self._node_online: NDArray[np.int8] = np.array(state.get("node_online", []), np.int8)
        self._node_boot: NDArray[np.int64] = np.array(state.get("node_boot", []), np.int64)
        self._node_cid: NDArray[np.int64] = np.array(state.get("node_cid", []), np.int64)
        self._linked: NDArray[np.int8] = np.array(state.get("linked", []), np.int8)
        self._heard: NDArray[np.int8] = np.array(state.get("heard", []), np.int8)
        self._speech = {int(row): Speech(*how) for row, how in state.get("speech", {}).items()}
        self._behind: dict[int, list[int]] = {}
        self._indexed = 0
        self.devices = DeviceTable()

    def use(self, devices: DeviceTable) -> None:
        """Go on with `devices`, the same table grown."""
        self.devices = devices
        for name, n, fill in (
            ("_node_online", devices.n_nodes, UNKNOWN),
            ("_node_boot", devices.n_nodes, -1),
            ("_node_cid", devices.n_nodes, -1),
            ("_linked", devices.n_stations, UNKNOWN),
            ("_heard", devices.n_stations, 0),
        ):
            column = getattr(self, name)
            if n > len(column):
                more = max(n, 2 * len(column)) - len(column)
                setattr(self, name, np.concatenate([column, np.full(more, fill, column.dtype)]))
        for row in range(self._indexed, devices.n_stations):
            self._behind.setdefault(devices.station_node[row], []).append(row)
        self._indexed = devices.n_stations

    def birth(self, record: Birth, speech: Speech | None) -> tuple[list[int], bool] | None:
        """Take in a birth or will; return the stations behind the node, and whether it booted anew.

        None: a will older than the last birth, which says nothing.
        """
        node = record.at.node_row
        boot, cid = (record.at.boot, record.cid)
        known = (int(self._node_boot[node]), int(self._node_cid[node]))
        if not record.online and (boot, cid) < known and boot >= 0:
            return None
        rebooted = record.online and 0 <= known[0] < boot
        self._node_online[node] = ONLINE if record.online else OFFLINE
        if record.online:
            self._node_boot[node], self._node_cid[node] = boot, cid
            if speech is not None:
                self._speech[node] = speech
            else:
                self._speech.pop(node, None)
        devices = self.devices
        site = devices.sites[int(devices.node_site[node])]
        for name in {item.st or devices.nodes[node] for item in record.evses}:
            row = devices.find_station(site, name)
            if row >= 0:
                self._heard[row] = 1
        return self.stations_of(node), bool(rebooted)

    def link(self, record: Link) -> None:
        """Take in a gateway's word on a station."""
        self._linked[record.station_row] = ONLINE if record.online else OFFLINE
        self._heard[record.station_row] = 1

    def hear(self, station_row: int) -> None:
        """Note that something was heard of a station."""
        self._heard[station_row] = 1

    def heard(self, station_row: int) -> bool:
        """Return whether anything was heard of a station."""
        return bool(self._heard[station_row])

    def unheard(self, stations: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return of which stations nothing was heard; shape as `stations`."""
        found: NDArray[np.bool_] = self._heard[stations] == 0
        return found

    def stations_of(self, node: int) -> list[int]:
        """Return the rows of the stations behind a node that something was heard of; it may be one itself."""
        return [row for row in self._behind.get(node, []) if self._heard[row]]

    def born(self, node: int) -> bool:
        """Return whether a birth or will of a node came."""
        return bool(self._node_online[node] != UNKNOWN)

    def node_online(self, node: int) -> bool:
        """Return whether a node is there, by its last birth or will."""
        return bool(self._node_online[node] == ONLINE)

    def online(self, station_row: int) -> bool | None:
        """Return whether a station is there; None if nobody said."""
        node = int(self._node_online[self.devices.station_node[station_row]])
        link = int(self._linked[station_row])
        if OFFLINE in (node, link):
            return False
        return None if node == UNKNOWN and link == UNKNOWN else True

    def boot(self, node: int) -> int:
        """Return the boot that a node is in, -1 if it never said."""
        return int(self._node_boot[node])

    def speech(self, node: int) -> Speech | None:
        """Return how a node was heard, None for the native schema."""
        return self._speech.get(node)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        n, s = self.devices.n_nodes, self.devices.n_stations
        return {
            "version": VERSION,
            "node_online": self._node_online[: n or None].copy(),
            "node_boot": self._node_boot[: n or None].copy(),
            "node_cid": self._node_cid[: n or None].copy(),
            "linked": self._linked[: s or None].copy(),
            "heard": self._heard[: s or None].copy(),
            "speech": {row: tuple(how) for row, how in self._speech.items()},
        }

    def nbytes(self) -> int:
        """Return the bytes of the columns."""
        names = ("_node_online", "_node_boot", "_node_cid", "_linked", "_heard")
        return sum(int(getattr(self, name).nbytes) for name in names)

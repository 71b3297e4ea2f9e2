"""The device table of one shard: site, node, station and EVSE names to row numbers, and inventory."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import SnapshotError
from .records import EvseInventory
from .units import NO_TIME, mwh_from_wh

VERSION: Final = 1

#: OCPI connector types by code; 0 = unknown. Append only.
CONNECTOR_TYPES: Final[tuple[str, ...]] = (
    "",
    "IEC_62196_T1",
    "IEC_62196_T1_COMBO",
    "IEC_62196_T2",
    "IEC_62196_T2_COMBO",
    "IEC_62196_T3A",
    "IEC_62196_T3C",
    "CHADEMO",
    "GBT_AC",
    "GBT_DC",
    "MCS",
    "NEMA_14_50",
    "SAE_J3400",
    "DOMESTIC_F",
    "DOMESTIC_B",
)
_TYPE_CODE: Final = {name: i for i, name in enumerate(CONNECTOR_TYPES)}

# per-EVSE columns: name -> (dtype, value of a new row)
_EVSE_COLUMNS: Final[dict[str, tuple[str, float | int]]] = {
    "evse_station": ("i4", -1),
    "evse_node": ("i4", -1),  # the node that delivered it last
    "evse_id": ("i4", 0),
    "u_n_v": ("f8", 230.0),
    "phases": ("i1", 0),  # 0 = not declared
    "p_max_w": ("f8", np.nan),
    "dc": ("u1", 0),
    "declared": ("u1", 0),  # a birth or link message declared this EVSE
    "max_a": ("f8", np.nan),
    "conn_type": ("i1", 0),
    "resolution_mwh": ("i8", 1000),
    "modulus_mwh": ("i8", 0),  # 0 = unknown
    "meter_generation": ("i4", 0),  # grows when a birth declares another meter serial
}
_NODE_COLUMNS: Final[dict[str, tuple[str, float | int]]] = {
    "node_site": ("i4", -1),
    "hb_ns": ("i8", 300_000_000_000),
    "sample_ns": ("i8", NO_TIME),
    "batch_ns": ("i8", NO_TIME),
    "node_declared": ("u1", 0),  # a birth was seen
}


class DeviceTable:
    """Names to rows for one shard; rows are never reused or removed.

    Every column is an array with one value a row, grown by doubling; use `n_evses`, `n_stations`,
    `n_nodes`, `n_sites` as lengths. Stages keep their own arrays indexed by these rows and grow
    them when the counts grew.
    """

    evse_station: NDArray[np.int32]
    evse_node: NDArray[np.int32]
    evse_id: NDArray[np.int32]
    u_n_v: NDArray[np.float64]
    phases: NDArray[np.int8]
    p_max_w: NDArray[np.float64]
    dc: NDArray[np.uint8]
    declared: NDArray[np.uint8]
    max_a: NDArray[np.float64]
    conn_type: NDArray[np.int8]
    resolution_mwh: NDArray[np.int64]
    modulus_mwh: NDArray[np.int64]
    meter_generation: NDArray[np.int32]
    node_site: NDArray[np.int32]
    hb_ns: NDArray[np.int64]
    sample_ns: NDArray[np.int64]
    batch_ns: NDArray[np.int64]
    node_declared: NDArray[np.uint8]

    def __init__(self) -> None:
        self.sites: list[str] = []
        self.nodes: list[str] = []
        self.stations: list[str] = []
        self.station_site: list[int] = []
        self.station_node: list[int] = []
        self.meter_serial: list[str] = []
        self.node_model: list[str] = []
        self.node_vendor: list[str] = []
        self.node_fw: list[str] = []
        self._site_row: dict[str, int] = {}
        self._node_row: dict[tuple[int, str], int] = {}
        self._station_row: dict[tuple[int, str], int] = {}
        self._evse_row: dict[tuple[int, int], int] = {}
        for name, (dtype, fill) in (_EVSE_COLUMNS | _NODE_COLUMNS).items():
            setattr(self, name, np.full(16, fill, dtype))

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.sites)

    @property
    def n_nodes(self) -> int:
        """Number of nodes (stations of their own and gateways)."""
        return len(self.nodes)

    @property
    def n_stations(self) -> int:
        """Number of stations."""
        return len(self.stations)

    @property
    def n_evses(self) -> int:
        """Number of EVSEs."""
        return len(self.meter_serial)

    def site(self, name: str) -> int:
        """Return the row of a site, added if new."""
        row = self._site_row.get(name)
        if row is None:
            row = self._site_row[name] = len(self.sites)
            self.sites.append(name)
        return row

    def node(self, site: int, name: str) -> int:
        """Return the row of a node, added if new."""
        row = self._node_row.get((site, name))
        if row is None:
            row = self._node_row[(site, name)] = len(self.nodes)
            self.nodes.append(name)
            self.node_model.append("")
            self.node_vendor.append("")
            self.node_fw.append("")
            self._grow(_NODE_COLUMNS, row)
            self.node_site[row] = site
        return row

    def station(self, site: int, name: str, node: int) -> int:
        """Return the row of a station of `site` that `node` speaks for, added if new."""
        row = self._station_row.get((site, name))
        if row is None:
            row = self._station_row[(site, name)] = len(self.stations)
            self.stations.append(name)
            self.station_site.append(site)
            self.station_node.append(node)
        return row

    def find_station(self, site: str, name: str) -> int:
        """Return the row of a station by names, -1 if unknown."""
        return self._station_row.get((self._site_row.get(site, -1), name), -1)

    def find_node(self, site: str, name: str) -> int:
        """Return the row of a node by names, -1 if unknown."""
        return self._node_row.get((self._site_row.get(site, -1), name), -1)

    def evse(self, station: int, evse_id: int, node: int) -> int:
        """Return the row of an EVSE, added if new."""
        row = self._evse_row.get((station, evse_id))
        if row is None:
            row = self._evse_row[(station, evse_id)] = len(self.meter_serial)
            self.meter_serial.append("")
            self._grow(_EVSE_COLUMNS, row)
            self.evse_station[row] = station
            self.evse_id[row] = evse_id
            self.evse_node[row] = node
        return row

    def find_evse(self, station: int, evse_id: int) -> int:
        """Return the row of an EVSE of a station row, -1 if unknown."""
        return self._evse_row.get((station, evse_id), -1)

    def evses_of(self, station: int) -> list[int]:
        """Return the rows of all EVSEs of a station."""
        return np.flatnonzero(self.evse_station[: self.n_evses] == station).tolist()

    def evses_of_node(self, node: int) -> list[int]:
        """Return the rows of all EVSEs that a node delivers."""
        return np.flatnonzero(self.evse_node[: self.n_evses] == node).tolist()

    def names(self, evse: int) -> tuple[str, str, int]:
        """Return (site, station, evse id) of an EVSE row."""
        station = int(self.evse_station[evse])
        return self.sites[self.station_site[station]], self.stations[station], int(self.evse_id[evse])

    def differs(self, evse: int, declared: EvseInventory) -> bool:
        """Return whether `declared` would change anything known of the EVSE."""
        before = self._inventory(evse)
        return before != self._wanted(evse, declared)

    def declare(self, evse: int, declared: EvseInventory) -> None:
        """Take over what a birth or link message declares of an EVSE."""
        wanted = self._wanted(evse, declared)
        serial = wanted.pop("meter_serial")
        if self.meter_serial[evse] and self.meter_serial[evse] != serial:
            self.meter_generation[evse] += 1
        self.meter_serial[evse] = str(serial)
        for name, value in wanted.items():
            getattr(self, name)[evse] = value

    def _inventory(self, evse: int) -> dict[str, Any]:
        names = ("u_n_v", "phases", "dc", "declared", "conn_type", "resolution_mwh", "modulus_mwh")
        known: dict[str, Any] = {name: getattr(self, name)[evse].item() for name in names}
        for name in ("p_max_w", "max_a"):
            value = getattr(self, name)[evse].item()
            known[name] = None if value != value else value
        return known | {"meter_serial": self.meter_serial[evse]}

    def _wanted(self, evse: int, declared: EvseInventory) -> dict[str, Any]:
        conn = declared.conns[0] if declared.conns else None
        known = self._inventory(evse)
        return known | {
            "u_n_v": declared.u_n_v,
            "phases": declared.phases or known["phases"],
            "p_max_w": declared.p_max_w if declared.p_max_w is not None else known["p_max_w"],
            "dc": int(declared.dc),
            "declared": 1,
            "conn_type": _TYPE_CODE.get(conn.type, 0) if conn else known["conn_type"],
            "max_a": conn.max_a if conn and conn.max_a is not None else known["max_a"],
            "resolution_mwh": max(1, mwh_from_wh(declared.meter.resolution_wh)),
            "modulus_mwh": mwh_from_wh(declared.meter.modulus_wh) if declared.meter.modulus_wh else 0,
            "meter_serial": declared.meter.serial or known["meter_serial"],
        }

    def _grow(self, columns: dict[str, tuple[str, float | int]], row: int) -> None:
        for name, (dtype, fill) in columns.items():
            array = getattr(self, name)
            if row >= len(array):
                setattr(self, name, np.concatenate([array, np.full(len(array), fill, dtype)]))

    def copy(self) -> DeviceTable:
        """Return an equal table; rows keep their numbers."""
        return DeviceTable.restore(self.snapshot())

    def nbytes(self) -> int:
        """Return the bytes of the columns of known rows (names not counted)."""
        return sum(
            int(getattr(self, name)[:n].nbytes)
            for columns, n in ((_EVSE_COLUMNS, self.n_evses), (_NODE_COLUMNS, self.n_nodes))
            for name in columns
        )

    def snapshot(self) -> dict[str, Any]:
        """Return plain data from which `restore` makes an equal table."""
        state: dict[str, Any] = {"version": VERSION}
        for name in (
            "sites",
            "nodes",
            "stations",
            "station_site",
            "station_node",
            "meter_serial",
            "node_model",
            "node_vendor",
            "node_fw",
        ):
            state[name] = list(getattr(self, name))
        for columns, n in ((_EVSE_COLUMNS, self.n_evses), (_NODE_COLUMNS, self.n_nodes)):
            for name in columns:
                state[name] = getattr(self, name)[:n].copy()
        return state

    @classmethod
    def restore(cls, state: dict[str, Any]) -> DeviceTable:
        """Return the table saved in `state`.

        Raises
        ------
        SnapshotError
            If `state` is of another version.
        """
        if state.get("version") != VERSION:
            raise SnapshotError(
                f"device table has version {state.get('version')!r}, this program reads {VERSION}"
            )
        table = cls()
        for site in state["sites"]:
            table.site(site)
        for name, site in zip(state["nodes"], state["node_site"].tolist(), strict=True):
            table.node(site, name)
        for name, site, node in zip(
            state["stations"], state["station_site"], state["station_node"], strict=True
        ):
            table.station(site, name, node)
        for station, evse_id, node in zip(
            state["evse_station"].tolist(),
            state["evse_id"].tolist(),
            state["evse_node"].tolist(),
            strict=True,
        ):
            table.evse(station, evse_id, node)
        for name in ("meter_serial", "node_model", "node_vendor", "node_fw"):
            setattr(table, name, list(state[name]))
        for name in _EVSE_COLUMNS | _NODE_COLUMNS:
            getattr(table, name)[: len(state[name])] = state[name]
        return table

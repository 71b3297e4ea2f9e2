"""State of `offline`: who is absent, whether that is planned, and the next deadline."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.batch import I64
from models.detecting import CLEAR, INFO, RAISE, UPDATE, WARNING, DetectorSpec, Emissions
from models.devices import DeviceTable
from models.units import NO_TIME, NS_PER_MS, NS_PER_S

from . import _offline_kernel as kernel
from ._base import Table, check_version
from ._connections import Connections, Periods
from ._few import NONE, Few
from ._maintenance import Maintenance
from ._nodes import NEVER
from ._offline_kernel import BACK, DUE, HEARD, LISTENING, OPEN, PENDING

SPEC = DetectorSpec(
    "offline", "node", "rule", evidence=("reason", "silent_s", "limit_s", "last_heard_ms", "words")
)

VERSION: Final = 2

Scope = Literal["node", "station"]

_ABSENT_BLANK: Final[dict[str, Any]] = {"start_ns": NO_TIME, "back_ns": NO_TIME, "until_ns": NEVER}
_GATEWAY_BLANK: Final = {"heard_since_ns": NO_TIME, "bound_ns": NEVER}
_STATION_BLANK: Final = _ABSENT_BLANK | {"rows_ns": NO_TIME, "tx_ns": NO_TIME, "settle_ns": NEVER}

WILL, SILENCE, LINK, NO_ROWS = 1, 2, 3, 4
_REASONS: Final = ("", "will", "silence", "link", "no_rows")


class Absences:
    """Nodes and stations of one shard: when they were heard, and which are absent.

    Attributes
    ----------
    nodes, evses : Table
    absent, gateways, stations : Few
        Of nodes that are not heard; of nodes with stations behind them, and of these stations.
    clock : ndarray, shape (CLOCK_SIZE,), int64
        See `_offline_kernel`.
    """

    def __init__(self, waits: kernel.Waits, resume_state: dict[str, Any] | None) -> None:
        self.waits = waits
        self.nodes = Table(kernel.NODE_FIELDS, {"last_ns": NO_TIME})
        self.absent = Few(kernel.ABSENT_FIELDS, _ABSENT_BLANK)
        self.gateways = Few(kernel.GATEWAY_FIELDS, _GATEWAY_BLANK)
        self.stations = Few(kernel.STATION_FIELDS, _STATION_BLANK)
        self.said = Table(kernel.EVSE_FIELDS, {})  # of stations as a whole
        self.evses = Table(kernel.EVSE_FIELDS, {})
        self.in_tx: set[int] = set()  # EVSEs behind gateways
        self.clock = np.array([NEVER, NO_TIME, NO_TIME, 0], np.int64)
        self.maintenance = Maintenance()
        self.stations_of: dict[int, list[int]] = {}  # by gateway
        self._n_evses = self._n_stations = 0
        state = resume_state or {"connections": None, "periods": None}
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
        self.connections = Connections(state["connections"])
        self.periods = Periods((NO_TIME, NO_TIME), state["periods"])
        if resume_state is not None:
            for name in ("nodes", "absent", "gateways", "stations", "said", "evses"):
                getattr(self, name).load(resume_state[name], SPEC.code)
            self.in_tx = set(resume_state["in_tx"])
            self.clock[:] = resume_state["clock"]
            self.maintenance = Maintenance(resume_state["maintenance"])

    def reserve(self, devices: DeviceTable) -> None:
        """Have records for all rows of `devices`."""
        self.nodes.reserve(devices.n_nodes)
        self.connections.reserve(devices.n_nodes)
        self.periods.tidy(self.nodes.rows["periods"][: self.nodes.n])
        self.said.reserve(devices.n_stations)
        known = self.evses.n
        self.evses.reserve(devices.n_evses)
        for station in range(self._n_stations, devices.n_stations):
            node = devices.station_node[station]
            if devices.stations[station] != devices.nodes[node]:
                self.stations_of.setdefault(node, []).append(station)
                self.stations.take(station)
                self.gateways.take(node)
        for evse in range(self._n_evses, devices.n_evses):
            station = int(devices.evse_station[evse])
            if evse >= known:
                # heard of after its station spoke of itself as a whole
                self.evses.rows["said"][evse] = self.said.rows["said"][station]
            if devices.stations[station] != devices.nodes[devices.station_node[station]]:
                self.evses.rows["said"][evse] |= kernel.BEHIND
        self._n_evses, self._n_stations = devices.n_evses, devices.n_stations

    def known(self) -> kernel.Known:
        """Return what the walk reads and writes."""
        return kernel.Known(
            self.nodes.rows,
            self.stations.records,
            self.gateways.slot_of,
            self.gateways.records,
            self.periods.values,
        )

    def soon(self, deadline_ns: int) -> None:
        """Make sure that something is decided at `deadline_ns`."""
        self.clock[DUE] = min(int(self.clock[DUE]), deadline_ns)

    def silence_ns(self, node: int) -> int:
        """Return after which silence a node is offline."""
        hb_ns = int(self.periods.values[self.nodes.rows[node]["periods"], 0])
        return int(kernel.silence_ns(hb_ns, self.waits))

    def silent_at(self) -> I64:
        """Return when each node is offline unless it is heard, NEVER for those it does not concern."""
        nodes = self.nodes.rows[: self.nodes.n]
        hb_ns = self.periods.values[:, 0]
        hb_ns = np.where(hb_ns == NO_TIME, self.waits.undeclared_hb, hb_ns)
        silences = (self.waits.periods * hb_ns).astype(np.int64)
        quiet = np.maximum(nodes["last_ns"], self.clock[LISTENING]) + silences[nodes["periods"]]
        judged = (nodes["last_ns"] != NO_TIME) & (nodes["phase"] == HEARD)
        return np.where(judged, quiet, NEVER)

    def record(self, scope: Scope, row: int) -> Any:
        """Return the record of a station, or of a node that is absent."""
        return (self.absent if scope == "node" else self.stations)[row]

    def phase(self, scope: Scope, row: int, phase: int) -> None:
        """Set the phase of a node or station; a node that is heard has no record."""
        if scope == "station":
            self.stations[row]["phase"] = phase
            return
        self.nodes.rows[row]["phase"] = phase
        if phase == HEARD:
            self.absent.give_back(row)

    def phases(self, scope: Scope) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the records of stations, or of absent nodes, and their phases."""
        if scope == "station":
            return self.stations.records, self.stations.records["phase"]
        absent = self.absent.records
        in_use = absent["row"] != NONE
        return absent, np.where(in_use, self.nodes.rows["phase"][absent["row"]], HEARD)

    def next_due(self) -> int:
        """Return a lower bound of the next deadline of all nodes and stations."""
        due = int(self.silent_at().min(initial=NEVER))
        scopes: tuple[Scope, ...] = ("node", "station")
        for scope in scopes:
            rows, phase = self.phases(scope)
            times = [
                (phase == BACK, rows["back_ns"] + self.waits.hold),
                (phase == OPEN, rows["until_ns"]),
            ]
            if scope == "station":
                times.append((phase == OPEN, rows["settle_ns"]))
            else:
                times.append((phase == PENDING, rows["start_ns"] + self.waits.grace))
            for mask, when in times:
                due = min(due, int(np.min(when, where=mask, initial=NEVER)))
        return due

    def raise_(
        self,
        scope: Scope,
        row: int,
        at: tuple[int, int],
        devices: DeviceTable,
        out: Emissions,
        *,
        live: bool = True,
        limit_ns: int = 0,
        words: str = "",
    ) -> None:
        self.phase(scope, row, OPEN)
        rec = self.record(scope, row)
        if scope == "station":
            rec["live"], rec["settle_ns"] = live, NEVER
        until = self._planned_until(scope, row, int(rec["start_ns"]), at[1], devices)
        rec["planned"], rec["until_ns"] = until is not None, NEVER if until is None else until
        if until is not None and until != NEVER:
            self.soon(until)
        heard_ns = int(self.nodes.rows[row]["last_ns"] if scope == "node" else rec["rows_ns"])
        evidence: dict[str, Any] = {
            "reason": _REASONS[rec["reason"]],
            "silent_s": round((at[1] - max(heard_ns, int(rec["start_ns"]))) / NS_PER_S, 6),
        }
        if limit_ns:
            evidence["limit_s"] = limit_ns / NS_PER_S
        if heard_ns != NO_TIME:
            evidence["last_heard_ms"] = heard_ns // NS_PER_MS
        if words:
            evidence["words"] = words
        self._emit(RAISE, scope, row, at, out, evidence)

    def _planned_until(
        self, scope: Scope, row: int, start_ns: int, now_ns: int, devices: DeviceTable
    ) -> int | None:
        """Return until when this absence is planned, NEVER without an end, None if it is not."""
        stations = self._stations(row, devices) if scope == "node" else [row]
        said = {word for station in stations for word in self._said(station, devices)}
        if kernel.UNAVAILABLE in said and kernel.OTHERWISE not in said:
            return NEVER
        node = row if scope == "node" else devices.station_node[row]
        site = devices.sites[int(devices.node_site[node])]
        station = devices.stations[row] if scope == "station" else devices.nodes[node]
        return self.maintenance.until(site, devices.nodes[node], station, start_ns, now_ns)

    def _stations(self, node: int, devices: DeviceTable) -> list[int]:
        """Return the stations of a node: those behind it, and itself."""
        own = devices.find_station(devices.sites[int(devices.node_site[node])], devices.nodes[node])
        itself = [own] if own >= 0 and devices.station_node[own] == node else []
        return self.stations_of.get(node, []) + itself

    def _said(self, station: int, devices: DeviceTable) -> set[int]:
        """Return what the EVSEs of a station said of their availability, else the station as a whole."""
        words = set((self.evses.rows["said"][devices.evses_of(station)] & kernel.SAID).tolist()) - {0}
        return words or {int(self.said.rows["said"][station])}

    def end_of_plan(
        self,
        scope: Scope,
        row: int,
        at: tuple[int, int],
        devices: DeviceTable,
        out: Emissions,
    ) -> None:
        """A planned absence outlasts its window: another window, or no longer planned."""
        rec = self.record(scope, row)
        until = self._planned_until(scope, row, at[1], at[1], devices)
        rec["planned"], rec["until_ns"] = until is not None, NEVER if until is None else until
        if until is None:
            self._emit(UPDATE, scope, row, at, out, {})

    def clear(self, scope: Scope, row: int, at: tuple[int, int], out: Emissions) -> None:
        self._emit(CLEAR, scope, row, at, out, {})
        rec = self.record(scope, row)
        rec["planned"], rec["until_ns"] = 0, NEVER
        if scope == "station":
            rec["settle_ns"] = NEVER
        self.phase(scope, row, HEARD)

    def _emit(
        self,
        kind: int,
        scope: Scope,
        row: int,
        at: tuple[int, int],
        out: Emissions,
        evidence: dict[str, Any],
    ) -> None:
        rec = self.record(scope, row)
        out.add(
            SPEC,
            scope=scope,
            order=at[0],
            effect_ns=at[1],
            subject=row,
            kind=kind,
            severity=INFO if rec["planned"] else WARNING,
            start_ns=int(rec["start_ns"]),
            time_ns=int(rec["back_ns"]) if kind == CLEAR else at[1],
            live=scope == "node" or bool(rec["live"]),
            evidence=evidence,
            planned=bool(rec["planned"]),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {
            "code": SPEC.code,
            "version": VERSION,
            "nodes": self.nodes.columns(),
            "connections": self.connections.snapshot(),
            "periods": self.periods.values.copy(),
            "absent": self.absent.columns(),
            "gateways": self.gateways.columns(),
            "stations": self.stations.columns(),
            "said": self.said.columns(),
            "evses": self.evses.columns(),
            "in_tx": sorted(self.in_tx),
            "clock": self.clock.copy(),
            "maintenance": self.maintenance.snapshot(),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        tables = (self.nodes, self.said, self.evses, self.absent, self.gateways, self.stations)
        held = sum(table.nbytes for table in tables) + 60 * len(self.in_tx)
        return held + self.connections.nbytes + self.periods.nbytes

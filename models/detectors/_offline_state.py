"""State of `offline`: who is absent, whether that is planned, and the next deadline."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from models.detecting import CLEAR, INFO, RAISE, UPDATE, WARNING, DetectorSpec, Emissions
from models.devices import DeviceTable
from models.units import NO_TIME, NS_PER_MS, NS_PER_S

from . import _offline_kernel as kernel
from ._base import Table, check_version
from ._maintenance import Maintenance
from ._nodes import NEVER
from ._offline_kernel import BACK, DUE, HEARD, LISTENING, OPEN, PENDING

SPEC = DetectorSpec(
    "offline", "node", "rule", evidence=("reason", "silent_s", "limit_s", "last_heard_ms", "words")
)

VERSION: Final = 1

Scope = Literal["node", "station"]

_BLANK: Final[dict[str, Any]] = {
    "start_ns": NO_TIME,
    "back_ns": NO_TIME,
    "until_ns": NEVER,
}
_NODE_BLANK: Final = _BLANK | {
    "last_ns": NO_TIME,
    "heard_since_ns": NO_TIME,
    "bound_ns": NEVER,
    "boot": -1,
    "cid": -1,
    "hb_ns": NO_TIME,
    "batch_ns": NO_TIME,
}
_STATION_BLANK: Final = _BLANK | {"rows_ns": NO_TIME, "tx_ns": NO_TIME, "settle_ns": NEVER}

WILL, SILENCE, LINK, NO_ROWS = 1, 2, 3, 4
_REASONS: Final = ("", "will", "silence", "link", "no_rows")


class Absences:
    """Nodes and stations of one shard: when they were heard, and which are absent.

    Attributes
    ----------
    nodes, stations, evses : Table
    clock : ndarray, shape (CLOCK_SIZE,), int64
        See `_offline_kernel`.
    """

    def __init__(self, waits: kernel.Waits, resume_state: dict[str, Any] | None) -> None:
        self.waits = waits
        self.nodes = Table(kernel.NODE_FIELDS, _NODE_BLANK)
        self.stations = Table(kernel.STATION_FIELDS, _STATION_BLANK)
        self.evses = Table(kernel.EVSE_FIELDS, {})
        self.clock = np.array([NEVER, NO_TIME, NO_TIME, 0], np.int64)
        self.maintenance = Maintenance()
        self.stations_of: list[list[int]] = []  # by node
        self.evses_of: list[list[int]] = []  # by station
        self._n_evses = 0
        self.gateways = False  # any station is behind one
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            self.nodes.load(resume_state["nodes"], SPEC.code)
            self.stations.load(resume_state["stations"], SPEC.code)
            self.evses.load(resume_state["evses"], SPEC.code)
            self.clock[:] = resume_state["clock"]
            self.maintenance = Maintenance(resume_state["maintenance"])

    def reserve(self, devices: DeviceTable) -> None:
        """Have records for all rows of `devices`."""
        self.nodes.reserve(devices.n_nodes)
        self.stations.reserve(devices.n_stations)
        known = self.evses.n
        self.evses.reserve(devices.n_evses)
        while len(self.stations_of) < devices.n_nodes:
            self.stations_of.append([])
        for station in range(len(self.evses_of), devices.n_stations):
            self.stations_of[devices.station_node[station]].append(station)
            self.evses_of.append([])
        for evse in range(self._n_evses, devices.n_evses):
            station = int(devices.evse_station[evse])
            self.evses_of[station].append(evse)
            node = devices.station_node[station]
            behind = devices.stations[station] != devices.nodes[node]
            self.evses.rows["behind"][evse] = behind
            if evse >= known:
                # heard of after its station spoke of itself as a whole
                self.evses.rows["availability"][evse] = self.stations.rows["said"][station]
            self.gateways = self.gateways or behind
        self._n_evses = devices.n_evses

    def soon(self, deadline_ns: int) -> None:
        """Make sure that something is decided at `deadline_ns`."""
        self.clock[DUE] = min(int(self.clock[DUE]), deadline_ns)

    def silences(self, rows: Any) -> Any:
        """Return after which silence each node is offline."""
        hb_ns = np.where(rows["hb_ns"] == NO_TIME, self.waits.undeclared_hb, rows["hb_ns"])
        return (self.waits.periods * hb_ns).astype(np.int64)

    def next_due(self) -> int:
        """Return a lower bound of the next deadline of all nodes and stations."""
        due = NEVER
        for table in (self.nodes, self.stations):
            rows = table.rows[: table.n]
            phase = rows["phase"]
            for mask, times in (
                (phase == BACK, rows["back_ns"] + self.waits.hold),
                (phase == OPEN, rows["until_ns"]),
            ):
                due = min(due, int(np.min(times, where=mask, initial=NEVER)))
        stations = self.stations.rows[: self.stations.n]
        late = stations["phase"] == OPEN
        due = min(due, int(np.min(stations["settle_ns"], where=late, initial=NEVER)))
        nodes = self.nodes.rows[: self.nodes.n]
        pending = nodes["phase"] == PENDING
        due = min(due, int(np.min(nodes["start_ns"] + self.waits.grace, where=pending, initial=NEVER)))
        heard = (nodes["seen"] == 1) & (nodes["phase"] == HEARD)
        quiet = np.maximum(nodes["last_ns"], self.clock[LISTENING]) + self.silences(nodes)
        return min(due, int(np.min(quiet, where=heard, initial=NEVER)))

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
        rec = (self.nodes if scope == "node" else self.stations).rows[row]
        rec["phase"] = OPEN
        if scope == "station":
            rec["live"], rec["settle_ns"] = live, NEVER
        until = self._planned_until(scope, row, int(rec["start_ns"]), at[1], devices)
        rec["planned"], rec["until_ns"] = until is not None, NEVER if until is None else until
        if until is not None and until != NEVER:
            self.soon(until)
        heard_ns = int(rec["last_ns" if scope == "node" else "rows_ns"])
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
        stations = self.stations_of[row] if scope == "node" else [row]
        said = {word for station in stations for word in self._said(station)}
        if 1 in said and 2 not in said:
            return NEVER
        node = row if scope == "node" else devices.station_node[row]
        site = devices.sites[int(devices.node_site[node])]
        station = devices.stations[row] if scope == "station" else devices.nodes[node]
        return self.maintenance.until(site, devices.nodes[node], station, start_ns, now_ns)

    def _said(self, station: int) -> set[int]:
        """Return what the EVSEs of a station said of their availability, else the station as a whole."""
        words = set(self.evses.rows["availability"][self.evses_of[station]].tolist()) - {0}
        return words or {int(self.stations.rows["said"][station])}

    def end_of_plan(
        self,
        scope: Scope,
        row: int,
        at: tuple[int, int],
        devices: DeviceTable,
        out: Emissions,
    ) -> None:
        """A planned absence outlasts its window: another window, or no longer planned."""
        rec = (self.nodes if scope == "node" else self.stations).rows[row]
        until = self._planned_until(scope, row, at[1], at[1], devices)
        rec["planned"], rec["until_ns"] = until is not None, NEVER if until is None else until
        if until is None:
            self._emit(UPDATE, scope, row, at, out, {})

    def clear(self, scope: Scope, row: int, at: tuple[int, int], out: Emissions) -> None:
        rec = (self.nodes if scope == "node" else self.stations).rows[row]
        self._emit(CLEAR, scope, row, at, out, {})
        rec["phase"], rec["planned"], rec["until_ns"] = HEARD, 0, NEVER
        if scope == "station":
            rec["settle_ns"] = NEVER

    def _emit(
        self,
        kind: int,
        scope: Scope,
        row: int,
        at: tuple[int, int],
        out: Emissions,
        evidence: dict[str, Any],
    ) -> None:
        rec = (self.nodes if scope == "node" else self.stations).rows[row]
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
            "stations": self.stations.columns(),
            "evses": self.evses.columns(),
            "clock": self.clock.copy(),
            "maintenance": self.maintenance.snapshot(),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of state held."""
        return self.nodes.nbytes + self.stations.nbytes + self.evses.nbytes

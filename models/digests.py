"""An hour of each station in a few numbers, told to the control shard: what a roll-out is judged by.

Hours are those of journaled time (UTC, clock-aligned). A message ``_ctl/digest`` carries up to 100 stations
of one site shard; the numbers are of [hour_ms, to_ms): energy by registers (absent where none came),
transactions begun, those that ended without charging, seconds away, findings raised, and whether a car
charges now.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .forwarding import forwarded
from .outputs import FindingChange
from .policies import Desk, Policy
from .records import Birth, Link, Operator, Record, Transaction
from .shard import ShardBatch
from .units import NO_REGISTER

HOUR_MS: Final = 3_600_000
_STATIONS_A_MESSAGE: Final = 100
#: A transaction that ended with less, and was never said to be charging, is a failed start. Unit: mWh.
_FAILED_BELOW_MWH: Final = 10_000

I64 = NDArray[np.int64]
# per station, beside what is per EVSE
_COUNTS: Final = ("starts", "failed_starts", "findings", "away_ms")


class Digester(Policy):
    """Keeps the hour's numbers of one site shard.

    Parameters
    ----------
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        self._from_ms: int | None = state.get("from_ms")
        self._registers: I64 = np.array(state.get("registers", []), np.int64)  # newest of each EVSE
        self._before: I64 = np.array(state.get("before", []), np.int64)  # as the hour began
        self._counts = {name: np.array(state.get(name, []), np.int64) for name in _COUNTS}
        self._away_since: dict[int, int] = {int(k): v for k, v in state.get("away_since", {}).items()}
        self._running: dict[int, list[Any]] = {int(k): list(v) for k, v in state.get("running", {}).items()}
        self._known: I64 = np.array(state.get("known", []), np.int64)  # stations heard of
        self._batch: ShardBatch | None = None
        self._folded = -1

    def begin(self, batch: ShardBatch, desk: Desk) -> None:
        """See a batch before its events."""
        self._batch, self._folded = batch, -1
        devices = batch.devices
        self._registers = _grown(self._registers, devices.n_evses, NO_REGISTER)
        self._before = _grown(self._before, devices.n_evses, NO_REGISTER)
        self._known = _grown(self._known, devices.n_stations, 0)
        for name, column in self._counts.items():
            self._counts[name] = _grown(column, devices.n_stations, 0)

    def end(self, batch: ShardBatch, desk: Desk) -> None:
        """Take in the rest of a batch."""
        self._fold(np.iinfo(np.int64).max)
        self._batch = None

    def _fold(self, order: int) -> None:
        """Take over the registers of readings up to `order`."""
        assert self._batch is not None
        rows = self._batch.rows
        mine = (rows.order > self._folded) & (rows.order <= order)
        self._known[self._batch.devices.evse_station[rows.evse[mine]]] = 1
        at = np.flatnonzero(mine & (rows.reg_mwh != NO_REGISTER))
        self._folded = order
        if len(at):
            evse = rows.evse[at]
            last = at[np.append(evse[1:] != evse[:-1], True)]
            self._registers[rows.evse[last]] = rows.reg_mwh[last]

    def record(self, record: Record, desk: Desk) -> None:
        """Count transactions and time away."""
        if self._from_ms is None:
            self._from_ms = desk.now_ms
        if not isinstance(record, Birth | Operator) and record.station_row >= 0:
            self._known[record.station_row] = 1
        match record:
            case Transaction() if record.evse_row >= 0:
                self._transaction(record)
            case Birth():
                for row in desk.where.stations_of(record.at.node_row):
                    self._seen(row, desk)
            case Link():
                self._seen(record.station_row, desk)

    def finding(self, change: FindingChange, desk: Desk) -> None:
        """Count findings raised, but those that another one explains."""
        if change.state == "raised" and change.live and change.parent is None and change.station:
            row = desk.devices.find_station(change.site, change.station)
            if row >= 0:
                self._counts["findings"][row] += 1

    def _transaction(self, record: Transaction) -> None:
        evse = record.evse_row
        if record.reg_mwh is not None:
            self._registers[evse] = record.reg_mwh
        running = self._running.get(evse)
        if running is None or running[0] != record.tx_id:
            if record.event_type == "Ended":
                return
            self._counts["starts"][record.station_row] += 1
            register = int(self._registers[evse])
            running = self._running[evse] = [record.tx_id, False, register]
        running[1] = running[1] or record.charging_state == "Charging"
        if record.event_type == "Ended":
            del self._running[evse]
            now, before = int(self._registers[evse]), running[2]
            little = NO_REGISTER in (now, before) or now - before < _FAILED_BELOW_MWH
            if little and not running[1]:
                self._counts["failed_starts"][record.station_row] += 1

    def _seen(self, station: int, desk: Desk) -> None:
        away = desk.where.online(station) is False
        since = self._away_since.get(station)
        if away and since is None:
            self._away_since[station] = desk.now_ms
        elif not away and since is not None:
            self._counts["away_ms"][station] += desk.now_ms - self._away_since.pop(station)

    def due_ms(self) -> int | None:
        """Return the end of the hour."""
        return None if self._from_ms is None else (self._from_ms // HOUR_MS + 1) * HOUR_MS

    def tick(self, desk: Desk) -> None:
        """The hour is over: tell it and begin the next."""
        assert self._from_ms is not None
        self._fold(desk.order)
        to_ms = desk.now_ms // HOUR_MS * HOUR_MS
        for station, since in self._away_since.items():
            self._counts["away_ms"][station] += max(0, to_ms - since)
            self._away_since[station] = to_ms
        energy, known = self._energy(desk)
        charging = {int(desk.devices.evse_station[evse]) for evse in self._running}
        items = [
            self._item(row, energy, known, charging, desk)
            for row in range(desk.devices.n_stations)
            if self._known[row]
        ]
        place = {"hour_ms": self._from_ms, "to_ms": to_ms, "shard": desk.shard, "order": desk.order}
        whole = (
            self._from_ms % HOUR_MS == 0
        )  # the hour in which we were first told anything is none to compare
        for start in range(0, len(items) if whole else 0, _STATIONS_A_MESSAGE):
            desk.publish(forwarded("digest", place | {"items": items[start : start + _STATIONS_A_MESSAGE]}))
        self._before[:] = self._registers
        for column in self._counts.values():
            column[:] = 0
        self._from_ms = to_ms

    def _energy(self, desk: Desk) -> tuple[I64, NDArray[np.bool_]]:
        """Return each station's energy in mWh, and whether any of its EVSEs told it."""
        n = desk.devices.n_stations
        evses = len(self._registers)
        station = desk.devices.evse_station[:evses]
        both = (self._registers != NO_REGISTER) & (self._before != NO_REGISTER)
        # a register that fell (a new meter) says nothing of the hour
        both &= self._registers >= self._before
        energy, known = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        np.add.at(energy, station[both], (self._registers - self._before)[both])
        known[station[both]] = True
        return energy, known

    def _item(
        self, row: int, energy: I64, known: NDArray[np.bool_], charging: set[int], desk: Desk
    ) -> dict[str, Any]:
        devices, counts = desk.devices, self._counts
        return {
            "site": devices.sites[devices.station_site[row]],
            "station": devices.stations[row],
            "starts": int(counts["starts"][row]),
            "failed_starts": int(counts["failed_starts"][row]),
            "offline_s": int(counts["away_ms"][row]) / 1000,
            "findings": int(counts["findings"][row]),
            "charging": row in charging,
        } | ({"energy_mwh": int(energy[row])} if known[row] else {})

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "from_ms": self._from_ms,
            "registers": self._registers.copy(),
            "before": self._before.copy(),
            "known": self._known.copy(),
            **{name: column.copy() for name, column in self._counts.items()},
            "away_since": dict(self._away_since),
            "running": {evse: list(found) for evse, found in self._running.items()},
        }


def _grown(column: I64, n: int, fill: int) -> I64:
    """Return `column` with exactly n values."""
    return np.concatenate([column, np.full(n - len(column), fill, np.int64)]) if n > len(column) else column

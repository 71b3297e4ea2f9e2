"""What site shards tell the control shard: stations, firmware, results, findings, charging, hourly digests.

Published as ``evt/v1/_ctl/<kind>`` and journaled into the control shard. Delivery is at least once: what is
told carries shard and order, and telling it twice says the same. Times are epoch ms of journaled time.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .command_states import is_open
from .command_types import Outgoing
from .outputs import CommandRow, FindingChange, Publish
from .policies import Desk, Policy
from .records import Birth, FirmwareStatus, Link, Record, Status, Transaction
from .topics import CONTROL_SITE, ROOT
from .units import NO_TIME, NS_PER_MS

VERSION: Final = 1
KINDS: Final = ("station", "fw", "result", "finding", "charging", "digest")


class Forwarder(Policy):
    """Tells the control shard what happens in a site shard."""

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        self._running: dict[int, dict[int, str]] = {
            int(row): {int(evse): tx for evse, tx in open_.items()}
            for row, open_ in state.get("running", {}).items()
        }

    def record(self, record: Record, desk: Desk) -> None:
        """Tell of births, links, firmware, and when a station begins or ends to charge."""
        match record:
            case Birth():
                self._birth(record, desk)
            case Link():
                self._link(record, desk)
            case FirmwareStatus():
                self._firmware(record, desk)
            case Transaction():
                self._transaction(record, desk)
            case Status() if record.status == "Available" and record.evse_row >= 0:
                self._note(record.station_row, record.evse_row, None, desk)

    def finding(self, change: FindingChange, desk: Desk) -> None:
        """Tell of findings raised and cleared, also of those that another one explains."""
        if change.state == "updated" or not change.live:
            return
        told = {
            name: getattr(change, name)
            for name in (
                "finding_id", "code", "scope", "severity", "site", "node", "station", "evse", "state",
                "parent",
            )
        }  # fmt: skip
        self._tell("finding", told | {"start_ms": change.start, "time_ms": change.changed_at}, desk)

    def command(self, row: CommandRow, desk: Desk) -> None:
        """Tell how a command ended; what comes after its end is told in the ledger only."""
        if is_open(row.state) or row.ended_ms != row.changed_ms:
            return
        told = {
            name: getattr(row, name)
            for name in (
                "cmd_id", "cause", "site", "station", "command", "state", "event", "status", "answer",
                "reason", "sent_ms", "ended_ms",
            )
        }  # fmt: skip
        self._tell("result", told | {"time_ms": row.changed_ms}, desk)

    def forbids(self, command: Outgoing, desk: Desk) -> str:
        """Keep a campaign's update from a station at which a car began to charge since it was decided."""
        if command.command != "UpdateFirmware" or not command.cause.startswith("campaign/"):
            return ""
        row = desk.devices.find_station(command.site, command.station)
        return "a car charges since" if row >= 0 and self.charging(row) else ""

    def _birth(self, record: Birth, desk: Desk) -> None:
        devices, node = desk.devices, record.at.node_row
        name = devices.nodes[node]
        behind = desk.where.stations_of(node)
        stations = {devices.stations[row]: row for row in behind} or {name: -1}
        for station, row in stations.items():
            own = station == name
            self._station(
                desk,
                node,
                station,
                online=record.online and (row < 0 or desk.where.online(row) is not False),
                vendor=record.vendor if own else "",
                model=record.model if own else "",
                serial=record.serial if own else "",
                fw=record.fw if own else "",
                boot=record.at.boot,
                cid=record.cid,
                by="birth" if record.online else "will",
            )

    def _link(self, record: Link, desk: Desk) -> None:
        row = record.station_row
        node = desk.devices.station_node[row]
        self._station(
            desk,
            node,
            desk.devices.stations[row],
            online=record.online and desk.where.online(row) is not False,
            vendor="",
            model="",
            serial="",
            fw="",
            boot=record.at.boot,
            cid=-1,
            by="link",
        )

    def _station(self, desk: Desk, node: int, station: str, **what: Any) -> None:
        devices = desk.devices
        site = devices.sites[int(devices.node_site[node])]
        place = {"site": site, "station": station, "node": devices.nodes[node]}
        self._tell("station", place | what | {"time_ms": desk.now_ms}, desk)

    def _firmware(self, record: FirmwareStatus, desk: Desk) -> None:
        time_ms = desk.now_ms if record.time_ns == NO_TIME else record.time_ns // NS_PER_MS
        told = {
            "request_id": record.request_id,
            "status": record.status,
            "version": record.version,
            "campaign": record.campaign,
            "station_ms": time_ms,
        }
        self._tell("fw", self._place(record.station_row, desk) | told | {"time_ms": desk.now_ms}, desk)

    def _transaction(self, record: Transaction, desk: Desk) -> None:
        if record.event_type == "Ended":
            running = self._running.get(record.station_row, {})
            evses = [evse for evse, tx in running.items() if tx == record.tx_id]
            for evse in evses:
                self._note(record.station_row, evse, None, desk)
        else:
            self._note(record.station_row, record.evse_row, record.tx_id, desk)

    def _note(self, station_row: int, evse_row: int, tx_id: str | None, desk: Desk) -> None:
        """Note the transaction running at an EVSE; tell when the station begins or ends to charge."""
        running = self._running.get(station_row, {})
        before = bool(running)
        if tx_id is None:
            running.pop(evse_row, None)
        else:
            running[evse_row] = tx_id
        if running:
            self._running[station_row] = running
        else:
            self._running.pop(station_row, None)
        if bool(running) != before:
            told = {"charging": bool(running), "time_ms": desk.now_ms}
            self._tell("charging", self._place(station_row, desk) | told, desk)

    def charging(self, station_row: int) -> bool:
        """Return whether a transaction runs at a station."""
        return station_row in self._running

    def _place(self, station_row: int, desk: Desk) -> dict[str, Any]:
        devices = desk.devices
        return {
            "site": devices.sites[devices.station_site[station_row]],
            "station": devices.stations[station_row],
        }

    def _tell(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        desk.publish(forwarded(kind, body | {"shard": desk.shard, "order": desk.order}))

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {"running": {row: dict(open_) for row, open_ in self._running.items()}}


def forwarded(kind: str, body: dict[str, Any]) -> Publish:
    """Return the message that tells the control shard."""
    return Publish(topic=f"{ROOT}/{CONTROL_SITE}/{kind}", payload=msgspec.json.encode(body))

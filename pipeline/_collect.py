"""The sink of one message: names become rows of the device table, calls become parts and chunks."""

from __future__ import annotations

from typing import Any

import msgspec
from numpy.typing import NDArray

from models import batch as b
from models.devices import DeviceTable
from models.errors import DecodeError
from models.records import EvseInventory
from models.units import NO_TIME

from .dialects import Topic


class Part(msgspec.Struct, frozen=True):
    """A record not yet placed in the order of effect: `kind` names the sink call."""

    kind: str
    station_row: int
    evse_row: int
    time_ns: int
    fields: dict[str, Any]


class Collector:
    """The sink of one message: rows and parts with names turned into rows of the device table."""

    def __init__(self, devices: DeviceTable) -> None:
        self.devices = devices
        self.start(Topic("", "", b.OTHER, "", ""), -1, -1)

    def start(self, topic: Topic, site: int, node: int) -> None:
        self.topic = topic
        self.site = site
        self.node = node
        self.kind = topic.kind
        self.boot = -1
        self.seq = -1
        self.clock_ns = NO_TIME
        self.chunks: list[
            tuple[int, str, int, NDArray[Any], list[int], NDArray[Any], NDArray[Any] | None]
        ] = []
        self.parts: list[Part] = []

    def _station(self, station: str) -> int:
        return self.devices.station(self.site, station or self.topic.node, self.node)

    def _evse(self, station: int, evse: int | None) -> int:
        return -1 if not evse else self.devices.evse(station, evse, self.node)

    def head(self, kind: int, boot: int = -1, seq: int = -1) -> None:
        self.kind, self.boot, self.seq = kind, boot, seq

    def rows(
        self,
        station: str,
        evse: int,
        time_ns: NDArray[Any],
        channels: list[int],
        values: NDArray[Any],
        reg_mwh: NDArray[Any] | None = None,
    ) -> None:
        row = self._evse(self._station(station), evse)
        if row < 0:
            raise DecodeError("schema", f"readings of EVSE {evse!r}: an EVSE is numbered from 1")
        self.chunks.append((row, station, evse, time_ns, channels, values, reg_mwh))

    def birth(self, *, online: bool, **fields: Any) -> None:
        self.parts.append(Part("birth", -1, -1, NO_TIME, {"online": online} | fields))

    def link(
        self,
        *,
        station: str,
        time_ns: int,
        online: bool,
        reason: str = "",
        evses: tuple[EvseInventory, ...] = (),
    ) -> None:
        row = self._station(station)
        fields = {"online": online, "reason": reason, "evses": evses}
        self.parts.append(Part("link", row, -1, time_ns, fields))

    def status(
        self, *, station: str, evse: int, conn: int, time_ns: int, status: str, status16: str = ""
    ) -> None:
        row = self._station(station)
        fields = {"conn": conn, "status": status, "status16": status16}
        self.parts.append(Part("status", row, self._evse(row, evse), time_ns, fields))

    def transaction(
        self, *, station: str, evse: int | None, time_ns: int, tx_id: str, event_type: str, **fields: Any
    ) -> None:
        row = self._station(station)
        fields = {"tx_id": tx_id, "event_type": event_type} | fields
        self.parts.append(Part("transaction", row, self._evse(row, evse), time_ns, fields))

    def event(
        self, *, station: str, evse: int | None, time_ns: int, code: str, taxonomy: str, **fields: Any
    ) -> None:
        row = self._station(station)
        fields = {"code": code, "taxonomy": taxonomy} | fields
        self.parts.append(Part("event", row, self._evse(row, evse), time_ns, fields))

    def heartbeat(
        self, *, time_ns: int | None, uptime_s: float | None = None, rssi_dbm: float | None = None
    ) -> None:
        self.clock_ns = NO_TIME if time_ns is None else time_ns
        if rssi_dbm is not None:
            self.parts.append(Part("heartbeat", -1, -1, self.clock_ns, {"rssi_dbm": rssi_dbm}))

    def firmware(
        self,
        *,
        station: str,
        time_ns: int,
        request_id: int | None,
        status: str,
        version: str = "",
        campaign: str = "",
    ) -> None:
        fields = {"request_id": request_id, "status": status, "version": version, "campaign": campaign}
        self.parts.append(Part("firmware", self._station(station), -1, time_ns, fields))

    def command_result(
        self, *, station: str, time_ns: int, cmd_id: str, status: str, body: dict[str, Any]
    ) -> None:
        fields = {"cmd_id": cmd_id, "status": status, "body": body}
        self.parts.append(Part("command_result", self._station(station), -1, time_ns, fields))

    def operator(self, *, topic: str, body: dict[str, Any]) -> None:
        self.parts.append(Part("operator", -1, -1, NO_TIME, {"topic": topic, "body": body}))

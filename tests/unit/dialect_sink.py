"""A sink that keeps every call, for tests of dialects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import batch as b
from models.channels import CHANNELS
from models.records import EvseInventory
from models.topics import Router
from models.units import NO_REGISTER, wh_text
from pipeline.decode import read_topic
from pipeline.dialects import Topic

KIND_NAMES = {
    b.METER: "meter",
    b.STATUS: "status",
    b.TX: "tx",
    b.EVENT: "event",
    b.CONN: "conn",
    b.LINK: "link",
    b.HEARTBEAT: "hb",
    b.CMDRES: "cmdres",
    b.FIRMWARE: "fw",
    b.OPERATOR: "operator",
    b.OTHER: "other",
}


class CollectingSink:
    """Keeps what a dialect put, as (method, arguments) in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def head(self, kind: int, boot: int = -1, seq: int = -1) -> None:
        self.calls.append(("head", {"kind": kind, "boot": boot, "seq": seq}))

    def rows(
        self,
        station: str,
        evse: int,
        time_ns: NDArray[Any],
        channels: list[int],
        values: NDArray[Any],
        reg_mwh: NDArray[Any] | None = None,
    ) -> None:
        assert time_ns.dtype == np.int64
        assert values.dtype == np.float64
        assert values.shape == (len(channels), len(time_ns))
        assert len(set(channels)) == len(channels)
        assert reg_mwh is None or (reg_mwh.dtype == np.int64 and reg_mwh.shape == time_ns.shape)
        arguments = {"station": station, "evse": evse, "time_ns": time_ns, "channels": channels}
        self.calls.append(("rows", arguments | {"values": values, "reg_mwh": reg_mwh}))

    def birth(self, *, online: bool, **fields: Any) -> None:
        self.calls.append(("birth", {"online": online} | fields))

    def link(
        self,
        *,
        station: str,
        time_ns: int,
        online: bool,
        reason: str = "",
        evses: tuple[EvseInventory, ...] = (),
    ) -> None:
        self._note("link", station=station, time_ns=time_ns, online=online, reason=reason, evses=evses)

    def status(
        self, *, station: str, evse: int, conn: int, time_ns: int, status: str, status16: str = ""
    ) -> None:
        self._note(
            "status", station=station, evse=evse, conn=conn, time_ns=time_ns, status=status, status16=status16
        )

    def transaction(
        self, *, station: str, evse: int | None, time_ns: int, tx_id: str, event_type: str, **fields: Any
    ) -> None:
        arguments = {"station": station, "evse": evse, "time_ns": time_ns, "tx_id": tx_id}
        self.calls.append(("transaction", arguments | {"event_type": event_type} | fields))

    def event(
        self, *, station: str, evse: int | None, time_ns: int, code: str, taxonomy: str, **fields: Any
    ) -> None:
        arguments = {"station": station, "evse": evse, "time_ns": time_ns, "code": code}
        self.calls.append(("event", arguments | {"taxonomy": taxonomy} | fields))

    def heartbeat(
        self, *, time_ns: int | None, uptime_s: float | None = None, rssi_dbm: float | None = None
    ) -> None:
        self._note("heartbeat", time_ns=time_ns, uptime_s=uptime_s, rssi_dbm=rssi_dbm)

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
        self._note(
            "firmware",
            station=station,
            time_ns=time_ns,
            request_id=request_id,
            status=status,
            version=version,
            campaign=campaign,
        )

    def command_result(
        self, *, station: str, time_ns: int, cmd_id: str, status: str, body: dict[str, Any]
    ) -> None:
        self._note(
            "command_result", station=station, time_ns=time_ns, cmd_id=cmd_id, status=status, body=body
        )

    def operator(self, *, topic: str, body: dict[str, Any]) -> None:
        self._note("operator", topic=topic, body=body)

    def _note(self, method: str, **arguments: Any) -> None:
        self.calls.append((method, arguments))

    def of(self, method: str) -> list[dict[str, Any]]:
        """Return the arguments of every call of one method."""
        return [arguments for name, arguments in self.calls if name == method]

    def readable(self) -> list[dict[str, Any]]:
        """Return the calls as JSON shows them: times in ms, registers in Wh, channels by name."""
        return [{"call": method} | _readable(arguments) for method, arguments in self.calls]


def _readable(arguments: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "kind":
            out[name] = KIND_NAMES[value]
        elif name == "time_ns":
            out["time_ms"] = _ms(value)
        elif name == "channels":
            out[name] = [CHANNELS[c].name for c in value]
        elif name == "values":
            out[name] = [[None if x != x else x for x in row] for row in value.tolist()]
        elif name == "reg_mwh":
            out["reg_wh"] = _registers(value)
        elif name == "evses":
            out[name] = [{f: getattr(e, f) for f in e.__struct_fields__} for e in value]
        elif name in {"online", "evse"} or not (value in ("", None, -1) or value is False):
            out[name] = value
    return out


def _ms(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_ms(x) for x in value.tolist()]
    if value is None:
        return None
    ms, rest = divmod(value, 1_000_000)
    return ms if rest == 0 else f"{ms}.{rest:06d}"


def _registers(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [None if x == NO_REGISTER else wh_text(x) for x in value.tolist()]
    return None if value is None else wh_text(value)


def topic_of(router: Router, text: str) -> Topic:
    """Return the topic as the decode stage reads it; a route must match."""
    topic = read_topic(router, text)
    assert topic is not None, text
    return topic

"""The native schema, JSON or MessagePack: ``evt/v1/<site>/<node>/up/<kind>`` and ``evt/v1/_op/<request>``.

Times are epoch ms of the station's clock, registers exact to the mWh, null is missing. A message
that breaks the schema is refused whole; fields beyond the schema are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from models import batch as b
from models import command_request
from models.command_request import read_request
from models.errors import ConfigError, DecodeError
from models.finding_actions import KIND, read_action
from models.held_back import KIND as HELD
from models.held_back import read_held
from models.inspections import KIND as MAINTENANCE
from models.inspections import is_inspection, read_inspection
from models.partner_tokens import KIND as TOKEN
from models.partner_tokens import read_token
from models.payments import KIND as PAYMENT
from models.payments import read_payment
from models.records import Connector, EvseInventory, Meter
from models.units import NS_PER_MS, mwh_from_wh

from . import Dialect, Message, Sink
from . import _native_wire as wire
from ._decoding import BAD_BYTES, plain, read
from ._native_meter import put_series

_COMMAND_KINDS: Final = (command_request.KIND, command_request.CANCEL_KIND)
#: Kind of topic by which a node asks for a piece of a firmware image.
FIRMWARE_REQUEST: Final = "fwreq"
TAXONOMIES: Final = ("mrec", "uec", "ocpp16", "everest", "ocpp2", "vendor")

_TYPES: Final[dict[int, Any]] = {
    b.METER: wire.Meter,
    b.STATUS: wire.Status,
    b.TX: wire.Tx,
    b.EVENT: wire.Event,
    b.CONN: wire.Conn,
    b.LINK: wire.Link,
    b.HEARTBEAT: wire.Heartbeat,
    b.CMDRES: wire.CommandResult,
    b.FIRMWARE: wire.Firmware,
    b.OPERATOR: dict[str, Any],
}


def build(options: dict[str, Any], resume_state: dict[str, Any] | None = None) -> Dialect:
    """Return the dialect; it has no options and no state.

    Raises
    ------
    ConfigError
        If options are given.
    """
    if options:
        raise ConfigError(f"dialect native takes no options, got {', '.join(sorted(options))}")
    return Native()


def readings_in(payload: bytes, *, msgpack: bool = False) -> int:
    """Return how many readings an ``up/meter`` payload holds; 0 when it cannot be told."""
    try:
        counted = (msgspec.msgpack if msgpack else msgspec.json).decode(payload, type=_Counted)
    except BAD_BYTES:
        return 0
    return sum(len(series.rows) for series in counted.series)


class _CountedSeries(msgspec.Struct):
    rows: list[msgspec.Raw]


class _Counted(msgspec.Struct):
    series: list[_CountedSeries]


class Native:
    """Decoder of the native schema.

    Attributes
    ----------
    unknown_channels : dict of str to int
        Series that named a channel which is not in `models.channels`, by that name; bounded.
    """

    def __init__(self) -> None:
        self.unknown_channels: dict[str, int] = {}
        self._json = {kind: msgspec.json.Decoder(t) for kind, t in _TYPES.items()}
        self._msgpack = {
            kind: msgspec.msgpack.Decoder(t, ext_hook=_refuse_extension) for kind, t in _TYPES.items()
        }
        self._put: dict[int, Callable[[Message, Any, Sink], None]] = {
            b.METER: self._meter,
            b.STATUS: _status,
            b.TX: _tx,
            b.EVENT: _event,
            b.CONN: _conn,
            b.LINK: _link,
            b.HEARTBEAT: _heartbeat,
            b.CMDRES: _command_result,
            b.FIRMWARE: _firmware,
            b.OPERATOR: _operator,
        }

    def decode(self, message: Message, out: Sink) -> None:
        """Put what `message` holds into `out`.

        Raises
        ------
        DecodeError
            If the payload is not what its topic promises.
        """
        topic = message.topic
        put = self._put.get(topic.kind)
        if put is None:
            if topic.rest.removeprefix("up/") == FIRMWARE_REQUEST:
                return  # for the server of chunks; here it is only kept as evidence
            raise DecodeError(
                "topic", f"{topic.text!r:.300} is no topic that stations publish to: expected .../up/<kind>"
            )
        decoder = (self._msgpack if topic.msgpack else self._json)[topic.kind]
        body = read(decoder, message.payload, "msgpack" if topic.msgpack else "json")
        if isinstance(body, wire.Envelope):
            out.head(
                topic.kind,
                -1 if body.boot is UNSET else body.boot,
                -1 if body.seq is UNSET else body.seq,
            )
        put(message, body, out)

    def snapshot(self) -> dict[str, Any]:
        """Return nothing: every message stands for itself."""
        return {}

    def _meter(self, message: Message, body: wire.Meter, out: Sink) -> None:
        for series in body.series:
            put_series(series, out, self.unknown_channels)


def _refuse_extension(code: int, data: memoryview) -> Any:
    raise ValueError(f"MessagePack extension type {code} is not part of the schema")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return msgspec.json.encode(plain(value)).decode()


def _status(message: Message, body: wire.Status, out: Sink) -> None:
    for item in body.items:
        out.status(
            station=item.st,
            evse=item.evse,
            conn=item.conn,
            time_ns=item.t * NS_PER_MS,
            status=item.status,
            status16=item.status16 or "",
        )


def _tx(message: Message, body: wire.Tx, out: Sink) -> None:
    for item in body.items:
        out.transaction(
            station=item.st,
            evse=item.evse or None,
            time_ns=item.t * NS_PER_MS,
            tx_id=item.tx_id,
            event_type=item.event_type,
            conn=item.conn,
            seq_no=item.seq_no,
            trigger=item.trigger_reason or "",
            charging_state=item.charging_state or "",
            stopped_reason=item.stopped_reason or "",
            offline=bool(item.offline),
            phases=item.phases,
            cable_max_a=item.cable_max_a,
            id_token_hash=item.id_token_hash or "",
            id_token_type=item.id_token_type or "",
            reg_mwh=None if item.reg_wh is None else mwh_from_wh(item.reg_wh),
            signed=None if item.signed is None else plain(item.signed),
        )


def _event(message: Message, body: wire.Event, out: Sink) -> None:
    for item in body.items:
        severity = item.severity
        out.event(
            station=item.st,
            evse=item.evse or None,
            time_ns=item.t * NS_PER_MS,
            code=str(item.code),
            taxonomy=item.taxonomy if item.taxonomy in TAXONOMIES else "vendor",
            conn=item.conn,
            event_id="" if item.event_id is None else str(item.event_id),
            component=_text(item.component),
            variable=_text(item.variable),
            value=_text(item.value),
            severity=severity if isinstance(severity, int) and abs(severity) < 1000 else None,
            cleared=bool(item.cleared),
            cause=_text(item.cause),
            tech_info=_text(item.tech_info),
        )


def _inventory(evses: list[wire.Inventory] | None) -> tuple[EvseInventory, ...]:
    return tuple(_evse_inventory(item) for item in evses or ())


def _evse_inventory(item: wire.Inventory) -> EvseInventory:
    meter = item.meter or wire.MeterInventory()
    return EvseInventory(
        evse=item.evse,
        st=item.st,
        u_n_v=230.0 if item.u_n_v is None else item.u_n_v,
        phases=item.phases or 0,
        p_max_w=item.p_max_w,
        dc=bool(item.dc),
        meter=Meter(
            meter.serial or "", 1.0 if meter.resolution_wh is None else meter.resolution_wh, meter.modulus_wh
        ),
        conns=tuple(Connector(c.conn, c.type or "", c.max_a) for c in item.conns or ()),
    )


def _conn(message: Message, body: wire.Conn, out: Sink) -> None:
    if not body.online:
        out.birth(online=False, cid=-1 if body.cid is None else body.cid)
        return
    out.birth(
        online=True,
        cid=-1 if body.cid is None else body.cid,
        model=body.model or "",
        vendor=body.vendor or "",
        serial=body.serial or "",
        fw=body.fw or "",
        hb_s=body.hb_s,
        sample_s=body.sample_s,
        batch_s=body.batch_s,
        proto=body.proto or "",
        evses=_inventory(body.evses),
    )


def _link(message: Message, body: wire.Link, out: Sink) -> None:
    for item in body.items:
        out.link(
            station=item.st,
            time_ns=item.t * NS_PER_MS,
            online=item.online,
            reason=item.reason or "",
            evses=_inventory(item.evses),
        )


def _heartbeat(message: Message, body: wire.Heartbeat, out: Sink) -> None:
    out.heartbeat(time_ns=body.t * NS_PER_MS, uptime_s=body.uptime_s, rssi_dbm=body.rssi)


def _command_result(message: Message, body: wire.CommandResult, out: Sink) -> None:
    details = {"statusInfo": body.status_info, "result": body.result, "error": body.error}
    out.command_result(
        station=body.st,
        time_ns=body.t * NS_PER_MS,
        cmd_id=body.cmd_id,
        status=body.status,
        body={name: plain(value) for name, value in details.items() if value is not None},
    )


def _firmware(message: Message, body: wire.Firmware, out: Sink) -> None:
    out.firmware(
        station=body.st,
        time_ns=body.t * NS_PER_MS,
        request_id=body.request_id,
        status=body.status,
        version=body.version or "",
        campaign=body.campaign or "",
    )


def _operator(message: Message, body: dict[str, Any], out: Sink) -> None:
    if message.topic.rest == KIND:
        read_action(body)
    elif message.topic.rest == PAYMENT:
        read_payment(body)
    elif message.topic.rest == HELD:
        read_held(body)
    elif message.topic.rest == TOKEN:
        read_token(body)
    elif message.topic.rest in _COMMAND_KINDS:
        read_request(message.topic.rest, body)
    elif message.topic.rest == MAINTENANCE and is_inspection(body):
        read_inspection(body)
    out.head(b.OPERATOR)
    out.operator(topic=message.topic.rest, body=plain(body))

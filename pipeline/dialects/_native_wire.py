"""The native payloads as they travel: one struct per kind, checked while they are decoded.

Times are epoch ms (whole numbers), field names as on the wire. Fields that a payload has beyond
these are ignored, so that stations may be newer than we are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from models.units import MAX_REGISTER_MWH, MAX_STATION_TIME_MS

Time = Annotated[int, Meta(ge=0, lt=MAX_STATION_TIME_MS)]
Counter = Annotated[int, Meta(ge=0, le=2**53)]
Number32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
EvseId = Annotated[int, Meta(ge=1, le=2**31 - 1)]
#: Names become keys of tables and parts of topics: bounded, never empty where they are required.
Name = Annotated[str, Meta(min_length=1, max_length=255)]
NameOrNone = Annotated[str, Meta(max_length=255)]
Text = Annotated[str, Meta(max_length=8192)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
Seconds = Annotated[float, Meta(gt=0, le=1e7)]
RegisterWh = Annotated[float, Meta(ge=-MAX_REGISTER_MWH / 1000, le=MAX_REGISTER_MWH / 1000)]


class Envelope(Struct, kw_only=True):
    """What every numbered message carries."""

    v: Literal[1] = 1
    boot: Counter | UnsetType = UNSET
    seq: Counter | UnsetType = UNSET


class Series(Struct, kw_only=True):
    """Readings of one EVSE: a row is ``[dt_ms, x1, x2, ...]``, one value a channel of `ch`."""

    evse: EvseId
    t0: Time
    ch: list[str]
    rows: list[list[float | None]]
    st: NameOrNone = ""
    conn: Number32 | None = None
    tx: str | None = None
    ctx: str | None = None


class Meter(Envelope, kw_only=True):
    """``up/meter``."""

    series: list[Series]


class StatusItem(Struct, kw_only=True):
    """The status of one connector; EVSE 0 is the whole station."""

    evse: Number32
    t: Time
    status: Name
    st: NameOrNone = ""
    conn: Number32 = 1
    status16: NameOrNone | None = None


class Status(Envelope, kw_only=True):
    """``up/status``."""

    items: list[StatusItem]


class TxItem(
    Struct,
    kw_only=True,
    rename={
        "tx_id": "txId",
        "event_type": "eventType",
        "seq_no": "seqNo",
        "trigger_reason": "triggerReason",
        "charging_state": "chargingState",
        "stopped_reason": "stoppedReason",
        "cable_max_a": "cableMaxA",
        "id_token_hash": "idTokenHash",
        "id_token_type": "idTokenType",
    },
):
    """One step of a transaction; money hangs on it, so nothing in it may be out of range."""

    t: Time
    tx_id: Name
    event_type: Literal["Started", "Updated", "Ended"]
    st: NameOrNone = ""
    evse: Number32 | None = None
    conn: Number32 | None = None
    seq_no: Counter | None = None
    trigger_reason: NameOrNone | None = None
    charging_state: NameOrNone | None = None
    stopped_reason: NameOrNone | None = None
    offline: bool | None = None
    phases: Annotated[int, Meta(ge=0, le=3)] | None = None
    cable_max_a: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    id_token_hash: NameOrNone | None = None
    id_token_type: NameOrNone | None = None
    reg_wh: RegisterWh | None = None
    signed: Any = None


class Tx(Envelope, kw_only=True):
    """``up/tx``."""

    items: list[TxItem]


class EventItem(Struct, kw_only=True, rename={"event_id": "eventId", "tech_info": "techInfo"}):
    """One station event; beyond time and code anything is taken as it comes."""

    t: Time
    code: Name | int
    st: NameOrNone = ""
    evse: Number32 | None = None
    conn: Number32 | None = None
    event_id: NameOrNone | int | None = None
    taxonomy: NameOrNone | None = None
    component: Any = None
    variable: Any = None
    value: Any = None
    severity: Any = None
    cleared: bool | None = None
    cause: Any = None
    tech_info: Any = None


class Event(Envelope, kw_only=True):
    """``up/event``."""

    items: list[EventItem]


class MeterInventory(Struct, kw_only=True):
    """The meter of an EVSE as declared."""

    serial: NameOrNone | None = None
    resolution_wh: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    modulus_wh: Annotated[float, Meta(gt=0, le=MAX_REGISTER_MWH / 1000)] | None = None


class ConnectorInventory(Struct, kw_only=True):
    """A connector as declared."""

    conn: Number32 = 1
    type: NameOrNone | None = None
    max_a: Annotated[float, Meta(gt=0, le=1e6)] | None = None


class Inventory(Struct, kw_only=True):
    """An EVSE as declared."""

    evse: EvseId
    st: NameOrNone = ""
    u_n_v: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    phases: Annotated[int, Meta(ge=0, le=3)] | None = None
    p_max_w: Positive | None = None
    dc: bool | None = None
    meter: MeterInventory | None = None
    conns: list[ConnectorInventory] | None = None


class Conn(Envelope, kw_only=True):
    """``up/conn``: birth or will."""

    online: bool
    cid: Counter | None = None
    model: NameOrNone | None = None
    vendor: NameOrNone | None = None
    serial: NameOrNone | None = None
    fw: NameOrNone | None = None
    hb_s: Seconds | None = None
    sample_s: Seconds | None = None
    batch_s: Seconds | None = None
    proto: NameOrNone | None = None
    evses: list[Inventory] | None = None


class LinkItem(Struct, kw_only=True):
    """A gateway's word on one station behind it."""

    st: Name
    t: Time
    online: bool
    reason: Text | None = None
    evses: list[Inventory] | None = None


class Link(Envelope, kw_only=True):
    """``up/link``."""

    items: list[LinkItem]


class Heartbeat(Envelope, kw_only=True):
    """``up/hb``; `t` is the station's clock now."""

    t: Time
    uptime_s: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    rssi: Annotated[float, Meta(ge=-1000, le=1000)] | None = None


class CommandResult(Envelope, kw_only=True, rename={"cmd_id": "cmdId", "status_info": "statusInfo"}):
    """``up/cmdres``."""

    cmd_id: Name
    t: Time
    status: Name
    st: NameOrNone = ""
    status_info: Any = None
    result: Any = None
    error: Any = None


class Firmware(Envelope, kw_only=True, rename={"request_id": "requestId"}):
    """``up/fw``."""

    t: Time
    status: Name
    st: NameOrNone = ""
    request_id: Annotated[int, Meta(ge=-(2**53), le=2**53)] | None = None
    version: NameOrNone | None = None
    campaign: NameOrNone | None = None

"""Rare things as frozen records: births, status, transactions, station events, operator requests.

Times are corrected by the measured clock skew; `*_reported_ns` keeps what the station said.
`evse_row`, `station_row` and `node_row` point into the shard's `DeviceTable` (-1 = none).
"""

from __future__ import annotations

from typing import Any

import msgspec


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where and when a record came in."""

    order: int  # position in the shard's order of effect
    pos: int  # journal offset of the message
    recv_ns: int  # its arrival
    effect_ns: int  # journaled time at which it took effect
    node_row: int
    boot: int = -1
    seq: int = -1
    live: bool = True


class Meter(msgspec.Struct, frozen=True):
    """The meter of an EVSE as a birth declares it."""

    serial: str = ""
    resolution_wh: float = 1.0
    modulus_wh: float | None = None


class Connector(msgspec.Struct, frozen=True):
    """One connector of an EVSE; `type` is an OCPI ConnectorType."""

    conn: int = 1
    type: str = ""
    max_a: float | None = None


class EvseInventory(msgspec.Struct, frozen=True):
    """What a birth or link message declares of one EVSE (`st` empty: the node is the station)."""

    evse: int
    st: str = ""
    u_n_v: float = 230.0
    phases: int = 0
    p_max_w: float | None = None
    dc: bool = False
    meter: Meter = Meter()
    conns: tuple[Connector, ...] = ()


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """A node came online (birth) or is gone (will)."""

    at: Origin
    online: bool
    retained: bool = False
    cid: int = -1
    model: str = ""
    vendor: str = ""
    serial: str = ""
    fw: str = ""
    hb_s: float | None = None
    sample_s: float | None = None
    batch_s: float | None = None
    proto: str = ""
    evses: tuple[EvseInventory, ...] = ()


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's word on a station behind it."""

    at: Origin
    station_row: int
    time_ns: int
    online: bool
    reason: str = ""
    evses: tuple[EvseInventory, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A connector status; `status` is a ConnectorStatusEnumType, `status16` a ChargePointStatus or ""."""

    at: Origin
    station_row: int
    evse_row: int
    conn: int
    time_ns: int
    status: str
    status16: str = ""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction message."""

    at: Origin
    station_row: int
    evse_row: int
    conn: int | None
    time_ns: int
    time_reported_ns: int
    tx_id: str
    seq_no: int | None
    event_type: str  # Started, Updated, Ended
    trigger: str = ""
    charging_state: str = ""
    stopped_reason: str = ""
    offline: bool = False
    phases: int | None = None
    cable_max_a: float | None = None
    id_token_hash: str = ""
    id_token_type: str = ""
    reg_mwh: int | None = None
    signed: Any = None


class StationEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A fault or notice that the station itself reports."""

    at: Origin
    station_row: int
    evse_row: int  # -1: the whole station
    conn: int | None
    time_ns: int
    event_id: str
    code: str
    taxonomy: str  # mrec, uec, ocpp16, everest, ocpp2, vendor
    component: str = ""
    variable: str = ""
    value: str = ""
    severity: int | None = None
    cleared: bool = False
    cause: str = ""
    tech_info: str = ""


class FirmwareStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a firmware update."""

    at: Origin
    station_row: int
    time_ns: int
    request_id: int | None
    status: str
    version: str = ""
    campaign: str = ""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """A station's answer to a command."""

    at: Origin
    station_row: int
    time_ns: int
    cmd_id: str
    status: str
    body: dict[str, Any]


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """A node's heartbeat that carries more than its clock: its own radio signal."""

    at: Origin
    time_ns: int
    rssi_dbm: float
    station_row: int = -1  # it is about the node


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """A journaled request of a person or system: `topic` is what follows ``_op/``."""

    at: Origin
    topic: str
    body: dict[str, Any]


Record = (
    Birth | Link | Status | Transaction | StationEvent | FirmwareStatus | CommandResult | Heartbeat | Operator
)


class Dead(msgspec.Struct, frozen=True, kw_only=True):
    """A message or part of one that could not be used, with the bytes that came."""

    pos: int
    recv_ns: int
    topic: str
    reason: str
    detail: str
    payload: bytes

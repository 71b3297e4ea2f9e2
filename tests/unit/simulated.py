"""What the simulator's tests share: a strict model of the native schema, and logs as columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.simulator import SimMessage

START_MS = 1_781_071_200_000  # 2026-06-10T06:00:00Z


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Meter(_Strict):
    serial: str
    resolution_wh: float
    modulus_wh: float | None = None


class Conn(_Strict):
    conn: int
    type: str
    max_a: float


class Evse(_Strict):
    evse: int
    u_n_v: float
    phases: int
    p_max_w: float
    meter: Meter
    conns: list[Conn]
    st: str | None = None
    dc: bool = False


class Birth(_Strict):
    v: int
    online: bool
    boot: int
    cid: int
    model: str
    vendor: str
    serial: str
    fw: str
    hb_s: float
    sample_s: float
    batch_s: float
    proto: str
    evses: list[Evse]


class Will(_Strict):
    v: int
    online: bool
    boot: int
    cid: int


class Series(_Strict):
    evse: int
    conn: int
    t0: int
    ch: list[str]
    rows: list[list[float | int | None]]
    st: str | None = None
    tx: str | None = None


class MeterMessage(_Strict):
    v: int
    boot: int
    seq: int
    series: list[Series]


class StatusItem(_Strict):
    evse: int
    conn: int
    t: int
    status: str
    st: str | None = None
    status16: str | None = None


_TX = {
    "tx_id": "txId",
    "seq_no": "seqNo",
    "event_type": "eventType",
    "trigger": "triggerReason",
    "state": "chargingState",
    "stopped_reason": "stoppedReason",
    "cable_max_a": "cableMaxA",
    "token_hash": "idTokenHash",
    "token_type": "idTokenType",
}


class TxItem(_Strict, rename=_TX):
    evse: int
    conn: int
    t: int
    tx_id: str
    seq_no: int
    event_type: str
    trigger: str
    state: str
    reg_wh: float | int
    st: str | None = None
    stopped_reason: str | None = None
    offline: bool = False
    phases: int | None = None
    cable_max_a: int | None = None
    token_hash: str | None = None
    token_type: str | None = None


class EventItem(_Strict, rename={"event_id": "eventId", "tech_info": "techInfo"}):
    t: int
    event_id: str
    code: str
    taxonomy: str
    cleared: bool
    st: str | None = None
    evse: int | None = None
    conn: int | None = None
    component: str | None = None
    variable: str | None = None
    value: str | None = None
    severity: int | None = None
    tech_info: str | None = None


class LinkItem(_Strict):
    st: str
    t: int
    online: bool
    reason: str | None = None
    evses: list[Evse] | None = None


class StatusMessage(_Strict):
    v: int
    boot: int
    seq: int
    items: list[StatusItem]


class TxMessage(_Strict):
    v: int
    boot: int
    seq: int
    items: list[TxItem]


class EventMessage(_Strict):
    v: int
    boot: int
    seq: int
    items: list[EventItem]


class LinkMessage(_Strict):
    v: int
    boot: int
    seq: int
    items: list[LinkItem]


class Heartbeat(_Strict):
    v: int
    boot: int
    seq: int
    t: int
    uptime_s: int
    clock_src: str
    rssi: int | None = None
    queue: int | None = None


_KINDS: dict[str, Any] = {
    "meter": MeterMessage,
    "status": StatusMessage,
    "tx": TxMessage,
    "event": EventMessage,
    "link": LinkMessage,
    "hb": Heartbeat,
}


def decode(message: SimMessage) -> Any:
    """Return a message by the strict model, or fail."""
    kind = message.topic.rsplit("/", 1)[1]
    if kind == "conn":
        online = msgspec.json.decode(message.payload)["online"]
        return msgspec.json.decode(message.payload, type=Birth if online else Will, strict=True)
    return msgspec.json.decode(message.payload, type=_KINDS[kind], strict=True)


def kind_of(message: SimMessage) -> str:
    """Return the last level of a topic."""
    return message.topic.rsplit("/", 1)[1]


def items(messages: Iterable[SimMessage], kind: str) -> list[tuple[str, Any]]:
    """Return (station, item) of all messages of a kind, without duplicates, in order of arrival."""
    seen: set[tuple[int, int, int]] = set()
    out: list[tuple[str, Any]] = []
    for message in messages:
        key = (message.node, message.boot, message.seq)
        if kind_of(message) == kind and key not in seen:
            seen.add(key)
            node = message.topic.split("/")[3]
            out.extend((item.st or node, item) for item in decode(message).items)
    return out


Columns = dict[str, NDArray[np.float64]]


def columns(messages: Iterable[SimMessage]) -> dict[tuple[str, int], Columns]:
    """Return the readings of each (station, evse) by channel, sorted by time; ``t`` is ms, missing is NaN."""
    rows: dict[tuple[str, int], dict[int, dict[str, float]]] = {}
    for message in messages:
        if kind_of(message) != "meter":
            continue
        node = message.topic.split("/")[3]
        for series in decode(message).series:
            place = rows.setdefault((series.st or node, series.evse), {})
            for row in series.rows:
                time = series.t0 + int(row[0] or 0)
                assert len(row) == len(series.ch) + 1
                values = place.setdefault(time, {"tx": float(series.tx is not None)})
                for name, value in zip(series.ch, row[1:], strict=True):
                    values[name] = np.nan if value is None else float(value)
    out: dict[tuple[str, int], Columns] = {}
    for key, by_time in rows.items():
        times = sorted(by_time)
        names = {name for values in by_time.values() for name in values}
        table = {name: np.array([by_time[t].get(name, np.nan) for t in times]) for name in names}
        out[key] = table | {"t": np.array(times, np.float64)}
    return out

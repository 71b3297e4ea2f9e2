"""Bytes to columns: topics by route, payloads by dialect, the bulk of them without a Python step each.

`ShardDecoder.decode` takes a frame and says for every message what it is. Native JSON meter messages
go through `models.meter_reader`; all others, and whatever the reader does not know yet, through
their dialect. What cannot be decoded is dead: kept with its bytes and the reason, never a stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import batch as b
from models import plugins
from models.channels import N_CHANNELS
from models.devices import DeviceTable
from models.errors import DecodeError
from models.frame import OVERSIZE, RETAINED, TICK_FLAG, Frame
from models.interning import Interner
from models.meter_reader import MeterReader
from models.ordering import RawRows
from models.topics import CONTROL_SITE, OPERATOR_SITE, ROOT, Route, Router
from models.units import NO_REGISTER, NO_TIME

from ._collect import Collector, Part
from .dialects import Dialect, Message, Topic

#: native kinds by topic level
KINDS: Final = {
    "meter": b.METER,
    "status": b.STATUS,
    "tx": b.TX,
    "event": b.EVENT,
    "conn": b.CONN,
    "link": b.LINK,
    "hb": b.HEARTBEAT,
    "cmdres": b.CMDRES,
    "fw": b.FIRMWARE,
}

#: kinds whose messages share the node's sequence counter
_NUMBERED: Final = (b.METER, b.STATUS, b.TX, b.EVENT, b.LINK, b.CMDRES, b.FIRMWARE)

_OWN_DIALECT: Final = "native"
_OURS: Final = (f"{ROOT}/{OPERATOR_SITE}/", f"{ROOT}/{CONTROL_SITE}/")


@dataclass(slots=True)
class Decoded:
    """m messages in arrival order and the readings they carry.

    Columns have one value a message; `rows.rank` holds the message index; `parts` and `dead` are keyed
    by it.
    """

    node: b.I32
    kind: b.U8
    boot: b.I64
    seq: b.I64
    n_rows: b.I64
    newest_ns: b.I64
    clock_ns: b.I64
    is_dead: NDArray[np.bool_]
    rows: RawRows
    parts: dict[int, list[Part]] = field(default_factory=dict)
    dead: dict[int, DecodeError] = field(default_factory=dict)

    @property
    def numbered(self) -> b.U8:
        """1 where a message takes part in sequencing."""
        return (np.isin(self.kind, _NUMBERED) & (self.boot >= 0) & (self.seq >= 0) & (self.node >= 0)).astype(
            np.uint8
        )


@dataclass(slots=True)
class _TopicTable:
    """What is known of each topic id."""

    interner: Interner = field(default_factory=Interner)
    topics: list[Topic | None] = field(default_factory=list)  # None: no route
    sites: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    bulk: list[bool] = field(default_factory=list)  # native JSON meter topic
    met: list[bool] = field(default_factory=list)  # a meter message of it was seen


def read_topic(router: Router, text: str) -> Topic | None:
    """Return what the routes make of a topic, None when none matches."""
    if text.startswith(_OURS):  # whatever the routes are
        own = text.split("/", 3)
        rest = own[3] if own[2] == OPERATOR_SITE else f"{own[2]}/{own[3]}"
        return Topic(text, _OWN_DIALECT, b.OPERATOR, "", "", rest=rest)
    match = router.match(text)
    if match is None:
        return None
    level = match.rest.removeprefix("up/")
    msgpack = level.endswith(".mp")
    kind = KINDS.get(level.removesuffix(".mp"), b.OTHER) if "/up/" in text else b.OTHER
    return Topic(text, match.dialect, kind, match.site, match.node, msgpack, match.rest)


class ShardDecoder:
    """Decoder of one shard: topics seen, dialects with their state, the device table.

    Parameters
    ----------
    routes : list of Route
        Ways of reading topics; the first match wins.
    options : dict
        Options by dialect name.
    devices : DeviceTable
        Shared with the order stage, which may replace it (`set_devices`).
    """

    def __init__(
        self,
        routes: list[Route],
        options: dict[str, dict[str, Any]],
        devices: DeviceTable,
        resume_state: dict[str, Any] | None = None,
    ) -> None:
        self._router = Router(routes)
        self._table = _TopicTable()
        self._reader = MeterReader()
        self._sink = Collector(devices)
        self._devices = devices
        states = resume_state or {}
        self._dialects: dict[str, Dialect] = {
            name: plugins.load("pipeline.dialects", name).build(options.get(name, {}), states.get(name))
            for name in dict.fromkeys((*(route.dialect for route in routes), _OWN_DIALECT))
        }

    def set_devices(self, devices: DeviceTable) -> None:
        """Use another copy of the device table from now on (rows keep their numbers)."""
        self._devices = self._sink.devices = devices

    def snapshot(self) -> dict[str, Any]:
        """Return the dialects' states; what else is kept here is only remembered for speed."""
        return {name: dialect.snapshot() for name, dialect in self._dialects.items()}

    def dialect_of(self, topic: bytes) -> str:
        """Return the dialect of a topic, empty if no route reads it."""
        match = self._router.match(topic.decode("utf-8", "replace"))
        return match.dialect if match else ""

    def decode(self, frame: Frame) -> Decoded:
        """Return what the messages of `frame` hold; never raises for what came from outside."""
        m = len(frame)
        topic_id = self._topic_ids(frame)
        nodes = np.array([*self._table.nodes, -1], np.int32)
        tick = (frame.flags & TICK_FLAG) != 0
        kinds = np.array([t.kind if t else b.OTHER for t in self._table.topics] + [b.TICK], np.uint8)
        out = Decoded(
            np.where(tick, np.int32(-1), nodes[topic_id]),
            np.where(tick, np.uint8(b.TICK), kinds[topic_id]),
            np.full(m, -1, np.int64),
            np.full(m, -1, np.int64),
            np.zeros(m, np.int64),
            np.full(m, NO_TIME, np.int64),
            np.full(m, NO_TIME, np.int64),
            np.zeros(m, np.bool_),
            _no_rows(),
        )
        bulk = np.array([*self._table.bulk, False])[topic_id] & ~tick & ((frame.flags & OVERSIZE) == 0)
        chunks: list[_Chunk] = []
        first = self._first_of_new_topics(bulk, topic_id)
        for i in first.tolist():
            chunks += self._decode_one(frame, i, int(topic_id[i]), out)
        bulk[first] = False
        fast, slow = self._read_bulk(frame, np.flatnonzero(bulk), topic_id, out)
        rest = np.flatnonzero(~bulk & ~tick)
        for i in np.sort(np.concatenate([slow, np.setdiff1d(rest, first)])).tolist():
            chunks += self._decode_one(frame, i, int(topic_id[i]), out)
        out.rows = _join_rows(fast, chunks)
        return out

    def _first_of_new_topics(self, bulk: NDArray[np.bool_], topic_id: b.I32) -> NDArray[np.int64]:
        """Return the first meter message of each topic that had none before: the reader learns from it."""
        met = np.array([*self._table.met, True])
        found = np.flatnonzero(bulk & ~met[topic_id])
        if len(found) == 0:
            return found
        topics, at = np.unique(topic_id[found], return_index=True)
        for topic in topics.tolist():
            self._table.met[topic] = True
        return np.sort(found[at])

    def _topic_ids(self, frame: Frame) -> b.I32:
        table = self._table
        ids, unknown = table.interner.lookup(frame.topics, frame.topic_end)
        if unknown:
            fresh: dict[bytes, int] = {}
            for i in np.flatnonzero(ids < 0).tolist():
                raw = frame.topic(i)
                if raw not in fresh:
                    fresh[raw] = table.interner.add(raw)
                    self._add_topic(raw)
                ids[i] = fresh[raw]
        return ids

    def _add_topic(self, raw: bytes) -> None:
        table = self._table
        topic = read_topic(self._router, raw.decode("utf-8", "replace")) if raw else None
        site = self._devices.site(topic.site) if topic and topic.site else -1
        table.topics.append(topic)
        table.sites.append(site)
        table.nodes.append(self._devices.node(site, topic.node) if topic and site >= 0 else -1)
        table.met.append(False)
        table.bulk.append(
            topic is not None and topic.dialect == "native" and topic.kind == b.METER and not topic.msgpack
        )

    def _read_bulk(
        self, frame: Frame, pick: NDArray[np.int64], topic_id: b.I32, out: Decoded
    ) -> tuple[RawRows, NDArray[np.int64]]:
        """Read native meter messages at once; return their rows and the messages that need the slow way."""
        if len(pick) == 0:
            return _no_rows(), pick
        ends = frame.payload_end
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        rows, head, status = self._reader.read(frame.payloads, starts[pick], ends[pick], topic_id[pick])
        good = pick[status == 0]
        heads = head[status == 0]
        out.boot[good], out.seq[good], out.n_rows[good] = heads[:, 0], heads[:, 1], heads[:, 2]
        message = pick[rows.message]
        if len(message):
            np.maximum.at(out.newest_ns, message, rows.time_ns)
        fast = RawRows(rows.evse, rows.time_ns, rows.reg_mwh, message, rows.values, rows.slot_of)
        return fast, pick[status != 0]

    def _decode_one(self, frame: Frame, i: int, topic_id: int, out: Decoded) -> list[_Chunk]:
        """Decode message i the slow way; on failure it is dead."""
        table, sink = self._table, self._sink
        topic = table.topics[topic_id]
        try:
            if topic is None:
                raise DecodeError("topic", "no route of the configuration reads this topic")
            if frame.flags[i] & OVERSIZE:
                raise DecodeError(
                    "size", "payload is larger than mqtt.max_payload_bytes; only its start was kept"
                )
            sink.start(topic, table.sites[topic_id], table.nodes[topic_id])
            message = Message(topic, frame.payload(i), int(frame.recv_ns[i]), bool(frame.flags[i] & RETAINED))
            self._dialects[topic.dialect].decode(message, sink)
        except DecodeError as error:
            out.is_dead[i] = True
            out.dead[i] = error
            return []
        out.kind[i], out.boot[i], out.seq[i] = sink.kind, sink.boot, sink.seq
        out.clock_ns[i] = sink.clock_ns
        if sink.parts:
            out.parts[i] = sink.parts
            times = [p.time_ns for p in sink.parts if p.time_ns != NO_TIME]
            out.newest_ns[i] = max(times, default=NO_TIME)
        chunks = []
        for row, station, evse, time_ns, channels, values, reg in sink.chunks:
            if table.bulk[topic_id]:
                self._reader.learn(topic_id, station, evse, row)
            out.n_rows[i] += len(time_ns)
            if len(time_ns):
                out.newest_ns[i] = max(int(out.newest_ns[i]), int(time_ns.max()))
                chunks.append(_Chunk(i, row, time_ns, channels, values, reg))
        return chunks


class _Chunk(msgspec.Struct, frozen=True):
    """Readings of one EVSE from one message read the slow way."""

    message: int
    evse: int
    time_ns: Any
    channels: list[int]
    values: Any
    reg_mwh: Any


def _no_rows() -> RawRows:
    return RawRows(
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, 0)),
        np.full(N_CHANNELS, -1, np.int16),
    )


def _join_rows(fast: RawRows, chunks: list[_Chunk]) -> RawRows:
    """Return all readings in message order."""
    if not chunks:
        return fast
    slot_of = fast.slot_of.copy()
    slots = int(slot_of.max()) + 1
    for channel in dict.fromkeys(c for chunk in chunks for c in chunk.channels):
        if slot_of[channel] < 0:
            slot_of[channel] = slots
            slots += 1
    n_fast = len(fast.evse)
    n = n_fast + sum(len(chunk.time_ns) for chunk in chunks)
    rows = RawRows(
        np.empty(n, np.int32),
        np.empty(n, np.int64),
        np.full(n, NO_REGISTER, np.int64),
        np.empty(n, np.int64),
        np.full((slots, n), np.nan),
        slot_of,
    )
    for name in ("evse", "time_ns", "reg_mwh", "rank"):
        getattr(rows, name)[:n_fast] = getattr(fast, name)
    rows.values[: fast.values.shape[0], :n_fast] = fast.values
    at = n_fast
    for chunk in chunks:
        end = at + len(chunk.time_ns)
        rows.evse[at:end] = chunk.evse
        rows.rank[at:end] = chunk.message
        rows.time_ns[at:end] = chunk.time_ns
        for channel, values in zip(chunk.channels, chunk.values, strict=True):
            rows.values[slot_of[channel], at:end] = values
        if chunk.reg_mwh is not None:
            rows.reg_mwh[at:end] = chunk.reg_mwh
        at = end
    if n_fast:
        by_message = np.argsort(rows.rank, kind="stable")
        rows = take_rows(rows, by_message)
    return rows


def take_rows(rows: RawRows, index: NDArray[Any]) -> RawRows:
    """Return the readings `index`, in that order."""
    return RawRows(
        rows.evse[index],
        rows.time_ns[index],
        rows.reg_mwh[index],
        rows.rank[index],
        rows.values[:, index],
        rows.slot_of,
    )

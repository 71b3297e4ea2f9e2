"""Decoded messages to one `ShardBatch` in order of effect: the stage in front of all others.

Holds the device table, the dialects, sequencing and ordering state, and the few messages that wait
for an earlier sequence number. Whatever happens between two readings of an EVSE (births, status,
transactions, ticks) keeps its place among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from models import batch as b
from models._clock_skew import Effects
from models.devices import DeviceTable
from models.errors import SnapshotError
from models.frame import COPY, TICK_FLAG, Frame
from models.ordering import Ordered, Orderer, OrderingConfig
from models.outputs import Account
from models.records import Birth, Dead, Link, Origin, Record, StationEvent, Status, Transaction
from models.sequencing import Sequencer, SequencingConfig
from models.shard import Heard, ShardBatch
from models.topics import Route
from models.units import NO_TIME, NS_PER_MS, NS_PER_S

from ._context import StationWords, context_marks
from ._effects import Ranked, arrivals_of, dead_of, effective_rows, message_columns
from ._records import record_of
from .decode import Decoded, ShardDecoder

VERSION: Final = 1

_DEAD_BYTES: Final = 4096  # of a dead payload that are kept


@dataclass(frozen=True, slots=True)
class OrderConfig:
    """What the order stage needs of the configuration."""

    routes: tuple[Route, ...]
    dialect_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    sequencing: SequencingConfig = field(default_factory=SequencingConfig)
    ordering: OrderingConfig = field(default_factory=OrderingConfig)


class OrderStage:
    """Decode and order one shard.

    Parameters
    ----------
    shard : int
    config : OrderConfig
    resume_state : dict, optional
        What `snapshot` returned.
    """

    def __init__(self, shard: int, config: OrderConfig, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(f"order stage has version {state['version']!r}, this program reads {VERSION}")
        self.shard = shard
        self.devices = DeviceTable.restore(state["devices"]) if "devices" in state else DeviceTable()
        self._decoder = ShardDecoder(
            list(config.routes), config.dialect_options, self.devices, state.get("dialects")
        )
        self._sequencer = Sequencer(config.sequencing, state.get("sequencer"))
        self._orderer = Orderer(config.ordering, state.get("orderer"))
        self._words = StationWords(state.get("words"))
        self._held: list[tuple[int, bytes, bytes, int]] = list(state.get("held", []))
        self._held_pos: list[int] = list(state.get("held_pos", []))
        self._order: int = state.get("order", 0)
        self._newest_before = np.zeros(0, np.int64)
        self._heard: list[Heard] = []  # of this run
        self._end: int = state.get("end", 0)
        self._last_ns: int = state.get("last_ns", 0)

    def process(self, chunk: tuple[int, int, Frame]) -> list[ShardBatch]:
        """Return the batches that a chunk (shard, offset of its first message, messages) leads to.

        More than one where a birth changes what is known of devices that had readings before: what
        came before it is judged by what was known then.
        """
        _, first, frame = chunk
        return self._run(first, frame, last=False)

    def finish(self) -> list[ShardBatch]:
        """Let go of all that waits, without time going on: the log ends here."""
        return self._run(self._end, Frame.ticks([self._last_ns] if self._order else []), last=True)

    def _run(self, first: int, frame: Frame, *, last: bool) -> list[ShardBatch]:
        if len(frame) == 0:
            return []
        self._end = first + len(frame)
        self._last_ns = max(self._last_ns, int(frame.recv_ns.max()))
        n_before = self.devices.n_evses
        n_held = len(self._held)
        pos = np.concatenate([np.array(self._held_pos, np.int64), first + np.arange(len(frame))])
        everything = Frame.concat([Frame.build(self._held), frame]) if n_held else frame
        decoded = self._decoder.decode(everything)
        self._sequencer.reserve(self.devices.n_nodes)
        self._orderer.reserve(self.devices.n_evses)
        self._newest_before = self._orderer.state.newest_ns[: self.devices.n_evses].copy()
        effects, waiting = self._sequencer.run(arrivals_of(decoded, everything), release_all=last)
        ranked = self._rank(effects, len(everything))
        self._heard = []
        raw = effective_rows(decoded, effects, ranked)
        records = self._records(decoded, effects, ranked, everything, pos)
        marks = context_marks(
            records,
            ranked.order,
            ranked.effect_ns,
            decoded.kind[ranked.message],
            self.devices,
            self._words,
        )
        ordered = self._orderer.run(raw, marks, ranked.order, ranked.effect_ns, ranked.live, release_all=last)
        messages = message_columns(decoded, effects, ranked, everything, pos)
        dead = dead_of(decoded, everything, pos)
        account = self._account(first, frame, decoded, effects, ordered, len(waiting))
        self._keep_waiting(everything, pos, waiting)
        return list(self._segments(first, frame, messages, records, ordered, dead, account, n_before))

    def _rank(self, effects: Effects, m: int) -> Ranked:
        used = int(effects.used[0])
        message = effects.message[:used]
        rank_of = np.full(m, -1, np.int64)
        rank_of[message] = np.arange(used)
        order = self._order + np.arange(used)
        self._order += used
        return Ranked(message, order, effects.effect_ns[:used], effects.live[message], rank_of)

    def _keep_waiting(self, everything: Frame, pos: b.I64, waiting: b.I64) -> None:
        kept = np.sort(waiting).tolist()
        self._held = [
            (
                int(everything.recv_ns[i]),
                everything.topic(i),
                everything.payload(i),
                int(everything.flags[i]),
            )
            for i in kept
        ]
        self._held_pos = pos[kept].tolist()

    def _records(
        self, decoded: Decoded, effects: Effects, ranked: Ranked, frame: Frame, pos: b.I64
    ) -> list[Record]:
        """Return the records of messages that took effect, in that order."""
        out: list[Record] = []
        with_parts = [
            (int(ranked.rank_of[i]), i)
            for i in decoded.parts
            if effects.fate[i] == b.DECODED and not decoded.is_dead[i]
        ]
        for rank, i in sorted(with_parts):
            at = Origin(
                order=int(ranked.order[rank]),
                pos=int(pos[i]),
                recv_ns=int(frame.recv_ns[i]),
                effect_ns=int(ranked.effect_ns[rank]),
                node_row=int(decoded.node[i]),
                boot=int(decoded.boot[i]),
                seq=int(decoded.seq[i]),
                live=bool(effects.live[i]),
            )
            retained = bool(frame.flags[i] & 1)
            if at.node_row >= 0 and decoded.parts[i][0].kind == "birth":
                topic = frame.topic(i)
                dialect = self._decoder.dialect_of(topic)
                if dialect != "native":
                    self._heard.append(Heard(at.order, at.node_row, dialect, topic.decode()))
            out += [record_of(part, at, int(effects.shift_ns[i]), retained) for part in decoded.parts[i]]
        return out

    def _account(
        self, first: int, frame: Frame, decoded: Decoded, effects: Effects, ordered: Ordered, waiting: int
    ) -> Account:
        ticks = (frame.flags & TICK_FLAG) != 0
        copies = (frame.flags & COPY) != 0
        counted = decoded.kind != b.TICK
        n_old = len(decoded.kind) - len(frame)
        counted[n_old:] &= ~copies
        duplicate = (effects.fate == b.DUPLICATE) & counted
        took = (effects.fate == b.DECODED) & counted
        dead = decoded.is_dead & counted
        repeated_rows = int(decoded.n_rows[effects.fate == b.DUPLICATE].sum())
        counts = ordered.counts.tolist()
        return Account(
            shard=self.shard,
            first=first,
            end=first + len(frame),
            through_ms=int(frame.recv_ns.max()) // NS_PER_MS if len(frame) else 0,
            messages=int((~ticks & ~copies).sum()),
            decoded=int((took & ~dead).sum()),
            duplicate=int(duplicate.sum()),
            dead=int(dead.sum()),
            held=waiting,
            rows_in=sum(counts) + repeated_rows,
            rows_processed=counts[0],
            rows_late=counts[1],
            rows_duplicate=counts[2] + repeated_rows,
            rows_invalid=counts[3],
        )

    def _segments(
        self,
        first: int,
        frame: Frame,
        messages: b.MessageColumns,
        records: list[Record],
        ordered: Ordered,
        dead: list[Dead],
        account: Account,
        n_before: int,
    ) -> Iterator[ShardBatch]:
        start = 0  # index of the first record not yet sent on
        fresh: list[int] = list(range(n_before, self.devices.n_evses))
        low = -1
        heard = set(range(n_before))  # EVSEs of which something was said before the record
        for k, record in enumerate(records):
            if not isinstance(record, Birth | Link):
                if isinstance(record, Status | Transaction | StationEvent):
                    heard.add(record.evse_row)
                continue
            declared = self._declared(record)
            changing = self._changes_known(record, declared, ordered.rows, heard)
            heard.update(row for row, _ in declared)
            if changing:
                yield self._batch(
                    first, frame, messages, records[start:k], ordered, low, record.at.order, [], None, fresh
                )
                start, low, fresh = k, record.at.order, []
                self.devices = self.devices.copy()
                self._decoder.set_devices(self.devices)
            fresh += self._declare(record, declared)
        end = self._order
        yield self._batch(first, frame, messages, records[start:], ordered, low, end, dead, account, fresh)

    def _declared(self, record: Birth | Link) -> list[tuple[int, Any]]:
        """Return (EVSE row, inventory) of what a birth or link declares."""
        devices = self.devices
        node = record.at.node_row
        out = []
        for item in record.evses:
            site = int(devices.node_site[node])
            name = item.st or (devices.stations[record.station_row] if isinstance(record, Link) else "")
            station = devices.station(site, name or devices.nodes[node], node)
            out.append((devices.evse(station, item.evse, node), item))
        self._orderer.reserve(devices.n_evses)
        return out

    def _changes_known(
        self, record: Birth | Link, declared: list[tuple[int, Any]], rows: b.ReadingBatch, heard: set[int]
    ) -> bool:
        """Return whether a record changes what is known of devices that something was said of before."""
        devices, node = self.devices, record.at.node_row
        for row, item in declared:
            if devices.differs(row, item) and (
                row in heard or self._had_readings(row, record.at.order, rows)
            ):
                return True
        if not isinstance(record, Birth) or not record.online:
            return False
        known = devices.node_declared[node] or any(
            self._had_readings(row, record.at.order, rows) for row in devices.evses_of_node(node)
        )
        return bool(known) and any(
            value is not None and int(getattr(devices, name)[node]) != round(value * NS_PER_S)
            for name, value in _node_periods(record).items()
        )

    def _had_readings(self, evse: int, order: int, rows: b.ReadingBatch) -> bool:
        before = self._newest_before
        if evse < len(before) and before[evse] != NO_TIME:
            return True
        first = int(np.searchsorted(rows.evse, evse))
        return first < len(rows) and rows.evse[first] == evse and bool(rows.order[first] < order)

    def _declare(self, record: Birth | Link, declared: list[tuple[int, Any]]) -> list[int]:
        devices, node = self.devices, record.at.node_row
        changed = [row for row, item in declared if devices.differs(row, item)]
        for row, item in declared:
            devices.declare(row, item)
        if isinstance(record, Birth) and record.online:
            for name, value in _node_periods(record).items():
                if value is not None:
                    getattr(devices, name)[node] = round(value * NS_PER_S)
            devices.node_declared[node] = 1
            described = (record.vendor, record.model, record.fw)
            known = (devices.node_vendor[node], devices.node_model[node], devices.node_fw[node])
            if described != known:
                devices.node_vendor[node], devices.node_model[node], devices.node_fw[node] = described
                changed += devices.evses_of_node(node)
        return changed

    def _batch(
        self,
        first: int,
        frame: Frame,
        messages: b.MessageColumns,
        records: list[Record],
        ordered: Ordered,
        low: int,
        high: int,
        dead: list[Dead],
        account: Account | None,
        fresh: list[int],
    ) -> ShardBatch:
        """Return the part of this run with low <= order < high."""
        whole = low < 0 and account is not None
        rows, late, beside = ordered.rows, ordered.late, ordered.beside
        if not whole:
            rows = rows.take((rows.order >= low) & (rows.order < high))
            late = late.take((late.order >= low) & (late.order < high))
            beside = beside.take((beside.order >= low) & (beside.order < high))
            messages = messages.take((messages.order >= low) & (messages.order < high))
        return ShardBatch(
            self.shard,
            first,
            first + len(frame),
            self.devices,
            rows,
            late,
            beside,
            messages,
            records,
            dead,
            account,
            list(dict.fromkeys(fresh)),
            heard=[heard for heard in self._heard if low <= heard.order < high],
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "devices": self.devices.snapshot(),
            "dialects": self._decoder.snapshot(),
            "sequencer": self._sequencer.snapshot(),
            "orderer": self._orderer.snapshot(),
            "words": self._words.snapshot(),
            "held": list(self._held),
            "held_pos": list(self._held_pos),
            "order": self._order,
            "end": self._end,
            "last_ns": self._last_ns,
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._sequencer.nbytes() + self._orderer.nbytes() + self.devices.nbytes()


def _node_periods(record: Birth) -> dict[str, float | None]:
    return {
        "hb_ns": record.hb_s,
        "sample_ns": record.sample_s,
        "batch_ns": record.batch_s if record.batch_s is not None else record.sample_s,
    }

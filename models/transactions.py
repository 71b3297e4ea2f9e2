"""Transactions from messages in any order: what each is worth, and whether it may be billed.

A transaction is looked at again when something new is told of it, and when journaled time says so: its end is
judged once the readings around it can have come (`settle_ns`, or one and a half times the node's `batch_s`),
an end that never comes is noticed by silence, and what stays without an end for `review_ns` goes to a person.
What was final and changes later gets a higher revision.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

import msgspec
import numpy as np

from . import _tx_state as s
from ._tx_billing import with_bill
from ._tx_judge import Verdict, judge
from ._tx_registers import RegisterTracks
from ._tx_rows import differs, session_body, session_row
from ._tx_state import Point, TransactionConfig, Tx
from .batch import TICK, MessageColumns, ReadingBatch
from .cashier import Cashier
from .devices import DeviceTable
from .errors import SnapshotError
from .outputs import CdrRow, SessionRow
from .records import Operator, Record, Status, Transaction
from .units import NO_TIME, NS_PER_MS

__all__ = ["TransactionBook", "TransactionConfig"]

VERSION: Final = 1
_FREE: Final = frozenset({"Available"})
_PLUGGED: Final = frozenset(
    {"Occupied", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}
)

Key = tuple[int, str]  # station row, transaction id


class TransactionBook:
    """The transactions of one shard.

    Parameters
    ----------
    config : TransactionConfig
    resume_state : dict, optional
        What `snapshot` returned.
    cashier : Cashier, optional
        Makes the bills of transactions that are complete; without one there are none.
    """

    def __init__(
        self,
        config: TransactionConfig,
        resume_state: dict[str, Any] | None = None,
        cashier: Cashier | None = None,
    ) -> None:
        self.config = config
        self._cashier = cashier
        self.cdrs: list[CdrRow] = []  # bills since they were last taken
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(
                f"transactions have version {state['version']!r}, this program reads {VERSION}"
            )
        self._registers = RegisterTracks(state.get("registers"))
        self._encoded: dict[Key, bytes] = {(row, tx): data for row, tx, data in state.get("all", [])}
        self._all: dict[Key, Tx] = {
            key: msgspec.msgpack.decode(data, type=Tx) for key, data in self._encoded.items()
        }
        self._plugged: dict[int, int] = dict(state.get("plugged", []))
        self._by_evse: dict[int, list[Key]] = {}
        self._heap: list[tuple[int, int, str]] = []
        for key, tx in sorted(self._all.items(), key=lambda item: item[1].first_order):
            self._by_evse.setdefault(tx.evse_row, []).append(key)
            if tx.due_ns:
                self._heap.append((tx.due_ns, *key))
        heapq.heapify(self._heap)
        self._dirty: set[Key] = set()
        self._homeless: dict[Key, list[Transaction]] = {
            (row, tx): msgspec.msgpack.decode(data, type=list[Transaction])
            for row, tx, data in state.get("homeless", [])
        }
        self._out: list[SessionRow] = []
        self._at = -1  # order of what is being taken in
        self._devices = DeviceTable()

    def process(
        self,
        rows: ReadingBatch,
        late: ReadingBatch,
        messages: MessageColumns,
        records: list[Record],
        devices: DeviceTable,
    ) -> list[SessionRow]:
        """Take in one batch; return the transactions that changed, in the order of what changed them."""
        self._devices = devices
        self._registers.begin(rows, devices)
        ticks = np.flatnonzero(messages.kind == TICK)
        tick_order = messages.order[ticks]
        tick_ns = messages.effect_ns[ticks]
        for record in records:
            if isinstance(record, Transaction | Status | Operator):
                self._ticks_until(record.at.order, tick_order, tick_ns)
                self._at = record.at.order
                self._take(record)
        self._ticks_until(int(np.iinfo(np.int64).max), tick_order, tick_ns)
        self._registers.finish()
        out, self._out = self._out, []
        return out

    def flush(self, order: int, now_ns: int, devices: DeviceTable) -> list[SessionRow]:
        """Judge what has an end, put out the rest as it stands: the end of a log."""
        self._devices = devices
        for key, tx in sorted(self._all.items(), key=lambda item: item[1].first_order):
            if tx.due_ns or not tx.final:
                tx.due_ns = 0
                self._look(key, tx, order, now_ns, last=True)
        out, self._out = self._out, []
        return out

    # -- time

    def _ticks_until(self, order: int, tick_order: Any, tick_ns: Any) -> None:
        """Let the ticks below `order` look at what is due."""
        while self._heap:
            k = int(np.searchsorted(tick_ns, self._heap[0][0]))
            # only ticks that come after what scheduled it, also within the same second
            k = max(k, int(np.searchsorted(tick_order, self._at, side="right")))
            if k >= len(tick_order) or tick_order[k] >= order:
                return
            due, station, tx_id = heapq.heappop(self._heap)
            tx = self._all.get((station, tx_id))
            if tx is None or tx.due_ns != due:
                continue
            tx.due_ns = 0
            self._at = int(tick_order[k])
            self._look((station, tx_id), tx, self._at, int(tick_ns[k]))

    def _schedule(self, key: Key, tx: Tx, due_ns: int) -> None:
        if tx.due_ns != due_ns:
            tx.due_ns = due_ns
            heapq.heappush(self._heap, (due_ns, *key))
        self._dirty.add(key)

    # -- messages

    def _take(self, record: Transaction | Status | Operator) -> None:
        if isinstance(record, Operator):
            if record.topic == "review":
                self._decide(record)
        elif isinstance(record, Status):
            self._status(record)
        else:
            self._transaction(record)

    def _transaction(self, record: Transaction) -> None:
        key = (record.station_row, record.tx_id)
        tx = self._all.get(key)
        if tx is None:
            if record.evse_row < 0:
                # which EVSE it is about, a later message tells
                self._homeless.setdefault(key, []).append(record)
                return
            tx = self._new(key, record)
            for earlier in self._homeless.pop(key, []):
                self._tell(key, tx, earlier)
        self._tell(key, tx, record)

    def _tell(self, key: Key, tx: Tx, record: Transaction) -> None:
        now = record.at.effect_ns
        self._registers.advance(tx.evse_row, self._at)
        before = tx.final and tx.start_ns is None
        changed = s.merge(tx, record)
        tx.heard_ns = max(tx.heard_ns, now)
        self._dirty.add(key)
        if not changed:
            return
        if tx.start_ns is not None and (tx.before is None or before):
            tx.before, tx.crowded = self._before(key, tx)
        if tx.final:
            self._schedule(key, tx, now)
            return
        tx.state = s.TRANSITIONS[tx.state, s.TOLD]
        if tx.start_ns is not None:
            self._close_earlier(key, tx, now)
        if tx.end_ns is not None:
            self._schedule(key, tx, now + self._settle(tx))
        else:
            self._schedule(key, tx, now + 3 * self._batch(tx))
        if tx.revision == 0:
            self._put(tx, judge(tx), now)

    def _new(self, key: Key, record: Transaction) -> Tx:
        devices, evse = self._devices, record.evse_row
        site, station, number = devices.names(evse)
        p_max = float(devices.p_max_w[evse])
        tx = Tx(
            site=site,
            station=station,
            evse_row=evse,
            evse=number,
            tx_id=record.tx_id,
            node_row=record.at.node_row,
            first_order=record.at.order,
            generation=int(devices.meter_generation[evse]),
            p_max_w=p_max if p_max == p_max else None,
            resolution_mwh=int(devices.resolution_mwh[evse]),
            modulus_mwh=int(devices.modulus_mwh[evse]),
            plugged_ns=self._plugged.get(evse),
        )
        self._all[key] = tx
        self._by_evse.setdefault(evse, []).append(key)
        self._registers.track(evse, True)
        tx.before, tx.crowded = self._before(key, tx)
        self._prune(record.at.effect_ns)
        return tx

    def _others(self, key: Key, tx: Tx) -> list[tuple[Key, Tx]]:
        return [(k, self._all[k]) for k in self._by_evse[tx.evse_row] if k != key]

    def _before(self, key: Key, tx: Tx) -> tuple[Point | None, bool]:
        newest = self._registers.newest(tx.evse_row)
        return s.register_before(newest, [t for _, t in self._others(key, tx)], tx.start_ns)

    def _close_earlier(self, key: Key, tx: Tx, now: int) -> None:
        """Let the begin of this transaction end those before it that have no end."""
        assert tx.start_ns is not None
        for k, other in self._others(key, tx):
            open_ = other.end_ns is None and not other.final and other.start_ns is not None
            if not open_ or other.closed_by is not None or (other.start_ns or 0) >= tx.start_ns:
                continue
            if None not in (other.connector, tx.connector) and other.connector != tx.connector:
                continue
            register = tx.begin_mwh
            if not register and tx.before is not None and tx.before.time_ns > (other.start_ns or 0):
                register = tx.before.reg_mwh
            if register:
                other.closed_by = Point(tx.start_ns, register)
                self._schedule(k, other, now + self._settle(other))

    def _status(self, record: Status) -> None:
        status = record.status16 or record.status
        evses = [record.evse_row] if record.evse_row >= 0 else self._devices.evses_of(record.station_row)
        for evse in evses:
            if status in _PLUGGED:
                self._plugged.setdefault(evse, record.time_ns)
            elif status in _FREE:
                self._plugged.pop(evse, None)
                self._unplugged(evse, record)

    def _unplugged(self, evse: int, record: Status) -> None:
        for key in self._by_evse.get(evse, [])[-2:]:
            tx = self._all[key]
            start = tx.start_ns if tx.start_ns is not None else record.time_ns
            if tx.free_ns is None and start <= record.time_ns and record.conn in (tx.connector, None, 0, 1):
                newer = [t for _, t in self._others(key, tx) if (t.start_ns or 0) > start]
                if any((t.start_ns or 0) <= record.time_ns for t in newer):
                    continue
                tx.free_ns = record.time_ns
                self._schedule(key, tx, record.at.effect_ns + self._settle(tx))

    def _decide(self, record: Operator) -> None:
        """Take in what a person decided about a transaction in review."""
        body = record.body
        for key, tx in self._all.items():
            if (tx.site, tx.station, tx.tx_id) != tuple(
                body.get(name) for name in ("site", "station", "transaction_id")
            ):
                continue
            tx.decision = {
                "decision": body.get("decision"),
                "energy_mwh": body.get("energy_mwh"),
                "reason": body.get("reason", ""),
                "by": body.get("by", ""),
                "at": record.at.effect_ns // NS_PER_MS,
            }
            tx.state = s.TRANSITIONS[tx.state, s.DECIDED]
            self._schedule(key, tx, record.at.effect_ns)

    # -- judgement

    def _settle(self, tx: Tx) -> int:
        known = int(self._devices.batch_ns[tx.node_row]) if tx.node_row >= 0 else NO_TIME
        return self.config.settle_ns if known == NO_TIME else max(self.config.settle_ns, known + known // 2)

    def _batch(self, tx: Tx) -> int:
        known = int(self._devices.batch_ns[tx.node_row]) if tx.node_row >= 0 else NO_TIME
        return self.config.batch_ns if known == NO_TIME else max(known, self.config.settle_ns // 3)

    def _look(self, key: Key, tx: Tx, order: int, now: int, *, last: bool = False) -> None:
        """Judge a transaction as it is known at `order`, journaled time `now`."""
        self._dirty.add(key)
        if not last:
            self._registers.advance(tx.evse_row, order)
        self._read_track(tx)
        verdict = judge(tx)
        if tx.decision is not None:
            self._put(tx, verdict, now)
        elif verdict.ended:
            tx.state = s.TRANSITIONS[tx.state, s.DOUBT if verdict.reasons else s.ENDED]
            was_final, tx.final = tx.final, True
            if was_final and differs(tx, verdict):
                tx.late = True
                verdict = judge(tx)
            self._put(tx, verdict, now)
            self._untrack(tx)
        else:
            self._without_end(key, tx, now, verdict, last=last)

    def _without_end(self, key: Key, tx: Tx, now: int, verdict: Verdict, *, last: bool) -> None:
        heard = max(tx.heard_ns, self._registers.heard_ns(tx.evse_row))
        silent = now - heard >= 3 * self._batch(tx) or tx.free_ns is not None
        if now - heard >= self.config.review_ns:
            tx.state = s.TRANSITIONS[tx.state, s.AGED]
            tx.final = True
            verdict.reasons.append("no end was told within a week of the last sign")
            self._untrack(tx)
        else:
            tx.state = s.TRANSITIONS[tx.state, s.SILENCE if silent else s.RETURNED]
            if not last:
                wait = max(3 * self._batch(tx), self.config.batch_ns) if silent else 3 * self._batch(tx)
                self._schedule(key, tx, max(now + 1, min(heard + wait if not silent else now + wait,
                                                         heard + self.config.review_ns)))  # fmt: skip
        if tx.state != s.OPEN or last:
            if tx.state != s.OPEN:
                verdict.flags.add("missing_ended")
            self._put(tx, verdict, now)

    def _read_track(self, tx: Tx) -> None:
        if tx.final and tx.points:
            return
        begin = tx.start_ns if tx.start_ns is not None else 0
        end = tx.end_ns if tx.end_ns is not None else int(np.iinfo(np.int64).max)
        if tx.end_ns is None and tx.closed_by is not None:
            end = tx.closed_by.time_ns
        points, falls = self._registers.points(tx.evse_row, begin, end)
        if points:
            tx.points = [Point(t, r) for t, r in points]
            tx.falls = [(f[0], f[1], f[2], f[3]) for f in falls]
        tx.end_generation = int(self._devices.meter_generation[tx.evse_row])

    def _untrack(self, tx: Tx) -> None:
        waiting = [t for t in map(self._all.__getitem__, self._by_evse[tx.evse_row]) if not t.final]
        if not waiting:
            self._registers.track(tx.evse_row, False)
        else:
            self._registers.forget(tx.evse_row, min(t.start_ns or 0 for t in waiting))

    def _prune(self, now: int) -> None:
        """Forget transactions that nothing can be expected of any more."""
        if len(self._all) % 64 and len(self._all) < self.config.keep_max:
            return
        old = [
            key
            for key, tx in self._all.items()
            if tx.final and not tx.due_ns and now - tx.heard_ns > self.config.keep_ns
        ]
        spare = len(self._all) - len(old) - self.config.keep_max
        if spare > 0:
            final = [k for k, tx in self._all.items() if tx.final and not tx.due_ns and k not in set(old)]
            old += sorted(final, key=lambda k: self._all[k].heard_ns)[:spare]
        for key in old:
            self._by_evse[self._all.pop(key).evse_row].remove(key)
            self._encoded.pop(key, None)
            self._dirty.discard(key)

    # -- output

    def _put(self, tx: Tx, verdict: Verdict, now_ns: int) -> None:
        body = session_body(tx, verdict)
        if body == tx.body:
            return
        tx.body = body
        tx.revision += 1
        row = session_row(tx, verdict, now_ns)
        if self._cashier is not None:
            row, cdrs = with_bill(self._cashier, tx, verdict, row, self._devices, now_ns)
            self.cdrs += cdrs
        self._out.append(row)

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; between batches only."""
        for key in self._dirty:
            self._encoded[key] = msgspec.msgpack.encode(self._all[key])
        self._dirty.clear()
        return {
            "version": VERSION,
            "registers": self._registers.snapshot(),
            "all": [(row, tx, data) for (row, tx), data in self._encoded.items()],
            "homeless": [(*key, msgspec.msgpack.encode(told)) for key, told in self._homeless.items()],
            "plugged": list(self._plugged.items()),
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._registers.nbytes()

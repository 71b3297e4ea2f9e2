"""Transactions from messages in any order: what each is worth, and whether it may be billed.

A transaction is looked at again when something new is told of it or of its neighbours, and when journaled
time says so: its end is judged once the readings around it can have come (`settle_ns`, or one and a half
times the node's `batch_s`), an end that never comes is noticed by silence, and what stays without an end for
`review_ns` goes to a person. What was final and changes later gets a higher revision.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from . import _tx_state as s
from ._tx_around import forgettable, new_tx, speaks_for_itself
from ._tx_gather import END, Gathered
from ._tx_judge import Verdict, judge
from ._tx_rows import BILL, differs, read_decision, session_body, session_row
from ._tx_schedule import COST, LOOK, Key, Schedule
from ._tx_state import TransactionConfig, Tx
from ._tx_till import Takings, Till, at_start
from ._tx_times import Waits
from .batch import TICK, MessageColumns, ReadingBatch
from .cashier import Cashier
from .devices import DeviceTable
from .errors import SnapshotError
from .held_back import KIND as HELD
from .held_back import read_held
from .outputs import SessionRow
from .partner_tokens import KIND as TOKEN
from .partner_tokens import read_token
from .payments import KIND as PAYMENT
from .payments import read_payment
from .records import Birth, Link, Operator, Record, Status, Transaction
from .signed_values import Signatures
from .units import NS_PER_MS

__all__ = ["TransactionBook", "TransactionConfig"]

VERSION: Final = 2


class TransactionBook:
    """The transactions of one shard.

    Parameters
    ----------
    config : TransactionConfig
    resume_state : dict, optional
        What `snapshot` returned.
    cashier : Cashier, optional
        Makes the bills of transactions that are complete; without one there are none.
    signatures : Signatures, optional
        How signed values are checked; without it they are only carried.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version.
    """

    def __init__(
        self,
        config: TransactionConfig,
        resume_state: dict[str, Any] | None = None,
        cashier: Cashier | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        self.config = config
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(
                f"transactions have version {state['version']!r}, this program reads {VERSION}"
            )
        self._till = Till(cashier, config.cost_ns, state.get("till"), state.get("tokens"))
        self._encoded: dict[Key, bytes] = {(row, tx): data for row, tx, data in state.get("all", [])}
        self._all: dict[Key, Tx] = {
            key: msgspec.msgpack.decode(data, type=Tx) for key, data in self._encoded.items()
        }
        self._near = Gathered(state, self._all, signatures)
        #: forgotten transactions: revision, and whether they were billed
        self._gone: dict[Key, list[int]] = {(row, tx): known for row, tx, *known in state.get("gone", [])}
        self._schedule = Schedule()
        for key, tx in sorted(self._all.items(), key=lambda item: (item[1].first_order, item[0][1])):
            self._near.by_evse.setdefault(tx.evse_row, []).append(key)
            self._schedule.push(key, tx, LOOK)
            self._schedule.push(key, tx, COST)
        self._dirty: set[Key] = set()
        self._out: list[SessionRow] = []
        self._at = -1  # order of what is being taken in
        self._devices = DeviceTable()
        self._waits = Waits(config, self._devices.batch_ns)

    def process(
        self,
        rows: ReadingBatch,
        late: ReadingBatch,
        messages: MessageColumns,
        records: list[Record],
        devices: DeviceTable,
    ) -> list[SessionRow]:
        """Take in one batch; return the transactions that changed, in the order of what changed them."""
        self._devices, self._waits.batch_ns = devices, devices.batch_ns
        self._near.registers.begin(rows, late, devices)
        ticks = np.flatnonzero(messages.kind == TICK)
        tick_order, tick_ns = messages.order[ticks].tolist(), messages.effect_ns[ticks].tolist()
        for record in records:
            if isinstance(record, Transaction | Status | Operator | Birth | Link):
                self._ticks_until(record.at.order, tick_order, tick_ns)
                self._at = record.at.order
                self._take(record)
        self._ticks_until(END, tick_order, tick_ns)
        self._near.registers.finish()
        out, self._out = self._out, []
        return out

    def flush(self, order: int, now_ns: int, devices: DeviceTable) -> list[SessionRow]:
        """Judge what has an end, put out the rest as it stands: the end of a log."""
        self._devices, self._waits.batch_ns = devices, devices.batch_ns
        for key, tx in sorted(self._all.items(), key=lambda item: (item[1].first_order, item[0][1])):
            if tx.due_ns or not tx.final:
                tx.due_ns = 0
                self._look(key, tx, order, now_ns, last=True)
        out, self._out = self._out, []
        return out

    def _ticks_until(self, order: int, tick_order: list[int], tick_ns: list[int]) -> None:
        """Let the ticks below `order` look at what is due."""
        due = self._schedule.due(self._all, self._at, order, tick_order, tick_ns)
        for key, tx, what, tick, now in due:
            self._at = tick - 1
            if what == LOOK:
                self._look(key, tx, tick, now)
            else:
                self._tell_cost(key, tx, tick, now)

    def _tell_cost(self, key: Key, tx: Tx, order: int, now: int) -> None:
        """Tell what a transaction has cost until now, and when to tell it again."""
        self._dirty.add(key)
        if not tx.final and tx.evse_row >= 0:
            self._near.gather(key, tx, order, self._devices)
            held = self._near.held.within(tx.evse_row, tx.begins_ns, now)
            self._till.running(tx, judge(tx), held, self._devices, now)
            self._schedule_cost(key, tx, now)

    def _schedule_cost(self, key: Key, tx: Tx, now: int) -> None:
        tx.cost_due_ns = self._till.next_cost_ns(tx, now)
        self._schedule.push(key, tx, COST)

    def _look_later(self, key: Key, tx: Tx, due_ns: int) -> None:
        if tx.due_ns != due_ns:
            tx.due_ns = due_ns
            self._schedule.push(key, tx, LOOK)
        self._dirty.add(key)

    def _take(self, record: Transaction | Status | Operator | Birth | Link) -> None:
        if isinstance(record, Operator):
            if record.topic == "review":
                self._decide(record)
            elif record.topic == PAYMENT:
                self._pay(record)
            elif record.topic == HELD:
                self._hold(record)
            elif record.topic == TOKEN:
                self._till.tokens.take(read_token(record.body))
        elif isinstance(record, Status):
            self._near.around.heard(record.station_row, record.evse_row)
            self._near.around.status(record)
            self._wake_at_status(record)
        elif isinstance(record, Transaction):
            self._near.around.heard(record.station_row, record.evse_row)
            self._transaction(record)
        else:
            self._declared(record)

    def _declared(self, record: Birth | Link) -> None:
        devices, node = self._devices, record.at.node_row
        site = devices.sites[int(devices.node_site[node])]
        for item in record.evses:
            own = devices.stations[record.station_row] if isinstance(record, Link) else devices.nodes[node]
            station = devices.find_station(site, item.st or own)
            evse = devices.find_evse(station, item.evse)
            self._near.around.heard(station, evse)
            if self._near.around.declared(evse, item, record.at):
                self._near.changed(evse)

    def _transaction(self, record: Transaction) -> None:
        key = (record.station_row, record.tx_id)
        tx = self._all.get(key)
        if tx is None:
            tx = self._new(key, record)
        elif tx.evse_row < 0 and record.evse_row >= 0:
            self._near.place(key, tx, record.evse_row, self._devices, self._at)
        self._tell(key, tx, record)

    def _tell(self, key: Key, tx: Tx, record: Transaction) -> None:
        now = record.at.effect_ns
        start, end = tx.start_ns, tx.end_ns
        changed = s.merge(tx, record, own_node=speaks_for_itself(record, self._devices))
        tx.heard_ns = max(tx.heard_ns, now)
        self._dirty.add(key)
        if not changed:
            return
        if tx.evse_row >= 0:
            self._near.changed(tx.evse_row, key)
            self._near.registers.advance(tx.evse_row, record.at.order)
            self._near.look_aside(key, tx)
        if (start, end) != (tx.start_ns, tx.end_ns):
            self._wake_others(key, tx, now)
        if not tx.final and tx.start_ns is not None:
            self._began(key, tx, record.at.order, now)
        if tx.final:
            self._look_later(key, tx, now)
            return
        tx.state, tx.silent_ns = s.TRANSITIONS[tx.state, s.TOLD], 0
        waits = self._waits
        self._look_later(key, tx, now + (waits.settle_ns(tx) if tx.over else 3 * waits.batch_of(tx)))
        if tx.revision == tx.gone:
            self._put(tx, judge(tx), now)

    def _began(self, key: Key, tx: Tx, order: int, now: int) -> None:
        """Fix what a start fixes: prices that depend on the site, the payment; tell the cost from now on."""
        self._till.match(tx, now)
        self._till.whose(tx)
        if tx.at_start is None and self._till.asks_site(tx.site):
            others = [(k, o) for k, o in self._all.items() if o.site == tx.site and k != key]
            known = [(o, self._near.points_of(o, order)) for _, o in others]
            evses = self._near.around.evses_of(int(self._devices.station_site[tx.station_row]), self._devices)
            tx.at_start = at_start(tx, known, evses)
        if not tx.cost_due_ns:
            self._schedule_cost(key, tx, now)

    def _new(self, key: Key, record: Transaction) -> Tx:
        tx = new_tx(record, self._devices)
        revision, billed = self._gone.pop(key, (0, 0))
        tx.revision = tx.gone = revision
        tx.gone_billed = bool(billed)
        self._all[key] = tx
        self._near.by_evse.setdefault(-1, []).append(key)
        if record.evse_row >= 0:
            self._near.place(key, tx, record.evse_row, self._devices, self._at)
        self._prune(record.at.effect_ns)
        return tx

    def _wake_others(self, key: Key, tx: Tx, now: int) -> None:
        """Look again at neighbours whose begin or end may hang on this one."""
        for k, other in self._near.others(key, tx):
            earlier = other.begins_ns < tx.begins_ns
            told = other.end_mwh if earlier else other.begin_mwh
            if not told and (other.final or earlier):
                self._look_later(k, other, now + self._waits.settle_ns(other))

    def _wake_at_status(self, record: Status) -> None:
        for key in self._near.by_evse.get(record.evse_row, [])[-2:] if record.evse_row >= 0 else ():
            tx = self._all[key]
            free = tx.free_ns
            self._near.look_aside(key, tx)
            if tx.free_ns != free:
                self._look_later(key, tx, record.at.effect_ns + self._waits.settle_ns(tx))

    def _pay(self, record: Operator) -> None:
        """Take in what a payment system says, and let the running transactions of its station look for it."""
        word = read_payment(record.body)
        now = record.at.effect_ns
        station = self._devices.find_station(word.site, word.station)
        key = (station, word.transaction_id)
        self._till.paid(word, self._all.get(key), now)
        if key in self._all:
            self._dirty.add(key)
        for key, tx in self._all.items():
            if key[0] == station and not tx.payment and not tx.final:
                self._till.match(tx, now)
                self._dirty.add(key)
                if tx.payment and not tx.cost_due_ns:
                    self._schedule_cost(key, tx, now)

    def _hold(self, record: Operator) -> None:
        """Take in that an EVSE is held back, or no longer; look again at what it was told too late for."""
        for key, tx in self._near.hold(read_held(record.body), self._devices):
            self._look_later(key, tx, record.at.effect_ns + self._waits.settle_ns(tx))

    def _decide(self, record: Operator) -> None:
        """Take in what a person decided about a transaction that has no end or is in review."""
        body, devices = record.body, self._devices
        decision = read_decision(body, record.at.effect_ns // NS_PER_MS)
        site, station, tx_id = (str(body.get(name)) for name in ("site", "station", "transaction_id"))
        key = (devices.find_station(site, station), tx_id)
        tx = self._all.get(key)
        if tx is None or decision is None or tx.state not in (s.INCOMPLETE, s.REVIEW):
            return
        if body.get("session_revision") not in (None, tx.revision):
            return  # it was about another revision
        self._near.gather(key, tx, record.at.order, self._devices)
        verdict = judge(tx)
        if decision["decision"] == BILL and decision["energy_mwh"] is None and verdict.energy_mwh is None:
            return  # there is no energy to bill
        tx.decision, tx.final, tx.due_ns = decision, True, 0
        tx.state = s.TRANSITIONS[tx.state, s.DECIDED]
        self._dirty.add(key)
        self._near.changed(tx.evse_row, key)
        self._put(tx, verdict, record.at.effect_ns)
        self._near.untrack(key, tx)

    def _look(self, key: Key, tx: Tx, order: int, now: int, *, last: bool = False) -> None:
        """Judge a transaction as it is known at `order`, journaled time `now`."""
        self._dirty.add(key)
        if tx.evse_row < 0:
            only = self._near.around.only_evse(tx.station_row)
            if only >= 0:
                self._near.place(key, tx, only, self._devices, self._at)
        self._near.gather(key, tx, END if last else order, self._devices)
        self._near.changed(tx.evse_row, key)
        if self._waits.awaits_register(tx, now) and not last:
            self._look_later(key, tx, now + self._waits.settle_ns(tx))
            return
        if not tx.over:
            read_ns = self._near.registers.heard_ns(tx.evse_row) if tx.evse_row >= 0 else 0
            self._waits.note_silence(tx, read_ns, now)
        verdict = judge(tx)
        if tx.decision is not None:
            if not differs(tx, verdict):
                self._put(tx, verdict, now)
                return
            tx.set_aside = [*tx.set_aside, tx.decision]
            tx.decision = None
        if tx.final and differs(tx, verdict):
            tx.late = True
            verdict = judge(tx)
        if verdict.ended:
            tx.state = s.TRANSITIONS[tx.state, s.DOUBT if verdict.reasons else s.ENDED]
            tx.final = True
        else:
            self._without_end(key, tx, now, last=last)
        if tx.final:
            self._near.untrack(key, tx)
        if tx.state != s.OPEN or last:
            self._put(tx, verdict, now)

    def _without_end(self, key: Key, tx: Tx, now: int, *, last: bool) -> None:
        event = s.AGED if tx.aged else s.SILENCE if tx.silent_ns else s.RETURNED
        tx.state = s.TRANSITIONS[tx.state, event]
        tx.final = tx.final or tx.aged
        if tx.final or last:
            return
        wait = max(3 * self._waits.batch_of(tx), self.config.batch_ns if tx.silent_ns else 0)
        gone = tx.free_ns is not None or tx.next_start_ns is not None
        aged = tx.silent_ns + self.config.review_ns if tx.silent_ns else END
        self._look_later(key, tx, aged if gone else min(aged, now + wait))

    def _prune(self, now: int) -> None:
        """Forget transactions that nothing can be expected of any more."""
        if len(self._all) % 64 and len(self._all) < self.config.keep_max:
            return
        old = forgettable(self._all, self.config, now)
        for key in old:
            tx = self._all[key]
            self._gone[key] = [tx.revision, int(bool(tx.billed) or tx.gone_billed)]
            self._near.forget(key, tx)
            del self._all[key]
            self._encoded.pop(key, None)
            self._dirty.discard(key)
        for key in list(self._gone)[: max(0, len(self._gone) - self.config.gone_max)]:
            del self._gone[key]

    def _put(self, tx: Tx, verdict: Verdict, now_ns: int) -> None:
        body = session_body(tx, verdict)
        if body == tx.body:
            return
        tx.body = body
        tx.revision += 1
        self._till.whose(tx)
        row = session_row(tx, verdict, now_ns)
        self._out.append(self._till.bill(tx, verdict, row, self._devices, now_ns))

    def taken(self) -> Takings:
        """Return bills, costs, payments and messages since the last call."""
        return self._till.taken()

    def snapshot(self) -> dict[str, Any]:
        """Return plain data; between batches only."""
        for key in self._dirty:
            self._encoded[key] = msgspec.msgpack.encode(self._all[key])
        self._dirty.clear()
        return {
            "version": VERSION,
            "registers": self._near.registers.snapshot(),
            "all": [(row, tx, data) for (row, tx), data in self._encoded.items()],
            "around": self._near.around.snapshot(),
            "held": self._near.held.snapshot(),
            "till": self._till.snapshot(),
            "tokens": self._till.tokens.snapshot(),
            "gone": [[row, tx, *known] for (row, tx), known in self._gone.items()],
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self._near.registers.nbytes()

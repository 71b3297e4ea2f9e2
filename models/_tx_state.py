"""One transaction as it is known so far, and the states a bill may be in."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .records import Transaction
from .units import NS_PER_S

OPEN: Final = "open"
INCOMPLETE: Final = "incomplete"
COMPLETE: Final = "complete"
REVIEW: Final = "review"
CREDITED: Final = "credited"
STATES: Final = (OPEN, INCOMPLETE, COMPLETE, REVIEW, CREDITED)

# What happens to a transaction
TOLD: Final = "told"  # a message of it came
ENDED: Final = "ended"  # its end is known and may be judged
DOUBT: Final = "doubt"  # judged: not certain enough to be billed
SILENCE: Final = "silence"  # no end and nothing heard, or the connector is free
RETURNED: Final = "returned"  # heard of again
AGED: Final = "aged"  # incomplete for too long
DECIDED: Final = "decided"  # a person decided
EVENTS: Final = (TOLD, ENDED, DOUBT, SILENCE, RETURNED, AGED, DECIDED)

#: (state, event) -> state; total. A person's decision stands until a message changes what it was about.
TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (OPEN, TOLD): OPEN,
    (OPEN, ENDED): COMPLETE,
    (OPEN, DOUBT): REVIEW,
    (OPEN, SILENCE): INCOMPLETE,
    (OPEN, RETURNED): OPEN,
    (OPEN, AGED): REVIEW,
    (OPEN, DECIDED): COMPLETE,
    (INCOMPLETE, TOLD): OPEN,
    (INCOMPLETE, ENDED): COMPLETE,
    (INCOMPLETE, DOUBT): REVIEW,
    (INCOMPLETE, SILENCE): INCOMPLETE,
    (INCOMPLETE, RETURNED): OPEN,
    (INCOMPLETE, AGED): REVIEW,
    (INCOMPLETE, DECIDED): COMPLETE,
    (COMPLETE, TOLD): COMPLETE,
    (COMPLETE, ENDED): COMPLETE,
    (COMPLETE, DOUBT): REVIEW,
    (COMPLETE, SILENCE): COMPLETE,
    (COMPLETE, RETURNED): COMPLETE,
    (COMPLETE, AGED): COMPLETE,
    (COMPLETE, DECIDED): COMPLETE,
    (REVIEW, TOLD): REVIEW,
    (REVIEW, ENDED): COMPLETE,
    (REVIEW, DOUBT): REVIEW,
    (REVIEW, SILENCE): REVIEW,
    (REVIEW, RETURNED): REVIEW,
    (REVIEW, AGED): REVIEW,
    (REVIEW, DECIDED): COMPLETE,
    (CREDITED, TOLD): CREDITED,
    (CREDITED, ENDED): CREDITED,
    (CREDITED, DOUBT): CREDITED,
    (CREDITED, SILENCE): CREDITED,
    (CREDITED, RETURNED): CREDITED,
    (CREDITED, AGED): CREDITED,
    (CREDITED, DECIDED): CREDITED,
}


@dataclass(frozen=True, slots=True)
class TransactionConfig:
    """Times, in ns of the journal.

    Attributes
    ----------
    settle_ns : int
        From an end, or a next begin, to the judgement.
    batch_ns : int
        Longest time between two meter messages of nodes that do not declare it.
    review_ns : int
        From the last sign of a transaction without end to review. Source: CONVENTIONS, 7 days.
    cost_ns : int
        The running cost is told at most this often; 0: never.
    keep_ns : int
        How long a final transaction is kept for messages that come late.
    keep_max : int
        Final transactions kept per shard at most.
    gone_max : int
        Forgotten ones of which a shard still knows the revision at most, the newest ones.
    """

    settle_ns: int = 120 * NS_PER_S
    batch_ns: int = 900 * NS_PER_S
    review_ns: int = 7 * 86_400 * NS_PER_S
    cost_ns: int = 60 * NS_PER_S
    keep_ns: int = 8 * 86_400 * NS_PER_S
    keep_max: int = 50_000
    gone_max: int = 20_000


class Point(msgspec.Struct, array_like=True):
    """A register at a time."""

    time_ns: int
    reg_mwh: int


class Tx(msgspec.Struct, kw_only=True):
    """One transaction. Times are ns, corrected; registers mWh; None = not told."""

    site: str
    station: str
    station_row: int
    evse_row: int  # -1: no message has said which
    evse: int | None
    tx_id: str
    node_row: int
    connector: int | None = None
    first_order: int = 0
    # what its messages say
    start_ns: int | None = None
    start_reported_ns: int | None = None
    begins: list[int] = []  # registers that Started carried
    end_ns: int | None = None
    end_reported_ns: int | None = None
    ends: list[int] = []  # registers that Ended carried
    stopped_reason: str = ""
    token_type: str = ""
    token_hash: str = ""
    boots: list[int] = []  # of the station itself
    offline: bool = False
    corrected: bool = False
    seqs: list[list[int]] = []  # ranges of sequence numbers seen
    told: list[Point] = []  # registers that messages of the transaction carried
    first_ns: int = 0  # earliest and latest time of its messages
    last_ns: int = 0
    states: list[tuple[int, str]] = []  # (time, chargingState) where it changed
    signed: list[Any] = []
    # what is known around it
    p_max_w: float | None = None
    resolution_mwh: int = 1000
    modulus_mwh: int = 0
    before: Point | None = None  # newest register before the start
    crowded: bool = False  # another transaction may have used energy between `before` and the start
    next_start_ns: int | None = None  # start of the next transaction of the EVSE
    next_begin_mwh: int = 0  # its begin register, 0 when it told none
    replaced: bool = False  # another meter came while it ran
    relative: bool = False  # the EVSE has counted from 0 in another transaction
    plugged_ns: int | None = None  # the car was plugged in
    free_ns: int | None = None  # the connector became Available
    proof: dict[str, Any] | None = None  # what the signed values prove, of a transaction with an end
    points: list[Point] = []  # from the readings: by quarters, and one before and after
    # where it stands
    heard_ns: int = 0  # journaled time of the newest message
    end_heard_ns: int = 0  # journaled time at which the end was told
    silent_ns: int = 0  # journaled time since which it is incomplete, 0 when it is not
    aged: bool = False  # incomplete for too long
    late: bool = False
    cost_due_ns: int = 0  # journaled time at which its cost is told next, 0 = never
    cost: list[Any] = []  # energy and totals as told last
    payment: str = ""  # authorization reference of the payment that it was authorised with
    cdr_token: dict[str, str] | None = None  # as its eMSP told us, None: it is no partner's
    held: list[tuple[int, int]] = []  # spans in which load management held its EVSE below 6 A
    at_start: dict[str, Any] | None = None  # what the site did, where its prices depend on it
    due_ns: int = 0  # journaled time at which it is looked at again, 0 = never
    state: str = OPEN
    final: bool = False  # was complete or in review once
    gone: int = 0  # its revision when it was forgotten; a message came after that
    gone_billed: bool = False  # it was billed before it was forgotten
    decision: dict[str, Any] | None = None
    billed: bytes = b""  # the newest bill, as it was sent
    set_aside: list[dict[str, Any]] = []  # decisions on what messages changed since
    revision: int = 0
    body: dict[str, Any] = {}  # as put out last

    @property
    def begin_mwh(self) -> int | None:
        """The begin register as told; a 0 gives way to another."""
        return max(self.begins, default=None)

    @property
    def end_mwh(self) -> int | None:
        """The end register as told."""
        return max(self.ends, default=None)

    @property
    def begins_ns(self) -> int:
        """When it began, as far as is known: at the latest when the car was plugged in, untold."""
        if self.start_ns is not None:
            return self.start_ns
        return self.first_ns if self.plugged_ns is None else self.plugged_ns

    @property
    def closed_by(self) -> Point | None:
        """The next transaction's begin, where that ends this one."""
        if self.end_ns is not None or self.next_start_ns is None or not self.next_begin_mwh:
            return None
        return Point(self.next_start_ns, self.next_begin_mwh)

    @property
    def over(self) -> bool:
        """Return whether an end is known that may be judged."""
        return self.end_ns is not None or self.closed_by is not None

    def sees(self, seq: int) -> None:
        """Note a sequence number."""
        joined: list[list[int]] = []
        for low, high in sorted([*self.seqs, [seq, seq]]):
            if joined and low <= joined[-1][1] + 1:
                joined[-1][1] = max(high, joined[-1][1])
            else:
                joined.append([low, high])
        self.seqs = joined

    def gap(self) -> bool:
        """Return whether a message is missing: Started has the first number, without it that is 0."""
        return len(self.seqs) > 1 or (self.start_ns is None and bool(self.seqs) and self.seqs[0][0] > 0)


def merge(tx: Tx, record: Transaction, *, own_node: bool) -> bool:
    """Take one message into the transaction; return whether it told anything new.

    `own_node`: the station speaks for itself, so that another boot is a restart of the station.
    """
    known = _told_so_far(tx)
    t, told = record.time_ns, record.reg_mwh
    if record.seq_no is not None:
        tx.sees(record.seq_no)
    if record.conn is not None and tx.connector is None:
        tx.connector = record.conn
    tx.token_hash = tx.token_hash or record.id_token_hash
    tx.token_type = tx.token_type or record.id_token_type
    tx.offline |= record.offline
    tx.corrected |= t != record.time_reported_ns
    tx.first_ns, tx.last_ns = min(tx.first_ns or t, t), max(tx.last_ns, t)
    if own_node and record.at.boot >= 0:
        tx.boots = sorted({*tx.boots, record.at.boot})
    if record.event_type == "Started":
        if tx.start_ns is None or t < tx.start_ns:
            tx.start_ns, tx.start_reported_ns = t, record.time_reported_ns
        tx.begins = _with(tx.begins, told)
    elif record.event_type == "Ended":
        if tx.end_ns is None or t < tx.end_ns:
            tx.end_ns, tx.end_reported_ns = t, record.time_reported_ns
        tx.ends = _with(tx.ends, told)
        tx.stopped_reason = tx.stopped_reason or record.stopped_reason
        tx.end_heard_ns = tx.end_heard_ns or record.at.effect_ns
    if told is not None:
        point = Point(t, told)
        if point not in tx.told:
            insort(tx.told, point, key=_when)
    if record.charging_state:
        change = (t, record.charging_state)
        if change not in tx.states:
            insort(tx.states, change)
    if record.signed is not None and record.signed not in tx.signed:
        tx.signed.append(record.signed)
    return _told_so_far(tx) != known


def _when(point: Point) -> tuple[int, int]:
    return point.time_ns, point.reg_mwh


def _told_so_far(tx: Tx) -> tuple[Any, ...]:
    """Return all that a message may change; of lists that only grow, how long they are."""
    return (
        tx.connector, tx.token_hash, tx.token_type, tx.offline, tx.corrected, tx.first_ns, tx.last_ns,
        tx.start_ns, tx.start_reported_ns, tx.end_ns, tx.end_reported_ns, tx.end_heard_ns, tx.stopped_reason,
        tx.seqs, tx.boots, tx.begins, tx.ends, len(tx.told), len(tx.states), len(tx.signed),
    )  # fmt: skip


def _with(registers: list[int], told: int | None) -> list[int]:
    return registers if told is None else sorted({*registers, told})

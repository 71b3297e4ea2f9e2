"""One transaction as it is known so far, and the states a bill may be in."""

from __future__ import annotations

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
    keep_ns : int
        How long a final transaction is kept for messages that come late.
    keep_max : int
        Final transactions kept per shard at most.
    """

    settle_ns: int = 120 * NS_PER_S
    batch_ns: int = 900 * NS_PER_S
    review_ns: int = 7 * 86_400 * NS_PER_S
    keep_ns: int = 8 * 86_400 * NS_PER_S
    keep_max: int = 50_000


class Point(msgspec.Struct, array_like=True):
    """A register at a time."""

    time_ns: int
    reg_mwh: int


class Tx(msgspec.Struct, kw_only=True):
    """One transaction. Times are ns, corrected; registers mWh; None = not told."""

    site: str
    station: str
    evse_row: int
    evse: int
    tx_id: str
    node_row: int
    connector: int | None = None
    first_order: int = 0
    start_ns: int | None = None
    start_reported_ns: int | None = None
    begin_mwh: int | None = None
    end_ns: int | None = None
    end_reported_ns: int | None = None
    end_mwh: int | None = None
    stopped_reason: str = ""
    generation: int = 0  # of the meter at the begin
    end_generation: int = 0
    p_max_w: float | None = None
    resolution_mwh: int = 1000
    modulus_mwh: int = 0
    before: Point | None = None  # newest register before the start
    crowded: bool = False  # another transaction lies between `before` and the start
    closed_by: Point | None = None  # the next transaction's begin
    free_ns: int | None = None  # the connector became Available
    plugged_ns: int | None = None
    token_type: str = ""
    token_hash: str = ""
    boots: list[int] = []
    offline: bool = False
    corrected: bool = False
    late: bool = False
    seqs: list[list[int]] = []  # ranges of sequence numbers seen
    told: list[Point] = []  # registers that messages of the transaction carried
    states: list[tuple[int, str]] = []  # (time, chargingState) where it changed
    points: list[Point] = []  # from the readings: by quarters, and one before and after
    falls: list[tuple[int, int, int, int]] = []
    signed: list[Any] = []
    heard_ns: int = 0  # journaled time of the newest message
    due_ns: int = 0  # journaled time at which it is looked at again, 0 = never
    state: str = OPEN
    final: bool = False  # was complete or in review once
    decision: dict[str, Any] | None = None
    billed: bytes = b""  # the figures of the newest bill
    revision: int = 0
    body: dict[str, Any] = {}  # as put out last

    def sees(self, seq: int) -> bool:
        """Note a sequence number; return whether it is new."""
        for r in self.seqs:
            if r[0] <= seq <= r[1]:
                return False
        self.seqs.append([seq, seq])
        self.seqs.sort()
        joined: list[list[int]] = []
        for low, high in self.seqs:
            if joined and low <= joined[-1][1] + 1:
                joined[-1][1] = max(high, joined[-1][1])
            else:
                joined.append([low, high])
        self.seqs = joined
        return True

    def gap(self) -> bool:
        """Return whether a message of the transaction is missing, by its sequence numbers."""
        return bool(self.seqs) and (len(self.seqs) > 1 or self.seqs[0][0] > 0)


def merge(tx: Tx, record: Transaction) -> bool:
    """Take one message into the transaction; return whether it told anything new."""
    known = msgspec.to_builtins(tx)
    if record.seq_no is not None:
        tx.sees(record.seq_no)
    if record.conn is not None and tx.connector is None:
        tx.connector = record.conn
    tx.token_hash = tx.token_hash or record.id_token_hash
    tx.token_type = tx.token_type or record.id_token_type
    tx.offline |= record.offline
    tx.corrected |= record.time_ns != record.time_reported_ns
    if record.at.boot >= 0 and record.at.boot not in tx.boots:
        tx.boots.append(record.at.boot)
        tx.boots.sort()
    if record.event_type == "Started" and tx.start_ns is None:
        tx.start_ns, tx.start_reported_ns = record.time_ns, record.time_reported_ns
        tx.begin_mwh = record.reg_mwh
    elif record.event_type == "Ended" and tx.end_ns is None:
        tx.end_ns, tx.end_reported_ns = record.time_ns, record.time_reported_ns
        tx.end_mwh, tx.stopped_reason = record.reg_mwh, record.stopped_reason
    if record.reg_mwh is not None:
        point = Point(record.time_ns, record.reg_mwh)
        if point not in tx.told:
            tx.told.append(point)
            tx.told.sort(key=lambda p: (p.time_ns, p.reg_mwh))
    if record.charging_state:
        change = (record.time_ns, record.charging_state)
        if change not in tx.states:
            tx.states.append(change)
            tx.states.sort()
    if record.signed is not None and record.signed not in tx.signed:
        tx.signed.append(record.signed)
    return bool(msgspec.to_builtins(tx) != known)


def register_before(
    newest: tuple[int, int] | None, others: list[Tx], start_ns: int | None
) -> tuple[Point | None, bool]:
    """Return (the newest register known before a start, whether another transaction lies between).

    `newest` is the EVSE's newest reading (time, register), `others` are its other transactions.
    """
    known = [Point(*newest)] if newest is not None and (start_ns is None or newest[0] < start_ns) else []
    told = [t for t in others if t.start_ns is not None]
    for other in told:
        known += [point for point in other.told if start_ns is None or point.time_ns < start_ns]
    if not known:
        return None, False
    best = max(known, key=lambda p: (p.time_ns, p.reg_mwh))
    between = any(
        best.time_ns < (t.start_ns or 0) and (start_ns is None or (t.start_ns or 0) < start_ns) for t in told
    )
    return best, between

"""Transactions as they arrive: wrong clocks, duplicates, gateways, reordering, days late, restarts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from models.cashier import BillingPlan, Cashier, Place
from models.dynamic import Succession
from models.tariffs import read
from models.transactions import TransactionConfig
from tests.transaction_log import (
    BEGIN,
    DAY,
    END,
    HOUR,
    MINUTE,
    SECOND,
    T0,
    TxLog,
    charge,
    final,
    log_of,
    only,
    outcome,
    run,
    run_all,
    sessions,
)

# -- delivery


def test_a_wrong_clock_is_corrected() -> None:
    log = log_of(idle_wh=None)
    for k in range(4):
        log.send(5 * MINUTE + k * MINUTE, "hb", t=T0 + 5 * MINUTE + k * MINUTE - HOUR)
    log.tx(BEGIN - HOUR, "Started", 500_000, at=BEGIN)
    log.tx(END - HOUR, "Ended", 510_000, at=END)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row) == ("complete", 10_000.0, ["clock_corrected"])
    assert (row.start_ms, row.end_ms) == (T0 + BEGIN, T0 + END)
    assert row.body["start_reported"] == T0 + BEGIN - HOUR


def test_duplicates_leave_no_trace() -> None:
    log = log_of()
    log.session(BEGIN, END, 500_000, 510_000)
    log.tx(BEGIN, "Started", 500_000, seq=0, at=BEGIN + 30 * SECOND)
    log.tx(END, "Ended", 510_000, seq=1, at=5 * HOUR)  # under another number, hours later
    log.until(6 * HOUR)
    rows = run(log.frame())
    assert [row.state for row in rows] == ["open", "complete"]
    assert outcome(rows[-1]) == ("complete", 10_000.0, [])


def test_two_gateways_tell_the_same_without_a_flag() -> None:
    log = TxLog(node="gw1")
    log.birth(node="gw1")
    log.birth(node="gw2", boot=7)
    for kind, t, wh, seq in (("Started", BEGIN, 500_000, 0), ("Ended", END, 510_000, 1)):
        log.tx(t, kind, wh, seq=seq, st="st1", node="gw1")
        log.tx(t, kind, wh, seq=seq, st="st1", node="gw2", boot=7, at=t + SECOND)
    log.until(3 * HOUR)
    assert outcome(sessions(log)["st1/a"]) == ("complete", 10_000.0, [])


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_reordered_messages_leave_no_trace(order: tuple[int, ...]) -> None:
    log = log_of()
    parts = [("Started", BEGIN, 500_000.0), ("Updated", 20 * MINUTE, 501_000.0),
             ("Updated", 30 * MINUTE, None), ("Ended", END, 510_000.0)]  # fmt: skip
    for place, k in enumerate(order):
        kind, t, wh = parts[k]
        log.tx(t, kind, wh, seq=k, at=END + place * 20 * SECOND)
    assert only(log) == ("complete", 10_000.0, [])


def test_messages_delivered_days_later_bill_as_offline() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, offline=True, at=3 * DAY)
    log.tx(END, "Ended", 510_000, offline=True, at=3 * DAY + SECOND)
    assert only(log, 4 * DAY) == ("complete", 10_000.0, ["offline"])


def test_a_placeholder_from_offline_is_found_though_newer_readings_came_first() -> None:
    log = log_of()
    log.read(3 * HOUR, 510_000)
    log.tx(BEGIN, "Started", 0, offline=True, at=3 * HOUR + SECOND)
    log.tx(END, "Ended", 510_000, offline=True, at=3 * HOUR + 2 * SECOND)
    assert only(log, 5 * HOUR) == ("complete", 10_000.0, ["offline", "placeholder_begin"])


def test_late_readings_show_an_end_register() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.read(3 * HOUR, 512_000)
    log.tx(END, "Ended", None, offline=True, at=3 * HOUR + SECOND)
    log.read(END, 510_000, at=3 * HOUR + 2 * SECOND)
    assert only(log, 5 * HOUR) == ("complete", 10_000.0, ["offline"])


def test_a_message_after_the_end_of_all_is_late_and_a_revision() -> None:
    log = log_of()
    charge(log)
    log.tx(END, "Ended", 510_000, seq=1)
    log.tx(BEGIN, "Started", 499_900, seq=0, at=5 * HOUR)
    log.until(6 * HOUR)
    rows = run(log.frame())
    assert [(row.revision, row.state) for row in rows] == [(1, "open"), (2, "review"), (3, "complete")]
    assert outcome(rows[-1]) == ("complete", 10_100.0, ["late"])


def test_a_missing_number_is_a_gap_counted_from_the_start() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=3)
    log.tx(30 * MINUTE, "Updated", 505_000, seq=4)
    log.tx(END, "Ended", 510_000, seq=6)
    assert only(log) == ("complete", 10_000.0, ["seq_gap"])
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=3)
    log.tx(END, "Ended", 510_000, seq=4)
    assert only(log) == ("complete", 10_000.0, [])


def test_a_restart_inside_interrupts() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.birth(30 * MINUTE, boot=2)
    log.tx(END, "Ended", 510_000, boot=2)
    assert only(log) == ("complete", 10_000.0, ["interrupted"])


def test_the_evse_may_be_told_only_later_or_not_at_all_where_there_is_one() -> None:
    log = log_of(evses=(1, 2))
    log.tx(BEGIN, "Started", 500_000, evse=None, seq=0)
    log.tx(END, "Ended", 510_000, seq=1)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row) == ("complete", 10_000.0, [])
    assert row.evse == 1
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, evse=None)
    log.tx(END, "Ended", 510_000, evse=None)
    assert only(log) == ("complete", 10_000.0, [])


def test_a_message_after_it_was_forgotten_goes_on_with_the_revisions_and_bills_nothing_twice() -> None:
    log = log_of()
    log.session(BEGIN, END, 500_000, 510_000, tx="a")
    log.session(END + HOUR, END + 2 * HOUR, 510_000, 511_000, tx="b")
    log.tx(END, "Updated", 510_000, seq=5, tx="a", at=5 * HOUR)
    log.until(9 * DAY)
    place = Place(Succession([read(TARIFF)], "UTC"), "", "", "", "DEU", "", "0.00000", "0.00000")
    known: dict[str, Any] = {"cashier": Cashier(BillingPlan("DE", "CHS", default=place))}
    config = TransactionConfig(keep_max=0)
    got = run_all(log.frame(), (), config, **known)
    last = final(got.sessions)
    assert last["a"].state == "review"  # its revisions went on, which `final` makes sure of
    assert "late" in last["a"].flags
    assert "told of again after it was forgotten: its bill stands" in last["a"].body["reasons"]
    assert [cdr.transaction_id for cdr in got.cdrs] == ["a", "b"]
    log.review(8 * DAY, transaction_id="a", decision="bill", energy_wh=10_000)
    decided = run_all(log.frame(), (40, 130, 200), config, restore=True, **known)
    assert final(decided.sessions)["a"].state == "complete"
    assert [cdr.transaction_id for cdr in decided.cdrs] == ["a", "b"]


TARIFF = {
    "id": "T", "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.5, "step_size": 1}]}],
}  # fmt: skip

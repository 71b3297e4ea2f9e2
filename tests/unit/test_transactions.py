"""Transactions: one scenario for every rule and flag, as messages that a station sends."""

from __future__ import annotations

import itertools

import pytest

from models import _tx_state as s
from models.errors import SnapshotError
from models.transactions import TransactionBook, TransactionConfig
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
    log_of,
    only,
    outcome,
    run,
    sessions,
)


def test_transition_table_is_total() -> None:
    assert set(s.TRANSITIONS) == set(itertools.product(s.STATES, s.EVENTS))
    assert set(s.TRANSITIONS.values()) <= set(s.STATES)
    for event in s.EVENTS:
        assert s.TRANSITIONS[s.CREDITED, event] == s.CREDITED


def test_an_undisturbed_transaction_is_complete_without_flags() -> None:
    log = log_of()
    log.session(BEGIN, END, 500_000, 510_000, idTokenHash="h", idTokenType="ISO14443")
    log.until(2 * HOUR)
    rows = run(log.frame())
    assert [row.state for row in rows] == ["open", "complete"]
    last = rows[-1]
    assert outcome(last) == ("complete", 10_000.0, [])
    assert (last.token_type, last.token_hash) == ("ISO14443", "h")
    body = last.body
    assert (body["start"], body["end"]) == (T0 + BEGIN, T0 + END)
    assert (body["session_start"], body["session_end"]) == (T0 + BEGIN - SECOND, T0 + END + SECOND)
    assert (body["begin_wh"], body["end_wh"], body["energy_wh"]) == ("500000", "510000", "10000")


def test_energy_is_exact_to_the_milliwatt_hour() -> None:
    log = log_of(idle_wh=None)
    log.tx(BEGIN, "Started", 1000.001)
    log.tx(END, "Ended", 1000.3)
    assert only(log) == ("complete", 0.299, [])


# -- placeholder begin


def test_placeholder_begin_takes_the_register_known_before() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 0, seq=0)
    charge(log)
    log.tx(END, "Ended", 510_000, seq=1)
    assert only(log) == ("complete", 10_000.0, ["placeholder_begin"])


def test_placeholder_begin_after_a_transaction_takes_its_end() -> None:
    log = log_of(idle_wh=None)
    log.tx(MINUTE, "Started", 490_000, tx="first")
    log.tx(9 * MINUTE, "Ended", 492_000, tx="first")
    log.tx(BEGIN, "Started", 0)
    log.tx(END, "Ended", 502_000)
    assert only(log) == ("complete", 10_000.0, ["placeholder_begin"])


def test_placeholder_begin_with_another_transaction_between_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 0, tx="lost")
    log.tx(BEGIN + 20 * MINUTE, "Started", 0)
    log.tx(END, "Ended", 508_000)
    assert only(log)[::2] == ("review", ["placeholder_begin"])


def test_placeholder_begin_with_too_much_energy_is_reviewed() -> None:
    log = log_of(idle_wh=100_000)
    log.tx(BEGIN, "Started", 0)
    log.tx(END, "Ended", 510_000)
    assert only(log)[0] == "review"


def test_placeholder_begin_without_any_register_before_is_reviewed() -> None:
    log = log_of(idle_wh=None)
    log.tx(BEGIN, "Started", 0, offline=True)
    log.tx(END, "Ended", 5_000)
    assert only(log)[::2] == ("review", ["offline", "placeholder_begin"])


def test_a_new_meter_really_begins_at_0() -> None:
    log = log_of(idle_wh=None)
    log.tx(BEGIN, "Started", 0)
    charge(log, 0, 10_000)
    log.tx(END, "Ended", 10_000)
    assert only(log) == ("complete", 10_000.0, [])


def test_a_placeholder_gives_way_to_the_register_of_a_second_start() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 0, seq=0)
    log.tx(BEGIN, "Started", 500_000, seq=0)
    log.tx(END, "Ended", 510_000, seq=1)
    assert only(log) == ("complete", 10_000.0, [])


def test_begin_and_end_of_0_are_no_energy_of_0() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 0)
    log.tx(END, "Ended", 0)
    assert only(log)[0] == "review"


# -- missing messages


def test_a_missing_start_is_reviewed_with_a_proposed_begin() -> None:
    log = log_of()
    log.status(BEGIN - SECOND, "Occupied")
    charge(log)
    log.tx(END, "Ended", 510_000, seq=5)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row) == ("review", 10_000.0, ["missing_started", "seq_gap"])
    assert row.body["begin_wh"] == "500000"
    assert row.body["reasons"] == ["the begin of the transaction was never told"]


def test_an_end_without_evse_and_start_is_reviewed() -> None:
    log = log_of(evses=(1, 2))
    log.tx(END, "Ended", 510_000, evse=None)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert row.state == "review"
    assert row.evse is None


def test_a_missing_end_is_closed_by_the_next_begin() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log, 500_000, 508_000)
    log.tx(2 * HOUR, "Started", 508_000, tx="b")
    log.tx(3 * HOUR, "Ended", 509_000, tx="b")
    log.until(4 * HOUR)
    found = sessions(log)
    assert outcome(found["a"]) == ("complete", 8_000.0, ["closed_by_next", "missing_ended"])
    assert outcome(found["b"]) == ("complete", 1_000.0, [])


def test_a_transaction_on_another_connector_of_the_evse_closes_too() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.tx(2 * HOUR, "Started", 508_000, tx="b", conn=2)
    log.tx(3 * HOUR, "Ended", 509_000, tx="b", conn=2)
    log.tx(4 * HOUR, "Started", 509_000, tx="c")
    assert only(log, 5 * HOUR) == ("complete", 8_000.0, ["closed_by_next", "missing_ended"])


def test_a_next_begin_of_0_closes_nothing_and_hides_what_it_began_with() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log, 500_000, 508_000)
    log.tx(3 * HOUR, "Started", 0, tx="b")
    log.tx(4 * HOUR, "Ended", 512_000, tx="b")
    log.until(5 * HOUR)
    found = sessions(log)
    assert outcome(found["a"])[::2] == ("incomplete", ["missing_ended"])
    assert found["b"].state == "review"


def test_a_missing_end_is_incomplete_after_silence_and_the_end_provisional() -> None:
    log = log_of(batch_s=300)
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.until(END + 13 * MINUTE)
    assert outcome(sessions(log)["a"])[0] == "open"
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert row.state == "incomplete"
    assert row.flags == ("missing_ended",)
    assert row.end_ms == T0 + END - MINUTE


def test_readings_that_come_back_open_it_again() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.reads(BEGIN + MINUTE, BEGIN + 9 * MINUTE, 500_000, 501_000)
    log.reads(BEGIN + 40 * MINUTE, END - MINUTE, 501_000, 502_000)
    log.tx(END, "Ended", 502_000)
    log.until(3 * HOUR)
    assert [r.state for r in run(log.frame())] == ["open", "incomplete", "complete"]
    assert only(log) == ("complete", 2_000.0, [])


def test_a_free_connector_makes_it_incomplete_whatever_is_read_after() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.status(END, "Available")
    log.reads(END + MINUTE, 3 * HOUR, 510_000, 510_000)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row)[::2] == ("incomplete", ["missing_ended"])
    assert row.end_ms == T0 + END


def test_another_connector_being_free_says_nothing() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, conn=2)
    charge(log)
    log.status(BEGIN + 5 * MINUTE, "Available", conn=1)
    log.status(BEGIN + 6 * MINUTE, "Available", evse=0, conn=0)
    log.until(END)
    assert {r.state for r in run(log.frame())} == {"open"}


def test_without_an_end_a_person_decides_after_seven_days_though_the_station_goes_on() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.status(END, "Available")
    log.reads(END + 10 * MINUTE, 8 * DAY, 510_000, 510_000, step=HOUR)
    log.until(8 * DAY)
    rows = run(log.frame())
    states = [state for state, _ in itertools.groupby(r.state for r in rows)]
    assert states == ["open", "incomplete", "review"]
    row = rows[-1]
    assert outcome(row)[::2] == ("review", ["missing_ended"])
    assert row.body["reasons"] == ["no end was told within the time after which a person decides"]


def test_an_end_that_comes_after_the_review_bills() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.status(END, "Available")
    log.tx(END, "Ended", 510_000, at=8 * DAY)
    log.until(9 * DAY)
    rows = run(log.frame())
    states = [state for state, _ in itertools.groupby(r.state for r in rows)]
    assert states == ["open", "incomplete", "review", "complete"]
    assert outcome(rows[-1]) == ("complete", 10_000.0, ["late"])


# -- a person decides


def reviewed() -> TxLog:
    """Return a log with a transaction in review."""
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.tx(END, "Ended", 4_000)
    return log


def test_a_person_bills_or_discards() -> None:
    log = reviewed()
    log.review(2 * HOUR, transaction_id="a", decision="bill", energy_wh="8000.5")
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row) == ("complete", 8_000.5, ["register_reset"])
    assert row.body["decided"] == {
        "decision": "bill",
        "energy_mwh": 8_000_500,
        "reason": "looked",
        "by": "ann",
        "at": T0 + 2 * HOUR,
    }
    log = reviewed()
    log.review(2 * HOUR, transaction_id="a", decision="discard")
    assert only(log)[:2] == ("complete", 0.0)


@pytest.mark.parametrize(
    "body",
    [
        {"decision": "bill"},  # there is no proposal
        {"decision": "bill", "energy_wh": "much"},
        {"decision": "bill", "energy_wh": -5},
        {"decision": "bill", "energy_mwh": 5.5},
        {"decision": "bill", "energy_wh": 5, "session_revision": 1},
        {"decision": "perhaps", "energy_wh": 5},
        {},
    ],
)
def test_a_decision_that_cannot_be_followed_changes_nothing(body: dict[str, object]) -> None:
    log = reviewed()
    log.review(2 * HOUR, transaction_id="a", **body)
    assert only(log)[0] == "review"


def test_what_is_certain_is_not_decided() -> None:
    log = log_of()
    log.session(BEGIN, END, 500_000, 510_000)
    log.review(2 * HOUR, transaction_id="a", decision="discard")
    log.review(2 * HOUR, transaction_id="unknown", decision="discard")
    assert only(log) == ("complete", 10_000.0, [])


def test_a_message_that_changes_the_facts_sets_a_decision_aside() -> None:
    log = log_of()
    charge(log)
    log.tx(END, "Ended", 510_000)
    log.review(2 * HOUR, transaction_id="a", decision="bill", energy_wh=9_000)
    log.tx(BEGIN, "Started", 500_000, at=5 * HOUR)
    log.until(6 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row) == ("complete", 10_000.0, ["late"])
    assert row.body["decided"] is None
    assert row.body["decisions"][0]["set_aside"]["energy_mwh"] == 9_000_000


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="transactions have version 1"):
        TransactionBook(TransactionConfig(), {"version": 1})

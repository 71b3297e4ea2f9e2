"""Transactions: one scenario for every rule and flag, as messages that a station sends."""

from __future__ import annotations

import itertools

import pytest

from models import _tx_state as s
from models.errors import SnapshotError
from models.transactions import TransactionBook, TransactionConfig
from tests.transaction_log import DAY, HOUR, MINUTE, SECOND, T0, TxLog, outcome, run, sessions

BEGIN, END = 10 * MINUTE, 70 * MINUTE


def log_of(*, idle_wh: float | None = 500_000, **birth: object) -> TxLog:
    """Return a log with a birth and, before `BEGIN`, idle readings of a register."""
    log = TxLog()
    log.birth(**birth)  # type: ignore[arg-type]
    if idle_wh is not None:
        log.reads(MINUTE, 9 * MINUTE, idle_wh, idle_wh)
    return log


def charge(log: TxLog, wh0: float = 500_000, wh1: float = 510_000) -> None:
    """Add readings of a charge between `BEGIN` and `END`."""
    slope = (wh1 - wh0) / (END - BEGIN)
    log.reads(BEGIN + MINUTE, END - MINUTE, wh0 + slope * MINUTE, wh1 - slope * MINUTE)


def only(log: TxLog, until: int = 3 * HOUR) -> tuple[str, float | None, list[str]]:
    """Return the outcome of the transaction ``a``."""
    log.until(until)
    return outcome(sessions(log)["a"])


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


# -- registers


def test_an_end_without_register_takes_the_reading_after_it() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END + 30 * SECOND, "Ended", None)
    log.reads(END + MINUTE, END + 9 * MINUTE, 510_000, 510_000)
    assert only(log) == ("complete", 10_000.0, ["interpolated"])


def test_an_end_without_register_or_reading_after_it_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END + 5 * MINUTE, "Ended", None)
    assert only(log)[::2] == ("review", ["interpolated"])


def test_a_begin_without_register_takes_the_reading_before_it() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", None)
    charge(log)
    log.tx(END, "Ended", 510_000)
    assert only(log) == ("complete", 10_000.0, ["interpolated"])


def test_a_begin_without_any_register_is_reviewed() -> None:
    log = log_of(idle_wh=None)
    log.tx(BEGIN, "Started", None)
    charge(log)
    log.tx(END, "Ended", 510_000)
    assert only(log)[0] == "review"


def test_a_reset_inside_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.reads(BEGIN + MINUTE, 40 * MINUTE, 500_100, 505_000)
    log.reads(41 * MINUTE, END - MINUTE, 100, 4_000)
    log.tx(END, "Ended", 4_100)
    log.until(3 * HOUR)
    row = sessions(log)["a"]
    assert outcome(row)[::2] == ("review", ["register_reset"])
    assert row.energy_mwh == 9_000_000  # of the segments, as a proposal


def test_a_reset_that_is_outgrown_is_reviewed() -> None:
    log = log_of(idle_wh=1_000)
    log.tx(BEGIN, "Started", 1_000)
    log.reads(BEGIN + MINUTE, 40 * MINUTE, 1_100, 3_000)
    log.reads(41 * MINUTE, END - MINUTE, 10, 3_600)
    log.tx(END, "Ended", 3_700)
    assert only(log)[::2] == ("review", ["register_reset"])


def test_a_reset_between_transactions_is_nobodys() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 40)
    charge(log, 40, 10_040)
    log.tx(END, "Ended", 10_040)
    assert only(log) == ("complete", 10_000.0, [])


def test_a_replacement_inside_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.birth(40 * MINUTE, serial="m2")
    log.tx(END, "Ended", 501_000)
    assert only(log)[::2] == ("review", ["register_replaced"])


def test_a_replacement_right_after_the_end_is_none_of_its_business() -> None:
    log = log_of()
    log.session(BEGIN, END, 500_000, 510_000)
    log.birth(END + 30 * SECOND, serial="m2")
    assert only(log) == ("complete", 10_000.0, [])


def test_a_replacement_told_after_an_offline_transaction_shows_by_its_boot() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, offline=True, at=2 * HOUR)
    log.birth(2 * HOUR + SECOND, serial="m2", boot=2)
    log.tx(END, "Ended", 500_900, offline=True, at=2 * HOUR + 2 * SECOND, boot=2)
    assert only(log)[::2] == ("review", ["interrupted", "offline", "register_replaced"])


def test_a_placeholder_does_not_take_the_register_of_the_meter_before() -> None:
    log = log_of()
    log.birth(9 * MINUTE + SECOND, serial="m2")
    log.tx(BEGIN, "Started", 0)
    log.tx(END, "Ended", 505_000)
    assert only(log)[0] == "review"


def test_a_rollover_with_known_modulus_bills() -> None:
    log = log_of(idle_wh=995_000, modulus_wh=1_000_000)
    log.tx(BEGIN, "Started", 995_000)
    log.reads(BEGIN + MINUTE, 40 * MINUTE, 995_100, 999_900)
    log.reads(41 * MINUTE, END - MINUTE, 100, 4_900)
    log.tx(END, "Ended", 5_000)
    assert only(log) == ("complete", 10_000.0, ["register_rollover"])


def test_a_rollover_with_unknown_modulus_is_a_reset() -> None:
    log = log_of(idle_wh=995_000)
    log.tx(BEGIN, "Started", 995_000)
    log.tx(END, "Ended", 5_000)
    assert only(log)[::2] == ("review", ["register_reset"])


def test_a_rollover_that_implies_too_much_is_a_reset() -> None:
    log = log_of(idle_wh=500_000, modulus_wh=1_000_000)
    log.tx(BEGIN, "Started", 500_000)
    log.tx(END, "Ended", 5_000)
    assert only(log)[::2] == ("review", ["register_reset"])


def test_readings_relative_to_the_session_do_not_mix_with_lifetime_registers() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log, 0, 10_000)
    log.tx(END, "Ended", 510_000)
    assert only(log) == ("complete", 10_000.0, ["session_relative"])


def test_registers_relative_to_the_session_in_messages_and_readings() -> None:
    log = log_of(idle_wh=7_000)  # what the transaction before had
    log.tx(BEGIN, "Started", 0)
    charge(log, 0, 10_000)
    log.tx(END, "Ended", 10_000)
    assert only(log) == ("complete", 10_000.0, ["session_relative"])


def test_registers_relative_to_the_session_against_lifetime_readings() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 0)
    charge(log)
    log.tx(END, "Ended", 10_000)
    assert only(log) == ("complete", 10_000.0, ["session_relative"])


def test_a_rollback_that_comes_back_is_ignored() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.reads(BEGIN + MINUTE, 30 * MINUTE, 500_100, 503_000)
    log.read(31 * MINUTE, 502_000)
    log.read(32 * MINUTE, 502_100)
    log.reads(33 * MINUTE, END - MINUTE, 503_300, 509_800)
    log.tx(END, "Ended", 510_000)
    assert only(log) == ("complete", 10_000.0, ["register_rollback"])


def test_a_fall_within_two_resolutions_is_not_even_a_flag() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_002)
    log.reads(BEGIN + MINUTE, END - MINUTE, 500_001, 500_000)
    log.tx(END, "Ended", 500_001)
    assert only(log) == ("complete", 0.0, [])


@pytest.mark.parametrize("end_wh", [540_000, 900_000])
def test_more_energy_than_the_evse_can_deliver_is_reviewed(end_wh: float) -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.tx(END, "Ended", end_wh)
    assert only(log)[::2] == ("review", ["implausible"])


def test_an_end_above_what_is_read_after_it_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END, "Ended", 511_000)
    log.reads(END + MINUTE, END + 5 * MINUTE, 510_000, 510_000)
    assert only(log)[::2] == ("review", ["implausible"])


def test_an_end_far_above_the_last_reading_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END, "Ended", 515_000)
    assert only(log)[::2] == ("review", ["implausible"])


def test_an_end_below_what_was_read_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END, "Ended", 505_000)
    assert only(log)[0] == "review"


def test_a_register_that_restarts_after_the_end_contradicts_nothing() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    charge(log)
    log.tx(END, "Ended", 510_000)
    log.reads(END + MINUTE, END + 5 * MINUTE, 0, 0)
    assert only(log) == ("complete", 10_000.0, [])


@pytest.mark.parametrize("begin_wh", [495_000, 505_000])
def test_a_begin_that_readings_contradict_is_reviewed(begin_wh: float) -> None:
    log = log_of()
    log.tx(BEGIN, "Started", begin_wh)
    charge(log)
    log.tx(END, "Ended", 510_000)
    assert only(log)[::2] == ("review", ["implausible"])


def test_a_begin_below_the_register_before_it_is_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 495_000)
    log.tx(END, "Ended", 510_000)
    assert only(log)[::2] == ("review", ["implausible"])


def test_two_different_ends_are_reviewed() -> None:
    log = log_of()
    log.tx(BEGIN, "Started", 500_000)
    log.tx(END, "Ended", 505_000)
    log.tx(END + SECOND, "Ended", 510_000)
    assert only(log)[::2] == ("review", ["implausible"])


def test_an_end_before_the_begin_is_reviewed() -> None:
    log = log_of()
    log.tx(END, "Started", 500_000)
    log.tx(BEGIN, "Ended", 500_000, at=END + MINUTE)
    assert only(log)[::2] == ("review", ["implausible"])


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

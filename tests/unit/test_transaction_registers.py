"""Transactions against registers: resets, rollovers, other zeros, falls, and what readings contradict."""

from __future__ import annotations

import pytest

from tests.transaction_log import (
    BEGIN,
    END,
    HOUR,
    MINUTE,
    SECOND,
    charge,
    log_of,
    only,
    outcome,
    sessions,
)

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

"""phase_open: when three phases are expected, and the cars and stations that have fewer."""

from __future__ import annotations

import pytest

from models import batch as b
from models.records import Transaction
from tests.unit.detector_tape import Tape, at_ns, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.CHARGING


def amps(tape: Tape, t: float, *phases: float, state: int = CHARGING) -> None:
    tape.sample(t, {f"Current.Import@L{p}": a for p, a in enumerate(phases, 1)}, state=state)


def told(tape: Tape, t: float, event: str, phases: int | None = None) -> None:
    at = tape.message(t, 0, "tx")
    tape.record(
        Transaction(
            at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), time_reported_ns=at_ns(t),
            tx_id="T", seq_no=None, event_type=event, phases=phases,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("third", "last", "found"), [(1.0, 60, 1), (1.1, 60, 0), (0.0, 59, 0)])
def test_a_phase_below_a_tenth_of_the_mean_for_a_minute(third: float, last: float, found: int) -> None:
    tape = Tape()
    amps(tape, -10, 16, 16, 16)
    for t in (0, last):
        amps(tape, t, 16, 15, third)
    assert len(tape.run("phase_open")) == found


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_any_sample_period(period: float) -> None:
    tape = Tape()
    amps(tape, -period, 16, 16, 16)
    for i in range(int(max(60 / period, 1)) + 2):
        amps(tape, i * period, 16, 0, 16)
    found = tape.run("phase_open")
    assert brief(found) == [("raise", 0.0, max(60.0, period))]
    assert found[0].evidence["phase"] == 2


@pytest.mark.parametrize("phases", [(16, 0, 0), (0, 16, 0), (16, 16, 0)])
def test_single_and_two_phase_cars_are_normal(phases: tuple[float, ...]) -> None:
    tape = Tape()
    for i in range(40):
        amps(tape, i * 20, *phases)
    assert tape.run("phase_open") == []


def test_a_single_phase_car_after_a_three_phase_one_is_normal() -> None:
    tape = Tape()
    amps(tape, 0, 16, 16, 16)
    amps(tape, 20, 0, 0, 0, state=b.STATE_KNOWN)
    for i in range(2, 40):
        amps(tape, i * 20, 16, 0, 0)
    assert tape.run("phase_open") == []


def test_transactions_back_to_back_are_told_apart_by_their_start() -> None:
    tape = Tape()
    amps(tape, 0, 16, 16, 16)
    told(tape, 10, "Started")
    for i in range(1, 40):
        amps(tape, i * 20, 16, 0, 0)
    assert tape.run("phase_open") == []


@pytest.mark.parametrize(("phases", "found"), [(3, 1), (1, 0)])
def test_the_station_declares_the_phases(phases: int, found: int) -> None:
    tape = Tape()
    if phases == 1:
        amps(tape, -20, 16, 16, 16)
    told(tape, -10, "Updated", phases)
    for i in range(10):
        amps(tape, i * 20, 16, 16, 0)
    assert len(tape.run("phase_open")) == found


def test_taper_and_standby_are_not_judged() -> None:
    tape = Tape()
    amps(tape, 0, 16, 16, 16)
    for i in range(1, 40):
        amps(tape, i * 20, 5.9, 0.0, 0.0)
    assert tape.run("phase_open") == []


def test_clears_when_all_three_carry_again() -> None:
    tape = Tape()
    amps(tape, 0, 16, 16, 16)
    for i in range(1, 10):
        amps(tape, i * 20, 16, 16, 0)
    amps(tape, 200, 0, 0, 0, state=b.STATE_KNOWN)
    for t in (220, 300):
        amps(tape, t, 16, 0, 0)
    for t in (320, 380):
        amps(tape, t, 16, 16, 16)
    assert brief(tape.run("phase_open")) == [("raise", 20.0, 80.0), ("clear", 20.0, 320.0)]


def test_readings_that_come_after_a_newer_word_are_not_judged_by_it() -> None:
    tape = Tape()
    amps(tape, -200, 16, 16, 16)
    told(tape, -150, "Updated", 1)
    for t in (-120, -60):
        amps(tape, t, 16, 0, 0)
    tape.record(
        Transaction(
            at=tape.message(0, 0, "tx"), station_row=0, evse_row=0, conn=1, time_ns=at_ns(181),
            time_reported_ns=at_ns(181), tx_id="T", seq_no=None, event_type="Updated", phases=3,
        )
    )  # fmt: skip
    for t in (0, 60, 120, 180):
        amps(tape, t, 16, 0, 0)
    assert tape.run("phase_open") == []

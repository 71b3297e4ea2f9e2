"""over_current: the limit, its duration, whose current counts."""

from __future__ import annotations

import pytest

from tests.unit.detector_tape import Tape, brief

PHASES = ("Current.Import@L1", "Current.Import@L2", "Current.Import@L3")


def draw(tape: Tape, t: float, amps: float, offered: float | None = 16.0, name: str = PHASES[1]) -> None:
    values = {name: amps}
    if offered is not None:
        values["Current.Offered"] = offered
    tape.sample(t, values)


@pytest.mark.parametrize(("amps", "found"), [(18.1, 0), (18.11, 1)])
def test_limit_is_ten_percent_and_half_an_ampere(amps: float, found: int) -> None:
    tape = Tape()
    for t in (0, 7):
        draw(tape, t, amps)
    assert len(tape.run("over_current")) == found


@pytest.mark.parametrize(("second", "found"), [(6.9, 0), (7.0, 1)])
def test_needs_seven_seconds_and_two_samples(second: float, found: int) -> None:
    tape = Tape()
    draw(tape, 0, 20)
    draw(tape, second, 20)
    assert len(tape.run("over_current")) == found


@pytest.mark.parametrize(("least", "found"), [(2, 1), (3, 0)])
def test_samples_count_besides_time(least: int, found: int) -> None:
    tape = Tape()
    for t in (0, 10):
        draw(tape, t, 20)
    assert len(tape.run("over_current", least_samples=least)) == found


def test_a_car_that_follows_a_lower_offer_is_lawful() -> None:
    tape = Tape()
    draw(tape, 0, 32, 32)
    draw(tape, 1, 32, 6)
    draw(tape, 5, 20, 6)
    draw(tape, 7, 6, 6)
    assert tape.run("over_current") == []


def test_evidence_and_clear() -> None:
    tape = Tape()
    for t, amps in ((0, 20), (10, 21), (20, 16), (79, 16), (80, 16)):
        draw(tape, t, amps)
    found = tape.run("over_current")
    assert brief(found) == [("raise", 0.0, 10.0), ("clear", 0.0, 20.0)]
    assert found[0].evidence == {
        "current_a": 21.0,
        "offered_a": 16.0,
        "limit_a": 18.1,
        "duration_s": 10.0,
        "phase": 2.0,
    }


def test_the_last_offer_counts_for_fifteen_minutes() -> None:
    for later, found in ((900, 1), (901, 0)):
        tape = Tape()
        draw(tape, 0, 0, 16)
        draw(tape, later - 10, 20, None)
        draw(tape, later, 20, None)
        assert len(tape.run("over_current")) == found
    tape = Tape()
    for t in (0, 10):
        draw(tape, t, 20, None)
    assert tape.run("over_current") == []


@pytest.mark.parametrize(
    ("about", "amps", "found"),
    [
        ({"phases": 1}, 20.0, 1),
        ({"phases": 3}, 54.0, 0),
        ({"phases": 3}, 54.4, 1),
        ({"phases": 0}, 54.0, 0),
        ({"dc": True}, 20.0, 1),
    ],
)
def test_current_without_phase(about: dict[str, object], amps: float, found: int) -> None:
    """On three phases it may be one phase's or the sum: only beyond three times the limit is it too much."""
    tape = Tape(**about)
    for t in (0, 10):
        draw(tape, t, amps, name="Current.Import")
    assert len(tape.run("over_current")) == found


def test_phase_currents_of_a_dc_station_are_not_its_output() -> None:
    tape = Tape(dc=True)
    for t in (0, 10):
        draw(tape, t, 200, 100, PHASES[0])
    assert tape.run("over_current") == []

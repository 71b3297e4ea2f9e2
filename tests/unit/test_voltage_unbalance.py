"""The exact limit of `voltage_unbalance` and what must not raise it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.detector_tape import Tape, brief


def volts(tape: Tape, t: float, *phases: float, inlet: bool = False, **more: Any) -> None:
    where = "/Inlet" if inlet else ""
    tape.sample(t, {f"Voltage@L{p}-N{where}": v for p, v in enumerate(phases, 1)}, **more)


def window(tape: Tape, start: float, *phases: float, step: float = 60.0, **more: Any) -> None:
    for k in range(int(600 // step)):
        volts(tape, start + k * step, *phases, **more)


# negative over positive sequence of (230 + 2d, 230 - d, 230 - d) is d / 230
@pytest.mark.parametrize(("d", "found"), [(4.59, 0), (4.61, 1)])
def test_limit_is_two_percent_of_the_positive_sequence(d: float, found: int) -> None:
    tape = Tape()
    window(tape, 0, 230 + 2 * d, 230 - d, 230 - d)
    volts(tape, 600, 230, 230, 230)
    assert len(tape.run("voltage_unbalance")) == found


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 200.0])
def test_raises_after_a_window_and_clears_after_a_good_one(step: float) -> None:
    tape = Tape(sample_s=step)
    window(tape, 0, 242, 225, 225, step=step)
    window(tape, 600, 242, 225, 225, step=step)
    window(tape, 1200, 230, 231, 229, step=step)
    volts(tape, 1800, 230, 231, 229)
    found = tape.run("voltage_unbalance")
    assert brief(found) == [("raise", 0.0, 600.0), ("clear", 0.0, 1200.0)]
    assert found[0].evidence["unbalance_percent"] == pytest.approx(100 * 17 / 3 / (692 / 3), rel=1e-3)
    assert found[0].evidence["samples"] == 600 // step


def test_samples_of_900_s_make_no_ten_minute_mean() -> None:
    tape = Tape(sample_s=900.0)
    for k in range(8):
        volts(tape, 900 * k, 250, 220, 220)
    assert tape.run("voltage_unbalance") == []


def test_the_three_samples_of_a_window_are_needed() -> None:
    tape = Tape()
    for t in (0, 300, 600):
        volts(tape, t, 250, 220, 220)
    assert tape.run("voltage_unbalance") == []


def test_single_phase_stations_and_unconnected_phases_are_no_unbalance() -> None:
    for phases in (1, 2):
        tape = Tape(phases=phases)
        window(tape, 0, 230, 0, 0)
        volts(tape, 600, 230, 0, 0)
        window(tape, 600, 230, 115, 115)  # what conductors beside it couple into open ones
        volts(tape, 1200, 230, 115, 115)
        assert tape.run("voltage_unbalance") == []
    tape = Tape(phases=0)
    window(tape, 0, 230, 0, 0)
    volts(tape, 600, 230, 0, 0)
    assert tape.run("voltage_unbalance") == []


def test_a_lost_phase_of_a_three_phase_supply_is_one() -> None:
    tape = Tape()
    window(tape, 0, 230, 231, 0)
    volts(tape, 600, 230, 231, 230)
    assert len(tape.run("voltage_unbalance")) == 1


def test_nothing_is_said_without_power_and_by_the_output_of_a_dc_station() -> None:
    tape = Tape()
    window(tape, 0, 3, 0, 0)
    volts(tape, 600, 230, 230, 230)
    assert tape.run("voltage_unbalance") == []
    tape = Tape(dc=True)
    window(tape, 0, 400, 0, 0)
    window(tape, 600, 242, 225, 225, inlet=True)
    volts(tape, 1200, 230, 230, 230, inlet=True)
    assert brief(tape.run("voltage_unbalance")) == [("raise", 600.0, 1200.0)]


def test_single_phase_car_that_pulls_its_phase_down_a_little() -> None:
    tape = Tape()
    window(tape, 0, 222, 231, 232)
    volts(tape, 600, 222, 231, 232)
    assert tape.run("voltage_unbalance") == []


def test_a_window_of_a_backlog_is_not_live() -> None:
    tape = Tape()
    window(tape, 0, 242, 225, 225, live=False)
    volts(tape, 600, 230, 230, 230, live=False)
    assert [e.live for e in tape.run("voltage_unbalance")] == [False]

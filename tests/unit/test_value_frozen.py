"""When a repeated value is frozen, and the hard negatives."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.detector_tape import Tape, brief


def series(tape: Tape, seconds: float, step: float, start: float = 0.0, **values: Any) -> None:
    """Add readings; a value is a number, or a function of the number of the sample."""
    for k in range(int(seconds // step) + 1):
        row = {name: value(k) if callable(value) else value for name, value in values.items()}
        tape.sample(start + k * step, {NAMES[name]: value for name, value in row.items()})


NAMES = {
    "v": "Voltage@L1-N",
    "a": "Current.Import@L1",
    "b": "Current.Import@L2",
    "w": "Power.Active.Import",
    "t": "Temperature/Cable",
    "body": "Temperature/Body",
    "out": "Voltage",
    "dc": "Current.Import",
}


def wobble(k: int) -> float:
    return 10.0 if k % 20 < 10 else 16.0 + 0.01 * (k % 7)


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_voltage_frozen_while_the_current_moves(step: float) -> None:
    tape = Tape(sample_s=step)
    length = max(1800.0, 19 * step)
    series(tape, length, step, v=230.0, a=wobble)
    series(tape, 1800.0 + step, step, length + step, v=lambda k: 230.1 + 0.1 * (k % 3), a=wobble)
    found = tape.run("value_frozen")
    raised = -(-1800.0 // step) * step if step < 95 else 19 * step
    assert brief(found) == [("raise", 0.0, raised), ("clear", 0.0, length + step)]
    assert found[0].evidence["channel"] == "Voltage@L1-N"
    assert found[0].evidence["samples"] >= 20


@pytest.mark.parametrize(("seconds", "found"), [(1780.0, 0), (1800.0, 1)])
def test_takes_thirty_minutes(seconds: float, found: int) -> None:
    tape = Tape()
    series(tape, seconds, 20.0, v=230.0, a=wobble)
    assert len(tape.run("value_frozen")) == found


@pytest.mark.parametrize(("samples", "found"), [(19, 0), (20, 1)])
def test_takes_twenty_samples(samples: int, found: int) -> None:
    tape = Tape()
    series(tape, (samples - 1) * 300.0, 300.0, v=230.0, a=wobble)
    assert len(tape.run("value_frozen")) == found


@pytest.mark.parametrize(("low", "found"), [(12.9, 0), (12.7, 1)])
def test_the_load_must_move_by_a_fifth(low: float, found: int) -> None:
    tape = Tape()
    series(tape, 2400.0, 20.0, v=230.0, a=lambda k: low if k % 2 else 16.0)
    assert len(tape.run("value_frozen")) == found


def test_zero_is_no_measurement() -> None:
    tape = Tape()
    series(tape, 7200.0, 20.0, v=lambda k: 230 + k % 3, a=wobble, b=0.0, w=lambda k: 2000 + k % 9)
    assert tape.run("value_frozen") == []


def test_a_current_at_its_set_point_with_its_power() -> None:
    tape = Tape()
    series(tape, 7200.0, 20.0, v=lambda k: 230 + k % 3, a=16.0, w=lambda k: 3680.0 + k % 50)
    assert tape.run("value_frozen") == []


def test_current_frozen_while_the_power_moves() -> None:
    tape = Tape()
    series(tape, 1800.0, 20.0, a=16.0, w=lambda k: 3680.0 - 20 * k)
    assert [e.evidence["channel"] for e in tape.run("value_frozen")] == ["Current.Import@L1"]


def test_output_voltage_of_a_dc_station_at_high_soc() -> None:
    tape = Tape(dc=True, phases=3)
    series(tape, 7200.0, 20.0, out=420.0, dc=lambda k: 100.0 - k / 4, w=lambda k: 42_000.0 - 105 * k)
    assert tape.run("value_frozen") == []


@pytest.mark.parametrize(("idle_s", "found"), [(3600.0 - 60, 0), (3600.0, 1)])
def test_a_temperature_takes_an_hour_and_a_load_that_it_can_follow(idle_s: float, found: int) -> None:
    tape = Tape()
    series(tape, idle_s, 20.0, t=22.0, a=lambda k: 0.0 if k < 90 else 16.0)
    assert len(tape.run("value_frozen")) == found


def test_a_charge_that_begins_just_now_does_not_warm_the_plug_yet() -> None:
    tape = Tape()
    series(tape, 3600.0 + 200, 20.0, t=22.0, a=lambda k: 0.0 if k < 180 else 16.0)
    assert tape.run("value_frozen") == []


def test_a_small_charge_of_a_single_phase_car_warms_nothing() -> None:
    tape = Tape()
    series(tape, 7200.0, 20.0, t=22.0, body=25.0, a=lambda k: 0.0 if k < 90 else 8.0)
    assert tape.run("value_frozen") == []


def test_a_long_silence_ends_a_run() -> None:
    tape = Tape()
    series(tape, 200.0, 10.0, v=230.0, a=wobble)
    series(tape, 300.0, 10.0, 2200.0, v=230.0, a=wobble)
    assert tape.run("value_frozen") == []

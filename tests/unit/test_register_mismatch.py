"""The exact limit of `register_mismatch` and what must not raise it."""

from __future__ import annotations

import pytest

from models.batch import IN_TRANSACTION, STATE_KNOWN
from tests.unit.detector_tape import Tape, brief

ON = STATE_KNOWN | IN_TRANSACTION


class Meter:
    """A meter on the tape: `gain` is what the register counts of the energy."""

    def __init__(self, step: float = 60.0, resolution_wh: float = 1.0, gain: float = 1.0) -> None:
        self.tape = Tape(sample_s=step, resolution_mwh=round(resolution_wh * 1000))
        self.step, self.gain, self.resolution_wh = step, gain, resolution_wh
        self.t, self.wh, self.power = 0.0, 10_000.0, 0.0
        self.refresh = 1
        self.n = 0
        self.shown = 10_000.0

    def run(self, power: float, seconds: float, state: int = ON) -> None:
        for _ in range(round(seconds / self.step)):
            # the power changed in the middle of the interval
            self.wh += self.gain * 0.5 * (power + self.power) * self.step / 3600
            self.t += self.step
            self.power = power
            self.n += 1
            if self.n % self.refresh == 0:
                self.shown = self.wh // self.resolution_wh * self.resolution_wh
            self.tape.sample(self.t, {"Power.Active.Import": power}, reg_wh=self.shown, state=state)

    def session(self, power: float, seconds: float) -> None:
        self.run(0.0, 5 * self.step, STATE_KNOWN)
        self.run(power, seconds)
        self.run(0.0, 5 * self.step, STATE_KNOWN)

    def found(self) -> list[str]:
        return [kind for kind, _, _ in brief(self.tape.run("register_mismatch"))]


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
@pytest.mark.parametrize("gain", [0.7, 1.3])
def test_found_at_any_period(step: float, gain: float) -> None:
    meter = Meter(step, gain=gain)
    meter.session(11_000.0, 3600 if step == 1.0 else 8 * 3600)
    assert meter.found() == ["raise"]


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_sound_sessions_are_silent(step: float) -> None:
    meter = Meter(step)
    for power in (3600.0, 11_000.0, 7_000.0):
        meter.session(power, 2 * 3600)
    assert meter.found() == []


def test_limit_is_five_percent_beyond_the_tolerance() -> None:
    for gain, found in ((0.96, []), (0.94, ["raise"])):
        meter = Meter(1.0, gain=gain)
        meter.session(22_000.0, 3600)
        assert meter.found() == found


def test_a_difference_below_200_wh_is_none() -> None:
    meter = Meter(1.0, gain=0.5)
    meter.session(3600.0, 360)
    assert meter.found() == []


def test_the_tolerance_grows_with_the_period() -> None:
    """A car that pauses just between two samples: 3.7 kW that sampling cannot see."""
    evidence = []
    for step in (10.0, 120.0):
        tape = Tape(sample_s=step)
        tape.sample(0, {"Power.Active.Import": 0.0}, reg_wh=0, state=STATE_KNOWN)
        wh = 0.0
        for k in range(1, 31):
            power = 11_000.0 * (k % 2)
            wh += 0.6 * 5500 * step / 3600
            tape.sample(k * step, {"Power.Active.Import": power}, reg_wh=wh, state=ON)
        tape.sample(31 * step, {"Power.Active.Import": 0.0}, reg_wh=wh, state=STATE_KNOWN)
        assert tape.run("register_mismatch") == []
        evidence.append(wh)
    assert evidence[1] > 12 * evidence[0] - 1


def test_a_register_refreshed_each_quarter_hour_only_lags() -> None:
    meter = Meter(60.0)
    meter.refresh = 15
    meter.session(11_000.0, 2 * 3600 - 300)
    assert meter.found() == []


def test_a_sound_session_clears_and_a_short_one_does_not() -> None:
    meter = Meter(20.0, gain=0.8)
    meter.session(11_000.0, 3600)
    meter.gain = 1.0
    meter.session(11_000.0, 600)
    assert meter.found() == ["raise"]
    meter.session(11_000.0, 3600)
    assert meter.found() == ["raise", "clear"]


def test_gaps_falls_and_replacement_are_left_out_on_both_sides() -> None:
    meter = Meter(60.0)
    meter.run(0.0, 300, STATE_KNOWN)
    meter.run(11_000.0, 1800)
    meter.t += 3600
    meter.wh += 9000  # flowed while nothing was sampled
    meter.run(11_000.0, 1800)
    meter.wh -= 5000  # a rollback is a finding of its own
    meter.run(11_000.0, 1800)
    meter.wh = 50.0
    meter.tape.about = meter.tape.about.__class__(**{**meter.tape.about.__dict__, "generation": 1})
    meter.run(11_000.0, 1800)
    meter.run(0.0, 300, STATE_KNOWN)
    assert meter.found() == []


def test_without_told_transactions_power_makes_the_session() -> None:
    meter = Meter(20.0, gain=0.7)
    meter.run(0.0, 300, 0)
    meter.run(11_000.0, 3600, 0)
    meter.run(0.0, 300, 0)
    assert meter.found() == ["raise"]


def test_a_suspended_car_and_taper() -> None:
    meter = Meter(60.0)
    meter.run(0.0, 300, STATE_KNOWN)
    for power in (11_000.0, 0.0, 11_000.0, 8000.0, 5000.0, 2000.0, 500.0):
        meter.run(power, 1200)
    meter.run(0.0, 300, STATE_KNOWN)
    assert meter.found() == []

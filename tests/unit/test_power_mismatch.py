"""The exact limit of `power_mismatch` and what must not raise it."""

from __future__ import annotations

import pytest

from tests.unit.detector_tape import Tape, brief


def draw(
    tape: Tape,
    t: float,
    power_w: float,
    amps: tuple[float, ...] = (16.0, 16.0, 16.0),
    factor: float | None = 1.0,
) -> None:
    values = {f"Voltage@L{p}-N": 230.0 for p in (1, 2, 3)} | {"Power.Active.Import": power_w}
    values |= {f"Current.Import@L{p}": a for p, a in enumerate(amps, 1)}
    if factor is not None:
        values["Power.Factor"] = factor
    tape.sample(t, values)


FULL_W = 3 * 230 * 16.0


@pytest.mark.parametrize(("share", "found"), [(1.079, 0), (1.081, 1), (0.921, 0), (0.919, 1)])
def test_limit_is_eight_percent_both_ways(share: float, found: int) -> None:
    tape = Tape()
    for t in (0, 300, 600):
        draw(tape, t, share * FULL_W)
    assert len(tape.run("power_mismatch")) == found


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_needs_ten_minutes_at_any_period_and_clears_after_ten(step: float) -> None:
    tape = Tape(sample_s=step)
    end = max(600.0, step)
    for k in range(int(end // step) + 1):
        draw(tape, k * step, 0.7 * FULL_W)
    good = (int(end // step) + 1) * step
    for k in range(int(end // step) + 1):
        draw(tape, good + k * step, FULL_W)
    found = tape.run("power_mismatch")
    raised = next(k * step for k in range(10_000) if k * step >= 600)
    assert brief(found) == [("raise", 0.0, raised), ("clear", 0.0, good)]
    assert found[0].evidence["deviation_percent"] == pytest.approx(-30.0)


def test_a_ramp_between_averages_is_none() -> None:
    tape = Tape()
    for k in range(60):
        draw(tape, 20 * k, FULL_W * (0.5 if k in (3, 4, 30, 31) else 1.0))
    assert tape.run("power_mismatch") == []


def test_lower_currents_and_loads_are_not_judged() -> None:
    tape = Tape()
    for t in (0, 300, 600, 900):
        draw(tape, t, 100.0, (6.0, 6.0, 6.0))
    assert tape.run("power_mismatch") == []
    tape = Tape(p_max_w=150_000.0)
    for t in (0, 300, 600, 900):
        draw(tape, t, 9000.0)
    assert tape.run("power_mismatch") == []


def test_single_phase_car_on_three_phases() -> None:
    tape = Tape()
    for t in (0, 300, 600, 900):
        draw(tape, t, 230 * 16.0, (16.0, 0.0, 0.0))
    assert tape.run("power_mismatch") == []


@pytest.mark.parametrize(("factor", "share", "found"), [(None, 0.83, 0), (None, 0.82, 1), (0.5, 0.5, 0)])
def test_power_factor(factor: float | None, share: float, found: int) -> None:
    tape = Tape()
    for t in (0, 300, 600, 900):
        draw(tape, t, share * FULL_W, factor=factor)
    assert len(tape.run("power_mismatch")) == found


def test_output_of_a_dc_station() -> None:
    tape = Tape(dc=True, p_max_w=150_000.0)
    for t in (0, 300, 600):
        tape.sample(t, {"Voltage": 400.0, "Current.Import": 100.0, "Power.Active.Import": 36_000.0})
    assert [e.evidence["expected_w"] for e in tape.run("power_mismatch")] == [40_000.0]


def test_the_end_of_a_charge_does_not_clear() -> None:
    tape = Tape()
    for t in (0, 300, 600):
        draw(tape, t, 0.7 * FULL_W)
    for t in range(700, 4000, 300):
        draw(tape, t, 0.0, (0.0, 0.0, 0.0))
    assert brief(tape.run("power_mismatch")) == [("raise", 0.0, 600.0)]

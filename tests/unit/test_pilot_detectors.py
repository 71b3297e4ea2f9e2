"""pilot_out_of_band and pilot_jitter: bands, episodes, baselines, what is no state C."""

from __future__ import annotations

import random

import pytest

from models import batch as b
from tests.unit.detector_tape import Tape, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.CHARGING


def pilot(*samples: tuple[float, float], amps: float | None = 16.0, state: int = CHARGING) -> Tape:
    """Return a tape of (time, pilot) with one phase current."""
    tape = Tape()
    for t, volt in samples:
        values = {"x.CP.V": volt}
        if amps is not None:
            values["Current.Import@L1"] = amps
        tape.sample(t, values, state=state)
    return tape


@pytest.mark.parametrize(("volt", "found"), [(5.47, 0), (5.46, 1), (6.53, 0), (6.54, 1), (3.0, 0), (2.4, 1)])
def test_band_of_state_c(volt: float, found: int) -> None:
    assert len(pilot((0, volt), (1, volt)).run("pilot_out_of_band")) == found


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_two_samples_at_any_sample_period(period: float) -> None:
    found = pilot(*((i * period, 7.0) for i in range(3))).run("pilot_out_of_band")
    assert brief(found) == [("raise", 0.0, period)]


@pytest.mark.parametrize(
    ("amps", "state", "found"), [(0.0, CHARGING, 0), (6.0, 0, 1), (None, CHARGING, 1), (None, 0, 0)]
)
def test_only_state_c_is_judged(amps: float | None, state: int, found: int) -> None:
    """A suspended car holds the pilot at 9 V: no current, no judgement, whatever the station says."""
    assert len(pilot((0, 9.0), (5, 9.0), amps=amps, state=state).run("pilot_out_of_band")) == found


@pytest.mark.parametrize(("third", "found"), [(600, 1), (601, 0)])
def test_three_episodes_within_ten_minutes(third: float, found: int) -> None:
    samples = [(0, 7.0), (10, 6.0), (300, 7.0), (310, 6.0), (third, 7.0), (third + 10, 6.0)]
    emissions = pilot(*samples).run("pilot_out_of_band")
    assert brief(emissions) == [("raise", 0.0, 600.0)] * found
    if found:
        assert emissions[0].evidence["episodes"] == 3


def test_clears_after_ten_minutes_of_charging_inside_the_band() -> None:
    tape = pilot((0, 7.0), (1, 7.0), (2, 6.0), (601, 6.0), (602, 6.0))
    assert brief(tape.run("pilot_out_of_band")) == [("raise", 0.0, 1.0), ("clear", 0.0, 2.0)]


def noise(
    spread: dict[int, float], period: float = 10.0, windows: int = 12, amps: float = 16.0, seed: int = 3
) -> Tape:
    """Return pilots of state C with normal noise; `spread` gives the deviation from a window on."""
    rng, samples, now = random.Random(seed), [], 0.04
    t = 0.0
    while t < windows * 300:
        now = spread.get(int(t // 300), now)
        samples.append((t, min(6.5, max(5.5, rng.gauss(6.0, now)))))
        t += period
    return pilot(*samples, amps=amps)


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0])
def test_jitter_beyond_its_own_baseline(period: float) -> None:
    found = noise({8: 0.25, 10: 0.04}, period).run("pilot_jitter")
    assert brief(found) == [("raise", 2400.0, 2700.0), ("clear", 2400.0, 3000.0)]
    evidence = found[0].evidence
    assert evidence["baseline_v"] == pytest.approx(0.04, rel=0.3)
    assert evidence["limit_v"] == pytest.approx(max(0.08, 3 * evidence["baseline_v"]), abs=1e-5)
    assert evidence["samples"] == 300 / period


def test_slow_samples_are_not_judged_for_jitter() -> None:
    assert noise({8: 0.3}, 900.0, 60).run("pilot_jitter") == []


@pytest.mark.parametrize(
    "spread",
    [
        {0: 0.15},  # an honest noise of the measuring circuit
        {0: 0.005, 8: 0.07},  # more than three baselines, below 0.08 V
        {8: 0.1},  # above 0.08 V, below three baselines
    ],
)
def test_levels_below_either_limit_stay_silent(spread: dict[int, float]) -> None:
    assert noise(spread).run("pilot_jitter") == []


def test_nothing_is_raised_in_the_warm_up() -> None:
    assert noise({0: 0.02, 4: 0.3, 5: 0.02}).run("pilot_jitter") == []


def test_a_step_out_of_the_band_and_pauses_are_no_jitter() -> None:
    tape = Tape()
    for i in range(400):
        volt = (6.0, 9.0, 7.2, 12.0)[i % 4] if i > 200 else 6.0 + 0.03 * (i % 2)
        tape.sample(i * 10, {"x.CP.V": volt, "Current.Import@L1": 16.0 if volt < 8 else 0.0}, state=CHARGING)
    assert tape.run("pilot_jitter") == []

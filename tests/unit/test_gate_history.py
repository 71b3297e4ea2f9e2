"""What the telemetry gate expects of a station from its past, and what that and its error budget hold."""

from __future__ import annotations

import numpy as np
import pytest

from models._gate_history import HALF_LIFE_H, History
from models.gate import HOUR_MS, Gate, GateSettings

ENERGY = GateSettings(metrics=("energy_wh",), min_soak_s=0)


def past(own: np.ndarray, hours: int, seed: int, start: int = 0) -> History:
    """Hours of Poisson findings at 0.2 x own, and energy of 1 kWh x own with chance of its own size."""
    rng, history, n = np.random.default_rng(seed), History(), len(own)
    for hour in range(start, start + hours):
        values = np.zeros((n, 4))
        values[:, 0] = rng.poisson(0.2 * own)
        values[:, 3] = 1000.0 * own * rng.exponential(1.0, n)
        history.add(hour, np.arange(n), values, np.zeros(n))
    return history


def test_expects_what_lasts_and_believes_little_of_little() -> None:
    own = np.random.default_rng(1).gamma(4.0, 0.25, 2000)
    long, short = past(own, 240, 2).weights(2000), past(own, 6, 2).weights(2000)
    for which in (0, 3):
        assert np.corrcoef(long[:, which], own)[0, 1] > 0.95
        assert np.abs(long[:, which] - own).mean() < np.abs(short[:, which] - own).mean() < 0.4
        assert short[:, which].std() < 0.8 * long[:, which].std()  # drawn to the mean
    assert (long[:, 1] == 1.0).all()  # nobody started anything
    assert long[:, 0].mean() == pytest.approx(1.0, abs=0.02)


def test_stations_alike_stay_alike() -> None:
    weights = past(np.ones(2000), 240, 3).weights(2000)
    assert weights[:, 0].std() < 0.08  # against sqrt(1 / 48) = 0.144 of the rates as they are


def test_a_past_that_comes_late_fades_and_new_stations_are_as_the_mean() -> None:
    history = past(np.full(4, 50.0), 10, 1)
    before = history.snapshot(4)["sums"].sum()
    rows = np.array([0, 1, 2, 3])
    history.add(9 + HALF_LIFE_H, rows, np.zeros((4, 4)), np.zeros(4))
    hours = 4 * 2  # exposures of the new hour: one hour and one with energy, each of 4
    assert history.snapshot(4)["sums"].sum() - hours == pytest.approx(before / 2, rel=1e-5)
    assert (history.weights(300)[4:] == 1.0).all()


def test_restored_it_goes_on_the_same() -> None:
    own = np.random.default_rng(4).gamma(4.0, 0.25, 90)
    one = past(own, 30, 5)
    two = History.restore(one.snapshot(90))
    values = np.ones((90, 4))
    for history in (one, two):
        history.add(40, np.arange(90), values, np.ones(90))
    assert np.array_equal(one.weights(90), two.weights(90))
    assert np.array_equal(History.restore(History().snapshot(0)).weights(3), np.ones((3, 4)))


def test_with_their_past_a_hundred_canaries_can_tell_of_energy() -> None:
    """Stations deliver up to ten times what others do: as they are, a hundred say nothing in two days."""
    decided = {True: 0, False: 0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        own = rng.gamma(2.0, 0.5, 400)
        weights = past(own, 168, seed + 100).weights(400)
        updated = rng.permutation(400) < 100
        for known in decided:
            gate = Gate(168 * HOUR_MS, weights if known else None)
            for hour in range(168, 216):
                values = np.zeros((400, 4))
                values[:, 3] = 1000.0 * own * rng.exponential(1.0, 400)
                gate.add(hour, np.arange(400), updated, values, np.zeros(400))
            (found,) = gate.judge(ENERGY, 0).metrics
            decided[known] += found.verdict == "same"
    assert decided[True] >= 9
    assert decided[False] <= 3


def test_what_was_usual_is_shown_with_the_verdict() -> None:
    weights = np.ones((40, 4))
    weights[:10, 0] = 2.0
    gate = Gate(0, weights)
    values = np.zeros((40, 4))
    values[:10, 0], values[10:, 0] = 2.0, 1.0
    gate.add(0, np.arange(40), np.arange(40) < 10, values, np.zeros(40))
    found = gate.judge(GateSettings(metrics=("findings",)), 0).metrics[0]
    assert (found.usual, found.rate_updated, found.rate_waiting) == (2.0, 2.0, 1.0)
    assert found.llr < 0.0  # twice as many as the others is what these always had


@pytest.mark.parametrize(("metric", "n", "updated"), [("offline_s", 120, 30), ("findings", 100, 20)])
def test_few_canaries_are_not_stopped_by_chance(metric: str, n: int, updated: int) -> None:
    """Rare events of very different sizes, a look every hour: at most alpha of harmless images are stopped.

    With the dispersion of the waiting stations alone 3 of 40 were, some in the first hour: the budget at
    0.05 is 2.5 of 50.
    """
    settings = GateSettings(metrics=(metric,), alpha=0.05, min_soak_s=0)  # type: ignore[arg-type]
    stopped = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        own, gate = rng.gamma(4.0, 0.25, n), Gate(0)
        chosen = rng.permutation(n) < updated
        for hour in range(60):
            values = np.zeros((n, 4))
            values[:, 0] = rng.poisson(0.02 * own)
            away = rng.random(n) < 0.01 * own
            values[:, 2] = np.where(away, rng.exponential(600.0, n).clip(0.0, 3600.0), 0.0)
            gate.add(hour, np.arange(n), chosen, values, np.zeros(n))
            if hour % 2 and gate.judge(settings, 0).decision == "worse":
                stopped += 1
                break
    assert stopped <= 3

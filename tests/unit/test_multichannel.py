"""Levels of several channels: running means against what was normal."""

from __future__ import annotations

import numpy as np
import pytest

from models.batch import F64
from models.errors import ConfigError
from models.learned.multichannel import ChannelLevels


def normal(n: int, seed: int = 1) -> F64:
    """Return a steady channel, a drifting one and one that stands still."""
    rng = np.random.default_rng(seed)
    drift = 20.0 + np.cumsum(0.05 * rng.normal(size=n))
    return np.column_stack([230.0 + rng.normal(size=n), drift, np.full(n, 5.0)])


def naive(train: F64, rows: F64) -> list[float]:
    """Return the scores as a textbook would reckon them."""
    every = np.vstack([train, rows])
    out = np.zeros(len(every))
    for c in range(every.shape[1]):
        means = [every[max(0, i - 19) : i + 1, c].mean() for i in range(len(every))]
        learnt = np.array(means[: len(train)])
        half = len(learnt) // 2
        wandered = np.mean((learnt[half:] - learnt[:-half]) ** 2) / 2
        width = max(np.sqrt(learnt.var() + wandered), 1e-6 * abs(learnt.mean()), 1e-12)
        out = np.maximum(out, np.abs(np.array(means) - learnt.mean()) / width)
    return list((out / (out + 6.25))[len(train) :])


def test_equals_its_naive_twin_however_it_is_cut() -> None:
    rows = normal(1000)
    rows[700:, 0] += 3.0
    levels = ChannelLevels.learn(rows[:400])
    parts = np.concatenate([levels.score(part) for part in np.split(rows[400:], [1, 7, 300])])
    np.testing.assert_allclose(parts, naive(rows[:400], rows[400:]), rtol=1e-6, atol=1e-9)


def test_a_step_is_an_alarm_and_normal_rows_are_not() -> None:
    rows = normal(900)
    rows[800:, 0] += 5.0
    found = ChannelLevels.learn(rows[:400]).score(rows[400:])
    assert (found[:400] < 0.5).all()
    assert (found[420:] >= 0.5).all()


def test_one_channel_is_enough_among_noise() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(600, 40))
    rows[500:, 17] += 6.0
    found = ChannelLevels.learn(rows[:400]).score(rows[400:])
    assert (found[125:] >= 0.5).all()
    assert (found[:100] < 0.5).all()


def test_missing_values_say_nothing() -> None:
    rows = normal(600)
    holed = rows.copy()
    holed[450:460, 0] = np.nan
    found = ChannelLevels.learn(holed[:400]).score(holed[400:])
    assert np.isfinite(found).all()
    assert (found < 0.5).all()
    never = np.column_stack([rows, np.full(600, np.nan)])
    np.testing.assert_array_equal(
        ChannelLevels.learn(never[:400]).score(never[400:]), ChannelLevels.learn(rows[:400]).score(rows[400:])
    )


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 80 rows"):
        ChannelLevels.learn(np.zeros((79, 2)))
    assert ChannelLevels.learn(np.zeros((80, 2))).nbytes() == 2 * (8 + 8 + 20 * 8 + 8 + 8)

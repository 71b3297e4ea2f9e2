"""The general detector of one series: equal to its twin, causal, however the series is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import F64
from models.errors import SnapshotError
from models.learned import series
from models.learned.series import SeriesDetector
from tests.naive import shapes


def daily(n: int, seed: int, noise: float = 0.05) -> F64:
    """Return a noisy daily wave with a spike, a level change and a flat stretch late in it."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    values = np.sin(2 * np.pi * t / 288) + 0.3 * np.sin(2 * np.pi * t / 96) + noise * rng.normal(size=n)
    values[int(0.6 * n)] += 4.0
    values[int(0.75 * n) : int(0.75 * n) + 90] = 0.2
    values[int(0.9 * n) :] += 5.0
    return values


def scored(values: F64) -> F64:
    return SeriesDetector.new().score(values)


@pytest.mark.parametrize("seed", [1, 2])
def test_equals_its_naive_twin(seed: int) -> None:
    values = daily(2600, seed, 0.2 * seed)
    values[::197] = np.nan
    values[500] = np.inf
    found = scored(values)
    np.testing.assert_allclose(found, shapes.scores(values.tolist()), rtol=1e-5, atol=1e-9)
    assert np.count_nonzero(found[800:]) > 3


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 1600), max_size=4))
def test_pieces_score_like_the_whole(seed: int, cuts: list[int]) -> None:
    values = daily(1600, seed)
    detector, parts = SeriesDetector.new(), []
    for part in np.split(values, sorted(cuts)):
        detector = SeriesDetector.restore(detector.snapshot())  # going on from saved state is going on
        parts.append(detector.score(part))
    np.testing.assert_array_equal(np.concatenate(parts), scored(values))


def test_what_comes_later_changes_nothing() -> None:
    values = daily(2400, 3)
    other = values.copy()
    other[1500:] = 1e6
    np.testing.assert_array_equal(scored(values)[:1500], scored(other)[:1500])


def test_missing_values_say_nothing() -> None:
    values = daily(1800, 4)
    torn = np.insert(values, np.arange(0, 1800, 9), np.nan)
    found = scored(torn)
    assert not found[np.isnan(torn)].any()
    np.testing.assert_array_equal(found[~np.isnan(torn)], scored(values))


def test_a_power_of_two_changes_no_bit() -> None:
    values = daily(2400, 5)
    np.testing.assert_array_equal(scored(values), scored(values * 1024.0))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    scale=st.floats(1e-6, 1e6),
    ranges=st.floats(-100.0, 100.0),
)
def test_unit_and_zero_do_not_matter(seed: int, scale: float, ranges: float) -> None:
    values = daily(2000, seed)
    moved = scale * (values + ranges * float(np.ptp(values)))
    found = scored(values)
    np.testing.assert_allclose(scored(moved), found, rtol=1e-6, atol=1e-9)
    assert np.count_nonzero(found[749:]) > 2


def test_a_snapshot_of_another_shape_is_refused() -> None:
    saved = SeriesDetector.new().snapshot()
    for name, values in (("late.template", np.zeros((4, 32, 5))), ("rows", np.zeros(2))):
        with pytest.raises(SnapshotError, match=name.rpartition(".")[2]):
            SeriesDetector.restore(saved | {name: values})


def test_spike_flat_stretch_and_level_stand_out_and_the_rest_does_not() -> None:
    n = 5000
    values = daily(n, 6)
    found = scored(values)
    for at, length in ((0.6, 1), (0.75, 90), (0.9, 100)):
        start = int(at * n)
        assert found[start : start + length].max() > 0.4, at
    quiet = daily(n, 6)
    clean = np.arange(n) < int(0.6 * n)
    assert np.count_nonzero(scored(quiet)[750:][clean[750:]] > 0.45) <= 1


@pytest.mark.parametrize("value", [0.0, 45.0, -1e9])
def test_a_flat_line_is_not_unusual_and_a_first_step_is(value: float) -> None:
    values = np.full(1500, value)
    assert not scored(values).any()
    values[1400] += 1.0
    found = scored(values)
    assert found[1400] == 1.0
    assert np.count_nonzero(found) == 1


def test_a_score_passes_where_it_exceeds_the_hundred_rows_before() -> None:
    rng = np.random.default_rng(8)
    raw = np.where(rng.random(3000) < 0.05, rng.integers(1, 9, 3000) / 8, 0.0)
    raw[:1000] = 0.0
    raw[[10, 110, 300, 401]] = (0.9, 0.5, 0.9, 0.5)  # the second is one of the hundred, the fourth is not
    peaks = series._blank().peaks
    found = [series._peak(peaks, row, score) for row, score in enumerate(raw.tolist())]
    expected = [s if s > max(raw[max(0, k - 100) : k], default=0.0) else 0.0 for k, s in enumerate(raw)]
    assert found == expected


def test_state_is_counted_and_does_not_grow() -> None:
    detector = SeriesDetector.new()
    before = detector.nbytes()
    detector.score(daily(4000, 7))
    assert detector.nbytes() == before < 130_000

"""Scores from plain arrays equal scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.learned import mixture, trees

ensemble = pytest.importorskip("sklearn.ensemble")
from sklearn.mixture import GaussianMixture  # noqa: E402


def data(n: int = 600, f: int = 5, seed: int = 3) -> NDArray[np.float64]:
    """Return two clouds of points with single-precision values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f)) @ rng.normal(size=(f, f))
    x[: n // 3] += 4.0
    return x.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("settings", [{}, {"max_features": 3, "max_samples": 64}])
def test_isolation_forest_equals_scikit_learn(settings: dict[str, Any]) -> None:
    x, unseen = data(), 3.0 * data(seed=4)
    forest = ensemble.IsolationForest(n_estimators=40, random_state=1, **settings).fit(x)
    arrays, scale = trees.of_isolation_forest(forest)
    out = np.zeros(len(unseen))
    trees.isolation_scores(arrays, scale, unseen, out)
    np.testing.assert_allclose(out, -forest.score_samples(unseen), rtol=0, atol=1e-9)


@pytest.mark.parametrize("components", [1, 4])
def test_gaussian_mixture_equals_scikit_learn(components: int) -> None:
    x, unseen = data(), 3.0 * data(seed=4)
    model = GaussianMixture(components, random_state=1).fit(x)
    out = np.zeros(len(unseen))
    mixture.surprises(mixture.of_gaussian_mixture(model), unseen, out)
    np.testing.assert_allclose(out, -model.score_samples(unseen), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("quantile", [0.05, 0.5])
def test_gradient_boosting_equals_scikit_learn(quantile: float) -> None:
    x = data()
    x[::7, 2] = np.nan
    y = np.nan_to_num(x[:, 0]) * 3.0 + np.abs(x[:, 1])
    model = ensemble.HistGradientBoostingRegressor(
        loss="quantile", quantile=quantile, max_iter=30, random_state=0
    ).fit(x, y)
    arrays, base = trees.of_gradient_boosting(model)
    out = np.zeros(len(x))
    trees.boosted_values(arrays, base, x, out)
    np.testing.assert_allclose(out, model.predict(x), rtol=0, atol=1e-9)

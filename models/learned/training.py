"""Fitting the model of sessions with scikit-learn, validated on stations that took no part in fitting."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import F64
from models.errors import ConfigError

from .drift import counts_of, edges_of
from .mixture import Mixture, of_gaussian_mixture
from .model_file import FORMAT
from .session_model import KIND, SessionModel, beyond
from .sessions import FEATURES, FEATURES_VERSION, transformed
from .trees import Trees, of_isolation_forest

LEAST_SESSIONS: Final = 200
_LEAST_KNOWN: Final = 0.5  # a feature missing in more sessions than not says more of the meter than of them
_LEAST_SPREAD: Final = 1e-6
_SUPPORT: Final = (
    10.0  # the part that bears out the other one's word need not find it as rare, by this factor
)
_NO_PARTS: Final = (
    Trees(*(np.zeros(0, dtype) for dtype in ("i4", "i4", "f8", "i4", "i4", "u1", "f8"))),
    Mixture(np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0, 0))),
)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to fit.

    Attributes
    ----------
    trees : int
        Trees of the isolation forest. Unit: trees. Default 200.
    components : int
        Most Gaussians of the mixture; the count with the least BIC is taken. Default 6.
    folds : int
        Groups of stations for cross-validation. Default 5.
    rare : float
        Share of sessions of unseen stations above each part's level, less than 0.1. Default 0.001.
    seed : int
        Of both fits.
    """

    trees: int = 200
    components: int = 6
    folds: int = 5
    rare: float = 0.001
    seed: int = 0


def train(
    features: F64,
    stations: NDArray[np.str_],
    config: TrainingConfig,
    step: Callable[[str], None] = lambda _: None,
) -> SessionModel:
    """Return a model of sessions.

    Parameters
    ----------
    features : ndarray, shape (n, N_FEATURES)
    stations : ndarray of str, shape (n,)
        ``site/station`` of each session: what cross-validation keeps together.
    config : TrainingConfig
    step : callable
        Called with a word before each fit, `steps(config)` times.

    Raises
    ------
    ConfigError
        If there are too few sessions, or none of the features is known.
    """
    groups = np.unique(stations)
    if len(features) < LEAST_SESSIONS or len(groups) < 2:
        raise ConfigError(
            f"{len(features)} sessions of {len(groups)} stations: it takes {LEAST_SESSIONS} of two or more"
        )
    x = transformed(features)
    used = [
        k
        for k in range(len(FEATURES))
        if np.isfinite(x[:, k]).mean() >= _LEAST_KNOWN and np.nanstd(x[:, k]) > _LEAST_SPREAD
    ]
    if not 0.0 < config.rare * _SUPPORT < 1.0:
        raise ConfigError(f"rare = {config.rare:g}: expected more than 0 and less than {1 / _SUPPORT:g}")
    if not used:
        raise ConfigError("no feature is known and varies: the log holds neither registers nor powers")
    unseen = _cross_validated(features, stations, used, config, step)
    step("all stations")
    model = _fit(features, used, config)
    header = model.header | {
        **_levels(unseen, config),
        "training": {
            "fingerprint": fingerprint(features, stations),
            "sessions": len(features),
            "stations": len(groups),
        },
    }
    model = replace(model, header=header)
    return replace(model, header=header | {"metrics": _metrics(model, features, stations, unseen, config)})


def steps(config: TrainingConfig) -> int:
    """Return how many fits a training takes at most."""
    return config.folds + 1


def fingerprint(features: F64, stations: NDArray[np.str_]) -> str:
    """Return the SHA-256 of the training data, whatever the order of the sessions."""
    rows = sorted(
        f"{name}\0".encode() + row.tobytes()
        for name, row in zip(stations.tolist(), np.ascontiguousarray(features), strict=True)
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def _fit(features: F64, used: list[int], config: TrainingConfig) -> SessionModel:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # threads that wait for each other cost more than so small a fit
        return _fitted(features, used, config)


def _fitted(features: F64, used: list[int], config: TrainingConfig) -> SessionModel:
    from sklearn.ensemble import IsolationForest
    from sklearn.mixture import GaussianMixture

    x = transformed(features)[:, used]
    centre, spread = _scales(x)
    edges = edges_of(x)
    forest = IsolationForest(n_estimators=config.trees, random_state=config.seed)
    empty = SessionModel({"features": [FEATURES[k] for k in used]}, centre, spread, edges, edges, *_NO_PARTS)
    z = empty.prepare(features)
    forest.fit(z.astype(np.float32))
    mixtures = [
        GaussianMixture(k, covariance_type="full", reg_covar=1e-3, random_state=config.seed, max_iter=200)
        for k in range(1, config.components + 1)
    ]
    best = min((m.fit(z) for m in mixtures), key=lambda m: m.bic(z))
    trees, scale = of_isolation_forest(forest)
    header = {
        "kind": KIND,
        "format": FORMAT,
        "version": 1,
        "features_version": FEATURES_VERSION,
        "features": [FEATURES[k] for k in used],
        "forest_scale": scale,
        **_levels(np.zeros((1, 2)), config),
        "settings": {name: getattr(config, name) for name in ("trees", "components", "rare", "seed")},
    }
    shares = counts_of(x, edges) / len(x)
    return SessionModel(header, centre, spread, edges, shares, trees, of_gaussian_mixture(best))


def _scales(x: F64) -> tuple[F64, F64]:
    """Return median and spread of each column; the spread is that of a normal of the same quartiles."""
    centre, spread = np.zeros(x.shape[1]), np.ones(x.shape[1])
    for k, column in enumerate(x.T):
        known = column[np.isfinite(column)]
        if len(known):
            centre[k] = np.median(known)
            low, high = np.quantile(known, [0.25, 0.75])
            wide = (high - low) / 1.349 if high - low > _LEAST_SPREAD else known.std()
            spread[k] = wide if wide > _LEAST_SPREAD else 1.0
    return centre, spread


def _cross_validated(
    features: F64,
    stations: NDArray[np.str_],
    used: list[int],
    config: TrainingConfig,
    step: Callable[[str], None],
) -> F64:
    """Return forest and mixture score of every session, by models that did not see its station; (n, 2)."""
    from sklearn.model_selection import GroupKFold

    folds = min(config.folds, len(np.unique(stations)))
    out = np.zeros((len(features), 2))
    for k, (seen, unseen) in enumerate(GroupKFold(folds).split(features, groups=stations)):
        step(f"fold {k + 1} of {folds}")
        scores = _fit(features[seen], used, config).score(features[unseen])
        out[unseen, 0], out[unseen, 1] = scores.forest, scores.mixture
    return out


def _levels(scores: F64, config: TrainingConfig) -> dict[str, float]:
    """Return level and support of both parts from scores of forest and mixture, shape (n, 2)."""
    quantiles = {"level": 1.0 - config.rare, "support": 1.0 - _SUPPORT * config.rare}
    return {
        f"{part}_{name}": float(np.quantile(scores[:, k], q))
        for k, part in enumerate(("forest", "mixture"))
        for name, q in quantiles.items()
    }


def _metrics(
    model: SessionModel, features: F64, stations: NDArray[np.str_], unseen: F64, config: TrainingConfig
) -> dict[str, Any]:
    """Return what is worth knowing before trust: how often it speaks, and whether it sees what is wrong.

    Levels are quantiles of the same scores, so that their share alone would prove nothing: the share of a
    station is judged by the levels that the other stations give.
    """
    rng = np.random.default_rng(config.seed)
    apart = 0
    for name in np.unique(stations):
        own = stations == name
        levels = _levels(unseen[~own], config)
        apart += int(beyond(levels, unseen[own, 0], unseen[own, 1]).sum())
    mixed = features.copy()
    for k in model.used:  # every feature as usual, their combination not
        mixed[:, k] = rng.permutation(mixed[:, k])
    swung = features.copy()
    swung[:, model.used] *= rng.choice([0.1, 10.0], (len(features), len(model.used)))
    return {
        "unusual_unseen_station": apart / len(features),
        "unusual_training": float(model.score(features).unusual.mean()),
        "found_shuffled": float(model.score(mixed).unusual.mean()),
        "found_tenfold": float(model.score(swung).unusual.mean()),
        "mixture_mean_surprise_unseen": float(unseen[:, 1].mean()),
    }

"""Fitting the model of expected power with scikit-learn, validated on stations left out of fitting."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.batch import F64, I32, I64, U8
from models.errors import ConfigError

from .drift import counts_of, edges_of
from .model_file import FORMAT
from .power_model import FEATURES, KIND, PARTS, PowerModel
from .power_windows import INPUTS, INPUTS_VERSION, N_SHAPES, OFFER_AS_FIRST, OFFER_KNOWN, OVER, USABLE
from .trees import Trees, of_gradient_boosting

LEAST_SESSIONS: Final = 8
LEAST_WINDOWS: Final = 500
_LEAST_SPREAD: Final = 1e-6
_NO_TREES: Final = Trees(*(np.zeros(0, dtype) for dtype in ("i4", "i4", "f8", "i4", "i4", "u1", "f8")))


class PowerRows(NamedTuple):
    """n rows of recorded windows, grouped by session, in time order: what to learn from."""

    station: NDArray[np.str_]  # (n,): site/station, what cross-validation keeps together
    evse: I32  # (n,): the EVSE's id at its station
    session: I64  # (n,): number of the session
    time_ns: I64
    flags: U8
    share: F64
    inputs: F64
    shapes: F64


@dataclass(frozen=True, slots=True)
class PowerConfig:
    """How to fit.

    Attributes
    ----------
    trees : int
        Trees of each of the three ensembles. Unit: trees. Default 60.
    classes : int
        Most classes of vehicles; the count with the best silhouette is taken. Unit: classes. Default 6.
    quantile : float
        Share of windows below the band, and above it, before it is widened. Default 0.05.
    hold_s : float
        Power is unusual when it stays outside the widened band this long. Unit: s. Default 600.
    windows : int
        And in this many windows. Unit: windows. Default 3.
    gap_s : float
        Windows further apart belong to two runs. Unit: s. Default 1800: twice the slowest usual cadence.
    folds : int
        Groups of stations for cross-validation. Default 5.
    rare : float
        Share of sessions of unseen stations that leave the widened band. Default 0.001.
    seed : int
        Of all fits.
    """

    trees: int = 60
    classes: int = 6
    quantile: float = 0.05
    hold_s: float = 600.0
    windows: int = 3
    gap_s: float = 1800.0
    folds: int = 5
    rare: float = 0.001
    seed: int = 0

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """Of the three parts."""
        return (self.quantile, 0.5, 1.0 - self.quantile)


def train(rows: PowerRows, config: PowerConfig, step: Callable[[str], None] = lambda _: None) -> PowerModel:
    """Return a model of expected power.

    Parameters
    ----------
    rows : PowerRows
        Ends of sessions may be among them.
    config : PowerConfig
    step : callable
        Called with a word before each fit, `steps(config)` times at most.

    Raises
    ------
    ConfigError
        If there is too little to learn from, or a setting is out of bounds.
    """
    _check(config)
    rows = usable(rows)
    groups, sessions = np.unique(rows.station), np.unique(rows.session)
    if len(rows.share) < LEAST_WINDOWS or len(sessions) < LEAST_SESSIONS or len(groups) < 2:
        raise ConfigError(
            f"{len(rows.share)} minutes of power in {len(sessions)} sessions of {len(groups)} stations: it"
            f" takes {LEAST_WINDOWS} in {LEAST_SESSIONS}, of two or more"
        )
    unseen = _cross_validated(rows, config, step)
    excess = np.maximum(unseen[:, 0] - rows.share, rows.share - unseen[:, 2])
    worst = worst_of_sessions(rows, excess, config)
    level, supported = level_of(worst, config.rare)
    step("all stations")
    model = fit(rows, config)
    header = model.header | {
        "level": level,
        "training": {
            "fingerprint": fingerprint(rows),
            "sessions": len(np.unique(rows.session)),
            "stations": len(np.unique(rows.station)),
            "windows": len(rows.share),
        },
    }
    model = replace(model, header=header)
    metrics = _metrics(model, rows, unseen, worst, config) | {"rare_supported": supported}
    return replace(model, header=header | {"metrics": metrics})


def steps(config: PowerConfig) -> int:
    """Return how many fits a training takes at most."""
    return config.folds + 1


def usable(rows: PowerRows) -> PowerRows:
    """Return the windows that say what a vehicle takes, without ends of sessions."""
    return picked(rows, (rows.flags & (USABLE | OVER)) == USABLE)


def picked(rows: PowerRows, index: Any) -> PowerRows:
    """Return the rows `index` (integers or a mask), in that order."""
    return PowerRows(*(column[index] for column in rows))


def fingerprint(rows: PowerRows) -> str:
    """Return the SHA-256 of the training data, whatever the order of stations and sessions."""
    values = np.ascontiguousarray(np.column_stack([rows.share, rows.inputs, rows.shapes]))
    lines = sorted(
        f"{name}\0{t}\0".encode() + row.tobytes()
        for name, t, row in zip(rows.station.tolist(), rows.time_ns.tolist(), values, strict=True)
    )
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _check(config: PowerConfig) -> None:
    bounds = {
        "trees": (1, 1000),
        "classes": (1, 50),
        "quantile": (0.001, 0.4),
        "hold_s": (60.0, 86_400.0),
        "windows": (1, 1000),
        "rare": (1e-6, 0.5),
        "folds": (2, 100),
    }
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise ConfigError(f"{name} = {value!r}: expected a number from {low:g} to {high:g}")


def fit(rows: PowerRows, config: PowerConfig) -> PowerModel:
    """Return a model without level and metrics, of windows that are all usable."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # threads that wait for each other cost more than so small a fit
        return _fit(rows, config)


def _fit(rows: PowerRows, config: PowerConfig) -> PowerModel:
    from sklearn.ensemble import HistGradientBoostingRegressor

    firsts = first_shapes(rows)
    centre, spread, centres = _classes(firsts, config)
    edges = edges_of(firsts)
    shares = counts_of(firsts, edges) / len(firsts)
    empty = PowerModel({}, centres, centre, spread, edges, shares, *(_NO_TREES,) * 3)
    x = empty.features(rows.inputs, rows.shapes)
    x[:, ~np.isfinite(x).any(axis=0)] = 0.0  # never known: never asked for
    parts, base = [], []
    for quantile in config.quantiles:
        model = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=quantile,
            max_iter=config.trees,
            learning_rate=0.2,
            max_leaf_nodes=15,
            min_samples_leaf=20,
            early_stopping=False,
            random_state=config.seed,
        ).fit(x, rows.share)
        trees, value = of_gradient_boosting(model)
        parts.append(trees)
        base.append(value)
    header: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "version": 1,
        "features_version": INPUTS_VERSION,
        "features": [name for k, name in enumerate(FEATURES) if any((p.feature == k).any() for p in parts)],
        "quantiles": list(config.quantiles),
        "base": base,
        "level": 0.0,
        "hold_s": config.hold_s,
        "windows": config.windows,
        "gap_s": config.gap_s,
        "settings": {name: getattr(config, name) for name in ("trees", "classes", "rare", "seed")},
    }
    return PowerModel(header, centres, centre, spread, edges, shares, *parts)


def _classes(firsts: F64, config: PowerConfig) -> tuple[F64, F64, F64]:
    """Return median and spread of the shapes of sessions, and the centres of their classes."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    centre, spread = np.zeros(N_SHAPES), np.ones(N_SHAPES)
    for k, column in enumerate(firsts.T):
        known = column[np.isfinite(column)]
        if len(known):
            centre[k] = np.median(known)
            spread[k] = known.std() if known.std() > _LEAST_SPREAD else 1.0
    z = (firsts - centre) / spread
    z = np.where(np.isfinite(z), z, 0.0)
    best, centres = -1.0, z.mean(axis=0, keepdims=True)
    for k in range(2, min(config.classes, len(np.unique(z, axis=0)) - 1) + 1):
        found = KMeans(k, n_init=4, random_state=config.seed).fit(z)
        score = silhouette_score(z, found.labels_, sample_size=min(2000, len(z)), random_state=config.seed)
        if score > best:
            best, centres = score, found.cluster_centers_
    return centre, spread, np.ascontiguousarray(centres)


def _cross_validated(rows: PowerRows, config: PowerConfig, step: Callable[[str], None]) -> F64:
    """Return low, middle and high of every window by models that did not see its station; (n, 3)."""
    from sklearn.model_selection import GroupKFold

    folds = min(config.folds, len(np.unique(rows.station)))
    out = np.zeros((len(rows.share), len(PARTS)))
    for k, (seen, unseen) in enumerate(GroupKFold(folds).split(rows.share, groups=rows.station)):
        step(f"fold {k + 1} of {folds}")
        model = fit(picked(rows, seen), config)
        x = model.features(rows.inputs[unseen], rows.shapes[unseen])
        for p, part in enumerate(PARTS):
            out[unseen, p] = model.expected(part, x)
    return out


def _runs(rows: PowerRows) -> Iterator[slice]:
    """Yield the rows of each session."""
    starts = np.flatnonzero(np.r_[True, np.diff(rows.session) != 0])
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(rows.session)], strict=True):
        yield slice(start, stop)


def worst_of_sessions(rows: PowerRows, excess: F64, config: PowerConfig) -> F64:
    """Return for each session the greatest level that its excess exceeds for long enough, -inf: none."""
    out = []
    for run in _runs(rows):
        t, above = rows.time_ns[run] / 1e9, excess[run]
        worst = -np.inf
        for stop in range(config.windows - 1, len(t)):
            start = min(
                int(np.searchsorted(t, t[stop] - config.hold_s, side="right")) - 1, stop + 1 - config.windows
            )
            if start >= 0 and (np.diff(t[start : stop + 1]) <= config.gap_s).all():
                worst = max(worst, float(above[start : stop + 1].min()))
        out.append(worst)
    return np.array(out)


def level_of(worst: F64, rare: float) -> tuple[float, float]:
    """Return the level that a share `rare` of sessions like these exceeds, and the share that n support.

    Conformal: of n + 1 exchangeable sessions the last exceeds the k-th smallest of the others with a
    probability of at most 1 - k / (n + 1); n sessions cannot promise less than 1 / (n + 1).
    """
    n = len(worst)
    rank = min(int(np.ceil((1.0 - rare) * (n + 1))), n)
    return max(0.0, float(np.sort(worst)[rank - 1])), max(rare, 1.0 / (n + 1))


def first_shapes(rows: PowerRows) -> F64:
    """Return the shapes of each session."""
    return rows.shapes[np.unique(rows.session, return_index=True)[1]]


def unusual_sessions(model: PowerModel, rows: PowerRows) -> NDArray[np.bool_]:
    """Return for each session of `rows` (usable ones) whether the detector would find it unusual."""
    header = model.header
    low, high = model.band(rows.inputs, rows.shapes)
    below = np.where(rows.inputs[:, INPUTS.index("offered_share")] >= low, low - rows.share, -np.inf)
    above = np.where(rows.flags & OFFER_AS_FIRST != 0, rows.share - high, -np.inf)
    known = rows.flags & OFFER_KNOWN != 0
    config = PowerConfig(hold_s=header["hold_s"], windows=header["windows"], gap_s=header["gap_s"])
    judged = picked(rows, known)
    out = np.zeros(len(np.unique(rows.session)), np.bool_)
    if known.any():
        numbers = np.searchsorted(np.unique(rows.session), np.unique(judged.session))
        out[numbers] = worst_of_sessions(judged, np.maximum(below, above)[known], config) > 0.0
    return out


def _pinball(y: F64, predicted: F64, quantile: float) -> float:
    miss = y - predicted
    return float(np.maximum(quantile * miss, (quantile - 1.0) * miss).mean())


def _metrics(
    model: PowerModel, rows: PowerRows, unseen: F64, worst: F64, config: PowerConfig
) -> dict[str, Any]:
    """Return what is worth knowing before trust, by models that did not see the station."""
    y, level = rows.share, float(model.header["level"])
    low, high = np.minimum(unseen[:, 0], unseen[:, 2]), np.maximum(unseen[:, 0], unseen[:, 2])
    named = {f"pinball_{p}": _pinball(y, unseen[:, k], config.quantiles[k]) for k, p in enumerate(PARTS)}
    owner = np.array([rows.station[run.start] for run in _runs(rows)])
    apart = 0
    for name in np.unique(owner):  # a station is judged by the level that the others give
        others, _ = level_of(worst[owner != name], config.rare)
        apart += int((worst[owner == name] > others).sum())
    constant = [float(np.quantile(y, q)) for q in config.quantiles]
    halved = np.maximum(unseen[:, 0] - 0.5 * y, 0.5 * y - unseen[:, 2])
    return named | {
        "pinball_middle_constant": _pinball(y, np.full(len(y), constant[1]), 0.5),
        "coverage_band": float(((y >= low) & (y <= high)).mean()),
        "coverage_widened": float(((y >= low - level) & (y <= high + level)).mean()),
        "mean_width": float((high - low).mean() + 2 * level),
        "unusual_unseen_station": apart / len(worst),
        "found_halved": float((worst_of_sessions(rows, halved, config) > level).mean()),
        "vehicle_classes": len(model.centres),
    }

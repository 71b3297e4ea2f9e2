"""The learned model of finished sessions: an isolation forest and a mixture of Gaussians over their features.

A session is unusual when one of them finds it rarer than its level and the other rarer than its support; both
were calibrated on sessions of stations that took no part in fitting. Everything is plain arrays: a model file
holds no code, and is known by the fingerprint of its content.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.batch import F64

from .mixture import Mixture, surprises
from .model_file import expect, identity, read
from .sessions import FEATURES, FEATURES_VERSION, transformed
from .trees import Trees, isolation_scores

KIND: Final = "session"
_CLIP: Final = 20.0  # spreads from the centre beyond which far is far
_ARRAYS: Final = ("centre", "spread", "edges", "shares")


class Scores(NamedTuple):
    """What a model says of n sessions."""

    forest: F64  # (n,): isolation, 0 to 1
    mixture: F64  # (n,): surprise, minus log density
    z: F64  # (n, features used): spreads from the centre
    unusual: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SessionModel:
    """A trained model.

    Attributes
    ----------
    header : dict
        JSON data: ``kind``, ``format``, ``version``, ``features_version``, ``features`` (names used),
        ``forest_level``, ``forest_support``, ``mixture_level``, ``mixture_support``, ``forest_scale``,
        ``training`` (fingerprint, sessions, stations), ``metrics``.
    centre, spread : ndarray, shape (f,)
        Median and spread of each feature, after `sessions.transformed`. A missing value counts as the median.
    edges : ndarray, shape (f, bins - 1)
        Borders of the bins of equal share that drift is measured in.
    shares : ndarray, shape (f, bins + 1)
        Share of the training sessions in each bin, the last one for missing values.
    forest : Trees
    mixture : Mixture
    """

    header: dict[str, Any]
    centre: F64
    spread: F64
    edges: F64
    shares: F64
    forest: Trees
    mixture: Mixture

    @property
    def used(self) -> list[int]:
        """Columns of the feature rows that the model uses."""
        return [FEATURES.index(name) for name in self.header["features"]]

    def prepare(self, features: F64) -> F64:
        """Return rows of all features, shape (n, N_FEATURES), as the parts see them, shape (n, f)."""
        x = (transformed(features)[:, self.used] - self.centre) / self.spread
        x = np.clip(np.where(np.isfinite(x), x, 0.0), -_CLIP, _CLIP)
        # scikit-learn's trees compare single precision; so that both parts see the same, everything does
        return np.ascontiguousarray(x.astype(np.float32).astype(np.float64))

    def score(self, features: F64) -> Scores:
        """Score rows of all features, shape (n, N_FEATURES)."""
        z = self.prepare(features)
        forest, mixture = np.zeros(len(z)), np.zeros(len(z))
        isolation_scores(self.forest, float(self.header["forest_scale"]), z, forest)
        surprises(self.mixture, z, mixture)
        return Scores(forest, mixture, z, beyond(self.header, forest, mixture))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays by name."""
        out: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _ARRAYS}
        for part in ("forest", "mixture"):
            out |= {f"{part}_{k}": v for k, v in getattr(self, part)._asdict().items()}
        return out

    @property
    def model_id(self) -> str:
        """Fingerprint of header and arrays: equal models have equal ids."""
        return identity(self.header, self.arrays())


def beyond(header: dict[str, Any], forest: F64, mixture: F64) -> NDArray[np.bool_]:
    """Return which scores are unusual: one part is above its level, and the other bears it out."""
    return np.asarray(
        ((forest > header["forest_level"]) & (mixture > header["mixture_support"]))
        | ((mixture > header["mixture_level"]) & (forest > header["forest_support"]))
    )


def load(path: Path) -> SessionModel:
    """Read a model.

    Raises
    ------
    ConfigError
        If the file is missing, is none, is for another version, or is not what its name says.
    """
    header, arrays = read(path)
    expect(path, header, KIND, FEATURES_VERSION)
    return SessionModel(
        header,
        arrays["centre"],
        arrays["spread"],
        arrays["edges"],
        arrays["shares"],
        Trees(*(arrays[f"forest_{name}"] for name in Trees._fields)),
        Mixture(*(arrays[f"mixture_{name}"] for name in Mixture._fields)),
    )

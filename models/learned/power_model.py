"""The model of expected power: how much of its first power a vehicle of a class takes later on.

Two ensembles of trees give the band of what is usual (quantiles of the share), one its middle; all three see
the inputs of `power_windows` and the class of the vehicle: the nearest of a few centres among the shapes of
the first minutes. The band is widened by a level calibrated on sessions of stations left out of fitting.
Everything is plain arrays; a model file holds no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I64

from .model_file import Arrays, expect, identity, read
from .power_windows import INPUTS, INPUTS_VERSION
from .trees import Trees, boosted_values

KIND: Final = "power"
PARTS: Final = ("low", "middle", "high")
#: Inputs of the trees, in order.
FEATURES: Final = (*INPUTS, "vehicle_class")
_ARRAYS: Final = ("centres", "shape_centre", "shape_spread", "edges", "shares")


class Band(NamedTuple):
    """What is usual for n windows, as shares of their references."""

    low: F64
    high: F64


@dataclass(frozen=True, slots=True)
class PowerModel:
    """A trained model.

    Attributes
    ----------
    header : dict
        JSON data: ``kind``, ``format``, ``version``, ``features_version``, ``features`` (of `FEATURES`, those
        that a tree asks for), ``quantiles`` (low, middle, high), ``level`` (by which the band is widened,
        share), ``hold_s``, ``windows`` and ``gap_s`` (how long power must be outside, in how many windows,
        how far apart), ``base`` (of each part), ``settings``, ``training`` (fingerprint, sessions, stations,
        windows), ``metrics``.
    centres : ndarray, shape (classes, N_SHAPES)
        Of the classes of vehicles, after scaling.
    shape_centre, shape_spread : ndarray, shape (N_SHAPES,)
        Median and spread of the shapes. A missing value counts as the median.
    edges : ndarray, shape (N_SHAPES, bins - 1)
        Borders of the bins of equal share that drift is measured in.
    shares : ndarray, shape (N_SHAPES, bins + 1)
        Share of the training sessions in each bin, the last one for missing values.
    low, middle, high : Trees
    """

    header: dict[str, Any]
    centres: F64
    shape_centre: F64
    shape_spread: F64
    edges: F64
    shares: F64
    low: Trees
    middle: Trees
    high: Trees

    def classes(self, shapes: F64) -> I64:
        """Return the class of each row of shapes, shape (n, N_SHAPES)."""
        out = np.zeros(len(shapes), np.int64)
        _nearest(self.centres, self.shape_centre, self.shape_spread, shapes, out)
        return out

    def features(self, inputs: F64, shapes: F64) -> F64:
        """Return what the trees see, shape (n, N_INPUTS + 1)."""
        return np.column_stack([inputs, self.classes(shapes).astype(np.float64)])

    def expected(self, part: str, x: F64) -> F64:
        """Return what one of `PARTS` predicts for rows of `features`, shape (n,)."""
        out = np.zeros(len(x))
        boosted_values(getattr(self, part), float(self.header["base"][PARTS.index(part)]), x, out)
        return out

    def band(self, inputs: F64, shapes: F64) -> Band:
        """Return the widened band; it is never empty, and never below nothing."""
        x, level = self.features(inputs, shapes), float(self.header["level"])
        low, high = self.expected("low", x), self.expected("high", x)
        return Band(
            np.maximum(np.minimum(low, high) - level, 0.0), np.maximum(np.maximum(low, high) + level, 0.0)
        )

    def arrays(self) -> Arrays:
        """Return all arrays by name."""
        out: Arrays = {name: getattr(self, name) for name in _ARRAYS}
        for part in PARTS:
            out |= {f"{part}_{k}": v for k, v in getattr(self, part)._asdict().items()}
        return out

    @property
    def model_id(self) -> str:
        """Fingerprint of header and arrays: equal models have equal ids."""
        return identity(self.header, self.arrays())


@kernel
def _nearest(centres: F64, centre: F64, spread: F64, shapes: F64, out: I64) -> None:
    """Write to `out` the nearest of `centres` to each row of `shapes`; of equally near ones the first."""
    for i in range(len(shapes)):
        best = np.inf
        for c in range(len(centres)):
            square = 0.0
            for k in range(shapes.shape[1]):
                z = (shapes[i, k] - centre[k]) / spread[k]
                d = (z if abs(z) < np.inf else 0.0) - centres[c, k]
                square += d * d
            if square < best:
                best, out[i] = square, c


def load(path: Path) -> PowerModel:
    """Read a model.

    Raises
    ------
    ConfigError
        If the file is missing, is none, is for another version, or is not what its name says.
    """
    header, arrays = read(path)
    expect(path, header, KIND, INPUTS_VERSION)
    low, middle, high = (Trees(*(arrays[f"{part}_{name}"] for name in Trees._fields)) for part in PARTS)
    centres, centre, spread, edges, shares = (arrays[name] for name in _ARRAYS)
    return PowerModel(header, centres, centre, spread, edges, shares, low, middle, high)

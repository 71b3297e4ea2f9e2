"""A memory of shapes: fuzzy adaptive resonance over the last eight samples of a series, with two vigilances.

The family for shapes. It re-creates, from their description, the category memory of ARTime (Hampton 2021) and
dual-vigilance fuzzy ART (da Silva, Elnabarawy, Wunsch, Neural Networks 109, 2019), with three changes: the
range is that of the warm-up, widened on both sides, with values clipped to it, never that of the whole
series; the length of the series is not known; and the number of categories is bounded, the least recently
used one making room. All state lies in arrays of fixed size; a sample costs one pass over the categories.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I64
from models.errors import SnapshotError

F32 = NDArray[np.float32]

SAMPLES: Final = 8  # in a shape
ENTRIES: Final = 32  # of a feature: 8 of the Haar transform, 8 samples, and 1 - each
NEWEST: Final = 15  # entry of the newest sample; its complement stands 16 further on
GRID: Final = 80  # steps that the range is rounded to
NEAR_MEDIAN: Final = 0.075  # share of the range; nearer to the running median counts as the median
QUIET: Final = 12  # samples after an alarm or a new category during which an ordinary one is no alarm
WARM_VIGILANCE: Final = 0.80
_FAR_AGO: Final = -(10**9)

NET_DTYPE: Final = np.dtype(
    [
        ("tick", "i8"),  # samples taken in
        ("alarm", "i8"),  # tick of the last alarm
        ("changed", "i8"),  # tick of the last change of the vigilances
        ("quiet", "i8"),  # samples in a row without a new cluster
        ("categories", "i4"),
        ("masked", "u1"),
        ("pending", "u1"),  # the vigilances are due 12 samples after the last alarm
        ("low", "f8"),  # range of the warm-up, widened
        ("high", "f8"),
        ("strict", "f8"),  # the two vigilances
        ("loose", "f8"),
        ("match_sum", "f8"),
        ("match_n", "f8"),
        ("alarm_match", "f8"),
        ("least_sum", "f8"),  # of the least match round every alarm
        ("least_n", "f8"),
        ("held", "f8"),  # score of the last sample, and of the one before it
        ("held_before", "f8"),
    ],
    align=True,
)


class Shape(NamedTuple):
    """Settings of a group of nets.

    Attributes
    ----------
    warm : int
        Samples of the warm-up, also the memory of the vigilances. Unit: samples. At least 16.
    categories : int
        Most categories of a net.
    """

    warm: int
    categories: int


class Nets(NamedTuple):
    """State of n nets of one `Shape`, and room to work in (the last six)."""

    rec: Any  # (n,) NET_DTYPE
    widen: F64  # (n,): share of the warm-up's range added on both sides
    template: F32  # (n, ENTRIES, categories)
    scale: F32  # (n, categories): what makes a template's match with itself 1
    used: NDArray[np.int32]  # (n, categories): tick of the last use
    match: F32  # (n, warm + 1): the best match of the last samples, by tick
    short: F32  # (n, warm + 1): by how much it was short of the strict vigilance, -1 where it was not
    levels: NDArray[np.int32]  # (n, GRID + 1): histogram for the running median
    window: F64  # (n, SAMPLES): the last samples, scaled
    first: F64  # (n, warm): samples of the warm-up
    x: F32  # (ENTRIES,): feature of the sample at hand
    fit: F32  # (categories,): match of each category with it
    bits: NDArray[np.int32]  # the same, bit by bit
    likes: F32  # (warm,)
    features: F32  # (warm, ENTRIES)
    order: I64  # (warm,)


STATE: Final = ("rec", "widen", "template", "scale", "used", "match", "short", "levels", "window", "first")


def blank_nets(n: int, shape: Shape, widen: F64) -> Nets:
    """Return n nets that have seen nothing; `widen` has shape (n,)."""
    rec = np.zeros(n, NET_DTYPE)
    rec["alarm"] = _FAR_AGO
    rec["low"], rec["high"] = np.inf, -np.inf
    c, t = shape.categories, shape.warm
    fit = np.zeros(c, np.float32)
    return Nets(
        rec,
        widen.astype(np.float64),
        np.ones((n, ENTRIES, c), np.float32),
        np.full((n, c), 1.0 / (ENTRIES**3 * 4.0), np.float32),
        np.zeros((n, c), np.int32),
        np.zeros((n, t + 1), np.float32),
        np.full((n, t + 1), -1.0, np.float32),
        np.zeros((n, GRID + 1), np.int32),
        np.zeros((n, SAMPLES)),
        np.zeros((n, t)),
        np.zeros(ENTRIES, np.float32),
        fit,
        fit.view(np.int32),
        np.zeros(t, np.float32),
        np.zeros((t, ENTRIES), np.float32),
        np.zeros(t, np.int64),
    )


def saved_nets(nets: Nets) -> dict[str, NDArray[Any]]:
    """Return the state of nets as plain arrays, copied."""
    out = {name: getattr(nets, name).copy() for name in STATE if name != "rec"}
    return out | {f"rec_{name}": nets.rec[name].copy() for name in NET_DTYPE.names or ()}


def load_nets(nets: Nets, saved: dict[str, NDArray[Any]], at: int = 0) -> None:
    """Put what `saved_nets` returned into nets from number `at` on.

    Raises
    ------
    SnapshotError
        If it is of nets of another shape.
    """
    for name, values in saved.items():
        field = name.removeprefix("rec_")
        place = nets.rec[field] if field != name else getattr(nets, name)
        if values.shape[1:] != place.shape[1:]:
            raise SnapshotError(
                f"nets of shapes: saved {name} has shape {values.shape}, expected {place.shape}"
            )
        place[at : at + len(values)] = values


@kernel
def _haar(x: F32, window: F64, i: int) -> None:
    """Write the Haar transform of the window, scaled to [0, 1] before and after, to the first of x."""
    root = np.sqrt(2.0)
    low, high = np.inf, -np.inf
    for j in range(SAMPLES):
        low, high = min(low, window[i, j]), max(high, window[i, j])
    scale = 1.0 / (high - low) if high > low else 0.0
    a0, a1 = (window[i, 0] - low) * scale, (window[i, 1] - low) * scale
    a2, a3 = (window[i, 2] - low) * scale, (window[i, 3] - low) * scale
    a4, a5 = (window[i, 4] - low) * scale, (window[i, 5] - low) * scale
    a6, a7 = (window[i, 6] - low) * scale, (window[i, 7] - low) * scale
    b0, b1, b2, b3 = (a0 + a1) / root, (a2 + a3) / root, (a4 + a5) / root, (a6 + a7) / root
    c0, c1 = (b0 + b1) / root, (b2 + b3) / root
    h0, h1 = (c0 + c1) / root, (c1 - c0) / root
    h2, h3 = (b1 - b0) / root, (b3 - b2) / root
    h4, h5, h6, h7 = (a1 - a0) / root, (a3 - a2) / root, (a5 - a4) / root, (a7 - a6) / root
    low = min(min(min(h0, h1), min(h2, h3)), min(min(h4, h5), min(h6, h7)))
    high = max(max(max(h0, h1), max(h2, h3)), max(max(h4, h5), max(h6, h7)))
    scale = 1.0 / (high - low) if high > low else 0.0
    x[0], x[1], x[2], x[3] = (h0 - low) * scale, (h1 - low) * scale, (h2 - low) * scale, (h3 - low) * scale
    x[4], x[5], x[6], x[7] = (h4 - low) * scale, (h5 - low) * scale, (h6 - low) * scale, (h7 - low) * scale


@kernel
def _feature(nets: Nets, i: int, tick: int, sample: float) -> None:
    """Scale a sample, move the window on and write the feature to ``nets.x``."""
    rec, levels, window, x = nets.rec[i], nets.levels, nets.window, nets.x
    width = rec["high"] - rec["low"]
    level = 0.5 if not width > 0.0 else min(1.0, max(0.0, (sample - rec["low"]) / width))
    step = int(np.floor(level * GRID + 0.5))
    levels[i, step] += 1
    seen, k = 0, 0
    while k < GRID:
        seen += levels[i, k]
        if 2 * seen >= tick + 1:
            break
        k += 1
    scaled = step / GRID
    if abs(scaled - k / GRID) <= NEAR_MEDIAN:
        scaled = k / GRID
    for j in range(SAMPLES - 1):
        window[i, j] = window[i, j + 1]
    window[i, SAMPLES - 1] = scaled
    if tick < SAMPLES - 1:
        x[:16] = 0.0
    else:
        _haar(x, window, i)
        for j in range(SAMPLES):
            x[SAMPLES + j] = window[i, j]
    for j in range(16):
        x[16 + j] = np.float32(1.0) - x[j]


@kernel
def _scale(template: F32, i: int, k: int, total: float) -> float:
    """Return 1 / (sum^3 x edge^2): matches are products, not quotients."""
    edge = template[i, NEWEST, k] + template[i, NEWEST + 16, k]
    tiny = np.float32(1e-9)
    scale: float = np.float32(1.0) / (total * total * total * (edge * edge) + tiny)
    return scale


@kernel
def _best(nets: Nets, i: int) -> int:
    """Write the match of every category to ``nets.fit``; return the best one."""
    n, x, fit, bits = nets.rec[i]["categories"], nets.x, nets.fit, nets.bits
    template, scale = nets.template, nets.scale
    for k in range(n):
        fit[k] = 0.0
    for j in range(0, ENTRIES, 4):  # four entries a pass: a quarter of the loads and stores of `fit`
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        for k in range(n):
            ab = min(a, template[i, j, k]) + min(b, template[i, j + 1, k])
            cd = min(c, template[i, j + 2, k]) + min(d, template[i, j + 3, k])
            fit[k] += ab + cd
    near, far = x[NEWEST], x[NEWEST + 16]
    for k in range(n):
        edge = min(near, template[i, NEWEST, k]) + min(far, template[i, NEWEST + 16, k])
        whole = fit[k]
        fit[k] = whole * whole * whole * (edge * edge) * scale[i, k]
    greatest = np.int32(0)
    for k in range(n):  # as integers: floats of one sign keep their order, and this loop can be vectorised
        greatest = max(greatest, bits[k])
    best = 0
    while best < n - 1 and bits[best] != greatest:
        best += 1
    return best


@kernel
def _learn(nets: Nets, i: int, tick: int, best: int, strict: float, loose: float) -> None:
    """Let all categories that match by the strict vigilance learn, or take the feature in as a new one."""
    n, x, fit, template, used = nets.rec[i]["categories"], nets.x, nets.fit, nets.template, nets.used
    if fit[best] >= strict:
        for k in range(n):
            if fit[k] >= strict:
                total = np.float32(0.0)
                for j in range(ENTRIES):
                    template[i, j, k] = min(x[j], template[i, j, k])
                    total += template[i, j, k]
                nets.scale[i, k] = _scale(template, i, k, total)
        used[i, best] = tick
        return
    if fit[best] >= loose:
        used[i, best] = tick
    k = n
    if n == used.shape[1]:
        k = 0
        for z in range(1, n):
            if used[i, z] < used[i, k]:
                k = z
    else:
        nets.rec[i]["categories"] = n + 1
    total = np.float32(0.0)
    for j in range(ENTRIES):
        template[i, j, k] = x[j]
        total += x[j]
    nets.scale[i, k] = _scale(template, i, k, total)
    used[i, k] = tick


@kernel
def _forget(nets: Nets, i: int) -> None:
    """Leave one category: all ones."""
    nets.rec[i]["categories"] = 1
    nets.used[i, 0] = 0
    nets.scale[i, 0] = 1.0 / (ENTRIES**3 * 4.0)
    for j in range(ENTRIES):
        nets.template[i, j, 0] = 1.0


@kernel
def _edge(nets: Nets, i: int, best: int) -> float:
    """Return how well the newest sample alone fits the best category."""
    a, b = float(nets.template[i, NEWEST, best]), float(nets.template[i, NEWEST + 16, best])
    return (min(float(nets.x[NEWEST]), a) + min(float(nets.x[NEWEST + 16]), b)) / (a + b + 1e-9)

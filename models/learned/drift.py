"""Whether a model still fits its input: the population stability index of each feature.

PSI = sum over bins of (now - then) x ln(now / then), over ten bins of equal share in training and one for
missing values. By the usual reading, below 0.1 nothing moved, up to 0.25 something did, beyond that the model
was trained for another population (Siddiqi, Credit Risk Scorecards, 2006).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.batch import F64, I64

BINS: Final = 10
WATCH: Final = 0.1
DRIFTED: Final = 0.25
#: Fewer sessions say nothing.
LEAST_SESSIONS: Final = 200
#: Sessions of a shard that are counted before old ones count half.
KEEP: Final = 4000
_LEAST_SHARE: Final = 1e-3


def edges_of(x: F64) -> F64:
    """Return the borders of the bins of each column of x, shape (n, f): (f, BINS - 1); NaN is left out."""
    inner = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    known = [column[np.isfinite(column)] for column in x.T]
    return np.array([np.quantile(c, inner) if len(c) else np.zeros(BINS - 1) for c in known])


def counts_of(x: F64, edges: F64) -> I64:
    """Return how many values of each column fall into each bin, missing ones last; (f, BINS + 1)."""
    out = np.zeros((len(edges), BINS + 1), np.int64)
    for k, borders in enumerate(edges):
        column = x[:, k]
        place = np.where(np.isfinite(column), np.searchsorted(borders, column, side="left"), BINS)
        out[k] = np.bincount(place, minlength=BINS + 1)
    return out


def stability(then: F64, counts: I64) -> F64:
    """Return the index of each feature, shape (f,): shares in training against counts now."""
    now = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    a, b = np.maximum(then, _LEAST_SHARE), np.maximum(now, _LEAST_SHARE)
    return np.asarray(((b - a) * np.log(b / a)).sum(axis=1))


def word(index: float, sessions: int, trained: int) -> str:
    """Return what an index means, of so many sessions now and in training.

    Samples of one population have an index of about bins x (1 / now + 1 / then): that much says nothing.
    """
    if sessions < LEAST_SESSIONS:
        return "too few"
    index -= BINS * (1.0 / sessions + 1.0 / max(trained, 1))
    return "drifted" if index > DRIFTED else "watch" if index > WATCH else "stable"


class Tally:
    """What passed a model in the running service, in bins, old sessions fading.

    Whenever `KEEP` sessions are counted, all counts are halved: the index then speaks of the last few
    thousand. At which session that happens depends on nothing but their number.
    """

    def __init__(self, features: int = 0, counts: I64 | None = None) -> None:
        self.counts: I64 = np.zeros((features, BINS + 1), np.int64) if counts is None else counts.copy()

    @property
    def sessions(self) -> int:
        """Sessions in the counts."""
        return int(self.counts[0].sum()) if len(self.counts) else 0

    def add(self, x: F64, edges: F64) -> None:
        """Count sessions with features `x`, shape (n, f)."""
        at = 0
        while at < len(x):
            stop = at + KEEP - self.sessions
            self.counts += counts_of(x[at:stop], edges)
            at = stop
            if self.sessions >= KEEP:
                self.counts //= 2


def report(features: list[str], then: F64, counts: I64, trained: int) -> list[dict[str, Any]]:
    """Return index and meaning of each feature, as JSON data; `trained` sessions made `then`."""
    n = int(counts[0].sum()) if len(counts) else 0
    return [
        {"feature": name, "psi": round(float(index), 4), "state": word(float(index), n, trained)}
        for name, index in zip(features, stability(then, counts), strict=True)
    ]

"""What is usual at each station, from its hours before a campaign: what the telemetry gate expects of it.

Stations differ lastingly: a car park in town delivers three times the energy of one at a lake, and one old
station has most of the findings. Compared as they are, groups of them differ by chance. So each station is
expected to do what it did before, as far as its past can be believed.

How far is learned from the fleet itself. Every station's past is kept in two halves, even and odd hours. What
the halves have in common is lasting: with r1 and r2 a station's rates over the mean of all, less one, the
mean of r1 · r2 is the variance tau² of the stations; what is left of r1² and r2² is chance, sigma² over the
exposure E. A station is then expected at 1 + Z · (r - 1) times the mean, Z = tau² / (tau² + sigma² / E): the
credibility of Bühlmann (Mathematical Methods in Risk Theory, 1970, ch. 4). Stations with no past, and figures
that say nothing lasting, are expected at the mean.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

#: What is counted: findings, failed starts, seconds offline, Wh; exposures: hours, starts, hours with energy.
COUNTS: Final = 4
#: Which exposure each count belongs to.
EXPOSURE: Final = (0, 1, 0, 2)
#: The past fades with this half-life: two weeks know every weekday twice.
HALF_LIFE_H: Final = 14 * 24
#: No station is expected below this share of the mean: one quiet for weeks may still have a finding.
LEAST: Final = 0.05


class History:
    """Sums over the past hours of each station row: (row, half, count or exposure)."""

    def __init__(self) -> None:
        self._sums = np.zeros((64, 2, COUNTS + 3), np.float32)
        self._hour = np.full(64, -1, np.int64)  # the newest that is in the sums

    def add(self, hour: int, rows: NDArray[np.int64], values: F64, starts: F64) -> None:
        """Take in an hour of n stations, each at most once; shapes as in `models.gate.Gate.add`."""
        if not len(rows):
            return
        if int(rows.max()) >= len(self._hour):
            n = max(int(rows.max()) + 1, 2 * len(self._hour))
            more = n - len(self._hour)
            self._sums = np.concatenate([self._sums, np.zeros((more, 2, COUNTS + 3), np.float32)])
            self._hour = np.concatenate([self._hour, np.full(more, -1, np.int64)])
        known = self._hour[rows] >= 0
        later = np.where(known, np.maximum(0, hour - self._hour[rows]), 0)
        fade = np.exp2(-later / HALF_LIFE_H).astype(np.float32)
        self._sums[rows] *= fade[:, None, None]
        self._sums[rows, hour % 2] += np.concatenate(
            [np.where(np.isfinite(values), values, 0.0), exposures(values, starts)], axis=1
        ).astype(np.float32)
        self._hour[rows] = np.maximum(self._hour[rows], hour)

    def weights(self, n: int) -> F64:
        """Return what is expected of the first n stations over the mean of all, shape (n, 4)."""
        out = np.ones((n, COUNTS))
        sums = self._sums[:n].astype(np.float64)
        for which in range(COUNTS):
            out[: len(sums), which] = _expected(sums[:, :, which], sums[:, :, COUNTS + EXPOSURE[which]])
        return out

    def snapshot(self, n: int) -> dict[str, Any]:
        """Return plain data of the first n stations from which `restore` makes an equal one."""
        return {"sums": self._sums[:n].copy(), "hour": self._hour[:n].copy()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> History:
        """Return what was saved in `state`."""
        history = cls()
        if len(state["hour"]):
            history._sums = np.array(state["sums"], np.float32)
            history._hour = np.array(state["hour"], np.int64)
        return history


def exposures(values: F64, starts: F64) -> F64:
    """Return what n stations are counted against, shape (n, 3): hours, starts, hours with energy."""
    known = np.isfinite(values[:, COUNTS - 1]).astype(np.float64)
    return np.stack([np.ones(len(values)), starts, known], axis=1)


def _expected(x: F64, e: F64) -> F64:
    """Return what is expected of each station over the mean; `x` counts and `e` exposures, shape (n, 2)."""
    out = np.ones(len(x))
    known = (e > 0.0).all(axis=1)
    if known.sum() < 2 or not x[known].sum() > 0.0:
        return out
    x, e = x[known], e[known]
    mean, both = x.sum() / e.sum(), e.sum(axis=1)
    rate = x / (mean * e) - 1.0
    lasting = float((both * rate[:, 0] * rate[:, 1]).sum() / both.sum())
    if lasting <= 0.0:
        return out
    chance = max(0.0, float((e * (rate**2 - lasting)).mean()))
    credible = lasting / (lasting + chance / both)
    out[known] = np.maximum(LEAST, 1.0 + credible * (x.sum(axis=1) / (mean * both) - 1.0))
    return out

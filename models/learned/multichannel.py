"""Levels of several channels at once, learnt from a stretch of normal rows.

Every channel is judged by its mean over the last `_ROWS` rows against its mean while it learnt, in units of
what it may do by itself: its spread then, and how far it wandered in half of that stretch (a temperature that
drifts is given room, a flow that stood still is not). The channel that is farthest off decides: channels that
carry nothing but noise do not dilute it. A row costs a handful of operations a channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I64
from models.errors import ConfigError

#: Rows of the running mean. Source: docs/detection-general.md; 15 to 40 score alike.
_ROWS: Final = 20
#: Distance that scores one half, from where it is an alarm. Unit: standard deviations of the running mean.
#: Source: docs/detection-general.md; 5.5 to 6.5 score alike.
_ALARM: Final = 6.25
#: A channel that stood still while it learnt may move by this share of its level.
_LEAST_SHARE: Final = 1e-6


class _Windows(NamedTuple):
    """Running means: the last values of every channel, their sums, how many came."""

    ring: F64  # (channels, _ROWS)
    total: F64  # (channels,)
    seen: I64  # (channels,)


def _blank(channels: int) -> _Windows:
    return _Windows(np.zeros((channels, _ROWS)), np.zeros(channels), np.zeros(channels, np.int64))


@kernel
def _mean(windows: _Windows, c: int, value: float) -> float:
    """Return the running mean of channel c with one more value; a missing one leaves it as it was."""
    seen = windows.seen[c]
    if not abs(value) < np.inf:
        return float(windows.total[c] / min(seen, _ROWS)) if seen > 0 else np.nan
    at = seen % _ROWS
    windows.total[c] += value - windows.ring[c, at]
    windows.ring[c, at] = value
    windows.seen[c] = seen + 1
    if at == _ROWS - 1:  # afresh once a round, so that rounding does not pile up
        total = 0.0
        for j in range(_ROWS):
            total += windows.ring[c, j]
        windows.total[c] = total
    return float(windows.total[c] / min(seen + 1, _ROWS))


@kernel
def _means_kernel(rows: F64, windows: _Windows, out: F64) -> None:
    for i in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            out[i, c] = _mean(windows, c, rows[i, c])


@kernel
def _score_kernel(rows: F64, windows: _Windows, centre: F64, width: F64, out: F64) -> None:
    for i in range(rows.shape[0]):
        farthest = 0.0
        for c in range(rows.shape[1]):
            off = abs(_mean(windows, c, rows[i, c]) - centre[c]) / width[c]
            if off > farthest:  # false for NaN: a channel that never came says nothing
                farthest = off
        out[i] = farthest / (farthest + _ALARM)


@dataclass(frozen=True, slots=True)
class ChannelLevels:
    """What is normal for each channel, and the running means.

    Attributes
    ----------
    centre, width : ndarray, shape (channels,), float64
        Units of the channels; NaN and 1 for a channel without a value while it learnt.
    """

    centre: F64
    width: F64
    windows: _Windows

    @classmethod
    def learn(cls, rows: NDArray[Any]) -> Self:
        """Return the levels of `rows`, having seen them.

        Parameters
        ----------
        rows : array_like, shape (n, channels)
            Normal rows in time order, at least four times the running mean; NaN is missing.

        Raises
        ------
        ConfigError
            If there are too few.
        """
        given = np.ascontiguousarray(rows, np.float64)
        if given.ndim != 2 or len(given) < 4 * _ROWS:
            raise ConfigError(
                f"levels of channels: rows of shape {given.shape}, expected at least {4 * _ROWS} rows"
            )
        windows = _blank(given.shape[1])
        means = np.empty_like(given)
        _means_kernel(given, windows, means)
        centre, width = np.full(given.shape[1], np.nan), np.ones(given.shape[1])
        for c in range(given.shape[1]):
            column = means[:, c][np.isfinite(means[:, c])]
            if len(column) < 4 * _ROWS:
                continue
            half = len(column) // 2
            wandered = 0.5 * np.mean((column[half:] - column[:-half]) ** 2)
            centre[c] = column.mean()
            width[c] = max(np.sqrt(column.var() + wandered), _LEAST_SHARE * abs(centre[c]), 1e-12)
        return cls(centre, width, windows)

    def score(self, rows: NDArray[Any]) -> F64:
        """Take in the next rows; return their scores.

        Parameters
        ----------
        rows : array_like, shape (n, channels)

        Returns
        -------
        ndarray, shape (n,), float64
            In [0, 1); 0.5 and above is an alarm.
        """
        given = np.ascontiguousarray(rows, np.float64)
        out = np.empty(len(given))
        _score_kernel(given, self.windows, self.centre, self.width, out)
        return out

    def nbytes(self) -> int:
        """Return the bytes of state."""
        return sum(a.nbytes for a in (self.centre, self.width, *self.windows))

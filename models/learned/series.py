"""The general detector of one series: range novelty and the memory of shapes, joined, then a peak filter.

One configuration for every series. It knows nothing but the past: neither range nor length of the series, and
it scores the same however the series is cut into pieces, and whatever unit and zero its values are given in
(x and a x + b with a > 0 score alike). Three parts run side by side:

- `levels`: range novelty of the value and of its running mean;
- `shapes`: as long as the series is young, one net with a sample per row; from `_LATE_ROWS` on an ensemble of
  nets with a sample per `_LATE_STRIDE` rows, which differ in how far they widen the range;
- the greater of both, passed on only where it exceeds every score of the last `_PEAK_ROWS` rows.

`docs/detection-general.md` says how the constants were chosen and what they score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I64
from models.errors import SnapshotError

from .levels import MEAN_WEIGHT, blank_levels, levels_step, novelty
from .shapes import STATE, Nets, Shape, blank_nets, load_nets, saved_nets
from .vigilance import ensemble_step

_EARLY: Final = Shape(168, 256)
_EARLY_WIDEN: Final = np.array([0.5])
_LATE: Final = Shape(107, 128)
_LATE_STRIDE: Final = 7
_LATE_ROWS: Final = _LATE.warm * _LATE_STRIDE
_LATE_WIDEN: Final = np.array([0.25, 0.5, 0.75, 1.0])
_PEAK_ROWS: Final = 100
#: A sample is the extreme of its rows where that is at least this share of the range so far off their mean.
#: Source: the usual tolerance of range rules; 0.02 to 0.05 score alike (docs/detection-general.md).
_APART: Final = 0.05

#: The sample that is being made.
SAMPLE_FIELDS: Final[list[Any]] = [
    ("n", "i8"),  # rows
    ("sum", "f8"),
    ("low", "f8"),
    ("high", "f8"),
    ("centre", "f8"),  # running mean of the samples
    ("blocks", "i8"),  # samples made
    ("least", "f8"),  # of all rows so far
    ("most", "f8"),
]
SAMPLE_BLANK: Final[dict[str, Any]] = {"least": np.inf, "most": -np.inf}


class _Peaks(NamedTuple):
    """A queue of falling scores: those that no later one exceeds, within the window of rows."""

    ends: I64  # (2,): first entry, entries
    row: I64  # (_PEAK_ROWS + 1,)
    score: F64


class _State(NamedTuple):
    rows: I64  # (1,): finite values taken in
    levels: Any
    block: Any
    early: Nets
    late: Nets
    peaks: _Peaks


@kernel
def block_add(rec: Any, value: float) -> None:
    """Add a row to the sample that is being made."""
    if rec["n"] == 0:
        rec["sum"], rec["low"], rec["high"] = 0.0, value, value
    rec["n"] += 1
    rec["sum"] += value
    rec["low"], rec["high"] = min(rec["low"], value), max(rec["high"], value)
    rec["least"], rec["most"] = min(rec["least"], value), max(rec["most"], value)


@kernel
def block_sample(rec: Any) -> float:
    """Return the value that stands for the rows added, and begin the next sample.

    It is the extreme that lies farther from the running mean of the samples, or the mean of the rows where
    the extreme is near it: by the range so far, not by the magnitude, which depends on where zero is.
    """
    mean = rec["sum"] / rec["n"]
    rec["centre"] = mean if rec["blocks"] == 0 else 0.5 * (rec["centre"] + mean)
    rec["blocks"] += 1
    rec["n"] = 0
    above, below = abs(rec["high"] - rec["centre"]), abs(rec["low"] - rec["centre"])
    extreme = rec["high"] if above >= below else rec["low"]
    near = abs(extreme - mean) < _APART * (rec["most"] - rec["least"])
    return float(mean if near else extreme)


@kernel
def _peak(peaks: _Peaks, row: int, score: float) -> float:
    """Return the score if it exceeds all of the last `_PEAK_ROWS` rows, else 0."""
    ends, rows, scores = peaks
    room = len(rows)
    if ends[1] > 0 and rows[ends[0]] < row - _PEAK_ROWS:
        ends[0] = (ends[0] + 1) % room
        ends[1] -= 1
    if score <= 0.0:
        return 0.0
    passed = ends[1] == 0 or score > scores[ends[0]]
    while ends[1] > 0 and scores[(ends[0] + ends[1] - 1) % room] <= score:
        ends[1] -= 1
    last = (ends[0] + ends[1]) % room
    rows[last], scores[last] = row, score
    ends[1] += 1
    return score if passed else 0.0


@kernel
def _series_kernel(values: F64, state: _State, out: F64) -> None:
    levels, block = state.levels[0], state.block[0]
    for k in range(len(values)):
        value = values[k]
        out[k] = 0.0
        if not abs(value) < np.inf:
            continue
        row = state.rows[0]
        state.rows[0] = row + 1
        score = novelty(levels_step(levels, value, MEAN_WEIGHT))
        if row < _LATE_ROWS:
            score = max(score, ensemble_step(state.early, 0, 1, value, value, value))
        block_add(block, value)
        if block["n"] == _LATE_STRIDE:
            low, high = block["low"], block["high"]
            sample = block_sample(block)
            score = max(score, ensemble_step(state.late, 0, len(_LATE_WIDEN), sample, low, high))
        out[k] = _peak(state.peaks, row, score)


def _blank_sample() -> Any:
    out = np.zeros(1, np.dtype(SAMPLE_FIELDS))
    for name, value in SAMPLE_BLANK.items():
        out[name] = value
    return out


def _blank() -> _State:
    return _State(
        np.zeros(1, np.int64),
        blank_levels(1),
        _blank_sample(),
        blank_nets(1, _EARLY, _EARLY_WIDEN),
        blank_nets(len(_LATE_WIDEN), _LATE, _LATE_WIDEN),
        _Peaks(np.zeros(2, np.int64), np.zeros(_PEAK_ROWS + 1, np.int64), np.zeros(_PEAK_ROWS + 1)),
    )


@dataclass(slots=True)
class SeriesDetector:
    """Scores one series as it comes.

    Attributes
    ----------
    state : _State
        Arrays of fixed size; `nbytes` counts them.
    """

    state: _State

    @classmethod
    def new(cls) -> SeriesDetector:
        """Return a detector that has seen nothing."""
        return cls(_blank())

    def score(self, values: NDArray[Any]) -> F64:
        """Take in the next values; return their scores.

        Parameters
        ----------
        values : array_like, shape (n,)
            Any unit; a value that is not finite says nothing and scores 0.

        Returns
        -------
        ndarray, shape (n,), float64
            In [0, 1], 0 where nothing is unusual.
        """
        given = np.ascontiguousarray(values, np.float64)
        out = np.empty(len(given))
        _series_kernel(given, self.state, out)
        return out

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return the whole state as plain arrays, copied."""
        state, out = self.state, {"rows": self.state.rows.copy()}
        for part, records in (("levels", state.levels), ("block", state.block)):
            out |= {f"{part}.{name}": records[name].copy() for name in records.dtype.names}
        for part, nets in (("early", state.early), ("late", state.late)):
            out |= {f"{part}.{name}": values for name, values in saved_nets(nets).items()}
        return out | {f"peaks.{name}": a.copy() for name, a in state.peaks._asdict().items()}

    @classmethod
    def restore(cls, saved: dict[str, NDArray[Any]]) -> SeriesDetector:
        """Return the detector whose `snapshot` this is.

        Raises
        ------
        SnapshotError
            If it is of another shape.
        """
        detector = cls.new()
        state = detector.state
        places = {"rows": state.rows} | {f"peaks.{n}": a for n, a in state.peaks._asdict().items()}
        for part, records in (("levels", state.levels), ("block", state.block)):
            places |= {f"{part}.{name}": records[name] for name in records.dtype.names}
        for name, place in places.items():
            if name not in saved or saved[name].shape != place.shape:
                raise SnapshotError(f"series detector: saved state has no {name} of shape {place.shape}")
            place[:] = saved[name]
        for part, nets in (("early", state.early), ("late", state.late)):
            own = {n.removeprefix(f"{part}."): a for n, a in saved.items() if n.startswith(f"{part}.")}
            load_nets(nets, own)
        return detector

    def nbytes(self) -> int:
        """Return the bytes of state."""
        own: int = sum(
            a.nbytes for a in (self.state.rows, self.state.levels, self.state.block, *self.state.peaks)
        )
        nets = (self.state.early, self.state.late)
        return own + sum(int(getattr(net, name).nbytes) for net in nets for name in STATE)

"""The power chart: total power over the last hour, and where its lines run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from connectors.ledger_reader import LedgerReader

from .recent import Recent
from .words import power_text

Point = tuple[int, float]

HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
#: Power older than this is no longer what flows now.
FRESH_MS: Final = 300_000
_SAMPLE_MS: Final = 1_500
_SAMPLES: Final = 400
#: Samples further apart do not stand for what was between them.
_RUN_MS: Final = 10_000
#: Minutes this old have the readings of all EVSEs, also of those that send every few minutes.
_SETTLED_MS: Final = 300_000
_COMPLETE: Final = 0.9
#: Points further apart are not joined.
_GAP_MS: Final = 180_000
#: The chart spans the shortest of these that shows every point; a fresh service has only minutes to show.
_SPANS_MIN: Final = (8, 20, 60)
# The drawing's coordinates; the page stretches it.
WIDTH: Final = 1000
HEIGHT: Final = 400
_LINES: Final = 4


class PowerTrace:
    """Total power of all EVSEs: minutes from the ledger, then what was sampled while somebody looked.

    Thread-safe; holds a bounded number of points.

    Parameters
    ----------
    ledger : LedgerReader
    """

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._samples: deque[Point] = deque(maxlen=_SAMPLES)
        self._now_ms = 0
        self._minutes = Recent(lambda: ledger.power(self._now_ms - HOUR_MS, self._now_ms))

    def points(self, now_ms: int) -> list[Point]:
        """Return (epoch ms, W) of the last hour, oldest first, and note the power of now.

        Raises
        ------
        DeliveryError, StorageError
            If the ledger cannot be read.
        """
        with self._lock:
            if not self._samples or abs(now_ms - self._samples[-1][0]) >= _SAMPLE_MS:
                power = self._ledger.power_now(now_ms - FRESH_MS)
                if power is not None:
                    self._samples.append((now_ms, power[0]))
            self._now_ms = now_ms
            run = self._newest_run(now_ms)
            edge = run[0][0] if run else now_ms
            return [p for p in self._settled(now_ms) if p[0] + _MINUTE_MS <= edge] + run

    def _newest_run(self, now_ms: int) -> list[Point]:
        """Return the samples up to now that have no gap between them."""
        run: list[Point] = []
        for point in reversed(self._samples):
            if point[0] > now_ms or point[0] < now_ms - HOUR_MS:
                continue
            if run and run[-1][0] - point[0] > _RUN_MS:
                break
            run.append(point)
        return run[::-1]

    def _settled(self, now_ms: int) -> list[Point]:
        """Return the minutes without those at the end that some EVSEs have yet to report."""
        minutes = self._minutes()
        most = max((n for _, _, n in minutes), default=0)
        return [
            (start, power)
            for start, power, n in minutes
            if start >= now_ms - HOUR_MS and (start < now_ms - _SETTLED_MS or n >= _COMPLETE * most)
        ]


@dataclass(frozen=True, slots=True)
class Chart:
    """Where the chart's lines run; coordinates from 0 to `WIDTH` and 0 to `HEIGHT`.

    Attributes
    ----------
    span_min : int
        What it spans, minutes.
    levels : list of str
        Labels of the horizontal lines, from the top.
    hours : list of str
        Labels of the time axis (UTC), from the left.
    lines, areas : list of str
        ``points`` of a polyline, and of the polygon under it, for each stretch without a gap.
    dots : list of tuple
        (x, y) of points that stand alone.
    words : str
        The chart for who does not see it.
    """

    span_min: int
    levels: list[str]
    hours: list[str]
    lines: list[str]
    areas: list[str]
    dots: list[tuple[float, float]]
    words: str


def nice_ceiling(value: float) -> float:
    """Return the next of 1, 2, 4, 8 times a power of ten that is at least `value` (1 for 0 and less)."""
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    return next(factor * scale for factor in (1, 2, 4, 8, 10) if factor * scale >= value)


def chart(points: Sequence[Point], now_ms: int) -> Chart:
    """Return the chart of up to an hour before `now_ms`; a gap of more than three minutes stays open."""
    oldest_ms = now_ms - (points[0][0] if points else 0)
    span_min = next((n for n in _SPANS_MIN if oldest_ms <= n * _MINUTE_MS), _SPANS_MIN[-1])
    span_ms = span_min * _MINUTE_MS
    since_ms = now_ms - span_ms
    top_w = 1000 * nice_ceiling(max((p for _, p in points), default=0) / 1000)

    def at(point: Point) -> tuple[float, float]:
        t, power = point
        return round(WIDTH * (t - since_ms) / span_ms, 1), round(HEIGHT * (1 - max(0.0, power) / top_w), 1)

    lines, areas, dots = [], [], []
    for run in _runs(points):
        places = [at(point) for point in run]
        if len(run) == 1:
            dots.append(places[0])
            continue
        line = " ".join(f"{x:g},{y:g}" for x, y in places)
        lines.append(line)
        areas.append(f"{places[0][0]:g},{HEIGHT} {line} {places[-1][0]:g},{HEIGHT}")
    levels = [power_text(top_w * (_LINES - k) / _LINES, axis=True) for k in range(_LINES + 1)]
    hours = [
        time.strftime("%H:%M", time.gmtime((since_ms + span_ms * k // _LINES) / 1000))
        for k in range(_LINES + 1)
    ]
    return Chart(span_min, levels, hours, lines, areas, dots, _words(points, span_min))


def _words(points: Sequence[Point], span_min: int) -> str:
    heading = f"Total charging power over the last {span_min} minutes:"
    if not points:
        return f"{heading} nothing measured."
    powers = [power for _, power in points]
    return (
        f"{heading} now {power_text(powers[-1])}, "
        f"highest {power_text(max(powers))}, lowest {power_text(min(powers))}."
    )


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= _GAP_MS:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs

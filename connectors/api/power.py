"""The power chart: total power over time, and the picture of it as SVG."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from connectors.ledger_reader import LedgerReader
from models.errors import ChargestreamError

Point = tuple[int, float]

_SAMPLE_S: Final = 2.0
_KEPT: Final = 300  # samples: ten minutes
_FRESH_MS: Final = 300_000
# picture size and margins, px
_WIDTH, _HEIGHT = 1000, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 26


class PowerTrace:
    """Samples the total power of all EVSEs every two seconds; minutes before that come from the ledger.

    Parameters
    ----------
    ledger : LedgerReader
    """

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._samples: deque[Point] = deque(maxlen=_KEPT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power-trace", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            try:
                self.sample(time.time_ns() // 1_000_000)
            except ChargestreamError:
                continue  # no ledger yet, or it is busy: the next sample will do

    def sample(self, now_ms: int) -> None:
        """Add the sum of the newest power of all EVSEs that were heard of lately."""
        powers = [
            row["power_w"]
            for row in self._ledger.evses(limit=100_000)
            if row["power_w"] is not None and now_ms - row["time_ms"] <= _FRESH_MS
        ]
        if powers:
            self._samples.append((now_ms, float(sum(powers))))

    def points(self, since_ms: int, until_ms: int) -> list[Point]:
        """Return (epoch ms, W): minutes of the ledger, then the samples of this process."""
        samples = [p for p in self._samples if since_ms <= p[0] < until_ms]
        edge = samples[0][0] if samples else until_ms
        minutes = [(start, power) for start, power, _ in self._ledger.power(since_ms, until_ms)]
        # the newest minutes are still incomplete while EVSEs report at different times
        return [p for p in minutes if p[0] + 60_000 <= edge] + samples


def nice_ceiling(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten that is at least `value` (1 for 0 and less)."""
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    for factor in (1, 2, 5, 10):
        if factor * scale >= value:
            return factor * scale
    return 10 * scale


def svg(points: Sequence[Point], since_ms: int, until_ms: int) -> str:
    """Return the chart as an SVG element; gaps of more than three minutes are left open."""
    top = nice_ceiling(max((p for _, p in points), default=0) / 1000) * 1000
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(t: int) -> float:
        return round(_LEFT + inner_w * (t - since_ms) / max(1, until_ms - since_ms), 1)

    def y(power: float) -> float:
        return round(_TOP + inner_h * (1 - power / top), 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Total charging power over time">']
    for k in range(5):
        level = top * k / 4
        right, at_y = _WIDTH - _RIGHT, y(level)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at_y}" y2="{at_y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at_y + 4}" text-anchor="end">{level / 1000:g} kW</text>')
    for k in range(5):
        at = since_ms + (until_ms - since_ms) * k // 4
        label = time.strftime("%H:%M", time.gmtime(at / 1000))
        anchor = "start" if k == 0 else "end" if k == 4 else "middle"
        parts.append(f'<text x="{x(at)}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{label}</text>')
    for run in _runs(points):
        line = " ".join(f"{x(t)},{y(p)}" for t, p in run)
        if len(run) == 1:
            parts.append(f'<circle class="dot" cx="{x(run[0][0])}" cy="{y(run[0][1])}" r="2.5"/>')
            continue
        area = f"{x(run[0][0])},{y(0)} {line} {x(run[-1][0])},{y(0)}"
        parts.append(f'<polygon class="area" points="{area}"/><polyline class="line" points="{line}"/>')
    parts.append("</svg>")
    return "".join(parts)


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= 180_000:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs

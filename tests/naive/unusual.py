"""Twin of `unusual`: every value kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .lasting import Lasting
from .plain import Expected, Reading, S, Story
from .shapes import Net, together

#: Stories last an hour or two.
LAW_CONFIG: dict[str, Any] = {
    "levels": "Temperature/Cable Current.Import@L1",
    "shapes": "Voltage@L1-N Current.Offered",
    "learn_s": 60.0,
    "learn_samples": 5,
    "excess_ranges": 0.3,
    "shape_s": 10.0,
    "shape_score": 0.2,
    "hold_s": 120.0,
}


@dataclass
class Level:
    """One channel of the family of levels; the zero of a temperature means nothing."""

    celsius: bool
    values: list[float] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    means: list[float] = field(default_factory=list)

    def add(self, given: float, t: int) -> tuple[float, float, float]:
        """Return the excess in ranges, and the range before."""
        value = float(np.float32(given))
        low, high = min(self.values, default=0.0), max(self.values, default=0.0)
        mean, ranges = value, 0.0
        if self.values:
            dt = float(t - self.times[-1])
            mean = float(np.float32(self.means[-1] + dt / (dt + 600.0 * S) * (value - self.means[-1])))
            if len(self.values) >= LAW_CONFIG["learn_samples"] and t - self.times[0] >= 60 * S:
                ranges = max(self.beyond(value, self.values), self.beyond(mean, self.means))
        self.values.append(value)
        self.times.append(t)
        self.means.append(mean)
        return ranges, low, high

    def beyond(self, value: float, before: list[float]) -> float:
        """Return by how many ranges a value lies outside what was before."""
        low, high = min(before), max(before)
        if low <= value <= high:
            return 0.0
        least = 10.0 if self.celsius else 0.2 * max(abs(low), abs(high))
        width = max(high - low, least)
        return max(low - value, value - high) / width if width > 0 else math.inf


@dataclass
class Course:
    """One channel of the family of shapes."""

    net: Net = field(default_factory=lambda: Net(64, 64, 0.5))
    bucket: int = 0
    rows: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    centre: float | None = None

    def add(self, value: float, t: int) -> tuple[float, float]:
        """Return score and sample of the stretch of time that this value ended, 0 when it ended none."""
        bucket, rows, seen = t // (10 * S), self.rows, list(self.seen)
        self.seen.append(value)
        if not rows or bucket == self.bucket:
            self.bucket, self.rows = bucket, [*rows, value]
            return 0.0, 0.0
        self.bucket, self.rows = bucket, [value]
        total = 0.0
        for row in rows:
            total += row
        middle = total / len(rows)
        self.centre = middle if self.centre is None else 0.5 * (self.centre + middle)
        above, below = abs(max(rows) - self.centre), abs(min(rows) - self.centre)
        extreme = max(rows) if above >= below else min(rows)
        sample = middle if abs(extreme - middle) < 0.05 * (max(seen) - min(seen)) else extreme
        return together([self.net], sample, min(rows), max(rows)), sample


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with `LAW_CONFIG`."""
    return [e for readings in story.by_evse() for e in _of_evse(readings)]


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    watch = Lasting(0, 1, 120 * S, 120 * S)
    levels = {name: Level(name.startswith("Temperature")) for name in LAW_CONFIG["levels"].split()}
    courses = {name: Course() for name in LAW_CONFIG["shapes"].split()}
    for r in readings:
        given = {n: v for n, v in r.values.items() if (n in levels or n in courses) and math.isfinite(v)}
        if not given:
            continue
        found: list[tuple[float, dict[str, Any]]] = []
        for name in [n for n in levels if n in given]:
            ranges, low, high = levels[name].add(given[name], r.time_ns)
            evidence = {
                "value": given[name],
                "score": ranges,
                "level": 0.3,
                "usual_low": low,
                "usual_high": high,
            }
            found.append((ranges / 0.3, {"channel": name} | evidence))
        for name in [n for n in courses if n in given]:
            score, sample = courses[name].add(given[name], r.time_ns)
            found.append((score / 0.2, {"channel": name, "value": sample, "score": score, "level": 0.2}))
        worst = None
        for share, evidence in found:
            if share >= (1.0 if worst is None else worst[0]):
                worst = (share, evidence)
        kind = watch.add(r.time_ns, 1 if worst else 0, r.live)
        if kind:
            end = watch.end_ns if kind == "clear" else r.time_ns
            evidence = worst[1] if worst and kind != "clear" else {}
            out.append(
                Expected(
                    r.order,
                    "unusual",
                    "evse",
                    r.about.row,
                    kind,
                    "info",
                    watch.live,
                    watch.start_ns,
                    end,
                    evidence,
                )
            )
    return out

"""Twin of `models.learned.series`: lists and dictionaries, every sample kept, written from the description.

Matches are reckoned in single precision in the same order, since a match decides by comparison; all else is
plain Python.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

F = np.float32


def haar(values: list[float]) -> list[float]:
    """Return average and details, coarse to fine."""
    low, high = min(values), max(values)
    scale = 1.0 / (high - low) if high > low else 0.0
    rest, details = [(v - low) * scale for v in values], list[float]()
    while len(rest) > 1:
        pairs = [(rest[k], rest[k + 1]) for k in range(0, len(rest), 2)]
        details = [(b - a) / math.sqrt(2.0) for a, b in pairs] + details
        rest = [(a + b) / math.sqrt(2.0) for a, b in pairs]
    out = rest + details
    low, high = min(out), max(out)
    scale = 1.0 / (high - low) if high > low else 0.0
    return [(v - low) * scale for v in out]


def length(values: Any) -> Any:
    """Return the Euclidean length."""
    total = F(1e-12)
    for v in values:
        total = total + v * v
    return np.sqrt(total)


def product(a: Any, b: Any) -> Any:
    """Return the scalar product, summed from the front."""
    total = F(0.0)
    for x, y in zip(a, b, strict=False):
        total = total + x * y
    return total


@dataclass
class Net:
    """One net; `alarms` and `matches` are all there ever were."""

    warm: int
    room: int
    widen: float
    samples: list[float] = field(default_factory=list)
    low: float = math.inf
    high: float = -math.inf
    scaled: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    matches: dict[int, float] = field(default_factory=dict)
    shorts: dict[int, float] = field(default_factory=dict)
    strict: float = 0.0
    loose: float = 0.0
    last_alarm: int | None = None
    alarm_match: float = 0.0
    due: int | None = None
    leasts: list[float] = field(default_factory=list)
    changed: int = 0
    quiet: int = 0
    masked: bool = False
    scores: list[float] = field(default_factory=list)

    def feature(self, sample: float) -> Any:
        """Return the feature of the window that ends with `sample`."""
        width = self.high - self.low
        level = min(1.0, max(0.0, (sample - self.low) / width)) if width > 0 else 0.5
        step = math.floor(level * 80 + 0.5)
        self.steps.append(step)
        median = sorted(self.steps)[(len(self.steps) - 1) // 2]
        self.scaled.append(median / 80 if abs(step / 80 - median / 80) <= 0.075 else step / 80)
        if len(self.scaled) < 8:
            return np.array([0.0] * 16 + [1.0] * 16, F)
        first = np.array(haar(self.scaled[-8:]) + self.scaled[-8:], F)
        return np.concatenate([first, F(1.0) - first])

    def match_all(self, x: Any) -> Any:
        """Return the match of every category."""
        w = np.array([c["w"] for c in self.categories]).T
        total = np.zeros(w.shape[1], F)
        for j in range(0, 32, 4):
            a, b, c, d = (np.minimum(x[j + q], w[j + q]) for q in range(4))
            total += (a + b) + (c + d)
        edge = np.minimum(x[15], w[15]) + np.minimum(x[31], w[31])
        return total * total * total * (edge * edge) * np.array([c["scale"] for c in self.categories], F)

    @staticmethod
    def category(w: Any, tick: int) -> dict[str, Any]:
        """Return a category with template w."""
        total = F(0.0)
        for v in w:
            total += v
        edge = w[15] + w[31]
        return {"w": w, "scale": F(1.0) / (total * total * total * (edge * edge) + F(1e-9)), "used": tick}

    def learn(self, x: Any, fit: Any, tick: int, strict: float, loose: float) -> None:
        """Learn or add."""
        best = int(np.argmax(fit))
        if fit[best] >= strict:
            for k in np.flatnonzero(fit >= strict):
                old = self.categories[k]
                self.categories[k] = self.category(np.minimum(x, old["w"]), old["used"])
            self.categories[best]["used"] = tick
            return
        if fit[best] >= loose:
            self.categories[best]["used"] = tick
        new = self.category(x.copy(), tick)
        if len(self.categories) < self.room:
            self.categories.append(new)
        else:
            oldest = min(range(self.room), key=lambda k: (self.categories[k]["used"], k))
            self.categories[oldest] = new

    def start(self) -> None:
        """Learn from the warm-up."""
        more = self.widen * (self.high - self.low)
        self.low, self.high = self.low - more, self.high + more
        features = [self.feature(s) for s in self.samples]
        lengths = [length(f[:16]) for f in features]
        whole = np.zeros(16, F)
        for t in range(7, self.warm):
            whole = whole + features[t][:16] / lengths[t]
        order = sorted(range(7, self.warm), key=lambda t: product(features[t], whole) / lengths[t])
        blank = self.category(np.ones(32, F), 0)
        self.categories, seen = [dict(blank)], []
        for z, t in enumerate(order):
            fit = self.match_all(features[t])
            seen += [float(max(fit))] if z >= self.warm // 2 else []
            self.learn(features[t], fit, z, 0.8, 0.8)
        self.strict = self.loose = min(0.999, sum(seen) / len(seen))
        self.categories = [dict(blank)]
        for t in range(7, self.warm):
            self.judge(features[t], t, may_alarm=False)

    def judge(self, x: Any, tick: int, *, may_alarm: bool) -> float:
        """Match, decide, learn."""
        strict, loose = self.strict, self.loose
        fit = self.match_all(x)
        best = int(np.argmax(fit))
        match = float(fit[best])
        self.matches[tick] = match
        if strict - match > 0.05:
            self.shorts[tick] = float(F(min(0.37, strict - match)))
        new, score = match < loose, 0.0
        self.quiet = 0 if new else self.quiet + 1
        if new and may_alarm and self.is_alarm(tick, match):
            self.close(tick)
            self.last_alarm, self.alarm_match, self.due = tick, match, tick + 12
            w, m = self.categories[best]["w"].astype(float), min(match, 0.999)
            edge = (min(float(x[15]), w[15]) + min(float(x[31]), w[31])) / (w[15] + w[31] + 1e-9)
            score = (0.35 * (strict - m) + 0.65 * (loose - m)) / (1 - m) + 1.5 * (1 - edge)
            score = max(0.0, min(1.0, score))
        if new:
            self.masked = True
        elif self.quiet >= 12:
            self.masked = False
        self.learn(x, fit, tick, strict, loose)
        if may_alarm and (self.due == tick or tick - self.changed >= self.warm // 2):
            if self.due == tick:
                self.close(tick)
            self.adapt(tick)
        return score

    def is_alarm(self, tick: int, match: float) -> bool:
        """Return whether a new shape may alarm."""
        if self.last_alarm is None:
            return not self.masked
        if tick - self.last_alarm > 12:
            return not self.masked or match < 0.7 * self.alarm_match
        return match < 0.9 * self.alarm_match

    def least(self, since: int, tick: int) -> float:
        """Return the least match since a tick."""
        return min(float(F(m)) for t, m in self.matches.items() if since <= t <= tick)

    def close(self, tick: int) -> None:
        """Note the least match round the alarm that is still open."""
        if self.due is not None and self.last_alarm is not None:
            self.leasts.append(self.least(self.last_alarm, tick))
            self.due = None

    def adapt(self, tick: int) -> None:
        """Set the vigilances."""
        self.changed, self.masked = tick, True
        self.strict = min(0.97, sum(self.matches.values()) / len(self.matches))
        least = self.least(tick - self.warm // 2, tick)
        if self.loose <= least:
            self.loose += 0.19 * (least - self.loose)
        else:
            shorts = [s for t, s in self.shorts.items() if t >= tick - self.warm]
            if tick < 2 * self.warm or not shorts:
                shorts = [0.0]
            lower = self.loose - 0.5 * max(0.01, sum(shorts) / len(shorts))
            if self.leasts:
                lower = max(lower, min(self.loose, sum(self.leasts) / len(self.leasts)))
            self.loose = lower
        self.loose = min(self.loose, self.strict)

    def add(self, sample: float, low: float, high: float) -> float:
        """Take in one sample; return its score."""
        tick = len(self.scores)
        score = 0.0
        if tick < self.warm:
            self.samples.append(sample)
            self.low, self.high = min(self.low, low), max(self.high, high)
            if tick == self.warm - 1:
                self.start()
        else:
            score = self.judge(self.feature(sample), tick, may_alarm=True)
        self.scores.append(score)
        return score


def together(nets: list[Net], sample: float, low: float, high: float) -> float:
    """Return what an ensemble says of one sample."""
    fired = [net.add(sample, low, high) > 0.0 for net in nets]
    return sum(max(net.scores[-3:]) for net in nets) / len(nets) if any(fired) else 0.0


def beyond(value: float, before: list[float]) -> float:
    """Return the novelty of a value."""
    if not before or min(before) <= value <= max(before):
        return 0.0
    width = max(before) - min(before)
    if width == 0.0:
        return 1.0
    far = max(min(before) - value, value - max(before)) / width
    return far / (far + 0.06)


def scores(values: list[float]) -> list[float]:
    """Return the scores of a whole series, NaN and infinity scoring 0."""
    early, late = [Net(168, 256, 0.5)], [Net(107, 128, share) for share in (0.25, 0.5, 0.75, 1.0)]
    out: list[float] = []
    raw: list[float] = []
    seen: list[float] = []
    means: list[float] = []
    centre: float | None = None
    for value in values:
        if not math.isfinite(value):
            out.append(0.0)
            continue
        mean = means[-1] + 0.15 * (value - means[-1]) if means else value
        score = max(beyond(value, seen), beyond(mean, means))
        seen.append(value)
        means.append(mean)
        if len(seen) <= 749:
            score = max(score, together(early, value, value, value))
        if len(seen) % 7 == 0:
            rows = seen[-7:]
            middle = sum(rows) / 7
            centre = middle if centre is None else 0.5 * (centre + middle)
            extreme = max(rows) if abs(max(rows) - centre) >= abs(min(rows) - centre) else min(rows)
            sample = middle if abs(extreme - middle) < 0.05 * (max(seen) - min(seen)) else extreme
            score = max(score, together(late, sample, min(rows), max(rows)))
        out.append(score if score > max(raw[-100:], default=0.0) else 0.0)
        raw.append(score)
    return out

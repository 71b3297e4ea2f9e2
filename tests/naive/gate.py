"""The telemetry gate in plain Python, from docs/campaigns.md: one station-hour at a time, no arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

#: Figure -> what it is counted against.
AGAINST = {"findings": "hours", "failed_starts": "starts", "offline_s": "hours", "energy_wh": "told"}


@dataclass
class Hour:
    """What one station did in one clock hour; `energy_wh` None: nobody told."""

    hour: int
    station: int
    updated: bool
    findings: float
    failed_starts: float
    offline_s: float
    energy_wh: float | None
    starts: float

    def count(self, figure: str) -> float:
        value = getattr(self, figure)
        return 0.0 if value is None else float(value)

    def exposure(self, figure: str) -> float:
        if AGAINST[figure] == "starts":
            return self.starts
        return 1.0 if AGAINST[figure] == "hours" or self.energy_wh is not None else 0.0


@dataclass
class Figure:
    """One figure of one gate; `weights`: station -> figure -> what is expected of it over the mean."""

    figure: str
    ratio: float
    alpha: float  # of this figure
    beta: float
    weights: dict[int, dict[str, float]] = field(default_factory=dict)

    def expected(self, told: Hour) -> float:
        return told.exposure(self.figure) * self.weights.get(told.station, {}).get(self.figure, 1.0)

    def plain_sum(self, tape: list[Hour]) -> float:
        """Return the logarithm of the ratio of two binomial probabilities, hour by hour."""
        total = 0.0
        for hour in {told.hour for told in tape}:
            now = [told for told in tape if told.hour == hour]
            e1 = sum(self.expected(told) for told in now if told.updated)
            e0 = sum(self.expected(told) for told in now if not told.updated)
            if e1 <= 0.0 or e0 <= 0.0:
                continue
            x1 = sum(told.count(self.figure) for told in now if told.updated)
            x0 = sum(told.count(self.figure) for told in now if not told.updated)
            same = e1 / (e1 + e0)
            worse = self.ratio * e1 / (self.ratio * e1 + e0)
            total += x1 * math.log(worse / same) + x0 * math.log((1.0 - worse) / (1.0 - same))
        return total

    def dispersion(self, tape: list[Hour]) -> float:
        """Return Pearson's dispersion of stations' totals, of the group that scatters more; at least 1."""
        found = [1.0]
        for updated in (False, True):
            totals: dict[int, list[float]] = {}
            for told in tape:
                if told.updated is updated:
                    one = totals.setdefault(told.station, [0.0, 0.0])
                    one[0] += told.count(self.figure)
                    one[1] += self.expected(told)
            known = [(x, e) for x, e in totals.values() if e > 0.0]
            events, exposure = sum(x for x, _ in known), sum(e for _, e in known)
            if len(known) < 2 or events <= 0.0:
                continue
            rate = events / exposure
            found.append(sum((x - rate * e) ** 2 / (rate * e) for x, e in known) / (len(known) - 1))
        return max(found)

    def verdict(self, tape: list[Hour]) -> tuple[str, float]:
        """Return worse, same or open, and the sum that says so."""
        value = self.plain_sum(tape) / self.dispersion(tape)
        if value >= math.log((1.0 - self.beta) / self.alpha):
            return "worse", value
        if value <= math.log(self.beta / (1.0 - self.alpha)):
            return "same", value
        return "open", value

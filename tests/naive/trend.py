"""Textbook form of a rule with a drift test beside it; keeps every block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

from .plain import Expected, Reading, S, Story


class Seen(NamedTuple):
    """What one reading says; None where it says nothing."""

    bad: bool | None
    x: float | None
    weight: float
    value: float
    limit: float | None


@dataclass
class Rules:
    """Numbers of one code; lengths in seconds."""

    code: str
    severities: tuple[str, str]  # of drift and rule
    least_s: float
    samples: int
    hold_s: float
    block_s: int
    warm_up: int
    memory: int
    floor: float
    floor_share: float
    factor: float
    offset: float
    least_blocks: int
    h: float = 12.0


class Baseline:
    """Mean, variance and CUSUM of block means."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.mean = self.variance = self.cusum = self.level = 0.0
        self.n, self.onset = 0, 0
        self.drift = False

    @property
    def high(self) -> float:
        """The level that a drift must reach."""
        return self.rules.factor * self.mean + self.rules.offset

    def add(self, block: int, x: float) -> None:
        """Judge the mean of a block."""
        rules = self.rules
        if self.n < rules.warm_up:
            self._learn(x)
            return
        sigma = max(sqrt(self.variance), rules.floor, rules.floor_share * abs(self.mean))
        z = max(-4.0, min(4.0, (x - self.mean) / sigma))
        if self.cusum == 0:
            self.onset, self.level = block, x
        else:
            self.level = 0.75 * self.level + 0.25 * x
        self.cusum = min(max(0.0, self.cusum + z - 0.5), 2 * rules.h)
        if self.cusum < rules.h and z < 4.0:
            self._learn(x)
        if self.cusum < rules.h or self.level < self.mean + 0.8 * (self.high - self.mean):
            self.drift = False
        elif self.level >= self.high and block - self.onset + 1 >= rules.least_blocks:
            self.drift = True

    def _learn(self, x: float) -> None:
        self.n = min(self.n + 1, self.rules.memory)
        old = self.mean
        self.mean += (x - old) / self.n
        self.variance += ((x - old) * (x - self.mean) - self.variance) / self.n


def emissions(story: Story, rules: Rules, judge: Callable[[Reading], Seen]) -> list[Expected]:
    """Return what a detector with these rules should emit."""
    return [e for readings in story.by_evse() for e in _of_evse(readings, rules, judge)]


def _of_evse(readings: list[Reading], rules: Rules, judge: Callable[[Reading], Seen]) -> list[Expected]:
    out: list[Expected] = []
    base = Baseline(rules)
    block, held = -1, [(0.0, 0.0)][:0]
    run: list[int] = []
    raised, live, start = 0, False, 0
    good: int | None = None
    for r in readings:
        seen, t, judged = judge(r), r.time_ns, False
        if seen.x is not None:
            if t // (rules.block_s * S) != block:
                if held:
                    total = sum(w for _, w in held)
                    base.add(block, sum(x * w for x, w in held) / total)
                    judged = True
                block, held = t // (rules.block_s * S), []
            held.append((seen.x, seen.weight))
        if seen.bad is None and not judged:
            continue
        if seen.bad:
            run = [*run, t] if run and t - run[-1] <= 1800 * S else [t]
        elif seen.bad is not None:
            run = []
        lasted = len(run) >= rules.samples and run[-1] - run[0] >= rules.least_s * S
        reached = 2 if run and (lasted or raised == 2) else 1 if base.drift else 0
        severe, kind, end = max(raised, reached), "", t
        if not raised:
            if reached:
                raised, live, good, kind = reached, r.live, None, "raise"
                start = run[0] if reached == 2 else base.onset * rules.block_s * S
        elif run or base.drift:
            good = None
            higher, raised = reached > raised, max(raised, reached)
            if r.live and not live:
                live, kind = True, "raise"
            elif higher:
                kind = "update"
        else:
            good = t if good is None else good
            if t - good >= rules.hold_s * S:
                raised, kind, end = 0, "clear", good
        if kind:
            evidence: dict[str, float] = {"duration_s": (end - start) / S}
            if kind != "clear":
                evidence |= {"cusum": base.cusum, "value": seen.value}
                evidence["limit"] = base.high if seen.limit is None else seen.limit
                if base.cusum > 0:
                    evidence["level"] = base.level
                if base.n >= rules.warm_up:
                    evidence["baseline"] = base.mean
            severity = rules.severities[severe - 1]
            out.append(
                Expected(r.order, rules.code, "evse", r.about.row, kind, severity, live, start, end, evidence)
            )
    return out


def renamed(found: list[Expected], names: dict[str, str]) -> list[Expected]:
    """Return emissions with the evidence under a code's own names."""
    return [e._replace(evidence={names.get(k, k): v for k, v in e.evidence.items() if v == v}) for e in found]

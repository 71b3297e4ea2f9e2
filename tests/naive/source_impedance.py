"""Twin of `source_impedance`: all steps and changes of a site are listed first, then judged one by one."""

from __future__ import annotations

import math
import statistics
import struct
from dataclasses import dataclass, field

from .plain import Expected, Reading, S, Story, grid_voltages

Phases = list[float | None]


def f32(value: float) -> float:
    """Return the value as a single."""
    single: float = struct.unpack("f", struct.pack("f", value))[0]
    return single


def singles(values: Phases) -> Phases:
    """Return each value as a single."""
    return [None if v is None else f32(v) for v in values]


def minus(a: Phases, b: Phases) -> Phases:
    """Return differences where both are there."""
    return [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]


def greatest(values: Phases) -> float:
    """Return the greatest magnitude."""
    return max((abs(v) for v in values if v is not None), default=0.0)


@dataclass
class _Step:
    closed: Reading
    from_order: int
    time_ns: int
    volts: Phases
    amps: Phases
    seconds: float


@dataclass
class _Waiting:
    order: int
    from_order: int
    time_ns: int
    volts: Phases
    amps: Phases
    seconds: float


def _phases(r: Reading) -> tuple[Phases, Phases]:
    found = grid_voltages(r)
    volts: Phases = [
        v if (v := found.get(p)) is not None and v >= 0.5 * r.about.u_n_v else None for p in (1, 2, 3)
    ]
    amps: Phases = [r.values.get(f"Current.Import@L{p}") for p in (1, 2, 3)]
    amps = [None if a is None or a != a else a for a in amps]
    plain = r.values.get("Current.Import")
    if r.about.phases == 1 and amps[0] is None and plain is not None and plain == plain:
        amps[0] = plain
    return volts, amps


def _scan(readings: list[Reading]) -> tuple[list[_Step], list[tuple[int, float]]]:
    """Return the steps of an EVSE, and (order, change) of its current."""
    steps: list[_Step] = []
    changes: list[tuple[int, float]] = []
    orders: list[int] = []
    told: float | None = None
    ref: tuple[int, int, Phases, Phases] | None = None  # time, from order, volts, amps
    last: Phases = [0.0, 0.0, 0.0]
    waiting: _Waiting | None = None
    for r in readings:
        volts, amps = _phases(r)
        there = [a for a in amps if a is not None]
        if r.about.dc or not there:
            continue
        if not orders or orders[-1] != r.order:
            if waiting is not None and waiting.order < r.order:
                w = waiting
                steps.append(_Step(r, w.from_order, w.time_ns, w.volts, w.amps, w.seconds))
                waiting = None
            orders.append(r.order)
        if told is None:
            told = f32(sum(there))
        elif abs(sum(there) - told) >= 1.0:
            changes.append((r.order, f32(abs(sum(there) - told))))
            told = f32(sum(there))
        here = (r.time_ns, orders[-2] if len(orders) > 1 else -1, singles(volts), singles(amps))
        if not r.live:
            ref = None
        elif ref is None:
            ref = here
        else:
            moved, ramp = greatest(minus(amps, ref[3])), greatest(minus(amps, last))
            gap = r.time_ns - ref[0]
            if moved < 1.0 or gap > 300 * S:
                ref = here
            elif moved >= 6.0 and (ramp < 1.0 or gap >= 15 * S):
                if waiting is None or moved > greatest(waiting.amps):
                    change = singles(minus(volts, ref[2])), singles(minus(amps, ref[3]))
                    waiting = _Waiting(r.order, ref[1], r.time_ns, *change, f32(gap / S))
                ref = here
        last = singles(amps)
    return steps, changes


@dataclass
class _Baseline:
    warm: list[float] = field(default_factory=list)
    n: int = 0
    base: float = 0.0
    mean: float = 0.0
    weight: float = 0.0
    total: float = 0.0
    since: int = 0
    raised: bool = False

    @property
    def limit(self) -> float:
        """What is too much, ohm."""
        return max(1.5 * self.base, self.base + 0.1)

    def learn(self, ohm: float, sigma: float) -> None:
        """Let the baseline follow."""
        if len(self.warm) < 5:
            self.warm.append(round(min(max(ohm / 1e-4, -30_000), 30_000)))
            self.weight = f32(self.weight + 2 / math.pi / sigma**2)
            if len(self.warm) == 5:
                self.base = self.mean = f32(max(statistics.median(self.warm) * 1e-4, 0.0))
            return
        self.weight = f32(self.weight + sigma**-2)
        error = min(max(ohm - self.base, -2 * sigma), 2 * sigma)
        self.base = f32(max(0.0, self.base + max(sigma**-2 / self.weight, 1 / 64) * error))

    @property
    def known(self) -> bool:
        """Whether it is worth comparing with."""
        return len(self.warm) == 5 and self.weight >= 3600

    def take(self, ohm: float, sigma: float, t: int, more: _Baseline | None) -> int:
        """Take in a step; return 1 when the limit is exceeded, -1 when no more, else 0.

        `more`, if known while this is not, is one that no healthy step of this kind exceeds.
        """
        if more is not None and more.known and not self.known:
            if more.raised:
                return more.weigh(ohm, sigma, t, None) if ohm < more.base else 0
            teaches = ohm <= (more.base + more.limit) / 2
            found = more.weigh(ohm, sigma, t, None)
            if teaches:
                self.n += 1
                self.learn(ohm, sigma)
            return found
        self.n += 1
        if not self.known:
            self.learn(ohm, sigma)
            return 0
        return self.weigh(ohm, sigma, t, self)

    def weigh(self, ohm: float, sigma: float, t: int, learner: _Baseline | None) -> int:
        """Compare."""
        limit = self.limit
        d = (limit - self.base) / sigma
        ratio = min(max(d * ((ohm - self.base) / sigma - d / 2), -11.5 / 3), 11.5 / 3)
        self.mean = f32(self.mean + (ohm - self.mean) / 3)
        if self.total == 0:
            self.since = t
        self.total = f32(max(0.0, self.total + (-ratio if self.raised else ratio)))
        if learner is not None and not self.raised and self.total <= 11.5 / 3:
            learner.learn(ohm, sigma)
        if self.total < 11.5 - 1e-3 or (not self.raised and self.mean < limit):
            return 0
        self.total, self.raised = 0.0, not self.raised
        return 1 if self.raised else -1


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    steps: dict[int, list[_Step]] = {}
    changes: dict[int, list[tuple[int, int, float]]] = {}
    for readings in story.by_evse():
        about = readings[0].about
        steps[about.row], mine = _scan(readings)
        site = story.nodes[about.node][0]
        changes.setdefault(site, []).extend((order, about.row, change) for order, change in mine)
    out: list[Expected] = []
    for row, own in steps.items():
        site = story.stations[story.evses[row][0]][0]
        told = sorted(changes.get(site, []), key=lambda c: (c[0], c[1]))
        out += _of_evse(row, own, told)
    return out


def _quiet(row: int, step: _Step, told: list[tuple[int, int, float]]) -> bool:
    known = [c for c in told if c[0] <= step.closed.order][-48:]
    if len(known) == 48 and known[0][0] > step.from_order:
        return False
    others = math.fsum(change for order, evse, change in known if evse != row and order > step.from_order)
    return others < 0.25 * sum(abs(a) for a in step.amps if a is not None)


def _of_evse(row: int, steps: list[_Step], told: list[tuple[int, int, float]]) -> list[Expected]:
    out: list[Expected] = []
    baselines = [_Baseline() for _ in range(6)]
    start = 0
    for step in steps:
        if not _quiet(row, step, told):
            continue
        sizes = [abs(a) for a in step.amps if a is not None]
        alike = min(sizes) >= 0.8 * max(sizes)
        t = step.time_ns // S
        noise = math.sqrt(0.4**2 + 0.07**2 * step.seconds)
        for p in range(3):
            amps, volts = step.amps[p], step.volts[p]
            if amps is None or volts is None or abs(amps) < 6:
                continue
            line = baselines[p if alike else p + 3]
            before = any(b.raised for b in baselines)
            more = baselines[p + 3] if alike else None
            against = more is not None and more.known and not line.known
            found = line.take(-volts / amps, noise / abs(amps), t, more)
            line = more if more is not None and against else line
            kind = ""
            if found > 0 and not before:
                kind, start, end = "raise", line.since, t
            elif found < 0 and not any(b.raised for b in baselines):
                kind, end = "clear", line.since
            if kind:
                evidence = {
                    "source_ohm": line.mean,
                    "baseline_ohm": line.base,
                    "limit_ohm": line.limit,
                    "step_a": amps,
                    "steps": line.n,
                    "phase": p + 1,
                }
                out.append(
                    Expected(
                        step.closed.order, "source_impedance", "evse", row, kind, "warning", True, start * S,
                        end * S, evidence,
                    )
                )  # fmt: skip
    return out

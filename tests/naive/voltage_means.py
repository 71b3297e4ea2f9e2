"""Textbook form of the two mean-voltage rules: all samples of every window are kept."""

from __future__ import annotations

import math
from typing import NamedTuple

from .plain import Expected, Reading, S, Story, grid_voltages

MINUTE = 60 * S
TEN = 600 * S
TINY_V = 1e-6


class _Window:
    def __init__(self, start_ns: int, length_ns: int) -> None:
        self.start_ns, self.end_ns = start_ns, start_ns + length_ns
        self.samples: list[tuple[int, int, float]] = []  # time, phase, voltage

    def bad(self, sign: int, limit: float, least: int) -> tuple[float, int, int] | None:
        """Return (mean, phase, samples) of the worst phase beyond the limit."""
        found = []
        for phase in (1, 2, 3):
            volts = [v for _, p, v in self.samples if p == phase]
            if len(volts) >= least:
                mean = math.fsum(volts) / len(volts)
                if sign * mean > sign * limit + TINY_V:
                    found.append((round(sign * mean, 6), -phase, mean, len(volts)))
        if not found:
            return None
        _, phase, mean, n = max(found)
        return mean, -phase, n


def _samples(reading: Reading, undeclared_v: float, floor_v: float) -> tuple[float, dict[int, float]]:
    """Return Un and the voltages of a reading that say something."""
    u_n = reading.about.u_n_v if reading.about.declared else undeclared_v
    volts = grid_voltages(reading)
    least = 0.05 * u_n
    if not reading.about.declared:
        volts = {p: v for p, v in volts.items() if v >= floor_v}
        least = max(least, floor_v)
    if not any(v >= least for v in volts.values()):
        return u_n, {}
    return u_n, {p: v for p, v in volts.items() if v >= 0.0}


class Rule(NamedTuple):
    """What makes a mean too low (sign -1) or too high (sign 1)."""

    code: str
    sign: int
    ten: float
    one: float
    undeclared_v: float
    floor_v: float


def emissions(story: Story, rule: Rule) -> list[Expected]:
    """Return what the detector should emit."""
    out: list[Expected] = []
    for readings in story.by_evse():
        evse = _Evse(rule, out)
        for reading in readings:
            evse.take(reading)
    return out


class _Evse:
    def __init__(self, rule: Rule, out: list[Expected]) -> None:
        self.rule, self.out = rule, out
        self.minute: _Window | None = None
        self.long: _Window | None = None
        self.last: Reading | None = None
        self.raised = self.live = self.used_ten = False
        self.start = self.end = 0

    def take(self, reading: Reading) -> None:
        """Take in one reading."""
        u_n, volts = _samples(reading, self.rule.undeclared_v, self.rule.floor_v)
        if not volts:
            return
        t = reading.time_ns
        if self.minute is None or self.long is None:
            self.minute, self.long = _Window(t // MINUTE * MINUTE, MINUTE), _Window(t // TEN * TEN, TEN)
        if t >= self.minute.end_ns:
            self._judge(reading, u_n, self.minute, self.long)
            self.minute = _Window(t // MINUTE * MINUTE, MINUTE)
        if t >= self.long.end_ns:
            self.long = _Window(t // TEN * TEN, TEN)
        for phase, v in volts.items():
            self.minute.samples.append((t, phase, v))
            self.long.samples.append((t, phase, v))
        self.last = reading

    def _judge(self, reading: Reading, u_n: float, minute: _Window, long: _Window) -> None:
        """Judge the minute that ended, and the ten minutes if they did."""
        sign, ten, one = self.rule.sign, self.rule.ten * u_n, self.rule.one * u_n
        found: list[tuple[tuple[float, int, int], _Window, float, int]] = []
        if reading.time_ns >= long.end_ns and (worst := long.bad(sign, ten, 3)):
            found.append((worst, long, ten, 600))
        if worst := minute.bad(sign, one, 1):
            found.append((worst, minute, one, 60))
        if not found:
            if self.raised and minute.end_ns - self.end >= (TEN if self.used_ten else MINUTE):
                self.raised = False
                self._emit(reading, "clear", self.end, {})
            return
        if not self.raised:
            self.used_ten = False
            self.start = min(
                when for _, w, _, _ in found for when, _, v in w.samples if sign * v > sign * ten
            )
        self.used_ten = self.used_ten or any(w is long for _, w, _, _ in found)
        self.end = max(w.end_ns for _, w, _, _ in found)
        assert self.last is not None
        live = self.last.live and reading.time_ns - self.end <= 900 * S
        if not self.raised or (live and not self.live):
            self.raised, self.live = True, live
            (mean, phase, n), _, limit, length = found[-1]
            evidence = {"voltage_mean_v": mean, "u_n_v": u_n, "limit_v": limit, "window_s": length}
            self._emit(reading, "raise", self.last.time_ns, evidence | {"phase": phase, "samples": n})

    def _emit(self, reading: Reading, kind: str, time_ns: int, evidence: dict[str, float]) -> None:
        code, row = self.rule.code, reading.about.row
        self.out.append(
            Expected(
                reading.order, code, "evse", row, kind, "warning", self.live, self.start, time_ns, evidence
            )
        )

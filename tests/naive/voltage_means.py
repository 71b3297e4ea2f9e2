"""Textbook form of the two mean-voltage rules: all samples of every window are kept."""

from __future__ import annotations

import math

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
                    found.append((sign * mean, -phase, mean, len(volts)))
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


def emissions(
    story: Story, code: str, sign: int, ten: float, one: float, undeclared_v: float, floor_v: float
) -> list[Expected]:
    """Return what `code` should emit."""
    out: list[Expected] = []
    for readings in story.by_evse():
        out += _of_evse(readings, code, sign, ten, one, undeclared_v, floor_v)
    return out


def _of_evse(
    readings: list[Reading], code: str, sign: int, ten: float, one: float, undeclared_v: float, floor_v: float
) -> list[Expected]:
    out: list[Expected] = []
    minute: _Window | None = None
    long: _Window | None = None
    last: Reading | None = None
    raised, live, used_ten = False, False, False
    start = end = 0
    for reading in readings:
        u_n, volts = _samples(reading, undeclared_v, floor_v)
        if not volts:
            continue
        t = reading.time_ns
        closed = minute if minute is not None and t >= minute.end_ns else None
        if closed is not None and last is not None and long is not None:
            found: list[tuple[tuple[float, int, int], _Window, float, int]] = []
            if t >= long.end_ns and (worst := long.bad(sign, ten * u_n, 3)):
                found.append((worst, long, ten * u_n, 600))
                used_ten = used_ten or raised
            if worst := closed.bad(sign, one * u_n, 1):
                found.append((worst, closed, one * u_n, 60))
            if found:
                if not raised:
                    used_ten = False
                    beyond = [
                        when
                        for _, w, _, _ in found
                        for when, _, v in w.samples
                        if sign * v > sign * ten * u_n
                    ]
                    start = min(beyond)
                used_ten = used_ten or any(w is long for _, w, _, _ in found)
                end = max(w.end_ns for _, w, _, _ in found)
                now_live = last.live and t - end <= 900 * S
                if not raised or (now_live and not live):
                    raised, live = True, now_live
                    (mean, phase, n), _, limit, length = found[-1]
                    evidence = {
                        "voltage_mean_v": mean,
                        "u_n_v": u_n,
                        "limit_v": limit,
                        "window_s": length,
                        "phase": phase,
                        "samples": n,
                    }
                    out.append(
                        Expected(
                            reading.order, code, "evse", reading.about.row, "raise", "warning",
                            live, start, last.time_ns, evidence,
                        )
                    )  # fmt: skip
            elif raised and closed.end_ns - end >= (TEN if used_ten else MINUTE):
                raised = False
                out.append(
                    Expected(
                        reading.order,
                        code,
                        "evse",
                        reading.about.row,
                        "clear",
                        "warning",
                        live,
                        start,
                        end,
                        {},
                    )
                )
        if minute is None or t >= minute.end_ns:
            minute = _Window(t // MINUTE * MINUTE, MINUTE)
        if long is None or t >= long.end_ns:
            long = _Window(t // TEN * TEN, TEN)
        for phase, v in volts.items():
            minute.samples.append((t, phase, v))
            long.samples.append((t, phase, v))
        last = reading
    return out

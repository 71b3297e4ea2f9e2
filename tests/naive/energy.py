"""Quarter-hour energy by the textbook: all readings kept, everything computed from scratch.

Standard library only. One EVSE at a time; times in ms, registers in mWh.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

QUARTER_MS = 900_000


@dataclass(frozen=True)
class Meter:
    """What the inventory says of a meter."""

    p_max_w: float | None = None
    resolution_mwh: int = 1000
    modulus_mwh: int = 0


@dataclass(frozen=True)
class Reading:
    """A register at a time, and which meter it is of."""

    t: int
    register: int
    generation: int = 0


def plausible(step: int, span_ms: int, meter: Meter) -> bool:
    """Return whether a rise is at most 1.5 times the maximum power, plus 1 kWh."""
    p_max = 100_000.0 if meter.p_max_w is None else meter.p_max_w
    return step <= 1_000_000 or step <= p_max * (1.5 / 3600.0) * span_ms + 1_000_000


def _ends(waiting: list[Reading]) -> list[Reading]:
    """Return of each value among readings that waited its first and its last."""
    out = []
    for value in sorted({reading.register for reading in waiting}):
        same = [reading for reading in waiting if reading.register == value]
        out += [same[0], same[-1]]
    return out


def _accepted(waiting: list[Reading], last: int, meter: Meter) -> bool:
    values = sorted({reading.register for reading in waiting})
    near_zero = values[0] * 10 <= last or values[0] <= 2 * meter.resolution_mwh
    return len(values) >= (2 if near_zero else 3)


def unwrap(readings: list[Reading], meter: Meter) -> list[tuple[int, int]]:
    """Return (time, energy so far) of the readings that count; `readings` are sorted by time."""
    points: list[tuple[int, int]] = []
    last: Reading | None = None
    waiting: list[Reading] = []  # low readings, rising
    fallen_from: tuple[int, int, int] | None = None  # time, register, energy at the end of the line before
    for reading in readings:
        if last is None:
            points.append((reading.t, 0))
            last = reading
            continue
        energy = points[-1][1]
        step = reading.register - last.register
        if reading.generation != last.generation:
            waiting, fallen_from = [], None
            points.append((reading.t, energy))
        elif step >= 0:
            waiting = []
            if not plausible(step, reading.t - last.t, meter):
                if last.register == 0:
                    step, fallen_from = 0, None
                elif fallen_from is not None:
                    back = fallen_from[2] + reading.register - fallen_from[1]
                    grown = back - fallen_from[2]
                    if back >= energy and plausible(grown, reading.t - fallen_from[0], meter):
                        step, fallen_from = back - energy, None
            points.append((reading.t, energy + step))
        elif -step <= 2 * meter.resolution_mwh:
            waiting = []
            continue
        elif (
            meter.modulus_mwh
            and last.register < meter.modulus_mwh
            and plausible(meter.modulus_mwh + step, reading.t - last.t, meter)
        ):
            waiting, fallen_from = [], None
            points.append((reading.t, energy + meter.modulus_mwh + step))
        else:
            top = waiting[-1] if waiting else None
            if top is None or (
                top.register - reading.register > 2 * meter.resolution_mwh
                or not plausible(reading.register - top.register, reading.t - top.t, meter)
            ):
                waiting = [reading]
                continue
            if reading.register < top.register:
                continue
            waiting.append(reading)
            if not _accepted(waiting, last.register, meter):
                continue
            fallen_from = (points[-1][0], last.register, energy)
            first = waiting[0].register
            points += [(r.t, energy + r.register - first) for r in _ends(waiting)]
            waiting = []
        last = reading
    return points


def border(points: list[tuple[int, int]], b: int, tolerance_ms: int) -> tuple[int, bool]:
    """Return (energy at time b, whether it was read there)."""
    near = [(abs(t - b), t < b, u) for t, u in points if abs(t - b) <= tolerance_ms]
    if near:
        return min(near, key=lambda item: item[:2])[2], True
    i = bisect_left(points, (b,))
    if i == 0:
        return points[0][1], False
    if i == len(points):
        return points[-1][1], False
    (t0, u0), (t1, u1) = points[i - 1], points[i]
    return u0 + (u1 - u0) * (b - t0) // (t1 - t0), False


def intervals(points: list[tuple[int, int]], tolerance_ms: int = 1000) -> dict[int, tuple[int, str]]:
    """Return quarter -> (energy, quality), from the first reading's quarter to the last one's."""
    out: dict[int, tuple[int, str]] = {}
    if not points:
        return out
    with_readings = {t // QUARTER_MS for t, _ in points}
    first, last = points[0][0] // QUARTER_MS, points[-1][0] // QUARTER_MS
    borders = {}
    for q in range(first, last + 2):
        b = q * QUARTER_MS
        # only readings around the border matter: the twin stays quick enough for days of seconds
        i = bisect_left(points, (b,))
        low = max(0, bisect_left(points, (b - tolerance_ms,)) - 1)
        high = max(i + 1, bisect_left(points, (b + tolerance_ms + 1,)) + 1)
        borders[q] = border(points[min(low, max(0, i - 1)) : high], b, tolerance_ms)
    for q in range(first, last + 1):
        (start, read_start), (end, read_end) = borders[q], borders[q + 1]
        if read_start and read_end:
            quality = "measured"
        else:
            quality = "interpolated" if q in with_readings else "estimated"
        out[q] = (end - start, quality)
    return out

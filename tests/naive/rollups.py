"""Roll-ups by the textbook: a window is the list of its readings. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Reading:
    """One reading: values by channel field name (``power_w``), register in mWh or None."""

    t: int
    effect: int
    values: dict[str, float]
    register: int | None = None


@dataclass
class Window:
    """A window put out."""

    period_s: int
    start: int
    readings: list[Reading] = field(default_factory=list)

    def count(self) -> int:
        """Return the number of readings."""
        return len(self.readings)

    def register(self) -> int | None:
        """Return the last register."""
        known = [r.register for r in self.readings if r.register is not None]
        return known[-1] if known else None

    def field(self, name: str) -> float | None:
        """Return the statistic named as in the schema: ``voltage_l1_mean_v``."""
        for statistic in ("mean", "min", "max", "last"):
            quantity, found, unit = name.partition(f"_{statistic}_")
            if found:
                values = [v for r in self.readings if (v := r.values.get(f"{quantity}_{unit}")) is not None]
                if not values:
                    return None
                match statistic:
                    case "mean":
                        return sum(values) / len(values)
                    case "min":
                        return min(values)
                    case "max":
                        return max(values)
                return values[-1]
        raise KeyError(name)


def windows(events: Iterable[Reading | int], grace_ms: int) -> list[Window]:
    """Return the windows of one EVSE in the order in which they are put out.

    `events` are readings in time order and ticks (their journaled time in ms), in order of effect; at the
    end everything open is put out.
    """
    out: list[Window] = []
    minute: Window | None = None
    quarter: Window | None = None
    minute_open = quarter_open = False
    effect = 0

    def close_minute() -> None:
        nonlocal minute_open, quarter, quarter_open
        if minute is None or not minute_open:
            return
        start = minute.start - minute.start % (15 * MINUTE_MS)
        if quarter is None or quarter.start != start:
            quarter, quarter_open = Window(900, start), True
        if quarter_open:
            quarter.readings += minute.readings
        out.append(minute)
        minute_open = False

    def close_quarter() -> None:
        nonlocal quarter_open
        if quarter is not None and quarter_open:
            out.append(Window(900, quarter.start, list(quarter.readings)))
            quarter_open = False

    for event in events:
        if isinstance(event, int):
            if (
                minute is not None
                and minute_open
                and event >= max(minute.start + MINUTE_MS, effect) + grace_ms
            ):
                close_minute()
            if (
                not minute_open
                and quarter is not None
                and quarter_open
                and event >= max(quarter.start + 15 * MINUTE_MS, effect) + grace_ms
            ):
                close_quarter()
            continue
        start = event.t - event.t % MINUTE_MS
        if minute is None or start != minute.start:
            close_minute()
            if quarter is not None and quarter.start != start - start % (15 * MINUTE_MS):
                close_quarter()
            minute, minute_open = Window(60, start), True
        if minute_open:
            minute.readings.append(event)
        effect = event.effect
    close_minute()
    close_quarter()
    return out

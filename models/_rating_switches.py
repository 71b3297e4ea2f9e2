"""When a tariff's conditions may change: by local clock, by energy, by time in an activity, by bands."""

from __future__ import annotations

import bisect
import datetime as dt
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ._pricing_rules import CompiledTariff, Condition

_DAY: Final = dt.timedelta(days=1)
_MINUTE_S: Final = 60
QUARTER_MS: Final = 900_000


def clock_switches(tariff: CompiledTariff, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the times within [start, end) at which the local clock may change a condition (epoch ms)."""
    if not tariff.local:
        return
    day = dt.datetime.fromtimestamp(start_ms // 1000, tariff.zone).toordinal()
    last = dt.datetime.fromtimestamp(end_ms // 1000, tariff.zone).toordinal()
    for ordinal in range(day, last + 1):
        for time_ms in _day_switches(tariff, ordinal):
            if start_ms < time_ms < end_ms:
                yield time_ms


@functools.lru_cache(maxsize=4096)
def _day_switches(tariff: CompiledTariff, ordinal: int) -> tuple[int, ...]:
    """Return the switches of one local day.

    A time of day that comes twice (clocks go back) switches twice; one that is left out switches at the
    jump. So both readings of it are taken, and the jump itself.
    """
    midnight = dt.datetime.combine(dt.date.fromordinal(ordinal), dt.time())
    seconds = {0}
    for c in tariff.conditions:
        seconds |= {s for s in (c.start_s, c.end_s) if s is not None}
    found = set()
    for second in seconds:
        naive = midnight + dt.timedelta(seconds=second)
        for fold in (0, 1):
            found.add(int(naive.replace(tzinfo=tariff.zone, fold=fold).timestamp()) * 1000)
    jump_s = _jump(tariff, midnight)
    if jump_s is not None:
        found.add(jump_s * 1000)
    return tuple(sorted(found))


def _jump(tariff: CompiledTariff, midnight: dt.datetime) -> int | None:
    """Return the second at which the zone's offset changes on a local day, if it does."""
    low = int(midnight.replace(tzinfo=tariff.zone).timestamp())
    high = int((midnight + _DAY).replace(tzinfo=tariff.zone).timestamp())

    def offset(second: int) -> dt.timedelta | None:
        return dt.datetime.fromtimestamp(second, tariff.zone).utcoffset()

    before = offset(low)
    if offset(high) == before:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(middle) == before else (low, middle)
    return high


def quarter_switches(start_ms: int, end_ms: int) -> Iterable[int]:
    """Return the quarter-hour borders (UTC) within the open interval."""
    return range(start_ms - start_ms % QUARTER_MS + QUARTER_MS, end_ms, QUARTER_MS)


def window_switches(tariff: CompiledTariff, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the borders of absolute windows (spot prices) within the open interval."""
    for c in tariff.conditions:
        for time_ms in (c.from_ms, c.until_ms):
            if time_ms is not None and start_ms < time_ms < end_ms:
                yield time_ms


def elapsed_switches(tariff: CompiledTariff, start_ms: int, end_ms: int) -> Iterator[int]:
    """Yield the times at which a duration since the start is reached."""
    for c in tariff.conditions:
        for length in (c.min_elapsed, c.max_elapsed):
            if length is not None and 0 < length < end_ms - start_ms:
                yield start_ms + length


def energy_switches(tariff: CompiledTariff, readings: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return time -> register at which the session's energy reaches a bound of the tariff.

    The crossing is interpolated to the millisecond; there the register counts as exactly the bound.
    """
    begin = readings[0][1]
    bounds = {
        begin + bound
        for c in tariff.conditions
        for bound in (c.min_energy, c.max_energy)
        if bound is not None and begin < begin + bound <= readings[-1][1]
    }
    found = {}
    for bound in bounds:
        place = bisect.bisect_left(readings, bound, key=lambda reading: reading[1])
        (t0, e0), (t1, e1) = readings[place - 1], readings[place]
        found[t0 - (e0 - bound) * (t1 - t0) // (e1 - e0)] = bound
    return found


def activity_switches(
    tariff: CompiledTariff, spans: Sequence[tuple[int, int, str]], charging: str, idle: str
) -> Iterator[int]:
    """Yield the times at which charging time (added up) or idle time (of one idle period) reaches a bound."""
    rest = [c for c in tariff.conditions if c.rest]
    if not rest:
        return
    charged = 0
    idle_since = 0
    before = ""
    for start_ms, end_ms, activity in spans:
        if activity == idle:
            idle_since = idle_since if before == idle else start_ms
            bounds = [idle_since + ms for c in rest for ms in (c.min_idle, c.max_idle) if ms is not None]
        elif activity == charging:
            sums = _charging_bounds(rest)
            bounds = [start_ms + ms - charged for ms in sums]
            charged += end_ms - start_ms
        else:
            bounds = []
        before = activity
        yield from (time_ms for time_ms in bounds if start_ms < time_ms < end_ms)


def _charging_bounds(conditions: list[Condition]) -> list[int]:
    return [ms for c in conditions for ms in (c.min_charging, c.max_charging) if ms is not None]

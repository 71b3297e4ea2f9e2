"""Charging periods that run over a switch of the tariff, cut there: volumes in proportion to time.

OCPI demands that periods are cut already and prices them as of their start; OCPP 2.1 has no such rule, so its
tariffs need it here.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from ._pricing_core import Period, Session
from ._pricing_rules import CompiledTariff
from ._rating_switches import clock_switches, window_switches

_VOLUMES = ("energy", "charging_ms", "parking_ms", "reservation_ms")


def split_periods(tariff: CompiledTariff, session: Session) -> Session:
    """Return the session with its periods cut wherever a condition of the tariff may change.

    Parts of a volume are rounded down, the last has the rest: they add up to the whole.
    """
    made: list[Period] = []
    begun = next((p.start_ms for p in session.periods if p.reservation_ms is None), None)
    energy = charged = idle = 0
    for period in session.periods:
        since = session.periods[0].start_ms if period.reservation_ms is not None else begun
        cuts = set(clock_switches(tariff, period.start_ms, period.end_ms))
        cuts.update(window_switches(tariff, period.start_ms, period.end_ms))
        crossings: dict[int, int] = {}
        for c in tariff.conditions:
            elapsed = period.start_ms - (since or 0)
            bounds = [(b, elapsed, period.end_ms - period.start_ms) for b in (c.min_elapsed, c.max_elapsed)]
            bounds += [(b, charged, period.charging_ms or 0) for b in (c.min_charging, c.max_charging)]
            bounds += [(b, idle, period.parking_ms or 0) for b in (c.min_idle, c.max_idle)]
            cuts.update(
                _when(period, bound - before, volume)
                for bound, before, volume in bounds
                if bound is not None and 0 < bound - before < volume
            )
            for bound in (c.min_energy, c.max_energy):
                if bound is not None and 0 < bound - energy < (period.energy or 0):
                    crossings[_when(period, bound - energy, period.energy or 0)] = bound - energy
        crossings.pop(period.end_ms, None)
        made += _cut(period, sorted(cuts | crossings.keys()), crossings)
        if period.reservation_ms is None:
            energy += period.energy or 0
            charged += period.charging_ms or 0
            idle = idle + period.parking_ms if period.parking_ms else 0
    return msgspec.structs.replace(session, periods=tuple(made))


def _when(period: Period, rest: int, volume: int) -> int:
    """Return when `rest` of a volume has passed within a period."""
    return period.start_ms - (-rest * (period.end_ms - period.start_ms) // volume)


def _cut(period: Period, cuts: list[int], crossings: dict[int, int]) -> list[Period]:
    """Return the parts of a period; at a crossing its energy so far is exactly the bound."""
    borders = [period.start_ms, *(t for t in cuts if period.start_ms < t < period.end_ms), period.end_ms]
    if len(borders) == 2:
        return [period]
    length = period.end_ms - period.start_ms
    parts = []
    for begin, end in pairwise(borders):
        change: dict[str, int] = {"start_ms": begin, "end_ms": end}
        for name in _VOLUMES:
            whole = getattr(period, name)
            if whole is not None:
                known = crossings if name == "energy" else {}
                before, after = (known.get(t, whole * (t - period.start_ms) // length) for t in (begin, end))
                change[name] = after - before
        parts.append(msgspec.structs.replace(period, **change))
    return parts

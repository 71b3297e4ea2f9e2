"""The arithmetic of a price: which candidate a dimension takes, steps, sums, limits. Integers only."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import NamedTuple

import msgspec

from ._pricing_rules import (
    ENERGY,
    FIXED,
    PARKING,
    RESERVATION,
    TIME,
    Candidate,
    CompiledTariff,
    Condition,
)


class Period(msgspec.Struct, frozen=True, gc=False):
    """One charging period. None = the dimension is not in the period, which is not the same as 0.

    Times in epoch ms; `energy` in the tariff's energy units (mWh unless compiled otherwise), negative =
    export; the three durations in ms; currents in A as the sum over phases, powers in kW.
    """

    start_ms: int
    end_ms: int
    energy: int | None = None
    charging_ms: int | None = None
    parking_ms: int | None = None
    reservation_ms: int | None = None
    min_current: Decimal | None = None
    max_current: Decimal | None = None
    min_power: Decimal | None = None
    max_power: Decimal | None = None


class Session(msgspec.Struct, frozen=True):
    """What a price is made of. `expired` = the reservation in it was never used."""

    periods: tuple[Period, ...]
    expired: bool = False
    evse_kind: str | None = None  # AC or DC
    payment_brand: str | None = None
    payment_recognition: str | None = None


class Draft(NamedTuple):
    """A line before it is shown: amounts follow from `candidate` and `billed`. No candidate = no price."""

    period: int
    dimension: int
    candidate: Candidate | None
    volume: int
    billed: int


class Sums(NamedTuple):
    """Sums over the tariff's scale, before and after the limits."""

    lines: list[Draft]
    by_dimension: dict[int, tuple[int, int]]
    net: int
    gross: int
    net_limited: int
    gross_limited: int


class State:
    """Where in the session and in local time a period starts."""

    __slots__ = ("charging", "day", "elapsed", "energy", "idle", "local_s", "period", "session", "weekday")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.period: Period = session.periods[0]
        self.energy = self.elapsed = self.charging = self.idle = 0
        self.local_s = self.weekday = self.day = 0


def holds(c: Condition, s: State) -> bool:
    """Whether a condition holds at the start of a period."""
    if c.local:
        if c.start_s is None:
            if c.end_s is not None and s.local_s >= c.end_s:
                return False
        elif c.end_s is None:
            if s.local_s < c.start_s:
                return False
        elif c.start_s < c.end_s:
            if not c.start_s <= s.local_s < c.end_s:
                return False
        elif c.end_s <= s.local_s < c.start_s:  # wraps past midnight
            return False
        if c.days is not None and not c.days >> s.weekday & 1:
            return False
        if c.start_day is not None and s.day < c.start_day:
            return False
        if c.end_day is not None and s.day >= c.end_day:
            return False
    if c.min_energy is not None and s.energy < c.min_energy:
        return False
    if c.max_energy is not None and s.energy >= c.max_energy:
        return False
    if c.min_elapsed is not None and s.elapsed < c.min_elapsed:
        return False
    if c.max_elapsed is not None and s.elapsed >= c.max_elapsed:
        return False
    if c.from_ms is not None and not c.from_ms <= s.period.start_ms < (c.until_ms or 0):
        return False
    if c.band and not _in_bands(c, s.period):
        return False
    return not c.rest or _rest_holds(c, s)


def _rest_holds(c: Condition, s: State) -> bool:
    return (
        (c.min_charging is None or s.charging >= c.min_charging)
        and (c.max_charging is None or s.charging < c.max_charging)
        and (c.min_idle is None or s.idle >= c.min_idle)
        and (c.max_idle is None or s.idle < c.max_idle)
        and (c.evse_kind is None or c.evse_kind == s.session.evse_kind)
        and (c.payment_brand is None or c.payment_brand == s.session.payment_brand)
        and (c.payment_recognition is None or c.payment_recognition == s.session.payment_recognition)
    )


def _in_bands(c: Condition, p: Period) -> bool:
    """Whether nothing that is known of the period's current and power contradicts the bands.

    The lowest value must reach a minimum and the highest stay below a maximum. With one of the two unknown,
    the other contradicts where it can; with both unknown a band does not exclude the element.
    """
    if (c.min_current is not None or c.max_current is not None) and not _band(
        c.min_current, c.max_current, p.min_current, p.max_current
    ):
        return False
    return (c.min_power is None and c.max_power is None) or _band(
        c.min_power, c.max_power, p.min_power, p.max_power
    )


def _band(
    least: Decimal | None, below: Decimal | None, lowest: Decimal | None, highest: Decimal | None
) -> bool:
    if least is not None:
        known = highest if lowest is None else lowest
        if known is not None and known < least:
            return False
    if below is not None:
        known = lowest if highest is None else highest
        if known is not None and known >= below:
            return False
    return True


def first(candidates: tuple[Candidate, ...], s: State) -> Candidate | None:
    """Return the first candidate in list order whose condition holds."""
    for candidate in candidates:
        if candidate.condition is None or holds(candidate.condition, s):
            return candidate
    return None


def add_up(tariff: CompiledTariff, session: Session) -> Sums:
    """Return lines and sums of a session: OCPI's rules, step by step as in the reference of `price`."""
    state = State(session)
    lines: list[Draft] = []
    last: list[int] = [-1] * 5
    totals = [0] * 5
    flat_taken = reserved_flat_taken = False
    begun = -1
    reserved_from = session.periods[0].start_ms
    zone = tariff.zone if tariff.local else None
    for number, period in enumerate(session.periods):
        state.period = period
        if zone is not None:
            local = dt.datetime.fromtimestamp(period.start_ms // 1000, zone)
            state.local_s = local.hour * 3600 + local.minute * 60 + local.second
            state.weekday = local.weekday()
            state.day = local.toordinal()
        if period.reservation_ms is not None:
            state.elapsed = period.start_ms - reserved_from
            reserved_flat_taken |= _reserve(tariff, state, number, lines, last, totals, reserved_flat_taken)
            if period.energy is None and period.charging_ms is None and period.parking_ms is None:
                continue
        if session.expired:
            continue  # an unused reservation has no session fees
        if begun < 0:
            begun = period.start_ms
        state.elapsed = period.start_ms - begun
        if not flat_taken and tariff.fixed:
            found = first(tariff.fixed, state)
            if found is not None:
                flat_taken = True
                lines.append(Draft(number, FIXED, found, 1, 1))
        _take(ENERGY, tariff.energy, period.energy, state, number, lines, last, totals)
        _take(TIME, tariff.time, period.charging_ms, state, number, lines, last, totals)
        _take(PARKING, tariff.parking, period.parking_ms, state, number, lines, last, totals)
        state.energy += period.energy or 0
        state.charging += period.charging_ms or 0
        state.idle = state.idle + period.parking_ms if period.parking_ms else 0
    _step(ENERGY, lines, last, totals)
    _step(PARKING if last[PARKING] >= 0 else TIME, lines, last, totals)
    _step(RESERVATION, lines, last, totals)
    return _sums(tariff, session, lines)


def _take(
    dimension: int,
    candidates: tuple[Candidate, ...],
    volume: int | None,
    state: State,
    number: int,
    lines: list[Draft],
    last: list[int],
    totals: list[int],
) -> None:
    """Add the line of one dimension of a period. A volume of 0 uses no component."""
    if not volume:
        return
    found = first(candidates, state) if candidates else None
    if found is not None:
        last[dimension] = len(lines)
        totals[dimension] += volume
    lines.append(Draft(number, dimension, found, volume, volume if found is not None else 0))


def _reserve(
    tariff: CompiledTariff,
    state: State,
    number: int,
    lines: list[Draft],
    last: list[int],
    totals: list[int],
    flat_taken: bool,
) -> bool:
    """Add the lines of a reservation period; return whether its flat fee is among them."""
    expired = state.session.expired
    taken = False
    if not flat_taken:
        found = first(tariff.expired_fixed if expired else tariff.reservation_fixed, state)
        if found is not None:
            taken = True
            lines.append(Draft(number, RESERVATION, found, 1, 1))
    candidates = tariff.expired_time if expired else tariff.reservation_time
    _take(RESERVATION, candidates, state.period.reservation_ms, state, number, lines, last, totals)
    return taken


def _step(dimension: int, lines: list[Draft], last: list[int], totals: list[int]) -> None:
    """Round the session's priced total up by the step of the last component; the last line bears it."""
    place = last[dimension]
    if place < 0:
        return
    line = lines[place]
    step = line.candidate.step if line.candidate is not None else 0
    missing = -totals[dimension] % step if step else 0
    if missing and totals[dimension] > 0:
        lines[place] = line._replace(billed=line.billed + missing)


def _sums(tariff: CompiledTariff, session: Session, lines: list[Draft]) -> Sums:
    by_dimension: dict[int, tuple[int, int]] = {}
    net = gross = 0
    for _, dimension, candidate, _, billed in lines:
        if candidate is None:
            continue
        line_net, line_gross = candidate.net * billed, candidate.gross * billed
        net += line_net
        gross += line_gross
        so_far = by_dimension.get(dimension)
        if so_far is not None:
            line_net += so_far[0]
            line_gross += so_far[1]
        by_dimension[dimension] = (line_net, line_gross)
    low, high = tariff.limits
    least = (None, None) if session.expired else low
    return Sums(
        lines,
        by_dimension,
        net,
        gross,
        _clamped(net, least[0], high[0]),
        _clamped(gross, least[1], high[1]),
    )


def _clamped(amount: int, least: int | None, most: int | None) -> int:
    if least is not None and amount < least:
        amount = least
    return most if most is not None and amount > most else amount

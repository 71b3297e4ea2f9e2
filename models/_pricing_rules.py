"""A tariff made ready for pricing: conditions as plain numbers, prices as integers over one denominator.

Every amount of a compiled tariff is an integer over `CompiledTariff.scale`: the volume (units of
1/`kwh_units` kWh, or ms) times the candidate's `net` or `gross`. So pricing adds and multiplies integers and
no figure is ever rounded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .tariffs._ocpi_types import TariffError
from .tariffs.ocpi import DAYS, PriceComponent, Tariff221, Tariff230, TariffRestrictions
from .tariffs.ocpp21 import Conditions, EnergyPrice, FixedPrice, OcppTariff, TaxRate, TimePrice, stacked

MWH_PER_KWH: Final = 1_000_000
MS_PER_HOUR: Final = 3_600_000
#: Dimensions in the order of a bill; also the names in `by_dimension`.
DIMENSIONS: Final = ("fixed", "energy", "time", "parking", "reservation")
FIXED, ENERGY, TIME, PARKING, RESERVATION = range(5)


@dataclass(frozen=True, slots=True)
class Condition:
    """When a price is active. None = no such condition; energy in units, times in ms, current A, power kW."""

    start_s: int | None = None  # second of the local day
    end_s: int | None = None
    days: int | None = None  # bit 0 = Monday
    start_day: int | None = None  # proleptic ordinal of the local day
    end_day: int | None = None
    min_energy: int | None = None
    max_energy: int | None = None
    min_current: Decimal | None = None
    max_current: Decimal | None = None
    min_power: Decimal | None = None
    max_power: Decimal | None = None
    min_elapsed: int | None = None
    max_elapsed: int | None = None
    min_charging: int | None = None
    max_charging: int | None = None
    min_idle: int | None = None
    max_idle: int | None = None
    evse_kind: str | None = None
    payment_brand: str | None = None
    payment_recognition: str | None = None
    from_ms: int | None = None  # a window in absolute time: spot prices
    until_ms: int | None = None
    text: str = ""
    local: bool = False
    band: bool = False
    rest: bool = False  # conditions that only OCPP has


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One price of one dimension: `net` and `gross` per unit of volume, over the tariff's scale."""

    dimension: int
    element: int
    component: int
    condition: Condition | None
    price: Decimal
    tax: str  # how gross follows from net, in words
    net: int
    gross: int
    step: int  # units that the session's total is rounded up to; 0 = no rounding


@dataclass(frozen=True, slots=True, eq=False)
class CompiledTariff:
    """A tariff ready for `price`; see the module for what the integers mean."""

    id: str
    currency: str
    zone: ZoneInfo
    scale: int
    kwh_units: int
    fixed: tuple[Candidate, ...]
    energy: tuple[Candidate, ...]
    time: tuple[Candidate, ...]
    parking: tuple[Candidate, ...]
    reservation_fixed: tuple[Candidate, ...]
    reservation_time: tuple[Candidate, ...]
    expired_fixed: tuple[Candidate, ...]
    expired_time: tuple[Candidate, ...]
    limits: tuple[tuple[int | None, int | None], tuple[int | None, int | None]]
    local: bool
    source: Tariff221 | Tariff230 | OcppTariff
    conditions: tuple[Condition, ...] = field(default=())


@dataclass(slots=True)
class _Draft:
    """A candidate whose prices are still fractions of money per unit of volume."""

    dimension: int
    element: int
    component: int
    condition: Condition | None
    price: Decimal
    tax: str
    net: Fraction
    gross: Fraction
    step: int
    outcome: str = ""  # "", RESERVATION or RESERVATION_EXPIRES


def compile_tariff(
    tariff: Tariff221 | Tariff230 | OcppTariff,
    time_zone: str,
    *,
    kwh_units: int = MWH_PER_KWH,
    windows: Mapping[int, tuple[int, int]] | None = None,
) -> CompiledTariff:
    """Return a tariff ready for pricing.

    Parameters
    ----------
    tariff : Tariff221, Tariff230 or OcppTariff
    time_zone : str
        IANA name of the location's zone, in which restrictions are evaluated.
    kwh_units : int
        Energy units per kWh, a multiple of 1,000,000 (mWh).
    windows : mapping, optional
        Element index -> (from, until) in epoch ms: elements that hold only then (spot prices).

    Raises
    ------
    TariffError
        If the time zone or a component is not known.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise TariffError(f"time zone {time_zone!r}: expected an IANA name such as Europe/Berlin") from error
    if isinstance(tariff, OcppTariff):
        drafts = _of_ocpp(tariff, kwh_units)
    else:
        drafts = _of_ocpi(tariff, kwh_units, windows or {})
    limits = tariff.limits
    parts = [d.net for d in drafts] + [d.gross for d in drafts]
    parts += [Fraction(x) for pair in limits for x in pair if x is not None]
    scale = lcm(*(part.denominator for part in parts)) if parts else 1
    made = [(d.outcome, _candidate(d, scale)) for d in drafts]
    conditions = tuple(c.condition for _, c in made if c.condition is not None)
    low, high = ((_scaled(pair[0], scale), _scaled(pair[1], scale)) for pair in limits)
    expired_fixed = _expired(made, FIXED)
    expired_time = _expired(made, TIME)
    return CompiledTariff(
        id=tariff.id,
        currency=tariff.currency.upper(),
        zone=zone,
        scale=scale,
        kwh_units=kwh_units,
        fixed=_picked(made, FIXED, ""),
        energy=_picked(made, ENERGY, ""),
        time=_picked(made, TIME, ""),
        parking=_picked(made, PARKING, ""),
        reservation_fixed=_picked(made, FIXED, "RESERVATION"),
        reservation_time=_picked(made, TIME, "RESERVATION"),
        expired_fixed=expired_fixed,
        expired_time=expired_time,
        limits=(low, high),
        local=any(c.local for c in conditions),
        source=tariff,
        conditions=conditions,
    )


def _picked(made: list[tuple[str, Candidate]], dimension: int, outcome: str) -> tuple[Candidate, ...]:
    return tuple(c for o, c in made if c.dimension == dimension and o == outcome)


def _expired(made: list[tuple[str, Candidate]], dimension: int) -> tuple[Candidate, ...]:
    """RESERVATION_EXPIRES first; RESERVATION only where there is no such component for the dimension."""
    own = _picked(made, dimension, "RESERVATION_EXPIRES")
    return own or _picked(made, dimension, "RESERVATION")


def _scaled(limit: Decimal | None, scale: int) -> int | None:
    return None if limit is None else int(Fraction(limit) * scale)


def _candidate(draft: _Draft, scale: int) -> Candidate:
    return Candidate(
        dimension=draft.dimension,
        element=draft.element,
        component=draft.component,
        condition=draft.condition,
        price=draft.price,
        tax=draft.tax,
        net=int(draft.net * scale),
        gross=int(draft.gross * scale),
        step=draft.step,
    )


_OF_OCPI: Final = {"FLAT": FIXED, "ENERGY": ENERGY, "TIME": TIME, "PARKING_TIME": PARKING}


def _of_ocpi(
    tariff: Tariff221 | Tariff230, kwh_units: int, windows: Mapping[int, tuple[int, int]]
) -> list[_Draft]:
    drafts = []
    for number, element in enumerate(tariff.elements):
        condition = _ocpi_condition(element.restrictions, kwh_units, windows.get(number))
        outcome = (element.restrictions.reservation if element.restrictions else None) or ""
        for place, component in enumerate(element.price_components):
            dimension = _OF_OCPI[component.type]
            net, gross, tax = _ocpi_price(component, tariff.tax)
            units = {FIXED: 1, ENERGY: kwh_units}.get(dimension, MS_PER_HOUR)
            unit = {FIXED: 0, ENERGY: kwh_units // 1000}.get(dimension, 1000)
            step = max(component.step_size, 1) * unit
            args = (dimension, number, place, condition, component.price, tax)
            drafts.append(_Draft(*args, net / units, gross / units, step, outcome))
    return drafts


def _ocpi_price(component: PriceComponent, tax: str) -> tuple[Fraction, Fraction, str]:
    price = Fraction(component.price)
    if tax == "N/A":
        return price, price, "no tax applies"
    if component.vat is None:
        return price, price, "no VAT"
    factor = 1 + Fraction(component.vat) / 100
    if tax == "YES":
        return price / factor, price, f"{component.vat.normalize():f} % VAT included"
    return price, price * factor, f"{component.vat.normalize():f} % VAT on top"


def _ocpi_condition(
    r: TariffRestrictions | None, kwh_units: int, window: tuple[int, int] | None
) -> Condition | None:
    given = {} if r is None else r.model_dump(exclude_none=True, include=set(TariffRestrictions.model_fields))
    given.pop("reservation", None)
    if r is None or not (given or window):
        return None if window is None else Condition(from_ms=window[0], until_ms=window[1], text="its hour")
    days = r.day_of_week
    start_s, end_s = _clock(r.start_time, r.end_time)
    return Condition(
        start_s=start_s,
        end_s=end_s,
        days=None if not days else sum(1 << DAYS.index(day) for day in set(days)),
        start_day=_ordinal(r.start_date),
        end_day=_ordinal(r.end_date),
        min_energy=_units(r.min_kwh, kwh_units),
        max_energy=_units(r.max_kwh, kwh_units),
        min_current=r.min_current,
        max_current=r.max_current,
        min_power=r.min_power,
        max_power=r.max_power,
        min_elapsed=_ms(r.min_duration),
        max_elapsed=_ms(r.max_duration),
        from_ms=None if window is None else window[0],
        until_ms=None if window is None else window[1],
        text=_words(given),
        local=not given.keys().isdisjoint(_LOCAL),
        band=not given.keys().isdisjoint(_BANDS),
    )


_LOCAL: Final = frozenset({"start_time", "end_time", "start_date", "end_date", "day_of_week"})
_BANDS: Final = frozenset({"min_current", "max_current", "min_power", "max_power"})
_OCPP_LOCAL: Final = frozenset(
    {"start_time_of_day", "end_time_of_day", "valid_from_date", "valid_to_date", "day_of_week"}
)
_ONLY_OCPP: Final = frozenset(
    {
        "min_charging_time", "max_charging_time", "min_idle_time", "max_idle_time", "evse_kind",
        "payment_brand", "payment_recognition",
    }
)  # fmt: skip


def _of_ocpp(tariff: OcppTariff, kwh_units: int) -> list[_Draft]:
    parts = (
        (FIXED, tariff.fixed_fee, ""),
        (ENERGY, tariff.energy, ""),
        (TIME, tariff.charging_time, ""),
        (PARKING, tariff.idle_time, ""),
        (FIXED, tariff.reservation_fixed, "RESERVATION"),
        (TIME, tariff.reservation_time, "RESERVATION"),
    )
    drafts = []
    for number, (dimension, part, outcome) in enumerate(parts):
        if part is None:
            continue
        factor = stacked(part.tax_rates)
        tax = _tax_words(part.tax_rates)
        prices: tuple[EnergyPrice | TimePrice | FixedPrice, ...] = part.prices
        for place, price in enumerate(prices):
            condition = _ocpp_condition(price.conditions, kwh_units)
            amount = _amount(price)
            per = {FIXED: 1, ENERGY: kwh_units}.get(dimension, 60_000)
            net = Fraction(amount) / per
            drafts.append(
                _Draft(dimension, number, place, condition, amount, tax, net, net * factor, 0, outcome)
            )
    return drafts


def _amount(price: EnergyPrice | TimePrice | FixedPrice) -> Decimal:
    if isinstance(price, EnergyPrice):
        return price.price_kwh
    return price.price_minute if isinstance(price, TimePrice) else price.price_fixed


def _tax_words(rates: tuple[TaxRate, ...]) -> str:
    ordered = sorted(rates, key=lambda r: r.stack)
    words = ", then ".join(f"{rate.tax.normalize():f} % {rate.type} (stack {rate.stack})" for rate in ordered)
    return words or "no tax"


def _ocpp_condition(c: Conditions | None, kwh_units: int) -> Condition | None:
    given = (
        {}
        if c is None
        else c.model_dump(exclude_none=True, by_alias=False, include=set(Conditions.model_fields))
    )
    if c is None or not given:
        return None
    start_s, end_s = _clock(c.start_time_of_day, c.end_time_of_day)
    return Condition(
        start_s=start_s,
        end_s=end_s,
        days=sum(1 << DAYS.index(day.upper()) for day in set(c.day_of_week)) if c.day_of_week else None,
        start_day=_ordinal(c.valid_from_date),
        end_day=_ordinal(c.valid_to_date),
        min_energy=_units(c.min_energy, kwh_units // 1000),
        max_energy=_units(c.max_energy, kwh_units // 1000),
        min_current=c.min_current,
        max_current=c.max_current,
        min_power=None if c.min_power is None else c.min_power.scaleb(-3),
        max_power=None if c.max_power is None else c.max_power.scaleb(-3),
        min_elapsed=_ms(c.min_time),
        max_elapsed=_ms(c.max_time),
        min_charging=_ms(c.min_charging_time),
        max_charging=_ms(c.max_charging_time),
        min_idle=_ms(c.min_idle_time),
        max_idle=_ms(c.max_idle_time),
        evse_kind=c.evse_kind,
        payment_brand=c.payment_brand,
        payment_recognition=c.payment_recognition,
        text=_words(given),
        local=not given.keys().isdisjoint(_OCPP_LOCAL),
        band=not given.keys().isdisjoint(_BANDS),
        rest=not given.keys().isdisjoint(_ONLY_OCPP),
    )


def _clock(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Return start and end as seconds of the local day; end 00:00 is the end of the day."""
    from_s = None if start is None else _second(start)
    until_s = None if end is None else (_second(end) or 86400)
    return from_s or None, None if until_s == 86400 else until_s


def _second(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[3:]) * 60


def _ordinal(date: str | None) -> int | None:
    if date is None:
        return None
    try:
        return dt.date.fromisoformat(date).toordinal()
    except ValueError as error:
        raise TariffError(f"date {date!r}: {error}") from error


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _units(amount: Decimal | None, per: int) -> int | None:
    """Return energy in units, a bound between two units at the upper one: so >= and < stay as they are."""
    return None if amount is None else -int(-Fraction(amount) * per // 1)


def _words(given: dict[str, object]) -> str:
    return ", ".join(f"{name} {_word(value)}" for name, value in given.items())


def _word(value: object) -> str:
    return "/".join(str(v) for v in value) if isinstance(value, tuple) else str(value)

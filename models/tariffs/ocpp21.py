"""OCPP 2.1 tariffs (block I): one list of prices a dimension, idle conditions, stacked taxes.

Units as in the schema: price per kWh, per **minute**, fixed, all without tax; conditions in Wh, W, A and s.
Source: OCPP 2.1 edition 1, TariffType and the types it uses.
"""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ._ocpi_types import DateTime, Model, Number, TariffError
from .ocpi import Date, Limits, TimeOfDay, complaints


class Ocpp(Model):
    """An immutable OCPP object; camelCase on the wire."""

    model_config = ConfigDict(
        frozen=True, extra="allow", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True
    )


class TaxRate(Ocpp):
    """One tax in percent. `stack` 0 is on the net price, 1 on top of stack 0, and so on."""

    type: str
    tax: Number
    stack: int = 0


class Conditions(Ocpp):
    """When a price applies; all given conditions must hold.

    `min_idle_time` counts from the start of the present idle period, `min_charging_time` adds up over the
    transaction, `min_time` is since its start.
    """

    start_time_of_day: TimeOfDay | None = None
    end_time_of_day: TimeOfDay | None = None
    day_of_week: tuple[
        Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"], ...
    ] | None = None  # fmt: skip
    valid_from_date: Date | None = None
    valid_to_date: Date | None = None
    evse_kind: Literal["AC", "DC"] | None = None
    payment_brand: str | None = None
    payment_recognition: str | None = None
    min_energy: Number | None = None
    max_energy: Number | None = None
    min_current: Number | None = None
    max_current: Number | None = None
    min_power: Number | None = None
    max_power: Number | None = None
    min_time: int | None = None
    max_time: int | None = None
    min_charging_time: int | None = None
    max_charging_time: int | None = None
    min_idle_time: int | None = None
    max_idle_time: int | None = None


class EnergyPrice(Ocpp):
    """Price per kWh."""

    price_kwh: Number
    conditions: Conditions | None = None


class TimePrice(Ocpp):
    """Price per minute."""

    price_minute: Number
    conditions: Conditions | None = None


class FixedPrice(Ocpp):
    """Price once."""

    price_fixed: Number
    conditions: Conditions | None = None


class Energy(Ocpp):
    """Energy prices and their taxes."""

    prices: Annotated[tuple[EnergyPrice, ...], Field(min_length=1)]
    tax_rates: tuple[TaxRate, ...] = ()


class Time(Ocpp):
    """Time prices and their taxes."""

    prices: Annotated[tuple[TimePrice, ...], Field(min_length=1)]
    tax_rates: tuple[TaxRate, ...] = ()


class Fixed(Ocpp):
    """Fixed prices and their taxes."""

    prices: Annotated[tuple[FixedPrice, ...], Field(min_length=1)]
    tax_rates: tuple[TaxRate, ...] = ()


class Cost(Ocpp):
    """A cost limit; at least one of the two."""

    excl_tax: Number | None = None
    incl_tax: Number | None = None


class OcppTariff(Ocpp):
    """TariffType of OCPP 2.1."""

    tariff_id: Annotated[str, Field(max_length=60)]
    currency: Annotated[str, Field(min_length=3, max_length=3)]
    valid_from: DateTime | None = None
    description: tuple[dict[str, Any], ...] | None = None
    energy: Energy | None = None
    charging_time: Time | None = None
    idle_time: Time | None = None
    fixed_fee: Fixed | None = None
    reservation_time: Time | None = None
    reservation_fixed: Fixed | None = None
    min_cost: Cost | None = None
    max_cost: Cost | None = None

    @property
    def id(self) -> str:
        """The id, by the name that OCPI uses."""
        return self.tariff_id

    @property
    def limits(self) -> tuple[Limits, Limits]:
        """The lowest and the highest cost, each as (net, gross); None = no limit."""
        return _limits(self.min_cost), _limits(self.max_cost)

    def valid_at(self, time: dt.datetime) -> bool:
        """Whether a transaction that starts at `time` may be priced with it."""
        return self.valid_from is None or time >= self.valid_from


def _limits(cost: Cost | None) -> Limits:
    return (None, None) if cost is None else (cost.excl_tax, cost.incl_tax)


def stacked(rates: tuple[TaxRate, ...]) -> Fraction:
    """Return gross per unit of net: taxes of one stack add up, each stack is on top of those below.

    5 % at stack 0 then 9.975 % at stack 1 on 10.00 is 11.547375; both at stack 0 would be 11.4975.
    """
    factor = Fraction(1)
    for level in sorted({rate.stack for rate in rates}):
        factor *= 1 + sum((Fraction(rate.tax) for rate in rates if rate.stack == level), Fraction(0)) / 100
    return factor


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data looks like a tariff of OCPP 2.1."""
    return "tariffId" in data


def read(data: dict[str, Any]) -> OcppTariff:
    """Return the tariff that JSON data describes.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    try:
        return OcppTariff.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"OCPP tariff {data.get('tariffId', '?')!r}: {complaints(error)}") from None

"""OCPI tariffs, 2.2.1 and 2.3.0: the objects as the specification names them.

The two versions price alike; they differ in how a price is written (`Price` with ``excl_vat``/``incl_vat``
against `PriceLimit` with ``before_taxes``/``after_taxes``) and in ``tax_included``, which only 2.3.0 has.
Sources: OCPI 2.2.1 (bugfix branch) and 2.3.0, mod_tariffs.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ._ocpi_types import DateTime, Model, Number, TariffError

DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
DayOfWeek = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
Dimension = Literal["ENERGY", "FLAT", "PARKING_TIME", "TIME"]
TaxIncluded = Literal["YES", "NO", "N/A"]
TimeOfDay = Annotated[str, Field(pattern=r"^([0-1][0-9]|2[0-3]):[0-5][0-9]$")]
Date = Annotated[str, Field(pattern=r"^([12][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]


class PriceComponent(Model):
    """Price of one dimension: per kWh, per hour, or once (FLAT). `vat` is a percentage; none = no VAT."""

    type: Dimension
    price: Number
    vat: Number | None = None
    step_size: Annotated[int, Field(ge=0)] = 1


class TariffRestrictions(Model):
    """When an element is active; all given must hold. Local time; kWh, A over all phases, kW, s."""

    start_time: TimeOfDay | None = None
    end_time: TimeOfDay | None = None
    start_date: Date | None = None
    end_date: Date | None = None
    min_kwh: Number | None = None
    max_kwh: Number | None = None
    min_current: Number | None = None
    max_current: Number | None = None
    min_power: Number | None = None
    max_power: Number | None = None
    min_duration: int | None = None
    max_duration: int | None = None
    day_of_week: tuple[DayOfWeek, ...] | None = None
    reservation: Literal["RESERVATION", "RESERVATION_EXPIRES"] | None = None


class TariffElement(Model):
    """Price components that are active together."""

    price_components: Annotated[tuple[PriceComponent, ...], Field(min_length=1)]
    restrictions: TariffRestrictions | None = None


class Price221(Model):
    """A price of OCPI 2.2.1."""

    excl_vat: Number
    incl_vat: Number | None = None


class PriceLimit(Model):
    """A limit of OCPI 2.3.0."""

    before_taxes: Number
    after_taxes: Number | None = None


class DisplayText(Model):
    """A text in one language."""

    language: str
    text: str


class BaseTariff(Model):
    """What the tariffs of both versions have in common."""

    country_code: Annotated[str, Field(max_length=2)] | None = None
    party_id: Annotated[str, Field(max_length=3)] | None = None
    id: Annotated[str, Field(max_length=36)]
    currency: Annotated[str, Field(min_length=3, max_length=3)]
    type: str | None = None
    tariff_alt_text: tuple[DisplayText, ...] | None = None
    tariff_alt_url: str | None = None
    elements: Annotated[tuple[TariffElement, ...], Field(min_length=1)]
    start_date_time: DateTime | None = None
    end_date_time: DateTime | None = None
    energy_mix: dict[str, Any] | None = None
    last_updated: DateTime | None = None

    @property
    def limits(self) -> tuple[Limits, Limits]:
        """The lowest and the highest price, each as (net, gross); None = no limit."""
        raise TypeError("a tariff is of one version")

    @property
    def tax(self) -> TaxIncluded:
        """Whether component prices hold tax."""
        return "NO"

    def valid_at(self, time: dt.datetime) -> bool:
        """Whether a session that starts at `time` may be priced with it; both ends of validity are UTC."""
        return (self.start_date_time is None or time >= self.start_date_time) and (
            self.end_date_time is None or time < self.end_date_time
        )


Limits = tuple[Decimal | None, Decimal | None]


class Tariff221(BaseTariff):
    """A tariff of OCPI 2.2.1; component prices are without VAT."""

    min_price: Price221 | None = None
    max_price: Price221 | None = None

    @property
    def limits(self) -> tuple[Limits, Limits]:
        """The lowest and the highest price, each as (net, gross); None = no limit."""
        return _limits_221(self.min_price), _limits_221(self.max_price)


class Tariff230(BaseTariff):
    """A tariff of OCPI 2.3.0; a missing ``tax_included`` (the specification's CDR example) counts as NO."""

    min_price: PriceLimit | None = None
    max_price: PriceLimit | None = None
    preauthorize_amount: Number | None = None
    tax_included: TaxIncluded | None = None

    @property
    def limits(self) -> tuple[Limits, Limits]:
        """The lowest and the highest price, each as (net, gross); None = no limit."""
        return _limits_230(self.min_price), _limits_230(self.max_price)

    @property
    def tax(self) -> TaxIncluded:
        """Whether component prices hold tax."""
        return self.tax_included or "NO"


def _limits_221(price: Price221 | None) -> Limits:
    return (None, None) if price is None else (price.excl_vat, price.incl_vat)


def _limits_230(limit: PriceLimit | None) -> Limits:
    return (None, None) if limit is None else (limit.before_taxes, limit.after_taxes)


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data looks like an OCPI tariff."""
    return "elements" in data and "kind" not in data


def read(data: dict[str, Any]) -> Tariff221 | Tariff230:
    """Return the tariff that JSON data describes, of the version its spelling shows.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    model = Tariff230 if is_230(data) else Tariff221
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"OCPI tariff {data.get('id', '?')!r}: {complaints(error)}") from None


def is_230(data: dict[str, Any]) -> bool:
    """Whether a tariff is spelled as in 2.3.0; one that shows neither spelling is read as 2.2.1."""
    limits = [data.get("min_price"), data.get("max_price")]
    return (
        "tax_included" in data
        or "preauthorize_amount" in data
        or any(isinstance(limit, dict) and "before_taxes" in limit for limit in limits)
    )


def complaints(error: ValidationError) -> str:
    """Return what pydantic found, one clause a place."""
    return "; ".join(
        f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}, got {found.get('input')!r}"[:300]
        for found in error.errors()
    )


def departures(tariff: Tariff221 | Tariff230) -> list[str]:
    """Return in words where a tariff that can be priced still departs from the specification."""
    found = [
        f"{name} is missing"
        for name in ("country_code", "party_id", "last_updated")
        if not getattr(tariff, name)
    ]
    if isinstance(tariff, Tariff230) and tariff.tax_included is None:
        found.append("tax_included is missing: prices are taken to be without tax")
    for index, element in enumerate(tariff.elements):
        if element.restrictions and element.restrictions.reservation:
            wrong = {c.type for c in element.price_components} - {"FLAT", "TIME"}
            found += [f"elements.{index}: a reservation holds no {name} component" for name in sorted(wrong)]
    return found


def cautions(tariff: Tariff221 | Tariff230) -> list[str]:
    """Return in words what of a tariff may surprise who bills with it, though the specification allows it."""
    found = []
    for name, (net, gross) in zip(("min_price", "max_price"), tariff.limits, strict=True):
        if net is not None and gross is None:
            found.append(f"{name} names no amount with tax: only the total without tax is limited by it")
    for index, element in enumerate(tariff.elements):
        r = element.restrictions or TariffRestrictions()
        if r.min_current is not None or r.max_current is not None:
            found.append(f"elements.{index} depends on current: bills of stations know power and no current")
        if r.reservation is not None:
            found.append(f"elements.{index} prices reservations: stations tell of none, only files can")
        if (
            r.day_of_week
            and r.start_time
            and r.end_time
            and r.end_time != "00:00" <= r.end_time < r.start_time
        ):
            found.append(f"elements.{index}: the hours after midnight belong to the next day of the week")
    return found

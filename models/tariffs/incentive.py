"""Off-peak incentives: energy in given hours costs less (or more), on top of another tariff.

::

    {"kind": "incentive", "id": "NIGHT", "base": {...},
     "offers": [{"per_kwh": -0.05, "start_time": "22:00", "end_time": "06:00", "day_of_week": ["MONDAY"]}]}

The result is one OCPI tariff: where an offer and an ENERGY element of the base meet, an element with the
changed price stands in front of it. Offers are per kWh in the base's price terms; the first that holds
counts. A price does not fall below 0 unless the base's already does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from ._dynamic import Context, Resolved, nested, resolved
from ._ocpi_types import Model, Number, TariffError
from .ocpi import Date, DayOfWeek, PriceComponent, TariffElement, TariffRestrictions, TimeOfDay, complaints

_DAY = 1440


class Offer(Model):
    """What energy costs more or less per kWh, and when (local time)."""

    per_kwh: Number
    start_time: TimeOfDay | None = None
    end_time: TimeOfDay | None = None
    start_date: Date | None = None
    end_date: Date | None = None
    day_of_week: tuple[DayOfWeek, ...] | None = None


class IncentiveTariff(Model):
    """Another tariff with offers on it."""

    kind: Literal["incentive"]
    id: Annotated[str, Field(max_length=36)]
    base: dict[str, Any]
    offers: Annotated[tuple[Offer, ...], Field(min_length=1)]
    _inner: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _based(self) -> IncentiveTariff:
        self._inner = nested(self.base, "base")
        return self

    @property
    def currency(self) -> str:
        """The currency, of the base."""
        currency: str = self._inner.currency
        return currency

    def resolve(self, context: Context) -> Resolved:
        """Return the base's tariff of the session with the offers worked in."""
        inner = resolved(self._inner, context)
        elements: list[TariffElement] = []
        windows: dict[int, tuple[int, int]] = {}
        for place, element in enumerate(inner.tariff.elements):
            made = [*_offered(element, self.offers), element]
            if place in inner.windows:
                windows |= {len(elements) + i: inner.windows[place] for i in range(len(made))}
            elements += made
        tariff = inner.tariff.model_copy(update={"id": self.id, "elements": tuple(elements)})
        offers = [offer.to_json() for offer in self.offers]
        return Resolved(tariff, windows, inner.facts | {"offers": offers})


def _offered(element: TariffElement, offers: tuple[Offer, ...]) -> list[TariffElement]:
    """Return the elements in which an offer changes the energy price of one element."""
    energy = next((c for c in element.price_components if c.type == "ENERGY"), None)
    if energy is None or (element.restrictions and element.restrictions.reservation):
        return []
    made = []
    for offer in offers:
        price = energy.price + offer.per_kwh
        if price < 0 <= energy.price:
            price = Decimal(0)
        component = energy.model_copy(update={"price": price})
        made += [_element(component, r) for r in _both(element.restrictions, offer)]
    return made


def _element(component: PriceComponent, restrictions: TariffRestrictions) -> TariffElement:
    return TariffElement(price_components=(component,), restrictions=restrictions)


def _both(given: TariffRestrictions | None, offer: Offer) -> list[TariffRestrictions]:
    """Return restrictions that hold where both do; a clock that meets twice a day needs two."""
    base = given or TariffRestrictions()
    days = _days(base.day_of_week, offer.day_of_week)
    starts = [d for d in (base.start_date, offer.start_date) if d is not None]
    ends = [d for d in (base.end_date, offer.end_date) if d is not None]
    if days == () or (starts and ends and max(starts) >= min(ends)):
        return []
    spans = [
        (max(a, c), min(b, d))
        for a, b in _spans(base.start_time, base.end_time)
        for c, d in _spans(offer.start_time, offer.end_time)
        if max(a, c) < min(b, d)
    ]
    return [
        base.model_copy(
            update={
                "start_time": _text(start),
                "end_time": _text(end % _DAY),
                "start_date": max(starts, default=None),
                "end_date": min(ends, default=None),
                "day_of_week": days,
            }
        )
        for start, end in spans
    ]


def _days(
    one: tuple[DayOfWeek, ...] | None, other: tuple[DayOfWeek, ...] | None
) -> tuple[DayOfWeek, ...] | None:
    if not one or not other:
        return one or other or None
    return tuple(day for day in one if day in other)


def _spans(start: str | None, end: str | None) -> list[tuple[int, int]]:
    """Return the minutes of the day from start to end, without a wrap past midnight."""
    a = 0 if start is None else _minute(start)
    b = _DAY if end is None else _minute(end) or _DAY
    return [(a, b)] if a < b else [(a, _DAY), (0, b)]


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def _text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data says that it is such a tariff."""
    return data.get("kind") == "incentive"


def read(data: dict[str, Any]) -> IncentiveTariff:
    """Return the tariff that JSON data describes.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    try:
        return IncentiveTariff.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"incentive tariff {data.get('id', '?')!r}: {complaints(error)}") from None

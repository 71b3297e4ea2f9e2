"""Spot-indexed energy: the market's price of each quarter hour, times a factor, plus a markup, within bounds.

::

    {"kind": "spot", "id": "SPOT", "currency": "EUR", "factor": 1, "markup": 0.12, "floor": 0, "cap": 0.60,
     "vat": 19, "fallback": ["previous_day", "mean", "fixed"], "fixed": 0.40, "elements": [...]}

Amounts per kWh without tax; the price that results has 8 decimals at most. `elements` are further OCPI
elements (session fee, parking); an ENERGY component in them never applies, the market's come first.
"""

from __future__ import annotations

import datetime as dt
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ._dynamic import Context, Resolved
from ._ocpi_types import Model, Number, TariffError
from .ocpi import Tariff230, TariffElement, complaints

_FINEST = Decimal("0.00000001")
Fallback = Literal["previous_day", "previous_week", "mean", "fixed"]


class SpotTariff(Model):
    """Energy by the market's slots."""

    kind: Literal["spot"]
    id: Annotated[str, Field(max_length=36)]
    currency: Annotated[str, Field(min_length=3, max_length=3)]
    factor: Number = Decimal(1)
    markup: Number = Decimal(0)
    floor: Number | None = None
    cap: Number | None = None
    vat: Number | None = None
    fallback: tuple[Fallback, ...] = ()
    fixed: Number | None = None
    elements: tuple[TariffElement, ...] = ()

    def resolve(self, context: Context) -> Resolved:
        """Return the OCPI tariff of the session's slots; the prices used and their origins are in the facts.

        Raises
        ------
        TariffError
            If a slot has no price and no fallback knows one, or the market has another currency.
        """
        from models.market_prices import QUARTER_MS, price_at

        series = context.prices
        if series is not None and series.currency != self.currency.upper():
            raise TariffError(f"tariff {self.id!r} is in {self.currency}, the prices in {series.currency}")
        elements: list[Any] = []
        windows: dict[int, tuple[int, int]] = {}
        used = []
        start = context.start_ms - context.start_ms % QUARTER_MS
        while start < context.end_ms or not elements:
            found = price_at(series, start, self.fallback, self.fixed)
            price = self.per_kwh(found.price)
            windows[len(elements)] = (start, start + QUARTER_MS)
            elements.append(self._element(start, price, context))
            used.append([start, start + QUARTER_MS, f"{found.price:f}", f"{price:f}", found.origin])
            start += QUARTER_MS
        tariff = Tariff230.model_validate(
            {
                "id": self.id,
                "currency": self.currency,
                "tax_included": "NO",
                "elements": [*elements, *self.elements],
            }
        )
        facts = {
            "source": None if series is None else series.source,
            "source_version": None if series is None else series.version,
            "prices": used,
        }
        return Resolved(tariff, windows, facts)

    def per_kwh(self, market: Decimal) -> Decimal:
        """Return the price per kWh that a market price makes."""
        price = market * self.factor + self.markup
        if self.floor is not None:
            price = max(price, self.floor)
        if self.cap is not None:
            price = min(price, self.cap)
        return price.quantize(_FINEST, ROUND_HALF_UP) if price != price.quantize(_FINEST) else price

    def _element(self, start_ms: int, price: Decimal, context: Context) -> dict[str, Any]:
        tax = {} if self.vat is None else {"vat": self.vat}
        first, last = (
            dt.datetime.fromtimestamp((start_ms + ms) // 1000, context.zone) for ms in (0, 900_000)
        )
        days = {"start_date": f"{first:%Y-%m-%d}", "end_date": f"{first.date() + dt.timedelta(days=1)}"}
        return {
            "price_components": [{"type": "ENERGY", "price": price, "step_size": 1, **tax}],
            "restrictions": {**days, "start_time": f"{first:%H:%M}", "end_time": f"{last:%H:%M}"},
        }


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data says that it is a spot tariff."""
    return data.get("kind") == "spot"


def read(data: dict[str, Any]) -> SpotTariff:
    """Return the tariff that JSON data describes.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    try:
        return SpotTariff.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"spot tariff {data.get('id', '?')!r}: {complaints(error)}") from None

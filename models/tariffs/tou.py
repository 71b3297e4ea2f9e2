"""Time of use: energy prices by season, day and hour, with holidays, as published by utilities.

The file is the one of acnportal's tariff schedules (``schedule`` of seasons with ``effective_start``,
``effective_end`` as MM-DD both inclusive, ``dow_mask``, ``times``, ``tariffs`` per kWh, ``demand_charge`` per
kW of the month's peak), plus what it lacks: ``currency`` (USD), ``vat``, ``tax_included``, ``extra`` elements
(session fee, parking), and ``holidays``: ``{"country": "US", "subdivision": "CA", "as": "WEEKENDS"}``, days
that are priced like that kind of day. Holidays come from the `holidays` package.
"""

from __future__ import annotations

import datetime as dt
import functools
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from ._dynamic import Context, Resolved
from ._ocpi_types import Model, Number, TariffError
from .ocpi import DAYS, Tariff230, TariffElement, complaints

_MASKS = {"WEEKDAYS": DAYS[:5], "WEEKENDS": DAYS[5:], "ALL": DAYS}
Mask = Literal["WEEKDAYS", "WEEKENDS", "ALL"]


class Season(Model):
    """Prices of one kind of day in one part of the year; `times` in hours of the local day."""

    id: str = ""
    effective_start: Annotated[str, Field(pattern=r"^\d{1,2}-\d{1,2}$")]
    effective_end: Annotated[str, Field(pattern=r"^\d{1,2}-\d{1,2}$")]
    dow_mask: Mask = "ALL"
    times: Annotated[tuple[Number, ...], Field(min_length=1)]
    tariffs: Annotated[tuple[Number, ...], Field(min_length=1)]
    demand_charge: Number = Decimal(0)

    @model_validator(mode="after")
    def _paired(self) -> Season:
        if len(self.times) != len(self.tariffs):
            raise ValueError(f"{len(self.times)} times for {len(self.tariffs)} tariffs")
        if self.times[0] != 0 or list(self.times) != sorted(set(self.times)) or self.times[-1] >= 24:
            raise ValueError("times: expected hours from 0 on, rising, below 24")
        if any((hour * 60) % 1 for hour in self.times):
            raise ValueError("times: expected whole minutes")
        for text in (self.effective_start, self.effective_end):
            _day_of_year(text)
        return self

    def covers(self, day: dt.date) -> bool:
        """Whether the season holds on a day; a season may run over New Year."""
        start, end = _day_of_year(self.effective_start), _day_of_year(self.effective_end)
        today = (day.month, day.day)
        return start <= today <= end if start <= end else today >= start or today <= end

    def elements(self, day: dt.date, tax: dict[str, Any]) -> list[dict[str, Any]]:
        """Return OCPI elements of this one day."""
        ends = (*self.times[1:], Decimal(24))
        date = {"start_date": str(day), "end_date": str(day + dt.timedelta(days=1))}
        return [
            {
                "price_components": [{"type": "ENERGY", "price": price, "step_size": 1, **tax}],
                "restrictions": {**date, "start_time": _clock(start), "end_time": _clock(end)},
            }
            for start, end, price in zip(self.times, ends, self.tariffs, strict=True)
        ]


class Holidays(Model):
    """Whose holidays, and as what kind of day they are priced."""

    country: str
    subdivision: str | None = None
    as_: Annotated[Mask, Field(alias="as")] = "WEEKENDS"


class TouTariff(Model):
    """A schedule of seasons; the first that covers a day and its kind of day has its prices."""

    name: str
    schedule: Annotated[tuple[Season, ...], Field(min_length=1)]
    currency: Annotated[str, Field(min_length=3, max_length=3)] = "USD"
    vat: Number | None = None
    tax_included: Literal["YES", "NO", "N/A"] = "NO"
    holidays: Holidays | None = None
    extra: tuple[TariffElement, ...] = ()
    _kept: dict[tuple[dt.date, dt.date], Tariff230] = PrivateAttr(default_factory=dict)

    @property
    def id(self) -> str:
        """The name, by the name that OCPI uses, at the length it allows."""
        return self.name[:36]

    def day_kind(self, day: dt.date) -> tuple[str, bool]:
        """Return the day of the week a day counts as, and whether because it is a holiday."""
        if self.holidays is not None and self.holidays.as_ != "ALL":
            known = _holidays(self.holidays.country, self.holidays.subdivision, day.year)
            if day in known:
                return _MASKS[self.holidays.as_][-1], True
        return DAYS[day.weekday()], False

    def season(self, day: dt.date) -> Season | None:
        """Return the season that has a day's prices."""
        kind, _ = self.day_kind(day)
        return next((s for s in self.schedule if s.covers(day) and kind in _MASKS[s.dow_mask]), None)

    def demand_charge(self, day: dt.date) -> Decimal:
        """Return the price per kW of the month's peak that holds on a day."""
        season = self.season(day)
        return Decimal(0) if season is None else season.demand_charge

    def resolve(self, context: Context) -> Resolved:
        """Return the OCPI tariff of the session's days.

        Raises
        ------
        TariffError
            If a day has no season.
        """
        first, last = context.days()
        tariff = self._kept.get((first, last)) or _of_days(self, first, last)
        if len(self._kept) > 1000:
            self._kept.clear()
        self._kept[first, last] = tariff
        days = [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
        special = {str(day): "holiday" for day in days if self.day_kind(day)[1]}
        return Resolved(tariff, {}, {"seasons": [_id(self.season(day)) for day in days], "holidays": special})


def _id(season: Season | None) -> str:
    return "" if season is None else season.id


def _of_days(tariff: TouTariff, first: dt.date, last: dt.date) -> Tariff230:
    tax = {} if tariff.vat is None else {"vat": tariff.vat}
    elements: list[Any] = list(tariff.extra)
    day = first
    while day <= last:
        season = tariff.season(day)
        if season is None:
            raise TariffError(f"tariff {tariff.name!r} has no prices for {day}")
        elements += season.elements(day, tax)
        day += dt.timedelta(days=1)
    return Tariff230.model_validate(
        {
            "id": tariff.id,
            "currency": tariff.currency,
            "tax_included": tariff.tax_included,
            "elements": elements,
        }
    )


@functools.cache
def _holidays(country: str, subdivision: str | None, year: int) -> frozenset[dt.date]:
    import holidays

    try:
        return frozenset(holidays.country_holidays(country, subdiv=subdivision, years=year))
    except (NotImplementedError, AttributeError) as error:
        where = f"{country}-{subdivision}" if subdivision else country
        raise TariffError(f"holidays of {where!r} are not known") from error


def _day_of_year(text: str) -> tuple[int, int]:
    month, day = (int(part) for part in text.split("-"))
    dt.date(2000, month, day)  # a leap year: 02-29 is a date; others raise
    return month, day


def _clock(hours: Decimal) -> str:
    minutes = int(hours * 60) % 1440
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def matches(data: dict[str, Any]) -> bool:
    """Whether JSON data looks like a time-of-use schedule."""
    return "schedule" in data


def read(data: dict[str, Any]) -> TouTariff:
    """Return the schedule that JSON data describes.

    Raises
    ------
    TariffError
        If it is none: every departure is listed with its place.
    """
    try:
        return TouTariff.model_validate(data)
    except ValidationError as error:
        raise TariffError(f"tariff {data.get('name', '?')!r}: {complaints(error)}") from None

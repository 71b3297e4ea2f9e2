"""A series of energy prices over time, from whatever source, and what to do where prices are missing.

Prices are per kWh in one currency, exact. A slot has its own length: sources publish quarter hours (European
day-ahead since delivery day 2025-10-01), hours or other lengths, and the length is never assumed.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Final

import msgspec

from .tariffs._ocpi_types import TariffError

QUARTER_MS: Final = 900_000
DAY_MS: Final = 86_400_000


class Slot(msgspec.Struct, frozen=True, order=True):
    """A price per kWh from `start_ms` until `end_ms` (epoch ms). Prices may be negative."""

    start_ms: int
    end_ms: int
    price: Decimal


class PriceSeries(msgspec.Struct, frozen=True):
    """Slots in order of time without overlap, from one source, in one currency."""

    source: str
    currency: str
    slots: tuple[Slot, ...]

    @property
    def version(self) -> str:
        """A digest of the prices: the same prices have the same version, whenever they were read."""
        text = "\n".join(f"{s.start_ms} {s.end_ms} {s.price.normalize():f}" for s in self.slots)
        return hashlib.sha256(f"{self.currency}\n{text}".encode()).hexdigest()[:16]

    def at(self, time_ms: int) -> Slot | None:
        """Return the slot that covers a moment, if one does."""
        place = bisect.bisect_right(self.slots, time_ms, key=lambda slot: slot.start_ms) - 1
        if place >= 0 and self.slots[place].start_ms <= time_ms < self.slots[place].end_ms:
            return self.slots[place]
        return None


def make_series(source: str, currency: str, slots: Iterable[Slot]) -> PriceSeries:
    """Return a series of slots in any order; the same slot twice counts once.

    Raises
    ------
    TariffError
        If a slot ends before it begins, or two say different prices for the same time.
    """
    ordered = sorted(set(slots))
    for slot in ordered:
        if slot.end_ms <= slot.start_ms:
            raise TariffError(f"{source}: price slot at {slot.start_ms} ends at {slot.end_ms}")
    for before, after in pairwise(ordered):
        if after.start_ms < before.end_ms:
            raise TariffError(
                f"{source}: prices {before.price} and {after.price} overlap at {after.start_ms} (epoch ms)"
            )
    if len(currency) != 3:
        raise TariffError(f"{source}: currency {currency!r} is not of three letters")
    return PriceSeries(source, currency.upper(), tuple(ordered))


def merged(series: list[PriceSeries]) -> PriceSeries:
    """Return several series of one currency as one.

    Raises
    ------
    TariffError
        If currencies differ or prices contradict each other.
    """
    currencies = {one.currency for one in series}
    if len(currencies) != 1:
        raise TariffError(
            f"prices in {', '.join(sorted(currencies)) or 'no currency'}: expected one currency"
        )
    sources = "+".join(dict.fromkeys(one.source for one in series))
    return make_series(sources, currencies.pop(), (slot for one in series for slot in one.slots))


class Found(msgspec.Struct, frozen=True):
    """A price and where it comes from: ``market`` or the fallback rule that gave it."""

    price: Decimal
    origin: str


FALLBACKS: Final = ("previous_day", "previous_week", "mean", "fixed")


def price_at(
    series: PriceSeries | None, time_ms: int, fallback: Iterable[str], fixed: Decimal | None
) -> Found:
    """Return the price at a moment; where none is known, by the first fallback that knows one.

    ``previous_day`` and ``previous_week`` take the price 24 h or 7 days before, ``mean`` the mean of the 24 h
    before, weighted by time, ``fixed`` the amount given.

    Raises
    ------
    TariffError
        If no rule knows a price: nothing is invented.
    """
    slot = series.at(time_ms) if series is not None else None
    if slot is not None:
        return Found(slot.price, "market")
    rules = tuple(fallback)
    for rule in rules:
        price: Decimal | None = None
        if rule == "fixed":
            price = fixed
        elif series is not None and rule == "mean":
            price = _mean(series, time_ms - DAY_MS, time_ms)
        elif series is not None:
            earlier = series.at(time_ms - (DAY_MS if rule == "previous_day" else 7 * DAY_MS))
            price = None if earlier is None else earlier.price
        if price is not None:
            return Found(price, rule)
    words = ", ".join(rules) or "none"
    raise TariffError(f"no price at {time_ms} (epoch ms), and no fallback knows one: {words}")


def _mean(series: PriceSeries, start_ms: int, end_ms: int) -> Decimal | None:
    weight = 0
    total = Decimal(0)
    for slot in series.slots:
        length = min(slot.end_ms, end_ms) - max(slot.start_ms, start_ms)
        if length > 0:
            weight += length
            total += slot.price * length
    return (total / weight).quantize(Decimal("0.00000001")) if weight else None

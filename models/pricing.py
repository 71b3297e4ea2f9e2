"""Price of a charging session: exact, line by line, by the rules of OCPI 2.2.1 and 2.3.0 and of OCPP 2.1.

How a price is made
-------------------
1. Restrictions are evaluated in the location's time zone, at the start of each charging period.
2. For each period and each dimension separately, the first element in list order that has a component of
   the dimension and whose restrictions hold wins. None: the dimension is free in that period.
3. FLAT counts once a session, the first that becomes active; likewise the flat fee of a reservation.
4. Volume times price, with integers over a common denominator: nothing is rounded.
5. step_size rounds the session's priced total up, once, by the last component used; the difference goes to
   its last period. If parking was priced, time is not rounded. OCPP tariffs have no steps.
6. Net and gross are summed separately and clamped independently by min_price and max_price. A limit that
   names no gross amount clamps net only.
7. Money is rounded once, half up, to the currency's minor unit; the exact fraction is kept.

Sources: OCPI mod_tariffs and mod_cdrs with the clarifications ocpi/ocpi#396, #423, #494, #546; FLAT as in
TandemDrive's ocpi-tariffs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from ._pricing_core import Draft, Period, Session, Sums, add_up
from ._pricing_rules import (
    DIMENSIONS,
    ENERGY,
    FIXED,
    MS_PER_HOUR,
    RESERVATION,
    CompiledTariff,
    compile_tariff,
)
from .tariffs._ocpi_types import TariffError
from .tariffs.ocpp21 import OcppTariff

__all__ = [
    "CompiledTariff",
    "Line",
    "Period",
    "Price",
    "Session",
    "TariffError",
    "compile_tariff",
    "minor_unit",
    "plain",
    "price",
]

#: Minor units (decimals) of the currencies of ISO 4217 that have not two.
MINOR_UNITS: Final = dict.fromkeys(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF",
     "XPF"), 0
) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)  # fmt: skip


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a bill. `element` and `component` index the tariff; None = no price applied, it is free.

    Volumes in kWh, h or times (fixed); amounts exact.
    """

    period: int | None
    start_ms: int | None
    end_ms: int | None
    dimension: str
    element: int | None
    component: int | None
    volume: Fraction
    billed: Fraction
    unit: str
    price: Decimal | None
    tax: str
    net: Fraction
    gross: Fraction
    rule: str

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON data: the price as it is, volumes and amounts with 6 decimals at most.

        An amount that is longer is given as a fraction too: these add up to the totals exactly.
        """
        fractions = {
            f"{side}_fraction": str(amount)
            for side, amount in (("excl", self.net), ("incl", self.gross))
            if 10**6 % amount.denominator
        }
        return {
            "period": self.period,
            "start": None if self.start_ms is None else _utc(self.start_ms),
            "end": None if self.end_ms is None else _utc(self.end_ms),
            "dimension": self.dimension,
            "element": self.element,
            "component": self.component,
            "volume": plain(self.volume),
            "billed_volume": plain(self.billed),
            "unit": self.unit,
            "price": None if self.price is None else exact_text(self.price),
            "tax": self.tax,
            "excl": plain(self.net),
            "incl": plain(self.gross),
            "rule": self.rule,
        } | fractions


class Price:
    """The price of one session; sums are integers over `tariff.scale` until somebody asks for more.

    `lines` add up to the totals exactly: where a limit applies, it is a line of its own.
    """

    __slots__ = ("_sums", "session", "tariff")

    def __init__(self, tariff: CompiledTariff, session: Session, sums: Sums) -> None:
        self.tariff = tariff
        self.session = session
        self._sums = sums

    @property
    def net(self) -> Fraction:
        """Total without tax, exact."""
        return Fraction(self._sums.net_limited, self.tariff.scale)

    @property
    def gross(self) -> Fraction:
        """Total with tax, exact."""
        return Fraction(self._sums.gross_limited, self.tariff.scale)

    @property
    def net_rounded(self) -> Decimal:
        """Total without tax in the currency's minor unit, rounded half up."""
        return _half_up(self._sums.net_limited, self.tariff.scale, minor_unit(self.tariff.currency))

    @property
    def gross_rounded(self) -> Decimal:
        """Total with tax in the currency's minor unit, rounded half up."""
        return _half_up(self._sums.gross_limited, self.tariff.scale, minor_unit(self.tariff.currency))

    @property
    def by_dimension(self) -> dict[str, tuple[Fraction, Fraction]]:
        """(net, gross) of each dimension that a component applied to, before min_price and max_price."""
        scale = self.tariff.scale
        return {
            DIMENSIONS[d]: (Fraction(net, scale), Fraction(gross, scale))
            for d, (net, gross) in sorted(self._sums.by_dimension.items())
        }

    def limited(self) -> dict[str, str]:
        """Return which limit holds net and gross: ``{"net": "max_price"}``; empty where none does."""
        sums = self._sums
        pairs = {"net": (sums.net, sums.net_limited), "gross": (sums.gross, sums.gross_limited)}
        return {
            name: "min_price" if after > before else "max_price"
            for name, (before, after) in pairs.items()
            if before != after
        }

    def lines(self) -> list[Line]:
        """Return the lines in order of periods, then what the limits add or take away."""
        return [*(_line(self, draft) for draft in self._sums.lines), *_limit_lines(self)]

    def to_json(self) -> dict[str, Any]:
        """Return the price as JSON data: totals exact (6 decimals at most, and as a fraction) and rounded."""
        return {
            "total_excl_exact": plain(self.net),
            "total_incl_exact": plain(self.gross),
            "total_excl": f"{self.net_rounded:f}",
            "total_incl": f"{self.gross_rounded:f}",
            "by_dimension": {d: [plain(net), plain(gross)] for d, (net, gross) in self.by_dimension.items()},
            "lines": [line.to_json() for line in self.lines()],
            "currency": self.tariff.currency,
            "tariff_id": self.tariff.id,
            "total_excl_fraction": str(self.net),
            "total_incl_fraction": str(self.gross),
            "limited": self.limited(),
        }


def price(tariff: CompiledTariff, session: Session) -> Price:
    """Return the price of a session.

    Parameters
    ----------
    tariff : CompiledTariff
    session : Session
        Its periods in order of time, each beginning where a price may change.

    Raises
    ------
    TariffError
        If there are no periods or they are not in order of time.
    """
    periods = session.periods
    if not periods:
        raise TariffError("a session without charging periods has no price")
    before = periods[0].start_ms
    for period in periods:
        if period.start_ms < before or period.end_ms < period.start_ms:
            raise TariffError(f"charging period at {_utc(period.start_ms)}: not in order of time")
        before = period.start_ms
    return Price(tariff, session, add_up(tariff, session))


def minor_unit(currency: str) -> int:
    """Return how many decimals a currency has (ISO 4217)."""
    return MINOR_UNITS.get(currency, 2)


def rounded(amount: Fraction, decimals: int) -> Decimal:
    """Return an exact amount rounded half up (away from zero at the tie) to so many decimals."""
    return _half_up(amount.numerator, amount.denominator, decimals)


def _half_up(numerator: int, denominator: int, decimals: int) -> Decimal:
    whole = (2 * abs(numerator) * 10**decimals + denominator) // (2 * denominator)
    return Decimal(-whole if numerator < 0 else whole).scaleb(-decimals)


def plain(amount: Fraction, decimals: int = 6) -> str:
    """Return an exact amount as the shortest decimal text, half up at so many decimals where it is longer."""
    text = f"{rounded(amount, decimals):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def exact_text(price: Decimal) -> str:
    """Return a price with all its decimals and no needless zeros."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(ms: int) -> str:
    whole, rest = divmod(ms, 1000)
    text = dt.datetime.fromtimestamp(whole, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:03d}Z" if rest else "Z")


def _line(whole: Price, draft: Draft) -> Line:
    period = whole.session.periods[draft.period]
    found = draft.candidate
    flat = found is not None and found.dimension == FIXED
    scale = whole.tariff.scale
    unit, per = ("kWh", whole.tariff.kwh_units) if draft.dimension == ENERGY else ("h", MS_PER_HOUR)
    if flat:
        unit, per = "times", 1
    per_minute = isinstance(whole.tariff.source, OcppTariff) and unit == "h"
    return Line(
        period=draft.period,
        start_ms=period.start_ms,
        end_ms=period.end_ms,
        dimension=DIMENSIONS[draft.dimension],
        element=None if found is None else found.element,
        component=None if found is None else found.component,
        volume=Fraction(draft.volume, per),
        billed=Fraction(draft.billed, per),
        unit=unit,
        price=None if found is None else found.price * 60 if per_minute else found.price,
        tax="" if found is None else found.tax,
        net=Fraction(0) if found is None else Fraction(found.net * draft.billed, scale),
        gross=Fraction(0) if found is None else Fraction(found.gross * draft.billed, scale),
        rule=_rule(whole, draft, period),
    )


def _rule(whole: Price, draft: Draft, period: Period) -> str:
    """Return in words why this price applies."""
    name = DIMENSIONS[draft.dimension]
    local = dt.datetime.fromtimestamp(period.start_ms // 1000, whole.tariff.zone).strftime(
        "%a %Y-%m-%d %H:%M:%S"
    )
    article = "an" if name[0] in "aeiou" else "a"
    found = draft.candidate
    if found is None:
        return f"no element has an active {name} price at {local}: free"
    if found.condition is None:
        words = f"element {found.element} is the first with {article} {name} price and has no restrictions"
    else:
        words = (
            f"element {found.element} is the first with {article} {name} price whose restrictions "
            f"({found.condition.text}) hold at {local}"
        )
    if found.dimension == FIXED:
        words += "; once a session"
    if draft.dimension == RESERVATION:
        words += "; reservation " + ("expired unused" if whole.session.expired else "used")
    if draft.billed != draft.volume:
        step = (
            found.step * 1000 // whole.tariff.kwh_units if draft.dimension == ENERGY else found.step // 1000
        )
        size = f"{step} {'Wh' if draft.dimension == ENERGY else 's'}"
        words += f"; the session's total is rounded up to a multiple of step_size {size}, here"
    return words


def _limit_lines(whole: Price) -> Iterator[Line]:
    sums, scale = whole._sums, whole.tariff.scale
    held = whole.limited()
    for name in ("min_price", "max_price"):
        net = sums.net_limited - sums.net if held.get("net") == name else 0
        gross = sums.gross_limited - sums.gross if held.get("gross") == name else 0
        if net or gross:
            words = " and ".join(part for part in ("net", "gross") if held.get(part) == name)
            yield Line(
                period=None,
                start_ms=None,
                end_ms=None,
                dimension=name,
                element=None,
                component=None,
                volume=Fraction(1),
                billed=Fraction(1),
                unit="times",
                price=None,
                tax="",
                net=Fraction(net, scale),
                gross=Fraction(gross, scale),
                rule=f"{name} of the tariff holds {words}",
            )

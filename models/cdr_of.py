"""The OCPI CDR of a rated transaction, in the version that a partner speaks."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

import msgspec

from ._pricing_core import Period
from .cdr import Cdr, Cdr221, Cdr230, CdrLocation, CdrToken, SignedData, correct, read_cdr
from .pricing import Line, Price, minor_unit, rounded
from .rating import Rated
from .tariffs._ocpi_types import TariffError, loads
from .tariffs.ocpi import Price221, PriceLimit, Tariff221, Tariff230

Version = Literal["2.2.1", "2.3.0"]
#: OCPI writes numbers with four decimals.
DECIMALS: Final = 4
_COSTS: Final = {
    "fixed": "total_fixed_cost",
    "energy": "total_energy_cost",
    "time": "total_time_cost",
    "parking": "total_parking_cost",
    "reservation": "total_reservation_cost",
}


class CdrIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who, where and by what authority: everything in a CDR that pricing does not know."""

    country_code: str
    party_id: str
    id: str
    token: CdrToken
    auth_method: str
    location: CdrLocation
    last_updated: dt.datetime
    session_id: str | None = None
    authorization_reference: str | None = None
    meter_id: str | None = None
    signed_data: SignedData | None = None
    remark: str | None = None


def cdr_of(rated: Rated, identity: CdrIdentity, version: Version = "2.2.1") -> Cdr:
    """Return the CDR of a rated transaction.

    The total is money, rounded once; the costs by dimension have four decimals and are before min_price and
    max_price. Energy is exact, hours have four decimals.

    Raises
    ------
    TariffError
        If the tariff's prices cannot be written in that version.
    """
    price, periods = rated.price, rated.session.periods
    charged = [p for p in periods if p.reservation_ms is None]
    parking_ms = sum(p.parking_ms or 0 for p in charged)
    length_ms = sum(p.end_ms - p.start_ms for p in charged)
    tariff_id = price.tariff.id[:36]
    data: dict[str, Any] = {
        "country_code": identity.country_code,
        "party_id": identity.party_id,
        "id": identity.id,
        "start_date_time": _time(periods[0].start_ms),
        "end_date_time": _time(periods[-1].end_ms),
        "session_id": identity.session_id,
        "cdr_token": identity.token,
        "auth_method": identity.auth_method,
        "authorization_reference": identity.authorization_reference,
        "cdr_location": identity.location,
        "meter_id": identity.meter_id,
        "currency": price.tariff.currency,
        "tariffs": _tariffs(price, version, identity),
        "charging_periods": [
            {
                "start_date_time": _time(p.start_ms),
                "dimensions": list(_dimensions(p, price.tariff.kwh_units)),
                "tariff_id": tariff_id,
            }
            for p in periods
        ],
        "signed_data": identity.signed_data,
        "total_cost": _total(price, version),
        "total_energy": _kwh(sum(p.energy or 0 for p in charged), price.tariff.kwh_units),
        "total_time": _hours(length_ms),
        "total_parking_time": _hours(parking_ms),
        "remark": identity.remark,
        "last_updated": identity.last_updated,
    }
    lines = price.lines()
    for dimension, field in _COSTS.items():
        own = [line for line in lines if line.element is not None and _belongs(price, line) == dimension]
        if own:
            data[field] = _cost(own, version)
    return Cdr221.model_validate(data) if version == "2.2.1" else Cdr230.model_validate(data)


def _belongs(price: Price, line: Line) -> str:
    """Return the cost a line counts in: the flat part of a parking element is part of parking."""
    source = price.tariff.source
    if line.dimension == "fixed" and isinstance(source, Tariff221 | Tariff230) and line.element is not None:
        others = {c.type for c in source.elements[line.element].price_components} - {"FLAT"}
        if others == {"PARKING_TIME"}:
            return "parking"
    return line.dimension


def _dimensions(period: Period, kwh_units: int) -> Iterable[dict[str, Any]]:
    if period.energy is not None:
        yield {"type": "ENERGY", "volume": _kwh(period.energy, kwh_units)}
    times = {
        "TIME": period.charging_ms,
        "PARKING_TIME": period.parking_ms,
        "RESERVATION_TIME": period.reservation_ms,
    }
    for name, length_ms in times.items():
        if length_ms is not None:
            yield {"type": name, "volume": _hours(length_ms)}
    bands = {
        "MIN_CURRENT": period.min_current,
        "MAX_CURRENT": period.max_current,
        "MIN_POWER": period.min_power,
        "MAX_POWER": period.max_power,
    }
    for name, value in bands.items():
        if value is not None:
            yield {"type": name, "volume": rounded(Fraction(value), DECIMALS)}


def _total(price: Price, version: Version) -> dict[str, Any]:
    net, gross = price.net_rounded, price.gross_rounded
    if version == "2.2.1":
        return {"excl_vat": net, "incl_vat": gross}
    if price.limited():
        return {
            "before_taxes": net,
            "taxes": [{"name": "VAT", "amount": gross - net}] if gross != net else [],
        }
    lines = [line for line in price.lines() if line.element is not None]
    return {"before_taxes": net, "taxes": _taxes(lines, gross - net, minor_unit(price.tariff.currency))}


def _cost(lines: list[Line], version: Version) -> dict[str, Any]:
    net = rounded(sum((line.net for line in lines), Fraction(0)), DECIMALS)
    gross = rounded(sum((line.gross for line in lines), Fraction(0)), DECIMALS)
    if version == "2.2.1":
        return {"excl_vat": net, "incl_vat": gross}
    return {"before_taxes": net, "taxes": _taxes(lines, gross - net, DECIMALS)}


def _taxes(lines: list[Line], whole: Decimal, decimals: int) -> list[dict[str, Any]]:
    """Return taxes by rate; the last one bears what rounding leaves, so that they add up to the whole."""
    by_rate: dict[str, Fraction] = {}
    for line in lines:
        if line.gross != line.net:
            by_rate[line.tax] = by_rate.get(line.tax, Fraction(0)) + line.gross - line.net
    made = []
    rest = whole
    for place, (words, amount) in enumerate(sorted(by_rate.items())):
        part = rest if place == len(by_rate) - 1 else rounded(amount, decimals)
        rest -= part
        rate = words.split(" % ")[0] if words.count(" % VAT") == 1 else None
        made.append({"name": "VAT", "amount": part, "percentage": rate and Decimal(rate)})
    return made


def _tariffs(price: Price, version: Version, identity: CdrIdentity) -> list[Tariff221] | list[Tariff230]:
    """Return the tariff in OCPI's spelling; one made for this session is ours and of its start."""
    source = price.tariff.source
    if not isinstance(source, Tariff221 | Tariff230):
        return []  # a tariff of OCPP has no spelling in OCPI
    own = {
        "country_code": identity.country_code,
        "party_id": identity.party_id,
        "last_updated": _time(price.session.periods[0].start_ms),
    }
    source = source.model_copy(update={n: v for n, v in own.items() if getattr(source, n) is None})
    return [to_221(source)] if version == "2.2.1" else [to_230(source)]


def to_221(tariff: Tariff221 | Tariff230) -> Tariff221:
    """Return a tariff in the spelling of 2.2.1.

    Raises
    ------
    TariffError
        If its prices hold tax: without it they need not have an end in decimals.
    """
    if isinstance(tariff, Tariff221):
        return tariff
    if tariff.tax == "YES" and any(c.vat for e in tariff.elements for c in e.price_components):
        raise TariffError(f"tariff {tariff.id!r} has prices with tax included: OCPI 2.2.1 cannot say that")
    data = {name: value for name, value in tariff if name not in {"tax_included", "preauthorize_amount"}}
    for name in ("min_price", "max_price"):
        limit = data.get(name)
        if limit is not None:
            data[name] = Price221(excl_vat=limit.before_taxes, incl_vat=limit.after_taxes)
    return Tariff221.model_validate(data)


def to_230(tariff: Tariff221 | Tariff230) -> Tariff230:
    """Return a tariff in the spelling of 2.3.0."""
    if isinstance(tariff, Tariff230):
        return tariff
    data: dict[str, Any] = dict(tariff) | {"tax_included": "NO"}
    for name in ("min_price", "max_price"):
        limit = data.get(name)
        if limit is not None:
            data[name] = PriceLimit(before_taxes=limit.excl_vat, after_taxes=limit.incl_vat)
    return Tariff230.model_validate(data)


def _kwh(units: int, kwh_units: int) -> Decimal:
    return Decimal(units) / Decimal(kwh_units)


def _hours(ms: int) -> Decimal:
    return rounded(Fraction(ms, 3_600_000), DECIMALS)


def _time(ms: int) -> dt.datetime:
    whole, rest = divmod(ms, 1000)
    return dt.datetime.fromtimestamp(whole, dt.UTC) + dt.timedelta(milliseconds=rest)


def cdr_id(site: str, station: str, transaction_id: str, revision: int) -> str:
    """Return the id of a transaction's CDR: the same for the same revision, whenever it is made."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"cdr/{site}/{station}/{transaction_id}/{revision}"))


def cdr_text(cdr: Cdr) -> str:
    """Return a CDR as JSON text, numbers as exact as they are: the form in which it is kept and sent."""
    return cdr.model_dump_json(exclude_none=True)


def revised(sent: str | None, new: Cdr, now: dt.datetime) -> tuple[Cdr, ...]:
    """Return what to send after a transaction was priced again; `sent` is the text of its bill.

    Nothing sent yet: the new CDR. Sent, and the same but for id, time of update and address: nothing.
    Otherwise the credit of the sent one and the new one.

    Raises
    ------
    TariffError
        If the new CDR keeps the id of the one that it corrects.
    """
    if sent is None:
        return (new,)
    old = read_cdr(loads(sent))
    same = {"id": old.id, "last_updated": old.last_updated, "cdr_location": old.cdr_location}
    return () if cdr_text(new.model_copy(update=same)) == sent else correct(old, new, now)

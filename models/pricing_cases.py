"""Sessions to be priced as they come in files: priced cases, OCPI CDRs and OCPI Sessions.

Time is taken from timestamps, not from hour volumes: at four decimals an hour is 0.36 s coarse, and
5 min written as 0.0834 h would be stepped from 300 to 600 s. Only where a period's volume and its
timestamps disagree by more than writing to three decimals explains, the volume is taken, to the second.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from ._pricing_core import Period, Session
from ._pricing_rules import MWH_PER_KWH, CompiledTariff, compile_tariff
from ._split_periods import split_periods
from .pricing import plain, price
from .tariffs import read as read_tariff
from .tariffs._ocpi_types import TariffError, exact, read_time, write_time
from .tariffs.ocpi import Tariff221, Tariff230
from .tariffs.ocpp21 import OcppTariff

#: Half a unit in the third decimal of an hour.
TOLERANCE_MS: Final = 1800
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TIMES: Final = {"TIME": "charging_ms", "PARKING_TIME": "parking_ms", "RESERVATION_TIME": "reservation_ms"}
_BANDS: Final = {
    "MIN_CURRENT": "min_current",
    "MAX_CURRENT": "max_current",
    "MIN_POWER": "min_power",
    "MAX_POWER": "max_power",
}


class Prepared(NamedTuple):
    """A session and the tariff it is to be priced with; `remarks` say what was not as it should be."""

    id: str
    tariff: CompiledTariff
    session: Session
    remarks: list[str]


def read_case(case: dict[str, Any], resolve: Callable[[str], Any]) -> Prepared:
    """Return what one case of a case file asks to be priced.

    Parameters
    ----------
    case : dict
        ``id``, ``tariff``, ``time_zone``, ``charging_periods``, ``end_date_time`` and, if there was a
        reservation, ``reservation_outcome``. `tariff` is a reference, an object, or a list of these: the
        first that is valid at the start applies.
    resolve : callable
        Reference (a path, or path#pointer) -> JSON data.

    Raises
    ------
    TariffError
        If something is missing or wrong.
    """
    given = _field(case, "tariff")
    tariffs = [
        read_tariff(resolve(item) if isinstance(item, str) else item)
        for item in (given if isinstance(given, list) else [given])
    ]
    zone = case.get("time_zone") or "UTC"
    return _prepare(str(case.get("id", "")), tariffs, zone, case)


def read_cdr(
    cdr: dict[str, Any], tariffs: list[dict[str, Any]] | None = None, time_zone: str = "UTC"
) -> Prepared:
    """Return what an OCPI CDR asks to be priced; without `tariffs`, by the tariffs it carries.

    A CDR has no time zone: the caller must know the location's.

    Raises
    ------
    TariffError
        If something is missing or wrong, or no tariff was valid when the session started.
    """
    name = str(cdr.get("id", ""))
    if tariffs:
        return _prepare(name, [read_tariff(t) for t in tariffs], time_zone, cdr)
    own = [read_tariff(t) for t in cdr.get("tariffs") or []]
    if not own:
        raise TariffError(f"CDR {name!r} carries no tariff: give one")
    rows = cdr.get("charging_periods") or []
    named = {str(row["tariff_id"]).lower() for row in rows if isinstance(row, dict) and row.get("tariff_id")}
    if len(named) > 1:
        raise TariffError(f"CDR {name!r} has tariffs {', '.join(sorted(named))}: price its parts apart")
    if named:
        (wanted,) = named
        own = [t for t in own if t.id.lower() == wanted]
        if not own:
            raise TariffError(f"CDR {name!r}: its periods name tariff {wanted!r}, which it does not carry")
        free = [{**row, "dimensions": _unpriced(row)} for row in rows if row.get("tariff_id") is None]
        places = {row["start_date_time"]: row for row in free}
        cdr = {**cdr, "charging_periods": [places.get(row["start_date_time"], row) for row in rows]}
    return _prepare(name, own, time_zone, cdr)


def _unpriced(row: dict[str, Any]) -> list[Any]:
    """Return the dimensions of a period to which no tariff applies: none has a price."""
    kept = [d for d in _field(row, "dimensions") if d.get("type") in _BANDS]
    return kept or [{"type": "MAX_POWER", "volume": 0}]


def _prepare(name: str, tariffs: list[Any], time_zone: str, data: dict[str, Any]) -> Prepared:
    rows = _field(data, "charging_periods")
    if not isinstance(rows, list) or not rows:
        raise TariffError(f"{name or 'session'}: charging_periods: expected a list of at least one")
    ordinary = [t for t in tariffs if isinstance(t, Tariff221 | Tariff230 | OcppTariff)]
    if len(ordinary) < len(tariffs):
        raise TariffError(f"{name}: this kind of tariff needs prices or a site's load besides the periods")
    try:
        start = read_time(_field(rows[0], "start_date_time"))
        tariff = next((t for t in ordinary if t.valid_at(start)), None)
        if tariff is None:
            names = ", ".join(repr(t.id) for t in ordinary)
            raise TariffError(f"no tariff was valid at {write_time(start)}: of {names}")
        units = _energy_units(rows)
        remarks: list[str] = []
        session = _session(rows, data, units, remarks)
    except ValueError as error:
        raise TariffError(f"{name or 'session'}: {error}") from error
    currency = data.get("currency")
    if currency and currency.upper() != tariff.currency.upper():
        raise TariffError(f"{name}: currency is {currency}, that of the tariff {tariff.currency}")
    compiled = compile_tariff(tariff, time_zone, kwh_units=units)
    cut = split_periods(compiled, session)
    if isinstance(tariff, OcppTariff):
        return Prepared(name, compiled, cut, remarks)
    if len(cut.periods) > len(session.periods):
        remarks += _crossing(compiled, session, cut)
    return Prepared(name, compiled, session, remarks)


def _crossing(tariff: CompiledTariff, session: Session, cut: Session) -> list[str]:
    """Return what to say of periods over which the tariff switches: OCPI prices them as of their start."""
    as_given, apart = price(tariff, session), price(tariff, cut)
    if as_given.net == apart.net:
        return []
    return [
        "the tariff switches within charging periods, which are priced as of their start: cut there, "
        f"the total would be {plain(apart.net)} instead of {plain(as_given.net)} without tax"
    ]


def _session(rows: list[Any], data: dict[str, Any], units: int, remarks: list[str]) -> Session:
    starts = [_ms(read_time(_field(row, "start_date_time"))) for row in rows]
    last_s = rows[-1].get("duration_s")
    if data.get("end_date_time") is not None:
        starts.append(_ms(read_time(data["end_date_time"])))
    elif last_s is not None:
        starts.append(starts[-1] + _seconds(last_s))
    else:
        raise TariffError("end_date_time is missing: the last period has no end")
    periods = tuple(
        _period(row, starts[i], starts[i + 1], units, f"charging_periods.{i}", remarks)
        for i, row in enumerate(rows)
    )
    outcome = data.get("reservation_outcome")
    if outcome not in (None, "used", "expired"):
        raise TariffError(f"reservation_outcome is {outcome!r}: expected used or expired")
    reserved = [p.reservation_ms is not None for p in periods]
    expired = outcome == "expired" or (outcome is None and all(reserved))
    return Session(
        periods=periods,
        expired=expired,
        evse_kind=data.get("evse_kind"),
        payment_brand=data.get("payment_brand"),
        payment_recognition=data.get("payment_recognition"),
    )


def _period(
    row: dict[str, Any], start_ms: int, end_ms: int, units: int, place: str, remarks: list[str]
) -> Period:
    given_s = row.get("duration_s")
    length_ms = end_ms - start_ms if given_s is None else _seconds(given_s)
    if length_ms < 0 or end_ms < start_ms:
        raise TariffError(f"{place}: ends before it begins")
    energy: int | None = None
    hours: dict[str, Decimal] = {}
    bands: dict[str, Decimal] = {}
    for entry in _field(row, "dimensions"):
        kind, volume = _field(entry, "type"), exact(_field(entry, "volume"))
        if kind == "ENERGY":
            energy = (energy or 0) + int(volume * units)
        elif kind in _TIMES:
            if volume < 0:
                raise TariffError(f"{place}: {kind} is {volume} h: expected no negative time")
            hours[_TIMES[kind]] = hours.get(_TIMES[kind], Decimal(0)) + volume
        elif kind in _BANDS:
            bands[_BANDS[kind]] = volume
    times = _durations(hours, length_ms, given_s is not None, place, remarks)
    return Period(
        start_ms=start_ms,
        end_ms=end_ms,
        energy=energy,
        charging_ms=times.get("charging_ms"),
        parking_ms=times.get("parking_ms"),
        reservation_ms=times.get("reservation_ms"),
        min_current=bands.get("min_current"),
        max_current=bands.get("max_current"),
        min_power=bands.get("min_power"),
        max_power=bands.get("max_power"),
    )


def _durations(
    hours: dict[str, Decimal], length_ms: int, stated: bool, place: str, remarks: list[str]
) -> dict[str, int]:
    """Return time dimensions in ms: from timestamps where they agree with the volumes."""
    present = [name for name, volume in hours.items() if volume]
    written = {name: _to_second(volume) for name, volume in hours.items()}
    if len(present) == 1:
        (name,) = present
        if stated or abs(length_ms - int(hours[name] * 3_600_000)) <= TOLERANCE_MS:
            return written | {name: length_ms}
    elif present and abs(length_ms - sum(written.values())) <= TOLERANCE_MS * len(present):
        rest = length_ms - sum(written.values())
        longest = max(present, key=lambda name: written[name])
        return written | {longest: written[longest] + rest}
    if present:
        remarks.append(
            f"{place}: volumes say {sum(written.values()) // 1000} s, timestamps {length_ms // 1000} s: "
            "the volumes are priced"
        )
    return written


def _to_second(hours: Decimal) -> int:
    """Return hours in ms; an amount written to few decimals means a whole second."""
    ms = hours * 3_600_000
    fine = -int(hours.as_tuple().exponent) > 4
    return round(ms) if fine else round(ms / 1000) * 1000


def _energy_units(rows: list[Any]) -> int:
    """Return units per kWh in which every energy volume is a whole number; mWh unless finer ones occur."""
    places = [
        -int(exact(entry["volume"]).normalize().as_tuple().exponent)
        for row in rows
        for entry in _field(row, "dimensions")
        if entry.get("type") == "ENERGY"
    ]
    units: int = 10 ** max(0, *places, 6)
    return max(units, MWH_PER_KWH)


def _field(data: Any, name: str) -> Any:
    if not isinstance(data, dict) or data.get(name) is None:
        raise TariffError(f"{name} is missing")
    return data[name]


def _seconds(value: Any) -> int:
    ms = exact(value) * 1000
    if ms != ms.to_integral_value():
        raise TariffError(f"duration_s is {value}: finer than a millisecond")
    return int(ms)


def _ms(time: dt.datetime) -> int:
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)

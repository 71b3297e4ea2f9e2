"""A bill under any tariff: what the tariff was for this session, the price, and the snapshot to keep.

Tariffs whose prices depend on time, market or site are resolved when the session is priced: into an OCPI
tariff that holds for this session, and into facts (prices used and where each comes from, occupancy, season).
Both are the snapshot kept with the bill, so that it can be checked and priced again without any source.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from .market_prices import PriceSeries
from .pricing import CompiledTariff, compile_tariff
from .rating import Rated, Transaction, rate
from .tariffs._dynamic import Context, Resolved, digest, resolved
from .tariffs._ocpi_types import TariffError, read_time, write_time
from .tariffs.adaptive import AdaptiveTariff
from .tariffs.ocpi import Tariff221, Tariff230
from .tariffs.ocpp21 import OcppTariff

__all__ = ["Bill", "Biller", "Context", "PriceSeries", "Snapshot", "Succession"]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a bill was made with: `version` digests the tariff as configured, `tariff` is as it was used."""

    tariff_id: str
    kind: str
    version: str
    time_zone: str
    tariff: dict[str, Any]
    windows: dict[str, list[int]]
    facts: dict[str, Any]

    def compiled(self) -> CompiledTariff:
        """Return the tariff of the snapshot ready for pricing: it prices the session as it was priced."""
        from .tariffs import read

        windows = {int(place): (pair[0], pair[1]) for place, pair in self.windows.items()}
        return compile_tariff(read(self.tariff), self.time_zone, windows=windows)


class Bill(msgspec.Struct, frozen=True):
    """A rated transaction and what it was rated with."""

    rated: Rated
    snapshot: Snapshot


class Biller:
    """Rates transactions under one tariff at places of one time zone.

    Parameters
    ----------
    tariff : any tariff that `models.tariffs.read` returns
    time_zone : str
        IANA name.

    Raises
    ------
    TariffError
        If the time zone is not known.
    """

    def __init__(self, tariff: Any, time_zone: str) -> None:
        try:
            self._zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise TariffError(
                f"time zone {time_zone!r}: expected an IANA name such as Europe/Berlin"
            ) from error
        self.tariff = tariff
        self._time_zone = time_zone
        self.version = digest(_json(tariff))
        self.asks_site = _asks_site(tariff)
        self._plain = isinstance(tariff, Tariff221 | Tariff230 | OcppTariff)
        self._kept: dict[int, tuple[Any, CompiledTariff]] = {}

    def bill(
        self,
        transaction: Transaction,
        *,
        prices: PriceSeries | None = None,
        occupancy: float | None = None,
        site_kw: float | None = None,
        quarter_hours: bool = False,
    ) -> Bill:
        """Return the bill of a transaction; `occupancy` and `site_kw` are the site's when it started.

        Raises
        ------
        TariffError
            If a price or value that the tariff needs is not known, or the transaction cannot be rated.
        """
        found = self._resolved(transaction, prices, occupancy, site_kw)
        rated = rate(transaction, self._compiled(found), quarter_hours=quarter_hours)
        return Bill(rated, self._snapshot(found.tariff, found.windows, found.facts))

    def rated(
        self,
        transaction: Transaction,
        *,
        prices: PriceSeries | None = None,
        occupancy: float | None = None,
        site_kw: float | None = None,
    ) -> Rated:
        """Return what `bill` does, without the snapshot."""
        found = self._resolved(transaction, prices, occupancy, site_kw)
        return rate(transaction, self._compiled(found))

    def _resolved(
        self,
        transaction: Transaction,
        prices: PriceSeries | None,
        occupancy: float | None,
        site_kw: float | None,
    ) -> Resolved:
        if self._plain:
            return Resolved(self.tariff, {}, {})
        context = Context(
            start_ms=transaction.start_ms,
            end_ms=transaction.end_ms,
            zone=self._zone,
            prices=prices,
            occupancy=occupancy,
            site_kw=site_kw,
        )
        return resolved(self.tariff, context)

    def _compiled(self, found: Resolved) -> CompiledTariff:
        """Compile, keeping what resolves to the very same object (a day of a schedule, a static tariff)."""
        if found.windows:
            return compile_tariff(found.tariff, self._time_zone, windows=found.windows)
        kept = self._kept.get(id(found.tariff))
        if kept is None or kept[0] is not found.tariff:
            if len(self._kept) > 1024:
                self._kept.clear()
            kept = (found.tariff, compile_tariff(found.tariff, self._time_zone))
            self._kept[id(found.tariff)] = kept
        return kept[1]

    def _snapshot(self, tariff: Any, windows: dict[int, tuple[int, int]], facts: dict[str, Any]) -> Snapshot:
        return Snapshot(
            tariff_id=self.tariff.id,
            kind=type(self.tariff).__module__.rpartition(".")[2],
            version=self.version,
            time_zone=self._time_zone,
            tariff=_json(tariff),
            windows={str(place): list(pair) for place, pair in windows.items()},
            facts=facts,
        )


class Succession:
    """The tariffs of a place over time: a session has the first that was valid when it began.

    Parameters
    ----------
    tariffs : sequence
        As `models.tariffs.read` returns them, at least one.
    time_zone : str
        IANA name.

    Raises
    ------
    TariffError
        If there is none, or the time zone is not known.
    """

    def __init__(self, tariffs: Sequence[Any], time_zone: str) -> None:
        if not tariffs:
            raise TariffError("a list of tariffs: expected at least one")
        self._billers = [Biller(tariff, time_zone) for tariff in tariffs]
        self.asks_site = any(biller.asks_site for biller in self._billers)

    def at(self, start_ms: int) -> Biller:
        """Return who bills a session that began at a time.

        Raises
        ------
        TariffError
            If no tariff was valid then.
        """
        start = dt.datetime.fromtimestamp(start_ms / 1000, dt.UTC)
        for biller in self._billers:
            if _valid_at(biller.tariff, start):
                return biller
        names = ", ".join(repr(biller.tariff.id) for biller in self._billers)
        raise TariffError(f"no tariff was valid at {write_time(start)}: of {names}")

    def currency_at(self, start_ms: int | None) -> str:
        """Return the currency of a session that began at a time; where nobody knows, of the last tariff."""
        try:
            biller = self._billers[-1] if start_ms is None else self.at(start_ms)
        except TariffError:
            biller = self._billers[-1]
        return str(biller.tariff.currency)


def _valid_at(tariff: Any, time: dt.datetime) -> bool:
    """Whether a tariff holds for sessions that begin at a time; kinds of our own may have dates, too."""
    if hasattr(tariff, "valid_at"):
        return bool(tariff.valid_at(time))
    start, end = (getattr(tariff, f"{name}_date_time", None) for name in ("start", "end"))
    return (start is None or time >= read_time(start)) and (end is None or time < read_time(end))


def _json(tariff: Any) -> dict[str, Any]:
    data: dict[str, Any] = tariff.to_json()
    return data


def _asks_site(tariff: Any) -> bool:
    """Return whether a tariff, or one inside it, depends on what a site does when a session starts."""
    inner = getattr(tariff, "_inner", ())
    if isinstance(tariff, AdaptiveTariff):
        return True
    return any(
        _asks_site(each) for each in (inner if isinstance(inner, tuple) else (inner,)) if each is not None
    )


def demand_charge(tariff: Any, day: Any) -> Decimal:
    """Return what a tariff asks per kW of a month's peak on a day; 0 where it knows no demand charge."""
    charge = getattr(tariff, "demand_charge", None)
    return Decimal(0) if charge is None else charge(day)

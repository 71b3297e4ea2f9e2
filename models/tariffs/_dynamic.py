"""What tariffs have in common that become an OCPI tariff only when a session is known."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from ._ocpi_types import TariffError
from .ocpi import Tariff221, Tariff230

if TYPE_CHECKING:
    from models.market_prices import PriceSeries


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when a session is priced.

    Parameters
    ----------
    start_ms, end_ms : int
        The session, epoch ms.
    zone : ZoneInfo
        The location's.
    prices : PriceSeries, optional
        Market prices known.
    occupancy : float, optional
        Share of the site's EVSEs that were in use when the session started, 0 to 1, itself not counted.
    site_kw : float, optional
        Power of the site when the session started.
    """

    start_ms: int
    end_ms: int
    zone: ZoneInfo
    prices: PriceSeries | None = None
    occupancy: float | None = None
    site_kw: float | None = None

    def days(self) -> tuple[dt.date, dt.date]:
        """The first and the last local day of the session."""
        first, last = (
            dt.datetime.fromtimestamp(ms // 1000, self.zone).date() for ms in (self.start_ms, self.end_ms)
        )
        return first, last


class Resolved(msgspec.Struct, frozen=True):
    """A tariff as it was for one session.

    `windows` limits elements to absolute times (see `compile_tariff`); `facts` is what decided, for the
    snapshot that is kept with the bill.
    """

    tariff: Tariff221 | Tariff230
    windows: dict[int, tuple[int, int]]
    facts: dict[str, Any]


def nested(data: Any, place: str) -> Any:
    """Return the tariff inside another one.

    Raises
    ------
    TariffError
        If there is none, or it is one of OCPP, which has no elements.
    """
    from . import read

    if not isinstance(data, dict):
        raise TariffError(f"{place}: expected a tariff")
    tariff = read(data)
    if not (isinstance(tariff, Tariff221 | Tariff230) or hasattr(tariff, "resolve")):
        raise TariffError(f"{place}: a tariff of OCPP cannot stand inside another one")
    return tariff


def resolved(tariff: Any, context: Context) -> Resolved:
    """Return any tariff as it is for one session."""
    if isinstance(tariff, Tariff221 | Tariff230):
        return Resolved(tariff, {}, {})
    resolve: Callable[[Context], Resolved] = tariff.resolve
    return resolve(context)


def digest(data: Any) -> str:
    """Return a short digest of JSON data: the version of a tariff."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

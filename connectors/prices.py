"""Energy prices from files and servers: CSV, and answers shaped like aWATTar's, Tibber's and ENTSO-E's.

Every shape becomes a `PriceSeries` per kWh. Lengths of slots come from the data: an end stamp, the next
start, or the resolution a document declares; where a list only has starts, its last slot is as long as the
shortest. Sources: published schemas of the three services; a day-ahead day has 92, 96 or 100 quarter hours.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError

import defusedxml
import defusedxml.ElementTree
import urllib3

from models.errors import ConfigError, Refused, RetryLater
from models.market_prices import PriceSeries, Slot, make_series, merged
from models.tariffs import TariffError, exact, loads

_UNITS: Final = {"MWH": 1000, "KWH": 1}
_UNIT: Final = re.compile(r"([A-Za-z]{3})\s*/\s*([kKmM][wW][hH])")
_RESOLUTION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def read_prices(text: bytes, source: str, shape: str = "") -> PriceSeries:
    """Return the prices in the answer of a source or a file.

    Parameters
    ----------
    text : bytes
    source : str
        Name for the snapshot.
    shape : str, optional
        ``csv``, ``awattar``, ``tibber`` or ``entsoe``; told from the text if empty.

    Raises
    ------
    TariffError
        If it is not of that shape.
    """
    chosen = shape or _shape_of(text)
    if chosen not in SHAPES:
        raise TariffError(f"{source}: shape {chosen!r}: expected one of {', '.join(sorted(SHAPES))}")
    try:
        return SHAPES[chosen](text, source)
    except TariffError:
        raise
    except defusedxml.DefusedXmlException as error:
        raise TariffError(f"{source}: XML with entities or a document type is refused") from error
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ParseError) as error:
        raise TariffError(f"{source}: not of the shape {chosen}: {type(error).__name__}: {error}") from error


def read_price_files(paths: list[Path], shape: str = "") -> PriceSeries:
    """Return the prices of files as one series.

    Raises
    ------
    ConfigError
        If a file cannot be read.
    TariffError
        If one is of no known shape, or they contradict each other.
    """
    series = []
    for path in paths:
        try:
            series.append(read_prices(path.read_bytes(), path.name, shape))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return merged(series)


def fetch_prices(
    url: str, *, shape: str = "", body: bytes | None = None, headers: dict[str, str] | None = None,
    timeout_s: float = 10.0,
) -> PriceSeries:  # fmt: skip
    """Return the prices that a server answers; with a `body` it is posted (Tibber's GraphQL).

    Raises
    ------
    RetryLater
        If the server cannot be reached, is overloaded or fails.
    Refused
        If it says that the request is wrong.
    TariffError
        If the answer is of no known shape.
    """
    host = urllib3.util.parse_url(url).host or url
    sent = {
        "accept": "*/*",
        **({"content-type": "application/json"} if body is not None else {}),
        **(headers or {}),
    }
    pool = urllib3.PoolManager(timeout=timeout_s, retries=False)
    try:
        answer = pool.request("GET" if body is None else "POST", url, body=body, headers=sent)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RetryLater(f"prices of {host}: no answer: {error}") from error
    finally:
        pool.clear()
    if answer.status == 429 or answer.status >= 500:
        raise RetryLater(f"prices of {host}: HTTP {answer.status}")
    if answer.status >= 300:
        raise Refused(f"prices of {host}: HTTP {answer.status}: {answer.data[:200].decode(errors='replace')}")
    return read_prices(answer.data, host, shape)


def _shape_of(text: bytes) -> str:
    start = text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"<":
        return "entsoe"
    if start == b"{":
        return "awattar" if b"start_timestamp" in text else "tibber"
    return "csv"


def _csv(text: bytes, source: str) -> PriceSeries:
    """Columns: start, price; optional end, currency, unit (``EUR/MWh``, or by the header: price_eur_mwh)."""
    rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"))))
    if not rows:
        raise TariffError(f"{source}: no prices")
    column = next((name for name in rows[0] if name and name.lower().startswith("price")), None)
    if column is None or "start" not in rows[0]:
        raise TariffError(f"{source}: columns {list(rows[0])}: expected start, price")
    named = column.lower().split("_")[1:]
    unit = rows[0].get("unit") or ("/".join(named) if len(named) == 2 else f"{rows[0].get('currency')}/kWh")
    currency, per_kwh = _unit(unit, source)
    starts = [_ms(row["start"]) for row in rows]
    given = [_ms(row["end"]) for row in rows] if "end" in rows[0] else None
    prices = [Decimal(row[column]) / per_kwh for row in rows]
    return make_series(source, currency, _slots(starts, given, prices))


def _awattar(text: bytes, source: str) -> PriceSeries:
    rows = loads(text)["data"]
    currency, per_kwh = _unit(rows[0]["unit"] if rows else "EUR/MWh", source)
    return make_series(
        source,
        currency,
        (
            Slot(int(row["start_timestamp"]), int(row["end_timestamp"]), exact(row["marketprice"]) / per_kwh)
            for row in rows
        ),
    )


def _tibber(text: bytes, source: str) -> PriceSeries:
    """The energy part of the price: without Tibber's taxes and fees. Tomorrow is empty before publication."""
    data = loads(text)
    if data.get("errors"):
        raise TariffError(f"{source}: {data['errors'][0].get('message', 'refused')}")
    rows = []
    for home in data["data"]["viewer"]["homes"]:
        info = home["currentSubscription"]["priceInfo"]
        rows += [*(info.get("today") or ()), *(info.get("tomorrow") or ())]
    ordered = sorted({(_ms(row["startsAt"]), exact(row["energy"])) for row in rows})
    currency = rows[0].get("currency", "EUR") if rows else "EUR"
    slots = _slots([start for start, _ in ordered], None, [price for _, price in ordered])
    return make_series(source, currency, slots)


def _entsoe(text: bytes, source: str) -> PriceSeries:
    root: Element = defusedxml.ElementTree.fromstring(text)
    if not _tag(root).startswith("Publication_MarketDocument"):
        reason = " ".join(element.text or "" for element in root.iter() if _tag(element) == "text").strip()
        raise TariffError(f"{source}: {_tag(root)}: {reason or 'no prices'}")
    slots: list[Slot] = []
    currency = "EUR"
    for series in (element for element in root if _tag(element) == "TimeSeries"):
        currency = _text(series, "currency_Unit.name") or currency
        per_kwh = _UNITS[(_text(series, "price_Measure_Unit.name") or "MWH").upper()]
        for period in (element for element in series if _tag(element) == "Period"):
            slots += _points(period, per_kwh)
    return make_series(source, currency, slots)


def _points(period: Element, per_kwh: int) -> Iterator[Slot]:
    """Yield the slots of a period; a position left out has the price before it (curve type A03)."""
    interval = next(element for element in period if _tag(element) == "timeInterval")
    start, end = (_ms(_text(interval, name) or "") for name in ("start", "end"))
    found = _RESOLUTION.fullmatch(_text(period, "resolution") or "")
    if found is None:
        raise ValueError(f"resolution {_text(period, 'resolution')!r}")
    days, hours, minutes = (int(part or 0) for part in found.groups())
    length = ((days * 24 + hours) * 60 + minutes) * 60_000
    points = {
        int(_text(point, "position") or 0): Decimal(_text(point, "price.amount") or "")
        for point in period
        if _tag(point) == "Point"
    }
    price = points[1]
    for position in range(1, (end - start) // length + 1):
        price = points.get(position, price)
        yield Slot(start + (position - 1) * length, start + position * length, price / per_kwh)


def _slots(starts: list[int], ends: list[int] | None, prices: list[Decimal]) -> list[Slot]:
    ordered = sorted(zip(starts, ends or [0] * len(starts), prices, strict=True))
    if ends is None:
        if len(ordered) < 2:
            raise ValueError("one start alone does not say how long its price holds")
        following = [start for start, _, _ in ordered[1:]]
        following.append(ordered[-1][0] + ordered[-1][0] - ordered[-2][0])
        usual = min(b - a for (a, _, _), b in zip(ordered, following, strict=True))
        # A gap in the list is no long slot: a price holds no longer than the usual length.
        return [Slot(a, min(b, a + usual), p) for (a, _, p), b in zip(ordered, following, strict=True)]
    return [Slot(start, end, price) for start, end, price in ordered]


def _unit(text: str, source: str) -> tuple[str, int]:
    found = _UNIT.fullmatch(text.strip())
    if found is None:
        raise TariffError(f"{source}: unit {text!r}: expected one such as EUR/MWh or EUR/kWh")
    return found[1].upper(), _UNITS[found[2].upper()]


def _ms(text: str) -> int:
    """Return epoch ms of an ISO time with offset, or of epoch ms as text."""
    if text.lstrip("-").isdigit():
        return int(text)
    time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time.tzinfo is None:
        raise ValueError(f"time {text!r} has no offset from UTC")
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(parent: Element, name: str) -> str | None:
    return next((element.text for element in parent if _tag(element) == name), None)


SHAPES: Final[dict[str, Callable[[bytes, str], PriceSeries]]] = {
    "csv": _csv,
    "awattar": _awattar,
    "tibber": _tibber,
    "entsoe": _entsoe,
}

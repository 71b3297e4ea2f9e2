"""What every OCPI address needs: the envelope, pages by date and offset, who may see what."""

import datetime as dt
import time
from typing import Annotated, Any, Final

from fastapi import Request
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import FromClause

from connectors.billing_reader import BillingReader, Row
from connectors.ocpi_store import emsps
from models.ocpi_objects import date_time, write_json

from .settings import OcpiSettings

OK: Final = 1000
GENERIC: Final = 2000
INVALID: Final = 2001
UNKNOWN: Final = 2003
MOST: Final = 1_000


class Envelope(BaseModel):
    """The answer around every object."""

    data: Any = None
    status_code: int
    status_message: str | None = None
    timestamp: str


ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"description": words, "model": Envelope}
    for code, words in (
        (400, "a parameter or the body is wrong"),
        (401, "no token, or one that is unknown"),
        (404, "there is none"),
        (405, "not in this state"),
        (429, "too many requests; see Retry-After"),
        (503, "the ledger cannot be read now"),
    )
}


def _utc(value: dt.datetime) -> dt.datetime:
    """Take a time without offset as UTC, as OCPI has it."""
    if not 1970 <= value.year <= 2100:
        raise ValueError("a year from 1970 to 2100 is expected")
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value


class Page(BaseModel):
    """Which objects: changed from `date_from` (inclusive) to `date_to` (exclusive)."""

    date_from: Annotated[dt.datetime, AfterValidator(_utc)] | None = None
    date_to: Annotated[dt.datetime, AfterValidator(_utc)] | None = None
    offset: Annotated[int, Field(ge=0, le=2**53)] = 0
    limit: Annotated[int, Field(ge=1, le=2**31)] = MOST


def now_ms() -> int:
    """Return the machine's time."""
    return time.time_ns() // 1_000_000


def envelope(data: Any, status: int = OK, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer that carries `data`."""
    body = {"data": data, "status_code": status, "timestamp": date_time(now_ms())}
    return Response(write_json(body), code, headers, "application/json")


def refused(code: int, status: int, message: str, headers: Any = None) -> Response:
    """Return an answer that says why there is none."""
    body = {"status_code": status, "status_message": message, "timestamp": date_time(now_ms())}
    return Response(write_json(body), code, headers, "application/json")


def base_url(request: Request, settings: OcpiSettings) -> str:
    """Return our address as partners know it, without a slash at the end."""
    if settings.public_url:
        return f"{settings.public_url.rstrip('/')}/ocpi"
    return str(request.base_url).rstrip("/")


def may_see(table: FromClause, party: Row) -> list[Any]:
    """Return the condition for what is a partner's."""
    whose = emsps(party)
    return [] if whose is None else [table.c.emsp.in_(whose)]


def pull(
    reader: BillingReader, table: FromClause, column: Any, page: Page, conditions: list[Any], request: Request
) -> tuple[list[Row], dict[str, str]]:
    """Return a page of rows by the time in `column`, and the headers that describe it."""
    chosen = list(conditions)
    if page.date_from is not None:
        chosen.append(column >= _ms(page.date_from))
    if page.date_to is not None:
        chosen.append(column < _ms(page.date_to))
    limit = min(page.limit, MOST)
    total = reader.count(table, *chosen)
    rows = reader.rows(table, *chosen, order=(column, *table.primary_key), limit=limit, offset=page.offset)
    headers = {"X-Total-Count": str(total), "X-Limit": str(MOST)}
    if page.offset + len(rows) < total and rows:
        following = request.url.include_query_params(offset=page.offset + len(rows), limit=limit)
        headers["Link"] = f'<{following}>; rel="next"'
    return rows, headers


def _ms(value: dt.datetime) -> int:
    return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)

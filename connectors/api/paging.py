"""Pages, streams and their cursors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse

from connectors.billing_reader import Row
from connectors.billing_writer import Caller

from . import formats


def answer(
    rows: list[Row], columns: tuple[formats.Column, ...], format_: formats.Format, headers: dict[str, str]
) -> Response:
    """Return all rows in the format that was asked for."""
    if format_ == "json":
        return JSONResponse(rows, headers=headers)
    write = formats.csv_lines if format_ == "csv" else formats.parquet_rows
    return stream(write(columns, rows), format_, headers)


def stream(parts: Iterator[bytes], format_: str, headers: dict[str, str]) -> Response:
    """Return a stream whose first part is there: what cannot be read is an answer, not half a file."""
    first = next(parts, b"")

    def whole() -> Iterator[bytes]:
        yield first
        yield from parts

    if format_ == "parquet":
        headers["Content-Encoding"] = "identity"  # it is compressed already
    return StreamingResponse(whole(), media_type=formats.MEDIA[format_], headers=headers)


def there(row: Row | None) -> Row:
    """Return the row, or answer that there is none."""
    if row is None:
        raise HTTPException(404, "there is none")
    return row


def may_see(caller: Caller, site: str) -> None:
    """Answer as if there were nothing at sites that the token is not for."""
    if caller.sites is not None and site not in caller.sites:
        raise HTTPException(404, "there is none")


def next_link(request: Request, cursor: str) -> str:
    """Return the Link header to the page after `cursor`."""
    return f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'


def cursor_of(values: list[Any]) -> str:
    """Return a key as a cursor."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[str, str, int, int] | None:
    """Return the key in a cursor, None for none; answers 422 for what is none."""
    if not cursor:
        return None
    try:
        blob = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        site, station, evse, start_ms = json.loads(blob)
    except (ValueError, TypeError, RecursionError, binascii.Error):
        site = station = evse = start_ms = None
    whole = type(evse) is int and type(start_ms) is int and max(abs(evse), abs(start_ms)) < 2**62
    if whole and isinstance(site, str) and isinstance(station, str) and "\0" not in site + station:
        return site, station, evse, start_ms
    problem = {
        "type": "value_error",
        "loc": ("query", "cursor"),
        "msg": "not one that a Link header gave",
        "input": cursor,
    }
    raise RequestValidationError([problem])

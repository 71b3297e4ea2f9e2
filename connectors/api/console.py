"""Addresses of the pages of billing, and the form with which a person decides about a session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from connectors.billing_reader import BillingReader, Choice
from models.units import mwh_from_wh

from . import formats
from .auth import Gate, who
from .decisions import Decision, decide
from .forms import ask_first, read_form, token_in
from .money import MoneyPages
from .paging import may_see

#: What deciding about a session needs.
_SCOPE: Final = "reviews:write"
Word = Annotated[str, Query(max_length=200)]
Part = Annotated[str, Path(max_length=200)]
Day = Annotated[str, Query(pattern=r"^(|[0-9]{4}-[0-9]{2}-[0-9]{2})$")]
_STATES: Final = r"^(|open|incomplete|complete|review|credited)$"


def add_console(
    app: FastAPI,
    pages: MoneyPages,
    reader: BillingReader,
    record: Callable[[dict[str, Any]], dict[str, Any]],
    gate: Gate,
) -> None:
    """Add the pages; `record` stores a decision and tells the flow of it."""
    _add_lists(app, pages)
    _add_load(app, pages, reader)
    deciding = gate.changes(_SCOPE)

    @app.get("/sessions/{site}/{station}/{transaction_id:path}", include_in_schema=False)
    def session(site: Part, station: Part, transaction_id: Part) -> Response:
        text = pages.session(site, station, transaction_id)
        if text is None:
            raise HTTPException(404, "there is no such session")
        return HTMLResponse(text)

    @app.post("/sessions/{site}/{station}/{transaction_id:path}", include_in_schema=False)
    async def decided(site: Part, station: Part, transaction_id: Part, request: Request) -> Response:
        """Take the form of a decision; it shows once it went through the journal."""
        form = await read_form(request)
        caller = await run_in_threadpool(deciding, request, token_in(form))
        may_see(caller, site)
        if form.get("decision") == "discard":
            ask_first(form, f"Discard {transaction_id}? It is not billed.", "Discard the session")
        decision, by = _decision(form), who(caller, form.get("by", "")[:200])
        key = (site, station, transaction_id)
        await run_in_threadpool(decide, reader, record, key, decision, by, gate.now_ms())
        place = "/".join(quote(part, safe="") for part in key)
        return RedirectResponse(f"/sessions/{place}", status_code=303)


def _decision(form: dict[str, str]) -> Decision:
    """Return what the form says.

    Raises
    ------
    HTTPException
        422 where it is not complete.
    """
    energy = None
    if form.get("energy_wh"):
        try:
            energy = mwh_from_wh(Decimal(form["energy_wh"]))
        except (InvalidOperation, ArithmeticError, ValueError) as error:
            raise HTTPException(422, "energy: a number of Wh with at most three decimals") from error
    try:
        return Decision.model_validate(
            {
                "decision": form.get("decision", ""),
                "reason": form.get("reason", ""),
                "session_revision": int(form.get("session_revision") or -1),
                "energy_mwh": energy,
            }
        )
    except ValueError as error:
        raise HTTPException(422, "decision, reason and revision are needed") from error


def _add_lists(app: FastAPI, pages: MoneyPages) -> None:
    @app.get("/sessions", include_in_schema=False)
    def sessions(
        site: Word = "",
        state: Annotated[str, Query(pattern=_STATES)] = "",
        search: Annotated[str, Query(alias="q", max_length=200)] = "",
        offset: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
    ) -> Response:
        return HTMLResponse(pages.sessions(site, state, search, offset))

    @app.get("/reviews", include_in_schema=False)
    def reviews(site: Word = "") -> Response:
        return HTMLResponse(pages.reviews(site))

    @app.get("/tariffs", include_in_schema=False)
    def tariffs() -> Response:
        return HTMLResponse(pages.tariffs())


def _add_load(app: FastAPI, pages: MoneyPages, reader: BillingReader) -> None:
    def known(day: str) -> str:
        try:
            return dt.date.fromisoformat(day).isoformat() if day else ""
        except ValueError as error:
            raise HTTPException(422, f"{day} is no day") from error

    @app.get("/load", include_in_schema=False)
    def load(site: Word = "", day: Day = "") -> Response:
        return HTMLResponse(pages.load(site, known(day)))

    @app.get("/load.csv", include_in_schema=False)
    def profile(site: Word = "", day: Day = "") -> Response:
        start = pages.day_ms(site, known(day))
        rows = reader.quarters(Choice(site=site, from_ms=start, until_ms=start + 86_400_000), 96)
        text = b"".join(formats.csv_lines(formats.QUARTERS, rows))
        return Response(text, media_type=formats.MEDIA["csv"])

"""Findings over HTTP: lists with filters, one with its history, and what people do about them.

Everything that is done goes to the broker as an operator message; nothing is written here. A request that
another site's page sends on behalf of its reader is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.operator import OperatorDesk, UnknownFinding
from models.errors import DecodeError, RetryLater
from models.units import MAX_STATION_TIME_MS

from .evidence import as_json
from .page import Page

_MOST_BYTES: Final = 20_000

FindingId = Annotated[str, Path(min_length=1, max_length=64)]
Word = Annotated[str, Query(max_length=200)]


class Action(BaseModel):
    """What somebody does about a finding; `until` is epoch ms, `to` empty means nobody any more."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["ack", "assign", "snooze", "unsnooze", "comment"]
    by: str = Field(min_length=1, max_length=200)
    to: str | None = Field(None, max_length=200)
    until: int | None = Field(None, ge=0, le=MAX_STATION_TIME_MS)
    text: str | None = Field(None, max_length=4000)


def add_findings(app: FastAPI, page: Page, desk: OperatorDesk | None) -> None:
    """Add the addresses; without a desk nothing can be done, and every try says so."""
    _add_reading(app, page)
    _add_doing(app, desk, lambda: time.time_ns() // 1_000_000)

    @app.exception_handler(UnknownFinding)
    def unknown(_: Request, error: UnknownFinding) -> Response:
        return PlainTextResponse(error.detail, status_code=404)

    @app.exception_handler(DecodeError)
    def incomplete(_: Request, error: DecodeError) -> Response:
        return PlainTextResponse(error.detail, status_code=422)


def _add_reading(app: FastAPI, page: Page) -> None:
    @app.get("/api/v1/findings")
    def findings(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
        site: Word = "",
        search: Annotated[str, Query(alias="q", max_length=200)] = "",
        state: Literal["open", "cleared", "all"] = "open",
        code: Word = "",
        severity: Literal["", "info", "warning", "critical"] = "",
        assignee: Word = "",
        acked: bool | None = None,
        snoozed: bool = True,
    ) -> list[dict[str, Any]]:
        """Return findings, critical ones first; ``consequences`` counts what one explains.

        ``snoozed=false`` leaves out what is snoozed now; ``acked`` keeps only what is, or is not.
        """
        return page.ledger.chosen_findings(
            limit,
            site=site,
            search=search,
            state=state,
            code=code,
            severity=severity,
            assignee=assignee,
            acked=acked,
            snoozed_at_ms=None if snoozed else time.time_ns() // 1_000_000,
        )

    @app.get("/api/v1/findings/{finding_id}")
    def finding(finding_id: FindingId) -> dict[str, Any]:
        """Return one finding with its ``changes`` and the ``actions`` of people; the id may be cut short."""
        found = page.ledger.finding(finding_id)
        if found is None:
            raise HTTPException(404, "no such finding, or several begin so")
        return found

    @app.get("/api/v1/findings/{finding_id}/evidence")
    def evidence(finding_id: FindingId) -> dict[str, Any]:
        """Return the channels around a finding, levels to compare with, and when it began and was raised.

        ``source`` is ``journal`` (every reading), ``rollups`` (minute means of power) or ``none``.
        """
        found = page.ledger.finding(finding_id)
        if found is None:
            raise HTTPException(404, "no such finding, or several begin so")
        seen = page.evidence.of(found, time.time_ns() // 1_000_000)
        return as_json(found["finding_id"], seen)

    @app.get("/findings/{finding_id}", include_in_schema=False)
    def shown(finding_id: FindingId) -> Response:
        text = page.finding(finding_id)
        if text is None:
            raise HTTPException(404, "no such finding, or several begin so")
        return HTMLResponse(text)


def _add_doing(app: FastAPI, desk: OperatorDesk | None, now_ms: Callable[[], int]) -> None:
    def act(finding_id: str, body: dict[str, Any]) -> dict[str, Any]:
        if desk is None:
            raise RetryLater("this page knows no broker: nothing can be done from here")
        request = desk.act(finding_id, body)
        return {"finding_id": request.finding_id, "id": request.id, "action": request.action}

    @app.post("/api/v1/findings/{finding_id}/actions", status_code=202)
    def do(finding_id: FindingId, action: Action, request: Request) -> dict[str, Any]:
        """Acknowledge, assign, snooze or comment a finding; it shows once it went through the journal."""
        refuse_foreign(request)
        return act(finding_id, action.model_dump())

    @app.post("/findings/{finding_id}", include_in_schema=False)
    async def filled_in(finding_id: FindingId, request: Request) -> Response:
        """Take the page's form: ``action`` is an action, or ``snooze:<seconds>``."""
        refuse_foreign(request)
        raw = await request.body()
        if len(raw) > _MOST_BYTES:
            raise HTTPException(413, "too long")
        form = {name: values[-1].strip() for name, values in parse_qs(raw.decode("utf-8", "replace")).items()}
        body: dict[str, Any] = {"by": form.get("by", ""), "text": form.get("text") or None}
        body["action"], _, seconds = form.get("action", "").partition(":")
        if seconds.isdecimal():
            body["until"] = now_ms() + int(seconds[:9]) * 1000
        if body["action"] == "assign":
            body["to"] = form.get("to", "")
        await run_in_threadpool(act, finding_id, body)
        back = {name: form[name] for name in ("site", "q") if form.get(name)}
        return RedirectResponse(f"/?{urlencode(back)}" if back else "/", status_code=303)


def refuse_foreign(request: Request) -> None:
    """Refuse what a page of another origin sends: the reader's browser would carry it out unasked."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is None:  # no browser of today: its Origin, if it sends one
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    else:  # no page can forge it; of our own forms the Origin is null, for they send no referrer
        foreign = site not in {"same-origin", "none"}
        foreign = foreign or (
            origin not in {None, "null"} and urlsplit(str(origin)).netloc != request.headers.get("host")
        )
    if foreign:
        raise HTTPException(403, "this request comes from another page")

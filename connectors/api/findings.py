"""Findings over HTTP: lists with filters, one with its history, and what people do about them.

Everything that is done goes to the broker as an operator message; nothing is written here. A request that
another site's page sends on behalf of its reader is refused.
"""

import time
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.operator import OperatorDesk
from models.errors import RetryLater
from models.faults import FAULTS
from models.units import MAX_STATION_TIME_MS

from .auth import REFUSALS, Gate, who
from .evidence import as_json
from .forms import read_form, token_in
from .page import Choice, Page
from .paging import may_see

#: What doing something about findings and about maintenance needs.
SCOPE: Final = "findings:write"
_SHOWN: Final = 100

FindingId = Annotated[str, Path(min_length=1, max_length=64)]
Word = Annotated[str, Query(max_length=200)]
FindingState = Literal["open", "cleared", "all"]
Severity = Literal["", "info", "warning", "critical"]


class Action(BaseModel):
    """What somebody does about a finding; `until` is epoch ms, `to` empty means nobody any more."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["ack", "assign", "snooze", "unsnooze", "comment"]
    by: str = Field("", max_length=200, description="Who; with a token it is the token's name.")
    to: str | None = Field(None, max_length=200)
    until: int | None = Field(None, ge=0, le=MAX_STATION_TIME_MS)
    text: str | None = Field(None, max_length=4000)


def add_findings(app: FastAPI, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
    """Add the addresses; without a desk nothing can be done, and every try says so."""
    _add_reading(app, page)
    _add_pages(app, page)
    _add_doing(app, page, desk, gate)


def _add_reading(app: FastAPI, page: Page) -> None:
    @app.get("/api/v1/findings")
    def findings(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
        site: Word = "",
        search: Annotated[str, Query(alias="q", max_length=200)] = "",
        state: FindingState = "open",
        code: Word = "",
        severity: Severity = "",
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


def _add_pages(app: FastAPI, page: Page) -> None:
    def listed(
        template: str, site: str, search: str, state: FindingState, severity: Severity, code: str
    ) -> Response:
        chosen = {"site": site, "search": search, "state": state, "severity": severity, "code": code}
        text = page.filled(
            template,
            findings=page.ledger.chosen_findings(_SHOWN, **chosen),
            sites=page.ledger.sites(),
            faults=FAULTS,
            shown=_SHOWN,
            chosen=chosen,
            choice=Choice(),
        )
        return HTMLResponse(text)

    @app.get("/findings", include_in_schema=False)
    def whole(
        site: Word = "", q: Word = "", state: FindingState = "open", severity: Severity = "", code: Word = ""
    ) -> Response:
        return listed("findings.html", site, q, state, severity, code)

    @app.get("/findings-live", include_in_schema=False)
    def renewed(
        site: Word = "", q: Word = "", state: FindingState = "open", severity: Severity = "", code: Word = ""
    ) -> Response:
        return listed("findings_live.html", site, q, state, severity, code)

    def one(finding_id: str, *, live: bool) -> Response:
        text = page.finding(finding_id, live=live)
        if text is None:
            raise HTTPException(404, "no such finding, or several begin so")
        return HTMLResponse(text)

    @app.get("/findings/{finding_id}", include_in_schema=False)
    def shown(finding_id: FindingId) -> Response:
        return one(finding_id, live=False)

    @app.get("/findings/{finding_id}/live", include_in_schema=False)
    def shown_live(finding_id: FindingId) -> Response:
        return one(finding_id, live=True)


def _add_doing(app: FastAPI, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
    doing = gate.changes(SCOPE)

    def act(caller: Caller, finding_id: str, body: dict[str, Any]) -> dict[str, Any]:
        if caller.sites is not None:
            may_see(caller, (page.ledger.finding(finding_id) or {"site": ""})["site"])
        body["by"] = who(caller, body["by"])
        if desk is None:
            raise RetryLater("this page knows no broker: nothing can be done from here")
        request = desk.act(finding_id, body)
        return {"finding_id": request.finding_id, "id": request.id, "action": request.action}

    @app.post("/api/v1/findings/{finding_id}/actions", status_code=202, responses=REFUSALS)
    def do(
        finding_id: FindingId, action: Action, caller: Annotated[Caller, Depends(doing)]
    ) -> dict[str, Any]:
        """Acknowledge, assign, snooze or comment a finding; it shows once it went through the journal."""
        return act(caller, finding_id, action.model_dump())

    @app.post("/findings/{finding_id}", include_in_schema=False)
    async def filled_in(finding_id: FindingId, request: Request) -> Response:
        """Take the page's form: ``action`` is an action, or ``snooze:<seconds>``."""
        form = await read_form(request)
        caller = await run_in_threadpool(doing, request, token_in(form))
        body: dict[str, Any] = {"by": form.get("by", ""), "text": form.get("text") or None}
        body["action"], _, seconds = form.get("action", "").partition(":")
        if seconds.isdecimal():
            body["until"] = gate.now_ms() + int(seconds[:9]) * 1000
        if body["action"] == "assign":
            body["to"] = form.get("to", "")
        await run_in_threadpool(act, caller, finding_id, body)
        back = {name: form[name] for name in ("site", "q") if form.get(name)}
        return RedirectResponse(f"/?{urlencode(back)}" if back else "/", status_code=303)

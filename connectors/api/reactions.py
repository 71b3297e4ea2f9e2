"""Automatic reactions over HTTP: what findings set off by themselves, and the breaker of all of it.

Opening or closing the breaker needs a token with the scope ``commands:write`` and goes to the broker as an
operator message; nothing is written here.
"""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.operator import OperatorDesk
from models.errors import DecodeError, RetryLater

from .auth import REFUSALS, Gate, everywhere
from .commands import SCOPE
from .forms import ask_first, read_form, refuse_foreign, token_in
from .page import Page
from .words import reaction_link

_SHOWN: Final = 200

Word = Annotated[str, Query(max_length=200)]


class Switch(BaseModel):
    """What somebody does with the breaker: ``trip`` stops all reactions, ``reset`` lets them go on."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["trip", "reset"]


class Reactions:
    """The addresses of automatic reactions; without a desk nothing can be done, and every try says so."""

    def __init__(self, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
        self._page, self._desk = page, desk
        self._switching = gate.needs(SCOPE)

    def add(self, app: FastAPI) -> None:
        """Add everything to the application."""
        router = APIRouter(tags=["reactions"])
        self._add_reading(router)
        self._add_switching(router)
        app.include_router(router)

    def _switch(self, caller: Caller, action: str) -> dict[str, str]:
        everywhere(caller, "the breaker is")
        if self._desk is None:
            raise RetryLater("this page knows no broker: nothing can be done from here")
        self._desk.breaker(action, caller.name)
        return {"action": action, "by": caller.name}

    def _add_reading(self, router: APIRouter) -> None:
        ledger = self._page.ledger

        @router.get("/api/v1/reactions")
        def reactions(
            limit: Annotated[int, Query(ge=1, le=10_000)] = _SHOWN,
            site: Word = "",
            rule: Word = "",
            finding: Word = "",
        ) -> list[dict[str, Any]]:
            """Return what became of automatic reactions, the newest first; `finding` may be cut short."""
            return ledger.reactions(limit, site=site, rule=rule, finding=finding)

        @router.get("/reactions", include_in_schema=False)
        def whole(site: Word = "", rule: Word = "") -> Response:
            return HTMLResponse(self._shown("reactions.html", site, rule))

        @router.get("/reactions/live", include_in_schema=False)
        def live(site: Word = "", rule: Word = "") -> Response:
            return HTMLResponse(self._shown("reactions_live.html", site, rule))

    def _shown(self, template: str, site: str, rule: str) -> str:
        ledger = self._page.ledger
        rows = [
            row | {"link": reaction_link(row)}
            for row in ledger.reactions(_SHOWN, site=site, rule=rule)
            if row["finding_id"] or not (site or rule)
        ]
        return self._page.filled(
            template, rows=rows, opened=ledger.breaker(), site=site, rule=rule, sites=ledger.sites()
        )

    def _add_switching(self, router: APIRouter) -> None:
        switching = self._switching

        @router.post("/api/v1/reactions/breaker", status_code=202, responses=REFUSALS)
        def switch(
            wanted: Switch, caller: Annotated[Caller, Depends(switching)], request: Request
        ) -> dict[str, str]:
            """Open or close the breaker; it shows once it went through the journal."""
            refuse_foreign(request)
            return self._switch(caller, wanted.action)

        @router.post("/reactions", include_in_schema=False)
        async def filled_in(request: Request) -> Response:
            """Take the page's form."""
            form = await read_form(request)
            caller = await run_in_threadpool(switching, request, token_in(form))
            action = form.get("action", "")
            if action not in ("trip", "reset"):
                raise DecodeError("reactions", "action: expected trip or reset")
            if action == "reset":
                question = (
                    "Let reactions send commands again? What waits goes out at once where its finding is"
                    " still open."
                )
                ask_first(form, question, "Close the breaker")
            await run_in_threadpool(self._switch, caller, action)
            return RedirectResponse("/reactions", status_code=303)

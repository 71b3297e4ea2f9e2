"""Commands over HTTP: what was asked of stations and what became of it, and asking for more.

Reading is open like the rest of the page; asking needs a token with the scope ``commands:write``, whose name
is who asked. A request goes to the broker as an operator message, and shows once it went through the journal.
"""

import json
from typing import Annotated, Any, Final, Literal, get_args

from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.operator import OperatorDesk
from models.batch import IN_TRANSACTION
from models.command_request import MOST_EXPIRES_S
from models.command_shorthand import WORDS, spell_out
from models.command_states import ENDED
from models.command_types import HOUSEKEEPING, OPERATOR, PRIORITIES, SAFETY
from models.errors import RetryLater

from .auth import REFUSALS, Gate, Refusal
from .forms import ask_first, read_form, refuse_foreign, token_in
from .page import Page
from .paging import may_see

SCOPE: Final = "commands:write"
_SHOWN: Final = 200
#: Who asks for the commands of load management.
_LOAD: Final = "load"

CommandId = Annotated[str, Path(min_length=1, max_length=64)]
Word = Annotated[str, Query(max_length=200)]
Ticked = Literal["", "1"]
State = Literal[
    "", "open", "ended", "requested", "sent", "accepted", "rejected", "scheduled", "expired", "failed"
]
#: What the page's list can be narrowed to.
STATES: Final = tuple(name for name in get_args(State) if name)


class Wish(BaseModel):
    """A command for a station: an OCPP 2.0.1 action and request, or a word with a value."""

    model_config = ConfigDict(extra="forbid")

    site: str = Field(min_length=1, max_length=255)
    station: str = Field(min_length=1, max_length=255)
    evse: int | None = Field(None, ge=0, le=10_000)
    connector: int | None = Field(None, ge=0, le=10_000)
    command: str = Field("", max_length=255, description="OCPP 2.0.1 action; empty: `word` says it.")
    body: dict[str, Any] = Field({}, description="The action's request.")
    word: str = Field("", max_length=40, description=f"One of {', '.join(WORDS)}.")
    value: str = Field("", max_length=255, description="What the word needs.")
    priority: int = Field(OPERATOR, ge=SAFETY, le=HOUSEKEEPING)
    expires_s: float = Field(300.0, gt=0, le=MOST_EXPIRES_S)

    def request(self, by: str) -> dict[str, Any]:
        """Return the body of the operator message; raises CommandRefused for a word that is none."""
        command, body = (
            (self.command, self.body) if self.command else spell_out(self.word, self.evse, self.value)
        )
        told = self.model_dump(include={"site", "station", "evse", "connector", "priority", "expires_s"})
        return {name: value for name, value in told.items() if value is not None} | {
            "command": command,
            "body": body,
            "by": by,
        }


def add_commands(app: FastAPI, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
    """Add the addresses; without a desk nothing can be asked for, and every try says so."""
    _add_reading(app, page)
    _add_pages(app, page)
    _add_asking(app, page, desk, gate)
    _add_taking_back(app, page, desk, gate)


def _add_reading(app: FastAPI, page: Page) -> None:
    @app.get("/api/v1/commands", tags=["commands"])
    def commands(
        limit: Annotated[int, Query(ge=1, le=10_000)] = _SHOWN,
        site: Word = "",
        station: Word = "",
        state: State = "",
        command: Word = "",
        by: Word = "",
        search: Annotated[str, Query(alias="q", max_length=200)] = "",
    ) -> list[dict[str, Any]]:
        """Return commands, the newest first; `state` may be ``open`` or ``ended``. Secrets are left out."""
        return page.ledger.commands(
            limit, site=site, station=station, state=state, command=command, by=by, search=search
        )

    @app.get("/api/v1/commands/{cmd_id}", tags=["commands"])
    def command(cmd_id: CommandId) -> dict[str, Any]:
        """Return one command with its ``changes``; the id may be cut short."""
        return _found(page, cmd_id)


def _add_pages(app: FastAPI, page: Page) -> None:
    @app.get("/commands", include_in_schema=False)
    def whole(
        site: Word = "",
        q: Word = "",
        state: State = "",
        load: Ticked = "",
        station: Word = "",
        evse: Word = "",
    ) -> Response:
        """Show commands; `station` and `evse` only fill in the form."""
        more = {"words": WORDS, "states": STATES, "station": station, "evse": evse}
        text = page.filled(
            "commands.html", sites=page.ledger.sites(), **_listed(page, site, q, state, load), **more
        )
        return HTMLResponse(text)

    @app.get("/commands/live", include_in_schema=False)
    def live(site: Word = "", q: Word = "", state: State = "", load: Ticked = "") -> Response:
        return HTMLResponse(page.filled("commands_live.html", **_listed(page, site, q, state, load)))

    def one(template: str, cmd_id: str) -> Response:
        found = _found(page, cmd_id)
        return HTMLResponse(page.filled(template, c=found, priorities=PRIORITIES, json=json))

    @app.get("/commands/{cmd_id}", include_in_schema=False)
    def shown(cmd_id: CommandId) -> Response:
        return one("command.html", cmd_id)

    @app.get("/commands/{cmd_id}/live", include_in_schema=False)
    def shown_live(cmd_id: CommandId) -> Response:
        return one("command_live.html", cmd_id)


def _listed(page: Page, site: str, search: str, state: str, load: str) -> dict[str, Any]:
    """Return what the list shows: load management sends so much that it is left out unless asked for."""
    without = "" if load or search else _LOAD
    rows = page.ledger.commands(_SHOWN, site=site, search=search, state=state, without=without)
    chosen = {"site": site, "search": search, "state": state, "load": load, "without": without}
    return {"commands": rows, "shown": _SHOWN} | chosen


def _ask_before_restart(page: Page, wish: Wish, form: dict[str, str]) -> None:
    """Ask whoever would restart a station at once, which ends what it charges."""
    if wish.word != "reset-now":
        return
    rows = page.ledger.evses(1000, site=wish.site, search=wish.station)
    busy = [
        f"{row['station']}/{row['evse']}"
        for row in rows
        if row["station"] == wish.station and row["evse"] in (wish.evse or row["evse"],)
        if (row["state"] or 0) & IN_TRANSACTION
    ]
    now = (
        f"A transaction runs at {', '.join(busy)}: it ends."
        if busy
        else "No transaction is known to run there."
    )
    ask_first(form, f"Restart {wish.station} at {wish.site} at once? {now}", "Restart at once")


def _found(page: Page, cmd_id: str) -> dict[str, Any]:
    found = page.ledger.command(cmd_id)
    if found is None:
        raise HTTPException(404, "no such command, or several begin so")
    return found


def _add_asking(app: FastAPI, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
    asking = gate.needs(SCOPE)

    def ask(wish: Wish, caller: Caller) -> dict[str, Any]:
        may_see(caller, wish.site)
        if desk is None:
            raise RetryLater("this page knows no broker: nothing can be asked for from here")
        request = desk.command(wish.request(caller.name))
        return {"id": request.id, "cmd_id": request.ask(0).cmd_id, "command": request.command}

    @app.post(
        "/api/v1/commands",
        status_code=202,
        tags=["commands"],
        responses=REFUSALS | {404: {"description": "not a site of this token", "model": Refusal}},
    )
    def send(wish: Wish, caller: Annotated[Caller, Depends(asking)], request: Request) -> dict[str, Any]:
        """Ask for a command. What is no such command is refused with 422, in words."""
        refuse_foreign(request)
        return ask(wish, caller)

    @app.post("/commands", include_in_schema=False)
    async def filled_in(request: Request) -> Response:
        """Take the page's form; its field `token` is the token."""
        form = await read_form(request)
        caller = await run_in_threadpool(asking, request, token_in(form))
        evse = form.get("evse", "")
        try:
            wish = Wish(
                site=form.get("site", ""),
                station=form.get("station", ""),
                evse=int(evse) if evse.isdecimal() else None,
                word=form.get("word", ""),
                value=form.get("value", ""),
            )
        except ValueError as error:
            raise HTTPException(422, "site and station are needed") from error
        may_see(caller, wish.site)
        await run_in_threadpool(_ask_before_restart, page, wish, form)
        await run_in_threadpool(ask, wish, caller)
        return RedirectResponse("/commands", status_code=303)


def _add_taking_back(app: FastAPI, page: Page, desk: OperatorDesk | None, gate: Gate) -> None:
    asking = gate.needs(SCOPE)

    def take(cmd_id: str, caller: Caller) -> dict[str, str]:
        found = _found(page, cmd_id)
        may_see(caller, found["site"])
        if found["state"] in ENDED:
            raise HTTPException(409, f"it has ended: {found['state']}")
        if desk is None:
            raise RetryLater("this page knows no broker: nothing can be taken back from here")
        desk.take_back(found["cmd_id"], found["site"], caller.name)
        return {"cmd_id": found["cmd_id"]}

    @app.delete(
        "/api/v1/commands/{cmd_id}",
        status_code=202,
        tags=["commands"],
        responses=REFUSALS | {409: {"description": "it has ended", "model": Refusal}},
    )
    def take_back(
        cmd_id: CommandId, caller: Annotated[Caller, Depends(asking)], request: Request
    ) -> dict[str, str]:
        """Take a command back that was not sent yet."""
        refuse_foreign(request)
        return take(cmd_id, caller)

    @app.post("/commands/{cmd_id}", include_in_schema=False)
    async def taken_back(cmd_id: CommandId, request: Request) -> Response:
        """Take the form of a command's page, which takes it back."""
        form = await read_form(request)
        caller = await run_in_threadpool(asking, request, token_in(form))
        await run_in_threadpool(take, cmd_id, caller)
        return RedirectResponse(f"/commands/{cmd_id}", status_code=303)

"""Load management over HTTP: managed sites, limits in force, operators' wishes; and the page.

Reading is open like the rest of the page; wishes need a token with the scope ``commands:write``. What is
wished goes to the broker as an operator message; nothing is written here.
"""

import math
import time
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.load_desk import LoadDesk
from models.errors import RetryLater
from models.units import MAX_STATION_TIME_MS

from .auth import REFUSALS, Gate, Refusal
from .commands import SCOPE
from .forms import ask_first, read_form, refuse_foreign, token_in
from .load_page import LoadPage
from .paging import may_see

_HOUR_MS: Final = 3_600_000
_MOST_HOURS: Final = 8760.0
_MOST_A: Final = 10_000.0
#: What a vehicle needs at least, A (IEC 61851-1).
LEAST_A: Final = 6.0

Name = Annotated[str, Path(min_length=1, max_length=200)]
Chosen = Annotated[str, Query(max_length=200)]
Time = Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)]


class Wish(BaseModel):
    """What somebody wants of a site (`limit_a`) or of one of its EVSEs; times are epoch ms."""

    model_config = ConfigDict(extra="forbid")

    station: str = Field("", max_length=200)
    evse: int = Field(1, ge=1, le=1000)
    limit_a: float | None = Field(None, ge=0, le=10_000)
    until_ms: int | None = Field(None, ge=0, le=MAX_STATION_TIME_MS)
    departure_ms: int | None = Field(None, ge=0, le=MAX_STATION_TIME_MS)
    energy_wh: float | None = Field(None, ge=0, le=1e7)
    priority: int | None = Field(None, ge=0, le=999)


class Load:
    """The addresses of load management; without a desk nothing can be wished, and every try says so."""

    def __init__(self, page: LoadPage, desk: LoadDesk | None, gate: Gate) -> None:
        self._page, self._desk = page, desk
        self._asking = gate.needs(SCOPE)

    def add(self, app: FastAPI) -> None:
        """Add everything to the application."""
        router = APIRouter(tags=["load"])
        self._add_reading(router)
        self._add_wishing(router)
        self._add_pages(router)
        app.include_router(router)

    def ask(self, caller: Caller, site: str, wish: dict[str, Any]) -> dict[str, Any]:
        """Publish a wish in the name of a token."""
        may_see(caller, site)
        if self._desk is None:
            raise RetryLater("this page knows no broker: nothing can be done from here")
        body = {"site": site, "by": caller.name} | wish
        self._desk.ask(body)
        return body

    def _add_reading(self, router: APIRouter) -> None:
        ledger = self._page.ledger

        @router.get("/api/v1/load")
        def sites() -> list[dict[str, Any]]:
            """Return the newest minute of each managed site."""
            return ledger.load_now()

        @router.get("/api/v1/load/{site}")
        def minutes(site: Name, since_ms: Time, until_ms: Time) -> list[dict[str, Any]]:
            """Return a managed site minute by minute."""
            return ledger.load_minutes(site, since_ms, until_ms)

        @router.get("/api/v1/load/{site}/limits")
        def limits(
            site: Name,
            station: Chosen = "",
            evse: Annotated[int | None, Query(ge=1, le=1000)] = None,
            transaction_id: Chosen = "",
        ) -> list[dict[str, Any]]:
            """Return the limits in force now, or of a station (an EVSE, a transaction) all that were."""
            if not station:
                return ledger.limits_now(site)
            return ledger.limits(site, station, evse, transaction_id)

    def _add_wishing(self, router: APIRouter) -> None:
        asking = self._asking

        @router.post(
            "/api/v1/load/{site}",
            status_code=202,
            responses=REFUSALS | {404: {"description": "not a site of this token", "model": Refusal}},
        )
        def wish(
            site: Name, wish: Wish, caller: Annotated[Caller, Depends(asking)], request: Request
        ) -> dict[str, Any]:
            """Limit a site or an EVSE for a time, or say when a vehicle leaves and what it wants."""
            refuse_foreign(request)
            return self.ask(caller, site, wish.model_dump(exclude_none=True))

        @router.post("/managed", include_in_schema=False)
        async def filled_in(request: Request) -> Response:
            """Take the page's form, a limit of the site for some hours; its field `token` is the token."""
            form = await read_form(request)
            caller = await run_in_threadpool(asking, request, token_in(form))
            site = form.get("site", "")
            may_see(caller, site)
            limit, hours = _wanted(form)
            until = _now_ms() + round(hours * _HOUR_MS)
            await run_in_threadpool(self.ask, caller, site, {"limit_a": limit, "until_ms": until})
            return RedirectResponse(f"/managed?site={quote(site, safe='')}", status_code=303)

    def _add_pages(self, router: APIRouter) -> None:
        @router.get("/managed", include_in_schema=False)
        def whole(site: Chosen = "") -> Response:
            return HTMLResponse(self._page.shown("managed.html", site, _now_ms()))

        @router.get("/managed-live", include_in_schema=False)
        def live(site: Chosen = "") -> Response:
            return HTMLResponse(self._page.shown("managed_live.html", site, _now_ms()))


def _wanted(form: dict[str, str]) -> tuple[float, float]:
    """Return the limit, A, and for how many hours: 0 lifts the limit that is in force.

    Raises
    ------
    HTTPException
        422 where either is not a number in its bounds.
    Unsure
        If no vehicle could charge any more.
    """
    if form.get("lift"):
        return 0.0, 0.0
    limit = _number(form, "limit_a", _MOST_A)
    hours = _number(form, "hours", _MOST_HOURS)
    if limit < LEAST_A and hours:
        question = (
            f"{limit:g} A is less than the {LEAST_A:g} A that a vehicle needs:"
            f" all charging at {form.get('site', '')} pauses for {hours:g} h."
        )
        ask_first(form, question, "Pause the site")
    return limit, hours


def _number(form: dict[str, str], name: str, most: float) -> float:
    try:
        value = float(form.get(name, ""))
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise HTTPException(
            422, f"{name}: expected a number from 0 to {most:g}, came {form.get(name, '')!r:.40}"
        )
    return value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

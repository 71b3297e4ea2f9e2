"""Maintenance over HTTP: who needs a technician and why, as a page, CSV and JSON; work done is recorded.

What is recorded goes to the broker as an operator message; nothing is written here.
"""

import itertools
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.maintenance_reader import MaintenanceReader
from connectors.operator import OperatorDesk
from models.errors import RetryLater
from models.inspections import WHAT
from models.maintenance import Assessment, as_json, visits
from models.maintenance_csv import csv_lines
from models.units import MAX_STATION_TIME_MS

from .auth import REFUSALS, Gate, who
from .findings import SCOPE
from .formats import MEDIA
from .forms import read_form, token_in
from .page import Page
from .paging import may_see
from .recent import Recent

_NAMES: Final = ("site", "station", "by", "what", "note")

Site = Annotated[str, Query(max_length=255, description="Only of this site; empty: of all.")]


class Work(BaseModel):
    """What somebody did; `evse` absent: at the whole station; `t` (epoch ms) absent: just now."""

    model_config = ConfigDict(extra="forbid")

    site: str = Field(min_length=1, max_length=255)
    station: str = Field(min_length=1, max_length=255)
    by: str = Field("", max_length=200, description="Who; with a token it is the token's name.")
    what: Literal[
        "inspected",
        "cleaned",
        "repaired",
        "connector_replaced",
        "cable_replaced",
        "contactor_replaced",
        "station_replaced",
    ]
    evse: int | None = Field(None, ge=1, le=1_000_000)
    note: str | None = Field(None, max_length=4000)
    t: int | None = Field(None, ge=0, le=MAX_STATION_TIME_MS)


class _Assessments:
    """All EVSEs as they stand; what is dear to reckon is reckoned only so often."""

    def __init__(self, reader: MaintenanceReader, now_ms: Callable[[], int]) -> None:
        self.reader = reader
        self._recent = Recent(lambda: reader.assessments(now_ms()))

    def all(self, site: str) -> list[Assessment]:
        """Return those of a site, of all if empty, the riskiest first."""
        return [one for one in self._recent() if not site or one.site == site]


def add_maintenance(
    app: FastAPI, page: Page, reader: MaintenanceReader, desk: OperatorDesk | None, gate: Gate
) -> None:
    """Add the addresses; without a desk nothing can be recorded, and every try says so."""
    found = _Assessments(reader, lambda: time.time_ns() // 1_000_000)
    _add_data(app, found)
    _add_page(app, page, found)
    _add_doing(app, desk, gate)


def _add_data(app: FastAPI, found: _Assessments) -> None:
    @app.get("/api/v1/maintenance")
    def assessments(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        offset: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
        site: Site = "",
        choice: Literal["all", "due", "visits"] = "all",
    ) -> list[dict[str, Any]]:
        """Return EVSEs with health, reasons, wear and last inspection, the riskiest first.

        ``due``: those due by rule; ``visits``: the riskiest with a reason for a visit, grouped by site.
        """
        rows = found.all(site)
        if choice == "due":
            rows = [one for one in rows if one.due]
        elif choice == "visits":
            rows = visits(rows, found.reader.config.visit_connectors)
        return [as_json(one) for one in rows[offset : offset + limit]]

    @app.get("/api/v1/maintenance/inspections")
    def inspections(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
        site: Site = "",
        station: Annotated[str, Query(max_length=255)] = "",
        evse: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    ) -> list[dict[str, Any]]:
        """Return what was done, the latest first, with the wear of that moment."""
        return found.reader.inspections(limit, site=site, station=station, evse=evse)

    @app.get("/maintenance.csv", include_in_schema=False)
    def table(site: Site = "") -> Response:
        headers = {"Content-Disposition": 'attachment; filename="maintenance.csv"'}
        lines = csv_lines(found.all(site))
        return StreamingResponse(lines, media_type=MEDIA["csv"], headers=headers)


def _add_page(app: FastAPI, page: Page, found: _Assessments) -> None:
    @app.get("/maintenance", include_in_schema=False)
    def plan(site: Site = "", choice: Literal["visits", "due"] = "visits", done: str = "") -> Response:
        rows = found.all(site)
        due = [one for one in rows if one.due]
        config = found.reader.config
        chosen = visits(due, len(due)) if choice == "due" else visits(rows, config.visit_connectors)
        groups = [(name, list(group)) for name, group in itertools.groupby(chosen, key=lambda a: a.site)]
        text = page.filled(
            "maintenance.html",
            site=site,
            choice=choice,
            sites=sorted({one.site for one in found.all("")}),
            groups=groups,
            chosen=len(chosen),
            evses=len(rows),
            due=len(due),
            what=tuple(WHAT),
            config=config,
            done=bool(done),
        )
        return HTMLResponse(text)


def _add_doing(app: FastAPI, desk: OperatorDesk | None, gate: Gate) -> None:
    doing = gate.changes(SCOPE)

    def record(caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        may_see(caller, body["site"] or "")
        body["by"] = who(caller, body["by"])
        if desk is None:
            raise RetryLater("this page knows no broker: nothing can be recorded from here")
        request = desk.record(body)
        return {"id": request.id, "site": request.site, "station": request.station, "evse": request.evse}

    @app.post("/api/v1/maintenance/inspections", status_code=202, responses=REFUSALS)
    def do(work: Work, caller: Annotated[Caller, Depends(doing)]) -> dict[str, Any]:
        """Record what was done at an EVSE or a station; it shows once it went through the journal."""
        return record(caller, work.model_dump())

    @app.post("/maintenance", include_in_schema=False)
    async def filled_in(request: Request) -> Response:
        form = await read_form(request)
        caller = await run_in_threadpool(doing, request, token_in(form))
        body: dict[str, Any] = {name: form.get(name) or None for name in _NAMES}
        body["evse"] = int(form["evse"]) if form.get("evse", "").isdecimal() else None
        await run_in_threadpool(record, caller, body)
        back = {"done": "1"} | ({"site": form["back"]} if form.get("back") else {})
        return RedirectResponse(f"/maintenance?{urlencode(back)}", status_code=303)

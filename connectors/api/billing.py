"""The billing API, ``/api/v1``: what a billing system pulls, and the decisions of people.

Lists are pages (``Link: …; rel="next"``) in the order of their cursor; CSV and Parquet are streams of all.
Every answer has an ETag that changes with the data behind it.

Annotations are evaluated here: those of an address name dependencies that exist only where it is added.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from connectors.billing_reader import BillingReader, Choice
from connectors.billing_writer import Caller
from connectors.reconciliation import reconcile
from models.units import MAX_STATION_TIME_MS

from . import formats
from .auth import REFUSALS, Gate, Refusal
from .decisions import Decision, decide
from .paging import answer, cursor_of, may_see, next_link, read_cursor, stream, there

Time = Annotated[int | None, Query(ge=0, le=MAX_STATION_TIME_MS, description="Epoch ms.")]
Text = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Most rows of one page of JSON.")]
Cursor = Annotated[int, Query(ge=0, le=2**62, description="Rows after this cursor.")]
Word = Annotated[str, Path(max_length=200)]
FormatOf = Annotated[formats.Format, Query(alias="format")]
Resource = Literal["intervals", "sessions", "cdrs", "tariffs", "reviews"]

_PAGES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "the rows",
        "content": {
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "text/csv": {},
            "application/vnd.apache.parquet": {},
        },
    },
    304: {"description": "nothing changed since the ETag in If-None-Match"},
}
_ONE: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "nothing changed since the ETag in If-None-Match"},
    404: {"description": "there is none", "model": Refusal},
}
_ONLY_JSON: Final[dict[str, Any]] = {
    "description": "the rows",
    "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
}


class BillingApi:
    """Answers of the billing API.

    Parameters
    ----------
    reader : BillingReader
    gate : Gate
    record : callable
        Takes each decision, stores it and tells the flow; returns its row.
    """

    def __init__(
        self,
        reader: BillingReader,
        gate: Gate,
        record: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self.reader, self.gate, self.record = reader, gate, record

    def router(self) -> APIRouter:
        """Return all addresses."""
        router = APIRouter(prefix="/api/v1", tags=["billing"], responses=REFUSALS)
        self._add_energy(router)
        self._add_reconciliation(router)
        self._add_sessions(router)
        self._add_bills(router)
        self._add_changes(router)
        self._add_reviews(router)
        return router

    def _tag(self, request: Request, *resources: str) -> str:
        """Return the ETag of what `request` asks, of the state that `resources` are in.

        Raises
        ------
        HTTPException
            304 when the asker has that already.
        """
        state = ",".join(str(self.reader.last_change(resource)) for resource in resources)
        asked = hashlib.blake2b(str(request.url).encode(), digest_size=6).hexdigest()
        tag = f'W/"{state}-{asked}"'
        known = request.headers.get("if-none-match", "")
        if tag in (part.strip() for part in known.split(",")):
            raise HTTPException(304, headers={"ETag": tag})
        return tag

    def _add_energy(self, router: APIRouter) -> None:
        scope = Annotated[Caller, Depends(self.gate.needs("intervals"))]
        sums = Annotated[Caller, Depends(self.gate.needs("aggregates"))]

        @router.get("/intervals", responses=_PAGES, response_class=Response)
        def intervals(
            request: Request,
            caller: scope,
            site: Text = "",
            station: Text = "",
            evse: Annotated[int | None, Query(ge=0, le=2**31)] = None,
            since_ms: Time = None,
            until_ms: Time = None,
            limit: Limit = 10_000,
            cursor: Annotated[str, Query(max_length=1_000, description="From the Link header.")] = "",
            format_: FormatOf = "json",
        ) -> Response:
            """Return quarter-hour energy by site, station, EVSE and start; null energy is missing, not 0."""
            choice = Choice(caller.sites, site, station, evse, from_ms=since_ms, until_ms=until_ms)
            after = read_cursor(cursor)
            headers = {"ETag": self._tag(request, "intervals")}
            if format_ == "csv":
                return stream(formats.csv_intervals(self.reader.interval_blocks(choice)), format_, headers)
            if format_ == "parquet":
                return stream(
                    formats.parquet_intervals(self.reader.interval_columns(choice)), format_, headers
                )
            rows = self.reader.intervals(choice, after, limit)
            if len(rows) == limit:
                last = [rows[-1][name] for name in ("site", "station", "evse", "start_ms")]
                headers["Link"] = next_link(request, cursor_of(last))
            return JSONResponse(rows, headers=headers)

        @router.get("/aggregates/months", responses=_PAGES, response_class=Response)
        def months(request: Request, caller: sums, site: Text = "", format_: FormatOf = "json") -> Response:
            """Return energy and highest quarter hour of each site and month, in the site's own time."""
            headers = {"ETag": self._tag(request, "intervals")}
            rows = self.reader.months(Choice(caller.sites, site))
            return answer(rows, formats.MONTHS, format_, headers)

        @router.get("/aggregates/quarters", responses=_PAGES, response_class=Response)
        def quarters(
            request: Request,
            caller: sums,
            since_ms: Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)],
            until_ms: Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)],
            site: Text = "",
            limit: Annotated[int, Query(ge=1, le=100_000)] = 100_000,
            format_: FormatOf = "json",
        ) -> Response:
            """Return the load profile of each site: its energy per quarter hour, and of how many EVSEs."""
            headers = {"ETag": self._tag(request, "intervals")}
            choice = Choice(caller.sites, site, from_ms=since_ms, until_ms=until_ms)
            return answer(self.reader.quarters(choice, limit), formats.QUARTERS, format_, headers)

    def _add_reconciliation(self, router: APIRouter) -> None:
        sums = Annotated[Caller, Depends(self.gate.needs("aggregates"))]

        @router.get(
            "/aggregates/reconciliation", responses=_PAGES | {200: _ONLY_JSON}, response_class=Response
        )
        def reconciliation(
            request: Request,
            caller: sums,
            since_ms: Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)],
            until_ms: Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)],
            site: Text = "",
        ) -> Response:
            """Return for each site what registers, bills and reviews hold of a period, and what is left."""
            headers = {"ETag": self._tag(request, "intervals", "sessions")}
            choice = Choice(caller.sites, site, from_ms=since_ms, until_ms=until_ms)
            return JSONResponse(reconcile(self.reader, choice), headers=headers)

    def _add_sessions(self, router: APIRouter) -> None:
        scope = Annotated[Caller, Depends(self.gate.needs("sessions"))]

        @router.get("/sessions", responses=_PAGES, response_class=Response)
        def sessions(
            request: Request,
            caller: scope,
            site: Text = "",
            station: Text = "",
            state: Literal["", "open", "incomplete", "complete", "review", "credited"] = "",
            since_ms: Time = None,
            until_ms: Time = None,
            cursor: Cursor = 0,
            limit: Limit = 1_000,
            format_: FormatOf = "json",
        ) -> Response:
            """Return sessions by cursor; `since_ms` and `until_ms` bound their start."""
            choice = Choice(caller.sites, site, station, None, state, "", since_ms, until_ms)
            return self._list(
                request, "sessions", choice, cursor, limit, format_, formats.SESSIONS, "start_ms"
            )

        @router.get("/sessions/{site}/{station}/{transaction_id}", responses=_ONE, response_class=Response)
        def session(
            request: Request, caller: scope, site: Word, station: Word, transaction_id: Word
        ) -> Response:
            """Return one session with its revisions, the decisions on it and its cost so far."""
            headers = {"ETag": self._tag(request, "sessions", "reviews", "costs")}
            may_see(caller, site)
            return JSONResponse(there(self.reader.session(site, station, transaction_id)), headers=headers)

    def _add_bills(self, router: APIRouter) -> None:
        bills = Annotated[Caller, Depends(self.gate.needs("cdrs"))]
        prices = Annotated[Caller, Depends(self.gate.needs("tariffs"))]

        @router.get("/cdrs", responses=_PAGES, response_class=Response)
        def cdrs(
            request: Request,
            caller: bills,
            site: Text = "",
            transaction_id: Text = "",
            since_ms: Time = None,
            until_ms: Time = None,
            cursor: Cursor = 0,
            limit: Limit = 1_000,
            format_: FormatOf = "json",
        ) -> Response:
            """Return bills by cursor; `body` is the OCPI object; the times bound `last_updated`."""
            choice = Choice(caller.sites, site, "", None, "", transaction_id, since_ms, until_ms)
            return self._list(
                request, "cdrs", choice, cursor, limit, format_, formats.CDRS, "last_updated_ms"
            )

        @router.get("/cdrs/{id}", responses=_ONE, response_class=Response)
        def cdr(request: Request, caller: bills, id: Word) -> Response:
            """Return one bill."""
            headers = {"ETag": self._tag(request, "cdrs")}
            found = there(self.reader.cdr(id))
            may_see(caller, found["site"])
            return JSONResponse(found, headers=headers)

        @router.get("/tariffs", responses=_PAGES | {200: _ONLY_JSON}, response_class=Response)
        def tariffs(request: Request, caller: prices, cursor: Cursor = 0, limit: Limit = 1_000) -> Response:
            """Return tariffs by cursor; `body` is the OCPI object."""
            return self._list(request, "tariffs", Choice(), cursor, limit, "json", (), "")

        @router.get("/tariffs/{country_code}/{party_id}/{id}", responses=_ONE, response_class=Response)
        def tariff(
            request: Request, caller: prices, country_code: Word, party_id: Word, id: Word
        ) -> Response:
            """Return one tariff."""
            headers = {"ETag": self._tag(request, "tariffs")}
            return JSONResponse(there(self.reader.tariff(country_code, party_id, id)), headers=headers)

    def _add_changes(self, router: APIRouter) -> None:
        # The scope follows from the resource, so each has a dependency and an address of its own.
        for resource in ("intervals", "sessions", "cdrs", "tariffs", "reviews", "payments"):
            self._add_changes_of(router, resource)

    def _add_changes_of(self, router: APIRouter, resource: str) -> None:
        scope = Annotated[Caller, Depends(self.gate.needs(resource))]

        @router.get(
            f"/changes/{resource}",
            responses={304: _PAGES[304]},
            response_class=Response,
            name=f"changes of {resource}",
            operation_id=f"changes_{resource}",
        )
        def changes(
            request: Request,
            caller: scope,
            since: Cursor = 0,
            limit: Limit = 1_000,
        ) -> Response:
            """Return what changed after the cursor `since`, oldest first, and the cursor to go on from."""
            headers = {"ETag": self._tag(request, resource)}
            rows = list(self.reader.changed(resource, Choice(caller.sites), since, limit))
            following = rows[-1]["changed"] if rows else since
            return JSONResponse({"items": rows, "next": following}, headers=headers)

    def _add_reviews(self, router: APIRouter) -> None:
        scope = Annotated[Caller, Depends(self.gate.needs("reviews"))]
        deciding = Annotated[Caller, Depends(self.gate.needs("reviews:write"))]

        @router.get("/reviews", responses=_PAGES | {200: _ONLY_JSON}, response_class=Response)
        def reviews(
            request: Request, caller: scope, site: Text = "", cursor: Cursor = 0, limit: Limit = 1_000
        ) -> Response:
            """Return sessions that wait for a person, each with its newest decision."""
            headers = {"ETag": self._tag(request, "sessions", "reviews")}
            rows = self.reader.waiting(Choice(caller.sites, site), cursor, limit)
            if len(rows) == limit:
                headers["Link"] = next_link(request, str(rows[-1]["changed"]))
            return JSONResponse(rows, headers=headers)

        @router.post(
            "/reviews/{site}/{station}/{transaction_id}",
            status_code=201,
            response_class=Response,
            responses={
                400: {"description": "the body is no text", "model": Refusal},
                404: _ONE[404],
                409: {"description": "not in review, or of another revision", "model": Refusal},
            },
        )
        def decided(
            caller: deciding, site: Word, station: Word, transaction_id: Word, decision: Decision
        ) -> Response:
            """Record a decision; the session's next revision follows from it."""
            may_see(caller, site)
            key = (site, station, transaction_id)
            row = decide(self.reader, self.record, key, decision, caller.name, self.gate.now_ms())
            return JSONResponse(row, status_code=201)

    def _list(
        self,
        request: Request,
        resource: str,
        choice: Choice,
        cursor: int,
        limit: int,
        format_: formats.Format,
        columns: tuple[formats.Column, ...],
        time: str,
    ) -> Response:
        headers = {"ETag": self._tag(request, resource)}
        if format_ != "json":
            rows = self.reader.changed(resource, choice, cursor, None, newest_ms=time)
            write = formats.csv_lines if format_ == "csv" else formats.parquet_rows
            return stream(write(columns, rows), format_, headers)
        page = list(self.reader.changed(resource, choice, cursor, limit, newest_ms=time))
        if len(page) == limit:
            headers["Link"] = next_link(request, str(page[-1]["changed"]))
        return JSONResponse(page, headers=headers)

"""Campaigns over HTTP: lists, one with its history and funnel, reports, requests; and their pages.

What is asked goes to the broker as an operator message; nothing is written here.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from msgspec import to_builtins
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.billing_writer import Caller
from connectors.campaign_desk import CampaignDesk
from connectors.campaign_reader import CampaignReader
from connectors.campaign_report import FAILURES, csv_lines, html
from models.errors import RetryLater
from models.firmware import FirmwareError, Image

from .auth import REFUSALS, Gate, everywhere, has, who
from .campaign_page import FLYING, CampaignPage
from .forms import ask_first, read_form, token_in

if TYPE_CHECKING:
    from connectors.firmware_store import FirmwareStore

_MOST_BYTES: Final = 200_000
_MOST_FAILED: Final = 10_000
#: What making and steering a campaign needs, and what letting it begin does.
SCOPE: Final = "campaigns:write"
APPROVE_SCOPE: Final = "campaigns:approve"

PlaceName = Annotated[str, Path(min_length=1, max_length=255)]
CampaignId = Annotated[str, Path(min_length=1, max_length=80)]
State = Annotated[str, Query(max_length=40, description="Only stations in this state; empty: in any.")]
Search = Annotated[str, Query(alias="q", max_length=200, description="Words that must all occur.")]


class CampaignAction(BaseModel):
    """What somebody asks of a campaign."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["approve", "start", "pause", "resume", "abort", "rollback"]
    by: str = Field("", max_length=200, description="Who; with a token it is the token's name.")
    text: str = Field("", max_length=4000)
    waive_gate: bool = False


class Campaigns:
    """The addresses of campaigns.

    Parameters
    ----------
    reader : CampaignReader
        Closed by its owner.
    desk : CampaignDesk or None
        Without one nothing can be asked, and every try says so.
    page : CampaignPage
    gate : Gate
        Making and steering needs the scope ``campaigns:write``, approving ``campaigns:approve``.
    store : FirmwareStore or None
        The images that our own file server gives out.
    """

    def __init__(
        self,
        reader: CampaignReader,
        desk: CampaignDesk | None,
        page: CampaignPage,
        gate: Gate,
        store: "FirmwareStore | None" = None,
    ) -> None:
        self._reader, self._desk, self._page, self._store = reader, desk, page, store
        self._steering = gate.changes(SCOPE, APPROVE_SCOPE)

    def add(self, app: FastAPI) -> None:
        """Add everything to the application."""
        router = APIRouter()
        self._add_reading(router)
        self._add_asking(router)
        self._add_pages(router)
        app.include_router(router)

    def ask(self, caller: Caller, body: dict[str, Any]) -> dict[str, Any]:
        """Publish a request in the name of a token."""
        self._may(caller, body["action"])
        body["by"] = who(caller, str(body.get("by") or ""))
        if body["action"] == "create":
            self._name_images(body)
        elif body["action"] in ("approve", "start", "resume", "rollback"):
            self._check_image(body["id"], "previous" if body["action"] == "rollback" else "image")
        if self._desk is None:
            raise RetryLater("this page knows no broker: nothing can be done from here")
        self._desk.ask(body)
        return {"id": body["id"], "action": body["action"]}

    def _name_images(self, plan: dict[str, Any]) -> None:
        """Put the records of images into a plan that gives their names."""
        for part in ("image", "previous"):
            name = plan.get(part)
            if isinstance(name, str):
                plan[part] = to_builtins(self._given_out(name))

    def _check_image(self, campaign: str, part: str) -> None:
        """Refuse what would end at our own file server: an image that is held, revoked or below the floor."""
        if self._store is None:
            return
        plan = self._known(campaign)["plan"]
        if plan.get(part) and not plan.get("location"):
            self._given_out(plan[part]["image_id"])

    def _given_out(self, name: str) -> Image:
        if self._store is None:
            raise HTTPException(422, f"{name}: no repository of images is configured here; give its record")
        try:
            return self._store.image(name, _now_ms())
        except FirmwareError as error:
            raise HTTPException(422, f"{name} is not given out: {error.detail}") from error

    @staticmethod
    def _may(caller: Caller, action: str) -> None:
        has(caller, APPROVE_SCOPE if action == "approve" else SCOPE)
        everywhere(caller)

    def _known(self, campaign: str) -> dict[str, Any]:
        found = self._reader.campaign(campaign)
        if found is None:
            raise HTTPException(404, "no such campaign")
        return found

    def _why(self, campaign: str, site: str, station: str) -> dict[str, Any]:
        found = self._reader.why(campaign, site, station, _now_ms())
        if found is None:
            raise HTTPException(404, "no such campaign")
        return found

    def _add_reading(self, router: APIRouter) -> None:
        @router.get("/api/v1/campaigns")
        def campaigns(limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
            """Return campaigns, the newest first: plan, state, and how many stations are where."""
            return self._reader.campaigns(limit)

        @router.get("/api/v1/campaigns/{campaign}")
        def campaign(campaign: CampaignId) -> dict[str, Any]:
            """Return one campaign with its ``changes`` (the gate's verdicts among them) and ``funnel``."""
            return self._known(campaign)

        @router.get("/api/v1/campaigns/{campaign}/stations")
        def stations(
            campaign: CampaignId,
            limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
            state: State = "",
            search: Search = "",
        ) -> list[dict[str, Any]]:
            """Return stations of a campaign, those that changed last first."""
            self._known(campaign)
            return self._reader.campaign_stations(campaign, limit, state=state, search=search)

        @router.get("/api/v1/campaigns/{campaign}/outlook")
        def ahead(campaign: CampaignId) -> dict[str, Any]:
            """Return the waves to come, when each may begin at the earliest, and when all may end."""
            self._known(campaign)
            found: dict[str, Any] = to_builtins(self._reader.outlook(campaign, _now_ms()))
            return found

        @router.get("/api/v1/campaigns/{campaign}/findings")
        def raised(campaign: CampaignId) -> list[dict[str, Any]]:
            """Return findings since the newest wave opened, by code: of updated and of waiting stations."""
            self._known(campaign)
            return self._reader.findings(campaign)

        @router.get("/api/v1/campaigns/{campaign}/stations/{site}/{station}")
        def one_station(campaign: CampaignId, site: PlaceName, station: PlaceName) -> dict[str, Any]:
            """Return where a station stands, and ``why`` it does not run the version yet."""
            return self._why(campaign, site, station)

        @router.get("/api/v1/campaigns/{campaign}/report.csv")
        def table(campaign: CampaignId) -> Response:
            """Return every station of a campaign and what became of it, as CSV."""
            self._known(campaign)
            lines: Iterator[str] = csv_lines(self._reader.every_station(campaign))
            name = f'attachment; filename="{campaign}.csv"'
            return StreamingResponse(lines, media_type="text/csv", headers={"Content-Disposition": name})

        @router.get("/api/v1/campaigns/{campaign}/report.html")
        def report(campaign: CampaignId) -> Response:
            """Return the report of a campaign as a page."""
            found = self._known(campaign)
            failed = [
                row
                for state in FAILURES
                for row in self._reader.campaign_stations(campaign, _MOST_FAILED, state=state)
            ]
            return HTMLResponse(html(found, failed, self._reader.findings(campaign)))

    def _add_asking(self, router: APIRouter) -> None:
        steering = self._steering

        @router.post("/api/v1/campaigns", status_code=202, responses=REFUSALS)
        async def create(request: Request, caller: Annotated[Caller, Depends(steering)]) -> dict[str, Any]:
            """Make a campaign: the body is its plan (docs/campaigns.md); images by name or record."""
            if int(request.headers.get("content-length") or 0) > _MOST_BYTES:
                raise HTTPException(413, "too long")
            try:
                plan = await request.json()
            except ValueError as error:
                raise HTTPException(422, f"expected a plan in JSON: {error}") from error
            if not isinstance(plan, dict):
                raise HTTPException(422, "expected a plan: a JSON object")
            return await run_in_threadpool(self.ask, caller, plan | {"action": "create"})

        @router.post("/api/v1/campaigns/{campaign}/actions", status_code=202, responses=REFUSALS)
        def act(
            campaign: CampaignId, action: CampaignAction, caller: Annotated[Caller, Depends(steering)]
        ) -> dict[str, Any]:
            """Approve, start, pause, resume, abort or roll back; what comes of it shows in ``changes``."""
            self._known(campaign)
            return self.ask(caller, {"id": campaign} | action.model_dump())

        @router.post("/campaigns/{campaign}", include_in_schema=False)
        async def filled_in(campaign: CampaignId, request: Request) -> Response:
            """Take the page's form; ``action`` may be ``resume:waive``."""
            form = await read_form(request)
            action, _, more = form.get("action", "").partition(":")
            caller = await run_in_threadpool(steering, request, token_in(form))
            self._may(caller, action)
            found = await run_in_threadpool(self._known, campaign)
            _ask_before(form, found, action, waive=more == "waive")
            body: dict[str, Any] = {"id": campaign, "action": action, "by": form.get("by", "")}
            body |= {"text": form.get("text", ""), "waive_gate": more == "waive"}
            await run_in_threadpool(self.ask, caller, body)
            return RedirectResponse(f"/campaigns/{campaign}", status_code=303)

    def _add_pages(self, router: APIRouter) -> None:
        @router.get("/campaigns", include_in_schema=False)
        def whole() -> Response:
            return HTMLResponse(self._page.listed("campaigns.html", _now_ms()))

        @router.get("/campaigns-live", include_in_schema=False)
        def live() -> Response:
            return HTMLResponse(self._page.listed("campaigns_live.html", _now_ms()))

        @router.get("/campaigns/{campaign}", include_in_schema=False)
        def one(campaign: CampaignId) -> Response:
            return HTMLResponse(self._page.shown("campaign.html", self._known(campaign), _now_ms()))

        @router.get("/campaigns/{campaign}/station", include_in_schema=False)
        def asked(campaign: CampaignId, place: Annotated[str, Query(max_length=600)]) -> Response:
            """Show why one station is not updated yet; ``place`` is ``site/station``."""
            site, _, station = place.strip().partition("/")
            row = self._why(campaign, site, station)
            found = self._known(campaign)
            return HTMLResponse(self._page.station(found, row, _now_ms()))

        @router.get("/campaigns/{campaign}/live", include_in_schema=False)
        def one_live(campaign: CampaignId) -> Response:
            return HTMLResponse(self._page.shown("campaign_live.html", self._known(campaign), _now_ms()))


def _ask_before(form: dict[str, str], found: dict[str, Any], action: str, *, waive: bool) -> None:
    """Ask whoever would end a campaign, turn it back, or go on in spite of its gate."""
    if action not in ("abort", "rollback") and not waive:
        return
    states: dict[str, int] = found["funnel"]["all"]
    name, flying = found["campaign"], sum(states.get(state, 0) for state in FLYING)
    under_way = f"{flying:,} station{'s are' if flying != 1 else ' is'} under way"
    if action == "abort":
        question = f"End {name} for good? No further station is asked; {under_way} and may still finish."
        ask_first(form, question, "Abort the campaign")
    elif action == "rollback":
        done = states.get("succeeded", 0)
        question = (
            f"Roll {name} back? {done:,} station{'s' if done != 1 else ''} with the new version must install"
            f" the previous image; {under_way}."
        )
        ask_first(form, question, "Roll back")
    else:
        question = (
            f"Go on with {name} though its gate did not pass? The next wave opens without the comparison with"
            " stations that wait."
        )
        ask_first(form, question, "Resume without the gate")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

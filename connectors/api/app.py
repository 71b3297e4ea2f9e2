"""The web application: the page, its JSON and /metrics.

The page is rendered on the server; a small script renews its live part every two seconds. Nothing is loaded
from anywhere else, and nothing here writes: what people do goes to the broker.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import HTMLResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.billing_reader import BillingReader
from connectors.campaign_desk import CampaignDesk
from connectors.campaign_reader import CampaignReader
from connectors.load_desk import LoadDesk
from connectors.mqtt_settings import MqttSettings
from connectors.operator import OperatorDesk
from models.units import MAX_STATION_TIME_MS

from .auth import Gate, RateLimit
from .billing import BillingApi
from .campaign_page import CampaignPage
from .campaigns import Campaigns
from .commands import add_commands
from .console import add_console
from .desk import Desk
from .findings import add_findings
from .here import KnownNames
from .load import Load
from .load_page import LoadPage
from .metrics import HealthCollector
from .money import MoneyPages
from .ocpi import create_ocpi
from .page import Choice, Page
from .payments import payments_router
from .reactions import Reactions
from .refusals import add_refusals
from .settings import ApiSettings
from .views import ViewSettings, add_views

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: the Origin of our own forms would be null then, like that of anybody's.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_COMPRESS_BYTES: Final = 4_096

Time = Annotated[int, Query(ge=0, le=MAX_STATION_TIME_MS)]
Site = Annotated[str, Query(max_length=200, description="Only of this site; empty: of all.")]
Search = Annotated[str, Query(alias="q", max_length=200, description="Words that must all occur.")]


class _SafeHeaders:
    """Gives every answer the headers that keep a browser from running or loading what is not ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def create_app(
    ledger_url: str,
    data_dir: Path,
    instance: str = "chargestream",
    broker: MqttSettings | None = None,
    settings: ApiSettings = ApiSettings(),  # noqa: B008  # immutable
) -> FastAPI:
    """Return the web application.

    Parameters
    ----------
    ledger_url : str
        SQLAlchemy address of the ledger; it may not exist yet.
    data_dir : Path
        Where the processes keep their status files.
    instance : str
        Name of this installation, shown in the title.
    broker : MqttSettings, optional
        Where what people do about findings is published; without it nothing can be done from the page.
    settings : ApiSettings
        How often may be asked, and whether OCPI is spoken.

    Raises
    ------
    ConfigError
        If the address is wrong or its driver is missing.
    """
    views = settings.views or ViewSettings()
    page = Page(ledger_url, data_dir, instance, journal=views.journal, detectors=views.detectors)
    desk = OperatorDesk(broker, page.ledger) if broker is not None else None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HealthCollector(page.health))

    reader, billing_desk = BillingReader(ledger_url), Desk(ledger_url, data_dir)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for each in (desk, campaign_desk, load_desk, campaigns, billing_desk, reader, page.ledger):
            if each is not None:
                each.close()

    app = FastAPI(
        title="chargestream",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    _add_middleware(app, settings)
    limit = RateLimit(settings.rate_per_s, settings.burst)
    strangers = RateLimit(settings.strangers_per_s, settings.strangers_burst)
    gate = Gate(reader, limit, strangers)
    page.ask_for_tokens(gate.tokens)
    _add_page(app, page)
    _add_static(app)
    add_views(app, page, views, data_dir, desk, gate)
    _add_data(app, page)
    _add_lists(app, page)
    add_findings(app, page, desk, gate)
    campaigns = CampaignReader(ledger_url)
    campaign_desk = CampaignDesk(broker) if broker is not None else None
    Campaigns(campaigns, campaign_desk, CampaignPage(campaigns, page), gate, settings.images).add(app)
    _add_images(app, page, settings)
    _add_billing(app, page, gate, billing_desk, settings)
    add_commands(app, page, desk, gate)
    Reactions(page, desk, gate).add(app)
    load_desk = LoadDesk(broker) if broker is not None else None
    Load(LoadPage(page), load_desk, gate).add(app)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    add_refusals(app, page)
    return app


def _add_middleware(app: FastAPI, settings: ApiSettings) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=_COMPRESS_BYTES, compresslevel=3)
    if settings.names is not None:
        app.add_middleware(KnownNames, names=settings.names)
    app.add_middleware(_SafeHeaders)


def _add_images(app: FastAPI, page: Page, settings: ApiSettings) -> None:
    if settings.images is None:
        return
    from .images import Images  # and with it TUF, which most installations do not need here

    Images(settings.images, page).add(app)


def _add_billing(app: FastAPI, page: Page, gate: Gate, desk: Desk, settings: ApiSettings) -> None:
    """Add what billing systems and partners ask, and the pages of billing."""
    reader = gate.reader
    app.include_router(BillingApi(reader, gate, desk.record).router())
    app.include_router(payments_router(reader, gate, desk.publish))
    add_console(app, MoneyPages(page, reader), reader, desk.record, gate)
    if settings.ocpi is not None:
        limits = (gate.limit, gate.strangers)
        app.mount("/ocpi", create_ocpi(settings.ocpi, reader, desk.store, desk.publish, *limits))


def _add_page(app: FastAPI, page: Page) -> None:
    @app.get("/", include_in_schema=False)
    def whole(site: Site = "", search: Search = "") -> Response:
        return HTMLResponse(page.render("page.html", Choice(site, search)))

    @app.get("/live", include_in_schema=False)
    def live(site: Site = "", search: Search = "") -> Response:
        return HTMLResponse(page.render("live.html", Choice(site, search)))


def _add_static(app: FastAPI) -> None:
    folder = Path(__file__).with_name("static")
    files = {path.name: path for path in folder.iterdir() if path.suffix in _TYPES}

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        path = files.get(name)
        if path is None:
            raise HTTPException(404, "no such file")
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix])


def _add_data(app: FastAPI, page: Page) -> None:
    """Sums, and what is asked for by time."""

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Say whether all is well; ``problems`` in words. The answer is 200 either way."""
        found = page.health()
        return {
            "well": not found.problems,
            "problems": found.problems,
            "behind_s": None if found.behind_ms is None else found.behind_ms / 1000,
            "unsaved_messages": found.unsaved_messages,
            "closing": found.closing or None,
            "counts": found.counts or None,
            "processes": {p.name: p.state for p in found.processes},
        }

    @app.get("/api/v1/power")
    def power(since_ms: Time, until_ms: Time, site: Site = "") -> list[dict[str, Any]]:
        """Return the mean power of each minute, and of how many EVSEs; empty minutes are absent."""
        found = page.ledger.power(since_ms, until_ms, site=site or None)
        return [{"start_ms": start, "power_w": power_w, "evses": n} for start, power_w, n in found]


def _add_lists(app: FastAPI, page: Page) -> None:
    """What the page lists."""

    @app.get("/api/v1/evses")
    def evses(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
        offset: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
        site: Site = "",
        search: Search = "",
    ) -> list[dict[str, Any]]:
        """Return EVSEs with inventory, newest reading and open findings, by site, station and number."""
        return page.ledger.evses(limit, offset, site=site, search=search)

    @app.get("/api/v1/dead")
    def dead(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """Return the newest messages that could not be used.

        ``payload`` is text, or ``{"base64": …}`` where it is no UTF-8.
        """
        return [row | {"payload": _payload(row["payload"])} for row in page.ledger.dead(limit)]


def _payload(blob: bytes) -> str | dict[str, str]:
    try:
        return bytes(blob).decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(blob).decode()}

"""The page and its JSON: EVSEs, power, open findings, pipeline health, metrics.

Server-rendered; a few lines of script replace the live part every two seconds. Nothing is loaded from
anywhere else.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, select_autoescape
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from connectors.ledger_reader import LedgerReader
from models.errors import ChargestreamError
from models.faults import FAULTS
from models.units import wh_text

from .health import read_health
from .metrics import HealthCollector
from .power import PowerTrace, svg

_CHART_MS: Final = 3_600_000
_SHOWN_EVSES: Final = 500
_SHOWN_FINDINGS: Final = 100
_SHOWN_DEAD: Final = 20

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Page:
    """Everything the page shows, read when asked.

    Parameters
    ----------
    ledger_url : str
    data_dir : Path
        Where the processes keep their status files.
    instance : str
        Name of this installation, shown in the title.
    """

    def __init__(self, ledger_url: str, data_dir: Path, instance: str) -> None:
        self.ledger = LedgerReader(ledger_url)
        self.trace = PowerTrace(self.ledger)
        self.data_dir = data_dir
        self.instance = instance
        self._templates = Environment(
            loader=PackageLoader("connectors.api"), autoescape=select_autoescape(), trim_blocks=True
        )
        self._templates.filters |= {"ago": ago, "wh": wh_shown, "figures": figures}

    def render(self, name: str) -> str:
        """Return the page, or its live part."""
        now_ms = time.time_ns() // 1_000_000
        since = now_ms - _CHART_MS
        context: dict[str, Any] = {"instance": self.instance, "now_ms": now_ms, "faults": FAULTS}
        context["health"] = read_health(self.ledger, self.data_dir, now_ms)
        try:
            points = self.trace.points(since, now_ms)
            context |= {
                "evses": self.ledger.evses(limit=_SHOWN_EVSES),
                "findings": self.ledger.open_findings(limit=_SHOWN_FINDINGS),
                "dead": self.ledger.dead(limit=_SHOWN_DEAD),
                "chart": svg(points, since, now_ms),
                "power_w": points[-1][1] if points else None,
            }
        except ChargestreamError:
            context |= {
                "evses": [],
                "findings": [],
                "dead": [],
                "chart": svg([], since, now_ms),
                "power_w": None,
            }
        return self._templates.get_template(name).render(context)


def ago(time_ms: int | None, now_ms: int) -> str:
    """Return how long ago `time_ms` was, as a person says it; "never" for None."""
    if time_ms is None:
        return "never"
    seconds = max(0, (now_ms - time_ms) // 1000)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def wh_shown(reg_mwh: int | None) -> str:
    """Return a register for a person: kWh with three decimals, an en dash for none."""
    return "–" if reg_mwh is None else f"{int(wh_text(reg_mwh).split('.')[0]) / 1000:,.3f}"


def figures(evidence: dict[str, Any]) -> str:
    """Return evidence as one line: ``voltage 203.1 V, limit 207 V``."""
    units = {
        "v": "V",
        "a": "A",
        "w": "W",
        "c": "°C",
        "s": "s",
        "wh": "Wh",
        "mwh": "mWh",
        "hz": "Hz",
        "percent": "%",
    }
    out = []
    for name, value in list(evidence.items())[:6]:
        words = str(name).split("_")
        unit = units.get(words[-1], "") if len(words) > 1 else ""
        label = " ".join(words[:-1] if unit else words)
        shown = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        out.append(f"{label} {shown} {unit}".strip())
    return ", ".join(out)


def create_app(ledger_url: str, data_dir: Path, instance: str = "chargestream") -> FastAPI:
    """Return the web application.

    Parameters
    ----------
    ledger_url : str
        SQLAlchemy address of the ledger.
    data_dir : Path
    instance : str
    """
    page = Page(ledger_url, data_dir, instance)
    registry = CollectorRegistry(auto_describe=False)

    def now() -> int:
        return time.time_ns() // 1_000_000

    registry.register(HealthCollector(lambda: read_health(page.ledger, data_dir, now())))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        page.trace.start()
        yield
        page.trace.close()
        page.ledger.close()

    app = FastAPI(
        title="chargestream",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_api_route(
        "/", lambda: HTMLResponse(page.render("page.html"), headers=_HEADERS), include_in_schema=False
    )
    app.add_api_route(
        "/live", lambda: HTMLResponse(page.render("live.html"), headers=_HEADERS), include_in_schema=False
    )
    _add_static(app)
    _add_data(app, page)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Say whether all is well; `problems` in words."""
        found = read_health(page.ledger, data_dir, now())
        return {
            "well": not found.problems,
            "problems": found.problems,
            "lag_messages": found.lag_messages,
            "closing": found.closing,
            "counts": found.counts,
        }

    @app.exception_handler(ChargestreamError)
    def unavailable(_: Request, error: ChargestreamError) -> Response:
        return Response(str(error), status_code=503, media_type="text/plain")

    return app


def _add_static(app: FastAPI) -> None:
    folder = Path(__file__).with_name("static")
    types = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    files = {path.name: path for path in folder.iterdir() if path.suffix in types}

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        path = files.get(name)
        if path is None:
            raise HTTPException(404, f"no file {name!r}")
        return Response(path.read_bytes(), media_type=types[path.suffix])


def _add_data(app: FastAPI, page: Page) -> None:
    """What the page shows, as JSON."""

    @app.get("/api/v1/evses")
    def evses(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000, offset: Annotated[int, Query(ge=0)] = 0
    ) -> list[dict[str, Any]]:
        """Return EVSEs with inventory, newest reading and open findings."""
        return page.ledger.evses(limit, offset)

    @app.get("/api/v1/findings")
    def findings(limit: Annotated[int, Query(ge=1, le=10_000)] = 200) -> list[dict[str, Any]]:
        """Return open findings, critical ones first."""
        return page.ledger.open_findings(limit)

    @app.get("/api/v1/intervals")
    def intervals(
        since_ms: Annotated[int, Query(ge=0)] = 0,
        until_ms: Annotated[int | None, Query(ge=0)] = None,
        limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
    ) -> list[dict[str, Any]]:
        """Return quarter-hour energy; ``energy_mwh`` is null where it is missing."""
        return page.ledger.intervals(since_ms, until_ms, limit)

    @app.get("/api/v1/dead")
    def dead(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
        """Return the newest messages that could not be used, payload as text."""
        rows = page.ledger.dead(limit)
        for row in rows:
            if isinstance(row.get("payload"), bytes):
                row["payload"] = row["payload"].decode("utf-8", "replace")
        return rows

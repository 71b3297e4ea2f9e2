"""How well faults are found and handled: a page, CSV and JSON."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from connectors.analytics_reader import FIGURES, AnalyticsReader
from models.faults import FAULTS
from models.maintenance import DAY_MS

from .formats import MEDIA, Column, csv_lines
from .page import Page

#: How far back the page may look, days.
SPANS: Final = (1, 7, 30, 365)
_WORST_SITES: Final = 20
_COLUMNS: Final = tuple(Column(name, "int" if not name.endswith("_s") else "number") for name in FIGURES)

Days = Annotated[float, Query(gt=0, le=36_500, description="Findings raised in the last so many days.")]
Site = Annotated[str, Query(max_length=255, description="Only of this site; empty: of all.")]


def add_analytics(app: FastAPI, page: Page, reader: AnalyticsReader) -> None:
    """Add the addresses."""

    def since(days: float) -> int:
        return time.time_ns() // 1_000_000 - round(days * DAY_MS)

    @app.get("/api/v1/analytics")
    def figures(
        by: Literal["code", "site", "all"] = "code", days: Days = 30, site: Site = ""
    ) -> list[dict[str, Any]]:
        """Return how many findings were raised, are open, were acknowledged and cleared, and mean times (s).

        Live ones that no open parent explains and that were not planned.
        """
        return reader.figures(since(days), by, site=site)

    @app.get("/analytics.csv", include_in_schema=False)
    def table(by: Literal["code", "site"] = "code", days: Days = 30, site: Site = "") -> Response:
        headers = {"Content-Disposition": f'attachment; filename="findings-by-{by}.csv"'}
        rows = reader.figures(since(days), by, site=site)
        lines = csv_lines((Column(by), *_COLUMNS), rows)
        return StreamingResponse(lines, media_type=MEDIA["csv"], headers=headers)

    @app.get("/analytics", include_in_schema=False)
    def shown(days: Days = 30, site: Site = "") -> Response:
        since_ms = since(days)
        text = page.filled(
            "analytics.html",
            days=days,
            spans=SPANS,
            site=site,
            sites=page.ledger.sites(),
            faults=FAULTS,
            all=reader.figures(since_ms, "all", site=site)[0],
            codes=reader.figures(since_ms, "code", site=site),
            worst=reader.figures(since_ms, "site", site=site, limit=_WORST_SITES),
        )
        return HTMLResponse(text)

"""The report of a campaign: a page to read, and a table of every station."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from models.campaign_rows import STATES
from models.evidence_text import utc
from models.gate_words import compared, decided

#: Columns of the CSV, in order; times are ISO 8601, UTC.
COLUMNS: Final = (
    "site", "station", "wave", "state", "attempt", "failed", "fw_before", "fw", "request_id", "asked",
    "ended", "reason",
)  # fmt: skip
#: What begins so is taken for a formula by spreadsheets.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_STYLE: Final = Path(__file__).parent / "api" / "static" / "page.css"
FAILURES: Final = ("failed", "timed_out", "rejected", "unreachable")


def csv_lines(stations: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table, the header first."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in stations:
        told = row | {"asked": _iso(row["asked_ms"]), "ended": _iso(row["ended_ms"])}
        told["wave"] = row["wave"] + 1 if row["wave"] >= 0 else ""
        writer.writerow([_safe(told[name]) for name in COLUMNS])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def html(
    campaign: dict[str, Any],
    failed: list[dict[str, Any]],
    findings: list[dict[str, Any]],
    *,
    alone: bool = False,
) -> str:
    """Return the page: what was asked, what happened, how the gate judged, and what failed.

    Parameters
    ----------
    campaign : dict
        As `CampaignReader.campaign` returns it.
    failed : list
        Stations that did not get the new version.
    findings : list
        As `CampaignReader.findings` returns them.
    alone : bool
        The page is a file of its own: its style is in it.
    """
    environment = Environment(
        loader=PackageLoader("connectors.api"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["utc"] = utc
    return environment.get_template("campaign_report.html").render(
        c=campaign,
        failed=failed,
        findings=findings,
        states=[state for state in STATES if state in campaign["funnel"]["all"]],
        compared=compared,
        decided=decided,
        css=Markup(_STYLE.read_text(encoding="utf-8")) if alone else "",  # noqa: S704  # our own file
    )


def write_report(
    campaign: dict[str, Any],
    stations: Iterable[dict[str, Any]],
    findings: list[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """Write ``<campaign>.csv`` and ``<campaign>.html`` into a folder; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{campaign['campaign']}.{kind}" for kind in ("csv", "html")]
    rows = list(stations)
    with paths[0].open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_lines(rows))
    failed = [row for row in rows if row["state"] in FAILURES]
    paths[1].write_text(html(campaign, failed, findings, alone=True), encoding="utf-8")
    return paths


def _iso(time_ms: int | None) -> str:
    return "" if time_ms is None else utc(time_ms).replace(" UTC", "Z").replace(" ", "T")


def _safe(value: Any) -> Any:
    """Return a value that a spreadsheet does not take for a formula."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

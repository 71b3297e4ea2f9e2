"""What the pages of billing show: sessions, one with its price line by line, reviews, tariffs, load."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from connectors import _ledger_billing as b
from connectors.billing_reader import BillingReader, Choice, Row, decoded
from models.units import wh_text

from .page import Page

SHOWN: Final = 100
SESSIONS_OF_TARIFFS: Final = 500
WIDTH: Final = 960
HEIGHT: Final = 160
_DAY_MS: Final = 86_400_000
_QUARTER_MS: Final = 900_000
#: What a session's line holds at least, for the pages.
_TOLD: Final[dict[str, Any]] = {"signed": [], "decided": None, "charging_states": [], "decisions": []}
STATES: Final = ("open", "incomplete", "complete", "review", "credited")


class MoneyPages:
    """Renders the pages of billing from the ledger. Thread-safe.

    Parameters
    ----------
    page : Page
        Whose templates and instance name are used.
    reader : BillingReader
    """

    def __init__(self, page: Page, reader: BillingReader) -> None:
        self._page, self._reader = page, reader

    def sessions(self, site: str, state: str, search: str, offset: int) -> str:
        """Return the list of sessions, newest first."""
        s = b.sessions
        conditions: list[Any] = []
        if site:
            conditions.append(s.c.site == site)
        if state:
            conditions.append(s.c.state == state)
        if search:
            like = f"%{search}%"
            conditions.append(s.c.station.like(like) | s.c.transaction_id.like(like))
        order = (s.c.start_ms.is_(None), s.c.start_ms.desc(), s.c.transaction_id)
        found = self._reader.rows(s, *conditions, order=order, limit=SHOWN + 1, offset=offset)
        rows = [_shown(decoded(row)) for row in found[:SHOWN]]
        return self._render(
            "sessions.html",
            rows=rows, site=site, state=state, search=search, offset=offset, shown=SHOWN,
            more=len(found) > SHOWN, states=STATES, sites=self._sites(site),
            waiting=self._reader.count(s, s.c.state == "review"),
        )  # fmt: skip

    def reviews(self, site: str) -> str:
        """Return the queue of what a person must decide, oldest first."""
        rows = self._reader.waiting(Choice(site=site), 0, SHOWN)
        return self._render(
            "reviews.html", rows=[_shown(row) for row in rows], site=site, sites=self._sites(site)
        )

    def session(self, site: str, station: str, transaction_id: str) -> str | None:
        """Return the page of one session, None if there is none."""
        found = self._reader.session(site, station, transaction_id)
        if found is None:
            return None
        bills = self._reader.rows(
            b.cdrs, b.cdrs.c.site == site, b.cdrs.c.station == station,
            b.cdrs.c.transaction_id == transaction_id, order=(b.cdrs.c.changed,),
        )  # fmt: skip
        return self._render(
            "session.html",
            s=_shown(found), cdrs=[decoded(row) for row in bills], chart=register_chart(found),
            proofs=[d["signed"] for d in found["body"].get("decisions", []) if "signed" in d],
            width=WIDTH, height=HEIGHT,
        )  # fmt: skip

    def tariffs(self) -> str:
        """Return the tariffs that the newest sessions were billed with, and those that partners see."""
        s = b.sessions
        newest = self._reader.rows(
            s, s.c.state == "complete", order=(s.c.changed.desc(),), limit=SESSIONS_OF_TARIFFS
        )
        published = list(self._reader.changed("tariffs", Choice(), 0, SHOWN))
        return self._render("tariffs.html", used=used_tariffs(map(decoded, newest)), published=published)

    def load(self, site: str, day: str) -> str:
        """Return the load profile of a site on a UTC day; the newest day with energy when none is chosen."""
        sites = self._sites(site)
        site = site or (sites[0] if sites else "")
        start = self.day_ms(site, day)
        choice = Choice(site=site, from_ms=start, until_ms=start + _DAY_MS)
        rows = self._reader.quarters(choice, 96) if site else []
        months = [row for row in self._reader.months(Choice(site=site)) if site]
        peak = max(rows, key=lambda row: (row["energy_mwh"] or 0, -row["start_ms"]), default=None)
        return self._render(
            "load.html",
            rows=rows, months=months, site=site, sites=sites, start_ms=start, peak=peak, width=WIDTH,
            day=dt.datetime.fromtimestamp(start / 1000, dt.UTC).date().isoformat(), height=HEIGHT,
            before=_date(start - _DAY_MS), after=_date(start + _DAY_MS), bars=load_bars(rows, start),
            total_mwh=sum(row["energy_mwh"] or 0 for row in rows),
        )  # fmt: skip

    def _sites(self, chosen: str) -> list[str]:
        """Return the sites to choose from; the one that was chosen is among them, known or not."""
        return sorted({*self._page.ledger.sites(), *([chosen] if chosen else [])})

    def day_ms(self, site: str, day: str) -> int:
        """Return the begin of a UTC day ``YYYY-MM-DD``; without one, of the newest day of the site."""
        if day:
            return int(dt.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) * 1000
        newest = self._reader.newest_quarter(site) or 0
        return newest - newest % _DAY_MS

    def _render(self, name: str, **more: Any) -> str:
        return self._page.filled(name, **more)


def _date(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).date().isoformat() if time_ms >= 0 else ""


def _shown(row: Row) -> Row:
    """Return a session with what the pages say of it in one place."""
    body = _TOLD | row["body"]
    price = body.get("price") or {}
    return row | {
        "body": body,
        "reasons": body.get("reasons", []),
        "signed_state": body.get("signed_state"),
        "price": price,
        "total": f"{price['total_incl']} {price['currency']}" if price else "",
    }


def register_chart(session: Row) -> dict[str, Any] | None:
    """Return the curve of the energy of a session by its registers, None where fewer than two are known.

    Points are SVG coordinates; `steps` are mean powers between registers.
    """
    body, begin = session["body"], session["begin_mwh"]
    start, end, energy = session["start_ms"], session["end_ms"], session["energy_mwh"]
    if begin is None or start is None or end is None or not energy or end <= start:
        return None
    points = [(start, 0)]
    for time_ms, text in body.get("registers", []):
        counted = round(float(text) * 1000) - begin
        if points[-1][0] < time_ms < end and points[-1][1] <= counted <= energy:
            points.append((time_ms, counted))
    points.append((end, energy))
    line = " ".join(
        f"{WIDTH * (t - start) / (end - start):.1f},{HEIGHT * (1 - e / energy):.1f}" for t, e in points
    )
    powers = [
        (t0, t1, wh_text((e1 - e0) * 3_600_000 // (t1 - t0)))
        for (t0, e0), (t1, e1) in pairwise(points)
        if t1 > t0
    ]
    return {"line": line, "area": f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}", "powers": powers, "top": energy}


def load_bars(rows: list[Row], start_ms: int) -> dict[str, Any]:
    """Return a bar for each quarter hour of a day: x, y, height, whether some EVSE is missing, and words."""
    top_w = max((row["energy_mwh"] or 0 for row in rows), default=0) * 4 / 1000
    step = WIDTH / 96
    bars = []
    for row in rows:
        power_w = (row["energy_mwh"] or 0) * 4 / 1000
        high = HEIGHT * power_w / top_w if top_w else 0.0
        place = (row["start_ms"] - start_ms) // _QUARTER_MS
        clock = dt.datetime.fromtimestamp(row["start_ms"] / 1000, dt.UTC).strftime("%H:%M")
        bars.append(
            {
                "x": round(place * step, 1), "y": round(HEIGHT - high, 1), "h": round(high, 1),
                "w": round(step - 1, 1), "missing": row["evses_missing"] > 0,
                "says": f"{clock}: {power_w / 1000:,.2f} kW",
            }
        )  # fmt: skip
    return {"bars": bars, "top_kw": top_w / 1000}


def used_tariffs(sessions: Iterable[Row]) -> list[Row]:
    """Return the tariffs that sessions were billed with, by id and version, with their prices in words."""
    found: dict[tuple[str, str], Row] = {}
    for session in sessions:
        snapshot = (session["body"].get("price") or {}).get("snapshot")
        if not snapshot:
            continue
        key = (snapshot["tariff_id"], snapshot["version"])
        known = found.setdefault(
            key,
            {
                "tariff_id": key[0], "version": key[1], "kind": snapshot["kind"],
                "sites": set(), "sessions": 0,
                "elements": [price_words(e) for e in snapshot["tariff"].get("elements", [])],
            },
        )  # fmt: skip
        known["sites"].add(session["site"])
        known["sessions"] += 1
    return [row | {"sites": sorted(row["sites"])} for row in found.values()]


def price_words(element: Mapping[str, Any]) -> str:
    """Return an element of a tariff in words: its prices, and when they hold."""
    units = {"ENERGY": "kWh", "TIME": "h", "PARKING_TIME": "h idle", "FLAT": "session"}
    prices = [f"{c['price']} per {units.get(c['type'], c['type'])}" for c in element["price_components"]]
    when = [
        f"{name.replace('_', ' ')} {value}" for name, value in (element.get("restrictions") or {}).items()
    ]
    return ", ".join(prices) + (f" ({', '.join(when)})" if when else "")

"""Campaigns as the ledger has them: lists, one with its history and funnel, its stations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import _ledger_campaigns as c
from .ledger_reader import LedgerReader

Row = dict[str, Any]
_BLOCK = 1000


class CampaignReader(LedgerReader):
    """Reads campaigns, and all that a reader of the ledger reads."""

    def campaigns(self, limit: int = 200) -> list[Row]:
        """Return campaigns, the newest first, each with its ``plan`` and the counts of now."""
        with self._connected() as db:
            rows = db.execute(c.all_campaigns().limit(limit)).mappings().all()
            return [_shown(row) | {"funnel": _funnel(db, row["campaign"])} for row in rows]

    def campaign(self, campaign: str) -> Row | None:
        """Return one campaign with ``changes`` and ``funnel``, None if there is none of this id."""
        with self._connected() as db:
            query = c.all_campaigns().where(c.campaigns.c.campaign == campaign)
            row = db.execute(query).mappings().first()
            if row is None:
                return None
            changes = [c.plain(change) for change in db.execute(c.changes_of(campaign)).mappings()]
            return _shown(row) | {"changes": changes, "funnel": _funnel(db, campaign)}

    def refused_requests(self, limit: int = 20) -> list[Row]:
        """Return requests that belong to no campaign and were refused, the newest first."""
        with self._connected() as db:
            rows = db.execute(c.changes_of("").limit(100_000)).mappings().all()
        return [c.plain(row) for row in rows[::-1][:limit]]

    def campaign_stations(
        self, campaign: str, limit: int = 200, *, state: str = "", search: str = ""
    ) -> list[Row]:
        """Return stations of a campaign, those that changed last first."""
        with self._connected() as db:
            query = c.stations_of(campaign, state=state, search=search).limit(limit)
            return [dict(row) for row in db.execute(query).mappings()]

    def every_station(self, campaign: str) -> Iterator[Row]:
        """Yield all stations of a campaign, by site and station."""
        t = c.campaign_stations.c
        query = c.stations_of(campaign).order_by(None).order_by(t.site, t.station)
        with self._connected() as db:
            for row in db.execution_options(yield_per=_BLOCK).execute(query).mappings():
                yield dict(row)


def _shown(row: Any) -> Row:
    """Return a campaign; its certificates and signatures are left out, nobody reads them."""
    found = c.plain({name: row[name] for name in c.campaigns.c.keys()})  # noqa: SIM118  # columns, no dict
    plan = c.plain({"plan": row["made"], "counts": None, "verdict": None})["plan"] or {}
    for name in ("image", "previous"):
        if plan.get(name):
            hidden = ("signing_certificate", "signature", "chain")
            plan[name] = {key: value for key, value in plan[name].items() if key not in hidden}
    return found | {"plan": plan, "made_ms": row["made_ms"], "made_by": row["made_by"]}


def _funnel(db: Any, campaign: str) -> Row:
    """Return how many stations are in each state, ``all`` and by wave (-1: not open yet)."""
    waves: dict[int, dict[str, int]] = {}
    total: dict[str, int] = {}
    for wave, state, count in db.execute(c.funnel_of(campaign)):
        waves.setdefault(int(wave), {})[state] = int(count)
        total[state] = total.get(state, 0) + int(count)
    return {
        "all": total,
        "waves": [{"wave": wave, "states": states} for wave, states in sorted(waves.items())],
    }

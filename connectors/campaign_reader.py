"""Campaigns as the ledger has them: lists, one with its history and funnel, its stations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from models.campaign_outlook import Outlook, View, outlook, view_of, waves_of
from models.campaign_why import Standing, why

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

    def outlook(self, campaign: str, now_ms: int) -> Outlook | None:
        """Return what is ahead of a campaign, None if there is none of this id."""
        with self._connected() as db:
            view = _view(db, campaign)
        return None if view is None else outlook(view, now_ms)

    def why(self, campaign: str, site: str, station: str, now_ms: int) -> Row | None:
        """Return where a station stands in a campaign and ``why`` it does not run the version yet."""
        with self._connected() as db:
            view = _view(db, campaign)
            if view is None:
                return None
            standing = _standing(db, campaign, site, station)
        row = standing.row or {"campaign": campaign, "site": site, "station": station, "state": "not in it"}
        return row | {"why": why(view, outlook(view, now_ms), standing, now_ms)}

    def findings(self, campaign: str) -> list[Row]:
        """Return findings raised since the newest wave opened, by code, most of updated stations first.

        ``updated`` of stations that run the new version, ``waiting`` of those that wait; with the number of
        stations of each. Empty while no wave is open.
        """
        with self._connected() as db:
            view = _view(db, campaign)
            if view is None or not view.waves:
                return []
            found = db.execute(c.raised_since(campaign, view.waves[-1].opened_ms)).all()
            states = _funnel(db, campaign)["all"]
        codes: dict[str, dict[str, int]] = {}
        for code, state, count in found:
            group = "updated" if state == "succeeded" else "waiting" if state in ("waiting", "due") else ""
            if group:
                counts = codes.setdefault(code, {"updated": 0, "waiting": 0})
                counts[group] += int(count)
        stations = {
            "updated_stations": states.get("succeeded", 0),
            "waiting_stations": states.get("waiting", 0) + states.get("due", 0),
        }
        rows = [{"code": code} | counts | stations for code, counts in codes.items()]
        return sorted(rows, key=lambda row: (-row["updated"], row["code"]))

    def planned(self, campaign: str) -> Iterator[Row]:
        """Yield all stations of a campaign by site and station, each with the wave it is in or will be in."""
        with self._connected() as db:
            view = _view(db, campaign)
            if view is None:
                return
            waves = waves_of(view, _waiting(db, campaign))
        for row in self.every_station(campaign):
            yield row | {"planned_wave": waves.get((row["site"], row["station"]), row["wave"])}

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


def _view(db: Any, campaign: str) -> View | None:
    """Return a campaign for `models.campaign_outlook`, None if there is none of this id."""
    row = db.execute(c.all_campaigns().where(c.campaigns.c.campaign == campaign)).mappings().first()
    if row is None:
        return None
    changes = [c.plain(change) for change in db.execute(c.changes_of(campaign)).mappings()]
    states = {int(wave["wave"]): wave["states"] for wave in _funnel(db, campaign)["waves"]}
    plan = next(change["plan"] for change in changes if change["plan"] is not None)
    update_s = db.execute(c.mean_update_s(campaign)).scalar()
    return view_of(plan, row["state"], changes, states, None if update_s is None else float(update_s))


def _waiting(db: Any, campaign: str) -> list[tuple[str, str]]:
    return [(site, station) for site, station in db.execute(c.waiting_of(campaign))]


def _standing(db: Any, campaign: str, site: str, station: str) -> Standing:
    row = db.execute(c.station_of(campaign, site, station)).mappings().first()
    known = db.execute(c.identity_of(site, station)).first()
    return Standing(
        site=site,
        station=station,
        row=None if row is None else dict(row),
        **({} if known is None else dict(zip(("vendor", "model", "fw"), known, strict=True))),
        offline_ms=db.execute(c.offline_since(site, station)).scalar(),
        charging_ms=db.execute(c.charging_since(site, station)).scalar(),
        elsewhere=db.execute(c.at_work_elsewhere(campaign, site, station)).scalar() or "",
        waiting=_waiting(db, campaign) if row is not None and row["state"] == "waiting" else [],
    )

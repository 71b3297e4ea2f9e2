"""The ledger's tables of campaigns and of the stations in them, and the queries over them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, String, Table, Text, func, or_, select

from models.campaign_outlook import FLYING
from models.campaign_rows import CampaignRow, CampaignStationRow

from . import _ledger_tables as t
from ._ledger_billing import sessions
from ._ledger_live import searched
from ._ledger_tables import metadata

_JSON: Final = ("counts", "plan", "verdict")


def _columns() -> list[Column[int] | Column[str]]:
    """Return everything of a campaign's row but its key; new `Column` objects for each table."""
    return [
        Column("event", String, nullable=False),
        Column("state", String, nullable=False),
        Column("by", String, nullable=False),
        Column("text", Text, nullable=False),
        Column("wave", BigInteger, nullable=False),
        Column("counts", Text, nullable=False),
        Column("at_ms", BigInteger, nullable=False),
        Column("plan", Text),
        Column("verdict", Text),
    ]


campaigns: Final = Table(
    "campaigns",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("change", BigInteger, nullable=False),
    *_columns(),
)

campaign_changes: Final = Table(
    "campaign_changes",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    *_columns(),
)

campaign_stations: Final = Table(
    "campaign_stations",
    metadata,
    Column("campaign", String, primary_key=True),
    Column("site", String, primary_key=True),
    Column("station", String, primary_key=True),
    Column("change", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("wave", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("request_id", BigInteger),
    Column("fw_before", String, nullable=False),
    Column("fw", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("at_ms", BigInteger, nullable=False),
    Index("campaign_stations_by_state", "campaign", "state", "wave"),
)


def campaign_row(_shard: int, record: CampaignRow) -> dict[str, Any]:
    """Return the row of a change of a campaign."""
    row = msgspec.structs.asdict(record)
    for name in _JSON:
        value = row[name]
        row[name] = None if value is None else msgspec.json.encode(value, order="sorted").decode()
    return row


def station_row(_shard: int, record: CampaignStationRow) -> dict[str, Any]:
    """Return the row of a station in a campaign."""
    return msgspec.structs.asdict(record)


def plain(row: Any) -> dict[str, Any]:
    """Return a row with its JSON read."""
    found = dict(row)
    for name in _JSON:
        found[name] = None if found[name] is None else json.loads(found[name])
    return found


def all_campaigns() -> Any:
    """Return the query for campaigns, the newest first; what was refused of none is not one."""
    made = campaign_changes.alias("made")
    return (
        select(
            campaigns, made.c.plan.label("made"), made.c.at_ms.label("made_ms"), made.c.by.label("made_by")
        )
        .join(made, (made.c.campaign == campaigns.c.campaign) & (made.c.event == "create"))
        .order_by(made.c.at_ms.desc(), campaigns.c.campaign)
    )


def changes_of(campaign: str) -> Any:
    """Return the query for the history of a campaign."""
    c = campaign_changes.c
    return select(campaign_changes).where(c.campaign == campaign).order_by(c.change)


def funnel_of(campaign: str) -> Any:
    """Return the query for how many stations of each wave are in each state."""
    c = campaign_stations.c
    return (
        select(c.wave, c.state, func.count().label("stations"))
        .where(c.campaign == campaign)
        .group_by(c.wave, c.state)
        .order_by(c.wave, c.state)
    )


def stations_of(campaign: str, *, state: str = "", search: str = "") -> Any:
    """Return the query for stations of a campaign, those that changed last first."""
    c = campaign_stations.c
    query = select(campaign_stations).where(c.campaign == campaign)
    if state:
        query = query.where(c.state == state)
    words = [c.site, c.station, c.state, c.reason, c.fw]
    return searched(query, search, words).order_by(c.at_ms.desc(), c.site, c.station)


def station_of(campaign: str, site: str, station: str) -> Any:
    """Return the query for one station of a campaign."""
    c = campaign_stations.c
    return select(campaign_stations).where(c.campaign == campaign, c.site == site, c.station == station)


def waiting_of(campaign: str) -> Any:
    """Return the query for site and station of those whose wave is not open."""
    c = campaign_stations.c
    return select(c.site, c.station).where(c.campaign == campaign, c.state == "waiting")


def mean_update_s(campaign: str) -> Any:
    """Return the query for the mean time of updates that succeeded, from the request to the birth."""
    c = campaign_stations.c
    took = (c.ended_ms - c.asked_ms) / 1000.0
    return select(func.avg(took)).where(
        c.campaign == campaign, c.state == "succeeded", c.asked_ms.is_not(None)
    )


def identity_of(site: str, station: str) -> Any:
    """Return the query for vendor, model and version of a station, by its inventory."""
    c = t.devices.c
    return select(c.vendor, c.model, c.fw).where(c.site == site, c.station == station).limit(1)


def offline_since(site: str, station: str) -> Any:
    """Return the query for the time since when a station, or the node it is, is offline."""
    c = t.findings.c
    here = or_(c.station == station, c.node == station)
    opened = (c.code == "offline", c.state != "cleared", c.live)
    return select(func.min(c.start)).where(*opened, c.site == site, here)


def charging_since(site: str, station: str) -> Any:
    """Return the query for the time since when a transaction runs at a station."""
    c = sessions.c
    return select(func.min(c.start_ms)).where(c.site == site, c.station == station, c.state == "open")


def raised_since(campaign: str, since_ms: int) -> Any:
    """Return the query for findings raised since then: code, state in the campaign, how many."""
    s, f = campaign_stations.c, t.finding_changes.c
    same = (s.site == f.site) & (s.station == f.station)
    return (
        select(f.code, s.state, func.count())
        .join_from(t.finding_changes, campaign_stations, same)
        .where(s.campaign == campaign, f.change == 1, f.changed_at >= since_ms, f.live)
        .group_by(f.code, s.state)
    )


def at_work_elsewhere(campaign: str, site: str, station: str) -> Any:
    """Return the query for another campaign that has an update of a station under way."""
    c = campaign_stations.c
    own = (c.campaign != campaign, c.site == site, c.station == station)
    return select(func.min(c.campaign)).where(*own, c.state.in_(FLYING))

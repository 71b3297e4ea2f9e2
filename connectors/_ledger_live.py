"""What the live page asks the ledger: the most urgent EVSEs first, findings that nothing else explains."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import String, and_, case, cast, exists, func, literal, select, union_all

from . import _ledger_tables as t

SEVERITY_RANK: Final = {"info": 0, "warning": 1, "critical": 2}
#: Order of EVSEs that have equally severe findings; what the list lacks comes last.
_STATUS_ORDER: Final = {
    "Faulted": 0,
    "Charging": 1,
    "SuspendedEV": 2,
    "SuspendedEVSE": 2,
    "Occupied": 3,
    "Available": 4,
    "Unavailable": 5,
}
_MOST_WORDS: Final = 5


def evse_keys() -> Any:
    """Return the keys and statuses of all EVSEs that were declared or sent a reading."""
    d, now = t.devices.c, t.latest.c
    silent = select(d.site, d.station, d.evse, literal(None, String).label("status")).where(
        ~exists().where(_same_evse(t.devices, t.latest))
    )
    return union_all(select(now.site, now.station, now.evse, now.status), silent).subquery("evse_keys")


def severity_rank(column: Any) -> Any:
    """Return the severity of `column` as a number that grows with it."""
    return case(SEVERITY_RANK, value=column, else_=-1)


def is_open() -> Any:
    """Return the condition for a finding that is open."""
    return and_(t.findings.c.state != "cleared", t.findings.c.live)


def evses(site: str, search: str, limit: int, offset: int, *, urgent_first: bool) -> Any:
    """Return the query for EVSEs: inventory, newest reading, open findings; ``matching``: how many.

    They are chosen by their keys alone and looked up then: ten thousand wide rows are slow to sort.
    """
    chosen = _chosen_evses(site, search)
    order = [chosen.selected_columns[name] for name in ("site", "station", "evse")]
    if urgent_first:
        order = [chosen.selected_columns["rank"].desc(), chosen.selected_columns["place"], *order]
    picked = chosen.order_by(*order).limit(limit).offset(offset).subquery("picked")
    p, d, now = picked.c, t.devices.c, t.latest.c
    order = [p.site, p.station, p.evse]
    if urgent_first:
        order = [p.rank.desc(), p.place, *order]
    return (
        select(
            p.site, p.station, p.evse, d.node, d.vendor, d.model, d.fw, d.connector_type, d.p_max_w, d.dc,
            now.time_ms, now.status, now.state, now.reg_mwh, now.power_w, now["values"],
            p.open_findings, p.rank, p.matching,
        )
        .select_from(
            picked.outerjoin(t.devices, _same_evse(picked, t.devices)).outerjoin(
                t.latest, _same_evse(picked, t.latest)
            )
        )
        .order_by(*order)
    )  # fmt: skip


def _chosen_evses(site: str, search: str) -> Any:
    """Return the query for the keys of EVSEs at `site` that `search` finds, with what orders them."""
    keys = evse_keys()
    f, d = t.findings.c, t.devices.c
    opened = (
        select(
            f.site,
            f.station,
            f.evse,
            func.count().label("open_findings"),
            func.max(severity_rank(f.severity)).label("rank"),
        )
        .where(is_open(), f.evse.is_not(None))
        .group_by(f.site, f.station, f.evse)
        .subquery()
    )
    source = keys.outerjoin(opened, _same_evse(keys, opened))
    if search:
        source = source.outerjoin(t.devices, _same_evse(keys, t.devices))
    query = select(
        keys.c.site,
        keys.c.station,
        keys.c.evse,
        func.coalesce(opened.c.open_findings, 0).label("open_findings"),
        func.coalesce(opened.c.rank, -1).label("rank"),
        case(_STATUS_ORDER, value=keys.c.status, else_=len(_STATUS_ORDER)).label("place"),
        func.count().over().label("matching"),
    ).select_from(source)
    if site:
        query = query.where(keys.c.site == site)
    place = [keys.c.site, keys.c.station + "/" + cast(keys.c.evse, String)]
    words = [d.node, d.vendor, d.model, d.fw, d.connector_type, keys.c.status]
    return searched(query, search, [*place, *words])


def _same_evse(left: Any, right: Any) -> Any:
    return and_(*(left.c[name] == right.c[name] for name in ("site", "station", "evse")))


def searched(query: Any, search: str, columns: list[Any]) -> Any:
    """Keep the rows that hold every word of `search` somewhere in `columns`."""
    words = search.lower().split()[:_MOST_WORDS]
    if not words:
        return query
    haystack: Any = func.coalesce(columns[0], "")
    for column in columns[1:]:
        haystack = haystack + " " + func.coalesce(column, "")
    lowered = func.lower(haystack)
    return query.where(*(lowered.contains(word, autoescape=True) for word in words))

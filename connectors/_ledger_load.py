"""The ledger's tables of load management: limits in force at EVSEs, and managed sites minute by minute."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Float, Index, String, Table, and_, func, select

from models.load_rows import LimitRow, LoadRow

from ._ledger_tables import metadata

#: Triples of a `LoadRow` and the columns they become, one for each phase.
_BY_PHASE: Final = ("limit", "current", "other", "held")


def _phases(name: str) -> list[Column[float]]:
    return [Column(f"{name}_l{phase}_a", Float, nullable=False) for phase in (1, 2, 3)]


limits: Final = Table(
    "limits",
    metadata,
    Column("site", String, primary_key=True),
    Column("station", String, primary_key=True),
    Column("evse", BigInteger, primary_key=True),
    Column("from_ms", BigInteger, primary_key=True),
    Column("limit_a", Float),
    Column("cause", String, nullable=False),
    Column("transaction_id", String, nullable=False),
    Index("limits_by_transaction", "site", "station", "transaction_id"),
)

loads: Final = Table(
    "loads",
    metadata,
    Column("site", String, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True),
    *[column for name in _BY_PHASE for column in _phases(name)],
    Column("ev_kw", Float, nullable=False),
    Column("site_kw", Float, nullable=False),
    Column("quarter_kwh", Float, nullable=False),
    Column("projected_kw", Float, nullable=False),
    Column("peak_kw", Float, nullable=False),
    Column("demand_limit_kw", Float),
    Column("charging", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("commands", BigInteger, nullable=False),
)


def limit_row(_shard: int, record: LimitRow) -> dict[str, Any]:
    """Return the columns of a limit in force."""
    return msgspec.structs.asdict(record)


def load_row(_shard: int, record: LoadRow) -> dict[str, Any]:
    """Return the columns of a site's minute."""
    row = msgspec.structs.asdict(record)
    for name in _BY_PHASE:
        for phase, value in enumerate(row.pop(f"{name}_a"), start=1):
            row[f"{name}_l{phase}_a"] = value
    return row


def minutes(site: str, since_ms: int, until_ms: int) -> Any:
    """Return the query for the minutes of one site (or all, ""), in order of time."""
    chosen = [loads.c.start_ms >= since_ms, loads.c.start_ms < until_ms]
    chosen += [loads.c.site == site] if site else []
    return select(loads).where(*chosen).order_by(loads.c.start_ms, loads.c.site)


def newest(site: str) -> Any:
    """Return the query for the newest minute of each managed site, or of one."""
    last = select(loads.c.site, func.max(loads.c.start_ms).label("start_ms")).group_by(loads.c.site)
    if site:
        last = last.where(loads.c.site == site)
    found = last.subquery("last")
    same = and_(loads.c.site == found.c.site, loads.c.start_ms == found.c.start_ms)
    return select(loads).join(found, same).order_by(loads.c.site)


def in_force(site: str) -> Any:
    """Return the query for the limits in force now at a site's EVSEs; those whose vehicle left are not."""
    last = (
        select(limits.c.site, limits.c.station, limits.c.evse, func.max(limits.c.from_ms).label("from_ms"))
        .group_by(limits.c.site, limits.c.station, limits.c.evse)
        .where(limits.c.site == site)
        .subquery("last")
    )
    names = ("site", "station", "evse", "from_ms")
    same = and_(*[limits.c[name] == last.c[name] for name in names])
    query = select(limits).join(last, same).where(limits.c.limit_a.is_not(None))
    return query.order_by(limits.c.station, limits.c.evse)


def history(site: str, station: str, evse: int | None, transaction_id: str) -> Any:
    """Return the query for the limits of an EVSE or a transaction, the oldest first."""
    chosen = [limits.c.site == site, limits.c.station == station]
    chosen += [limits.c.evse == evse] if evse is not None else []
    chosen += [limits.c.transaction_id == transaction_id] if transaction_id else []
    return select(limits).where(*chosen).order_by(limits.c.from_ms)

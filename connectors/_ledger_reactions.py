"""The ledger's table of automatic reactions, and the query over it."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, String, Table, Text, and_, func, select

from models.outputs import ReactionRow

from ._ledger_tables import metadata

reactions: Final = Table(
    "reactions",
    metadata,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("order", BigInteger, primary_key=True, autoincrement=False),
    Column("finding_id", String, primary_key=True),
    Column("rule", String, primary_key=True),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("code", String, nullable=False),
    Column("site", String, nullable=False),
    Column("station", String, nullable=False),
    Column("evse", BigInteger),
    Column("command", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("cause", String, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("reactions_by_time", "at_ms"),
)


def reaction_row(_shard: int, record: ReactionRow) -> dict[str, Any]:
    """Return the row of what became of a step."""
    row = msgspec.structs.asdict(record)
    row["body"] = msgspec.json.encode(row["body"], order="sorted").decode()
    return row


def chosen(*, site: str = "", rule: str = "", finding: str = "") -> Any:
    """Return the query for reactions, the newest first; empty: any. `finding` may be the start of an id."""
    c = reactions.c
    query = select(reactions)
    for column, value in ((c.site, site), (c.rule, rule)):
        if value:
            query = query.where(column == value)
    if finding:
        query = query.where(c.finding_id.startswith(finding, autoescape=True))
    return query.order_by(c.at_ms.desc(), c.shard.desc(), c.order.desc(), c.finding_id, c.change.desc())


def opened() -> Any:
    """Return the query for who opened the breaker of each shard where it is open, the latest first."""
    c = reactions.c
    about_it = select(c.shard, func.max(c.order).label("order")).where(c.finding_id == "").group_by(c.shard)
    last = about_it.subquery("last")
    same = and_(c.shard == last.c.shard, c.order == last.c.order, c.finding_id == "")
    return select(reactions).join(last, same).where(c.state == "tripped").order_by(c.at_ms.desc(), c.shard)


def plain(row: Any) -> dict[str, Any]:
    """Return a row with its JSON read."""
    return dict(row) | {"body": json.loads(row["body"])}

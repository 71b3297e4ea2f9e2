"""The ledger's table of automatic reactions, and the query over it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, Index, String, Table, Text, and_, func, select

from models.command_types import command_id
from models.outputs import ReactionRow
from models.reactions import in_words

from ._ledger_commands import commands
from ._ledger_tables import metadata

#: SQLite takes so many values in one query everywhere.
_AT_ONCE: Final = 500

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


def plain(db: Any, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows with their JSON read, in words (`does`), and with what became of each command (`answer`).

    `cmd_id` and `answer` are empty where nothing was asked of a station; the answer is a state of a command
    and the station's own word or the reason for it.
    """
    found = [dict(row) | {"body": json.loads(row["body"])} for row in rows]
    for row in found:
        row["does"] = in_words(row["command"], row["body"]) if row["command"] else ""
        asked = row["state"] in ("sent", "undone")
        row["cmd_id"] = command_id(row["site"], row["station"], row["cause"]) if asked else ""
    c = commands.c
    ids = sorted({row["cmd_id"] for row in found if row["cmd_id"]})
    answers: dict[str, str] = {}
    for at in range(0, len(ids), _AT_ONCE):
        query = select(c.cmd_id, c.state, c.status, c.reason).where(c.cmd_id.in_(ids[at : at + _AT_ONCE]))
        for cmd_id, state, status, reason in db.execute(query):
            more = reason or (status if status.lower() != state else "")
            answers[cmd_id] = f"{state} ({more})" if more else state
    return [row | {"answer": answers.get(row["cmd_id"], "")} for row in found]

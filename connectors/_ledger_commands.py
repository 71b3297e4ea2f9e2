"""The ledger's tables of commands to stations, and the queries over them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text, select

from models.outputs import CommandRow

from ._ledger_live import searched
from ._ledger_tables import metadata

_JSON: Final = ("body", "answer")


def _columns() -> list[Column[int] | Column[str]]:
    """Return everything of a command's row but its key; new `Column` objects for each table."""
    return [
        Column("event", String, nullable=False),
        Column("state", String, nullable=False),
        Column("site", String, nullable=False),
        Column("station", String, nullable=False),
        Column("evse", BigInteger),
        Column("connector", BigInteger),
        Column("command", String, nullable=False),
        Column("body", Text, nullable=False),
        Column("cause", String, nullable=False),
        Column("by", String, nullable=False),
        Column("priority", BigInteger, nullable=False),
        Column("asked_ms", BigInteger, nullable=False),
        Column("expires_ms", BigInteger, nullable=False),
        Column("sent_ms", BigInteger),
        Column("ended_ms", BigInteger),
        Column("sends", BigInteger, nullable=False),
        Column("answers", BigInteger, nullable=False),
        Column("status", String, nullable=False),
        Column("answer", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("changed_ms", BigInteger, nullable=False),
        Column("shard", BigInteger, nullable=False),
        Column("order", BigInteger, nullable=False),
        Column("note", Text, nullable=False),
    ]


commands: Final = Table(
    "commands",
    metadata,
    Column("cmd_id", String, primary_key=True),
    Column("change", BigInteger, nullable=False),
    *_columns(),
    Index("commands_by_time", "asked_ms"),
    Index("commands_by_station", "site", "station", "asked_ms"),
    Index("commands_by_state", "state", "asked_ms"),
)

command_changes: Final = Table(
    "command_changes",
    metadata,
    Column("cmd_id", String, ForeignKey("commands.cmd_id"), primary_key=True),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    *_columns(),
)


def command_row(_shard: int, record: CommandRow) -> dict[str, Any]:
    """Return the row of a change of a command."""
    row = msgspec.structs.asdict(record)
    for name in _JSON:
        row[name] = msgspec.json.encode(row[name], order="sorted").decode()
    return row


def chosen(
    *,
    site: str = "",
    station: str = "",
    state: str = "",
    command: str = "",
    by: str = "",
    search: str = "",
    without: str = "",
) -> Any:
    """Return the query for commands, the newest first.

    Parameters
    ----------
    site, station, command, by : str
        Only these; empty: any.
    without : str
        Leave out what this one asked for; empty: nobody.
    state : str
        A state, ``open`` (requested or sent) or ``ended``; empty: any.
    search : str
        Words that must all occur in place, command, cause, answer or reason.
    """
    c = commands.c
    query = select(commands)
    for column, value in ((c.site, site), (c.station, station), (c.command, command), (c.by, by)):
        if value:
            query = query.where(column == value)
    if without:
        query = query.where(c.by != without)
    still_open = c.state.in_(("requested", "sent"))
    if state == "open":
        query = query.where(still_open)
    elif state == "ended":
        query = query.where(~still_open)
    elif state:
        query = query.where(c.state == state)
    words = [c.site, c.station, c.command, c.by, c.cause, c.state, c.status, c.reason]
    return searched(query, search, words).order_by(c.asked_ms.desc(), c.cmd_id)


def changes_of(cmd_id: str) -> Any:
    """Return the query for the history of a command."""
    c = command_changes.c
    return select(command_changes).where(c.cmd_id == cmd_id).order_by(c.change)


def plain(row: Any) -> dict[str, Any]:
    """Return a row with its JSON read."""
    found = dict(row)
    for name in _JSON:
        found[name] = json.loads(found[name])
    return found

"""The ledger's tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION: Final = 5

metadata: Final = MetaData()


def _evse_key() -> list[Column[str] | Column[int]]:
    return [
        Column("site", String, primary_key=True),
        Column("station", String, primary_key=True),
        Column("evse", BigInteger, primary_key=True, autoincrement=False),
    ]


meta: Final = Table(
    "ledger_meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

# Energy is integer mWh in the tables; the views show Wh with three exact decimals.
intervals: Final = Table(
    "intervals",
    metadata,
    *_evse_key(),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("energy_mwh", BigInteger),
    Column("quality", String, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Index("intervals_by_start", "start_ms"),
    Index("intervals_by_change", "changed"),
    sqlite_with_rowid=False,
)

interval_revisions: Final = Table(
    "interval_revisions",
    metadata,
    *_evse_key(),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("energy_mwh", BigInteger),
    Column("quality", String, nullable=False),
    ForeignKeyConstraint(
        ["site", "station", "evse", "start_ms"],
        ["intervals.site", "intervals.station", "intervals.evse", "intervals.start_ms"],
    ),
    sqlite_with_rowid=False,
)

# Energy of all EVSEs of a site in a quarter hour; those without energy are counted, and 0 in the sum.
site_quarters: Final = Table(
    "site_quarters",
    metadata,
    Column("site", String, primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("energy_mwh", BigInteger, nullable=False),
    Column("evses", BigInteger, nullable=False),
    Column("evses_missing", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _finding_columns() -> list[Column[str] | Column[int] | Column[float] | Column[bool]]:
    """Return everything of a finding change but its key; new `Column` objects for each table."""
    return [
        Column("code", String, nullable=False),
        Column("scope", String, nullable=False),
        Column("site", String, nullable=False),
        Column("node", String),
        Column("station", String),
        Column("evse", BigInteger),
        Column("connector", BigInteger),
        Column("severity", String, nullable=False),
        Column("source", String, nullable=False),
        Column("state", String, nullable=False),
        Column("live", Boolean, nullable=False),
        Column("planned", Boolean, nullable=False),
        Column("raised_at", BigInteger, nullable=False),
        Column("start", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False),
        Column("end", BigInteger),
        Column("score", Float),
        Column("evidence", Text, nullable=False),
        Column("taxonomy", String),
        Column("advice", Text, nullable=False),
        Column("parent", String),
        Column("changed_at", BigInteger, nullable=False),
        Column("shard", BigInteger, nullable=False),
        Column("order", BigInteger, nullable=False),
    ]


findings: Final = Table(
    "findings",
    metadata,
    Column("finding_id", String, primary_key=True),
    Column("change", BigInteger, nullable=False),
    *_finding_columns(),
    Index("findings_by_state", "state", "raised_at"),
)

finding_changes: Final = Table(
    "finding_changes",
    metadata,
    Column("finding_id", String, ForeignKey("findings.finding_id"), primary_key=True),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    *_finding_columns(),
    Index("finding_changes_by_time", "changed_at"),
)

# What people did; a finding that an action is about may come later, or be of another ledger.
finding_actions: Final = Table(
    "finding_actions",
    metadata,
    Column("finding_id", String, primary_key=True),
    Column("action_id", String, primary_key=True),
    Column("site", String),
    Column("action", String, nullable=False),
    Column("by", String, nullable=False),
    Column("to", String),
    Column("until", BigInteger),
    Column("text", Text),
    Column("at", BigInteger, nullable=False),
)

devices: Final = Table(
    "devices",
    metadata,
    *_evse_key(),
    Column("node", String, nullable=False),
    Column("vendor", String, nullable=False),
    Column("model", String, nullable=False),
    Column("fw", String, nullable=False),
    Column("connector_type", String, nullable=False),
    Column("u_n_v", Float),
    Column("phases", BigInteger, nullable=False),
    Column("p_max_w", Float),
    Column("max_a", Float),
    Column("dc", Boolean, nullable=False),
    Column("meter_serial", String, nullable=False),
    Column("order", BigInteger, nullable=False),
)

latest: Final = Table(
    "latest",
    metadata,
    *_evse_key(),
    Column("time_ms", BigInteger, nullable=False),
    Column("status", String, nullable=False),
    Column("state", BigInteger, nullable=False),
    Column("reg_mwh", BigInteger),
    Column("power_w", Float),
    Column("values", Text, nullable=False),
)

rollup_1m: Final = Table(
    "rollup_1m",
    metadata,
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    *_evse_key(),
    Column("readings", BigInteger, nullable=False),
    Column("power_mean_w", Float),
    Column("energy_mwh", BigInteger),
    sqlite_with_rowid=False,
)

late: Final = Table(
    "late",
    metadata,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("order", BigInteger, primary_key=True, autoincrement=False),
    *_evse_key(),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)

# What wore (`models.outputs.WearCounts`); energy is integer mWh, unknown is null.
WORN: Final = (
    "plug_cycles",
    "contactor_operations",
    "energy_mwh",
    "use_s",
    "warm_s",
    "hot_s",
    "body_hot_s",
)


def _worn_columns() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=name == "energy_mwh") for name in WORN]


wear: Final = Table(
    "wear",
    metadata,
    *_evse_key(),
    Column("time_ms", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    *_worn_columns(),
)

inspections: Final = Table(
    "inspections",
    metadata,
    Column("inspection_id", String, primary_key=True),
    *_evse_key(),
    Column("at_ms", BigInteger, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("what", String, nullable=False),
    Column("note", Text, nullable=False),
    *_worn_columns(),
    Index("inspections_by_evse", "site", "station", "evse", "at_ms"),
)

# `part` is a digest of reason, detail and payload: several parts of one message may be unusable.
dead: Final = Table(
    "dead",
    metadata,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("pos", BigInteger, primary_key=True, autoincrement=False),
    Column("part", String, primary_key=True),
    Column("recv_ns", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("reason", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("dead_by_time", "recv_ns"),
)

COUNTED: Final = (
    "messages",
    "decoded",
    "duplicate",
    "dead",
    "rows_in",
    "rows_processed",
    "rows_late",
    "rows_duplicate",
    "rows_invalid",
)

account: Final = Table(
    "account",
    metadata,
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("end", BigInteger, nullable=False),
    Column("through_ms", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in COUNTED),
)

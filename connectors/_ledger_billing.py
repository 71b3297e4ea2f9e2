"""The ledger's tables of billing: sessions, bills, tariffs, and what people and partners decide.

`changed` is a cursor: every insert and every replacement gives a row a greater number than any row of its
table had before, so "all that changed since" is one range of an index. Numbers are not dense. `emsp` is
whose customer charged (``NL*TNM``), read from the OCPI token: partners see theirs and no other's.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    String,
    Table,
    Text,
    and_,
    case,
    select,
)  # fmt: skip

from ._ledger_tables import metadata


def _session_key() -> list[Column[str]]:
    return [
        Column("site", String, primary_key=True),
        Column("station", String, primary_key=True),
        Column("transaction_id", String, primary_key=True),
    ]


def _session_columns() -> list[Column[int] | Column[str]]:
    """Return everything of a session but its key and revision; new `Column` objects for each table."""
    return [
        Column("evse", BigInteger),
        Column("connector", BigInteger),
        Column("start_ms", BigInteger),
        Column("end_ms", BigInteger),
        Column("energy_mwh", BigInteger),
        Column("begin_mwh", BigInteger),
        Column("end_mwh", BigInteger),
        Column("state", String, nullable=False),
        Column("flags", Text, nullable=False),
        Column("token_type", String, nullable=False),
        Column("token_hash", String, nullable=False),
        Column("emsp", String, nullable=False),
        Column("updated_ms", BigInteger, nullable=False),
        Column("body", Text, nullable=False),
    ]


def _changed() -> Column[int]:
    return Column("changed", BigInteger, nullable=False)


sessions: Final = Table(
    "sessions",
    metadata,
    *_session_key(),
    Column("revision", BigInteger, nullable=False),
    *_session_columns(),
    _changed(),
    Index("sessions_by_change", "changed"),
    Index("sessions_by_start", "start_ms"),
    Index("sessions_by_state", "state"),
)

session_revisions: Final = Table(
    "session_revisions",
    metadata,
    *_session_key(),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    *_session_columns(),
    ForeignKeyConstraint(
        ["site", "station", "transaction_id"],
        ["sessions.site", "sessions.station", "sessions.transaction_id"],
    ),
)

# A CDR never changes: the first record of an id stays. `revision` is the session's that it bills.
cdrs: Final = Table(
    "cdrs",
    metadata,
    Column("id", String, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("site", String, nullable=False),
    Column("station", String, nullable=False),
    Column("transaction_id", String, nullable=False),
    Column("credit", Boolean, nullable=False),
    Column("credit_reference_id", String),
    Column("ocpi_version", String, nullable=False),
    Column("last_updated_ms", BigInteger, nullable=False),
    Column("emsp", String, nullable=False),
    Column("body", Text, nullable=False),
    _changed(),
    Index("cdrs_by_change", "changed"),
    Index("cdrs_by_update", "last_updated_ms"),
    Index("cdrs_by_session", "site", "station", "transaction_id"),
)

# What sessions have cost so far; a complete one's price is in its body.
running_costs: Final = Table(
    "running_costs",
    metadata,
    *_session_key(),
    Column("evse", BigInteger),
    Column("time_ms", BigInteger, nullable=False),
    Column("energy_mwh", BigInteger, nullable=False),
    Column("currency", String, nullable=False),
    Column("total_excl", String, nullable=False),
    Column("total_incl", String, nullable=False),
    Column("tariff_id", String, nullable=False),
    Column("final", Boolean, nullable=False),
    _changed(),
    Index("running_costs_by_change", "changed"),
)

# Amounts are decimal text. Nothing of a card is ever stored.
payments: Final = Table(
    "payments",
    metadata,
    Column("site", String, primary_key=True),
    Column("authorization_reference", String, primary_key=True),
    Column("change", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("station", String, nullable=False),
    Column("evse", BigInteger),
    Column("transaction_id", String, nullable=False),
    Column("token_type", String, nullable=False),
    Column("token_hash", String, nullable=False),
    Column("currency", String, nullable=False),
    Column("authorized", String),
    Column("cost", String),
    Column("settled", String),
    Column("psp_reference", String, nullable=False),
    Column("problem", Text, nullable=False),
    Column("authorized_ms", BigInteger),
    Column("stop_asked_ms", BigInteger),
    Column("settled_ms", BigInteger),
    Column("changed_ms", BigInteger, nullable=False),
    _changed(),
    Index("payments_by_change", "changed"),
    Index("payments_by_session", "site", "station", "transaction_id"),
)

tariffs: Final = Table(
    "tariffs",
    metadata,
    Column("country_code", String, primary_key=True),
    Column("party_id", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("ocpi_version", String, nullable=False),
    Column("last_updated_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    _changed(),
    Index("tariffs_by_change", "changed"),
)

#: What a person decided about a session in review; the newest decision of a session counts.
reviews: Final = Table(
    "reviews",
    metadata,
    Column("review_id", String, primary_key=True),
    Column("site", String, nullable=False),
    Column("station", String, nullable=False),
    Column("transaction_id", String, nullable=False),
    Column("session_revision", BigInteger, nullable=False),
    Column("decision", String, nullable=False),  # bill, discard
    Column("energy_mwh", BigInteger),  # what to bill, when it is not the proposed energy
    Column("reason", Text, nullable=False),
    Column("decided_by", String, nullable=False),
    Column("decided_ms", BigInteger, nullable=False),
    _changed(),
    Index("reviews_by_change", "changed"),
    Index("reviews_by_session", "site", "station", "transaction_id"),
)

#: Tokens of the API; of the token itself only its SHA-256 (it has 256 random bits: no salt needed).
api_tokens: Final = Table(
    "api_tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("sites", Text),  # JSON list; NULL: all
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

#: Public keys of signed meters, as the operator registered them.
meter_keys: Final = Table(
    "meter_keys",
    metadata,
    Column("serial", String, primary_key=True),
    Column("fingerprint", String, primary_key=True),  # SHA-256 of the key's point
    Column("public_key", Text, nullable=False),
    Column("curve", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

#: Partners over OCPI. `token_sha256` is what they show us; `their_token` what we show them, so it is kept.
ocpi_parties: Final = Table(
    "ocpi_parties",
    metadata,
    Column("name", String, primary_key=True),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("their_token", Text),
    Column("versions_url", Text),
    Column("version", String),
    Column("endpoints", Text),  # JSON list of {identifier, role, url}
    Column("roles", Text),  # JSON list of CredentialsRole
    Column("state", String, nullable=False),  # invited, registered, revoked
    Column("updated_ms", BigInteger, nullable=False),
)

#: Tokens that eMSPs told us of.
ocpi_tokens: Final = Table(
    "ocpi_tokens",
    metadata,
    Column("country_code", String, primary_key=True),
    Column("party_id", String, primary_key=True),
    Column("uid", String, primary_key=True),
    Column("type", String, primary_key=True),
    Column("last_updated_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    _changed(),
)

#: Bills that partners have taken, so that a repeated delivery does not reach them twice.
ocpi_deliveries: Final = Table(
    "ocpi_deliveries",
    metadata,
    Column("cdr_id", String, primary_key=True),
    Column("party", String, primary_key=True),
    Column("location", Text, nullable=False),
    Column("delivered_ms", BigInteger, nullable=False),
)

#: Months of a site in its own time, in UTC bounds [start_ms, end_ms), with the sums of their quarter hours,
#: which triggers keep. `known`: quarters with energy; `peak_mwh`: energy of the highest, first at its start.
site_months: Final = Table(
    "site_months",
    metadata,
    Column("site", String, primary_key=True),
    Column("month", String, primary_key=True),
    Column("start_ms", BigInteger, nullable=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("time_zone", String, nullable=False),
    Column("energy_mwh", BigInteger, nullable=False, server_default="0"),
    Column("known", BigInteger, nullable=False, server_default="0"),
    Column("quarters", BigInteger, nullable=False, server_default="0"),
    Column("missing", BigInteger, nullable=False, server_default="0"),
    Column("peak_mwh", BigInteger),
    Column("peak_start_ms", BigInteger),
    Index("site_months_by_start", "site", "start_ms"),
)

#: Sessions with what those that run have cost so far; `known_ms`: when the newest of both was told.
_running: Final = sessions.c.state.in_(("open", "incomplete"))
_costs: Final = and_(
    *(sessions.c[name] == running_costs.c[name] for name in ("site", "station", "transaction_id")), _running
)
sessions_now: Final = (
    select(
        sessions,
        case(
            (running_costs.c.time_ms > sessions.c.updated_ms, running_costs.c.time_ms),
            else_=sessions.c.updated_ms,
        ).label("known_ms"),
        running_costs.c.energy_mwh.label("cost_energy_mwh"),
        running_costs.c.total_excl,
        running_costs.c.total_incl,
        running_costs.c.currency.label("cost_currency"),
    )
    .select_from(sessions.outerjoin(running_costs, _costs))
    .subquery("sessions_now")
)

TABLES: Final = (
    sessions, session_revisions, cdrs, running_costs, payments, tariffs, reviews, api_tokens, meter_keys,
    ocpi_parties, ocpi_tokens, ocpi_deliveries, site_months,
)  # fmt: skip

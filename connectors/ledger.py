"""The ledger: what the flow found, in a SQL database, for billing systems, the page and the audit.

SQLite in the data folder by default, PostgreSQL by address. Every record is an upsert by its natural key, so
applying it twice, or in another order, leaves the same tables; the one exception is the account, whose
records replace what follows them and must come in the order of their outbox.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, delete, func, insert, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from models.billing_rows import CostRow, PaymentRow
from models.campaign_rows import CampaignRow, CampaignStationRow
from models.errors import Refused, StorageError
from models.load_rows import LimitRow, LoadRow
from models.ocpi_objects import emsp_of
from models.outputs import (
    Account,
    CdrRow,
    CommandRow,
    DeviceRow,
    FindingAction,
    FindingChange,
    InspectionRow,
    IntervalRow,
    LateRow,
    LatestRow,
    ReactionRow,
    RollupRow,
    SessionRow,
    TariffRow,
    WearRow,
)
from models.records import Dead

from . import _ledger_billing as b
from . import _ledger_campaigns as g
from . import _ledger_commands as c
from . import _ledger_load as lm
from . import _ledger_reactions as r
from . import _ledger_tables as t
from ._ledger_account import AccountBook
from ._ledger_engine import open_engine, parse_url, shown, translated
from ._ledger_sums import create_sums
from ._ledger_upgrade import upgrade
from ._ledger_views import views
from .site_months import note_months

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Upsert:
    """One table that a stream goes to.

    `newer` names the column whose greater value wins; None: the first record stays. Of equals the later
    one wins if `equal` is set (they say the same of everything that matters, or came in order).
    """

    table: Table
    row: Callable[[int, Any], Row]
    newer: str | None = None
    equal: bool = False

    def replaces(self, held: Row, fresh: Row) -> bool:
        """Return whether `fresh` stands instead of `held`, a row of the same key."""
        if self.newer is None:
            return False
        before, after = held[self.newer], fresh[self.newer]
        return bool(after > before or (self.equal and after == before))


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _finding_row(_shard: int, change: FindingChange) -> Row:
    row = msgspec.structs.asdict(change)
    row["evidence"] = _json(change.evidence)
    row["score"] = None if change.score != change.score else change.score
    return row


def _plain_row(_shard: int, record: msgspec.Struct) -> Row:
    return msgspec.structs.asdict(record)


def _worn_row(_shard: int, record: WearRow | InspectionRow) -> Row:
    row = msgspec.structs.asdict(record)
    del row["counts"]
    return row | msgspec.structs.asdict(record.counts)


def _session_row(_shard: int, record: SessionRow) -> Row:
    flags, body = msgspec.json.encode(record.flags).decode(), _json(record.body)
    row = msgspec.structs.asdict(record) | {"flags": flags, "body": body}
    known_ms = record.updated_ms or max(record.start_ms or 0, record.end_ms or 0)
    return row | {"emsp": emsp_of(record.body.get("cdr_token")), "updated_ms": known_ms}


def _cdr_row(_shard: int, record: CdrRow) -> Row:
    try:
        token = msgspec.json.decode(record.body, type=dict[str, Any]).get("cdr_token")
    except msgspec.DecodeError as error:
        raise Refused(f"CDR {record.id} is no JSON object: {error}") from error
    return msgspec.structs.asdict(record) | {"emsp": emsp_of(token)}


def _latest_row(_shard: int, record: LatestRow) -> Row:
    power = record.values.get("power_w")
    known = power is not None and power == power
    return msgspec.structs.asdict(record) | {
        "values": _json(record.values),
        "power_w": power if known else None,
    }


def _dead_row(shard: int, record: Dead) -> Row:
    text = f"{record.reason}\0{record.detail}\0".encode("utf-8", "replace")
    part = hashlib.blake2b(text + record.payload, digest_size=8).hexdigest()
    return msgspec.structs.asdict(record) | {"shard": shard, "part": part}


_UPSERTS: Final[dict[str, tuple[type, tuple[_Upsert, ...]]]] = {
    "findings": (
        FindingChange,
        (_Upsert(t.findings, _finding_row, "change"), _Upsert(t.finding_changes, _finding_row)),
    ),
    "finding_actions": (FindingAction, (_Upsert(t.finding_actions, _plain_row),)),
    "intervals": (
        IntervalRow,
        (_Upsert(t.intervals, _plain_row, "revision"), _Upsert(t.interval_revisions, _plain_row)),
    ),
    "devices": (DeviceRow, (_Upsert(t.devices, _plain_row, "order", equal=True),)),
    "latest": (LatestRow, (_Upsert(t.latest, _latest_row, "time_ms", equal=True),)),
    "rollups": (RollupRow, (_Upsert(t.rollup_1m, _plain_row, "readings", equal=True),)),
    "late": (LateRow, (_Upsert(t.late, _plain_row),)),
    "sessions": (
        SessionRow,
        (_Upsert(b.sessions, _session_row, "revision"), _Upsert(b.session_revisions, _session_row)),
    ),
    "commands": (
        CommandRow,
        (_Upsert(c.commands, c.command_row, "change"), _Upsert(c.command_changes, c.command_row)),
    ),
    "reactions": (ReactionRow, (_Upsert(r.reactions, r.reaction_row),)),
    "campaigns": (
        CampaignRow,
        (_Upsert(g.campaigns, g.campaign_row, "change"), _Upsert(g.campaign_changes, g.campaign_row)),
    ),
    "campaign_stations": (CampaignStationRow, (_Upsert(g.campaign_stations, g.station_row, "change"),)),
    "cdrs": (CdrRow, (_Upsert(b.cdrs, _cdr_row),)),
    "tariffs": (TariffRow, (_Upsert(b.tariffs, _plain_row, "last_updated_ms"),)),
    "costs": (CostRow, (_Upsert(b.running_costs, _plain_row, "time_ms", equal=True),)),
    "payments": (PaymentRow, (_Upsert(b.payments, _plain_row, "change"),)),
    "limits": (LimitRow, (_Upsert(lm.limits, lm.limit_row, "from_ms", equal=True),)),
    "loads": (LoadRow, (_Upsert(lm.loads, lm.load_row, "start_ms", equal=True),)),
    "dead": (Dead, (_Upsert(t.dead, _dead_row),)),
    "wear": (WearRow, (_Upsert(t.wear, _worn_row, "time_ms", equal=True),)),
    "inspections": (InspectionRow, (_Upsert(t.inspections, _worn_row),)),
}

#: The streams that the ledger takes.
STREAMS: Final = (*_UPSERTS, "account")


def upsert(dialect: str, table: Table, newer: str | None, equal: bool) -> Insert:
    """Return the statement that inserts a row or lets the newer of two stand."""
    statement: Any = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    keys = [column.name for column in table.primary_key]
    if newer is None:
        first_stays: Insert = statement.on_conflict_do_nothing(index_elements=keys)
        return first_stays
    fresh, kept = statement.excluded[newer], table.c[newer]
    newer_stands: Insert = statement.on_conflict_do_update(
        index_elements=keys,
        set_={col.name: statement.excluded[col.name] for col in table.columns if col.name not in keys},
        where=fresh >= kept if equal else fresh > kept,
    )
    return newer_stands


class Ledger:
    """The one writer of a ledger. Thread-safe; each `apply` is a transaction.

    Parameters
    ----------
    url : str
        SQLAlchemy address of a SQLite file or a PostgreSQL database, with its password if it needs one.

    Raises
    ------
    ConfigError
        If the address is wrong or its driver is missing.
    StorageError
        If the ledger was written by a newer program.
    RetryLater
        If the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._engine = open_engine(self.url, write=True)
        self._lock = threading.Lock()
        self._book = AccountBook()
        dialect = self._engine.dialect.name
        self._statements = {
            stream: [(u, upsert(dialect, u.table, u.newer, u.equal)) for u in upserts]
            for stream, (_, upserts) in _UPSERTS.items()
        }
        types = {stream: kind for stream, (kind, _) in _UPSERTS.items()} | {"account": Account}
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
            stream: msgspec.msgpack.Decoder(list[kind])  # type: ignore[valid-type]  # the kind is a value here
            for stream, kind in types.items()
        }
        with translated(self.url, "open it"):
            self._prepare()

    def __repr__(self) -> str:
        return f"Ledger({shown(self.url)})"

    def apply(self, stream: str, records: Sequence[tuple[int, bytes]]) -> int:
        """Write outbox records of one stream, all or none, and return how many rows they held.

        Parameters
        ----------
        stream : str
            One of `STREAMS`.
        records : sequence of (shard, blob)
            In the order of the outbox.

        Raises
        ------
        Refused
            If a record cannot be read or holds a value that the database cannot: none is written; apply
            them one by one to find it.
        RetryLater
            If the database does not take it now.
        """
        decoder = self._decoders[stream]
        decoded: list[tuple[int, Any]] = []
        for shard, blob in records:
            try:
                decoded += [(shard, record) for record in decoder.decode(blob)]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Refused(
                    f"record of {len(blob)} bytes in stream {stream}, shard {shard}, cannot be read: {error}"
                ) from error
        if not decoded:
            return 0
        with self._lock, translated(self.url, f"store {stream}"), self._engine.begin() as db:
            if stream == "account":
                self._book.apply(db, [record for _, record in decoded])
            else:
                for rule, statement in self._statements[stream]:
                    db.execute(statement, number_changes(db, rule.table, _rows(rule, decoded)))
        return len(decoded)

    def closes(self) -> dict[str, Any]:
        """Return the closing of the account, see `connectors.ledger_reader.closing`."""
        from .ledger_reader import closing

        with translated(self.url, "read the account"), self._engine.connect() as db:
            return closing(db)

    def trim(self, *, rollups_before_ms: int, dead_before_ms: int) -> int:
        """Delete one-minute roll-ups and dead messages older than that and return how many.

        Energy, findings, late counts and the account stay for ever.
        """
        with self._lock, translated(self.url, "delete old rows"), self._engine.begin() as db:
            old = db.execute(delete(t.rollup_1m).where(t.rollup_1m.c.start_ms < rollups_before_ms)).rowcount
            dead = delete(t.dead).where(t.dead.c.recv_ns < dead_before_ms * 1_000_000)
            return int(old + db.execute(dead).rowcount)

    def note_months(self, zones: Mapping[str, str], default_zone: str) -> int:
        """Bring ``site_months`` up to date, see `connectors.site_months.note_months`."""
        with self._lock, translated(self.url, "note months"), self._engine.begin() as db:
            return note_months(db, zones, default_zone)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _prepare(self) -> None:
        """Create tables and views, or check that they are ours."""
        with self._engine.begin() as db:
            if self._is_current(db):
                return
            if self._engine.dialect.name == "sqlite":
                # The driver begins a transaction before data only: killed amid tables, it would leave half.
                db.exec_driver_sql("BEGIN IMMEDIATE")
            if inspect(db).has_table(t.meta.name):
                upgrade(db, self._engine.dialect.name)
                check_version(db, shown(self.url))
                return
            t.metadata.create_all(db)
            create_sums(db)
            for name, select_text in views(self._engine.dialect.name).items():
                db.exec_driver_sql(f"CREATE VIEW {name} AS {select_text}")
            db.execute(insert(t.meta), {"name": "schema_version", "value": str(t.SCHEMA_VERSION)})

    def _is_current(self, db: Connection) -> bool:
        query = select(t.meta.c.value).where(t.meta.c.name == "schema_version")
        there = set(inspect(db).get_table_names())
        return set(t.metadata.tables) <= there and db.execute(query).scalar() == str(t.SCHEMA_VERSION)


def number_changes(db: Connection, table: Table, rows: list[Row]) -> list[Row]:
    """Give each row the next number of its table's cursor `changed`, if the table has one."""
    if "changed" in table.c:
        last = int(db.execute(select(func.coalesce(func.max(table.c.changed), 0))).scalar_one())
        for number, row in enumerate(rows, start=last + 1):
            row["changed"] = number
    return rows


def check_version(db: Connection, where: str) -> None:
    """Raise StorageError if the ledger's tables are of another version than this program's."""
    found = db.execute(select(t.meta.c.value).where(t.meta.c.name == "schema_version")).scalar()
    if found != str(t.SCHEMA_VERSION):
        raise StorageError(
            f"ledger {where} has schema version {found}, this program reads and writes {t.SCHEMA_VERSION}: "
            "use the program version that wrote it, or give this one another ledger.url"
        )


def _rows(rule: _Upsert, decoded: Iterable[tuple[int, Any]]) -> list[Row]:
    """Return the rows of a batch; of several with one key only the one that would stand in the end."""
    keys = [column.name for column in rule.table.primary_key]
    standing: dict[tuple[Any, ...], Row] = {}
    for shard, record in decoded:
        row = {name: _storable(value) for name, value in rule.row(shard, record).items()}
        key = tuple(row[name] for name in keys)
        held = standing.get(key)
        if held is None or rule.replaces(held, row):
            standing[key] = row
    return list(standing.values())


def _storable(value: Any) -> Any:
    """Return text without NUL, which PostgreSQL cannot hold, and NaN as missing."""
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", "\ufffd")
    if isinstance(value, float) and value != value:
        return None
    return value


def count_rows(db: Connection, table: Table) -> int:
    """Return the number of rows of a table."""
    return int(db.execute(select(func.count()).select_from(table)).scalar_one())

"""Reads what billing systems ask for: intervals, sessions, bills, tariffs, months, decisions, changes.

Only reads; never makes the ledger's writer wait. Lists are in the order of their cursor, so that a reader
who continues after the last row it saw misses nothing and sees nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Connection, FromClause, Table, and_, case, func, inspect, or_, select, text, tuple_

from models.batch import I64
from models.errors import StorageError
from models.units import NO_REGISTER

from . import _ledger_billing as b
from . import _ledger_tables as t
from ._ledger_engine import open_engine, parse_url, shown, sqlite_file, translated
from .ledger import check_version

Row = dict[str, Any]
EvseKey = tuple[str, str, int]
#: (start_ms, energy_mwh, quality, revision)
IntervalTuple = tuple[int, int | None, str, int]
QUALITIES: Final = ("measured", "interpolated", "estimated", "missing")

TABLES: Final = {
    "intervals": t.intervals,
    "sessions": b.sessions,
    "cdrs": b.cdrs,
    "tariffs": b.tariffs,
    "reviews": b.reviews,
    "payments": b.payments,
    "costs": b.running_costs,
}
_JSON: Final = ("body", "flags")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows; what is empty or None does not choose.

    `sites` are the only ones that the asker may see, None: all. Times are epoch ms, until is exclusive.
    """

    sites: tuple[str, ...] | None = None
    site: str = ""
    station: str = ""
    evse: int | None = None
    state: str = ""
    transaction_id: str = ""
    from_ms: int | None = None
    until_ms: int | None = None


class IntervalColumns(NamedTuple):
    """Intervals of one EVSE, arrays of one length; `quality` points into `QUALITIES`.

    Energy that is missing is `models.units.NO_REGISTER`.
    """

    start_ms: I64
    energy_mwh: I64
    quality: I64
    revision: I64


def _columns(rows: Sequence[IntervalTuple]) -> IntervalColumns:
    place = {word: code for code, word in enumerate(QUALITIES)}
    return IntervalColumns(
        np.array([row[0] for row in rows], np.int64),
        np.array([NO_REGISTER if row[1] is None else row[1] for row in rows], np.int64),
        np.array([place[row[2]] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
    )


class BillingReader:
    """Read-only access to the billing side of a ledger. Thread-safe.

    Parameters
    ----------
    url : str
        As for `connectors.ledger.Ledger`.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._engine = open_engine(self.url, write=False)
        self._checked = False

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Yield a connection to a ledger of this program's version.

        Raises
        ------
        StorageError
            If there is no ledger, or one of another version.
        RetryLater
            If the database does not answer.
        """
        file = sqlite_file(self.url)
        if file is not None and not file.exists():
            raise StorageError(f"there is no ledger at {shown(self.url)} yet: start the egress process")
        with translated(self.url, "read it"), self._engine.connect() as db:
            if not self._checked:
                if not inspect(db).has_table(t.meta.name):
                    raise StorageError(
                        f"there is no ledger at {shown(self.url)} yet: start the egress process"
                    )
                check_version(db, shown(self.url))
                self._checked = True
            yield db

    def last_change(self, resource: str) -> int:
        """Return the greatest cursor of a resource, 0 when it is empty."""
        table = TABLES[resource]
        with self.connected() as db:
            return int(db.execute(select(func.coalesce(func.max(table.c.changed), 0))).scalar_one())

    def changed(
        self, resource: str, choice: Choice, after: int, limit: int | None, *, newest_ms: str = ""
    ) -> Iterator[Row]:
        """Yield rows of a resource by cursor, those after `after`; all in one state of the ledger.

        `newest_ms` names the column that `from_ms` and `until_ms` bound; empty: they do not.
        """
        table = TABLES[resource]
        query = select(table).where(table.c.changed > after, *_conditions(table, choice, newest_ms))
        query = query.order_by(table.c.changed).limit(limit)
        with self.connected() as db:
            for row in db.execution_options(yield_per=1_000).execute(query).mappings():
                yield decoded(dict(row))

    def session(self, site: str, station: str, transaction_id: str) -> Row | None:
        """Return a session with all its ``revisions``, ``decisions`` and its running ``cost`` (or None)."""
        s, r, d, c = b.sessions, b.session_revisions, b.reviews, b.running_costs
        key = (site, station, transaction_id)
        with self.connected() as db:
            found = db.execute(select(s).where(_is(s, key))).mappings().first()
            if found is None:
                return None
            revisions = db.execute(select(r).where(_is(r, key)).order_by(r.c.revision)).mappings().all()
            cost = db.execute(select(c).where(_is(c, key))).mappings().first()
            decisions = db.execute(select(d).where(_is(d, key)).order_by(d.c.changed)).mappings().all()
        return decoded(dict(found)) | {
            "revisions": [decoded(dict(row)) for row in revisions],
            "decisions": [dict(row) for row in decisions],
            "cost": None if cost is None else dict(cost),
        }

    def cdr(self, id_: str) -> Row | None:
        """Return a bill."""
        with self.connected() as db:
            found = db.execute(select(b.cdrs).where(b.cdrs.c.id == id_)).mappings().first()
            return None if found is None else decoded(dict(found))

    def bills(self, site: str, station: str, transaction_id: str) -> list[Row]:
        """Return all CDRs of a transaction as they were made, `body` their text."""
        c = b.cdrs
        query = select(c).where(_is(c, (site, station, transaction_id))).order_by(c.c.changed)
        with self.connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def tariff(self, country_code: str, party_id: str, id_: str) -> Row | None:
        """Return a tariff."""
        c = b.tariffs.c
        query = select(b.tariffs).where(c.country_code == country_code, c.party_id == party_id, c.id == id_)
        with self.connected() as db:
            found = db.execute(query).mappings().first()
            return None if found is None else decoded(dict(found))

    def waiting(self, choice: Choice, after: int, limit: int) -> list[Row]:
        """Return sessions in review by cursor, each with the newest ``decision`` on it or None."""
        rows = list(self.changed("sessions", _with_state(choice, "review"), after, limit))
        d = b.reviews
        with self.connected() as db:
            for row in rows:
                key = (row["site"], row["station"], row["transaction_id"])
                query = select(d).where(_is(d, key)).order_by(d.c.changed.desc()).limit(1)
                found = db.execute(query).mappings().first()
                row["decision"] = dict(found) if found else None
        return rows

    def count(self, table: FromClause, *conditions: Any) -> int:
        """Return how many rows fulfil `conditions`."""
        with self.connected() as db:
            return int(db.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())

    def rows(
        self,
        table: FromClause,
        *conditions: Any,
        order: Sequence[Any] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Row]:
        """Return the rows of `table` that fulfil `conditions`, as they are stored."""
        query = select(table).where(*conditions).order_by(*order).limit(limit).offset(offset)
        with self.connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def evse_keys(self, choice: Choice) -> list[EvseKey]:
        """Return the EVSEs that have intervals, by one seek of the key each."""
        c = t.intervals.c
        found: list[EvseKey] = []
        with self.connected() as db:
            query = select(c.site, c.station, c.evse).order_by(c.site, c.station, c.evse).limit(1)
            bounds = _conditions(t.intervals, choice, "")
            row = db.execute(query.where(*bounds)).first()
            while row is not None:
                found.append((row[0], row[1], int(row[2])))
                later = tuple_(c.site, c.station, c.evse) > tuple_(*found[-1])
                row = db.execute(query.where(later, *bounds)).first()
        return found

    def interval_blocks(self, choice: Choice) -> Iterator[tuple[EvseKey, Sequence[IntervalTuple]]]:
        """Yield each EVSE's intervals in time order."""
        c = t.intervals.c
        for key in self.evse_keys(choice):
            query = (
                select(c.start_ms, c.energy_mwh, c.quality, c.revision)
                .where(c.site == key[0], c.station == key[1], c.evse == key[2])
                .where(*_times(c.start_ms, choice))
                .order_by(c.start_ms)
            )
            with self.connected() as db:
                # The driver's own tuples: a month of a thousand EVSEs is three million of them.
                yield key, db.execute(query).cursor.fetchall()

    def interval_columns(self, choice: Choice) -> Iterator[tuple[EvseKey, IntervalColumns]]:
        """Yield each EVSE's intervals in time order as arrays.

        SQLite joins each column into one text, which is parsed at once: much faster than millions of tuples.
        """
        if sqlite_file(self.url) is None:
            for key, rows in self.interval_blocks(choice):
                yield key, _columns(rows)
            return
        c = t.intervals.c
        codes = case({word: code for code, word in enumerate(QUALITIES)}, value=c.quality, else_=-1)
        wanted = (c.start_ms, func.coalesce(c.energy_mwh, NO_REGISTER), codes, c.revision)
        query = select(*(func.group_concat(column) for column in wanted))
        for key in self.evse_keys(choice):
            chosen = query.where(c.site == key[0], c.station == key[1], c.evse == key[2])
            with self.connected() as db:
                texts = db.execute(chosen.where(*_times(c.start_ms, choice))).one()
            parts = [np.fromstring(text or "", np.int64, sep=",") for text in texts]
            if len({len(part) for part in parts}) != 1 or (parts[2] < 0).any():
                raise StorageError(f"{shown(self.url)}: intervals of {key} hold what is no interval")
            order = np.argsort(parts[0], kind="stable")  # SQLite promises no order inside a group
            yield key, IntervalColumns(*(part[order] for part in parts))

    def intervals(self, choice: Choice, after: tuple[str, str, int, int] | None, limit: int) -> list[Row]:
        """Return intervals by site, station, EVSE and start, those after the key `after`."""
        c = t.intervals.c
        query = select(t.intervals).where(*_conditions(t.intervals, choice, ""), *_times(c.start_ms, choice))
        if after is not None:
            site, station, evse, start_ms = after
            query = query.where(
                or_(
                    tuple_(c.site, c.station, c.evse) > tuple_(site, station, evse),
                    and_(c.site == site, c.station == station, c.evse == evse, c.start_ms > start_ms),
                )
            )
        query = query.order_by(c.site, c.station, c.evse, c.start_ms).limit(limit)
        with self.connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def quarters(self, choice: Choice, limit: int) -> list[Row]:
        """Return the energy of each site and quarter hour, by site and start."""
        q = t.site_quarters
        c = q.c
        energy = case((c.evses > c.evses_missing, c.energy_mwh)).label("energy_mwh")
        query = (
            select(c.site, c.start_ms, energy, c.evses, c.evses_missing, c.revision)
            .where(*_conditions(q, choice, ""), *_times(c.start_ms, choice))
            .order_by(c.site, c.start_ms)
            .limit(limit)
        )
        with self.connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def newest_quarter(self, site: str) -> int | None:
        """Return the start of the newest quarter hour of a site, None if it has none."""
        c = t.site_quarters.c
        with self.connected() as db:
            return db.execute(select(func.max(c.start_ms)).where(c.site == site)).scalar()

    def months(self, choice: Choice) -> list[Row]:
        """Return ``v_energy_month_site``: energy and peak of each site and month in the site's own time."""
        only = " WHERE site = :site" if choice.site else ""
        query = text(f"SELECT * FROM v_energy_month_site{only} ORDER BY site, month")  # noqa: S608
        with self.connected() as db:
            found = db.execute(query, {"site": choice.site} if choice.site else {}).mappings()
            rows = [dict(row) for row in found]
        return [
            row | {name: None if row[name] is None else str(row[name]) for name in ("energy_wh", "peak_w")}
            for row in rows
            if _sees(choice, row["site"])
        ]


def decoded(row: Row) -> Row:
    """Return a row whose JSON columns are data."""
    return row | {name: json.loads(row[name]) for name in _JSON if isinstance(row.get(name), str)}


def _whole(row: Row, name: str) -> Row:
    return row | {name: None if row[name] is None else int(row[name])}


def _is(table: Table, key: tuple[str, str, str]) -> Any:
    c = table.c
    return and_(c.site == key[0], c.station == key[1], c.transaction_id == key[2])


def _with_state(choice: Choice, state: str) -> Choice:
    return Choice(
        choice.sites, choice.site, choice.station, choice.evse, state, choice.transaction_id,
        choice.from_ms, choice.until_ms,
    )  # fmt: skip


def _sees(choice: Choice, site: str) -> bool:
    return (choice.sites is None or site in choice.sites) and choice.site in ("", site)


def _times(column: Any, choice: Choice) -> list[Any]:
    found: list[Any] = []
    if choice.from_ms is not None:
        found.append(column >= choice.from_ms)
    if choice.until_ms is not None:
        found.append(column < choice.until_ms)
    return found


def _conditions(table: Table, choice: Choice, time: str) -> list[Any]:
    c = table.c
    found: list[Any] = []
    if "site" in c:
        if choice.sites is not None:
            found.append(c.site.in_(choice.sites))
        if choice.site:
            found.append(c.site == choice.site)
    for name in ("station", "state", "transaction_id"):
        wanted = getattr(choice, name)
        if wanted and name in c:
            found.append(c[name] == wanted)
    if choice.evse is not None and "evse" in c:
        found.append(c.evse == choice.evse)
    return found + (_times(c[time], choice) if time else [])

"""Reads the ledger for the page, the audit and drills; never writes, never makes the writer wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from sqlalchemy import Connection, func, inspect, select, text

from models.errors import StorageError

from . import _ledger_commands as orders
from . import _ledger_handling as handling
from . import _ledger_live as live
from . import _ledger_load as load
from . import _ledger_reactions as acts
from . import _ledger_tables as t
from ._ledger_engine import open_engine, parse_url, shown, sqlite_file, translated
from ._ledger_views import OPEN_RANGES
from .ledger import check_version, count_rows

Row = dict[str, Any]
#: Most ranges that `closing` lists one by one.
MAX_LISTED: Final = 100
_SEVERITIES: Final = {rank: name for name, rank in live.SEVERITY_RANK.items()}


def closing(db: Connection) -> Row:
    """Return whether nothing is missing, and the sums behind it.

    For every journal range: messages = decoded + duplicate + dead (a message held for an earlier one counts
    in the range that releases it) and readings in = processed + late + duplicate + invalid; and the ranges
    of a shard follow one another from offset 0 without gap or overlap.

    Returns
    -------
    dict
        ``closes`` bool; ``messages`` and ``rows``: the sums; ``shards``; ``ranges``; ``through_ms``: the
        newest arrival accounted for, None when there is none; ``open``: up to `MAX_LISTED` ranges that do not
        close, each with ``shard``, ``first``, ``end`` and ``why``.
    """
    shards = db.execute(text("SELECT * FROM v_closing ORDER BY shard")).mappings().all()
    wrong = [_explained(row) for row in db.execute(text(OPEN_RANGES), {"most": MAX_LISTED}).mappings()]

    def total(name: str) -> int:
        return sum(int(row[name]) for row in shards)

    return {
        "closes": not wrong,
        "messages": {"total": total("messages")}
        | {name: total(name) for name in ("decoded", "duplicate", "dead", "held")},
        "rows": {name.removeprefix("rows_"): total(name) for name in t.COUNTED if name.startswith("rows_")},
        "shards": len(shards),
        "ranges": total("ranges"),
        "through_ms": max((int(row["through_ms"]) for row in shards), default=None),
        "open": wrong,
    }


def _explained(row: Any) -> Row:
    why = []
    if row["first"] > row["previous_end"]:
        why.append(f"messages {row['previous_end']} to {row['first'] - 1} are in no range")
    if row["first"] < row["previous_end"]:
        why.append(f"messages {row['first']} to {row['previous_end'] - 1} are in two ranges")
    there = row["messages"] + row["previous_held"]
    explained = row["decoded"] + row["duplicate"] + row["dead"] + row["held"]
    if there != explained:
        why.append(f"{there} messages, but {explained} decoded, duplicate, dead or held")
    rows = row["rows_processed"] + row["rows_late"] + row["rows_duplicate"] + row["rows_invalid"]
    if row["rows_in"] != rows:
        why.append(f"{row['rows_in']} readings in, but {rows} processed, late, duplicate or invalid")
    return {"shard": row["shard"], "first": row["first"], "end": row["end"], "why": "; ".join(why)}


class LedgerReader:
    """Read-only access to a ledger, also while its writer writes. Thread-safe.

    Parameters
    ----------
    url : str
        As for `connectors.ledger.Ledger`.

    Raises
    ------
    ConfigError
        If the address is wrong or its driver is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self._engine = open_engine(self.url, write=False)
        self._checked = False

    def __repr__(self) -> str:
        return f"LedgerReader({shown(self.url)})"

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        file = sqlite_file(self.url)
        missing = f"there is no ledger at {shown(self.url)} yet: start the egress process, which creates it"
        if file is not None and not file.exists():
            raise StorageError(missing)
        with translated(self.url, "read it"), self._engine.connect() as db:
            if not self._checked:
                if not inspect(db).has_table(t.meta.name):
                    raise StorageError(missing)
                check_version(db, shown(self.url))
                self._checked = True
            yield db

    def connected(self) -> AbstractContextManager[Connection]:
        """Return a connection for queries that other readers of this room make.

        Raises
        ------
        DeliveryError, StorageError
            On entry, if the ledger cannot be read.
        """
        return self._connected()

    def closes(self) -> Row:
        """Return the closing of the account, see `closing`."""
        with self._connected() as db:
            return closing(db)

    def ends(self) -> dict[int, int]:
        """Return up to which journal offset the account of each shard goes."""
        with self._connected() as db:
            rows = db.execute(text('SELECT shard, "end" FROM v_closing')).mappings()
            return {int(row["shard"]): int(row["end"]) for row in rows}

    def counts(self) -> dict[str, int]:
        """Return how many EVSEs, intervals, findings (all, open), dead messages, late readings there are."""
        with self._connected() as db:
            late = db.execute(select(func.coalesce(func.sum(t.late.c["count"]), 0))).scalar_one()
            opened = select(func.count()).select_from(t.findings).where(live.is_open())
            evses = select(func.count()).select_from(live.evse_keys())
            return {
                "evses": int(db.execute(evses).scalar_one()),
                "intervals": count_rows(db, t.intervals),
                "findings": count_rows(db, t.findings),
                "findings_open": int(db.execute(opened).scalar_one()),
                "dead": count_rows(db, t.dead),
                "late_readings": int(late),
            }

    def open_findings(self, limit: int = 200) -> list[Row]:
        """Return the live findings that are open, critical ones first, then the youngest."""
        f = t.findings.c
        query = (
            select(t.findings)
            .where(live.is_open())
            .order_by(live.severity_rank(f.severity).desc(), f.raised_at.desc(), f.finding_id)
            .limit(limit)
        )
        with self._connected() as db:
            return [_finding(row) for row in db.execute(query).mappings()]

    def finding_changes(self, since_ms: int = 0, limit: int = 100_000) -> list[Row]:
        """Return the changes of findings that took effect at or after `since_ms`, oldest first."""
        c = t.finding_changes.c
        query = (
            select(t.finding_changes)
            .where(c.changed_at >= since_ms)
            .order_by(c.changed_at, c.shard, c.order, c.finding_id, c.change)
            .limit(limit)
        )
        with self._connected() as db:
            return [_finding(row) for row in db.execute(query).mappings()]

    def chosen_findings(self, limit: int = 200, **choice: Any) -> list[Row]:
        """Return findings with their handling; for `choice` see `connectors._ledger_handling.chosen`."""
        with self._connected() as db:
            found = db.execute(handling.chosen(**choice).limit(limit)).mappings()
            return [_finding(row) for row in found]

    def finding(self, finding_id: str) -> Row | None:
        """Return one finding with its handling, its changes and what people did; None if unknown.

        An id may be cut short where what is left of it is of one finding only.
        """
        f, c, a = t.findings.c, t.finding_changes.c, t.finding_actions.c
        with self._connected() as db:
            begins = f.finding_id.startswith(finding_id, autoescape=True)
            shortest_first = select(f.finding_id).where(begins).order_by(func.length(f.finding_id)).limit(2)
            ids = db.execute(shortest_first).scalars().all() if finding_id else []
            if not ids or (len(ids) > 1 and ids[0] != finding_id):
                return None
            query = handling.chosen(state="all").where(f.finding_id == ids[0])
            changes = select(t.finding_changes).where(c.finding_id == ids[0]).order_by(c.change)
            actions = select(t.finding_actions).where(a.finding_id == ids[0]).order_by(a.at, a.action_id)
            reacted = acts.plain(db, db.execute(acts.chosen(finding=ids[0])).mappings().all())
            return _finding(db.execute(query).mappings().one()) | {
                "changes": [_finding(row) for row in db.execute(changes).mappings()],
                "actions": [dict(row) for row in db.execute(actions).mappings()],
                "reactions": reacted[::-1],
            }

    def commands(self, limit: int = 200, **choice: Any) -> list[Row]:
        """Return commands to stations, the newest first; `choice` as in `_ledger_commands.chosen`."""
        with self._connected() as db:
            return [orders.plain(row) for row in db.execute(orders.chosen(**choice).limit(limit)).mappings()]

    def command(self, cmd_id: str) -> Row | None:
        """Return one command with its ``changes``; None if no or more than one id begins so."""
        ids = orders.commands.c.cmd_id
        query = select(orders.commands).where(ids.startswith(cmd_id, autoescape=True)).limit(2)
        with self._connected() as db:
            found = db.execute(query).mappings().all()
            if len(found) != 1:
                return None
            changes = db.execute(orders.changes_of(found[0]["cmd_id"])).mappings().all()
        return orders.plain(found[0]) | {"changes": [orders.plain(change) for change in changes]}

    def reactions(self, limit: int = 200, **choice: str) -> list[Row]:
        """Return what became of automatic reactions, newest first; `choice` as `_ledger_reactions.chosen`."""
        with self._connected() as db:
            return acts.plain(db, db.execute(acts.chosen(**choice).limit(limit)).mappings().all())

    def breaker(self) -> list[Row]:
        """Return the records that opened the breaker of reactions, one for each shard where it is open."""
        return self._rows(acts.opened())

    def load_minutes(self, site: str, since_ms: int, until_ms: int) -> list[Row]:
        """Return managed sites (one, or "" for all) minute by minute, in order of time."""
        return self._rows(load.minutes(site, since_ms, until_ms))

    def load_now(self, site: str = "") -> list[Row]:
        """Return the newest minute of each managed site, or of one."""
        return self._rows(load.newest(site))

    def limits_now(self, site: str) -> list[Row]:
        """Return the limits in force at the EVSEs of a site that have a vehicle."""
        return self._rows(load.in_force(site))

    def limits(self, site: str, station: str, evse: int | None = None, transaction_id: str = "") -> list[Row]:
        """Return the limits that were in force at a station, an EVSE or in a transaction, oldest first."""
        return self._rows(load.history(site, station, evse, transaction_id))

    def _rows(self, query: Any) -> list[Row]:
        with self._connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def raised_findings(self, limit: int = 200, *, site: str = "", search: str = "") -> tuple[list[Row], int]:
        """Return the open findings that no open parent explains, and how many there are in all.

        Critical ones first, then the youngest; ``consequences`` counts what a finding explains, and
        ``acked_by``, ``acked_at``, ``assignee``, ``snoozed_until``, ``comments`` say what people did.

        Parameters
        ----------
        limit : int
        site : str
            Only of this site; empty: of all.
        search : str
            Words that must all occur in place, code, severity or source; upper and lower case are one.
        """
        with self._connected() as db:
            query = handling.chosen(site=site, search=search)
            rows = [_finding(row) for row in db.execute(query.limit(limit)).mappings()]
            return rows, len(rows) if len(rows) < limit else _count(db, query)

    def open_by_code(self) -> list[tuple[str, str, int]]:
        """Return (code, severity, how many) of the raised open findings."""
        f = t.findings.c
        query = (
            select(f.code, f.severity, func.count())
            .where(live.is_open(), f.parent.is_(None))
            .group_by(f.code, f.severity)
            .order_by(f.code, f.severity)
        )
        with self._connected() as db:
            return [(str(code), str(severity), int(n)) for code, severity, n in db.execute(query)]

    def evses(self, limit: int = 1_000, offset: int = 0, *, site: str = "", search: str = "") -> list[Row]:
        """Return EVSEs by site, station and number: inventory, newest reading, open findings.

        What is not known is None; ``open_findings`` counts live ones, ``worst`` is their severity. `site` and
        `search` choose as in `urgent_evses`.
        """
        with self._connected() as db:
            query = live.evses(site, search, limit, offset, urgent_first=False)
            return [_evse(row) for row in db.execute(query).mappings()]

    def urgent_evses(self, limit: int = 1_000, *, site: str = "", search: str = "") -> tuple[list[Row], int]:
        """Return EVSEs as `evses` does and how many there are in all.

        The worst findings first, then what is faulted, charging, occupied, then the rest.

        Parameters
        ----------
        limit : int
        site : str
            Only of this site; empty: of all.
        search : str
            Words that must all occur in site, station/number, node, type or status; upper and lower
            case are one.
        """
        with self._connected() as db:
            query = live.evses(site, search, limit, 0, urgent_first=True)
            found = db.execute(query).mappings().all()
        rows, matching = [_evse(row) for row in found], int(found[0]["matching"]) if found else 0
        return rows, matching

    def sites(self) -> list[str]:
        """Return the names of all sites that have an EVSE."""
        keys = live.evse_keys()
        with self._connected() as db:
            found = db.execute(select(keys.c.site).distinct().order_by(keys.c.site))
            return [str(site) for (site,) in found]

    def stations(self, site: str) -> list[str]:
        """Return the names of the stations of a site that have an EVSE."""
        keys = live.evse_keys()
        return sorted({row["station"] for row in self._rows(select(keys).where(keys.c.site == site))})

    def power_now(self, since_ms: int) -> tuple[float, int] | None:
        """Return (W, EVSEs) of the newest power of all EVSEs together; None when none sent any.

        Readings before `since_ms` are too old to count.
        """
        now = t.latest.c
        query = select(func.sum(now.power_w), func.count(now.power_w)).where(now.time_ms >= since_ms)
        with self._connected() as db:
            power, n = db.execute(query).one()
        return None if power is None else (float(power), int(n))

    def power(
        self,
        since_ms: int,
        until_ms: int,
        *,
        site: str | None = None,
        station: str | None = None,
        evse: int | None = None,
    ) -> list[tuple[int, float, int]]:
        """Return (minute in epoch ms, W, EVSEs) of the mean power of all chosen EVSEs together.

        From `since_ms` (inclusive) to `until_ms` (exclusive). A minute without any power reading is absent,
        not 0; the count says of how many EVSEs the sum consists.
        """
        r = t.rollup_1m.c
        query = (
            select(r.start_ms, func.sum(r.power_mean_w), func.count(r.power_mean_w))
            .where(r.start_ms >= since_ms, r.start_ms < until_ms, r.power_mean_w.is_not(None))
            .group_by(r.start_ms)
            .order_by(r.start_ms)
        )
        for column, wanted in ((r.site, site), (r.station, station), (r.evse, evse)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._connected() as db:
            return [(int(start), float(power), int(n)) for start, power, n in db.execute(query)]

    def intervals(self, since_ms: int = 0, until_ms: int | None = None, limit: int = 1_000_000) -> list[Row]:
        """Return the intervals that start from `since_ms` (inclusive) to `until_ms` (exclusive), by key."""
        i = t.intervals.c
        query = select(t.intervals).where(i.start_ms >= since_ms)
        if until_ms is not None:
            query = query.where(i.start_ms < until_ms)
        with self._connected() as db:
            found = db.execute(query.order_by(i.site, i.station, i.evse, i.start_ms).limit(limit))
            return [dict(row) for row in found.mappings()]

    def dead(self, limit: int = 100) -> list[Row]:
        """Return the newest messages that could not be used."""
        query = select(t.dead).order_by(t.dead.c.recv_ns.desc()).limit(limit)
        with self._connected() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def dead_by_reason(self) -> dict[str, int]:
        """Return how many messages each reason made unusable."""
        query = select(t.dead.c.reason, func.count()).group_by(t.dead.c.reason).order_by(t.dead.c.reason)
        with self._connected() as db:
            return {str(reason): int(count) for reason, count in db.execute(query)}


def _count(db: Connection, query: Any) -> int:
    """Return how many rows a query has."""
    return int(db.execute(select(func.count()).select_from(query.order_by(None).subquery())).scalar_one())


def _evse(row: Any) -> Row:
    found = dict(row)
    found["values"] = json.loads(found["values"]) if found["values"] else {}
    del found["matching"]
    found["worst"] = _SEVERITIES.get(found.pop("rank"))
    return found


def _finding(row: Any) -> Row:
    return dict(row) | {"evidence": json.loads(row["evidence"])}

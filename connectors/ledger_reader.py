"""Reads the ledger for the page, the audit and drills; never writes, never makes the writer wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, and_, case, func, inspect, select, text, union

from models.errors import StorageError

from . import _ledger_tables as t
from ._ledger_engine import open_engine, parse_url, shown, sqlite_file, translated
from ._ledger_views import OPEN_RANGES
from .ledger import check_version, count_rows

Row = dict[str, Any]
#: Most ranges that `closing` lists one by one.
MAX_LISTED: Final = 100
_SEVERITY_RANK: Final = {"info": 0, "warning": 1, "critical": 2}


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

    def closes(self) -> Row:
        """Return the closing of the account, see `closing`."""
        with self._connected() as db:
            return closing(db)

    def counts(self) -> dict[str, int]:
        """Return how many EVSEs, intervals, findings (all, open), dead messages, late readings there are."""
        with self._connected() as db:
            late = db.execute(select(func.coalesce(func.sum(t.late.c["count"]), 0))).scalar_one()
            is_open = and_(t.findings.c.state != "cleared", t.findings.c.live)
            opened = db.execute(select(func.count()).select_from(t.findings).where(is_open)).scalar_one()
            return {
                "evses": int(db.execute(select(func.count()).select_from(_evse_keys())).scalar_one()),
                "intervals": count_rows(db, t.intervals),
                "findings": count_rows(db, t.findings),
                "findings_open": int(opened),
                "dead": count_rows(db, t.dead),
                "late_readings": int(late),
            }

    def open_findings(self, limit: int = 200) -> list[Row]:
        """Return the live findings that are open, critical ones first, then the youngest."""
        f = t.findings.c
        rank = case(_SEVERITY_RANK, value=f.severity, else_=-1)
        query = (
            select(t.findings)
            .where(f.state != "cleared", f.live)
            .order_by(rank.desc(), f.raised_at.desc(), f.finding_id)
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

    def evses(self, limit: int = 1_000, offset: int = 0) -> list[Row]:
        """Return EVSEs by site, station and number: inventory, newest reading, open findings.

        What is not known is None; ``open_findings`` counts live ones, ``worst`` is their severity.
        """
        keys = _evse_keys()
        f = t.findings.c
        rank = case(_SEVERITY_RANK, value=f.severity, else_=-1)
        opened = (
            select(
                f.site, f.station, f.evse, func.count().label("open_findings"), func.max(rank).label("rank")
            )
            .where(f.state != "cleared", f.live, f.evse.is_not(None))
            .group_by(f.site, f.station, f.evse)
            .subquery()
        )
        d, now = t.devices.c, t.latest.c
        query = (
            select(
                keys.c.site, keys.c.station, keys.c.evse, d.node, d.vendor, d.model, d.fw, d.connector_type,
                d.p_max_w, d.dc, now.time_ms, now.status, now.state, now.reg_mwh, now.power_w, now["values"],
                func.coalesce(opened.c.open_findings, 0).label("open_findings"), opened.c.rank,
            )
            .select_from(
                keys.outerjoin(t.devices, _same_evse(keys, t.devices))
                .outerjoin(t.latest, _same_evse(keys, t.latest))
                .outerjoin(opened, _same_evse(keys, opened))
            )
            .order_by(keys.c.site, keys.c.station, keys.c.evse)
            .limit(limit)
            .offset(offset)
        )  # fmt: skip
        severity = {rank: name for name, rank in _SEVERITY_RANK.items()}
        with self._connected() as db:
            rows = [dict(row) for row in db.execute(query).mappings()]
        for row in rows:
            row["values"] = json.loads(row["values"]) if row["values"] else {}
            row["worst"] = severity.get(row.pop("rank"))
        return rows

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


def _evse_keys() -> Any:
    sides = [select(table.c.site, table.c.station, table.c.evse) for table in (t.devices, t.latest)]
    return union(*sides).subquery("evse_keys")


def _same_evse(left: Any, right: Any) -> Any:
    return and_(*(left.c[name] == right.c[name] for name in ("site", "station", "evse")))


def _finding(row: Any) -> Row:
    return dict(row) | {"evidence": json.loads(row["evidence"])}

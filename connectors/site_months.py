"""The months of each site in its own time, for views that databases without time zones must answer."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, delete, func, insert, select, tuple_

from . import _ledger_billing as b
from . import _ledger_tables as t


def months(first_ms: int, last_ms: int, zone: str) -> list[tuple[str, int, int]]:
    """Return (``YYYY-MM``, start, end), epoch ms, of each month of `zone` in [first_ms, last_ms]."""
    local = ZoneInfo(zone)
    begin = dt.datetime.fromtimestamp(first_ms / 1000, local).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0, fold=0
    )
    found = []
    while (start_ms := _ms(begin)) <= last_ms:
        year, month = divmod(begin.year * 12 + begin.month, 12)
        after = begin.replace(year=year, month=month + 1)
        found.append((f"{begin.year:04d}-{begin.month:02d}", start_ms, _ms(after)))
        begin = after
    return found


def month_span(month: str, zone: str) -> tuple[int, int]:
    """Return start and end of a month ``YYYY-MM`` of `zone`, epoch ms.

    Raises
    ------
    ValueError
        If it is not written so.
    """
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise ValueError(f"{month!r}: expected a month such as 2026-03")
    middle = _ms(dt.datetime(int(month[:4]), int(month[5:]), 15, tzinfo=dt.UTC))
    [(_, start, end)] = months(middle, middle, zone)
    return start, end


def _ms(time: dt.datetime) -> int:
    return int(time.timestamp()) * 1000


def note_months(db: Connection, zones: Mapping[str, str], default_zone: str) -> int:
    """Bring ``site_months`` up to date with the intervals there are; return how many rows were written.

    Parameters
    ----------
    db : Connection
        In a transaction.
    zones : mapping of site to IANA time zone
    default_zone : str
        For sites that `zones` does not name.
    """
    c, m = t.intervals.c, b.site_months
    # Two queries: each is then one step of the index, together they would be a scan of it.
    first = db.execute(select(func.min(c.start_ms))).scalar()
    last = db.execute(select(func.max(c.start_ms))).scalar()
    if first is None or last is None:
        return 0
    held: dict[str, dict[str, Any]] = {}
    for row in db.execute(select(m)).mappings():
        held.setdefault(row["site"], {})[row["month"]] = row
    written = 0
    for site in _sites(db):
        zone = zones.get(site, default_zone)
        wanted = months(int(first), int(last), zone)
        known = held.get(site, {})
        fresh = [w for w in wanted if w[0] not in known or known[w[0]]["time_zone"] != zone]
        if not fresh:
            continue
        keys = [(site, month) for month, _, _ in fresh]
        db.execute(delete(m).where(tuple_(m.c.site, m.c.month).in_(keys)))
        rows = [
            {"site": site, "month": month, "start_ms": start, "end_ms": end, "time_zone": zone}
            for month, start, end in fresh
        ]
        db.execute(insert(m), rows)
        written += len(rows)
    return written


def _sites(db: Connection) -> list[str]:
    """Return the sites that have intervals, by one seek of the key each."""
    c = t.intervals.c
    found: list[str] = []
    query = select(c.site).order_by(c.site).limit(1)
    row = db.execute(query).first()
    while row is not None:
        found.append(row[0])
        row = db.execute(query.where(c.site > row[0])).first()
    return found

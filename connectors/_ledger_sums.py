"""Sums that the ledger keeps beside its rows: energy of each site and quarter hour, and month, by triggers.

Whoever writes an interval changes the sums in the same transaction, so they always agree: a load profile of a
site is read as it stands, and a month is one row instead of millions.
"""
# ruff: noqa: S608  # the texts are put together from constants of this room, never from input

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select

from . import _ledger_tables as t

_ADD: Final = """
    INSERT INTO site_quarters (site, start_ms, energy_mwh, evses, evses_missing, revision)
    VALUES (NEW.site, NEW.start_ms, coalesce(NEW.energy_mwh, 0), 1,
        CASE WHEN NEW.energy_mwh IS NULL THEN 1 ELSE 0 END, NEW.revision)
    ON CONFLICT (site, start_ms) DO UPDATE SET
        energy_mwh = site_quarters.energy_mwh + excluded.energy_mwh,
        evses = site_quarters.evses + 1,
        evses_missing = site_quarters.evses_missing + excluded.evses_missing,
        revision = {greater}(site_quarters.revision, excluded.revision);
"""
_REVISE: Final = """
    UPDATE site_quarters SET
        energy_mwh = energy_mwh + coalesce(NEW.energy_mwh, 0) - coalesce(OLD.energy_mwh, 0),
        evses_missing = evses_missing + CASE WHEN NEW.energy_mwh IS NULL THEN 1 ELSE 0 END
            - CASE WHEN OLD.energy_mwh IS NULL THEN 1 ELSE 0 END,
        revision = {greater}(revision, NEW.revision)
    WHERE site = NEW.site AND start_ms = NEW.start_ms;
"""
# A quarter hour counts as known once one of its EVSEs has energy.
_KNOWN_NEW: Final = "CASE WHEN NEW.evses > NEW.evses_missing THEN 1 ELSE 0 END"
_KNOWN_OLD: Final = "CASE WHEN OLD.evses > OLD.evses_missing THEN 1 ELSE 0 END"
_ITS_MONTH: Final = "site = NEW.site AND start_ms <= NEW.start_ms AND end_ms > NEW.start_ms"
_INSIDE: Final = (
    "FROM site_quarters q WHERE q.site = site_months.site AND q.start_ms >= site_months.start_ms"
    " AND q.start_ms < site_months.end_ms"
)
_HIGHEST: Final = f"{_INSIDE} AND q.evses > q.evses_missing ORDER BY q.energy_mwh DESC, q.start_ms LIMIT 1"
_RISE: Final = f"""
    UPDATE site_months SET peak_mwh = NEW.energy_mwh, peak_start_ms = NEW.start_ms
    WHERE {_ITS_MONTH} AND NEW.evses > NEW.evses_missing AND (peak_mwh IS NULL
        OR NEW.energy_mwh > peak_mwh OR (NEW.energy_mwh = peak_mwh AND NEW.start_ms < peak_start_ms));
"""
_MONTH_ADD: Final = f"""
    UPDATE site_months SET energy_mwh = energy_mwh + NEW.energy_mwh, known = known + {_KNOWN_NEW},
        quarters = quarters + NEW.evses, missing = missing + NEW.evses_missing
    WHERE {_ITS_MONTH};
    {_RISE}
"""
_MONTH_REVISE: Final = f"""
    UPDATE site_months SET energy_mwh = energy_mwh + NEW.energy_mwh - OLD.energy_mwh,
        known = known + {_KNOWN_NEW} - {_KNOWN_OLD}, quarters = quarters + NEW.evses - OLD.evses,
        missing = missing + NEW.evses_missing - OLD.evses_missing
    WHERE {_ITS_MONTH};
    UPDATE site_months SET peak_mwh = (SELECT q.energy_mwh {_HIGHEST}),
        peak_start_ms = (SELECT q.start_ms {_HIGHEST})
    WHERE {_ITS_MONTH} AND peak_start_ms = NEW.start_ms
        AND (NEW.energy_mwh < OLD.energy_mwh OR NEW.evses <= NEW.evses_missing);
    {_RISE}
"""
_FILL: Final = f"""
    UPDATE site_months SET
        energy_mwh = coalesce((SELECT sum(q.energy_mwh) {_INSIDE}), 0),
        known = (SELECT count(*) {_INSIDE} AND q.evses > q.evses_missing),
        quarters = coalesce((SELECT sum(q.evses) {_INSIDE}), 0),
        missing = coalesce((SELECT sum(q.evses_missing) {_INSIDE}), 0),
        peak_mwh = (SELECT q.energy_mwh {_HIGHEST}), peak_start_ms = (SELECT q.start_ms {_HIGHEST})
"""
#: Name -> (table, event, what is done).
_TRIGGERS: Final = {
    "site_quarters_added": ("intervals", "INSERT", _ADD),
    "site_quarters_revised": ("intervals", "UPDATE", _REVISE),
    "site_months_quarter": ("site_quarters", "INSERT", _MONTH_ADD),
    "site_months_revised": ("site_quarters", "UPDATE", _MONTH_REVISE),
    "site_months_added": ("site_months", "INSERT", f"{_FILL} WHERE site = NEW.site AND month = NEW.month;"),
}


def create_sums(db: Connection) -> None:
    """Create triggers that are not there, and fill sums that are empty from the intervals there are."""
    sqlite = db.dialect.name == "sqlite"
    for name, (table, event, body) in _TRIGGERS.items():
        text = body.format(greater="max" if sqlite else "greatest")
        if sqlite:
            db.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {text} END"
            )
            continue
        db.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {text} RETURN NULL; END $$"
        )
        db.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {table}")
        db.exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    q, c = t.site_quarters, t.intervals.c
    if db.execute(select(q.c.site).limit(1)).first() is None:
        sums = select(
            c.site, c.start_ms, func.coalesce(func.sum(c.energy_mwh), 0), func.count(),
            func.count() - func.count(c.energy_mwh), func.max(c.revision),
        ).group_by(c.site, c.start_ms)  # fmt: skip
        db.execute(insert(q).from_select([column.name for column in q.c], sums))


def fill_months(db: Connection) -> None:
    """Sum up the months that were noted before triggers kept their sums."""
    db.exec_driver_sql(_FILL)

"""Sums that the ledger keeps beside its rows: energy of each site and quarter hour, by triggers.

Whoever writes an interval changes the sum in the same transaction, so both always agree, and a month of a
site is the sum of some thousand rows instead of millions.
"""

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
_TRIGGERS: Final = {"site_quarters_added": ("INSERT", _ADD), "site_quarters_revised": ("UPDATE", _REVISE)}


def create_sums(db: Connection) -> None:
    """Create triggers that are not there, and fill sums that are empty from the intervals there are."""
    sqlite = db.dialect.name == "sqlite"
    for name, (event, body) in _TRIGGERS.items():
        text = body.format(greater="max" if sqlite else "greatest")
        if sqlite:
            db.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON intervals BEGIN {text} END"
            )
            continue
        db.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {text} RETURN NULL; END $$"
        )
        db.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON intervals")
        db.exec_driver_sql(
            f"CREATE TRIGGER {name} AFTER {event} ON intervals FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    q, c = t.site_quarters, t.intervals.c
    if db.execute(select(q.c.site).limit(1)).first() is None:
        sums = select(
            c.site, c.start_ms, func.coalesce(func.sum(c.energy_mwh), 0), func.count(),
            func.count() - func.count(c.energy_mwh), func.max(c.revision),
        ).group_by(c.site, c.start_ms)  # fmt: skip
        db.execute(insert(q).from_select([column.name for column in q.c], sums))

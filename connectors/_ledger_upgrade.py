"""Brings a ledger that an earlier program wrote to this program's schema; nothing stored is changed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, select, update

from . import _ledger_tables as t
from ._ledger_sums import create_sums, fill_months
from ._ledger_views import views

# What earlier versions lack beyond whole tables and views, which are created when absent.
_FROM: Final[dict[str, tuple[str, ...]]] = {
    "1": (
        "ALTER TABLE intervals ADD COLUMN changed BIGINT DEFAULT '0' NOT NULL",
        "CREATE INDEX intervals_by_change ON intervals (changed)",
    ),
    "2": (),
    # tables that joined since are created
    "3": (),
    "4": (),
}
#: Columns that `site_months` did not have before version 5.
_OF_MONTHS: Final = (
    *(f"{name} BIGINT DEFAULT '0' NOT NULL" for name in ("energy_mwh", "known", "quarters", "missing")),
    "peak_mwh BIGINT",
    "peak_start_ms BIGINT",
)


def upgrade(db: Connection, dialect: str) -> None:
    """Upgrade the ledger behind `db` if its version is one that this program knows, else leave it alone.

    Intervals of version 1 keep `changed` 0: they come before all that changes later.
    """
    version = db.execute(select(t.meta.c.value).where(t.meta.c.name == "schema_version")).scalar()
    statements = _FROM.get(str(version))
    if statements is None:
        return
    for statement in statements:
        db.exec_driver_sql(statement)
    found = views(dialect)
    for name in found:
        db.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
    if inspect(db).has_table("site_months"):
        there = {column["name"] for column in inspect(db).get_columns("site_months")}
        for column in _OF_MONTHS:
            if column.split()[0] not in there:
                db.exec_driver_sql(f"ALTER TABLE site_months ADD COLUMN {column}")
    t.metadata.create_all(db)
    create_sums(db)
    fill_months(db)
    for name, select_text in found.items():
        db.exec_driver_sql(f"CREATE VIEW {name} AS {select_text}")
    db.execute(update(t.meta).where(t.meta.c.name == "schema_version").values(value=str(t.SCHEMA_VERSION)))

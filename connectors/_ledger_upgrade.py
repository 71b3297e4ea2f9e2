"""Brings a ledger that an earlier program wrote to this program's schema; nothing stored is changed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, select, update

from . import _ledger_tables as t
from ._ledger_sums import create_sums
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
}


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
    t.metadata.create_all(db)
    create_sums(db)
    for name, select_text in views(dialect).items():
        db.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
        db.exec_driver_sql(f"CREATE VIEW {name} AS {select_text}")
    db.execute(update(t.meta).where(t.meta.c.name == "schema_version").values(value=str(t.SCHEMA_VERSION)))

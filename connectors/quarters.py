"""Quarters that left the energy meter's window: one SQLite file a shard, beside the recovery data.

Implements `models.energy.Archive`. Versions are kept per stretch between two saved states, so a restart at
any of the last few finds what was there when that state was saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from models.batch import I64
from models.energy import Quarters, Retention

from . import _sqlite

QUARTERS: Final = _sqlite.Kind(
    name="quarter archive",
    mark=0x43535131,  # CSQ1
    version=1,
    tables="""
    CREATE TABLE quarters (
        evse INTEGER NOT NULL, quarter INTEGER NOT NULL, saved INTEGER NOT NULL,
        t_first INTEGER NOT NULL, u_first INTEGER NOT NULL, t_last INTEGER NOT NULL, u_last INTEGER NOT NULL,
        off INTEGER NOT NULL,
        t_before INTEGER NOT NULL, u_before INTEGER NOT NULL, off_before INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (evse, quarter, saved)
    ) WITHOUT ROWID
    """,
    repair="delete it: quarters that left the window can then no longer be revised by late readings",
)

#: Quarters that may wait to be written.
PENDING_MAX: Final = 50_000

_INSERT: Final = "INSERT OR REPLACE INTO quarters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LOAD: Final = """
    SELECT evse, quarter, t_first, u_first, t_last, u_last, off, t_before, u_before, off_before, revision
    FROM quarters AS q
    WHERE evse = ? AND quarter >= ? AND quarter < ? AND saved = (
        SELECT max(saved) FROM quarters WHERE evse = q.evse AND quarter = q.quarter)
    ORDER BY quarter
"""


def open_archive(path: Path, shard: int) -> SqliteArchive:
    """Return the archive of a shard in the directory `path`, created if it is not there.

    Raises
    ------
    StorageError
        If the file is of another kind or version, cannot be opened.
    StorageCorrupt
        If it is damaged.
    """
    return SqliteArchive(path / f"quarters-{shard:04d}.db")


class SqliteArchive:
    """`models.energy.Archive` in a SQLite file, written by one process.

    What is put is written when a state is saved, or earlier when there is much of it: a restart forgets
    what no saved state knows of.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # FULL: the recovery data may point at a saved state as soon as `flush` has returned.
        self._db = _sqlite.open_writer(path, QUARTERS, synchronous="FULL")
        self._retention = Retention()
        self._saved = 0
        self._pending: dict[int, dict[int, tuple[int, ...]]] = {}  # EVSE row -> quarter -> row
        self._count = 0

    def put(self, rows: Quarters, keep_from: I64) -> None:
        """Store quarters; see `Archive.put`.

        Raises
        ------
        StorageFull, StorageError
        """
        for row in rows.rows():
            self._pending.setdefault(row[0], {})[row[1]] = row
        self._count += len(rows)
        self._retention.note(rows, keep_from)
        if self._count > PENDING_MAX:
            self._write({})

    def load(self, evse: int, first: int, end: int) -> Quarters:
        """Return the newest versions; see `Archive.load`.

        Raises
        ------
        StorageError
        """
        with _sqlite.translated(QUARTERS, self.path, "load quarters"):
            stored = {row[1]: row for row in self._db.execute(_LOAD, (evse, first, end))}
        pending = self._pending.get(evse, {})
        stored |= {quarter: row for quarter, row in pending.items() if first <= quarter < end}
        return Quarters.of([stored[quarter] for quarter in sorted(stored)])

    def rollback(self, order: int) -> None:
        """Forget versions; see `Archive.rollback`.

        Raises
        ------
        StorageError
        """
        self._pending, self._count = {}, 0
        with _sqlite.transaction(self._db, QUARTERS, self.path, "return to a saved state"):
            self._db.execute("DELETE FROM quarters WHERE saved >= ?", (order,))
        self._retention = Retention()
        self._saved = order

    def flush(self, order: int) -> None:
        """Make what was put durable; see `Archive.flush`.

        Raises
        ------
        StorageFull, StorageError
        """
        gone = self._retention.saved()
        if self._pending or gone:
            self._write(gone)
        self._saved = order

    def close(self) -> None:
        """Close the file; what no saved state knows of is gone."""
        self._db.close()

    def _write(self, gone: dict[int, int]) -> None:
        saved = self._saved
        rows = [(r[0], r[1], saved, *r[2:]) for quarters in self._pending.values() for r in quarters.values()]
        with _sqlite.transaction(self._db, QUARTERS, self.path, "store quarters"):
            self._db.executemany(_INSERT, rows)
            self._db.executemany("DELETE FROM quarters WHERE evse = ? AND quarter < ?", gone.items())
        self._pending, self._count = {}, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

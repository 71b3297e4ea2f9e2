"""Who has read how far: the offsets that retention may not pass.

A small SQLite file of its own beside the journal, so that workers that note their progress never wait for
ingest or make it wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from . import _sqlite

CURSORS: Final = _sqlite.Kind(
    name="cursor file",
    mark=0x43534331,  # CSC1
    version=1,
    tables="""
    CREATE TABLE cursors (
        name TEXT NOT NULL, shard INTEGER NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (name, shard)
    ) WITHOUT ROWID
    """,
    repair="delete it: every reader sets its cursor again when it starts, and nothing is trimmed until then",
)


def cursors_path(journal: Path) -> Path:
    """Return where the cursors of a journal lie: ``journal.db`` -> ``journal.cursors.db``."""
    return journal.with_name(f"{journal.stem}.cursors{journal.suffix}")


class Cursors:
    """Committed offsets by reader name and shard. Several processes may have the file open.

    Setting a cursor for the first time is on disk when the call returns; moving one is safe against a crash
    of the process, and a power cut may set it back by a few moves: retention then keeps more, never less.

    Parameters
    ----------
    path : Path
        The cursor file (not the journal), see `cursors_path`; created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _sqlite.open_writer(path, CURSORS, synchronous="NORMAL")
        self._known: set[tuple[str, int]] = set()

    def set(self, name: str, shard: int, offset: int) -> None:
        """Note that `name` has everything of `shard` before `offset`."""
        self.set_many(name, {shard: offset})

    def set_many(self, name: str, offsets: Mapping[int, int]) -> None:
        """Note the offsets of several shards in one transaction.

        Raises
        ------
        StorageFull, StorageError
            If the file cannot store them; none is stored then.
        """
        keys = {(name, shard) for shard in offsets}
        new = not keys <= self._known
        if new:
            self._db.execute("PRAGMA synchronous=FULL")
        try:
            with _sqlite.transaction(self._db, CURSORS, self.path, f"move the cursor of {name}"):
                self._db.executemany(
                    "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
                    [(name, shard, offset) for shard, offset in offsets.items()],
                )
        finally:
            if new:
                self._db.execute("PRAGMA synchronous=NORMAL")
        self._known |= keys

    def get(self, name: str, shard: int) -> int | None:
        """Return the offset of `name` in `shard`, None if it never set one."""
        with _sqlite.translated(CURSORS, self.path, f"read the cursor of {name}"):
            found = self._db.execute(
                "SELECT position FROM cursors WHERE name = ? AND shard = ?", (name, shard)
            ).fetchone()
        return None if found is None else int(found[0])

    def lowest(self, shard: int) -> int | None:
        """Return the lowest offset of any reader of `shard`, None when it has no reader."""
        return self.lowest_all().get(shard)

    def lowest_all(self) -> dict[int, int]:
        """Return the lowest offset of any reader, for every shard that has one."""
        with _sqlite.translated(CURSORS, self.path, "read the cursors"):
            rows = self._db.execute("SELECT shard, min(position) FROM cursors GROUP BY shard").fetchall()
        return {int(shard): int(position) for shard, position in rows}

    def all(self) -> dict[str, dict[int, int]]:
        """Return every reader's offsets by shard."""
        found: dict[str, dict[int, int]] = {}
        with _sqlite.translated(CURSORS, self.path, "read the cursors"):
            rows = self._db.execute(
                "SELECT name, shard, position FROM cursors ORDER BY name, shard"
            ).fetchall()
        for name, shard, position in rows:
            found.setdefault(str(name), {})[int(shard)] = int(position)
        return found

    def forget(self, name: str) -> None:
        """Remove a reader that will not come back: retention no longer waits for it."""
        with _sqlite.transaction(self._db, CURSORS, self.path, f"forget the cursor of {name}"):
            self._db.execute("DELETE FROM cursors WHERE name = ?", (name,))
        self._known = {known for known in self._known if known[0] != name}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""Deliveries that a server outside refused for good, with its words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from . import _sqlite

DEAD_LETTER: Final = _sqlite.Kind(
    name="dead-letter",
    mark=0x43534C31,  # CSL1
    version=1,
    tables="""
    CREATE TABLE letters (
        id INTEGER PRIMARY KEY, consumer TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL,
        digest BLOB NOT NULL, tries INTEGER NOT NULL, when_ms INTEGER NOT NULL, reason TEXT NOT NULL,
        record BLOB NOT NULL, UNIQUE (consumer, stream, seq, digest))
    """,
    repair="move it aside: a new one is created, and only the list of what was refused so far is lost",
)

#: Beyond this somebody has to look: a server that refuses everything is a mistake in the configuration.
MAX_BYTES: Final = 1 << 30


class Letter(NamedTuple):
    """One refused record: what it was, why and when (epoch ms) it was refused last, and how often."""

    id: int
    consumer: str
    stream: str
    seq: int
    tries: int
    when_ms: int
    reason: str
    blob: bytes


class DeadLetter:
    """A file of refused records. Several processes may use it.

    Parameters
    ----------
    path : Path
        Created if it is not there.
    max_bytes : int
        Bound on the bytes in use; 0 = only the disk bounds it.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._db = _sqlite.open_writer(path, DEAD_LETTER, synchronous="FULL")

    def add(self, consumer: str, stream: str, seq: int, blob: bytes, reason: str, when_ms: int) -> None:
        """Store a refused record; on disk when it returns, so that the cursor may pass it.

        The same record refused again, after a crash, is stored once and counted.

        Raises
        ------
        StorageFull
            If there is no room: then the cursor must not pass it.
        """
        _sqlite.check_room(self._db, DEAD_LETTER, self.path, len(blob), self.max_bytes, 0)
        digest = hashlib.blake2b(blob, digest_size=16).digest()
        with _sqlite.transaction(self._db, DEAD_LETTER, self.path, f"store what {consumer} refused"):
            self._db.execute(
                "INSERT INTO letters (consumer, stream, seq, digest, tries, when_ms, reason, record)"
                " VALUES (?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " tries = tries + 1, when_ms = excluded.when_ms, reason = excluded.reason",
                (consumer, stream, seq, digest, when_ms, reason, blob),
            )

    def count(self, consumer: str | None = None) -> int:
        """Return the number of records refused, by everyone or by one consumer."""
        with _sqlite.translated(DEAD_LETTER, self.path, "count its records"):
            found = self._db.execute(
                "SELECT count(*) FROM letters WHERE ?1 IS NULL OR consumer = ?1", (consumer,)
            ).fetchone()
        return int(found[0])

    def list(self, consumer: str | None = None, *, after_id: int = 0, limit: int = 100) -> list[Letter]:
        """Return up to `limit` records in the order they were first refused, those after `after_id`."""
        with _sqlite.translated(DEAD_LETTER, self.path, "list its records"):
            rows = self._db.execute(
                "SELECT id, consumer, stream, seq, tries, when_ms, reason, record FROM letters"
                " WHERE id > ?1 AND (?2 IS NULL OR consumer = ?2) ORDER BY id LIMIT ?3",
                (after_id, consumer, limit),
            ).fetchall()
        return [Letter._make(row) for row in rows]

    def drop(self, ids: Sequence[int]) -> int:
        """Delete letters by id and return how many there were."""
        with _sqlite.transaction(self._db, DEAD_LETTER, self.path, "drop records"):
            found = self._db.executemany("DELETE FROM letters WHERE id = ?", [(id_,) for id_ in ids])
        return found.rowcount

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""What was told about findings, on disk: the planner's cases, and each message's way to its server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from models.notices import Case, NoticePlanner

from . import _sqlite

NOTICES: Final = _sqlite.Kind(
    name="notices file",
    mark=0x43534E31,  # CSN1
    version=1,
    tables="""
    CREATE TABLE cases (finding_id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE clocks (shard INTEGER PRIMARY KEY, through_ms INTEGER NOT NULL);
    CREATE TABLE routes (name TEXT PRIMARY KEY, since_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE told (
        finding_id TEXT NOT NULL, route TEXT NOT NULL, state TEXT NOT NULL, sent INTEGER NOT NULL,
        PRIMARY KEY (finding_id, route, state)
    ) WITHOUT ROWID
    """,
    repair="move it aside: routes then tell only what changes from that moment on",
)

#: (finding id, state)
Key = tuple[str, str]


def notices_path(data_dir: Path) -> Path:
    """Return where the file lies."""
    return data_dir / "notify" / "notices.db"


class NoticeStore:
    """One connection to the file. Several threads and processes may each have one.

    Parameters
    ----------
    path : Path
        Created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _sqlite.open_writer(path, NOTICES, synchronous="FULL")

    def since(self, routes: Iterable[str], now_ms: int) -> dict[str, int]:
        """Return when each route was set up, epoch ms; for one that is new that is now."""
        names = [(name, now_ms) for name in routes]
        wanted = {name for name, _ in names}
        with _sqlite.transaction(self._db, NOTICES, self.path, "note its routes"):
            self._db.executemany("INSERT OR IGNORE INTO routes VALUES (?, ?)", names)
            found = self._db.execute("SELECT name, since_ms FROM routes").fetchall()
        return {name: since_ms for name, since_ms in found if name in wanted}

    def forget_routes(self) -> None:
        """Forget since when the routes are there: they are switched off, and begin anew."""
        with _sqlite.transaction(self._db, NOTICES, self.path, "forget its routes"):
            self._db.execute("DELETE FROM routes")

    def load(self) -> tuple[dict[str, Case], dict[int, int]]:
        """Return the planner's cases and clocks.

        Raises
        ------
        StorageCorrupt
            If a case cannot be read.
        """
        decode = msgspec.msgpack.Decoder(Case).decode
        with _sqlite.translated(NOTICES, self.path, "read its cases"):
            rows = self._db.execute("SELECT finding_id, record FROM cases").fetchall()
            clocks = self._db.execute("SELECT shard, through_ms FROM clocks").fetchall()
        try:
            return {name: decode(record) for name, record in rows}, dict(clocks)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _sqlite.damaged(NOTICES, self.path, f"a case cannot be read: {error}") from error

    def save(self, planner: NoticePlanner) -> None:
        """Store what changed in a planner since the last time."""
        if not planner.touched and not planner.forgotten:
            return
        encode = msgspec.msgpack.encode
        cases = [(name, encode(planner.cases[name])) for name in planner.touched]
        gone = [(name,) for name in planner.forgotten]
        with _sqlite.transaction(self._db, NOTICES, self.path, "store its cases"):
            self._db.executemany("DELETE FROM cases WHERE finding_id = ?", gone)
            self._db.executemany("DELETE FROM told WHERE finding_id = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO cases VALUES (?, ?)", cases)
            self._db.executemany("INSERT OR REPLACE INTO clocks VALUES (?, ?)", list(planner.clocks.items()))
        planner.touched.clear()
        planner.forgotten.clear()

    def states(self, route: str, keys: Sequence[Key]) -> dict[Key, bool]:
        """Return those of `keys` that are known for `route`: whether they were sent, or only begun."""
        with _sqlite.translated(NOTICES, self.path, "read what was told"):
            return {key: bool(sent) for key in keys for sent in self._sent(route, key)}

    def _sent(self, route: str, key: Key) -> list[int]:
        query = "SELECT sent FROM told WHERE finding_id = ? AND route = ? AND state = ?"
        rows: list[sqlite3.Row] = self._db.execute(query, (key[0], route, key[1])).fetchall()
        return [int(row[0]) for row in rows]

    def begin(self, route: str, keys: Sequence[Key]) -> None:
        """Note, before anything is sent, that `keys` are about to be: then no crash can send them twice."""
        self._mark(route, dict.fromkeys(keys, 0))

    def sent(self, route: str, keys: Sequence[Key]) -> None:
        """Note that the server took `keys`."""
        self._mark(route, dict.fromkeys(keys, 1))

    def take_back(self, route: str, keys: Sequence[Key]) -> None:
        """Note that the server did not take `keys`."""
        rows = [(finding_id, route, state) for finding_id, state in keys]
        with _sqlite.transaction(self._db, NOTICES, self.path, "note what was not told"):
            self._db.executemany("DELETE FROM told WHERE finding_id = ? AND route = ? AND state = ?", rows)

    def _mark(self, route: str, keys: Mapping[Key, int]) -> None:
        rows = [(finding_id, route, state, sent) for (finding_id, state), sent in keys.items()]
        with _sqlite.transaction(self._db, NOTICES, self.path, "note what is told"):
            self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""Reads an outbox while its worker writes, from any process."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final, Self

from models.errors import StorageError

from . import _sqlite
from ._outbox_table import COLUMNS, OUTBOX, Row, fault, key, tails

_SELECT: Final = f"SELECT {COLUMNS} FROM records WHERE id > ? AND id < ? ORDER BY id"  # noqa: S608 (own text)


class OutboxReader:
    """Reads an outbox while its worker writes, from any process. Not thread-safe: one thread at a time.

    Raises
    ------
    StorageError
        If there is no outbox at `path`, or it is of another kind or version.
    StorageCorrupt
        If it is not a database or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _sqlite.open_reader(path, OUTBOX)
        self._version = -1
        self._tails: dict[str, tuple[int, int]] = {}

    def last_seq(self, stream: str | None = None) -> int:
        """Return the sequence number of the last record, of one stream or of all; 0 when there is none.

        Asking again costs microseconds while nothing was committed.
        """
        try:
            version = self._db.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._tails = tails(self._db)
                # Read before the tails: what was committed in between is looked at again next time.
                self._version = version
        except sqlite3.Error as error:
            raise _sqlite.failure(error, OUTBOX, self.path, "read its last record") from error
        if stream is not None:
            return self._tails.get(stream, (0, 0))[1]
        return max((seq for _, seq in self._tails.values()), default=0)

    def read(
        self, stream: str, after_seq: int, limit: int = 1000, max_bytes: int = 4 << 20
    ) -> list[tuple[int, int, bytes]]:
        """Return (seq, shard, record) of the records of `stream` after `after_seq`, in order.

        Up to `limit` records and `max_bytes` of them, one at least, however large; none when there is none.
        `after_seq` 0 begins with the oldest record there is.

        Raises
        ------
        StorageError
            If records after `after_seq` were trimmed away, or `after_seq` lies beyond the last record.
        StorageCorrupt
            If stored bytes do not match their checksum, or a record is missing.
        """
        if after_seq >= self._tails.get(stream, (0, 0))[1]:
            last = self.last_seq(stream)
            if after_seq > last and after_seq > self.last_seq():
                raise StorageError(
                    f"outbox {self.path}: stream {stream} ends at record {last}, those after {after_seq} "
                    f"were asked for. The cursor is ahead of the outbox: was that replaced or restored from "
                    f"a backup? Delete its cursor file: what is delivered twice changes nothing"
                )
            if after_seq >= last:
                return []
        number = self._tails[stream][0]
        with _sqlite.translated(OUTBOX, self.path, f"read stream {stream} after record {after_seq}"):
            return self._rows(stream, number, after_seq, limit, max_bytes)

    def _rows(
        self, stream: str, number: int, after_seq: int, limit: int, max_bytes: int
    ) -> list[tuple[int, int, bytes]]:
        found: list[tuple[int, int, bytes]] = []
        size, before = 0, after_seq
        cursor = self._db.execute(_SELECT, (key(number, after_seq), key(number + 1, 0)))
        try:
            for values in cursor:
                row = Row._make(values)
                wrong = fault(row, stream)
                if found and (wrong or row.prev != before):
                    break  # what is sound comes first; the next read begins at the damage and reports it
                if wrong:
                    raise _sqlite.damaged(OUTBOX, self.path, wrong)
                if row.prev > before and before:
                    raise self._missing(stream, number, before, row)
                size += len(row.record)
                if found and size > max_bytes:
                    break
                before = row.seq
                found.append((before, row.shard, row.record))
                if len(found) >= limit:
                    break
        finally:
            cursor.close()
        return found

    def _missing(self, stream: str, number: int, before: int, row: Row) -> StorageError:
        span = (key(number, 0), key(number + 1, 0))
        query = "SELECT min(id) FROM records WHERE id > ? AND id < ?"
        if self._db.execute(query, span).fetchone()[0] == row.id:
            return StorageError(
                f"outbox {self.path}: the records of stream {stream} after {before} were trimmed away, the "
                f"oldest there is {row.seq}. To go on without the missing ones, set the cursor to "
                f"{row.prev}"
            )
        return _sqlite.damaged(
            OUTBOX, self.path, f"stream {stream}: record {row.prev}, which comes after {before}, is missing"
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""Reads the journal while it is written, from any process."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final, Self

from models.errors import StorageCorrupt, StorageError
from models.frame import Frame

from . import _chunks, _sqlite
from ._chunks import COLUMNS, JOURNAL, Row, key

_SELECT: Final = f"SELECT {COLUMNS} FROM chunks WHERE id > ? AND id < ? ORDER BY id"  # noqa: S608 (own text)
_WAIT_STEP_S: Final = 0.05


class JournalReader:
    """Follows the journal, read-only. Not thread-safe: one thread at a time.

    Parameters
    ----------
    path : Path
    wait : bool
        Wait, up to `wait_s`, for a writer to create the journal; False: raise at once.
    wait_s : float

    Raises
    ------
    StorageError
        If there is no journal, or it is of another kind or version.
    StorageCorrupt
        If it is not a database or damaged.
    """

    def __init__(self, path: Path, *, wait: bool = False, wait_s: float = 60.0) -> None:
        self.path = path
        deadline = time.monotonic() + (wait_s if wait else 0.0)
        while True:
            try:
                self._db = _sqlite.open_reader(path, JOURNAL)
                break
            except StorageCorrupt:
                raise
            except StorageError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_WAIT_STEP_S)
        self._version = -1
        self._ends: dict[int, int] = {}

    def shards(self) -> int:
        """Return the number of shards."""
        return len(self.ends())

    def ends(self) -> dict[int, int]:
        """Return the end of every shard: the offset that its next message will get.

        Asking again costs microseconds while nothing was appended. Do not change what it returns.
        """
        try:
            version = self._db.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version or not self._ends:
                self._ends = _chunks.tails(self._db)
                # Read before the ends: what was committed in between is looked at again next time.
                self._version = version
        except sqlite3.Error as error:
            raise _sqlite.failure(error, JOURNAL, self.path, "read where its shards end") from error
        return self._ends

    def end(self, shard: int) -> int:
        """Return the offset that the next message of `shard` will get."""
        self._check_shard(shard)
        return self.ends()[shard]

    def first(self, shard: int) -> int:
        """Return the oldest offset of `shard` that is still stored; its end when there is none."""
        self._check_shard(shard)
        with _sqlite.translated(JOURNAL, self.path, f"read where shard {shard} begins"):
            found = _chunks.first(self._db, shard, self.path)
        return self.end(shard) if found is None else found

    def read(
        self, shard: int, offset: int, max_messages: int = 8192, max_bytes: int = 4 << 20
    ) -> tuple[int, Frame] | None:
        """Return (`offset`, the messages that begin there), or None when none has come yet.

        Chunks are joined up to the bounds, which count messages and the bytes of topics and payloads. At
        least one message comes, however large; fewer than possible may come.

        Raises
        ------
        StorageError
            If the offset was trimmed away (saying the oldest there is), or lies beyond the end.
        StorageCorrupt
            If stored bytes do not match their checksum, or messages are missing in between.
        """
        if offset >= self._ends.get(shard, 0):
            end = self.end(shard)
            if offset == end:
                return None
            if offset > end:
                raise StorageError(
                    f"journal {self.path}: shard {shard} ends at offset {end}, offset {offset} was asked "
                    f"for. The reader is ahead of the journal: was that replaced or restored from a backup? "
                    f"Restore the journal or the reader's state so that both come from the same time"
                )
        with _sqlite.translated(JOURNAL, self.path, f"read shard {shard} at offset {offset}"):
            rows = self._rows(shard, offset, max_messages, max_bytes)
        if not rows or rows[0].first > offset:
            raise self._missing(shard, offset, rows[0].first if rows else self._ends[shard])
        frame = _chunks.decode(rows, self.path)
        return offset, _bounded(frame, offset - rows[0].first, max_messages, max_bytes)

    def _rows(self, shard: int, offset: int, max_messages: int, max_bytes: int) -> list[Row]:
        """Return whole chunks up to the bounds, one at least, from the one that holds `offset` on."""
        rows: list[Row] = []
        messages = size = 0
        # Stepped, not fetched at once: what lies beyond the bounds is never read. Closing the cursor ends
        # the read transaction, which would otherwise keep the writer from reusing its log.
        cursor = self._db.execute(_SELECT, (key(shard, offset), key(shard + 1, 0)))
        try:
            for found in cursor:
                row = Row._make(found)
                wrong = _chunks.fault(row)
                if rows and (wrong or row.first != rows[-1].end):
                    break  # what is sound comes first; the next read begins at the damage and reports it
                if wrong:
                    raise _sqlite.damaged(JOURNAL, self.path, wrong)
                messages += row.n
                size += len(row.frame)
                if rows and (messages > max_messages or size > max_bytes):
                    break
                rows.append(row)
                if messages >= max_messages or size >= max_bytes:
                    break
        finally:
            cursor.close()
        return rows

    def _missing(self, shard: int, offset: int, found: int) -> StorageError:
        oldest = self.first(shard)
        if offset < oldest:
            return StorageError(
                f"journal {self.path}: offset {offset} of shard {shard} was trimmed away, the oldest "
                f"there is {oldest}. Retention spares what a reader with a cursor has not read; "
                f"to go on without the missing messages, start at {oldest}"
            )
        return _sqlite.damaged(
            JOURNAL, self.path, f"shard {shard}: the messages from offset {offset} to {found} are missing"
        )

    def _check_shard(self, shard: int) -> None:
        shards = len(self._ends or self.ends())
        if not 0 <= shard < shards:
            raise StorageError(f"journal {self.path} has shards 0 to {shards - 1}, not {shard}")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _bounded(frame: Frame, start: int, max_messages: int, max_bytes: int) -> Frame:
    """Return the messages from `start` on, within the bounds."""
    n = len(frame)
    if start == 0 and n <= max_messages and len(frame.topics) + len(frame.payloads) <= max_bytes:
        return frame
    return frame.slice(
        start, _chunks.cut(frame.topic_end + frame.payload_end, start, max_messages, max_bytes)
    )

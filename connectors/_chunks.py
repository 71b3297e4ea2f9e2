"""How the journal's chunks lie in their file, shared by writer, reader and audit.

A chunk is a run of messages of one shard, stored as one row. Its key is ``shard << 48 | end``, `end`
being the offset after its last message: keyed by end, both questions of a reader ("where does the
shard end", "which chunks follow offset x") are one step into the table.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import StorageCorrupt
from models.frame import Frame

from . import _sqlite

OFFSET_BITS: Final = 48
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
MAX_SHARDS: Final = 1 << 14
MAX_NS: Final = (1 << 63) - 1

JOURNAL: Final = _sqlite.Kind(
    name="journal",
    mark=0x43534A31,  # CSJ1
    version=1,
    tables="""
    CREATE TABLE shards (shard INTEGER PRIMARY KEY);
    CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY, n INTEGER NOT NULL,
        recv_min_ns INTEGER NOT NULL, recv_max_ns INTEGER NOT NULL,
        crc32 INTEGER NOT NULL, frame BLOB NOT NULL);
    CREATE VIEW chunk_list AS SELECT
        id >> 48 AS shard, (id & 0xFFFFFFFFFFFF) - n AS first_offset, n,
        recv_min_ns, recv_max_ns, crc32, length(frame) AS frame_bytes FROM chunks
    """,
    repair="run 'chargestream journal verify' to see what is affected, and restore the file from a backup, "
    "or start a new one after 'chargestream journal export' of what is sound",
)

#: Columns of a `Row`, in order.
COLUMNS: Final = "id, n, recv_min_ns, recv_max_ns, crc32, frame"

_GUARDED: Final = struct.Struct("<qqqq")
_TAILS: Final = """
    SELECT shard, (
        SELECT id FROM chunks WHERE id > shard << 48 AND id < (shard + 1) << 48 ORDER BY id DESC LIMIT 1
    ) FROM shards ORDER BY shard
    """
_FIRST: Final = "SELECT id, n FROM chunks WHERE id > ? AND id < ? ORDER BY id LIMIT 1"


class Row(NamedTuple):
    """One stored chunk, as it lies in the table."""

    id: int
    n: int
    recv_min_ns: int
    recv_max_ns: int
    crc32: int
    frame: bytes

    @property
    def shard(self) -> int:
        """The shard."""
        return self.id >> OFFSET_BITS

    @property
    def end(self) -> int:
        """Offset after the last message."""
        return self.id & OFFSET_MASK

    @property
    def first(self) -> int:
        """Offset of the first message."""
        return self.end - self.n


def key(shard: int, end: int) -> int:
    """Return the key of the chunk of `shard` that ends before offset `end`."""
    return shard << OFFSET_BITS | end


def checksum(id_: int, n: int, recv_min_ns: int, recv_max_ns: int, frame: bytes) -> int:
    """Return the CRC-32 over the chunk's place, its columns and its bytes: a moved row does not match."""
    return zlib.crc32(frame, zlib.crc32(_GUARDED.pack(id_, n, recv_min_ns, recv_max_ns)))


def fault(row: Row) -> str | None:
    """Return what is wrong with a stored chunk, or None."""
    try:
        crc = checksum(row.id, row.n, row.recv_min_ns, row.recv_max_ns, row.frame)
    except (TypeError, struct.error):
        wrong = "columns of the wrong type"  # bits of a record's header decide the types of its columns
    else:
        if crc == row.crc32:
            return None
        wrong = f"checksum {crc}, stored {row.crc32!r} ({row.n} messages, {len(row.frame)} bytes)"
    return f"shard {row.shard}, the chunk that ends before offset {row.end} has {wrong}"


def checked(found: tuple[Any, ...], path: Path) -> Row:
    """Return the chunk of one result row.

    Raises
    ------
    StorageCorrupt
        If it does not match its checksum, naming shard, offset and file.
    """
    row = Row._make(found)
    wrong = fault(row)
    if wrong is not None:
        raise _sqlite.damaged(JOURNAL, path, wrong)
    return row


def decode(rows: list[Row], path: Path) -> Frame:
    """Return the messages of `rows`, which are `checked` and follow one another, as one frame.

    Raises
    ------
    StorageCorrupt
        If they are not the frames that their columns promise.
    """
    at = f"shard {rows[0].shard}, offsets {rows[0].first} to {rows[-1].end}"
    try:
        frame = Frame.decode_all([row.frame for row in rows])
    except StorageCorrupt as error:
        raise _sqlite.damaged(JOURNAL, path, f"{at}: {error}") from error
    if len(frame) != rows[-1].end - rows[0].first:
        raise _sqlite.damaged(JOURNAL, path, f"{at}: their frames hold {len(frame)} messages")
    return frame


def cut(bytes_end: NDArray[np.int64], start: int, max_messages: int, max_bytes: int) -> int:
    """Return where a run of messages that begins at `start` ends under both bounds, one message at least.

    Parameters
    ----------
    bytes_end : ndarray, shape (n,), int64
        Bytes of all messages up to and including each one.
    """
    base = int(bytes_end[start - 1]) if start else 0
    stop = int(np.searchsorted(bytes_end, base + max_bytes, side="right"))
    return min(max(stop, start + 1), start + max(max_messages, 1), len(bytes_end))


def tails(db: sqlite3.Connection) -> dict[int, int]:
    """Return the end offset of every shard; 0 where nothing was stored yet."""
    return {shard: (id_ or 0) & OFFSET_MASK for shard, id_ in db.execute(_TAILS).fetchall()}


def first(db: sqlite3.Connection, shard: int, path: Path) -> int | None:
    """Return the oldest stored offset of `shard`, None when it has none."""
    found = db.execute(_FIRST, (key(shard, 0), key(shard + 1, 0))).fetchone()
    return (
        None
        if found is None
        else (found[0] & OFFSET_MASK) - _sqlite.number(found[1], "length", JOURNAL, path)
    )


def scan(
    db: sqlite3.Connection, shard: int, offset: int, where: str = "", values: tuple[int, ...] = ()
) -> Iterator[Row]:
    """Yield the chunks of `shard` that hold `offset` or come after it.

    Rows are fetched a few at a time, so that no read transaction stays open while the caller works: an
    open one keeps the writer from reusing its log. `where` is a further SQL condition with its `values`.
    """
    at = key(shard, offset)
    query = f"SELECT {COLUMNS} FROM chunks WHERE id > ? AND id < ? {where} ORDER BY id LIMIT 32"  # noqa: S608 (own text)
    while True:
        rows = db.execute(query, (at, key(shard + 1, 0), *values)).fetchall()
        if not rows:
            return
        for row in rows:
            yield Row._make(row)
        at = rows[-1][0]

"""How the outbox's records lie in their file, shared by writer and reader."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from typing import Final, NamedTuple

from . import _sqlite

# A record's key is ``stream number << 48 | seq``. `prev` is the seq of the record before it in the stream,
# so that a reader notices a missing one.
OUTBOX: Final = _sqlite.Kind(
    name="outbox",
    mark=0x43534F31,  # CSO1
    version=1,
    tables="""
    CREATE TABLE streams (stream INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, prev INTEGER NOT NULL, shard INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        crc32 INTEGER NOT NULL, record BLOB NOT NULL);
    CREATE VIEW record_list AS SELECT
        name AS stream, id & 0xFFFFFFFFFFFF AS seq, prev, shard, at_ms, crc32, length(record) AS record_bytes
        FROM records JOIN streams ON stream = id >> 48
    """,
    repair="move it and its cursor file aside, and let the worker start from an earlier offset of the "
    "journal: what it puts out twice changes nothing",
)

#: Columns of a `Row`, in order.
COLUMNS: Final = "id, prev, shard, at_ms, crc32, record"

SEQ_BITS: Final = 48
SEQ_MASK: Final = (1 << SEQ_BITS) - 1
_GUARDED: Final = struct.Struct("<qqqq")
_TAILS: Final = """
    SELECT name, stream, (
        SELECT id FROM records WHERE id > stream << 48 AND id < (stream + 1) << 48 ORDER BY id DESC LIMIT 1
    ) FROM streams
    """


class Row(NamedTuple):
    """One record, as it lies in the table. `at_ms` is when it was committed."""

    id: int
    prev: int
    shard: int
    at_ms: int
    crc32: int
    record: bytes

    @property
    def seq(self) -> int:
        """Its sequence number."""
        return self.id & SEQ_MASK


def key(stream: int, seq: int) -> int:
    """Return the key of record `seq` of the stream numbered `stream`."""
    return stream << SEQ_BITS | seq


def checksum(id_: int, prev: int, shard: int, at_ms: int, record: bytes) -> int:
    """Return the CRC-32 over the record's place, its columns and its bytes: a moved row does not match."""
    return zlib.crc32(record, zlib.crc32(_GUARDED.pack(id_, prev, shard, at_ms)))


def fault(row: Row, stream: str) -> str | None:
    """Return what is wrong with a stored record, or None."""
    try:
        crc = checksum(row.id, row.prev, row.shard, row.at_ms, row.record)
    except (TypeError, struct.error):
        wrong = "columns of the wrong type"  # bits of a record's header decide the types of its columns
    else:
        if crc == row.crc32:
            return None
        wrong = f"checksum {crc}, stored {row.crc32!r}"
    return f"stream {stream}, record {row.seq} has {wrong}"


def tails(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return (stream number, last sequence number) of every stream by name; 0 when it has no record."""
    return {name: (stream, (id_ or 0) & SEQ_MASK) for name, stream, id_ in db.execute(_TAILS).fetchall()}

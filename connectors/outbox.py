"""The outbox: what a worker puts out, on disk before it is sent.

The journal's twin in the other direction. Each worker writes one file; the egress process reads it, each
consumer of a stream at its own pace with a cursor of its own, so that a dead InfluxDB delays nothing else.
Streams are the keys of `models.outputs.STREAMS`. Sequence numbers count the records of a file from 1, over
all streams.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from models.errors import StorageError
from models.outputs import STREAMS
from models.units import NS_PER_MS

from . import _sqlite
from ._outbox_cursors import OutboxCursors, outbox_cursors_path
from ._outbox_reader import OutboxReader
from ._outbox_table import COLUMNS, OUTBOX, SEQ_MASK, Row, checksum, key, tails
from .dead_letter import DeadLetter, Letter

__all__ = ["DeadLetter", "Letter", "OutboxCursors", "OutboxReader", "OutboxWriter", "outbox_cursors_path"]

#: Buffered records are committed when they exceed this, whether or not the caller asks.
BUFFER_BYTES: Final = 8 << 20
#: Records deleted per transaction: a few milliseconds of work between two looks at the clock.
_TRIM_RECORDS: Final = 64
_GIVE_BACK_PAGES: Final = 256
_INSERT: Final = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 (own text)
_OLDEST: Final = "SELECT id, at_ms FROM records WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"


class OutboxWriter:
    """The one process that puts records in. Not thread-safe: one thread at a time.

    Parameters
    ----------
    path : Path
        Created, with its directory, if it is not there.
    durable : bool
        True: what `commit` returned from is on disk, also after a power cut. False: no promise beyond
        the process.
    max_bytes : int
        Bound on the bytes in use; 0 = only the disk bounds it.
    reserve_bytes : int
        Commits are refused when the disk has less room than this left.
    clock_ns : callable
        The time, for the age of records.

    Raises
    ------
    StorageError
        If another process writes this outbox.
    StorageCorrupt
        If the file is damaged, as far as opening it shows.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = True,
        max_bytes: int = 0,
        reserve_bytes: int = _sqlite.RESERVE_BYTES,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self._synchronous = "FULL" if durable else "OFF"
        self._clock_ns = clock_ns
        self._buffer: list[tuple[str, int, bytes]] = []
        self._buffered_bytes = 0
        self._lock = _sqlite.lock_writer(path, OUTBOX)
        try:
            self._db = _sqlite.open_writer(path, OUTBOX, synchronous=self._synchronous)
            try:
                with _sqlite.transaction(self._db, OUTBOX, path, "read its streams"):
                    names = [(name,) for name in STREAMS]
                    self._db.executemany("INSERT OR IGNORE INTO streams (name) VALUES (?)", names)
                    self._tails = tails(self._db)
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise
        self._seq = max(seq for _, seq in self._tails.values())

    def append(self, records: Sequence[tuple[str, int, bytes]]) -> None:
        """Take (stream, shard, record) into the buffer; readers see them after `commit`.

        More than `BUFFER_BYTES` are committed at once. When that raises StorageFull, the records are in the
        buffer: call `commit` again, not `append`.

        Raises
        ------
        StorageError
            If a stream is unknown; nothing is taken then.
        """
        for stream, _, _ in records:
            if stream not in self._tails:
                raise StorageError(
                    f"outbox {self.path}: there is no stream {stream!r}, streams are {', '.join(STREAMS)}"
                )
        self._buffer.extend(records)
        self._buffered_bytes += sum(len(record[2]) for record in records)
        if self._buffered_bytes > BUFFER_BYTES:
            self.commit()

    def commit(self) -> int:
        """Store all buffered records in one transaction and return the last sequence number.

        Raises
        ------
        StorageFull
            If the disk or `max_bytes` leaves no room. The records stay in the buffer: the same call succeeds
            once there is room.
        StorageCorrupt, StorageError
            If the file is damaged, or the disk fails.
        """
        if not self._buffer:
            return self._seq
        ends = dict(self._tails)
        seq, at_ms = self._seq, self._clock_ns() // NS_PER_MS
        rows = []
        for name, shard, record in self._buffer:
            seq += 1
            stream, prev = ends[name]
            id_ = key(stream, seq)
            crc = checksum(id_, prev, shard, at_ms, record)
            rows.append(Row(id_, prev, shard, at_ms, crc, record))
            ends[name] = (stream, seq)
        _sqlite.check_room(
            self._db, OUTBOX, self.path, self._buffered_bytes, self.max_bytes, self.reserve_bytes
        )
        with _sqlite.transaction(self._db, OUTBOX, self.path, "commit"):
            self._db.executemany(_INSERT, rows)
        self._tails, self._seq = ends, seq
        self._buffer, self._buffered_bytes = [], 0
        return seq

    def last_seq(self) -> int:
        """Return the sequence number of the last committed record, 0 when there is none."""
        return self._seq

    def used_bytes(self) -> int:
        """Return the bytes in use, what `max_bytes` and `keep_bytes` are compared with."""
        with _sqlite.translated(OUTBOX, self.path, "measure its size"):
            return _sqlite.used_bytes(self._db)

    def trim(
        self,
        delivered: Mapping[str, int],
        *,
        keep_s: float = 0.0,
        keep_bytes: int = 0,
        budget_s: float = 0.02,
    ) -> int:
        """Delete records that everyone has delivered and that are no longer wanted, oldest first.

        Parameters
        ----------
        delivered : mapping of stream to sequence number
            Up to where (inclusive) all consumers of the stream have delivered: `OutboxCursors.delivered()`.
            Nothing beyond it is deleted, nothing at all of a stream that is not in it.
        keep_s : float
            Age up to which delivered records are kept, to look at or to deliver again; `inf` = any age.
        keep_bytes : int
            Size beyond which delivered records younger than `keep_s` are deleted too; 0 = no bound.
        budget_s : float
            Time after which the call returns, done or not; call again.

        Returns
        -------
        int
            Records deleted. The newest record of each stream always stays: numbers are never used twice.
        """
        deadline = time.monotonic() + budget_s
        horizon_ms = self._clock_ns() // NS_PER_MS - keep_s * 1000.0 if keep_s > 0.0 else math.inf
        deleted = 0
        # A deletion that a power cut undoes is done again: it need not wait for the disk.
        self._set_synchronous("OFF" if self._synchronous == "OFF" else "NORMAL")
        try:
            _sqlite.relieve(self._db, OUTBOX, self.path, self.reserve_bytes)
            while True:
                with _sqlite.transaction(self._db, OUTBOX, self.path, "delete delivered records"):
                    step = self._trim_step(delivered, horizon_ms, keep_bytes)
                deleted += step
                if step < _TRIM_RECORDS or time.monotonic() >= deadline:
                    break
            with _sqlite.translated(OUTBOX, self.path, "give room back"):
                _sqlite.give_back(self._db, _GIVE_BACK_PAGES)
            _sqlite.relieve(self._db, OUTBOX, self.path, self.reserve_bytes)
        finally:
            self._set_synchronous(self._synchronous)
        return deleted

    def _trim_step(self, delivered: Mapping[str, int], horizon_ms: float, keep_bytes: int) -> int:
        oldest: list[tuple[int, int, int]] = []
        for name, through in delivered.items():
            stream, last = self._tails.get(name, (0, 0))
            if last > 1:
                span = (key(stream, 0), key(stream, min(through, last - 1)), _TRIM_RECORDS)
                found = self._db.execute(_OLDEST, span).fetchall()
                oldest += [
                    (id_ & SEQ_MASK, id_, _sqlite.number(at_ms, "time", OUTBOX, self.path))
                    for id_, at_ms in found
                ]
        deleted = 0
        for _, id_, at_ms in sorted(oldest)[:_TRIM_RECORDS]:
            if at_ms > horizon_ms and not (keep_bytes and _sqlite.used_bytes(self._db) > keep_bytes):
                break
            self._db.execute("DELETE FROM records WHERE id = ?", (id_,))
            deleted += 1
        return deleted

    def _set_synchronous(self, mode: str) -> None:
        with _sqlite.translated(OUTBOX, self.path, "set how it is synchronised"):
            self._db.execute(f"PRAGMA synchronous={mode}")

    def close(self) -> None:
        """Commit what is buffered and close the file."""
        try:
            self.commit()
        finally:
            with _sqlite.translated(OUTBOX, self.path, "close it"):
                self._db.close()
            with contextlib.suppress(OSError):
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

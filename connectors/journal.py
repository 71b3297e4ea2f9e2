"""The journal: every message as it arrived, on disk before it is acknowledged.

One `JournalWriter` appends, in one transaction for all shards; any number of `JournalReader` processes
follow. Offsets count messages (ticks included) per shard from 0. `Cursors` hold how far each reader has
come, which is how far `JournalWriter.trim` may go. `verify` and `export` read a journal as a whole.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from models.errors import StorageError
from models.frame import TICK_FLAG, Frame
from models.units import NO_TIME, NS_PER_S

from . import _chunks, _sqlite
from ._chunks import COLUMNS, JOURNAL, Row, key
from ._journal_audit import JournalInfo, ShardInfo, VerifyReport, describe, export, locate, verify
from ._journal_reader import JournalReader
from .cursors import Cursors, cursors_path

__all__ = [
    "Cursors",
    "JournalInfo",
    "JournalReader",
    "JournalWriter",
    "ShardInfo",
    "VerifyReport",
    "cursors_path",
    "describe",
    "export",
    "locate",
    "verify",
]

#: A frame longer than this is stored as several chunks, so that a bounded read never decodes one in vain.
CHUNK_MESSAGES: Final = 4096
CHUNK_BYTES: Final = 1 << 20
#: Chunks deleted per transaction: a few milliseconds of work between two looks at the clock.
_TRIM_CHUNKS: Final = 32
_GIVE_BACK_PAGES: Final = 256
_INSERT: Final = f"INSERT INTO chunks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 (own text)
_SELECT: Final = f"SELECT {COLUMNS} FROM chunks WHERE id > ? AND id < ? ORDER BY id"  # noqa: S608 (own text)
_OLDEST: Final = "SELECT id, n, recv_max_ns FROM chunks WHERE id > ? AND id <= ? ORDER BY id LIMIT 1"


class JournalWriter:
    """The one process that appends. Not thread-safe: one thread at a time.

    Parameters
    ----------
    path : Path
        The journal file; created, with its directory, if it is not there.
    shards : int
        Number of shards, fixed at creation.
    control : bool
        One more of them is the control shard, number `shards`; a journal that was created without gets it.
    durable : bool
        True: what `append` returned is on disk, also after a power cut. False, for private replay journals:
        no promise beyond the process.
    max_bytes : int
        Bound on the bytes in use; 0 = only the disk bounds it.
    reserve_bytes : int
        Appends are refused when the disk has less room than this left.

    Raises
    ------
    StorageError
        If another process writes this journal, or it was created with another number of shards.
    StorageCorrupt
        If the file is damaged, as far as its ends show.
    """

    def __init__(
        self,
        path: Path,
        shards: int,
        *,
        control: bool = False,
        durable: bool = True,
        max_bytes: int = 0,
        reserve_bytes: int = _sqlite.RESERVE_BYTES,
    ) -> None:
        if not 0 < shards <= _chunks.MAX_SHARDS:
            raise StorageError(
                f"journal {path}: {shards} shards asked for, possible are 1 to {_chunks.MAX_SHARDS}"
            )
        self.path = path
        self.shards, self.control = shards, control
        self.max_bytes = max_bytes
        self.reserve_bytes = reserve_bytes
        self._synchronous = "FULL" if durable else "OFF"
        self._lock = _sqlite.lock_writer(path, JOURNAL)
        try:
            # Group commits of a live stream touch many small pages; a replay's bulk wants large ones.
            self._db = _sqlite.open_writer(
                path,
                JOURNAL,
                synchronous=self._synchronous,
                page_bytes=4096 if durable else 32768,
                wal_pages=1000 if durable else 500,
            )
            try:
                self._ends = self._open(shards, control)
                self._last_tick_ns = self._read_last_tick()
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, shards: int, control: bool) -> dict[int, int]:
        with _sqlite.transaction(self._db, JOURNAL, self.path, "read its shards"):
            found = self._db.execute("SELECT count(*) FROM shards").fetchone()[0]
            if not found:
                self._db.executemany("INSERT INTO shards VALUES (?)", [(s,) for s in range(shards)])
            marked = self._db.execute("SELECT value FROM marks WHERE name = 'control_shard'").fetchone()
            if control and marked is None and found in (0, shards):
                self._db.execute("INSERT INTO shards VALUES (?)", (shards,))
                self._db.execute("INSERT INTO marks VALUES ('control_shard', ?)", (shards,))
                marked = (shards,)
            ends = _chunks.tails(self._db)
        sites = len(ends) - (marked is not None)
        if sites != shards:
            raise StorageError(
                f"journal {self.path} was created with {sites} shards and {shards} were asked for: "
                f"the number is fixed at creation, because it decides which shard a site lives in. Set it "
                f"back to {sites}, or start a new journal and replay an export of this one into it"
            )
        for shard, end in ends.items():
            if end:
                row = self._db.execute(
                    _SELECT + " LIMIT 1", (key(shard, end) - 1, key(shard + 1, 0))
                ).fetchone()
                _chunks.decode([_chunks.checked(row, self.path)], self.path)
        return ends

    def _read_last_tick(self) -> int:
        with _sqlite.translated(JOURNAL, self.path, "read its last tick"):
            found = self._db.execute("SELECT value FROM marks WHERE name = 'last_tick_ns'").fetchone()
        return NO_TIME if found is None else int(found[0])

    def append(self, frames: dict[int, Frame]) -> dict[int, int]:
        """Store a frame per shard in one transaction and return the next offset of each of these shards.

        When it returns, the messages are stored; when it raises, none is, and none may be acknowledged.

        Raises
        ------
        StorageFull
            If the disk or `max_bytes` leaves no room. The same call succeeds once there is room.
        StorageCorrupt, StorageError
            If the file is damaged, or the disk fails.
        """
        rows: list[Row] = []
        ends: dict[int, int] = {}
        tick_ns = NO_TIME
        for shard, frame in frames.items():
            if shard not in self._ends:
                raise StorageError(f"journal {self.path} has shards 0 to {len(self._ends) - 1}, not {shard}")
            ends[shard] = self._ends[shard]
            for part in _parts(frame):
                ends[shard] += len(part)
                rows.append(_row(shard, ends[shard], part))
            ticks = frame.recv_ns[(frame.flags & TICK_FLAG) != 0]
            if len(ticks):
                tick_ns = max(tick_ns, int(ticks.max()))
        if rows:
            new_bytes = sum(len(row.frame) for row in rows)
            _sqlite.check_room(self._db, JOURNAL, self.path, new_bytes, self.max_bytes, self.reserve_bytes)
            with _sqlite.transaction(self._db, JOURNAL, self.path, "append"):
                self._db.executemany(_INSERT, rows)
                if tick_ns > self._last_tick_ns:
                    self._db.execute("INSERT OR REPLACE INTO marks VALUES ('last_tick_ns', ?)", (tick_ns,))
            self._ends.update(ends)
            self._last_tick_ns = max(tick_ns, self._last_tick_ns)
        return ends

    def next_offset(self, shard: int) -> int:
        """Return the offset that the next message of `shard` will get."""
        return self._ends[shard]

    def last_tick_ns(self) -> int:
        """Return the newest journaled tick, `units.NO_TIME` when there is none."""
        return self._last_tick_ns

    def used_bytes(self) -> int:
        """Return the bytes in use, what `max_bytes` and `keep_bytes` are compared with."""
        with _sqlite.translated(JOURNAL, self.path, "measure its size"):
            return _sqlite.used_bytes(self._db)

    def trim(
        self, before: Mapping[int, int], *, keep_s: float = 0.0, keep_bytes: int = 0, budget_s: float = 0.02
    ) -> int:
        """Delete messages that everyone has read and that are no longer wanted, oldest first.

        Parameters
        ----------
        before : mapping of shard to offset
            Nothing at or after this offset is deleted, nothing at all of a shard that is not in it:
            `Cursors.lowest_all()`.
        keep_s : float
            Age up to which messages are kept, counted back from the newest arrival in the journal; `inf` =
            any age.
        keep_bytes : int
            Size beyond which messages younger than `keep_s` are deleted too; 0 = no bound.
        budget_s : float
            Time after which the call returns, done or not; call again.

        Returns
        -------
        int
            Messages deleted; 0 when nothing (more) is to be deleted.

        Notes
        -----
        Chunks are deleted whole and the newest chunk of each shard always stays: it is how the shard's
        offsets go on after a restart.
        """
        deadline = time.monotonic() + budget_s
        deleted = 0
        # A deletion that a power cut undoes is done again: it need not wait for the disk.
        self._set_synchronous("OFF" if self._synchronous == "OFF" else "NORMAL")
        try:
            _sqlite.relieve(self._db, JOURNAL, self.path, self.reserve_bytes)
            queue = self._trim_queue(before)
            horizon_ns = self._horizon_ns(keep_s)
            while queue:
                step = self._trim_step(queue, before, horizon_ns, keep_bytes)
                deleted += step
                if not step or time.monotonic() >= deadline:
                    break
            with _sqlite.translated(JOURNAL, self.path, "give room back"):
                _sqlite.give_back(self._db, _GIVE_BACK_PAGES)
            _sqlite.relieve(self._db, JOURNAL, self.path, self.reserve_bytes)
        finally:
            self._set_synchronous(self._synchronous)
        return deleted

    def _set_synchronous(self, mode: str) -> None:
        with _sqlite.translated(JOURNAL, self.path, "set how it is synchronised"):
            self._db.execute(f"PRAGMA synchronous={mode}")

    def _trim_queue(self, before: Mapping[int, int]) -> list[tuple[int, int, int]]:
        """Return the heap of each shard's oldest deletable chunk: (newest arrival, key, n)."""
        queue = []
        with _sqlite.translated(JOURNAL, self.path, "look for old messages"):
            for shard in before:
                found = self._oldest(shard, before)
                if found is not None:
                    queue.append(found)
        heapq.heapify(queue)
        return queue

    def _oldest(self, shard: int, before: Mapping[int, int]) -> tuple[int, int, int] | None:
        # The newest chunk stays, hence one less than the end.
        last = min(before[shard], self._ends.get(shard, 0) - 1)
        if last <= 0:
            return None
        found = self._db.execute(_OLDEST, (key(shard, 0), key(shard, last))).fetchone()
        if found is None:
            return None
        recv_max_ns = _sqlite.number(found[2], "arrival", JOURNAL, self.path)
        return recv_max_ns, found[0], _sqlite.number(found[1], "length", JOURNAL, self.path)

    def _horizon_ns(self, keep_s: float) -> int:
        """Return the newest arrival that is old enough to go."""
        if keep_s <= 0.0:
            return _chunks.MAX_NS
        if not math.isfinite(keep_s):
            return NO_TIME
        newest = self._last_tick_ns
        with _sqlite.translated(JOURNAL, self.path, "read the newest arrival"):
            for shard, end in self._ends.items():
                if end:
                    query = "SELECT recv_max_ns FROM chunks WHERE id = ?"
                    found = self._db.execute(query, (key(shard, end),)).fetchone()
                    newest = max(newest, _sqlite.number(found[0], "arrival", JOURNAL, self.path))
        return newest - int(keep_s * NS_PER_S) if newest != NO_TIME else NO_TIME

    def _trim_step(
        self, queue: list[tuple[int, int, int]], before: Mapping[int, int], horizon_ns: int, keep_bytes: int
    ) -> int:
        deleted = 0
        with _sqlite.transaction(self._db, JOURNAL, self.path, "delete old messages"):
            for _ in range(_TRIM_CHUNKS):
                if not queue:
                    break
                recv_max_ns, id_, n = queue[0]
                if recv_max_ns > horizon_ns and not (
                    keep_bytes and _sqlite.used_bytes(self._db) > keep_bytes
                ):
                    break
                self._db.execute("DELETE FROM chunks WHERE id = ?", (id_,))
                deleted += n
                following = self._oldest(id_ >> _chunks.OFFSET_BITS, before)
                if following is None:
                    heapq.heappop(queue)
                else:
                    heapq.heapreplace(queue, following)
        return deleted

    def close(self) -> None:
        """Close the file; what was appended stays."""
        with _sqlite.translated(JOURNAL, self.path, "close it"):
            self._db.close()
        with contextlib.suppress(OSError):
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _row(shard: int, end: int, frame: Frame) -> Row:
    id_, n, data = key(shard, end), len(frame), frame.encode()
    recv_min_ns, recv_max_ns = int(frame.recv_ns.min()), int(frame.recv_ns.max())
    crc = _chunks.checksum(id_, n, recv_min_ns, recv_max_ns, data)
    return Row(id_, n, recv_min_ns, recv_max_ns, crc, data)


def _parts(frame: Frame) -> list[Frame]:
    """Cut a long frame into chunks within `CHUNK_MESSAGES` and `CHUNK_BYTES`; one message always fits."""
    n = len(frame)
    if n <= CHUNK_MESSAGES and len(frame.topics) + len(frame.payloads) <= CHUNK_BYTES:
        return [frame] if n else []
    bytes_end = frame.topic_end + frame.payload_end
    parts = []
    start = 0
    while start < n:
        stop = _chunks.cut(bytes_end, start, CHUNK_MESSAGES, CHUNK_BYTES)
        parts.append(frame.slice(start, stop))
        start = stop
    return parts

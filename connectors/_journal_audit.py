"""Looks at a journal as a whole: what is in it, whether it is sound, and all of it as a message log."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from models.errors import StorageCorrupt, StorageError
from models.frame import COPY, TICK_FLAG, Frame
from models.units import NO_TIME

from . import _chunks, _sqlite
from ._chunks import JOURNAL, OFFSET_MASK, Row, key
from .cursors import CURSORS, cursors_path

_MAX_ERRORS: Final = 100
_ARRIVALS: Final = "SELECT recv_min_ns, recv_max_ns FROM chunks WHERE id > ? AND id < ? ORDER BY id"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard: offsets `first` (inclusive) to `end` (exclusive) are stored.

    `oldest_ns` and `newest_ns` are the arrivals in its first and last chunk, None when it is empty.
    """

    shard: int
    first: int
    end: int
    oldest_ns: int | None
    newest_ns: int | None


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """What a journal holds.

    `file_bytes` is its size on disk with the write-ahead log, `used_bytes` what retention counts.
    `cursors` are the readers' offsets by name and shard.
    """

    path: Path
    file_bytes: int
    used_bytes: int
    last_tick_ns: int | None
    shards: list[ShardInfo]
    cursors: dict[str, dict[int, int]]


@dataclass(slots=True)
class VerifyReport:
    """What a check of a whole journal found.

    `messages` counts messages without ticks. `errors` holds the first 100 of `error_count` findings in words.
    """

    path: Path
    shards: int = 0
    chunks: int = 0
    messages: int = 0
    ticks: int = 0
    frame_bytes: int = 0
    error_count: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.error_count == 0

    def add(self, error: str) -> None:
        """Count one thing that is wrong."""
        self.error_count += 1
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(error)


def describe(path: Path) -> JournalInfo:
    """Return what the journal at `path` holds, without reading its messages.

    Raises
    ------
    StorageError, StorageCorrupt
        If there is no journal, or it cannot be read.
    """
    db = _sqlite.open_reader(path, JOURNAL)
    try:
        with _sqlite.translated(JOURNAL, path, "describe it"):
            shards = [_describe_shard(db, path, shard, end) for shard, end in _chunks.tails(db).items()]
            tick = db.execute("SELECT value FROM marks WHERE name = 'last_tick_ns'").fetchone()
            used = _sqlite.used_bytes(db)
            size = _sqlite.file_bytes(path, _sqlite.wal_path(path))
    finally:
        db.close()
    return JournalInfo(path, size, used, None if tick is None else int(tick[0]), shards, _cursors(path))


def _describe_shard(db: sqlite3.Connection, path: Path, shard: int, end: int) -> ShardInfo:
    first = _chunks.first(db, shard, path)
    if first is None:
        return ShardInfo(shard, end, end, None, None)
    span = (key(shard, 0), key(shard + 1, 0))
    oldest = db.execute(f"{_ARRIVALS} LIMIT 1", span).fetchone()
    newest = db.execute(f"{_ARRIVALS} DESC LIMIT 1", span).fetchone()
    return ShardInfo(shard, first, end, int(oldest[0]), int(newest[1]))


def _cursors(journal: Path) -> dict[str, dict[int, int]]:
    path = cursors_path(journal)
    if not path.exists():
        return {}
    found: dict[str, dict[int, int]] = {}
    db = _sqlite.open_reader(path, CURSORS)
    try:
        with _sqlite.translated(CURSORS, path, "read the cursors"):
            for name, shard, position in db.execute(
                "SELECT name, shard, position FROM cursors ORDER BY 1, 2"
            ):
                found.setdefault(str(name), {})[int(shard)] = int(position)
    finally:
        db.close()
    return found


def verify(path: Path) -> VerifyReport:
    """Check everything that can be checked: the file's own structure, every checksum, every offset.

    A journal may be verified while it is written and trimmed.

    Returns
    -------
    VerifyReport
        Damage is in the report, not raised.

    Raises
    ------
    StorageError
        If there is no journal at `path`.
    """
    report = VerifyReport(path)
    try:
        db = _sqlite.open_reader(path, JOURNAL)
    except StorageCorrupt as error:
        report.add(str(error))
        return report
    try:
        try:
            for (line,) in db.execute(f"PRAGMA integrity_check({_MAX_ERRORS})").fetchall():
                if line != "ok":
                    report.add(f"SQLite structure: {line}")
            shards = list(_chunks.tails(db))
        except sqlite3.Error as error:
            report.add(str(_sqlite.failure(error, JOURNAL, path, "check its structure")))
            return report
        report.shards = len(shards)
        for shard in shards:
            try:
                _verify_shard(db, shard, report)
            except sqlite3.Error as error:
                report.add(str(_sqlite.failure(error, JOURNAL, path, f"read shard {shard} to its end")))
            except StorageCorrupt as error:
                report.add(str(error))
    finally:
        db.close()
    return report


def _verify_shard(db: sqlite3.Connection, shard: int, report: VerifyReport) -> None:
    at: int | None = None  # where the next chunk has to begin; unknown at first and after damage
    for row in _chunks.scan(db, shard, 0):
        report.chunks += 1
        wrong = _chunks.fault(row) or _wrong_frame(row, report)
        if wrong is not None:
            report.add(wrong)
            at = row.end
            continue
        # A chunk may have been trimmed between two looks: then this one is the oldest by now.
        if at is not None and row.first != at and _chunks.first(db, shard, report.path) != row.first:
            report.add(f"shard {shard}: a chunk begins at offset {row.first}, the one before ends at {at}")
        at = row.end


def _wrong_frame(row: Row, report: VerifyReport) -> str | None:
    """Count the chunk's messages and return what is wrong with its frame, or None."""
    try:
        frame = Frame.decode(row.frame)
    except StorageCorrupt as error:
        return f"shard {row.shard}, offset {row.first}: {error}"
    ticks = int(np.count_nonzero(frame.flags & TICK_FLAG))
    report.ticks += ticks
    report.messages += len(frame) - ticks
    report.frame_bytes += len(row.frame)
    if len(frame) != row.n:
        return f"shard {row.shard}, offset {row.first}: {len(frame)} messages in a chunk of {row.n}"
    return None


def export(
    path: Path,
    shards: Sequence[int] | None = None,
    *,
    from_ns: int = NO_TIME,
    to_ns: int | None = None,
    from_offset: int = 0,
    to_offset: int = OFFSET_MASK,
) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Yield the messages of `shards` (None: all) in order of arrival.

    Ticks and the copies that a message to several shards left in the others are left out.

    Parameters
    ----------
    path : Path
    shards : sequence of int, optional
    from_ns, to_ns : int
        Arrivals, inclusive and exclusive.
    from_offset, to_offset : int
        Offsets in each shard, inclusive and exclusive.

    Yields
    ------
    (recv_ns, topic, payload, flags) : tuple of int, bytes, bytes, int
        Messages of a shard keep their order even where the clock stepped back.

    Raises
    ------
    StorageError, StorageCorrupt
        If there is no such journal or shard, or a chunk is damaged.
    """
    db = _sqlite.open_reader(path, JOURNAL)
    try:
        with _sqlite.translated(JOURNAL, path, "export it"):
            known = list(_chunks.tails(db))
        chosen = known if shards is None else list(dict.fromkeys(shards))
        for shard in chosen:
            if shard not in known:
                raise StorageError(f"journal {path} has shards 0 to {len(known) - 1}, not {shard}")
        limit_ns = _chunks.MAX_NS if to_ns is None else to_ns
        streams = [
            _messages(db, path, shard, (from_ns, limit_ns), (from_offset, to_offset)) for shard in chosen
        ]
        yield from heapq.merge(*streams, key=lambda message: message[0])
    finally:
        db.close()


def locate(path: Path, shard: int, from_ns: int, to_ns: int) -> Iterator[tuple[int, int, bytes, bytes, int]]:
    """Yield the messages of a shard that arrived from `from_ns` until before `to_ns`, with their offsets.

    Checksums are checked on the way; ticks are left out.

    Yields
    ------
    (offset, recv_ns, topic, payload, flags) : tuple of int, int, bytes, bytes, int

    Raises
    ------
    StorageError, StorageCorrupt
        If there is no journal, or a chunk is damaged.
    """
    db = _sqlite.open_reader(path, JOURNAL)
    try:
        yield from _located(db, path, shard, (from_ns, to_ns), (0, OFFSET_MASK))
    finally:
        db.close()


def _messages(
    db: sqlite3.Connection, path: Path, shard: int, arrivals_ns: tuple[int, int], offsets: tuple[int, int]
) -> Iterator[tuple[int, bytes, bytes, int]]:
    for _, recv_ns, topic, payload, flags in _located(db, path, shard, arrivals_ns, offsets):
        if not flags & COPY:
            yield recv_ns, topic, payload, flags


def _located(
    db: sqlite3.Connection, path: Path, shard: int, arrivals_ns: tuple[int, int], offsets: tuple[int, int]
) -> Iterator[tuple[int, int, bytes, bytes, int]]:
    from_ns, to_ns = arrivals_ns
    rows = _chunks.scan(db, shard, offsets[0], "AND recv_max_ns >= ? AND recv_min_ns < ?", arrivals_ns)
    while True:
        with _sqlite.translated(JOURNAL, path, f"export shard {shard}"):
            row = next(rows, None)
        if row is None:
            return
        frame = _chunks.decode([_chunks.checked(row, path)], path)
        arrived = frame.recv_ns
        offset = row.first + np.arange(len(frame))
        wanted = (arrived >= from_ns) & (arrived < to_ns) & (offset >= offsets[0]) & (offset < offsets[1])
        for i in np.flatnonzero(wanted & ((frame.flags & TICK_FLAG) == 0)).tolist():
            yield int(offset[i]), int(arrived[i]), frame.topic(i), frame.payload(i), int(frame.flags[i])
        if row.end >= offsets[1]:
            return

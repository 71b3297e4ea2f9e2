"""Our SQLite files: marked in their header, opened alike, failing in our own errors.

Journal, cursors, outbox and dead-letter are SQLite files in WAL mode: one writer and any number of
readers in other processes, none waiting for another. `Kind` says what a file is; `open_writer` creates or
opens it and `open_reader` opens it read-only. No ``sqlite3`` exception leaves this room: `failure`
turns each into a `StorageError` that says what happened, to which file, and what to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from models.errors import StorageCorrupt, StorageError, StorageFull

#: How long a statement waits for another process's write before it gives up.
BUSY_S: Final = 10.0
#: An I/O error on a file system with less room than this is a full disk, whatever SQLite calls it.
_NO_ROOM_BYTES: Final = 256 << 10

#: Left free on the disk: retention, which must write to delete, still works when appends are refused.
RESERVE_BYTES: Final = 8 << 20

_CORRUPT_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file of ours is.

    Attributes
    ----------
    name : str
        What messages call it.
    mark : int
        ``application_id`` in the file's header: a file of another kind is refused.
    version : int
        ``user_version``: a file of another version is refused.
    tables : str
        Statements that create its tables, separated by ``;``.
    repair : str
        What to do when it is damaged.
    """

    name: str
    mark: int
    version: int
    tables: str
    repair: str


def failure(error: sqlite3.Error, kind: Kind, path: Path, doing: str) -> StorageError:
    """Return our error for what SQLite raised while `doing` something with the file at `path`."""
    code = getattr(error, "sqlite_errorcode", None)
    where = f"{kind.name} {path}: cannot {doing}"
    if code is None:
        return StorageError(f"{where}: {error}. The file is closed or its content is not what was stored")
    primary = code & 0xFF
    short_read = code == sqlite3.SQLITE_IOERR_SHORT_READ
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _no_room(path)):
        return StorageFull(
            f"{where}: the disk is full ({_free_bytes(path)} bytes free). Nothing of this call was stored. "
            f"Make room on the file system of {path.parent} or shorten the retention, then try again"
        )
    if primary in _CORRUPT_CODES or short_read:
        return damaged(kind, path, f"cannot {doing}: SQLite says {str(error)!r}")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StorageError(
            f"{where}: {error}. Check that {path.parent} exists and that this user may use it"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(f"{where}: another process kept it locked for more than {BUSY_S:.0f} s")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageError(f"{where}: {error}. Check the permissions of the file and of {path.parent}")
    name = getattr(error, "sqlite_errorname", "")
    return StorageError(f"{where}: {error} ({name}). Check the disk and the system log")


def damaged(kind: Kind, path: Path, what: str) -> StorageCorrupt:
    """Return the error for a file whose stored bytes are wrong."""
    return StorageCorrupt(
        f"{kind.name} {path} is damaged: {what}. Stop the service, keep a copy of the file and its -wal; "
        f"then {kind.repair}"
    )


def number(value: Any, column: str, kind: Kind, path: Path) -> int:
    """Return a number that was read without its row's checksum, refusing what only damage can put there."""
    if not isinstance(value, int):
        raise damaged(kind, path, f"a row's {column} is {type(value).__name__}, not a number")
    return value


@contextlib.contextmanager
def translated(kind: Kind, path: Path, doing: str) -> Iterator[None]:
    """Raise our own errors for what SQLite raises inside the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure(error, kind, path, doing) from error


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, kind: Kind, path: Path, doing: str) -> Iterator[None]:
    """Commit what the block does, or undo all of it and raise our own error.

    The connection is in autocommit mode (`isolation_level` None): transactions begin and end only here.
    """
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException as error:
        # After some errors (full, I/O) SQLite has rolled back by itself already.
        with contextlib.suppress(sqlite3.Error):
            if db.in_transaction:
                db.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise failure(error, kind, path, doing) from error
        raise


def open_writer(
    path: Path, kind: Kind, *, synchronous: str, page_bytes: int = 4096, wal_pages: int = 1000
) -> sqlite3.Connection:
    """Open the file at `path` for reading and writing; create it, with its tables, if it is not there.

    Parameters
    ----------
    path : Path
    kind : Kind
    synchronous : str
        ``FULL``: a commit is on disk when it returns. ``NORMAL``: a power cut may undo the last commits,
        a crash of the process may not. ``OFF``: no promise.
    page_bytes : int
        Page size of a new file.
    wal_pages : int
        Length of the write-ahead log, in pages, at which it is copied into the file.

    Raises
    ------
    StorageError
        If the file is of another kind or version, or cannot be opened.
    StorageCorrupt
        If it is not a database or damaged.
    """
    db: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with translated(kind, path, "open it"):
            db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            # Page size and vacuum mode bind only before the first table exists.
            db.execute(f"PRAGMA page_size={page_bytes}")
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            if _is_new(db):
                _set_wal(db)
            else:
                _check_kind(db, kind, path)
            db.execute(f"PRAGMA synchronous={synchronous}")
            db.execute(f"PRAGMA wal_autocheckpoint={wal_pages}")
            db.execute(f"PRAGMA journal_size_limit={64 << 20}")
            # Trimmed messages need not be overwritten: that would write every byte twice.
            db.execute("PRAGMA secure_delete=OFF")
        # Several processes may create the file at the same moment: the first one's transaction wins.
        with transaction(db, kind, path, "create it"):
            if _is_new(db):
                for statement in kind.tables.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={kind.mark}")
                db.execute(f"PRAGMA user_version={kind.version}")
        _check_kind(db, kind, path)
    except OSError as error:
        raise StorageError(f"{kind.name} {path}: cannot open it: {error}") from error
    except BaseException:
        if db is not None:
            db.close()
        raise
    return db


def _set_wal(db: sqlite3.Connection) -> None:
    """Set WAL mode, waiting while another process sets it: SQLite's own timeout does not cover that."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def open_reader(path: Path, kind: Kind) -> sqlite3.Connection:
    """Open the file at `path` read-only.

    Raises
    ------
    StorageError
        If there is no such file, or it is of another kind or version.
    StorageCorrupt
        If it is not a database or damaged.
    """
    if not path.exists():
        raise StorageError(
            f"there is no {kind.name} at {path}: check the data directory, or start the writer first"
        )
    db: sqlite3.Connection | None = None
    try:
        with translated(kind, path, "open it"):
            uri = f"file:{quote(str(path.resolve()))}?mode=ro"
            db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            if _is_new(db):
                raise StorageError(f"{kind.name} {path} is empty: its writer has not created it yet")
            _check_kind(db, kind, path)
    except BaseException:
        if db is not None:
            db.close()
        raise
    return db


def _is_new(db: sqlite3.Connection) -> bool:
    mark: int = db.execute("PRAGMA application_id").fetchone()[0]
    tables: int = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return mark == 0 and tables == 0


def _check_kind(db: sqlite3.Connection, kind: Kind, path: Path) -> None:
    with translated(kind, path, "read its header"):
        mark = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
    if mark != kind.mark:
        raise StorageError(
            f"{path} is not a {kind.name}: its header carries mark {mark:#x}, expected {kind.mark:#x}. "
            f"Another program or another part of this one owns the file: choose another path"
        )
    if version != kind.version:
        raise StorageError(
            f"{kind.name} {path} has format {version}, this program reads {kind.version}: "
            f"use the program version that wrote it, or export and start a new one"
        )


def used_bytes(db: sqlite3.Connection) -> int:
    """Return the bytes of the file that hold something; pages freed for reuse are left out."""
    pages: int = db.execute("PRAGMA page_count").fetchone()[0]
    free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    return (pages - free) * size


def _reusable_bytes(db: sqlite3.Connection) -> int:
    free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    return free * size


def check_room(
    db: sqlite3.Connection, kind: Kind, path: Path, new_bytes: int, max_bytes: int, reserve_bytes: int
) -> None:
    """Raise StorageFull unless `new_bytes` fit: on the disk, leaving `reserve_bytes`, and under `max_bytes`.

    Pages of the file that are free for reuse count as room on the disk. 0 switches either bound off.
    """
    free = _free_bytes(path)
    with translated(kind, path, "measure its size"):
        if reserve_bytes and free < reserve_bytes + new_bytes:
            free += _reusable_bytes(db)
        used = used_bytes(db) if max_bytes else 0
    if reserve_bytes and free < reserve_bytes + new_bytes:
        raise StorageFull(
            f"{kind.name} {path}: {free} bytes are free on its disk, {new_bytes} are to be stored and "
            f"{reserve_bytes} are kept for retention. Nothing was stored. Make room on the file system of "
            f"{path.parent} or shorten the retention"
        )
    if max_bytes and used + new_bytes > max_bytes:
        raise StorageFull(
            f"{kind.name} {path}: {used} bytes are in use and {new_bytes} are to be stored, the bound is "
            f"{max_bytes}. Nothing was stored. Check that all readers keep up, shorten the retention, or "
            f"raise the bound"
        )


def relieve(db: sqlite3.Connection, kind: Kind, path: Path, reserve_bytes: int) -> None:
    """Empty the write-ahead log into the file when the disk has less room than `reserve_bytes`.

    The log then gives its room back, and the file that of its free end. While more is in the log than the
    disk could take, it stays: only deleting helps then.
    """
    if not file_bytes(wal_path(path)) < _free_bytes(path) < reserve_bytes:
        return
    with translated(kind, path, "empty its log"):
        # Readers hold the log for milliseconds; a longer one (a check of the file) is not waited for.
        db.execute("PRAGMA busy_timeout=100")
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")


def give_back(db: sqlite3.Connection, pages: int) -> None:
    """Return up to `pages` free pages at the end of the file to the disk, when a quarter of it is free.

    Pages in steady use and reuse stay: giving back and growing again would only cost.
    """
    total: int = db.execute("PRAGMA page_count").fetchone()[0]
    free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    if free * 4 > total and free > pages:
        # `execute` would stop after the first page: the statement returns an empty row for each.
        db.executescript(f"PRAGMA incremental_vacuum({pages})")


def lock_writer(path: Path, kind: Kind) -> int:
    """Take the file's writer lock and return its descriptor; the lock dies with the process.

    SQLite would let two writers alternate; both would then number their messages alike.

    Raises
    ------
    StorageError
        If another process holds it.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{kind.name} {path}: cannot create its lock file: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StorageError(
            f"{kind.name} {path} is being written by another process (lock {lock}): "
            f"stop that one first, or give this one another data directory"
        ) from error
    return descriptor


def wal_path(path: Path) -> Path:
    """Return where the write-ahead log of the file lies."""
    return path.with_name(path.name + "-wal")


def file_bytes(*paths: Path) -> int:
    """Return the bytes on disk of the files; one that is not there has none."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _free_bytes(path: Path) -> int:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def _no_room(path: Path) -> bool:
    return _free_bytes(path) < _NO_ROOM_BYTES

"""The recovery directories that Bytewax 0.21.1 writes: mended before a start, dealt out to other workers.

Bytewax keeps the rows of an epoch that never finished; after a second crash it can load them and so mix
states of two times. And it has no way to split or join its directories. Both are SQL on its files, done
while no process runs. Making an empty directory is Bytewax's own affair and comes in as `make`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from models.errors import StorageError

Make = Callable[[Path], None]


def prepare(directory: Path, make: Make) -> None:
    """Make the recovery directory, or remove what a crashed run left of an unfinished epoch.

    Raises
    ------
    StorageError
        If the directory cannot be made or a file in it cannot be read.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = sorted(directory.glob("part-*.sqlite3"))
        if not files:
            make(directory)
            return
        resume = _resume_epoch(files)
        for path in files:
            with sqlite3.connect(path) as db:
                db.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume,))
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"recovery directory {directory}: {error}. If it is damaged, delete it: state is then built "
            f"again from the oldest journaled message"
        ) from error


def _resume_epoch(files: Iterable[Path]) -> int:
    """Return the epoch from which Bytewax will resume: the least frontier of the last execution."""
    executions: list[int] = []
    fronts: list[tuple[int, int]] = []
    for path in files:
        with sqlite3.connect(path) as db:
            executions += [row[0] for row in db.execute("SELECT ex_num FROM exs")]
            fronts += db.execute("SELECT ex_num, worker_frontier FROM fronts").fetchall()
    last = max(executions, default=-1)
    return min((front for execution, front in fronts if execution == last), default=1)


def await_made(directory: Path, wait_s: float = 60.0) -> None:
    deadline = time.monotonic() + wait_s
    while not list(directory.glob("part-*.sqlite3")):
        if time.monotonic() > deadline:
            raise StorageError(
                f"recovery directory {directory}: process 0 of the cluster did not make it in {wait_s} s"
            )
        time.sleep(0.1)


def rescale(
    root: Path, before: Sequence[str], after: Sequence[str], worker_of: Callable[[int], str], make: Make
) -> int:
    """Deal the saved state of worker directories out to other worker directories; return the rows moved.

    Parameters
    ----------
    root : Path
        Folder of the recovery directories.
    before, after : sequence of str
        Names of the directories there are, and of those wanted. None of their processes may run.
    worker_of : callable
        Name of the new directory of a shard.
    make : callable
        Makes an empty recovery directory.

    Raises
    ------
    StorageError
        If state cannot be read or written. The old directories are kept as ``<name>.before``.
    """
    rows: dict[str, list[tuple[str, str, bytes]]] = {name: [] for name in after}
    try:
        for name in before:
            prepare(root / name, make)
            for step, key, blob in _saved_rows(root / name):
                if key.startswith("shard-"):
                    rows[worker_of(int(key.rsplit("-", 1)[1]))].append((step, key, blob))
        for name in before:
            (root / name).rename(root / f"{name}.before")
        for name in after:
            _write_state(root / name, rows[name], make)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"rescaling {root}: {error}; the old state is in *.before or untouched") from error
    return sum(map(len, rows.values()))


def _saved_rows(directory: Path) -> list[tuple[str, str, bytes]]:
    """Return (step, key, newest saved state) of every key of a repaired directory."""
    newest: dict[tuple[str, str], tuple[int, bytes]] = {}
    for path in sorted(directory.glob("part-*.sqlite3")):
        with sqlite3.connect(path) as db:
            for step, key, epoch, blob in db.execute(
                "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps"
            ):
                if (step, key) not in newest or newest[step, key][0] < epoch:
                    newest[step, key] = (epoch, blob)
    return [(step, key, blob) for (step, key), (_, blob) in newest.items() if blob is not None]


def _write_state(directory: Path, rows: list[tuple[str, str, bytes]], make: Make) -> None:
    """Make a recovery directory that resumes from `rows` as the state of its first epoch."""
    directory.mkdir(parents=True)
    make(directory)
    with sqlite3.connect(next(directory.glob("part-*.sqlite3"))) as db:
        db.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 1)")
        db.execute("INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, 2)")
        db.execute("INSERT INTO commits (part_index, commit_epoch) VALUES (0, 1)")
        db.executemany(
            "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, 1, ?)", rows
        )

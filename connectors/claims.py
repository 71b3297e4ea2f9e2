"""Claims: what may go to the broker once at most is noted on disk before it goes.

A process that is killed between a message and its own note of it cannot tell afterwards whether the message
went. With the note first it can tell that it may have gone, which is enough not to send it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from . import _sqlite

CLAIMS: Final = _sqlite.Kind(
    name="claim file",
    mark=0x43534B31,  # CSK1
    version=1,
    tables="CREATE TABLE claims (key TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID",
    repair=(
        "move it aside: a new one is created, and commands of the last minutes that are not acknowledged yet "
        "may reach a station twice"
    ),
)

#: Claims are kept so long beyond the end of what they are for, in case the clock is set back.
KEPT_MS: Final = 86_400_000
_SWEEP_MS: Final = 3_600_000


def claims_path(data_dir: Path) -> Path:
    """Return where the claims of a data folder are kept."""
    return data_dir / "claims.db"


class Claims:
    """A file of claims. Several threads and processes may use it, each through an object of its own.

    Parameters
    ----------
    path : Path
        Created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _sqlite.open_writer(path, CLAIMS, synchronous="FULL")
        self._swept_ms = 0

    def take(self, wanted: Mapping[str, int], now_ms: int) -> set[str]:
        """Claim keys and return those that were not claimed before; on disk when it returns.

        Parameters
        ----------
        wanted : mapping of key to epoch ms
            The end of what the claim is for; it is forgotten a day later.
        now_ms : int
            The time now, epoch ms.

        Raises
        ------
        StorageError, StorageFull
            If it cannot be noted: then nothing may be sent.
        """
        taken = set()
        with _sqlite.transaction(self._db, CLAIMS, self.path, "note a claim"):
            if now_ms - self._swept_ms >= _SWEEP_MS:
                self._db.execute("DELETE FROM claims WHERE until_ms < ?", (now_ms - KEPT_MS,))
                self._swept_ms = now_ms
            for key, until_ms in wanted.items():
                row = (key, until_ms)
                if self._db.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", row).rowcount:
                    taken.add(key)
        return taken

    def release(self, keys: Iterable[str]) -> None:
        """Take claims back: of what has certainly not been sent."""
        with _sqlite.transaction(self._db, CLAIMS, self.path, "take a claim back"):
            self._db.executemany("DELETE FROM claims WHERE key = ?", [(key,) for key in keys])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

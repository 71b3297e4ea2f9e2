"""How far each consumer of an outbox has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from models.outputs import STREAMS

from . import _sqlite

OUTBOX_CURSORS: Final = _sqlite.Kind(
    name="outbox cursor file",
    mark=0x43534F43,  # CSOC
    version=1,
    tables="""
    CREATE TABLE cursors (
        consumer TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (consumer, stream)
    ) WITHOUT ROWID
    """,
    repair="delete it: everything still in the outbox is delivered again, which changes nothing",
)

#: Beyond every sequence number.
EVERYTHING: Final = (1 << 48) - 1


def outbox_cursors_path(outbox: Path) -> Path:
    """Return where the cursors of an outbox lie: ``outbox-0.db`` -> ``outbox-0.cursors.db``."""
    return outbox.with_name(f"{outbox.stem}.cursors{outbox.suffix}")


class OutboxCursors:
    """The last sequence number that each consumer has delivered, by stream, for several processes.

    A power cut may set a cursor back by a few moves: the records behind it are then delivered again, which
    changes nothing, since outbox records are idempotent.

    Parameters
    ----------
    path : Path
        The cursor file (not the outbox), see `outbox_cursors_path`; created if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _sqlite.open_writer(path, OUTBOX_CURSORS, synchronous="NORMAL")

    def get(self, consumer: str, stream: str) -> int:
        """Return the last sequence number that `consumer` has delivered, 0 when none."""
        with _sqlite.translated(OUTBOX_CURSORS, self.path, f"read the cursor of {consumer}"):
            found = self._db.execute(
                "SELECT seq FROM cursors WHERE consumer = ? AND stream = ?", (consumer, stream)
            ).fetchone()
        return 0 if found is None else int(found[0])

    def set(self, consumer: str, stream: str, seq: int) -> None:
        """Note that `consumer` has delivered everything of `stream` up to and including `seq`."""
        with _sqlite.transaction(self._db, OUTBOX_CURSORS, self.path, f"move the cursor of {consumer}"):
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (consumer, stream, seq))

    def delivered(self, consumers: Mapping[str, Sequence[str]] | None = None) -> dict[str, int]:
        """Return, for each stream, up to where all its consumers have delivered: what may be trimmed.

        Parameters
        ----------
        consumers : mapping of stream to names, optional
            Who has to deliver each stream; None: as `models.outputs.STREAMS` says. Name only those that
            run: a consumer that never does would keep its streams for ever. A stream without consumers
            may go at once.
        """
        needed = {stream: names for stream, (_, names) in STREAMS.items()} if consumers is None else consumers
        return {
            stream: min((self.get(consumer, stream) for consumer in names), default=EVERYTHING)
            for stream, names in needed.items()
        }

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

"""A journal of a service as it stands at one moment: what is replayed of it twice is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from connectors.journal import JournalReader
from models.frame import Frame

from .replay_sessions import JOURNAL_FILE


class FrozenJournal:
    """A journal as it stands at one moment, so that both sides see the same of one in use.

    Parameters
    ----------
    folder : Path
        Data folder of a service.

    Raises
    ------
    StorageError
        If there is no journal, or what was stored at that moment is trimmed away while it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with JournalReader(folder / JOURNAL_FILE) as reader:
            self._ends = dict(reader.ends())
            self._first = {shard: reader.first(shard) for shard in self._ends}
        self._reader: JournalReader | None = None

    def __enter__(self) -> Self:
        self._reader = JournalReader(self.folder / JOURNAL_FILE)
        self._reader.ends()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._reader is not None:
            self._reader.close()

    def ends(self) -> dict[int, int]:
        """Return the end of every shard."""
        return self._ends

    def first(self, shard: int) -> int:
        """Return the oldest offset of a shard."""
        return self._first[shard]

    def read(
        self, shard: int, offset: int, max_messages: int = 8192, max_bytes: int = 4 << 20
    ) -> tuple[int, Frame] | None:
        """Return (offset, messages from there), None at the end."""
        room = self._ends[shard] - offset
        if room <= 0 or self._reader is None:
            return None
        found = self._reader.read(shard, offset, min(max_messages, room), max_bytes)
        return None if found is None else (found[0], found[1].slice(0, min(room, len(found[1]))))

"""A file of lines that is readable while it grows, and in order once it is complete.

What came since the last write is put in order and appended as one run, its keys go beside it into a file
without a name. At the end the runs are merged. Memory holds what was not written yet and a piece of each run,
whatever the file's size; a process that is killed leaves all that was written, run by run.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final

import msgspec

Key = tuple[Any, ...]
Line = tuple[Key, bytes]

_RUN_BYTES: Final = 4 << 20  # of lines that wait to be written
_PIECE_BYTES: Final = 16 << 10  # of a run that are in memory while it is merged
_MOST_RUNS: Final = 256  # merged at once
_LENGTH: Final = 4  # bytes of the length in front of a piece's keys
_key_of: Final = itemgetter(0)


@dataclass(frozen=True, slots=True)
class _Run:
    """Lines in order: where they begin in one file, and their keys in another."""

    lines: IO[bytes]
    at: int
    keys: IO[bytes]
    keys_at: int
    pieces: int

    def read(self) -> Iterator[Line]:
        """Yield the lines; several runs of one file may be read in turns."""
        at, keys_at = self.at, self.keys_at
        for _ in range(self.pieces):
            size = int.from_bytes(os.pread(self.keys.fileno(), _LENGTH, keys_at), "little")
            keys = msgspec.msgpack.decode(os.pread(self.keys.fileno(), size, keys_at + _LENGTH))
            keys_at += _LENGTH + size
            whole = sum(key[-1] for key in keys)
            text = os.pread(self.lines.fileno(), whole, at)
            at += whole
            begin = 0
            for *key, length in keys:
                yield tuple(key), text[begin : begin + length]
                begin += length


class SortedLines:
    """Lines of one file.

    Parameters
    ----------
    path : Path
        What is there is overwritten.
    header : bytes
        First line; it stays first.
    unique : int
        Of lines with the same so many first fields of their keys only the first stays; 0: all stay.
    """

    def __init__(self, path: Path, header: bytes = b"", unique: int = 0) -> None:
        self.path = path
        self._header, self._unique = header, unique
        self._file = path.open("wb+")
        self._file.write(header)
        self._keys = _nameless(path.parent)
        self._held: list[Line] = []
        self._size = 0
        self._runs: list[_Run] = []

    def add(self, key: Key, line: bytes) -> None:
        """Take a line; fields of its key are integers and texts. Lines of equal keys stay as they came."""
        self._held.append((key, line))
        self._size += len(line)
        if self._size >= _RUN_BYTES:
            self.write()

    def write(self) -> None:
        """Write what was taken, in order, for everybody to read."""
        if self._held:
            self._held.sort(key=_key_of)
            self._runs.append(_append(self._held, self._file, self._keys))
            self._held, self._size = [], 0
        self._file.flush()

    def finish(self) -> Iterator[bytes]:
        """Put the whole file in order; yield each line that stays, when it is written."""
        self.write()
        done = self.path.with_name(self.path.name + ".part")
        with done.open("wb") as file:
            file.write(self._header)
            for line in self._merged():
                file.write(line)
                yield line
        done.replace(self.path)
        self.close()

    def close(self) -> None:
        """Leave the file as it is."""
        self._file.close()
        self._keys.close()

    def _merged(self) -> Iterator[bytes]:
        runs, before = self._runs, None
        while len(runs) > _MOST_RUNS:
            files = _nameless(self.path.parent), _nameless(self.path.parent)
            runs = [_append(_merge(runs[:_MOST_RUNS]), *files), *runs[_MOST_RUNS:]]
        for key, line in _merge(runs):
            first = key[: self._unique]
            if not self._unique or first != before:
                yield line
            before = first


def _nameless(folder: Path) -> IO[bytes]:
    """Return a new file that is gone when it is closed, also by the end of the process."""
    return tempfile.TemporaryFile(dir=folder)


def _merge(runs: list[_Run]) -> Iterator[Line]:
    """Yield the lines of runs in order; of equal keys those of the earlier run first."""
    return heapq.merge(*(run.read() for run in runs), key=_key_of)


def _append(lines: Iterable[Line], file: IO[bytes], keys: IO[bytes]) -> _Run:
    """Write lines that are in order as another run."""
    at, keys_at, pieces, left = file.seek(0, 2), keys.seek(0, 2), 0, iter(lines)
    for first in left:
        piece, size = [first], len(first[1])
        for line in left if size < _PIECE_BYTES else ():
            piece.append(line)
            size += len(line[1])
            if size >= _PIECE_BYTES:
                break
        packed = msgspec.msgpack.encode([(*key, len(line)) for key, line in piece])
        keys.write(len(packed).to_bytes(_LENGTH, "little") + packed)
        file.write(b"".join(line for _, line in piece))
        pieces += 1
    file.flush()
    keys.flush()
    return _Run(file, at, keys, keys_at, pieces)

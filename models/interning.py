"""Byte strings to small integers in one pass over a column, without a Python step per message."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ._kernel import kernel

_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)


@kernel
def _hash(data: NDArray[np.uint8], start: int, end: int) -> np.uint64:
    h = _OFFSET
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * _PRIME
    return h ^ (h >> np.uint64(29))


@kernel
def _same(a: NDArray[np.uint8], a0: int, a1: int, b: NDArray[np.uint8], b0: int, b1: int) -> bool:
    if a1 - a0 != b1 - b0:
        return False
    for i in range(a1 - a0):
        if a[a0 + i] != b[b0 + i]:
            return False
    return True


@kernel
def _lookup_kernel(
    data: NDArray[np.uint8],
    end: NDArray[np.int64],
    slots: NDArray[np.int32],
    arena: NDArray[np.uint8],
    arena_end: NDArray[np.int64],
    out: NDArray[np.int32],
) -> int:
    """Write the id of each string or -1; return how many are unknown. Runs of one string cost one lookup."""
    mask = np.uint64(len(slots) - 1)
    unknown = 0
    start = 0
    for i in range(len(end)):
        stop = end[i]
        found = -1
        h = _hash(data, start, stop) & mask
        while slots[h] >= 0:
            k = slots[h]
            k0 = arena_end[k - 1] if k > 0 else 0
            if _same(data, start, stop, arena, k0, arena_end[k]):
                found = k
                break
            h = (h + np.uint64(1)) & mask
        out[i] = found
        if found < 0:
            unknown += 1
        start = stop
    return unknown


@kernel
def _insert_kernel(
    slots: NDArray[np.int32], arena: NDArray[np.uint8], start: int, end: int, key: int
) -> None:
    mask = np.uint64(len(slots) - 1)
    h = _hash(arena, start, end) & mask
    while slots[h] >= 0:
        h = (h + np.uint64(1)) & mask
    slots[h] = key


class Interner:
    """Gives each distinct byte string the next integer, from 0."""

    def __init__(self) -> None:
        self._slots = np.full(256, -1, np.int32)
        self._arena = np.zeros(4096, np.uint8)
        self._end = np.zeros(128, np.int64)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def lookup(self, data: bytes, end: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
        """Return the ids of the strings ending at `end` in `data` (-1 unknown), and how many are unknown."""
        out = np.empty(len(end), np.int32)
        unknown = _lookup_kernel(np.frombuffer(data, np.uint8), end, self._slots, self._arena, self._end, out)
        return out, int(unknown)

    def add(self, text: bytes) -> int:
        """Return the id of a new string; the caller has seen that it is unknown."""
        key = self._n
        start = int(self._end[key - 1]) if key else 0
        while start + len(text) > len(self._arena):
            self._arena = np.concatenate([self._arena, np.zeros(len(self._arena), np.uint8)])
        if key == len(self._end):
            self._end = np.concatenate([self._end, np.zeros(key, np.int64)])
        self._arena[start : start + len(text)] = np.frombuffer(text, np.uint8)
        self._end[key] = start + len(text)
        self._n += 1
        if 2 * self._n > len(self._slots):
            self._slots = np.full(2 * len(self._slots), -1, np.int32)
            for k in range(self._n):
                _insert_kernel(
                    self._slots, self._arena, int(self._end[k - 1]) if k else 0, int(self._end[k]), k
                )
        else:
            _insert_kernel(self._slots, self._arena, start, start + len(text), key)
        return key

"""Columns of numbers, one value a station row, that grow by doubling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


class Columns:
    """Arrays as attributes; `COLUMNS` of a subclass names them: (dtype, value of a new row)."""

    COLUMNS: ClassVar[Mapping[str, tuple[str, int]]]

    def __init__(self) -> None:
        self._size = 64
        for name, (dtype, fill) in self.COLUMNS.items():
            setattr(self, name, np.full(64, fill, dtype))

    def room(self, n: int) -> None:
        """Make room for `n` rows."""
        if n <= self._size:
            return
        self._size = max(n, 2 * self._size)
        for name, (dtype, fill) in self.COLUMNS.items():
            array = getattr(self, name)
            more = np.full(self._size - len(array), fill, dtype)
            setattr(self, name, np.concatenate([array, more]))

    def columns(self, n: int) -> dict[str, Any]:
        """Return copies of the first `n` rows by name."""
        return {name: getattr(self, name)[:n].copy() for name in self.COLUMNS}

    def fill(self, state: Mapping[str, Any]) -> None:
        """Take over what `columns` returned."""
        for name in self.COLUMNS:
            self.room(len(state[name]))
            getattr(self, name)[: len(state[name])] = state[name]

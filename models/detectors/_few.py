"""Records of the few nodes or stations that need one: those of which something is amiss.

A table of all rows costs its record for every row. Here a row costs a slot of four bytes, and only once any
row of the table has a record; a record is taken when it is needed and given back when it says nothing more.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.batch import I32
from models.errors import SnapshotError

from ._base import Table

NONE: Final = -1


class Few:
    """Structured records by row, for few of all rows.

    Attributes
    ----------
    slot_of : ndarray of int32
        Row -> record in `records`, `NONE` without one; rows beyond its end have none.
    """

    def __init__(self, dtype: list[Any], blank: dict[str, Any]) -> None:
        self._table = Table([("row", "i4"), *dtype], blank | {"row": NONE})
        self._blank = self._table.rows[0].copy()
        self._free: list[int] = []
        self.slot_of: I32 = np.full(0, NONE, np.int32)

    def __contains__(self, row: int) -> bool:
        return 0 <= row < len(self.slot_of) and bool(self.slot_of[row] != NONE)

    def __len__(self) -> int:
        return self._table.n - len(self._free)

    @property
    def records(self) -> NDArray[Any]:
        """All records, shape (n,); ``row`` is `NONE` where one is not in use. Taking one may replace them."""
        return self._table.rows[: self._table.n]

    def __getitem__(self, row: int) -> Any:
        """Return the record of a row that has one."""
        return self._table.rows[self.slot_of[row]]

    def take(self, row: int) -> Any:
        """Return the record of a row, a blank one if it has none yet."""
        if row in self:
            return self[row]
        if row >= len(self.slot_of):
            more = max(row + 1, 2 * len(self.slot_of)) - len(self.slot_of)
            self.slot_of = np.concatenate([self.slot_of, np.full(more, NONE, np.int32)])
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._table.n
            self._table.reserve(slot + 1)
        self._table.rows[slot] = self._blank
        self._table.rows["row"][slot] = row
        self.slot_of[row] = slot
        return self._table.rows[slot]

    def give_back(self, row: int) -> None:
        """Forget the record of a row; with the last one the slots go, too."""
        slot = int(self.slot_of[row])
        self._table.rows[slot] = self._blank
        self._free.append(slot)
        self.slot_of[row] = NONE
        if not len(self):
            self._free, self._table.n, self.slot_of = [], 0, self.slot_of[:0]

    def rows(self) -> list[int]:
        """Return the rows that have a record, ascending."""
        return np.flatnonzero(self.slot_of != NONE).tolist()

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the records in use by ascending row, as one plain array per field."""
        slots = self.slot_of[self.slot_of != NONE]
        return {name: self._table.rows[name][slots] for name in self._table.dtype.names or ()}

    def load(self, columns: dict[str, NDArray[Any]], owner: str) -> None:
        """Take over what `columns` returned.

        Raises
        ------
        SnapshotError
            If the fields are not those of these records.
        """
        names = set(self._table.dtype.names or ())
        if set(columns) != names:
            raise SnapshotError(
                f"{owner}: saved fields {sorted(columns)} are not the expected {sorted(names)};"
                " start without saved state"
            )
        for i, row in enumerate(columns["row"].tolist()):
            rec = self.take(row)
            for name in names:
                rec[name] = columns[name][i]

    @property
    def nbytes(self) -> int:
        """Bytes of the slots and of the records in use."""
        return self.slot_of.nbytes + len(self) * self._table.dtype.itemsize

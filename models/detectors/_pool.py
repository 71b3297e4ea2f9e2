"""Records that exist only while there is something to remember, in chains that begin at a field of another.

An EVSE (or a site) keeps the number of the first record of its chain, `NONE` without one; each record names
the next. Records that are given back go to a list of free ones. A kernel takes records only after it made
sure of as many free ones as a reading may need; without them it returns the reading, and the loop around it
calls `Pool.grow` and goes on from there. Which number a record has means nothing: snapshots hold records by
owner, in the order of their key.

A `KnownTable` is simpler: one record for each EVSE that was measured, which stays.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import I32
from models.errors import SnapshotError

from ._base import Table

#: No record: the end of a chain.
NONE: Final = -1


class Chains(NamedTuple):
    """A pool as kernels take it: records with a field ``next``, and (first free one, how many are free)."""

    rows: Any
    free: I32


@kernel
def take(pool: Chains, head: int) -> int:
    """Put a free record before the chain that begins at `head`; return it. Its fields are what they were."""
    slot = int(pool.free[0])
    pool.free[0] = pool.rows[slot]["next"]
    pool.free[1] -= 1
    pool.rows[slot]["next"] = head
    return slot


@kernel
def drop(pool: Chains, head: int, slot: int) -> int:
    """Give a record of the chain that begins at `head` back; return where the chain begins now."""
    rows, first = pool.rows, head
    if head == slot:
        first = rows[slot]["next"]
    else:
        k = head
        while rows[k]["next"] != slot:
            k = rows[k]["next"]
        rows[k]["next"] = rows[slot]["next"]
    rows[slot]["next"] = pool.free[0]
    pool.free[0] = slot
    pool.free[1] += 1
    return int(first)


@kernel
def find(pool: Chains, head: int, key: int) -> int:
    """Return the record with a key in its field ``k``, `NONE` when the chain has none."""
    slot = head
    while slot != NONE and pool.rows[slot]["k"] != key:
        slot = pool.rows[slot]["next"]
    return int(slot)


class Known(NamedTuple):
    """A `KnownTable` as kernels take it."""

    at: I32  # by EVSE: its record, `NONE` before it has one
    rows: Any
    used: I32  # (1,)


@kernel
def lacks(table: Known, evse: int) -> bool:
    """Return whether an EVSE has no record, and there is no room for one."""
    return bool(table.at[evse] == NONE and table.used[0] == len(table.rows))


@kernel
def record_of(table: Known, evse: int) -> int:
    """Return the record of an EVSE, a blank one if it had none; the table does not lack it."""
    if table.at[evse] == NONE:
        table.at[evse] = table.used[0]
        table.used[0] += 1
    return int(table.at[evse])


class KnownTable:
    """Records of the EVSEs that were measured, in the order in which they were first; grown by doubling."""

    def __init__(self, dtype: list[Any], blank: dict[str, Any]) -> None:
        self.n = 0
        self._at = np.full(16, NONE, np.int32)
        self._used = np.zeros(1, np.int32)
        self._records = Table(dtype, blank)

    @property
    def arrays(self) -> Known:
        """The table for kernels, until it grows."""
        return Known(self._at, self._records.rows, self._used)

    def reserve(self, n: int) -> None:
        """Know of EVSEs 0 to n - 1."""
        if n > len(self._at):
            more = np.full(max(n, 2 * len(self._at)) - len(self._at), NONE, np.int32)
            self._at = np.concatenate([self._at, more])
        self.n = max(self.n, n)

    def make_room(self) -> bool:
        """Double the records if all are in use; return whether they were."""
        if self._used[0] < len(self._records.rows):
            return False
        self._records.reserve(int(self._used[0]) + 1)
        return True

    def hold(self, evse: int) -> Any:
        """Return the record of an EVSE, to be written to; a blank one if it had none."""
        self.make_room()
        table = self.arrays
        if table.at[evse] == NONE:
            table.at[evse] = table.used[0]
            table.used[0] += 1
        return table.rows[table.at[evse]]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the records by EVSE, one plain array per field, and ``evse``."""
        evse = np.flatnonzero(self._at[: self.n] != NONE).astype(np.int32)
        rows = self._records.rows[self._at[evse]]
        return {"evse": evse} | {name: rows[name].copy() for name in rows.dtype.names or ()}

    def load(self, columns: dict[str, NDArray[Any]], owner: str) -> None:
        """Take over what `columns` returned.

        Raises
        ------
        SnapshotError
            If the fields are not those of this table.
        """
        evse = columns.get("evse", np.zeros(0, np.int32))
        self.reserve(int(evse.max()) + 1 if len(evse) else 0)
        self._records.load({name: x for name, x in columns.items() if name != "evse"}, owner)
        self._at[evse] = np.arange(len(evse))
        self._used[0] = len(evse)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers of all EVSEs and of the records in use."""
        return 4 * self.n + int(self._used[0]) * self._records.dtype.itemsize


class Pool:
    """Records of one kind, grown by doubling; a field ``next`` is added to those of `dtype`."""

    def __init__(self, dtype: list[Any]) -> None:
        fields = [*dtype, ("next", "i4")]
        self.dtype = np.dtype(sorted(fields, key=lambda item: -np.dtype(item[1]).itemsize))
        self.rows: NDArray[Any] = np.zeros(0, self.dtype)
        self.free = np.array([NONE, 0], np.int32)
        self.grow()

    @property
    def chains(self) -> Chains:
        """The pool for kernels, until it grows."""
        return Chains(self.rows, self.free)

    def have(self, n: int) -> bool:
        """Make sure that `n` records are free; return whether the pool grew for that."""
        grew = False
        while self.free[1] < n:
            self.grow()
            grew = True
        return grew

    def grow(self) -> None:
        """Double the room (at first 16 records)."""
        n, more = len(self.rows), max(len(self.rows), 16)
        self.rows = np.concatenate([self.rows, np.zeros(more, self.dtype)])
        self.rows["next"][n : n + more - 1] = np.arange(n + 1, n + more)
        self.rows["next"][n + more - 1] = self.free[0]
        self.free[:] = n, self.free[1] + more

    def columns(self, heads: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the records of all chains, by owner (the place of its head in `heads`) and key."""
        slots, owners = heads[heads != NONE], np.flatnonzero(heads != NONE)
        found, owned = [slots[:0]], [owners[:0]]
        while len(slots):
            found.append(slots)
            owned.append(owners)
            slots = self.rows["next"][slots]
            slots, owners = slots[slots != NONE], owners[slots != NONE]
        at, owner = np.concatenate(found), np.concatenate(owned)
        names = [name for name in self.dtype.names or () if name != "next"]
        by = np.lexsort((self.rows["k"][at], owner)) if "k" in names else np.argsort(owner, kind="stable")
        at = at[by]
        return {"owner": owner[by].astype(np.int32)} | {name: self.rows[name][at] for name in names}

    def load(self, columns: dict[str, NDArray[Any]], heads: NDArray[Any], owner: str) -> None:
        """Take over what `columns` returned, into chains that begin at `heads`, which are changed.

        Raises
        ------
        SnapshotError
            If the fields are not those of this pool.
        """
        names = {"owner", *(self.dtype.names or ())} - {"next"}
        if set(columns) != names:
            raise SnapshotError(
                f"{owner}: saved fields {sorted(columns)} are not the expected {sorted(names)};"
                " start without saved state"
            )
        n = len(columns["owner"])
        self.have(n)
        for j in range(n - 1, -1, -1):  # each before the last: chains get their order back
            place = int(columns["owner"][j])
            slot = int(self.free[0])
            self.free[:] = self.rows["next"][slot], self.free[1] - 1
            for name in names - {"owner"}:
                self.rows[name][slot] = columns[name][j]
            self.rows["next"][slot], heads[place] = heads[place], slot

    @property
    def used(self) -> int:
        """Number of records in use."""
        return int(len(self.rows) - self.free[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the records in use."""
        return self.used * self.dtype.itemsize

"""Records that exist only while there is something to remember, in chains that begin at a field of another.

An EVSE (or a site) keeps the number of the first record of its chain, `NONE` without one; each record names
the next. Records that are given back go to a list of free ones. A kernel takes records only after it made
sure of as many free ones as a reading may need; without them it returns the reading, and the loop around it
calls `Pool.grow` and goes on from there. Which number a record has means nothing: snapshots hold records by
owner, in the order of their key.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import I32
from models.errors import SnapshotError

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

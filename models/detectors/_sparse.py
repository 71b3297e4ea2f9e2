"""Records of few EVSEs: state that exists only while something is suspicious.

Most rules have nothing to remember of a healthy EVSE. A `SparseTable` holds a record only for EVSEs that
need one, found by hashing the EVSE's row, so that all others cost nothing. A kernel over readings uses it so:

- ``at = find(sparse, e)`` is the number of the EVSE's record, 0 where it has none. ``sparse.records[at]`` can
  be read either way: record 0 is the blank one. Nobody may write to it.
- To write where there is none: ``if full(sparse): return i``, before any state of reading i was touched, then
  ``at = take(sparse, e)``, a blank record. The loop over the kernel makes room and calls again from reading
  i (`RowDetector.process`, or ``sparse_table.make_room()`` beside ``out.grow()`` in a loop of its own).
- ``give(sparse, e)`` once the record says no more than a blank one would: it then becomes blank.

Numbers of records stay valid until the record is given back or the kernel returns. No finding may depend on
them: after a restore they are others. `SparseDetector` is `RowDetector` with such a table beside (or in place
of) the dense one; a rule over one lasting condition made of columns needs no kernel: `sparse_kernel`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import I32, I64
from models.detecting import CLEAR, EmissionArrays, Emissions, Observed, Timeline
from models.errors import SnapshotError

from ._base import RowDetector
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import UNKNOWN, Columns, slim_watch

#: Records of a table that holds any.
_LEAST: Final = 16


class Sparse(NamedTuple):
    """The arrays behind a `SparseTable`, in the shape that kernels take."""

    table: I32  # hash of an EVSE -> record, 0 = none; a power of two, at least twice as long as `free`
    evse: I32  # record -> EVSE, -1 = none
    free: I32  # numbers of records that are not in use, a stack: as many count as are free
    used: I64  # shape (1,): records in use
    records: Any  # structured; number 0 is blank and is no EVSE's


@kernel
def _home(evse: int, mask: int) -> int:
    """Return where an EVSE's search begins."""
    mixed = (int(evse) * 0x9E3779B1) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 15)) & mask


@kernel
def find(sparse: Sparse, evse: int) -> int:
    """Return the number of the record of `evse`, 0 where it has none."""
    if sparse.used[0] == 0:
        return 0
    mask = len(sparse.table) - 1
    h = _home(evse, mask)
    while sparse.table[h] != 0 and sparse.evse[sparse.table[h]] != evse:
        h = (h + 1) & mask
    return int(sparse.table[h])


@kernel
def full(sparse: Sparse) -> bool:
    """Return whether there is no record left to take."""
    return bool(sparse.used[0] == len(sparse.free))


@kernel
def take(sparse: Sparse, evse: int) -> int:
    """Return the number of a blank record, now that of `evse`, which had none; the table is not `full`."""
    mask = len(sparse.table) - 1
    h = _home(evse, mask)
    while sparse.table[h] != 0:
        h = (h + 1) & mask
    at = sparse.free[len(sparse.free) - 1 - sparse.used[0]]
    sparse.used[0] += 1
    sparse.table[h] = at
    sparse.evse[at] = evse
    return int(at)


@kernel
def give(sparse: Sparse, evse: int) -> None:
    """Give back the record of `evse`, which has one: it is blank and free then."""
    mask = len(sparse.table) - 1
    h = _home(evse, mask)
    while sparse.evse[sparse.table[h]] != evse:
        h = (h + 1) & mask
    at = sparse.table[h]
    sparse.records[at] = sparse.records[0]
    sparse.evse[at] = -1
    sparse.used[0] -= 1
    sparse.free[len(sparse.free) - 1 - sparse.used[0]] = at
    sparse.table[h] = 0
    # close the gap: whoever was pushed past it moves up, or would not be found any more
    j = (h + 1) & mask
    while sparse.table[j] != 0:
        way = (j - _home(sparse.evse[sparse.table[j]], mask)) & mask
        if way >= (j - h) & mask:
            sparse.table[h] = sparse.table[j]
            sparse.table[j] = 0
            h = j
        j = (j + 1) & mask


@kernel
def idle(rec: Any) -> bool:
    """Return whether a record of `SLIM_FIELDS` or `WATCH_FIELDS` says no more than a blank one."""
    return bool(rec["n"] == 0 and rec["raised"] == 0)


@kernel
def sparse_kernel(
    start: int,
    time: Timeline,
    columns: Columns,
    sparse: Sparse,
    severity: int,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    """Watch one condition over all readings; return the first not processed for want of room, or n.

    The records have `SLIM_FIELDS`. Evidence: 0 value, 1 limit, 2 extra, 3 seconds since it began (a clear has
    only this).
    """
    n, room = len(time.evse), len(out.order) - ROOM
    level, evse = columns.level, time.evse
    for i in range(start, n):
        if level[i] == UNKNOWN:
            continue
        at = find(sparse, evse[i])
        if at == 0 and level[i] == 0:
            continue
        if out.used[0] > room or (at == 0 and full(sparse)):
            return i
        if at == 0:
            at = take(sparse, evse[i])
        rec = sparse.records[at]
        kind = slim_watch(rec, time.time_ns[i], level[i] == 1, time.live[i], rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else time.time_ns[i]
            j = emit(
                out, evse[i], kind, severity, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], columns.score[i],
            )  # fmt: skip
            out.evidence[j, 3] = (end - rec["since_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0] = columns.value[i]
                out.evidence[j, 1] = columns.limit[i]
                out.evidence[j, 2] = columns.extra[i]
        if idle(rec):
            give(sparse, evse[i])
    return n


class SparseTable:
    """Records of the EVSEs that have one, packed, wide fields first.

    `arrays` is what kernels take; it is another one after `make_room` and `settle`.
    """

    def __init__(self, dtype: list[Any], blank: dict[str, Any]) -> None:
        self.dtype = np.dtype(sorted(dtype, key=lambda item: -np.dtype(item[1]).itemsize))
        self._blank = np.zeros(1, self.dtype)
        for name, value in blank.items():
            self._blank[name] = value
        self.arrays = self._empty(0)

    def _empty(self, capacity: int) -> Sparse:
        places = 1 << (2 * capacity - 1).bit_length() if capacity else 1
        return Sparse(
            np.zeros(places, np.int32),
            np.full(capacity + 1, -1, np.int32),
            np.arange(capacity, 0, -1, dtype=np.int32),
            np.zeros(1, np.int64),
            np.repeat(self._blank, capacity + 1),
        )

    def __len__(self) -> int:
        return int(self.arrays.used[0])

    def _resize(self, capacity: int) -> None:
        numbers = self._numbers()
        old, self.arrays = self.arrays, self._empty(capacity)
        for number in numbers.tolist():
            self.arrays.records[take(self.arrays, int(old.evse[number]))] = old.records[number]

    def _numbers(self) -> NDArray[np.intp]:
        """Return the numbers of the records in use, by EVSE."""
        used = np.flatnonzero(self.arrays.evse >= 0)
        return used[np.argsort(self.arrays.evse[used])]

    def make_room(self) -> bool:
        """Double the table if it is full; return whether it was."""
        if not full(self.arrays):
            return False
        self._resize(max(_LEAST, 2 * len(self)))
        return True

    def settle(self) -> None:
        """Give memory back where most of it is not in use any more."""
        if len(self.arrays.free) > max(_LEAST, 8 * len(self)):
            self._resize(max(_LEAST, 2 * len(self)))

    def hold(self, evse: int) -> Any:
        """Return the record of `evse`, to be written to: its own, else a blank one taken for it."""
        at = find(self.arrays, evse)
        if at == 0:
            self.make_room()
            at = take(self.arrays, evse)
        return self.arrays.records[at]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the records in use by EVSE, one plain array per field, and ``evse``."""
        numbers = self._numbers()
        found = self.arrays.records[numbers]
        fields = {name: found[name].copy() for name in self.dtype.names or ()}
        return {"evse": self.arrays.evse[numbers]} | fields

    def load(self, columns: dict[str, NDArray[Any]], owner: str) -> None:
        """Take over what `columns` returned.

        Raises
        ------
        SnapshotError
            If the fields are not those of this table.
        """
        names = {"evse", *(self.dtype.names or ())}
        if set(columns) != names:
            raise SnapshotError(
                f"{owner}: saved fields {sorted(columns)} are not the expected {sorted(names)};"
                " start without saved state"
            )
        evses = columns["evse"]
        self.arrays = self._empty(max(_LEAST, 2 * len(evses)) if len(evses) else 0)
        numbers = [take(self.arrays, evse) for evse in evses.tolist()]
        for name in self.dtype.names or ():
            self.arrays.records[name][numbers] = columns[name]

    @property
    def nbytes(self) -> int:
        """Bytes of the table, free records included."""
        return sum(array.nbytes for array in self.arrays)


class SparseDetector(RowDetector):
    """A `RowDetector` whose records exist only while they say something.

    Subclasses set `sparse_dtype` and `sparse_blank`, and hand ``self.sparse.arrays`` to their kernel. `dtype`
    and `blank` are what every EVSE must remember: nothing, unless they say so.
    """

    dtype: ClassVar[list[Any]] = []
    blank: ClassVar[dict[str, Any]] = {}
    sparse_dtype: ClassVar[list[Any]]
    sparse_blank: ClassVar[dict[str, Any]]

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self.sparse = SparseTable(self.sparse_dtype, self.sparse_blank)
        super().__init__(resume_state)

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        self.sparse.load(state["sparse"], self.spec.code)

    def _make_room(self) -> bool:
        return self.sparse.make_room() or super()._make_room()

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        super().process(seen, out)
        self.sparse.settle()

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return super().snapshot() | {"sparse": self.sparse.columns()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self.sparse.nbytes

"""Records that exist only while they say something: the table behind them, against a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from models.batch import I32, I64, MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Emissions, Observed
from models.detectors import residual_current_trip as trip
from models.detectors._sparse import Sparse, SparseTable, find, full, give, take
from models.devices import DeviceTable
from models.errors import SnapshotError

_DTYPE = [("live", "u1"), ("sum", "i8")]
_BLANK = {"sum": 7}


@njit(nogil=True, _nrt=False)  # not cached: its cache would not know of changes to what it calls
def _add(start: int, evse: I32, amount: I64, sparse: Sparse) -> int:
    """Add amounts to records that begin at 7; one that is back at 7 is blank."""
    for i in range(start, len(evse)):
        at = find(sparse, evse[i])
        if at == 0:
            if amount[i] == 0:
                continue
            if full(sparse):
                return i
            at = take(sparse, evse[i])
        rec = sparse.records[at]
        rec["sum"] += amount[i]
        rec["live"] = 1
        if rec["sum"] == 7:
            give(sparse, evse[i])
    return len(evse)


def _run(table: SparseTable, steps: list[tuple[int, int]]) -> int:
    """Return how often room ran out."""
    evse = np.array([step[0] for step in steps], np.int32)
    amount = np.array([step[1] for step in steps], np.int64)
    at, grown = 0, 0
    while (at := _add(at, evse, amount, table.arrays)) < len(steps):
        assert table.make_room()
        grown += 1
    return grown


def _held(table: SparseTable) -> dict[int, int]:
    columns = table.columns()
    return dict(zip(columns["evse"].tolist(), columns["sum"].tolist(), strict=True))


def _whole(table: SparseTable) -> None:
    """Assert what must always hold: every record is found, and what is free is blank."""
    arrays = table.arrays
    numbers = [find(arrays, evse) for evse in table.columns()["evse"].tolist()]
    free = arrays.free[: len(arrays.free) - len(table)].tolist()
    assert sorted(numbers + free) == list(range(1, len(arrays.free) + 1))
    assert np.count_nonzero(arrays.table) == len(table)
    assert set(arrays.records["sum"][[0, *free]].tolist()) == {7}
    assert not arrays.records["live"][[0, *free]].any()


_evses = st.one_of(st.integers(0, 40), st.integers(0, 2**31 - 1), st.integers(0, 40).map(lambda e: e << 16))
_steps = st.lists(st.tuples(_evses, st.integers(-1, 1)), max_size=200)


@settings(max_examples=40)
@given(_steps, st.integers(0, 200))
def test_equals_a_dict(steps: list[tuple[int, int]], cut: int) -> None:
    table, restored, twin = SparseTable(_DTYPE, _BLANK), SparseTable(_DTYPE, _BLANK), dict[int, int]()
    for evse, amount in steps:
        twin[evse] = twin.get(evse, 0) + amount
    _run(table, steps[:cut])
    _whole(table)
    restored.load(table.columns(), "test")  # other numbers, other room
    for one in (table, restored):
        _run(one, steps[cut:])
        _whole(one)
        assert _held(one) == {evse: 7 + n for evse, n in sorted(twin.items()) if n != 0}
        one.settle()
        _whole(one)
        assert _held(one) == {evse: 7 + n for evse, n in sorted(twin.items()) if n != 0}


def test_grows_in_the_midst_of_a_batch_and_gives_memory_back() -> None:
    table = SparseTable(_DTYPE, _BLANK)
    nothing = table.nbytes
    assert nothing < 50
    steps = [(evse, 1) for evse in range(0, 5000, 5)]
    assert _run(table, steps) == 7  # 0, 16, 32 ... 1024
    assert len(table) == 1000
    assert table.nbytes == nothing + 1024 * (9 + 4 + 4) + 4 * (2048 - 1)
    assert _run(table, [(evse, -1) for evse, _ in steps[1:]]) == 0
    table.settle()
    _whole(table)
    assert _held(table) == {0: 8}
    assert table.nbytes < 600


def test_equal_hashes_are_told_apart() -> None:
    """EVSEs that all begin their search at one place, given back in the midst of the chain."""
    table = SparseTable(_DTYPE, _BLANK)
    _run(table, [(0, 1)])
    mask = len(table.arrays.table) - 1
    alike = [e for e in range(4000) if _place(e, mask) == 3][:8]
    assert len(alike) == 8
    _run(table, [(e, 1) for e in alike])
    _run(table, [(alike[2], -1), (alike[0], -1)])
    _whole(table)
    assert _held(table) == {0: 8} | dict.fromkeys((alike[1], *alike[3:]), 8)


def _place(evse: int, mask: int) -> int:
    mixed = (evse * 0x9E3779B1) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 15)) & mask


def test_a_record_held_from_python_is_the_kernels() -> None:
    table = SparseTable(_DTYPE, _BLANK)
    for evse in range(40):
        table.hold(evse)["sum"] += evse
    table.hold(5)["sum"] += 1
    assert table.arrays.records["sum"][find(table.arrays, 5)] == 13
    assert len(table) == 40
    _whole(table)


def test_fields_of_another_table_are_refused() -> None:
    table = SparseTable(_DTYPE, _BLANK)
    with pytest.raises(SnapshotError, match="somebody: saved fields"):
        table.load({"evse": np.zeros(1, np.int32), "sum": np.zeros(1, np.int64)}, "somebody")


def test_a_healthy_evse_costs_a_detector_nothing() -> None:
    devices = DeviceTable()
    site = devices.site("s")
    node = devices.node(site, "n")
    for i in range(300):
        devices.evse(devices.station(site, f"n{i}", node), 1, node)
    detector = trip.build(trip.Config())
    before = detector.nbytes()

    def feed(second: int, residual_ma: Any) -> int:
        rows = ReadingBatch.empty(300, (CHANNEL_ID["x.Residual.DC"],))
        rows.evse[:] = np.arange(300)
        rows.time_ns[:] = second * 10**9
        rows.values[0] = residual_ma
        out = Emissions()
        detector.process(Observed(devices, rows, MessageColumns.empty(), []), out)
        return len(out.drain())

    assert feed(1, 0.5) == 0
    assert detector.nbytes() == before
    assert feed(2, 7.0) == 300  # all at once: the table grows in the midst of the batch
    assert detector.nbytes() > before + 300 * 19
    assert feed(3, 0.5) == 0
    assert feed(100, 0.5) == 300
    assert detector.nbytes() < before + 600
    assert detector.snapshot()["sparse"]["evse"].tolist() == []

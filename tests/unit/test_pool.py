"""Chains of records, records of measured EVSEs and a site's memory of events, each against plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import I64
from models.detectors._base import Table
from models.detectors._pool import NONE, KnownTable, Pool, drop, find, lacks, record_of, take
from models.detectors._site_quiet import (
    EVENT_FIELDS,
    RING,
    SITE_BLANK,
    SITE_FIELDS,
    forget,
    others_a,
    remember,
)
from models.errors import SnapshotError

_OWNERS = 5
_FIELDS = [("k", "u1"), ("value", "i8")]


def _held(pool: Pool, heads: Any) -> dict[tuple[int, int], int]:
    columns = pool.columns(heads)
    keys = zip(columns["owner"].tolist(), columns["k"].tolist(), strict=True)
    return dict(zip(keys, columns["value"].tolist(), strict=True))


def _restored(pool: Pool, heads: Any) -> tuple[Pool, Any]:
    again, others = Pool(_FIELDS), np.full(_OWNERS, NONE, np.int32)
    again.load(pool.columns(heads), others, "test")
    return again, others


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, _OWNERS - 1), st.integers(0, 12), st.integers(-9, 9), st.integers(0, 40)),
        max_size=150,
    )
)
def test_chains_hold_what_a_dict_holds(steps: Sequence[tuple[int, int, int, int]]) -> None:
    """A record is born, changed or (value 0) given back; now and then all goes through a snapshot."""
    pool, heads, twin = Pool(_FIELDS), np.full(_OWNERS, NONE, np.int32), dict[tuple[int, int], int]()
    for owner, key, value, again in steps:
        slot = find(pool.chains, int(heads[owner]), key)
        assert (slot != NONE) == ((owner, key) in twin)
        if value == 0:
            if slot != NONE:
                heads[owner] = drop(pool.chains, int(heads[owner]), slot)
                del twin[owner, key]
        else:
            if slot == NONE:
                pool.have(1)
                slot = heads[owner] = take(pool.chains, int(heads[owner]))
                pool.rows["k"][slot] = key
            pool.rows["value"][slot] = twin[owner, key] = value
        if again == 0:
            pool, heads = _restored(pool, heads)
        assert pool.used == len(twin)
        assert pool.nbytes == len(twin) * (8 + 4 + 1)
    assert _held(pool, heads) == twin
    for owner in range(_OWNERS):
        for key in range(13):
            slot = find(pool.chains, int(heads[owner]), key)
            assert slot == NONE or pool.rows["value"][slot] == twin[owner, key]
            assert (slot == NONE) == ((owner, key) not in twin)


def test_chains_keep_their_order_over_a_snapshot_and_other_fields_are_refused() -> None:
    pool, heads = Pool(EVENT_FIELDS), np.array([NONE, NONE], np.int32)
    for order in (3, 2, 1):
        heads[1] = take(pool.chains, int(heads[1]))
        pool.rows["order"][heads[1]] = order
    saved = pool.columns(heads)
    assert saved["owner"].tolist() == [1, 1, 1]
    assert saved["order"].tolist() == [1, 2, 3]
    again, others = Pool(EVENT_FIELDS), np.array([NONE, NONE], np.int32)
    again.load(saved, others, "test")
    assert again.columns(others)["order"].tolist() == [1, 2, 3]
    with pytest.raises(SnapshotError, match="saved fields"):
        again.load({"owner": saved["owner"]}, others, "test")


@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 99), st.integers(0, 25)), max_size=120))
def test_records_of_measured_evses_are_those_of_a_dict(steps: Sequence[tuple[int, int, int]]) -> None:
    table, twin = KnownTable([("sum", "i8")], {"sum": 7}), dict[int, int]()
    for evse, amount, how in steps:
        table.reserve(evse + 1)
        if how % 2:
            rec = table.hold(evse)
        else:
            assert lacks(table.arrays, evse) == (evse not in twin and len(twin) == len(table.arrays.rows))
            table.make_room()
            rec = table.arrays.rows[record_of(table.arrays, evse)]
        assert rec["sum"] == twin.get(evse, 7)
        rec["sum"] += amount
        twin[evse] = twin.get(evse, 7) + amount
        if how == 0:
            saved, table = table.columns(), KnownTable([("sum", "i8")], {"sum": 7})
            table.load(saved, "test")
    columns = table.columns()
    assert dict(zip(columns["evse"].tolist(), columns["sum"].tolist(), strict=True)) == twin
    assert columns["evse"].tolist() == sorted(twin)
    assert table.nbytes == 4 * table.n + 8 * len(twin)


class _Twin:
    """Every event of a site there ever was: (order, EVSE, change)."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int, int]] = []

    def others_a(self, evse: int, from_order: int) -> float:
        """Return what changed after `from_order`, unless it lies before the last `RING` events."""
        last = self.events[-RING:]
        if len(last) == RING and last[0][0] > from_order:
            return np.inf
        return float(sum(change for order, other, change in last if order > from_order and other != evse))


def _forget(sites: Table, needed: Sequence[int], events: Pool) -> None:
    ends: I64 = np.array(needed, np.int64)
    forget(sites.rows, ends, events.chains)


_EVENTS = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(0, 3), st.integers(1, 30), st.integers(0, 9), st.integers(0, 12)
    ),
    min_size=20,
    max_size=160,
)


@settings(max_examples=25, deadline=None)
@given(steps=_EVENTS)
def test_what_nobody_can_ask_for_is_forgotten_and_nothing_else(
    steps: Sequence[tuple[int, int, int, int, int]],
) -> None:
    """Whoever was heard of asks from the last forgotten order on; a new EVSE (9) from the beginning."""
    events, sites, twin = Pool(EVENT_FIELDS), Table(SITE_FIELDS, SITE_BLANK), _Twin()
    sites.reserve(2)
    order, needed = 0, -1
    for ahead, evse, change, what, back in steps:
        order += ahead
        events.have(1)
        remember(sites.rows[1], order, evse, float(change), events.chains)
        twin.events.append((order, evse, change))
        if what == 0:
            needed = max(needed, order - back)
            _forget(sites, (-1, needed), events)
            assert events.used == sum(o > needed for o, _, _ in twin.events[-RING:])
        assert events.used <= RING
        for since in {needed, max(needed, order - back), order}:
            found = others_a(sites.rows[1], evse, since, events.chains)
            assert found == twin.others_a(evse, since)
        assert others_a(sites.rows[1], 9, -1, events.chains) == twin.others_a(9, -1)
    _forget(sites, (-1, order), events)
    assert events.used == 0
    assert sites.rows["first"][1] == sites.rows["last"][1] == NONE
    assert others_a(sites.rows[0], 9, -1, events.chains) == 0.0

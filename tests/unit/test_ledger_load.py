"""Load management in the ledger: limits beside the energy, sites by the minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from models.load_rows import LimitRow, LoadRow

from ._ledger_records import blob


def limit(from_ms: int, limit_a: float | None, cause: str = "site", evse: int = 1) -> LimitRow:
    return LimitRow(
        site="depot",
        station="cs1",
        evse=evse,
        from_ms=from_ms,
        limit_a=limit_a,
        cause=cause,
        transaction_id="t1",
    )


def load(start_ms: int, site_kw: float = 50.0) -> LoadRow:
    return LoadRow(
        site="depot",
        start_ms=start_ms,
        limit_a=(200.0, 200.0, 200.0),
        current_a=(80.0, 70.0, 60.0),
        other_a=(20.0, 20.0, 20.0),
        held_a=(120.0, 110.0, 100.0),
        ev_kw=site_kw - 13.8,
        site_kw=site_kw,
        quarter_kwh=3.0,
        projected_kw=48.0,
        peak_kw=90.0,
        demand_limit_kw=100.0,
        charging=5,
        waiting=2,
        lost=1,
        commands=7,
    )


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LedgerReader]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    limits = [limit(1000, 6.0), limit(2000, 0.0, "turn"), limit(3000, 16.0), limit(3000, 10.0, evse=2)]
    for _ in range(2):  # a crash may bring the same again
        ledger.apply("limits", [(0, blob(*limits)), (0, blob(limit(4000, None, "free", evse=2)))])
        ledger.apply("loads", [(0, blob(load(60_000), load(120_000, 60.0)))])
    ledger.close()
    found = LedgerReader(url)
    yield found
    found.close()


def test_limits_are_found_by_transaction_and_evse(reader: LedgerReader) -> None:
    found = reader.limits("depot", "cs1", 1, "t1")
    assert [(row["from_ms"], row["limit_a"], row["cause"]) for row in found] == [
        (1000, 6.0, "site"),
        (2000, 0.0, "turn"),
        (3000, 16.0, "site"),
    ]
    assert len(reader.limits("depot", "cs1")) == 5
    assert reader.limits("depot", "cs2") == []


def test_limits_now_leave_out_where_nobody_is(reader: LedgerReader) -> None:
    assert [(row["evse"], row["limit_a"]) for row in reader.limits_now("depot")] == [(1, 16.0)]


def test_a_site_minute_by_minute_and_now(reader: LedgerReader) -> None:
    assert [row["site_kw"] for row in reader.load_minutes("depot", 0, 200_000)] == [50.0, 60.0]
    assert reader.load_minutes("other", 0, 200_000) == []
    now = reader.load_now()
    assert [(row["start_ms"], row["current_l2_a"], row["held_l3_a"]) for row in now] == [
        (120_000, 70.0, 100.0)
    ]

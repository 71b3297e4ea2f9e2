"""The account closes, or says where it does not; it may be applied again from any point."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import _ledger_account
from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from models.outputs import Account

from ._ledger_records import IN_MEMORY, account, blob, dump


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture
def reader(ledger: Ledger) -> Iterator[LedgerReader]:
    opened = LedgerReader(str(ledger.url))
    yield opened
    opened.close()


def ranges(ledger: Ledger) -> list[tuple[int, int, int]]:
    return sorted((row[0], row[1], row[2]) for row in dump(str(ledger.url))["account"])


def test_an_account_cut_anew_replaces_what_follows(ledger: Ledger) -> None:
    before = [account(0, 10), account(10, 20), account(20, 30), account(0, 5, shard=1)]
    anew = [account(10, 12), account(12, 30)]
    ledger.apply("account", [(0, blob(*before))])
    assert ledger.closes()["closes"]
    ledger.apply("account", [(0, blob(anew[0]))])
    assert ranges(ledger) == [(0, 0, 10), (0, 10, 12), (1, 0, 5)]
    ledger.apply("account", [(0, blob(anew[1]))])
    assert ledger.closes()["closes"]
    assert ledger.closes()["messages"]["total"] == 35


@given(st.integers(0, 8), st.lists(st.integers(1, 8), max_size=8))
@settings(max_examples=15)
def test_the_account_may_be_applied_again_from_any_point(restart: int, cuts: list[int]) -> None:
    records = [account(a, a + 5) for a in range(0, 40, 5)] + [account(15, 22), account(22, 40)]
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        ledger = Ledger(f"sqlite:///{folder}/l.sqlite")
        ledger.apply("account", [(0, blob(*records))])
        once = ranges(ledger)
        rest = records[restart:]
        for cut in cuts:
            ledger.apply("account", [(0, blob(*rest[:cut]))])  # as after a crash: a beginning of the rest
        for record in rest:
            ledger.apply("account", [(0, blob(record))])
        assert ranges(ledger) == once == [(0, 0, 5), (0, 5, 10), (0, 10, 15), (0, 15, 22), (0, 22, 40)]
        ledger.close()


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([account(0, 10), account(12, 20)], "messages 10 to 11 are in no range"),
        ([account(3, 10)], "messages 0 to 2 are in no range"),
        ([account(0, 10), account(8, 20)], "messages 8 to 9 are in two ranges"),
        ([account(0, 10, decoded=9)], "10 messages, but 9 decoded, duplicate, dead or held"),
        ([account(0, 10, rows_late=1)], "20 readings in, but 21 processed, late, duplicate or invalid"),
        ([account(0, 10, decoded=8, held=2), account(10, 20, decoded=11)], "12 messages, but 11"),
    ],
)
def test_what_does_not_close_is_named(ledger: Ledger, records: list[Account], why: str) -> None:
    ledger.apply("account", [(0, blob(*records))])
    closing = ledger.closes()
    assert not closing["closes"]
    assert len(closing["open"]) == 1
    assert why in closing["open"][0]["why"]


def test_held_messages_count_where_they_are_released(ledger: Ledger, reader: LedgerReader) -> None:
    records = [account(0, 10, decoded=7, held=3), account(10, 20, decoded=11, dead=1, held=1)]
    ledger.apply("account", [(0, blob(*records))])
    closing = reader.closes()
    assert closing == ledger.closes()
    assert closing["closes"]
    assert closing["messages"] == {"total": 20, "decoded": 18, "duplicate": 0, "dead": 1, "held": 1}
    assert closing["rows"] == {"in": 40, "processed": 40, "late": 0, "duplicate": 0, "invalid": 0}
    assert (closing["shards"], closing["ranges"], closing["through_ms"]) == (1, 2, 20)


def test_old_ranges_are_folded_but_a_gap_stays_in_sight(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ledger_account, "FOLD_AT", 20)
    monkeypatch.setattr(_ledger_account, "FOLD_TO", 5)
    ledger._book = _ledger_account.AccountBook()
    for first in range(0, 200, 2):
        if first != 40:
            ledger.apply("account", [(0, blob(account(first, first + 2)))])
    found = ranges(ledger)
    assert len(found) <= 21
    assert found[:2] == [(0, 0, 40), (0, 42, found[1][2])]
    closing = ledger.closes()
    assert closing["messages"]["total"] == 198
    assert [row["why"] for row in closing["open"]] == ["messages 40 to 41 are in no range"]
    ledger.apply("account", [(0, blob(account(40, 200)))])
    assert ledger.closes()["closes"]

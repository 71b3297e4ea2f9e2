"""A vehicle that load management keeps waiting does not park, whatever it reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.errors import DecodeError
from models.held_back import TOPIC, HeldSpans, HeldTeller, read_held
from models.load_rows import LimitRow
from tests.transaction_log import BEGIN, END, HOUR, MINUTE, T0, Outcome, TxLog, log_of, run_all

from .test_running_cost import cashier

PARKING: dict[str, Any] = {
    "id": "P", "currency": "EUR",
    "elements": [{"price_components": [{"type": "PARKING_TIME", "price": 6, "step_size": 60}]}],
}  # fmt: skip


def waiting(*words: tuple[int, int, bool]) -> TxLog:
    """Return an hour in which the vehicle says SuspendedEV, and words (told at, from, held)."""
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=0, chargingState="SuspendedEV")
    log.reads(BEGIN + MINUTE, END - MINUTE, 500_000, 500_000)
    log.tx(END, "Ended", 500_000, seq=1)
    for at, since, held in words:
        body = {"site": "s", "station": "cp", "evse": 1, "from_ms": T0 + since, "held": held}
        log.messages.append((at, TOPIC, {"v": 1, "by": "load"} | body))
    log.until(max([END, *(at for at, _, _ in words)]) + HOUR)
    return log


def billed(log: TxLog) -> tuple[list[float], Outcome]:
    frame = log.frame()
    got = run_all(frame, cashier=cashier(PARKING))
    assert run_all(frame, cuts=(4, 20, 55, 66), restore=True, cashier=cashier(PARKING)) == got
    return [json.loads(row.body)["total_cost"]["excl_vat"] for row in got.cdrs], got


def prompt(since: int, held: bool) -> tuple[int, int, bool]:
    return since + 1, since, held


def test_without_a_word_it_parks() -> None:
    assert billed(waiting())[0] == [6.0]


@pytest.mark.parametrize(
    ("spans", "cost"),
    [
        ([(BEGIN + 10 * MINUTE, BEGIN + 40 * MINUTE)], 3.0),
        ([(BEGIN - 5 * MINUTE, BEGIN + 15 * MINUTE), (BEGIN + 45 * MINUTE, END + 5 * MINUTE)], 3.0),
        ([(BEGIN - 5 * MINUTE, 0)], 0.0),  # held all the time, never lifted
        ([(BEGIN - 30 * MINUTE, BEGIN - MINUTE)], 6.0),
    ],
)
def test_held_back_it_waits(spans: list[tuple[int, int]], cost: float) -> None:
    words = [prompt(t, held) for a, b in spans for t, held in ((a, True), (b, False)) if t]
    bills, got = billed(waiting(*words))
    assert bills == [cost]
    assert got.costs[-1].total_excl == f"{cost:.2f}"
    held = got.sessions[-1].body["held"]
    assert sum(b - a for a, b in held) == pytest.approx((6.0 - cost) * 600_000, abs=2)
    running = [float(row.total_excl) for row in got.costs if not row.final]
    assert running == sorted(running)
    assert max(running, default=0) <= cost + 0.1


def test_a_word_that_comes_after_the_bill_corrects_it() -> None:
    late = END + 30 * MINUTE
    bills, got = billed(
        waiting(
            (late, BEGIN + 10 * MINUTE, True), (late + 1, BEGIN + 40 * MINUTE, False), (late, BEGIN, False)
        )
    )
    assert bills == [6.0, -6.0, 3.0]
    assert "late" in got.sessions[-1].flags


def limit(limit_a: float | None, at: int, evse: int = 1) -> LimitRow:
    return LimitRow(site="s", station="cp", evse=evse, from_ms=at, limit_a=limit_a, cause="site")


def test_only_changes_are_told() -> None:
    teller, told = HeldTeller(), []
    for at, amps in enumerate((16.0, 5.9, 0.0, 6.0, None, 0.0, None)):
        message = teller.take(limit(amps, at))
        if message is not None:
            word = read_held(json.loads(message.payload))
            told.append((word.from_ms, word.held))
        teller = HeldTeller(json.loads(json.dumps(teller.snapshot())))
    assert told == [(1, True), (3, False), (5, True), (6, False)]


def test_words_in_any_order_are_the_same_spans() -> None:
    changes = [(10, True), (20, False), (30, True), (30, True), (25, False)]
    for order in (changes, changes[::-1]):
        spans = HeldSpans()
        for t, held in order:
            spans.take(7, t, held)
        assert HeldSpans(spans.snapshot()).within(7, 5, 35) == [(10, 20), (30, 35)]
        assert spans.within(7, 12, 18) == [(12, 18)]
        assert spans.within(8, 0, 99) == []


@pytest.mark.parametrize("change", [{"held": 1}, {"evse": "1"}, {"from_ms": None}, {"site": None}])
def test_a_word_that_breaks_the_rules_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read_held({"site": "s", "station": "cp", "evse": 1, "from_ms": 1, "held": True} | change)

"""Payments: their words, their states, and card data, which is refused wherever it could come in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.ledger import Ledger
from connectors.outbox import OutboxReader
from models.billing_rows import CostRow, PaymentRow
from models.card_data import refuse_card_data
from models.errors import DecodeError
from models.frame import Frame
from models.outputs import Publish
from models.payments import EVENTS, STATES, TRANSITIONS, PaymentBook, read_payment
from models.units import NS_PER_S
from pipeline.order import OrderStage
from tests.transaction_log import ORDER

from ._api_client import Client, filled, with_token
from ._ledger_records import blob

GOOD: dict[str, Any] = {
    "action": "authorize", "site": "depot", "station": "cs1", "evse": 1, "amount": "40.00", "currency": "EUR",
    "authorization_reference": "b5f3-77",
}  # fmt: skip
#: Test numbers of card brands, and what terminals and forms call them.
CARDS: list[dict[str, Any]] = [
    {"card_number": "anything"},
    {"payment": {"PAN": "x"}},
    {"details": [{"cvv2": "123"}]},
    {"expiry_date": "12/29"},
    {"cardholderName": "ANN EXAMPLE"},
    {"note": "4111 1111 1111 1111"},
    {"note": "paid with 5500-0000-0000-0004 today"},
    {"psp_reference": "378282246310005"},
    {"number": 6011111111111117},
    {"x": ";4111111111111111=29121010000?"},
    {"x": "%B4111111111111111^EXAMPLE/ANN^2912"},
]


def test_the_transition_table_is_total() -> None:
    assert set(TRANSITIONS) == {(state, event) for state in STATES for event in EVENTS}
    assert set(TRANSITIONS.values()) <= set(STATES)


@pytest.mark.parametrize("more", CARDS)
def test_card_data_is_refused_and_its_value_not_repeated(more: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="payment cards is never taken") as caught:
        read_payment(GOOD | more)
    assert caught.value.reason == "card_data"
    for text in ("4111", "5500", "3782", "6011", "ANN"):
        assert text not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        GOOD,
        GOOD | {"authorization_reference": "9f1b2c4e-0000-4d1e-8a00-1234567890ab"},
        GOOD | {"t": 1_790_000_100_000, "psp_reference": "8815658961765250"},  # 8…: no issuer's number
        GOOD | {"transaction_id": "4111111111111111"},  # a station's own number
        GOOD | {"note": "4111 1111 1111 1112"},  # wrong check digit
    ],
)
def test_references_and_times_are_no_card_data(body: dict[str, Any]) -> None:
    refuse_card_data(body)
    assert read_payment(body).amount == 40


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"action": "capture"}, "authorize or settle"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": None}, "amount and currency"),
        ({"currency": "euro"}, "amount and currency"),
        ({"station": None}, "station"),
        ({"site": ""}, "site"),
        ({"evse": "one"}, "evse"),
        ({"action": "settle", "status": "Maybe"}, "Settled, Canceled"),
    ],
)
def test_a_word_that_is_not_complete_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(DecodeError, match=why) as caught:
        read_payment(GOOD | change)
    assert caught.value.reason == "payment"


def test_a_higher_amount_lets_a_session_go_on() -> None:
    book = PaymentBook()
    book.take(read_payment(GOOD), 1_000)
    assert book.match("depot", "cs1", 1, "t1", "", 61_000, 62_000) == "b5f3-77"
    book.spent("depot", "b5f3-77", "39.00", "EUR", 100_000)
    book.spent("depot", "b5f3-77", "39.50", "EUR", 160_000)
    assert len(book.publishes) == 1  # asked once
    book = PaymentBook(book.snapshot())
    book.take(read_payment(GOOD | {"amount": "80.00"}), 170_000)
    book.spent("depot", "b5f3-77", "41.00", "EUR", 180_000)
    assert book.publishes == []
    book.spent("depot", "b5f3-77", "76.00", "EUR", 400_000)
    assert [row.state for row in book.rows] == ["running", "stopping"]
    assert len(book.publishes) == 1


def test_another_evse_session_or_hour_is_not_what_was_authorised() -> None:
    book = PaymentBook()
    book.take(read_payment(GOOD), 0)
    late = 16 * 60_000
    assert not book.match("depot", "cs1", 2, "t1", "", 0, 0)
    assert not book.match("depot", "cs2", 1, "t1", "", 0, 0)
    assert not book.match("depot", "cs1", 1, "t1", "", late, late)
    assert book.match("depot", "cs1", 1, "t1", "", 0, 0)
    assert not book.match("depot", "cs1", 1, "t2", "", 1, 1)  # taken


def test_card_data_on_the_wire_is_dead_without_its_payload() -> None:
    body = msgspec.json.encode(GOOD | {"card_number": "4111111111111111"})
    good = msgspec.json.encode(GOOD)
    messages = [(NS_PER_S * (i + 1), b"evt/v1/_op/payment", text, 0) for i, text in enumerate((body, good))]
    [batch, *rest] = OrderStage(0, ORDER).process((0, 0, Frame.build(messages)))
    dead = [item for part in (batch, *rest) for item in part.dead]
    assert [(d.reason, d.payload) for d in dead] == [("card_data", b"")]
    assert "4111" not in dead[0].detail


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = filled(url)
    yield opened
    opened.close()


def row(change: int, **more: Any) -> PaymentRow:
    known: dict[str, Any] = {
        "site": "depot", "authorization_reference": "r1", "change": change, "state": "running",
        "station": "cs1", "evse": 1, "transaction_id": "tx1", "token_type": "", "token_hash": "",
        "currency": "EUR", "authorized": "40.00", "cost": None, "settled": None, "psp_reference": "",
        "problem": "", "authorized_ms": 1, "stop_asked_ms": None, "settled_ms": None, "changed_ms": change,
    }  # fmt: skip
    return PaymentRow(**(known | more))


def test_the_api_takes_words_and_shows_payments(url: str, ledger: Ledger, tmp_path: Path) -> None:
    client = Client(url, tmp_path)
    with_token(url, client, "payments:write")
    for card in CARDS:
        refused = client("POST", "/api/v1/payments", json=GOOD | card)
        assert refused.status_code == 422
        assert "payment cards is never taken" in refused.text
        assert "4111" not in refused.text
    assert client("POST", "/api/v1/payments", json=GOOD | {"amount": "x"}).status_code == 422
    assert not (tmp_path / "outbox" / "api.db").exists()
    taken = client("POST", "/api/v1/payments", json=GOOD | {"more": "is not passed on"})
    assert (taken.status_code, taken.json()["authorization_reference"]) == (202, "b5f3-77")
    outbox = OutboxReader(tmp_path / "outbox" / "api.db")
    [(_, _, data)] = outbox.read("publish", 0, 10)
    [message] = msgspec.msgpack.decode(data, type=list[Publish])
    assert message.topic == "evt/v1/_op/payment"
    body = msgspec.json.decode(message.payload)
    assert read_payment(body) == read_payment(GOOD)
    assert "more" not in body
    assert client.get("/api/v1/payments").status_code == 403
    ledger.apply("payments", [(0, blob(row(2, state="stopping"), row(1), row(1, site="mall")))])
    with_token(url, client, "payments")
    found = client.get("/api/v1/payments", site="depot").json()
    assert [(p["authorization_reference"], p["state"]) for p in found] == [("r1", "stopping")]
    assert client("POST", "/api/v1/payments", json=GOOD).status_code == 403


def test_running_costs_show_in_session_and_ledger(url: str, ledger: Ledger, tmp_path: Path) -> None:
    cost = CostRow(
        site="depot", station="cs1", transaction_id="tx1", evse=1, time_ms=5_000, energy_mwh=7,
        currency="EUR", total_excl="1.00", total_incl="1.19", tariff_id="t",
    )  # fmt: skip
    newer = msgspec.structs.replace(cost, time_ms=6_000, total_incl="1.30")
    for _ in range(2):
        ledger.apply("costs", [(0, blob(newer, cost))])
    client = Client(url, tmp_path)
    with_token(url, client, "sessions")
    first = client.get("/api/v1/sessions/depot/cs1/tx1")
    assert first.json()["cost"]["total_incl"] == "1.30"
    assert client.get("/api/v1/sessions/depot/cs1/tx2").json()["cost"] is None
    ledger.apply("costs", [(0, blob(msgspec.structs.replace(newer, time_ms=9_000)))])
    again = client.get("/api/v1/sessions/depot/cs1/tx1", {"If-None-Match": first.headers["etag"]})
    assert again.status_code == 200
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        assert db.execute("SELECT time_ms FROM running_costs").fetchall() == [(9_000,)]

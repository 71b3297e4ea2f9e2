"""Tokens of partners: whose customer a session was, in its bill and for its partner, journaled."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from models import partner_tokens
from models.errors import DecodeError
from models.ocpi_objects import emsp_of
from models.partner_tokens import TOPIC, TokenBook, hashes_of, read_token, token_message
from tests.transaction_log import BEGIN, END, HOUR, MINUTE, SECOND, Outcome, TxLog, charge, log_of, run_all

from .test_running_cost import cashier

TOKEN: dict[str, str] = {
    "country_code": "NL", "party_id": "TNM", "uid": "04aB12", "type": "RFID", "contract_id": "NL8ACC12E46L89",
}  # fmt: skip
UPDATED = 1_767_312_000_000
SALT = "pepper"
HASH = sha256(b"pepper04AB12").hexdigest()  # the station writes capitals


def word(token: dict[str, str] = TOKEN, updated: int = UPDATED) -> dict[str, Any]:
    return token_message(token, updated, [SALT])


def charging(*told: tuple[int, dict[str, Any]], late: int = 0) -> TxLog:
    """Return an hour's charge with a token, and token messages at their times.

    `late`: its end comes then; until then the begin of the next transaction is taken for it.
    """
    log = log_of()
    log.tx(BEGIN, "Started", 500_000, seq=0, idTokenHash=HASH, idTokenType="ISO14443")
    charge(log)
    log.tx(END, "Ended", 510_000, seq=1, at=late or END)
    if late:
        log.tx(END + 10 * MINUTE, "Started", 510_500, tx="b", seq=0)
    else:
        log.status(END + SECOND, "Available")
    for t, body in told:
        log.messages.append((t, TOPIC, body))
    log.until(max(END, late) + HOUR)
    return log


def tokens(got: Outcome) -> list[dict[str, str]]:
    return [json.loads(row.body)["cdr_token"] for row in got.cdrs if row.transaction_id == "a"]


@pytest.mark.parametrize("when", [MINUTE, BEGIN + 30 * MINUTE])
def test_bill_and_session_carry_the_partners_token(when: int) -> None:
    frame = charging((when, word())).frame()
    got = run_all(frame, cashier=cashier())
    assert tokens(got) == [TOKEN]
    assert got.sessions[-1].body["cdr_token"] == TOKEN
    assert emsp_of(got.sessions[-1].body["cdr_token"]) == "NL*TNM"
    assert run_all(frame, cuts=(3, 8, 31, 60), restore=True, cashier=cashier()) == got


def test_it_is_as_it_was_when_the_session_started() -> None:
    later = word(TOKEN | {"contract_id": "NEW"}, UPDATED + 1)
    older = word(TOKEN | {"contract_id": "OLD"}, UPDATED - 1)
    got = run_all(
        charging((MINUTE, word()), (MINUTE + SECOND, older), (BEGIN + MINUTE, later)).frame(),
        cashier=cashier(),
    )
    assert [t["contract_id"] for t in tokens(got)] == ["NL8ACC12E46L89"]
    assert got.sessions[-1].body["cdr_token"]["contract_id"] == "NL8ACC12E46L89"


def test_a_correction_credits_whom_it_billed() -> None:
    log = charging((END + 20 * MINUTE, word()), late=END + 30 * MINUTE)
    first, credit, again = tokens(run_all(log.frame(), cashier=cashier()))
    assert first == credit == again
    assert (first["country_code"], first["uid"]) == ("DE", HASH[:36])
    known = charging((MINUTE, word()), late=END + 30 * MINUTE)
    assert tokens(run_all(known.frame(), cashier=cashier())) == [TOKEN] * 3


def test_hashes_are_what_stations_may_tell() -> None:
    assert HASH in hashes_of("04ab12", "", "RFID", [SALT])
    assert sha256(b"04aB12").hexdigest() in hashes_of("04aB12", "", "RFID", [])
    assert sha256(b"DE8AA").hexdigest() not in hashes_of("1", "DE8AA", "RFID", [])
    assert sha256(b"DE8AA").hexdigest() in hashes_of("1", "DE8AA", "EMAID", [])


@pytest.mark.parametrize(
    "change",
    [
        {"hashes": "x"}, {"hashes": [""]}, {"hashes": [1]}, {"last_updated": "1"}, {"token": None},
        {"token": TOKEN | {"party_id": "TOOLONG"}}, {"token": {"uid": "1"}},
    ],
)  # fmt: skip
def test_words_that_no_bill_could_carry_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read_token(word() | change)


def test_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner_tokens, "MOST", 4)
    book = TokenBook()
    for uid in ("1", "2", "3", "1", "4", "5"):
        book.take(read_token(token_message(TOKEN | {"uid": uid}, UPDATED, [])))
    held = [uid for uid in "12345" if book.find(hashes_of(uid, "", "RFID", [])[0])]
    assert held == ["1", "3", "4", "5"]
    assert TokenBook(book.snapshot()).find(hashes_of("5", "", "RFID", [])[0]) == TOKEN | {"uid": "5"}
    assert book.find("") is None

"""Payments at the right distance: what was pre-authorised, what a session costs of it, what was settled.

Payment systems tell us by operator messages (``_op/payment``) what they authorised and what they settled; we
match it to sessions by references, ask a station to stop before the amount is used up, and say where a
settlement does not fit its bill. Card data has no place here: a message that looks as if it held any is
refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from .billing_rows import PaymentRow
from .card_data import refuse_card_data
from .errors import DecodeError
from .outputs import Publish
from .topics import OPERATOR_SITE, ROOT

KIND: Final = "payment"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
COMMAND_TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/command"

AUTHORIZED: Final = "authorized"
RUNNING: Final = "running"
STOPPING: Final = "stopping"
BILLED: Final = "billed"
SETTLED: Final = "settled"
ENDED: Final = {"Settled": SETTLED, "Canceled": "canceled", "Rejected": "rejected", "Failed": "failed"}
STATES: Final = (AUTHORIZED, RUNNING, STOPPING, BILLED, *ENDED.values())

#: What happens to a payment.
AUTHORIZE: Final = "authorize"
SESSION: Final = "session"
STOP: Final = "stop"
BILL: Final = "bill"
SETTLE: Final = "settle"
EVENTS: Final = (AUTHORIZE, SESSION, STOP, BILL, SETTLE)
#: (state, event) -> state; total. ``settle`` ends in the state that the settlement names.
TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (AUTHORIZED, AUTHORIZE): AUTHORIZED,
    (AUTHORIZED, SESSION): RUNNING,
    (AUTHORIZED, STOP): STOPPING,
    (AUTHORIZED, BILL): BILLED,
    (RUNNING, AUTHORIZE): RUNNING,
    (RUNNING, SESSION): RUNNING,
    (RUNNING, STOP): STOPPING,
    (RUNNING, BILL): BILLED,
    (STOPPING, AUTHORIZE): RUNNING,  # a higher amount: the session may go on
    (STOPPING, SESSION): STOPPING,
    (STOPPING, STOP): STOPPING,
    (STOPPING, BILL): BILLED,
    (BILLED, AUTHORIZE): BILLED,
    (BILLED, SESSION): BILLED,
    (BILLED, STOP): BILLED,
    (BILLED, BILL): BILLED,
    **{(state, SETTLE): SETTLED for state in (AUTHORIZED, RUNNING, STOPPING, BILLED)},
    **{(state, event): state for state in ENDED.values() for event in EVENTS},
}

#: A session that begins this long before or after its authorisation, at the EVSE that it names, is its own.
EARLY_MS: Final = 5 * 60_000
LATER_MS: Final = 15 * 60_000
#: Share of the authorised amount at which the session is asked to stop, at the latest.
STOP_SHARE: Final = Decimal("0.95")
_STOP_EXPIRES_S: Final = 300
_KEEP_MS: Final = 8 * 86_400_000
_MOST: Final = 10_000


class PaymentWord(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment system says. `amount` is money in `currency`, exact."""

    action: str  # authorize, settle
    site: str
    authorization_reference: str
    amount: Decimal | None = None
    currency: str = ""
    station: str = ""
    evse: int | None = None
    transaction_id: str = ""
    token_type: str = ""
    token_hash: str = ""
    status: str = ""
    psp_reference: str = ""


def read_payment(body: Mapping[str, Any]) -> PaymentWord:
    """Return what the body of a payment message says.

    Raises
    ------
    DecodeError
        ``card_data`` if it holds any, ``payment`` if it is not complete.
    """
    refuse_card_data(body)
    known = {name: body[name] for name in PaymentWord.__struct_fields__ if body.get(name) is not None}
    if "amount" in known:
        known["amount"] = _amount(known["amount"])
    try:
        word = msgspec.convert(known, PaymentWord)
    except msgspec.ValidationError as error:
        raise DecodeError("payment", str(error)) from None
    for name in ("site", "authorization_reference"):
        if not 1 <= len(getattr(word, name)) <= 200:
            raise DecodeError("payment", f"{name}: expected 1 to 200 characters")
    if word.action not in (AUTHORIZE, SETTLE):
        raise DecodeError("payment", f"action {word.action!r}: expected authorize or settle")
    needs_amount = word.action == AUTHORIZE or word.status == "Settled"
    # a station's own settlement has no currency: it is that of its tariff
    plain = word.action == SETTLE and word.station and not word.currency
    if needs_amount and (word.amount is None or not (plain or re.fullmatch(r"[A-Z]{3}", word.currency))):
        raise DecodeError("payment", "amount and currency (ISO 4217) are needed")
    if word.action == AUTHORIZE and not word.station:
        raise DecodeError("payment", "station is needed: where the session is, or will begin")
    if word.action == SETTLE and word.status not in ENDED:
        raise DecodeError("payment", f"status {word.status!r}: expected one of {', '.join(ENDED)}")
    return word


def _amount(value: Any) -> Decimal:
    """Return an amount of money; it is exact as text, and as the number that JSON wrote."""
    try:
        amount = Decimal(str(value)) if isinstance(value, str | int | float | Decimal) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= 1_000_000:
        raise DecodeError("payment", "amount: expected money from 0 to 1000000, as text such as '40.00'")
    return amount


class Payment(msgspec.Struct, kw_only=True):
    """One payment as it is known; amounts are decimal text."""

    site: str
    reference: str
    state: str = AUTHORIZED
    change: int = 0
    station: str = ""
    evse: int | None = None
    transaction_id: str = ""
    token_type: str = ""
    token_hash: str = ""
    currency: str = ""
    authorized: str | None = None
    cost: str | None = None
    settled: str | None = None
    psp_reference: str = ""
    problem: str = ""
    authorized_ms: int | None = None
    stop_asked_ms: int | None = None
    settled_ms: int | None = None

    def row(self, now_ms: int) -> PaymentRow:
        """Return the record of another change."""
        self.change += 1
        return PaymentRow(
            site=self.site, authorization_reference=self.reference, change=self.change, state=self.state,
            station=self.station, evse=self.evse, transaction_id=self.transaction_id,
            token_type=self.token_type, token_hash=self.token_hash, currency=self.currency,
            authorized=self.authorized, cost=self.cost, settled=self.settled,
            psp_reference=self.psp_reference, problem=self.problem, authorized_ms=self.authorized_ms,
            stop_asked_ms=self.stop_asked_ms, settled_ms=self.settled_ms, changed_ms=now_ms,
        )  # fmt: skip

    def goes(self, event: str) -> None:
        """Let something happen to it."""
        self.state = TRANSITIONS[self.state, event]

    def fits(self, site: str, station: str, evse: int | None, tx_id: str, token: str, start_ms: int) -> bool:
        """Return whether a session is the one that this was authorised for."""
        if (self.site, self.station) != (site, station) or self.state != AUTHORIZED:
            return False
        if self.transaction_id:
            return self.transaction_id == tx_id
        since = start_ms - (self.authorized_ms or 0)
        near = -EARLY_MS <= since <= LATER_MS
        if self.token_hash:
            return near and self.token_hash == token
        return near and self.evse is not None and self.evse == evse


class PaymentBook:
    """The payments of one shard."""

    def __init__(self, resume_state: list[bytes] | None = None) -> None:
        found = [msgspec.msgpack.decode(data, type=Payment) for data in resume_state or []]
        self._all: dict[tuple[str, str], Payment] = {(p.site, p.reference): p for p in found}
        self.rows: list[PaymentRow] = []
        self.publishes: list[Publish] = []

    def snapshot(self) -> list[bytes]:
        """Return plain data."""
        return [msgspec.msgpack.encode(payment) for payment in self._all.values()]

    def take(self, word: PaymentWord, now_ms: int) -> Payment:
        """Take in what a payment system says; a word that comes twice changes nothing.

        What is settled under a reference that nobody authorised belongs to the payment of its transaction.
        """
        key = (word.site, word.authorization_reference)
        payment = self._all.get(key)
        if payment is None and word.action == SETTLE and word.transaction_id:
            payment = next((p for p in self._all.values() if _of_transaction(p, word)), None)
        if payment is None:
            self._prune(now_ms)
            payment = self._all[key] = Payment(site=word.site, reference=word.authorization_reference)
        before = msgspec.structs.asdict(payment)
        if word.action == AUTHORIZE:
            self._authorize(payment, word, now_ms)
        elif payment.state not in ENDED.values():
            self._settle(payment, word, now_ms)
        if msgspec.structs.asdict(payment) != before:
            self.rows.append(payment.row(now_ms))
        return payment

    def _authorize(self, payment: Payment, word: PaymentWord, now_ms: int) -> None:
        assert word.amount is not None
        if payment.authorized is not None and Decimal(payment.authorized) >= word.amount:
            return
        payment.goes(AUTHORIZE)
        payment.authorized, payment.currency = f"{word.amount:f}", word.currency
        payment.station = payment.station or word.station
        payment.evse = word.evse if payment.evse is None else payment.evse
        payment.transaction_id = payment.transaction_id or word.transaction_id
        payment.token_type = payment.token_type or word.token_type
        payment.token_hash = payment.token_hash or word.token_hash
        payment.authorized_ms = payment.authorized_ms or now_ms
        payment.stop_asked_ms = None

    def _settle(self, payment: Payment, word: PaymentWord, now_ms: int) -> None:
        payment.goes(SETTLE)
        payment.state = ENDED[word.status]
        payment.settled = None if word.amount is None else f"{word.amount:f}"
        payment.psp_reference, payment.settled_ms = word.psp_reference, now_ms
        payment.currency = payment.currency or word.currency
        payment.station = payment.station or word.station
        payment.transaction_id = payment.transaction_id or word.transaction_id
        payment.problem = _unfit(payment, word)

    def match(
        self, site: str, station: str, evse: int | None, tx_id: str, token: str, start_ms: int, now_ms: int
    ) -> str:
        """Return the reference of the payment that a session was authorised with, empty if there is none."""
        for payment in self._all.values():
            if payment.fits(site, station, evse, tx_id, token, start_ms):
                payment.goes(SESSION)
                payment.transaction_id, payment.evse = tx_id, evse
                self.rows.append(payment.row(now_ms))
                return payment.reference
        return ""

    def adopt(self, word: PaymentWord, token: str, gross: str | None, currency: str, now_ms: int) -> str:
        """Return the reference of the payment that a transaction was settled with, and note its bill."""
        payment = self._all.get((word.site, word.authorization_reference))
        if payment is None:
            return ""
        before = msgspec.structs.asdict(payment)
        payment.token_hash = payment.token_hash or token
        payment.currency = payment.currency or currency
        if gross is not None:
            payment.cost = gross
            payment.problem = _differs(payment) if payment.state == SETTLED else payment.problem
        if msgspec.structs.asdict(payment) != before:
            self.rows.append(payment.row(now_ms))
        return payment.reference

    def spent(self, site: str, reference: str, gross: str, currency: str, now_ms: int) -> None:
        """Note what a running session has cost; ask it to stop before its authorised amount is used up.

        It is asked when 95 % are used, or when the next two steps like the last one would use up the amount;
        and again while it goes on, each time that the last request has expired.
        """
        payment = self._all.get((site, reference))
        if payment is None or payment.authorized is None:
            return
        if payment.currency != currency:
            problem = f"costs {currency}, authorised in {payment.currency}: it is not stopped in time"
            if payment.problem != problem:
                payment.problem = problem
                self.rows.append(payment.row(now_ms))
            return
        cost, limit = Decimal(gross), Decimal(payment.authorized)
        step = max(Decimal(0), cost - Decimal(payment.cost or gross))
        payment.cost = gross
        near = cost + 2 * step >= limit or cost >= STOP_SHARE * limit
        asked = payment.stop_asked_ms
        waits = asked is not None and now_ms < asked + _STOP_EXPIRES_S * 1000
        if payment.state not in (RUNNING, STOPPING) or waits or not near:
            return
        payment.goes(STOP)
        payment.stop_asked_ms = now_ms
        self.rows.append(payment.row(now_ms))
        self.publishes.append(_stop_command(payment, now_ms))

    def billed(self, site: str, reference: str, gross: str, currency: str, now_ms: int) -> None:
        """Note the bill of a session; it says so where it is more than was authorised."""
        payment = self._all.get((site, reference))
        if payment is None:
            return
        payment.goes(BILL)
        payment.cost = gross
        if currency != payment.currency:
            payment.problem = f"billed in {currency}, authorised in {payment.currency}"
        elif payment.settled is not None:
            payment.problem = _differs(payment)
        elif payment.authorized is not None and Decimal(gross) > Decimal(payment.authorized):
            payment.problem = f"billed {gross}, authorised only {payment.authorized}"
        self.rows.append(payment.row(now_ms))

    def _prune(self, now_ms: int) -> None:
        if len(self._all) % 64 and len(self._all) < _MOST:
            return
        old = [
            key
            for key, p in self._all.items()
            if now_ms - (p.settled_ms or p.authorized_ms or 0) > _KEEP_MS
            and p.state not in (RUNNING, STOPPING)
        ]
        for key in old + list(self._all)[: max(0, len(self._all) - len(old) - _MOST)]:
            self._all.pop(key, None)


def _of_transaction(payment: Payment, word: PaymentWord) -> bool:
    """Return whether a payment is that of the transaction which a settlement names."""
    place = (payment.site, payment.station, payment.transaction_id)
    return place == (word.site, word.station or payment.station, word.transaction_id)


def _unfit(payment: Payment, word: PaymentWord) -> str:
    """Return what does not fit about a settlement."""
    if word.status != "Settled":
        return f"not paid: {word.status.lower()}" if payment.cost else ""
    if payment.authorized is None:
        return "settled without an authorisation that we know"
    if word.currency and word.currency != payment.currency:
        return f"settled in {word.currency}, authorised in {payment.currency}"
    return _differs(payment)


def _differs(payment: Payment) -> str:
    settled = Decimal(payment.settled or 0)
    if payment.authorized is not None and settled > Decimal(payment.authorized):
        return f"settled {payment.settled}, authorised only {payment.authorized}"
    if payment.cost is None:
        return "settled, but no session is known"
    if payment.state == SETTLED and settled != Decimal(payment.cost):
        return f"settled {payment.settled}, the session costs {payment.cost}"
    return ""


def _stop_command(payment: Payment, now_ms: int) -> Publish:
    """Return the operator's message that asks for the end of a session; it is journaled like every other."""
    body = {
        "v": 1,
        "id": f"payment/{payment.reference}/{now_ms}",
        "site": payment.site,
        "station": payment.station,
        "evse": payment.evse,
        "command": "RequestStopTransaction",
        "body": {"transactionId": payment.transaction_id},
        "by": "payment",
        "priority": 1,
        "expires_s": _STOP_EXPIRES_S,
        "reason": f"{payment.cost} of {payment.authorized} {payment.currency} are used",
    }
    return Publish(topic=COMMAND_TOPIC, payload=msgspec.json.encode(body))

"""Bills of transactions through the book: priced once, corrected by a credit, in doubt without a price."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.batch import DECODED, TICK, TX, MessageColumns, ReadingBatch
from models.billing_rows import CostRow, PaymentRow
from models.cashier import BillingPlan, Cashier, Place
from models.devices import DeviceTable
from models.dynamic import Succession
from models.ocpi_objects import session_of
from models.outputs import CdrRow, Publish, SessionRow
from models.records import Operator, Origin, Transaction
from models.tariffs import read
from models.transactions import TransactionBook, TransactionConfig
from models.units import NS_PER_MS, NS_PER_S

T0 = 1_790_000_100 * NS_PER_S
HOUR = 3600 * NS_PER_S

TARIFF: dict[str, Any] = {
    "country_code": "DE", "party_id": "ALL", "id": "16", "currency": "EUR",
    "elements": [{"price_components": [{"type": "ENERGY", "price": 0.25, "vat": 10, "step_size": 1}]}],
    "last_updated": "2026-01-01T00:00:00Z",
}  # fmt: skip


def plan(tariff: dict[str, Any]) -> BillingPlan:
    place = Place(Succession([read(tariff)], "UTC"), "", "", "", "DEU", "", "0.00000", "0.00000")
    return BillingPlan("DE", "CHS", default=place)


class Shop:
    """A transaction book with one EVSE, fed message by message."""

    def __init__(self, tariff: dict[str, Any]) -> None:
        self.devices = DeviceTable()
        site = self.devices.site("site")
        self.node = self.devices.node(site, "cp1")
        self.station = self.devices.station(site, "cp1", self.node)
        self.evse = self.devices.evse(self.station, 1, self.node)
        self.cashier = Cashier(plan(tariff))
        self.book = TransactionBook(TransactionConfig(), None, self.cashier)
        self.order = 0
        self.sessions: list[SessionRow] = []
        self.cdrs: list[CdrRow] = []
        self.costs: list[CostRow] = []
        self.payments: list[PaymentRow] = []
        self.publishes: list[Publish] = []

    def feed(self, effect_ns: int, record: Transaction | Operator | None) -> None:
        wide = np.zeros(1, np.int64)
        columns = MessageColumns(
            np.array([self.order]), wide, wide, np.zeros(1, np.int32),
            np.array([TICK if record is None else TX], np.uint8), wide, wide, np.ones(1, np.uint8),
            np.array([DECODED], np.uint8), wide, np.array([effect_ns]),
        )  # fmt: skip
        empty = ReadingBatch.empty()
        records: list[Any] = [] if record is None else [record]
        self.sessions += self.book.process(empty, empty, columns, records, self.devices)
        taken = self.book.taken()
        self.cdrs += taken.cdrs
        self.costs += taken.costs
        self.payments += taken.payments
        self.publishes += taken.publishes
        # every step through a saved state
        self.book = TransactionBook(TransactionConfig(), self.book.snapshot(), self.cashier)
        self.order += 1

    def tell(self, at_ns: int, event: str, seq: int, reg_mwh: int, effect_ns: int | None = None) -> None:
        effect = at_ns if effect_ns is None else effect_ns
        origin = Origin(
            order=self.order, pos=self.order, recv_ns=effect, effect_ns=effect, node_row=self.node
        )
        self.feed(
            effect,
            Transaction(
                at=origin, station_row=self.station, evse_row=self.evse, conn=1, time_ns=at_ns,
                time_reported_ns=at_ns, tx_id="t1", seq_no=seq, event_type=event, reg_mwh=reg_mwh,
                charging_state="Charging",
            ),
        )  # fmt: skip

    def tick(self, at_ns: int) -> None:
        self.feed(at_ns, None)


def test_a_complete_transaction_is_billed_once() -> None:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    assert shop.cdrs == []  # readings around the end may still come
    for minutes in (3, 4, 5):
        shop.tick(T0 + HOUR + minutes * 60 * NS_PER_S)
    [cdr] = shop.cdrs
    body = json.loads(cdr.body)
    assert body["total_energy"] == 10
    assert body["total_cost"] == {"excl_vat": 2.5, "incl_vat": 2.75}
    last = shop.sessions[-1]
    assert (last.state, last.energy_mwh, last.flags) == ("complete", 10_000_000, ())
    assert last.body["price"]["total_incl_exact"] == "2.75"
    assert last.body["cdr_ids"] == [cdr.id]


def test_a_late_end_is_credited_and_billed_anew() -> None:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 2, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    # the message before the end was missing; it changes nothing that is billed
    shop.tell(T0 + HOUR // 2, "Updated", 1, 1_005_000_000, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR + NS_PER_S)
    states = [(row.state, row.flags) for row in shop.sessions[1:]]
    assert states == [("complete", ("seq_gap",)), ("complete", ("late",))]
    assert len(shop.cdrs) == 1


def test_a_session_without_a_price_goes_to_review() -> None:
    spot = json.loads(Path("tests/golden/pricing/spot.json").read_text()) | {"fallback": []}
    shop = Shop(spot)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    assert shop.cdrs == []
    last = shop.sessions[-1]
    assert last.state == "review"
    assert last.body["reasons"] == ["no price"]
    assert "price" in last.body["decisions"][-1]["error"]


@pytest.mark.parametrize("energy", [12_000_000, 7_000_000])
def test_a_decision_is_billed_as_decided(energy: int) -> None:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    book = shop.book
    tx = next(iter(book._all.values()))
    tx.decision = {"decision": "bill", "energy_mwh": energy, "reason": "checked", "by": "ana", "at": 1}
    book._look_later(next(iter(book._all)), tx, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR)
    assert [cdr.credit for cdr in shop.cdrs] == [False, True, False]
    credit, new = (json.loads(cdr.body) for cdr in shop.cdrs[1:])
    assert credit["credit_reference_id"] == shop.cdrs[0].id
    assert credit["total_cost"]["excl_vat"] == -2.5
    assert new["total_energy"] == energy / 1_000_000
    assert shop.cdrs[2].last_updated_ms == (T0 + 2 * HOUR) // NS_PER_MS


def test_a_bill_that_is_discarded_later_is_credited() -> None:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    book = shop.book
    key, tx = next(iter(book._all.items()))
    tx.decision = {"decision": "discard", "energy_mwh": None, "reason": "a test", "by": "ana", "at": 1}
    book._look_later(key, tx, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR)
    assert [(cdr.credit, cdr.credit_reference_id) for cdr in shop.cdrs] == [
        (False, None), (True, shop.cdrs[0].id),
    ]  # fmt: skip
    assert json.loads(shop.cdrs[1].body)["total_cost"] == {"excl_vat": -2.5, "incl_vat": -2.75}
    assert (shop.sessions[-1].energy_mwh, shop.sessions[-1].body["cdr_ids"]) == (0, [shop.cdrs[1].id])


def test_a_decided_session_that_named_no_evse_is_billed() -> None:
    shop = Shop(TARIFF)
    shop.evse = -1
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    assert shop.sessions[-1].state == "review"
    at = Origin(order=shop.order, pos=shop.order, recv_ns=T0, effect_ns=T0 + 2 * HOUR, node_row=-1)
    body = {"site": "site", "station": "cp1", "transaction_id": "t1", "decision": "bill", "by": "ana"}
    shop.feed(T0 + 2 * HOUR, Operator(at=at, topic="review", body=body | {"reason": "seen"}))
    [cdr] = shop.cdrs
    assert json.loads(cdr.body)["cdr_location"]["connector_power_type"] == "AC_3_PHASE"
    assert json.loads(cdr.body)["total_energy"] == 10


def test_partners_see_whose_session_it_is_and_what_it_cost() -> None:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    token = shop.sessions[-1].body["cdr_token"]
    assert (token["country_code"], token["party_id"], token["type"]) == ("DE", "CHS", "OTHER")
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 180 * NS_PER_S)
    body = shop.sessions[-1].body
    assert body["total_cost"] == {"excl_vat": "2.50", "incl_vat": "2.75"}
    row = msgspec.structs.asdict(shop.sessions[-1])
    session = session_of(row, "DE", "CHS", "USD")
    assert session is not None
    assert session["total_cost"] == {"excl_vat": Decimal("2.5"), "incl_vat": Decimal("2.75")}
    assert (session["currency"], session["cdr_token"]) == ("EUR", token)

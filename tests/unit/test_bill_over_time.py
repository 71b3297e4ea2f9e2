"""Bills when tariffs, addresses and programs change after them: a credit takes back exactly what was sent."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from models.cashier import BillingPlan, Cashier, Place, sale_of
from models.dynamic import Succession
from models.tariffs import TariffError, read
from models.tariffs.ocpi import cautions
from models.transactions import TransactionBook, TransactionConfig
from models.units import NS_PER_S

from .pricing_builders import component, element, tariff
from .test_cashier import HOUR, T0, TARIFF, Shop

MINUTE = 60 * NS_PER_S
START_MS = T0 // 1_000_000


def dearer() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(TARIFF))
    data["elements"][0]["price_components"][0]["price"] = 0.75
    return data


def place(*tariffs: dict[str, Any], city: str = "") -> Place:
    known = Succession([read(t) for t in tariffs], "UTC")
    return Place(known, "", "", city, "DEU", "", "0.00000", "0.00000")


def restarted(shop: Shop, *tariffs: dict[str, Any], city: str = "") -> None:
    """Start again from the saved state with another configuration."""
    shop.cashier = Cashier(BillingPlan("DE", "CHS", default=place(*tariffs, city=city)))
    shop.book = TransactionBook(TransactionConfig(), shop.book.snapshot(), shop.cashier)


def billed() -> Shop:
    shop = Shop(TARIFF)
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 2, 1_010_000_000)
    shop.tick(T0 + HOUR + 3 * MINUTE)
    assert len(shop.cdrs) == 1
    return shop


def decide(shop: Shop, decision: str, energy: int | None) -> None:
    key, tx = next(iter(shop.book._all.items()))
    tx.decision = {"decision": decision, "energy_mwh": energy, "reason": "seen", "by": "ana", "at": 1}
    shop.book._look_later(key, tx, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR)


def contradicted(shop: Shop) -> None:
    """Let a second begin, of which nobody knew, come late; and a person say what is to be billed."""
    shop.tell(T0 - MINUTE, "Started", 1, 1_000_000_000, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR + 3 * MINUTE)


@pytest.mark.parametrize("decision", ["bill", "discard"])
def test_a_credit_is_the_bill_that_was_sent_whatever_the_prices_are_now(decision: str) -> None:
    shop = billed()
    restarted(shop, dearer(), city="Ulm")
    decide(shop, decision, 12_000_000 if decision == "bill" else None)
    sent, credit = (json.loads(cdr.body) for cdr in shop.cdrs[:2])
    assert credit.pop("credit") is True
    assert credit.pop("credit_reference_id") == sent["id"]
    assert credit.pop("total_cost") == {"excl_vat": -2.5, "incl_vat": -2.75}
    for name in ("id", "last_updated"):
        assert credit.pop(name) != sent.pop(name)
    sent.pop("total_cost")
    assert credit == sent
    new = [json.loads(cdr.body)["total_cost"]["excl_vat"] for cdr in shop.cdrs[2:]]
    assert new == ([9] if decision == "bill" else [])  # 12 kWh x 0.75, as a person decided


def test_nothing_is_priced_anew_under_a_tariff_that_was_changed() -> None:
    shop = billed()
    restarted(shop, dearer())
    contradicted(shop)
    assert len(shop.cdrs) == 1
    last = shop.sessions[-1]
    assert (last.state, last.body["reasons"]) == ("review", ["no price"])
    assert "tariff version" in last.body["decisions"][-1]["error"]


def test_a_tariff_beside_the_old_one_leaves_old_sessions_theirs() -> None:
    shop = billed()
    later = dearer() | {"start_date_time": "2026-10-01T00:00:00Z"}
    ending = TARIFF | {"end_date_time": "2026-10-01T00:00:00Z"}
    assert T0 // NS_PER_S < 1_790_812_800  # 1 October 2026
    restarted(shop, ending, later)
    shop.tell(T0 + 200 * 24 * HOUR, "Started", 0, 2_000_000_000)
    assert len(shop.cdrs) == 1
    known = Succession([read(ending), read(later)], "UTC")
    prices = [
        known.at(ms).tariff.elements[0].price_components[0].price for ms in (START_MS, 1_790_812_800_000)
    ]
    assert prices == [Decimal("0.25"), Decimal("0.75")]


def test_an_address_that_changed_is_no_reason_for_a_credit() -> None:
    shop = billed()
    restarted(shop, TARIFF, city="Ulm")
    shop.tell(T0 + HOUR // 2, "Updated", 1, 1_005_000_000, T0 + 2 * HOUR)
    shop.tick(T0 + 2 * HOUR + NS_PER_S)
    assert shop.sessions[-1].revision > 2
    assert len(shop.cdrs) == 1


def test_before_the_first_tariff_nothing_is_billed() -> None:
    shop = Shop(TARIFF | {"start_date_time": "2027-01-01T00:00:00Z"})
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 3 * MINUTE)
    assert shop.cdrs == []
    assert "no tariff was valid at 2026-09-21" in shop.sessions[-1].body["decisions"][-1]["error"]


def test_kinds_of_our_own_may_have_dates() -> None:
    spot = {"kind": "spot", "currency": "EUR", "fallback": ["fixed"], "fixed": 0.4}
    known = Succession(
        [read(spot | {"id": "A", "end_date_time": "2026-10-01T00:00:00Z"}), read(spot | {"id": "B"})], "UTC"
    )
    assert [known.at(ms).tariff.id for ms in (START_MS, 1_790_812_800_000)] == ["A", "B"]
    with pytest.raises(TariffError, match="at least one"):
        Succession([], "UTC")


def test_a_state_of_before_bills_were_kept_is_credited_too() -> None:
    shop = billed()
    key, tx = next(iter(shop.book._all.items()))
    points = [(START_MS + 3_600_000, 1_010_000_000)]
    body = dict(shop.sessions[-1].body) | {"held": []}
    from models._tx_billing import connector_of

    hardware = connector_of(shop.devices, shop.evse)
    sale = sale_of(body, 1_000_000_000, 1_010_000_000, 10_000_000, points, hardware, tx.revision, 1)
    tx.billed = msgspec.msgpack.encode(sale)
    shop.book._dirty.add(key)
    decide(shop, "discard", None)
    assert json.loads(shop.cdrs[1].body)["total_cost"] == {"excl_vat": -2.5, "incl_vat": -2.75}
    assert shop.cdrs[1].credit_reference_id == shop.cdrs[0].id


def test_a_tariff_by_current_is_not_guessed() -> None:
    shop = Shop(
        tariff(element(component("ENERGY", "0.4"), max_current=32), element(component("ENERGY", "1")))
    )
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 3 * MINUTE)
    assert "depends on current" in shop.sessions[-1].body["decisions"][-1]["error"]
    given: Any = read(tariff(element(component("ENERGY", "1"), max_current=32, reservation="RESERVATION"),
                             element(component("TIME", "1"), start_time="22:00", end_time="06:00",
                                     day_of_week=["FRIDAY"]), min_price={"before_taxes": 1}))  # fmt: skip
    assert [words.split()[0] for words in cautions(given)] == [
        "min_price", "elements.0", "elements.0", "elements.1:"
    ]  # fmt: skip
    assert cautions(read(tariff(element(component("ENERGY", "1"))))) == []


def test_a_price_of_alternating_current_holds_at_such_a_station() -> None:
    shop = Shop({"tariffId": "T", "currency": "EUR", "energy": {"prices": [
        {"priceKwh": 0.79, "conditions": {"evseKind": "DC"}},
        {"priceKwh": 0.49, "conditions": {"evseKind": "AC"}}]}})  # fmt: skip
    shop.tell(T0, "Started", 0, 1_000_000_000)
    shop.tell(T0 + HOUR, "Ended", 1, 1_010_000_000)
    shop.tick(T0 + HOUR + 3 * MINUTE)
    assert shop.sessions[-1].body["price"]["total_excl"] == "4.90"

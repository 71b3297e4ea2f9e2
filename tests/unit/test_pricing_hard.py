"""Hard cases, worked out on paper from the rules: the program is held against them, not they against it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from models.pricing import Price, compile_tariff, price
from models.pricing_cases import read_case
from models.rating import Transaction, rate
from models.tariffs import loads, read
from models.tariffs._ocpi_types import read_time

GOLDEN = Path(__file__).parent.parent / "golden" / "pricing"
CASES = loads((GOLDEN / "hard_cases.json").read_text())["cases"]
TRANSACTIONS = loads((GOLDEN / "hard_transactions.json").read_text())["cases"]


def ms(time: str) -> int:
    return int(read_time(time).timestamp() * 1000)


def check(case: dict[str, Any], made: Price) -> None:
    shown = made.to_json()
    expected = {k: v for k, v in case["expected"].items() if k != "by_dimension_excl_incl"}
    assert {k: shown[k] for k in expected} == expected, case["why"]
    if "by_dimension_excl_incl" in case["expected"]:
        assert shown["by_dimension"] == case["expected"]["by_dimension_excl_incl"], case["why"]
    for side in ("excl", "incl"):
        lines = [line.get(f"{side}_fraction", line[side]) for line in shown["lines"]]
        assert sum(map(Fraction, lines)) == Fraction(shown[f"total_{side}_fraction"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["id"]))
def test_charging_periods(case: dict[str, Any]) -> None:
    prepared = read_case(case, lambda _: None)
    check(case, price(prepared.tariff, prepared.session))
    assert prepared.remarks == []


@pytest.mark.parametrize("case", TRANSACTIONS, ids=lambda case: str(case["id"]))
def test_transactions(case: dict[str, Any]) -> None:
    readings = [(ms(time), int(Decimal(str(kwh)) * 1_000_000)) for time, kwh in case["readings"]]
    transaction = Transaction(
        start_ms=readings[0][0],
        end_ms=readings[-1][0],
        readings=readings,
        spans=[(ms(time), activity) for time, activity in case.get("spans", [])],
        current_a=[(ms(time), Decimal(amps)) for time, amps in case.get("current_a", [])],
        evse_kind=case.get("evse_kind"),
    )
    tariff = compile_tariff(read(case["tariff"]), case["time_zone"])
    check(case, rate(transaction, tariff).price)


def test_the_price_on_the_bill_is_the_price_that_was_used() -> None:
    case = next(c for c in CASES if c["id"] == "eight-decimals-three-times")
    prepared = read_case(case, lambda _: None)
    line = price(prepared.tariff, prepared.session).to_json()["lines"][0]
    assert line["price"] == "0.12345678"
    assert Fraction(line["excl_fraction"]) == Fraction("0.12345678")

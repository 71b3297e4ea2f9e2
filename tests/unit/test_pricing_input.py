"""What is read to be priced: which tariff applies, exact volumes, clear errors, the command."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from models.pricing import compile_tariff, price
from models.pricing_cases import read_case, read_cdr
from models.tariffs import TariffError, read

from .pricing_builders import DAY, HOUR, component, element, period, priced, tariff

GOLDEN = Path(__file__).parent.parent / "golden" / "pricing"


def test_the_tariff_of_the_start_applies() -> None:
    old = tariff(element(component("ENERGY", "1")), end_date_time=HOUR)
    new = tariff(element(component("ENERGY", "2")), start_date_time=HOUR)
    case = {"tariff": [old, new], "charging_periods": [period(HOUR, 60, ENERGY=1)]}
    prepared = read_case(case, lambda _: None)
    assert price(prepared.tariff, prepared.session).net == 2
    with pytest.raises(TariffError, match="no tariff was valid at 2026-03-10T10:00:00Z"):
        read_case({**case, "tariff": old}, lambda _: None)


def test_fine_volumes_stay_exact() -> None:
    given = tariff(element(component("ENERGY", "0.1", 1, "7.7")))
    made = priced(given, period(HOUR, 60, ENERGY="20.450000000000003"))
    assert made.net == Fraction("2.0451")  # whole Wh are billed
    flat = tariff(element(component("TIME", "1", 1)))
    assert priced(flat, period(HOUR, 100, TIME=0.0278)).net == Fraction(100, 3600)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"charging_periods": []}, "at least one"),
        ({"charging_periods": [{"dimensions": []}]}, "start_date_time is missing"),
        ({"charging_periods": [period("yesterday", 1, ENERGY=1)]}, "'yesterday' is not a date"),
        ({"charging_periods": [period(HOUR, 60, TIME=-1)]}, "no negative time"),
        (
            {"charging_periods": [period(f"{DAY}11:00:00Z", 60, ENERGY=1), period(HOUR, 60, ENERGY=1)]},
            "ends before",
        ),
        ({"reservation_outcome": "perhaps"}, "expected used or expired"),
        ({"time_zone": "Berlin"}, "IANA name"),
        ({"currency": "USD"}, "currency is USD"),
        ({"tariff": {"id": "x"}}, "no tariff: fields"),
        ({"tariff": tariff(element(component("WATER", "1")))}, "elements.0.price_components.0.type"),
        ({"tariff": tariff()}, "elements"),
        ({"tariff": tariff(element(component("ENERGY", "NaN")))}, "not a finite number"),
        ({"tariff": tariff(element(component("ENERGY", "1"), start_time="24:00"))}, "start_time"),
    ],
)
def test_what_cannot_be_priced_says_why(change: dict[str, Any], words: str) -> None:
    case = {
        "id": "x",
        "tariff": tariff(element(component("ENERGY", "1"))),
        "charging_periods": [period(HOUR, 60, ENERGY=1)],
    }
    with pytest.raises(TariffError, match=words):
        read_case(case | change, lambda _: None)


def test_the_command_prints_a_line_a_case(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from pipeline import cli

    assert cli.main(["price", "--case", str(GOLDEN / "cases.json")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == ["evening-and-parking", "minimum"]
    assert cli.main(["price", "--case", str(GOLDEN / "cases.json"), "--case-id", "minimum"]) == 0
    (only,) = capsys.readouterr().out.splitlines()
    assert json.loads(only)["limited"] == {"net": "min_price", "gross": "min_price"}
    assert cli.main(["price", "--case", str(GOLDEN / "cases.json"), "--case-id", "none"]) == 2
    assert "there are evening-and-parking, minimum" in capsys.readouterr().err
    bad = tmp_path / "cases.json"
    bad.write_text('{"cases": [{"id": "bad", "tariff": {}}]}')
    assert cli.main(["price", "--case", str(bad)]) == 1
    assert json.loads(capsys.readouterr().out)["error"].startswith("no tariff")


def test_a_compiled_tariff_needs_a_time_zone_that_exists() -> None:
    given = read(tariff(element(component("ENERGY", "1"))))
    with pytest.raises(TariffError, match="IANA"):
        compile_tariff(given, "Nowhere/Town")


def test_periods_that_cross_a_switch_are_priced_as_of_their_start_and_said_so() -> None:
    given = tariff(element(component("ENERGY", "1"), end_time="11:00"), element(component("ENERGY", "2")))
    case = {"tariff": given, "charging_periods": [period(f"{DAY}10:30:00Z", 3600, ENERGY=2)]}
    prepared = read_case(case, lambda _: None)
    assert price(prepared.tariff, prepared.session).net == 2
    assert "would be 3 instead of 2" in prepared.remarks[0]
    same = tariff(element(component("ENERGY", "1"), end_time="11:00"), element(component("ENERGY", "1")))
    assert read_case(case | {"tariff": same}, lambda _: None).remarks == []


def test_periods_are_cut_for_tariffs_of_ocpp() -> None:
    """22.4 kWh, idle 27 min of which 15 are free: 12.526, from periods that nobody cut."""
    given = {
        "tariffId": "O", "currency": "EUR",
        "fixedFee": {"prices": [{"priceFixed": Decimal("0.35")}]},
        "energy": {"prices": [{"priceKwh": Decimal("0.49"), "conditions": {"maxEnergy": 20000}},
                              {"priceKwh": Decimal("0.49")}]},
        "idleTime": {"prices": [{"priceMinute": Decimal("0.10"), "conditions": {"minIdleTime": 900}}]},
    }  # fmt: skip
    periods = [period(HOUR, 3600, ENERGY="22.4", TIME=1), period(f"{DAY}11:00:00Z", 1620, PARKING_TIME=0.45)]
    prepared = read_case({"tariff": given, "charging_periods": periods}, lambda _: None)
    made = price(prepared.tariff, prepared.session)
    assert made.net == Fraction("12.526")
    assert [line.billed for line in made.lines() if line.dimension == "energy"] == [20, Fraction("2.4")]


def cdr(*periods: dict[str, Any], tariffs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "C",
        "charging_periods": list(periods),
        "tariffs": tariffs,
        "end_date_time": f"{DAY}12:00:00Z",
    }


def test_a_cdr_names_the_tariff_of_each_period() -> None:
    one = tariff(element(component("ENERGY", "1")), id="ONE")
    two = tariff(element(component("ENERGY", "2")), id="TWO")
    first = period(HOUR, 1800, ENERGY=1) | {"tariff_id": "two"}
    free = period(f"{DAY}11:00:00Z", 1800, ENERGY=5)
    prepared = read_cdr(cdr(first, free, tariffs=[one, two]))
    assert price(prepared.tariff, prepared.session).net == 2
    with pytest.raises(TariffError, match="price its parts apart"):
        read_cdr(cdr(first, free | {"tariff_id": "ONE"}, tariffs=[one, two]))
    with pytest.raises(TariffError, match="which it does not carry"):
        read_cdr(cdr(first, tariffs=[one]))
    with pytest.raises(TariffError, match="carries no tariff"):
        read_cdr(cdr(first, tariffs=[]))

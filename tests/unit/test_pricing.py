"""Prices: the specification's own cases, every rule of steps, limits, tax and time, and laws of prices."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from models.pricing import Price, price
from models.pricing_cases import read_case, read_cdr
from models.tariffs import loads

from .pricing_builders import DAY, HOUR, component, element, net, period, priced, tariff

GOLDEN = Path(__file__).parent.parent / "golden" / "pricing"


def resolver(folder: Path) -> Any:
    def resolve(reference: str) -> Any:
        name, _, pointer = reference.partition("#")
        data = loads((folder / name).read_text())
        for part in pointer.split("/")[1:]:
            data = data[int(part)] if isinstance(data, list) else data[part]
        return data

    return resolve


def check(case: dict[str, Any], folder: Path) -> None:
    prepared = read_case(case, resolver(folder))
    shown = price(prepared.tariff, prepared.session).to_json()
    expected = {k: v for k, v in case["expected"].items() if k != "by_dimension_excl_incl"}
    assert {k: shown[k] for k in expected} == expected
    assert shown["by_dimension"] == case["expected"]["by_dimension_excl_incl"]
    for side in ("excl", "incl"):
        lines = sum(Decimal(line[side]) for line in shown["lines"])
        assert lines == Decimal(shown[f"total_{side}_exact"])


def test_every_case_of_the_data_folder(data_dir: Path) -> None:
    cases = loads((data_dir / "ocpi" / "cases.json").read_text())["cases"]
    for case in cases:
        check(case, data_dir / "ocpi")
    assert len(cases) >= 18


def test_our_own_cases() -> None:
    for case in loads((GOLDEN / "cases.json").read_text())["cases"]:
        check(case, GOLDEN)


@pytest.mark.parametrize(
    ("name", "net", "gross"),
    [
        ("025kwh_start", "5.5", "6.1"),
        ("multiple_flat_fees", "1", "1"),
        ("simple_3hour_5parking", "11.25", "12.75"),
        ("step_size", "0.55", "0.55"),  # stated 0.5502: 5 min written 0.0834 h
    ],
)
def test_cdrs_that_state_their_totals(data_dir: Path, name: str, net: str, gross: str) -> None:
    folder = data_dir / "ocpi" / "cdrs"
    cdr, tariff = (loads((folder / f"tandemdrive_{name}.{k}.json").read_text()) for k in ("cdr", "tariff"))
    prepared = read_cdr(cdr, [tariff])
    made = price(prepared.tariff, prepared.session).to_json()
    assert (made["total_excl_exact"], made["total_incl_exact"]) == (net, gross)
    assert bool(prepared.remarks) == (name == "step_size")


@pytest.mark.parametrize("version", ["2.2.1", "2.3.0"])
def test_the_cdr_of_the_specification_prices_to_its_own_total(data_dir: Path, version: str) -> None:
    prepared = read_cdr(loads((data_dir / "ocpi" / "cdrs" / f"ocpi-{version}_cdr_example.json").read_text()))
    made = price(prepared.tariff, prepared.session)
    assert both(made) == (4, Fraction(22, 5))


# --- rules, each on the smallest session that shows it ---------------------------------------------


def both(made: Price) -> tuple[Any, Any]:
    return made.net, made.gross


def test_step_one_bills_whole_watt_hours() -> None:
    """The specification's example: 115.2 Wh at 0.25 are billed as 116 Wh, as 125 Wh, as 500 Wh."""
    for step, expected in ((0, "0.029"), (1, "0.029"), (25, "0.03125"), (500, "0.125")):
        given = tariff(element(component("ENERGY", "0.25", step)))
        assert net(given, period(HOUR, 600, ENERGY="0.1152")) == Decimal(expected)


def test_steps_act_once_a_session_and_the_last_period_bears_them() -> None:
    given = tariff(
        element(component("ENERGY", "0.20", 1000), end_time="11:00"),
        element(component("ENERGY", "0.30", 500)),
    )
    made = priced(given, period(HOUR, 3600, ENERGY="1.3"), period(f"{DAY}11:00:00Z", 3600, ENERGY="0.9"))
    assert made.net == Fraction("0.26") + Fraction("1.2") * Fraction("0.3")  # 2.2 -> 2.5 kWh
    assert [line.billed for line in made.lines()] == [Fraction("1.3"), Fraction("1.2")]
    assert "step_size 500 Wh" in made.lines()[1].rule


def test_a_component_without_volume_is_not_the_last_one_used() -> None:
    given = tariff(
        element(component("ENERGY", "0.20", 500), end_time="11:00"), element(component("ENERGY", "9"))
    )
    assert net(given, period(HOUR, 3600, ENERGY="1.3"), period(f"{DAY}11:00:00Z", 60, ENERGY=0)) == Decimal(
        "0.3"
    )


def test_time_is_not_stepped_once_parking_was_priced() -> None:
    parking = element(component("PARKING_TIME", "6", 300))
    time = element(component("TIME", "3", 900))
    periods = period(HOUR, 600, TIME="0.1667"), period(f"{DAY}10:10:00Z", 60, PARKING_TIME="0.0167")
    assert net(tariff(time, parking), *periods) == Decimal("0.5") + Decimal("0.5")
    assert net(tariff(time), *periods) == Decimal("0.75")  # unpriced parking counts for nothing


def test_switching_to_free_parking_keeps_the_step_of_time() -> None:
    """The specification's third example of steps: 15 min at 2.40, the parking after 20:00 is free."""
    given = tariff(
        element(component("TIME", "2.40", 900), component("PARKING_TIME", "1", 900), end_time="20:00"),
        element(component("TIME", "2.40", 900), start_time="20:00", end_time="00:00"),
    )
    made = priced(
        given,
        period(f"{DAY}19:55:00Z", 300, TIME="0.0833"),
        period(f"{DAY}20:00:00Z", 300, TIME="0.0833"),
        period(f"{DAY}20:05:00Z", 120, PARKING_TIME="0.0333"),
    )
    assert made.net == Fraction("0.6")
    assert made.lines()[-1].rule == "no element has an active parking price at Tue 2026-03-10 20:05:00: free"


def test_first_element_in_list_order_wins_for_each_dimension() -> None:
    given = tariff(
        element(component("ENERGY", "0.10"), start_time="09:00", end_time="10:00"),
        element(component("ENERGY", "0.20"), component("PARKING_TIME", "1"), start_time="09:00"),
        element(component("ENERGY", "0.30"), component("TIME", "2")),
    )
    made = priced(given, period(HOUR, 3600, ENERGY=1, TIME=0.5, PARKING_TIME=0.5))
    assert [(line.dimension, line.element) for line in made.lines()] == [
        ("energy", 1), ("time", 2), ("parking", 1)
    ]  # fmt: skip


def test_flat_counts_once_and_the_first_active_one() -> None:
    given = tariff(element(component("FLAT", "2"), start_time="11:00"), element(component("FLAT", "1")))
    assert net(given, period(HOUR, 3600, ENERGY=1), period(f"{DAY}11:00:00Z", 3600, ENERGY=1)) == 1
    late = tariff(element(component("FLAT", "2"), start_time="11:00"))
    assert net(late, period(HOUR, 3600, ENERGY=1), period(f"{DAY}11:00:00Z", 3600, ENERGY=1)) == 2


@pytest.mark.parametrize(
    ("at", "restrictions", "active"),
    [
        ("23:30", {"start_time": "22:00", "end_time": "06:00"}, True),
        ("05:59", {"start_time": "22:00", "end_time": "06:00"}, True),
        ("06:00", {"start_time": "22:00", "end_time": "06:00"}, False),
        ("21:59", {"start_time": "22:00", "end_time": "06:00"}, False),
        ("23:59", {"start_time": "20:00", "end_time": "00:00"}, True),
        ("00:00", {"start_time": "20:00", "end_time": "00:00"}, False),
        ("12:00", {"start_time": "00:00", "end_time": "00:00"}, True),
        ("07:59", {"start_time": "08:00"}, False),
        ("08:00", {"start_time": "08:00"}, True),
        ("08:00", {"end_time": "08:00"}, False),
        ("12:00", {"end_time": "00:00"}, True),
        ("12:00", {"day_of_week": ["TUESDAY"]}, True),
        ("12:00", {"day_of_week": ["MONDAY", "WEDNESDAY"]}, False),
        ("12:00", {"start_date": "2026-03-10"}, True),
        ("12:00", {"start_date": "2026-03-11"}, False),
        ("12:00", {"end_date": "2026-03-10"}, False),
        ("12:00", {"end_date": "2026-03-11"}, True),
        ("01:00", {"start_time": "22:00", "end_time": "06:00", "day_of_week": ["MONDAY"]}, False),
    ],
)
def test_clock_and_calendar(at: str, restrictions: dict[str, Any], active: bool) -> None:
    given = tariff(element(component("ENERGY", "1"), **restrictions))
    assert net(given, period(f"{DAY}{at}:00Z", 60, ENERGY=1)) == (1 if active else 0)


@pytest.mark.parametrize(
    ("zone", "at", "active"),
    [
        ("Europe/Berlin", "2026-03-29T00:59:00Z", False),  # 01:59 CET
        ("Europe/Berlin", "2026-03-29T01:00:00Z", True),  # 03:00 CEST: 02:30 was left out
        ("Europe/Berlin", "2026-10-25T00:30:00Z", True),  # 02:30 CEST
        ("Europe/Berlin", "2026-10-25T01:00:00Z", False),  # 02:00 CET: the clock went back
        ("Europe/Berlin", "2026-10-25T01:30:00Z", True),  # 02:30 CET
        ("America/New_York", "2026-03-10T06:29:00Z", False),  # 02:29 EDT
        ("America/New_York", "2026-03-10T06:30:00Z", True),
        ("Asia/Kolkata", "2026-03-09T21:00:00Z", True),  # 02:30 of the 10th
    ],
)
def test_local_time_over_changes_of_the_clock(zone: str, at: str, active: bool) -> None:
    given = tariff(element(component("ENERGY", "1"), start_time="02:30", end_time="04:00"))
    assert net(given, period(at, 60, ENERGY=1), zone=zone) == (1 if active else 0)


def test_energy_and_duration_bounds_begin_inclusive_and_end_exclusive() -> None:
    """First kWh free, then 0.20; an hour's parking free, 2.00 to the third, then 3.00."""
    given = tariff(
        element(component("PARKING_TIME", "0", 60), max_duration=3600),
        element(component("PARKING_TIME", "2", 60), min_duration=3600, max_duration=10800),
        element(component("PARKING_TIME", "3", 60), min_duration=10800),
        element(component("ENERGY", "0"), max_kwh=1),
        element(component("ENERGY", "0.2"), min_kwh=1),
    )
    periods = (
        period(f"{DAY}10:00:00Z", 900, ENERGY=1),
        period(f"{DAY}10:15:00Z", 2700, ENERGY=19),
        period(f"{DAY}11:00:00Z", 7200, PARKING_TIME=2),
        period(f"{DAY}13:00:00Z", 2700, PARKING_TIME=0.75),
    )
    assert net(given, *periods) == Decimal("3.8") + 4 + Decimal("2.25")


@pytest.mark.parametrize(
    ("bands", "restrictions", "active"),
    [
        ({"MIN_CURRENT": 32, "MAX_CURRENT": 40}, {"min_current": 32}, True),
        ({"MIN_CURRENT": 31, "MAX_CURRENT": 40}, {"min_current": 32}, False),
        ({"MAX_CURRENT": 31}, {"min_current": 32}, False),
        ({"MAX_CURRENT": 32}, {"max_current": 32}, False),
        ({"MIN_CURRENT": 43}, {"max_current": 32}, False),
        ({"MAX_POWER": 15.9}, {"max_power": 16}, True),
        ({"MIN_POWER": 16, "MAX_POWER": 31.9}, {"min_power": 16, "max_power": 32}, True),
        ({}, {"max_power": 16}, True),  # nothing known contradicts it
    ],
)
def test_current_and_power_bands(bands: dict[str, Any], restrictions: dict[str, Any], active: bool) -> None:
    given = tariff(element(component("ENERGY", "1"), **restrictions))
    assert net(given, period(HOUR, 60, ENERGY=1, **bands)) == (1 if active else 0)


def test_tax_included_taken_out_and_none_added() -> None:
    inside = tariff(element(component("ENERGY", "0.595", vat="19")), tax_included="YES")
    made = priced(inside, period(HOUR, 60, ENERGY=10))
    assert both(made) == (5, Fraction("5.95"))
    odd = priced(tariff(element(component("ENERGY", "0.50", vat="19")), tax_included="YES"),
                 period(HOUR, 60, ENERGY=1))  # fmt: skip
    assert odd.net == Fraction(50, 119)
    assert odd.to_json()["total_excl_exact"] == "0.420168"
    assert odd.to_json()["total_excl_fraction"] == "50/119"
    without = tariff(element(component("ENERGY", "0.5", vat="19")), tax_included="N/A")
    assert priced(without, period(HOUR, 60, ENERGY=1)).gross == Fraction(1, 2)


def test_limits_act_on_net_and_gross_each_for_itself() -> None:
    given = tariff(element(component("ENERGY", "0.25", vat="10")), min_price={"before_taxes": 1},
                   max_price={"before_taxes": 5, "after_taxes": Decimal("5.25")})  # fmt: skip
    low = priced(given, period(HOUR, 60, ENERGY=1))
    assert both(low) == (1, Fraction("0.275"))  # no gross minimum: gross is not touched
    only_gross = priced(given, period(HOUR, 60, ENERGY=19.5))
    assert both(only_gross) == (Fraction("4.875"), Fraction("5.25"))
    assert only_gross.limited() == {"gross": "max_price"}
    assert only_gross.lines()[-1].dimension == "max_price"


def test_money_is_rounded_half_up_to_the_minor_unit() -> None:
    flat = element(component("FLAT", "0.125"))
    assert f"{priced(tariff(flat), period(HOUR, 60, ENERGY=1)).net_rounded:f}" == "0.13"
    assert f"{priced(tariff(flat, currency='KWD'), period(HOUR, 60, ENERGY=1)).net_rounded:f}" == "0.125"
    yen = tariff(element(component("FLAT", "10.5")), currency="JPY")
    assert f"{priced(yen, period(HOUR, 60, ENERGY=1)).net_rounded:f}" == "11"


RESERVED = [
    element(component("FLAT", "4", vat="20"), reservation="RESERVATION_EXPIRES"),
    element(component("TIME", "2", 600, vat="20"), reservation="RESERVATION"),
    element(component("FLAT", "0.5", vat="20"), component("ENERGY", "0.25", vat="10")),
]


def test_reservation_used_and_expired() -> None:
    """The specification's example with an expiry fee: 6.50/7.30 used after 22 min, 6.00/7.20 expired."""
    given = tariff(*RESERVED)
    wait = period(HOUR, 1320, RESERVATION_TIME=0.3667)
    used = priced(given, wait, period(f"{DAY}10:22:00Z", 3600, ENERGY=20), reservation_outcome="used")
    assert both(used) == (Fraction("6.5"), Fraction("7.3"))
    hour = period(HOUR, 3600, RESERVATION_TIME=1)
    expired = priced(given, hour, reservation_outcome="expired")
    assert both(expired) == (6, Fraction("7.2"))
    assert priced(given, hour).net == 6  # nothing but a reservation: it was not used


def test_reservation_fee_and_session_fee_both_count_when_used() -> None:
    given = tariff(
        element(component("FLAT", "2"), component("TIME", "5", 300), reservation="RESERVATION"), RESERVED[2]
    )
    made = priced(
        given, period(HOUR, 780, RESERVATION_TIME=0.2167), period(f"{DAY}10:13:00Z", 3600, ENERGY=20)
    )
    assert made.net == Fraction("8.75")
    assert {d: n for d, (n, _) in made.by_dimension.items()} == {
        "fixed": Fraction("0.5"), "energy": 5, "reservation": Fraction("3.25")
    }  # fmt: skip


def test_durations_since_start_do_not_count_the_reservation() -> None:
    given = tariff(element(component("ENERGY", "1"), max_duration=600))
    made = priced(given, period(HOUR, 3600, RESERVATION_TIME=1), period(f"{DAY}11:00:00Z", 60, ENERGY=1))
    assert made.net == 1


def test_export_is_paid_back() -> None:
    assert net(tariff(element(component("ENERGY", "0.3"))), period(HOUR, 3600, ENERGY=-2.5)) == Decimal(
        "-0.75"
    )


def test_free_tariff() -> None:
    made = priced(tariff(element(component("FLAT", "0.00", 0))), period(HOUR, 3600, ENERGY=20))
    assert made.to_json()["total_incl"] == "0.00"
    assert made.to_json()["by_dimension"] == {"fixed": ["0", "0"]}

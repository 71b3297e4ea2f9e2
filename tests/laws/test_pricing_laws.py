"""Prices equal those of the naive twin for any tariff and session; their rules hold whatever is drawn."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.pricing import Price, price
from models.pricing_cases import read_case
from models.tariffs import loads
from tests.naive import pricing as naive

AMOUNTS = st.decimals(0, 5, places=3)
CLOCKS = st.sampled_from(["00:00", "02:30", "06:00", "12:00", "17:00", "22:15", "23:59"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
#: Around midnights, week-ends and changes of the clock.
STARTS = [
    dt.datetime(2026, 3, 28, 20, tzinfo=dt.UTC),
    dt.datetime(2026, 10, 24, 21, 30, tzinfo=dt.UTC),
    dt.datetime(2026, 12, 31, 22, 45, tzinfo=dt.UTC),
    dt.datetime(2026, 6, 3, 14, tzinfo=dt.UTC),
]


@st.composite
def components(draw: st.DrawFn, kinds: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": draw(st.sampled_from(kinds)),
        "price": draw(AMOUNTS),
        "step_size": draw(st.sampled_from([0, 1, 60, 300, 500, 900, 1000])),
    }
    if draw(st.booleans()):
        made["vat"] = draw(st.sampled_from([0, 7, 19, Decimal("9.975")]))
    return made


@st.composite
def elements(draw: st.DrawFn) -> dict[str, Any]:
    reservation = draw(st.sampled_from([None, None, None, "RESERVATION", "RESERVATION_EXPIRES"]))
    kinds = ["FLAT", "TIME"] if reservation else ["FLAT", "ENERGY", "TIME", "PARKING_TIME"]
    restrictions: dict[str, Any] = {} if reservation is None else {"reservation": reservation}
    bounds = {
        "start_time": CLOCKS,
        "end_time": CLOCKS,
        "start_date": st.sampled_from(["2026-03-29", "2026-06-03", "2027-01-01"]),
        "end_date": st.sampled_from(["2026-03-29", "2026-10-25", "2027-01-01"]),
        "min_kwh": st.sampled_from([0, Decimal("1.5"), 7]),
        "max_kwh": st.sampled_from([Decimal("0.7"), 5, 20]),
        "min_current": st.sampled_from([6, 32]),
        "max_current": st.sampled_from([16, 32]),
        "min_power": st.sampled_from([Decimal("3.7"), 11]),
        "max_power": st.sampled_from([11, 50]),
        "min_duration": st.sampled_from([0, 900, 3600]),
        "max_duration": st.sampled_from([600, 3600, 9000]),
        "day_of_week": st.lists(st.sampled_from(naive.DAYS), min_size=1, max_size=4, unique=True),
    }
    for name in draw(st.lists(st.sampled_from(sorted(bounds)), max_size=2, unique=True)):
        restrictions[name] = draw(bounds[name])
    parts = draw(st.lists(components(kinds), min_size=1, max_size=3, unique_by=lambda c: c["type"]))
    return {"price_components": parts, "restrictions": restrictions}


@st.composite
def tariffs(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": "T",
        "currency": "EUR",
        "tax_included": draw(st.sampled_from(["NO", "NO", "YES", "N/A"])),
        "elements": draw(st.lists(elements(), min_size=1, max_size=6)),
    }
    for name in draw(st.lists(st.sampled_from(["min_price", "max_price"]), max_size=2, unique=True)):
        made[name] = {"before_taxes": draw(AMOUNTS)}
        if draw(st.booleans()):
            made[name]["after_taxes"] = draw(AMOUNTS)
    return made


@st.composite
def sessions(draw: st.DrawFn) -> list[dict[str, Any]]:
    at = draw(st.sampled_from(STARTS)) + dt.timedelta(minutes=draw(st.integers(0, 600)))
    reserved = draw(st.integers(0, 2))
    made = []
    for place in range(reserved + draw(st.integers(0 if reserved else 1, 5))):
        seconds = draw(st.integers(1, 7200))
        hours = Decimal(seconds) / 3600
        if place < reserved:
            volumes: dict[str, Any] = {"RESERVATION_TIME": hours}
        else:
            volumes = {draw(st.sampled_from(["TIME", "PARKING_TIME"])): hours}
            if draw(st.booleans()):
                volumes["ENERGY"] = draw(st.decimals(0, 40, places=3))
            for name in ("MIN_CURRENT", "MAX_CURRENT", "MIN_POWER", "MAX_POWER"):
                if draw(st.integers(0, 3)) == 0:
                    volumes[name] = draw(st.sampled_from([5, 6, 11, 20, 32, 63]))
        dimensions = [{"type": kind, "volume": value} for kind, value in volumes.items()]
        start = at.isoformat().replace("+00:00", "Z")
        made.append({"start_date_time": start, "duration_s": seconds, "dimensions": dimensions})
        at += dt.timedelta(seconds=seconds)
    return made


def ours(tariff: dict[str, Any], periods: list[dict[str, Any]], zone: str, outcome: str | None) -> Price:
    case = {"tariff": tariff, "time_zone": zone, "charging_periods": periods, "reservation_outcome": outcome}
    prepared = read_case(case, lambda _: None)
    return price(prepared.tariff, prepared.session)


@given(tariffs(), sessions(), ZONES, st.booleans())
@settings(max_examples=150)
def test_any_session_under_any_tariff_costs_what_the_rules_say(
    tariff: dict[str, Any], periods: list[dict[str, Any]], zone: str, expired: bool
) -> None:
    outcome = "expired" if expired else "used"
    made = ours(tariff, periods, zone, outcome)
    net, gross, by = naive.price(tariff, periods, zone, expired)
    assert made.by_dimension == by
    assert (made.net, made.gross) == (net, gross)
    lines = made.lines()
    assert sum((line.net for line in lines), Fraction(0)) == net
    assert sum((line.gross for line in lines), Fraction(0)) == gross


def test_the_naive_twin_agrees_with_the_specification(data_dir: Path) -> None:
    """The twin is no echo of the program: it, too, gives what the specification states."""
    folder = data_dir / "ocpi"
    for case in loads((folder / "cases.json").read_text())["cases"]:
        name, _, pointer = case["tariff"].partition("#")
        tariff = loads((folder / name).read_text())
        if pointer:
            tariff = tariff["tariffs"][0]
        expired = case.get("reservation_outcome") == "expired"
        net, gross, _ = naive.price(tariff, case["charging_periods"], case["time_zone"], expired)
        assert net == Fraction(case["expected"]["total_excl_exact"]), case["id"]
        assert gross == Fraction(case["expected"]["total_incl_exact"]), case["id"]

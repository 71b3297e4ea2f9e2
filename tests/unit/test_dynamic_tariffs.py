"""Tariffs that depend on day, market or site: what they become for a session, and the snapshot kept."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from models.dynamic import Biller, Snapshot
from models.market_prices import PriceSeries, Slot, make_series, merged, price_at
from models.pricing import price
from models.rating import QUARTER_MS, Transaction, rate
from models.tariffs import TariffError, read
from models.tariffs.tou import TouTariff

from .pricing_builders import component, element, tariff
from .test_rating import HOUR, KWH, MINUTE, charge, ms

#: The reference's example: 5.5, 5.5, 5.4, 1.2 kWh at these prices per MWh make 1.21434.
MARKET = ("86.10", "-4.20", "112.35", "131.00")
START = ms("2026-11-24T23:15:00+01:00")
ENERGIES = (5_500_000, 5_500_000, 5_400_000, 1_200_000)


def series(*per_mwh: str, start: int = START, length: int = QUARTER_MS) -> PriceSeries:
    slots = [
        Slot(start + i * length, start + (i + 1) * length, Decimal(p) / 1000) for i, p in enumerate(per_mwh)
    ]
    return make_series("test", "EUR", slots)


def quarters(*energies: int, start: int = START) -> Transaction:
    readings = [(start, 0)]
    for energy in energies:
        readings.append((readings[-1][0] + QUARTER_MS, readings[-1][1] + energy))
    return Transaction(start_ms=start, end_ms=readings[-1][0], readings=readings)


def spot(**more: Any) -> Any:
    return read({"kind": "spot", "id": "SPOT", "currency": "EUR", **more})


def test_spot_bills_each_quarter_hour_at_its_price() -> None:
    bill = Biller(spot(), "Europe/Berlin").bill(quarters(*ENERGIES), prices=series(*MARKET))
    assert bill.rated.price.net == Fraction("1.21434")
    lines = [line for line in bill.rated.price.lines() if line.dimension == "energy"]
    assert [line.price for line in lines] == [Decimal(p) / 1000 for p in MARKET]
    hourly = series("81.3125", start=START - START % HOUR, length=2 * HOUR)
    whole = Biller(spot(), "Europe/Berlin").bill(quarters(*ENERGIES), prices=hourly)
    assert whole.rated.price.net == Fraction("17.6") * Fraction("0.0813125")


def test_factor_markup_floor_cap_tax_and_other_elements() -> None:
    own = spot(factor=2, markup=Decimal("0.1"), floor=Decimal("0.15"), cap=Decimal("0.33"), vat=19,
               elements=[element(component("FLAT", "1")), element(component("ENERGY", "9"))])  # fmt: skip
    made = Biller(own, "UTC").bill(quarters(*[KWH] * 4), prices=series(*MARKET)).rated.price
    assert made.by_dimension["energy"][0] == sum(map(Fraction, ("0.2722", "0.15", "0.3247", "0.33")))
    assert made.by_dimension["fixed"][0] == 1
    assert made.by_dimension["energy"][1] == made.by_dimension["energy"][0] * Fraction("1.19")


def test_the_snapshot_prices_the_session_again_without_any_source() -> None:
    bill = Biller(spot(markup=Decimal("0.1"), vat=19), "Europe/Berlin").bill(
        quarters(*ENERGIES), prices=series(*MARKET)
    )
    stored = json.loads(json.dumps(msgspec.to_builtins(bill.snapshot)))
    snapshot = msgspec.convert(stored, Snapshot)
    again = price(snapshot.compiled(), bill.rated.session)
    assert (again.net, again.gross) == (bill.rated.price.net, bill.rated.price.gross)
    assert snapshot.kind == "spot"
    assert snapshot.facts["source_version"] == series(*MARKET).version
    assert snapshot.facts["prices"][0] == [START, START + QUARTER_MS, "0.0861", "0.1861", "market"]


def test_missing_prices_fall_back_by_rule_and_say_so() -> None:
    known = series(*MARKET, start=START - 24 * HOUR)
    own = Biller(spot(fallback=["previous_day", "fixed"], fixed=Decimal("0.4")), "UTC")
    bill = own.bill(quarters(*ENERGIES), prices=known)
    assert bill.rated.price.net == Fraction("1.21434")
    assert {row[4] for row in bill.snapshot.facts["prices"][:4]} == {"previous_day"}
    none = own.bill(quarters(KWH), prices=None)
    assert none.rated.price.net == Fraction("0.4")
    assert none.snapshot.facts["prices"][0][4] == "fixed"
    with pytest.raises(TariffError, match="no fallback knows one: none"):
        Biller(spot(), "UTC").bill(quarters(KWH), prices=known)


def test_fallback_rules() -> None:
    known = series("100", "200", "300", start=START, length=HOUR)
    assert price_at(known, START + 24 * HOUR, ["previous_day"], None).price == Decimal("0.1")
    assert (
        price_at(known, START + 7 * 24 * HOUR, ["previous_day", "previous_week"], None).origin
        == "previous_week"
    )
    assert price_at(known, START + 3 * HOUR, ["mean"], None).price == Decimal("0.2")
    assert price_at(known, START + HOUR, ["fixed"], Decimal(9)).price == Decimal("0.2")


def test_series_contradict_or_join() -> None:
    with pytest.raises(TariffError, match="overlap"):
        merged([series("1"), series("2")])
    assert len(merged([series("1"), series("1"), series("3", start=START + QUARTER_MS)]).slots) == 2
    with pytest.raises(TariffError, match="one currency"):
        merged([series("1"), msgspec.structs.replace(series("1"), currency="SEK")])


@pytest.mark.parametrize("day", ["2026-03-28T22:00:00+00:00", "2026-10-24T21:00:00+00:00"])
def test_spot_over_a_change_of_the_clock(day: str) -> None:
    """On days of 92 or 100 quarters each quarter has its own price, the hour that comes twice as well."""
    start = ms(day)
    market = [str(100 + i) for i in range(24)]
    bill = Biller(spot(), "Europe/Berlin").bill(
        quarters(*[KWH] * 24, start=start), prices=series(*market, start=start)
    )
    assert bill.rated.price.net == sum(Fraction(p) for p in market) / 1000


SCHEDULE = {
    "name": "TOU",
    "schedule": [
        {"id": "summer-week", "effective_start": "06-01", "effective_end": "09-30", "dow_mask": "WEEKDAYS",
         "times": [0, 8, 12], "tariffs": [1, 2, 3], "demand_charge": Decimal("15.51")},
        {"id": "summer-end", "effective_start": "06-01", "effective_end": "9-30", "dow_mask": "WEEKENDS",
         "times": [0], "tariffs": [4]},
        {"id": "winter", "effective_start": "10-01", "effective_end": "05-31", "dow_mask": "ALL",
         "times": [0, Decimal("8.5")], "tariffs": [5, 6]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("start", "net"),
    [
        ("2026-07-01T07:00:00-07:00", 3),  # 1 kWh before 8, 1 after
        ("2026-07-04T09:00:00-07:00", 8),  # a Saturday
        ("2026-09-30T23:00:00-07:00", 3 + 5),  # into winter, over midnight
        ("2026-12-31T08:00:00-08:00", 5 * Fraction(1, 2) + 6 * Fraction(3, 2)),
        ("2026-12-31T23:00:00-08:00", 6 + 5),  # over New Year
    ],
)
def test_time_of_use(start: str, net: Fraction) -> None:
    own = Biller(read(SCHEDULE), "America/Los_Angeles")
    assert own.bill(charge(ms(start), 120, 2)).rated.price.net == net


def test_holidays_are_priced_like_a_weekend() -> None:
    plain = Biller(read(SCHEDULE), "America/Los_Angeles")
    own = Biller(
        read({**SCHEDULE, "holidays": {"country": "US", "subdivision": "CA"}}), "America/Los_Angeles"
    )
    friday = charge(ms("2026-07-03T09:00:00-07:00"), 60, 1)  # Independence Day observed
    assert plain.bill(friday).rated.price.net == 2
    bill = own.bill(friday)
    assert bill.rated.price.net == 4
    assert bill.snapshot.facts == {"seasons": ["summer-end"], "holidays": {"2026-07-03": "holiday"}}
    with pytest.raises(TariffError, match="not known"):
        Biller(read({**SCHEDULE, "holidays": {"country": "ZZ"}}), "UTC").bill(friday)


def test_schedules_of_utilities(data_dir: Any) -> None:
    for path in sorted((data_dir / "ev" / "us-tou-tariffs").glob("*.json")):
        made = read(json.loads(path.read_text()))
        assert isinstance(made, TouTariff)
        for day in (dt.date(2019, 1, 1) + dt.timedelta(days=i) for i in range(730)):
            assert made.season(day) is not None, (path.name, day)


def busy(**more: Any) -> Any:
    steps = [
        {"below": Decimal("0.5"), "tariff": tariff(element(component("ENERGY", "0.3")))},
        {"tariff": tariff(element(component("ENERGY", "0.6")))},
    ]
    return read({"kind": "adaptive", "id": "BUSY", "by": "occupancy", "steps": steps, **more})


def test_occupancy_at_the_start_fixes_the_price() -> None:
    own = Biller(busy(), "UTC")
    hour = charge(START, 60, 1)
    assert own.bill(hour, occupancy=0.49).rated.price.net == Fraction("0.3")
    full = own.bill(hour, occupancy=0.5)
    assert full.rated.price.net == Fraction("0.6")
    assert full.snapshot.facts == {"occupancy": 0.5, "step": 1}
    with pytest.raises(TariffError, match="occupancy at the start is not known"):
        own.bill(hour)
    assert Biller(busy(unknown=1), "UTC").bill(hour).rated.price.net == Fraction("0.6")
    loaded = Biller(busy(by="site_kw"), "UTC")
    assert loaded.bill(hour, site_kw=0.2).rated.price.net == Fraction("0.3")


def night(base: Any, *offers: dict[str, Any]) -> Biller:
    return Biller(read({"kind": "incentive", "id": "NIGHT", "base": base, "offers": list(offers)}), "UTC")


def test_offers_change_energy_where_they_meet_the_base() -> None:
    base = tariff(
        element(component("FLAT", "1"), component("ENERGY", "0.4"), start_time="06:00", end_time="23:00"),
        element(component("ENERGY", "0.2")),
    )
    own = night(base, {"per_kwh": Decimal("-0.05"), "start_time": "22:00", "end_time": "06:30"})
    for at, expected in (
        ("21:30", "0.4"),
        ("22:15", "0.35"),
        ("23:30", "0.15"),
        ("06:15", "0.35"),
        ("06:45", "0.4"),
    ):
        made = own.bill(charge(ms(f"2026-03-10T{at}:00+00:00"), 5, 1)).rated.price
        assert made.by_dimension["energy"][0] == Fraction(expected), at
    evening = own.bill(charge(ms("2026-03-10T21:00:00+00:00"), 120, 2)).rated.price
    assert evening.net == 1 + Fraction("0.4") + Fraction("0.35")


def test_offers_keep_to_days_and_do_not_pay_out() -> None:
    base = tariff(element(component("ENERGY", "0.4"), day_of_week=["TUESDAY", "SUNDAY"]))
    own = night(base, {"per_kwh": -1, "day_of_week": ["TUESDAY"]}, {"per_kwh": 1, "day_of_week": ["MONDAY"]})
    assert own.bill(charge(ms("2026-03-10T10:00:00+00:00"), 5, 1)).rated.price.net == 0
    assert own.bill(charge(ms("2026-03-08T10:00:00+00:00"), 5, 1)).rated.price.net == Fraction("0.4")
    assert own.bill(charge(ms("2026-03-09T10:00:00+00:00"), 5, 1)).rated.price.by_dimension == {}


def test_offers_on_spot_prices() -> None:
    base = {"kind": "spot", "id": "S", "currency": "EUR", "markup": 1}
    own = night(base, {"per_kwh": Decimal("-0.5"), "start_time": "22:30", "end_time": "22:45"})
    bill = own.bill(quarters(*[KWH] * 4), prices=series(*MARKET))
    assert bill.rated.price.net == Fraction("0.32525") + 4 - Fraction("0.5")  # the second quarter is cheaper


def test_a_plain_tariff_has_a_snapshot_too() -> None:
    own = read(tariff(element(component("ENERGY", "0.3"))))
    bill = Biller(own, "UTC").bill(charge(START, 60, 1))
    assert (bill.snapshot.kind, bill.snapshot.tariff_id) == ("ocpi", "T")
    assert bill.rated.price.net == rate(charge(START, 60, 1), bill.snapshot.compiled()).price.net


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "spot", "id": "x"}, "currency: Field required"),
        ({**SCHEDULE, "schedule": [{**SCHEDULE["schedule"][0], "times": [1, 2, 3]}]}, "hours from 0 on"),  # type: ignore[dict-item]  # a list
        ({**SCHEDULE, "schedule": [{**SCHEDULE["schedule"][0], "times": [0]}]}, "1 times for 3 tariffs"),  # type: ignore[dict-item]  # a list
        ({"kind": "adaptive", "id": "x", "by": "occupancy",
          "steps": [{"tariff": {}}, {"tariff": {}}]}, "rising"),
        ({"kind": "incentive", "id": "x", "base": {"tariffId": "o", "currency": "EUR"},
          "offers": [{"per_kwh": 1}]}, "a tariff of OCPP cannot stand inside"),
    ],
)  # fmt: skip
def test_what_is_no_such_tariff_says_why(data: dict[str, Any], words: str) -> None:
    with pytest.raises(TariffError, match=words):
        read(data)


def test_a_session_of_a_minute_has_a_price() -> None:
    bill = Biller(spot(fallback=["fixed"], fixed=1), "UTC").bill(charge(START + MINUTE, 1, 0.001))
    assert bill.rated.price.net == Fraction("0.001")

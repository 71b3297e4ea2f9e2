"""From transactions to periods: every switch of a tariff, sums that stay whole, cuts that change nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pricing import CompiledTariff, Session, compile_tariff, price
from models.rating import (
    SUSPENDED_EV,
    SUSPENDED_EVSE,
    Rated,
    Reservation,
    Transaction,
    rate,
)
from models.tariffs import TariffError, read

from .pricing_builders import component, element, tariff

MINUTE = 60_000
HOUR = 3_600_000
KWH = 1_000_000


def ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp()) * 1000


T0 = ms("2026-03-10T10:00:00+00:00")


def compiled(*elements: dict[str, Any], zone: str = "UTC", **more: Any) -> CompiledTariff:
    return compile_tariff(read(tariff(*elements, **more)), zone)


def charge(start: int, minutes: float, kwh: float, parked: float = 0, **more: Any) -> Transaction:
    """Return a transaction of constant power, then parking."""
    stop = start + round(minutes * MINUTE)
    spans = [(stop, SUSPENDED_EV)] if parked else []
    readings = [(start, 5 * KWH), (stop, 5 * KWH + round(kwh * KWH))]
    end = stop + round(parked * MINUTE)
    fields: dict[str, Any] = {"readings": readings, "spans": spans} | more
    return Transaction(start_ms=start, end_ms=end, **fields)


def starts(rated: Rated) -> list[str]:
    return [f"{dt.datetime.fromtimestamp(p.start_ms / 1000, dt.UTC):%H:%M:%S}" for p in rated.session.periods]


def test_a_switch_by_the_clock_splits_and_interpolates() -> None:
    """16:50 12.000 kWh, 17:05 14.250 kWh: 13.500 at 17:00."""
    own = compiled(element(component("ENERGY", "0.2"), end_time="17:00"), element(component("ENERGY", "0.3")))
    at = ms("2026-03-10T16:50:00+00:00")
    reading = [(at, 12 * KWH), (at + 15 * MINUTE, 14_250_000)]
    made = rate(Transaction(start_ms=at, end_ms=at + 15 * MINUTE, readings=reading), own)
    assert starts(made) == ["16:50:00", "17:00:00"]
    assert [p.energy for p in made.session.periods] == [1_500_000, 750_000]
    assert made.price.net == Fraction("0.3") + Fraction("0.225")


def test_a_reading_at_the_switch_is_taken_as_it_is() -> None:
    own = compiled(element(component("ENERGY", "0.2"), end_time="17:00"), element(component("ENERGY", "0.3")))
    at = ms("2026-03-10T16:50:00+00:00")
    reading = [(at, 0), (at + 10 * MINUTE, 1_234_567), (at + 15 * MINUTE, 2_000_000)]
    made = rate(Transaction(start_ms=at, end_ms=at + 15 * MINUTE, readings=reading), own)
    assert [p.energy for p in made.session.periods] == [1_234_567, 765_433]


def test_energy_bounds_split_at_exactly_the_bound() -> None:
    own = compiled(element(component("ENERGY", "0"), max_kwh=1), element(component("ENERGY", "0.2")))
    made = rate(charge(T0, 47, 20.001), own)
    assert [p.energy for p in made.session.periods] == [KWH, 19_001_000]
    assert made.price.net == Fraction("19.001") / 5


def test_duration_bounds_split() -> None:
    own = compiled(element(component("TIME", "0"), max_duration=600), element(component("TIME", "6")))
    made = rate(charge(T0, 25, 3), own)
    assert starts(made) == ["10:00:00", "10:10:00"]
    assert made.price.net == Fraction("1.5")


def test_power_bands_split_where_power_passes_them() -> None:
    own = compiled(element(component("ENERGY", "0.2"), max_power=16), element(component("ENERGY", "0.5")))
    reading = [(T0, 0), (T0 + 10 * MINUTE, KWH), (T0 + HOUR, 41 * KWH), (T0 + HOUR + 450_000, 41_500_000)]
    made = rate(Transaction(start_ms=T0, end_ms=T0 + HOUR + 450_000, readings=reading), own)
    assert starts(made) == ["10:00:00", "10:10:00", "11:00:00"]
    assert made.price.net == Fraction("20.3")  # the specification's example, from readings
    told = [(T0, Decimal(6)), (T0 + 10 * MINUTE, Decimal(48)), (T0 + HOUR, Decimal(4))]
    by_power = rate(
        Transaction(start_ms=T0, end_ms=T0 + HOUR + 450_000, readings=reading, power_kw=told), own
    )
    assert by_power.price.net == made.price.net


def test_a_pause_by_the_station_is_never_parking() -> None:
    own = compiled(element(component("TIME", "1"), component("PARKING_TIME", "6")))
    spans = [(T0 + 10 * MINUTE, SUSPENDED_EVSE), (T0 + 40 * MINUTE, SUSPENDED_EV)]
    paused = charge(T0, 60, 2, spans=spans)
    assert [p.parking_ms for p in rate(paused, own).session.periods] == [None, None, 20 * MINUTE]
    assert rate(paused, own).price.net == Fraction(40, 60) + 2
    assert rate(paused, own, pauses_free=True).price.net == Fraction(10, 60) + 2


def test_quarter_hours_on_request() -> None:
    own = compiled(element(component("ENERGY", "0.2")))
    made = rate(charge(T0 + MINUTE, 40, 7.000_001), own, quarter_hours=True)
    assert starts(made) == ["10:01:00", "10:15:00", "10:30:00"]
    assert sum(p.energy or 0 for p in made.session.periods) == 7_000_001


def test_midnight_and_weekday_switch() -> None:
    own = compiled(
        element(component("ENERGY", "1"), day_of_week=["TUESDAY"]),
        element(component("ENERGY", "2")),
        zone="Europe/Berlin",
    )
    made = rate(charge(ms("2026-03-10T23:30:00+01:00"), 60, 10), own)
    assert starts(made) == ["22:30:00", "23:00:00"]
    assert made.price.net == 15


@pytest.mark.parametrize(
    ("start", "hours", "night_s"),
    [
        ("2026-03-29T00:00:00+01:00", 6, 3600 + 1800),  # 02:30 is left out: 03:00 to 04:30
        ("2026-10-25T00:00:00+02:00", 8, 1800 + 2 * 3600),  # 02:30 to 03:00, back to 02:00, 02:30 to 04:30
        ("2026-06-01T00:00:00+02:00", 6, 7200),
    ],
)
def test_days_on_which_the_clock_changes(start: str, hours: int, night_s: int) -> None:
    own = compiled(
        element(component("TIME", "3600"), start_time="02:30", end_time="04:30"), zone="Europe/Berlin"
    )
    assert rate(charge(ms(start), hours * 60, 1), own).price.net == night_s


def test_a_reservation_comes_first() -> None:
    own = compiled(
        element(component("TIME", "3", 600), reservation="RESERVATION"),
        element(component("TIME", "6", 600), reservation="RESERVATION_EXPIRES"),
        element(component("ENERGY", "0.25")),
    )
    used = rate(charge(T0 + 22 * MINUTE, 60, 20, reservation=Reservation(T0, T0 + 22 * MINUTE)), own)
    assert used.price.net == Fraction("6.5")
    lost = rate(None, own, reservation=Reservation(T0, T0 + 90 * MINUTE, expired=True))
    assert lost.price.net == 9


# --- OCPP 2.1 --------------------------------------------------------------------------------------


def ocpp(**parts: Any) -> CompiledTariff:
    return compile_tariff(read({"tariffId": "O", "currency": "EUR", **parts}), "Europe/Berlin")


def test_idle_fee_after_a_grace_period() -> None:
    """0.35 once, 0.49 per kWh, 0.10 per idle minute from the 15th: 22.4 kWh and 27 min idle are 12.526."""
    own = ocpp(
        fixedFee={"prices": [{"priceFixed": Decimal("0.35")}]},
        energy={"prices": [{"priceKwh": Decimal("0.49")}]},
        idleTime={"prices": [{"priceMinute": Decimal("0.10"), "conditions": {"minIdleTime": 900}}]},
    )
    made = rate(charge(T0, 60, 22.4, parked=27), own)
    assert made.price.net == Fraction("12.526")
    assert starts(made) == ["10:00:00", "11:00:00", "11:15:00"]
    back = charge(T0, 100, 22.4, spans=[(T0 + 10 * MINUTE, SUSPENDED_EV), (T0 + 20 * MINUTE, "charging"),
                                        (T0 + 90 * MINUTE, SUSPENDED_EV)])  # fmt: skip
    assert rate(back, own).price.net == Fraction("11.326")  # two idle periods of 10 min: grace in each


def test_stacked_taxes() -> None:
    rates = [{"type": "federal", "tax": 5}, {"type": "state", "tax": Decimal("9.975"), "stack": 1}]
    own = ocpp(fixedFee={"prices": [{"priceFixed": 10}], "taxRates": rates})
    assert rate(charge(T0, 5, 1), own).price.gross == Fraction("11.547375")
    flat = [{**r, "stack": 0} for r in rates]
    side = ocpp(fixedFee={"prices": [{"priceFixed": 10}], "taxRates": flat})
    assert rate(charge(T0, 5, 1), side).price.gross == Fraction("11.4975")


def test_conditions_that_only_ocpp_has() -> None:
    own = ocpp(
        energy={"prices": [{"priceKwh": 2, "conditions": {"evseKind": "DC"}}, {"priceKwh": 1}]},
        fixedFee={"prices": [{"priceFixed": 7, "conditions": {"paymentBrand": "VISA"}}]},
        chargingTime={"prices": [{"priceMinute": 1, "conditions": {"minChargingTime": 1200}}]},
        maxCost={"exclTax": 25},
    )
    assert rate(charge(T0, 10, 1), own).price.net == 1
    assert rate(charge(T0, 10, 1, evse_kind="DC", payment_brand="VISA"), own).price.net == 9
    assert rate(charge(T0, 25, 1), own).price.net == 6
    assert rate(charge(T0, 60, 1), own).price.net == 25


# --- laws ------------------------------------------------------------------------------------------

TARIFFS = [
    compiled(
        element(component("FLAT", "0.5", vat="19"), start_time="06:00"),
        element(component("ENERGY", "0.29", vat="19"), start_time="22:00", end_time="06:00"),
        element(component("ENERGY", "0.49", vat="7.5"), component("TIME", "1.2"), max_kwh=7),
        element(component("ENERGY", "0.39"), component("TIME", "0.6"), max_power=11),
        element(component("ENERGY", "0.33"), component("PARKING_TIME", "6", vat="19"), min_duration=1800),
        zone=zone,
        max_price={"before_taxes": 12, "after_taxes": 13},
    )
    for zone in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
]


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """Return a transaction of a few hours, often across a change of the clock."""
    base = draw(st.sampled_from([ms("2026-03-28T20:00:00+00:00"), ms("2026-10-24T21:00:00+00:00"), T0]))
    start = base + draw(st.integers(0, 8 * HOUR))
    steps = draw(st.lists(st.tuples(st.integers(1, HOUR), st.integers(0, 12 * KWH)), min_size=1, max_size=6))
    readings = [(start, draw(st.integers(0, 10**9)))]
    for length, energy in steps:
        readings.append((readings[-1][0] + length, readings[-1][1] + energy))
    end = readings[-1][0] + draw(st.integers(0, HOUR))
    changes = draw(st.lists(st.integers(start, end), max_size=3))
    kinds = st.sampled_from(["charging", SUSPENDED_EV, SUSPENDED_EVSE])
    spans = [(t, draw(kinds)) for t in sorted(changes)]
    return Transaction(start_ms=start, end_ms=end, readings=readings, spans=spans)


@given(transactions(), st.sampled_from(TARIFFS))
@settings(max_examples=60)
def test_parts_add_up_and_lines_add_up(transaction: Transaction, own: CompiledTariff) -> None:
    rated = rate(transaction, own)
    periods = rated.session.periods
    energies = [p.energy for p in periods if p.energy is not None]
    assert len(energies) == len(periods)
    assert min(energies) >= 0
    assert sum(energies) == transaction.readings[-1][1] - transaction.readings[0][1]
    assert periods[0].start_ms == transaction.start_ms
    assert periods[-1].end_ms == transaction.end_ms
    assert all(a.end_ms == b.start_ms for a, b in pairwise(periods))
    lines = rated.price.lines()
    assert sum(line.net for line in lines) == rated.price.net
    assert sum(line.gross for line in lines) == rated.price.gross
    assert rated.price.net <= 12
    assert rated.price.gross <= 13


@given(transactions(), st.sampled_from(TARIFFS))
@settings(max_examples=60)
def test_more_periods_than_needed_change_no_price(transaction: Transaction, own: CompiledTariff) -> None:
    """Quarter hours only add cuts where nothing changes; energy between them is interpolated anew."""
    once, often = rate(transaction, own), rate(transaction, own, quarter_hours=True)
    assert often.price.by_dimension.keys() == once.price.by_dimension.keys()
    for dimension, (net, gross) in once.price.by_dimension.items():
        assert often.price.by_dimension[dimension] == (net, gross), dimension


@given(transactions(), st.sampled_from(TARIFFS), st.integers(1, 999))
@settings(max_examples=60)
def test_cutting_a_period_anywhere_changes_no_price(
    transaction: Transaction, own: CompiledTariff, share: int
) -> None:
    rated = rate(transaction, own)
    cut: list[Any] = []
    for period in rated.session.periods:
        at = period.start_ms + (period.end_ms - period.start_ms) * share // 1000
        energy = (period.energy or 0) * share // 1000
        change = {"energy": energy, "end_ms": at}
        rest = {"energy": (period.energy or 0) - energy, "start_ms": at}
        for name in ("charging_ms", "parking_ms"):
            if getattr(period, name) is not None:
                change[name], rest[name] = at - period.start_ms, period.end_ms - at
        cut += [_with(period, change), _with(period, rest)]
    again = price(own, Session(tuple(cut)))
    assert (again.net, again.gross) == (rated.price.net, rated.price.gross)


def _with(period: Any, change: dict[str, int]) -> Any:
    import msgspec

    return msgspec.structs.replace(period, **change)


@given(st.permutations(range(3)), transactions())
@settings(max_examples=30)
def test_elements_that_never_meet_may_stand_in_any_order(order: list[int], transaction: Transaction) -> None:
    elements = [
        element(component("ENERGY", "0.1"), end_time="08:00"),
        element(component("ENERGY", "0.2"), start_time="08:00", end_time="20:00"),
        element(component("ENERGY", "0.3"), start_time="20:00"),
    ]
    prices = {rate(transaction, compiled(*(elements[i] for i in o))).price.net for o in (range(3), order)}
    assert len(prices) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"end_ms": T0 - 1}, "ends at"),
        ({"readings": []}, "without a register reading"),
        ({"readings": [(T0, 2), (T0 + 1, 1)]}, "must not fall"),
        ({"readings": [(T0 + 1, 1), (T0, 2)]}, "must not fall"),
        ({"spans": [(T0, "dancing")]}, "expected one of charging"),
        ({"spans": [(T0 + 5, SUSPENDED_EV), (T0 + 2, SUSPENDED_EV)]}, "not in order of time"),
    ],
)
def test_what_cannot_be_rated_says_why(change: dict[str, Any], words: str) -> None:
    fields: dict[str, Any] = {"start_ms": T0, "end_ms": T0 + HOUR, "readings": [(T0, 0), (T0 + HOUR, KWH)]}
    with pytest.raises(TariffError, match=words):
        rate(Transaction(**(fields | change)), compiled(element(component("ENERGY", "1"))))
    with pytest.raises(TariffError, match="nothing to rate"):
        rate(None, compiled(element(component("ENERGY", "1"))))

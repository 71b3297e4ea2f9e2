"""Every row of the OCPP tables, field by field, against values worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from ocpp.v16.enums import (  # ocpp ships no types
    ChargePointStatus,
    Location,
    Measurand,
    Phase,
    ReadingContext,
    UnitOfMeasure,
)
from ocpp.v201.enums import (  # ocpp ships no types
    ConnectorStatusEnumType,
    StandardizedUnitsOfMeasureType,
)

from models.channels import CHANNEL_ID, CHANNELS, REGISTER_CHANNEL
from models.errors import DecodeError
from models.units import NO_REGISTER
from pipeline.dialects._ocpp_calls import STATUS_OF_16, mrec_codes, register_mwh
from pipeline.dialects._ocpp_meter import read_samples
from pipeline.dialects._ocpp_types import MeterValue, time_ns
from pipeline.dialects._ocpp_units import LINE_TO_NEUTRAL, PER_LINE, UNITS, channel_name, convert, number

from .dialect_sink import CollectingSink

# unit -> (value sent, canonical unit, value expected)
UNIT_ROWS = {
    "Wh": ("1500.5", "Wh", "1500.5"),
    "kWh": ("1.25", "Wh", "1250"),
    "varh": ("7", "varh", "7"),
    "kvarh": ("7", "varh", "7000"),
    "VAh": ("8", "VAh", "8"),
    "kVAh": ("0.8", "VAh", "800"),
    "W": ("3680", "W", "3680"),
    "kW": ("11.04", "W", "11040"),
    "VA": ("5", "VA", "5"),
    "kVA": ("5", "VA", "5000"),
    "var": ("12", "var", "12"),
    "kvar": ("-0.5", "var", "-500"),
    "A": ("16.1", "A", "16.1"),
    "V": ("230.1", "V", "230.1"),
    "Hz": ("50.01", "Hz", "50.01"),
    "Hertz": ("60", "Hz", "60"),
    "Percent": ("45", "Percent", "45"),
    "Celsius": ("21.5", "Celsius", "21.5"),
    "Celcius": ("21.5", "Celsius", "21.5"),
    "Fahrenheit": ("212", "Celsius", "100"),
    "K": ("273.15", "Celsius", "0"),
    "RPM": ("1200", "1/min", "1200"),
}


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_unit(unit: str) -> None:
    sent, canonical, expected = UNIT_ROWS[unit]
    value = convert(Decimal(sent), unit, 0, canonical)
    assert value is not None
    assert float(value) == float(expected)
    tenfold = convert(Decimal(sent), unit, 1, canonical)
    plain = convert(Decimal(sent) * 10, unit, 0, canonical)
    assert tenfold == plain  # the multiplier belongs to the value, before any offset
    assert convert(Decimal(sent), unit, 0, "A" if canonical != "A" else "V") is None


def test_the_unit_table_covers_both_norms() -> None:
    metering = {u.value for u in UnitOfMeasure} | {
        u.value for u in StandardizedUnitsOfMeasureType if u.value.removeprefix("k") in UNIT_ROWS
    }
    assert metering <= set(UNITS)
    assert set(UNIT_ROWS) == set(UNITS)


@pytest.mark.parametrize(
    ("multiplier", "expected"),
    [(-3, "0.0125"), (-1, "1.25"), (0, "12.5"), (3, "12500"), (24, None), (25, None)],
)
def test_multiplier(multiplier: int, expected: str | None) -> None:
    value = convert(Decimal("12.5"), "W", multiplier, "W")
    assert value == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize("phase", sorted(LINE_TO_NEUTRAL))
def test_every_phase_of_a_voltage(phase: str) -> None:
    line = {"L1": "L1-N", "L2": "L2-N", "L3": "L3-N"}
    assert channel_name("Voltage", phase, "Outlet") == "Voltage@" + line.get(phase, phase)
    assert channel_name("Voltage", phase, "Outlet") in CHANNEL_ID


@pytest.mark.parametrize("phase", sorted(PER_LINE))
def test_every_phase_of_a_current(phase: str) -> None:
    assert channel_name("Current.Import", phase, "Outlet") == "Current.Import@" + phase.removesuffix("-N")
    assert channel_name("Current.Import", phase, "Outlet") in CHANNEL_ID


def test_the_phase_tables_cover_the_norm() -> None:
    assert {p.value for p in Phase} == set(LINE_TO_NEUTRAL) | set(PER_LINE)


PLACES = {
    ("Voltage", "Outlet"): "Voltage",
    ("Voltage", "Inlet"): "Voltage/Inlet",
    ("Voltage", "EV"): "Voltage/EV",
    ("Power.Active.Import", "Inlet"): "Power.Active.Import/Inlet",
    ("Energy.Active.Import.Register", "Outlet"): "Energy.Active.Import.Register",
    ("Energy.Active.Import.Register", "Inlet"): None,  # the grid side is no billing register
    ("Temperature", "Outlet"): "Temperature/Outlet",
    ("Temperature", "Cable"): "Temperature/Cable",
    ("Temperature", "Body"): "Temperature/Body",
    ("Temperature", "EV"): "Temperature/EV",
    ("Temperature", "Inlet"): "Temperature/Inlet",
}


@pytest.mark.parametrize(("measurand", "location"), sorted(PLACES))
def test_locations(measurand: str, location: str) -> None:
    name = channel_name(measurand, "", location)
    assert (name if name in CHANNEL_ID else None) == PLACES[measurand, location]


def test_locations_cover_the_norm() -> None:
    assert {place.value for place in Location} == {place for _, place in PLACES}


# measurand -> (unit sent, value sent, value in the canonical unit); None: no channel for it
MEASURANDS = {
    "Energy.Active.Export.Register": ("kWh", "2", 2000.0),
    "Energy.Active.Import.Register": ("kWh", "2.0005", 2000.5),
    "Energy.Reactive.Export.Register": ("varh", "1", None),
    "Energy.Reactive.Import.Register": ("varh", "1", None),
    "Energy.Active.Export.Interval": ("Wh", "1", None),
    "Energy.Active.Import.Interval": ("kWh", "0.5", 500.0),
    "Energy.Reactive.Export.Interval": ("varh", "1", None),
    "Energy.Reactive.Import.Interval": ("varh", "1", None),
    "Frequency": ("Hertz", "49.98", 49.98),
    "Power.Active.Export": ("kW", "1.5", 1500.0),
    "Power.Active.Import": ("kW", "11.04", 11040.0),
    "Power.Factor": ("", "0.98", 0.98),
    "Power.Offered": ("kW", "22", 22000.0),
    "Power.Reactive.Export": ("var", "3", None),
    "Power.Reactive.Import": ("kvar", "0.3", 300.0),
    "Current.Import": ("A", "16.2", 16.2),
    "Current.Export": ("A", "3", 3.0),
    "Current.Offered": ("A", "32", 32.0),
    "RPM": ("", "1200", 1200.0),
    "SoC": ("Percent", "45.5", 45.5),
    "Voltage": ("V", "400.5", 400.5),
    "Temperature": ("Fahrenheit", "98.6", 37.0),
}


def sampled(*samples: dict[str, Any]) -> tuple[dict[str, float], int | None, dict[str, int], list[Any]]:
    """Return (values by channel, register mWh, ignored, signed) of samples taken at one time."""
    body = [{"timestamp": "2026-06-10T05:30:00Z", "sampledValue": list(samples)}]
    ignored: dict[str, int] = {}
    read = read_samples(msgspec.convert(body, list[MeterValue]), ignored)
    sink = CollectingSink()
    read.put(sink, 1)
    if not sink.calls:
        return {}, None, ignored, read.signed
    (row,) = sink.of("rows")
    values = {CHANNELS[c].name: float(v[0]) for c, v in zip(row["channels"], row["values"], strict=True)}
    register = None if row["reg_mwh"] is None else int(row["reg_mwh"][0])
    return values, None if register == NO_REGISTER else register, ignored, read.signed


@pytest.mark.parametrize("measurand", sorted(MEASURANDS))
def test_every_measurand(measurand: str) -> None:
    unit, value, expected = MEASURANDS[measurand]
    sample = {"value": value, "measurand": measurand} | ({"unit": unit} if unit else {})
    values, register, ignored, _ = sampled(sample)
    if expected is None:
        assert (values, register) == ({}, None)
        assert ignored == {f"channel {measurand}": 1}
    elif CHANNEL_ID.get(measurand) == REGISTER_CHANNEL:
        assert (values, register) == ({}, expected * 1000)
    else:
        assert list(values.values()) == [expected]
        assert ignored == {}


def test_the_measurand_table_covers_1_6() -> None:
    assert {m.value for m in Measurand} == set(MEASURANDS)


@pytest.mark.parametrize("context", [c.value for c in ReadingContext])
def test_every_context_gives_a_reading(context: str) -> None:
    assert sampled({"value": "5", "context": context})[1] == 5000


def test_defaults_are_the_import_register_in_wh() -> None:
    assert sampled({"value": "1234.567"}) == ({}, 1_234_567, {}, [])
    assert sampled({"value": 1234.567}) == ({}, 1_234_567, {}, [])
    assert sampled({"value": 0.1, "unitOfMeasure": {"unit": "kWh"}})[1] == 100_000
    assert sampled({"value": 0.1, "unitOfMeasure": {"multiplier": 2}})[1] == 10_000


@pytest.mark.parametrize("order", [1, -1])
def test_a_transaction_context_wins_the_register(order: int) -> None:
    pair = [{"value": "10", "context": "Sample.Periodic"}, {"value": "11", "context": "Transaction.End"}]
    assert sampled(*pair[::order])[1] == 11_000


def test_the_first_of_equals_counts() -> None:
    assert sampled({"value": "10"}, {"value": "11"})[1] == 10_000


def test_phases_are_summed_only_without_a_total() -> None:
    phases = [{"value": str(10 * k), "phase": f"L{k}"} for k in (1, 2, 3)]
    assert sampled(*phases)[1] == 60_000
    assert sampled(*phases, {"value": "99"})[1] == 99_000
    assert sampled({"value": "99"}, *phases)[1] == 99_000


@pytest.mark.parametrize(
    "value",
    [
        "",
        "n/a",
        "NaN",
        "Infinity",
        "1e999",
        "1e999999999",
        "-1e99999999999999999999",
        "0x10",
        "9" * 70,
        "10000000000000000",
    ],
)
def test_what_is_no_number_is_missing_never_zero(value: str) -> None:
    values, register, ignored, _ = sampled({"value": value})
    assert (values, register) == ({}, None)
    assert sum(ignored.values()) == 1


def test_signed_data_is_kept_and_never_read_as_a_value() -> None:
    values, register, _, signed = sampled({"value": "1234", "format": "SignedData"})
    assert (values, register) == ({}, None)
    assert signed == [{"measurand": "Energy.Active.Import.Register", "data": "1234"}]
    blob = {"signedMeterData": "YWJj", "signingMethod": "", "encodingMethod": "OCMF", "publicKey": ""}
    assert sampled({"value": 5, "signedMeterValue": blob}) == ({}, 5000, {}, [blob])


def test_vanishing_values_are_zero() -> None:
    assert sampled({"value": "1e-999999999"})[1] == 0


def test_absurd_values_are_missing() -> None:
    assert sampled({"value": "2000000000", "measurand": "Voltage"})[0] == {}
    assert sampled({"value": "1000000000001"})[1] is None


def test_number() -> None:
    assert number(True) is None
    assert number(" 12.5 ") == Decimal("12.5")
    assert number(0.1) == Decimal("0.1")


def test_every_status_of_1_6() -> None:
    assert set(STATUS_OF_16) == {s.value for s in ChargePointStatus}
    assert set(STATUS_OF_16.values()) == {s.value for s in ConnectorStatusEnumType}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("CX001", ["CX001"]),
        ("CX018, CX026", ["CX018", "CX026"]),
        ("E-7", []),
        (None, []),
        ("CX1", []),
        ("XCX0011", []),
    ],
)
def test_mrec_codes(text: str | None, codes: list[str]) -> None:
    assert mrec_codes(text) == codes


def test_registers_that_money_hangs_on_are_strict() -> None:
    assert register_mwh("14376490.001", "x") == 14_376_490_001
    for bad in ("", "lots", "NaN", 1e300, "-"):
        with pytest.raises(DecodeError, match=r"meterStart .* is no register in Wh"):
            register_mwh(bad, "meterStart")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("2026-06-10T05:30:00Z", 1_781_069_400_000_000_000),
        ("2026-06-10T05:30:00.5Z", 1_781_069_400_500_000_000),
        ("2026-06-10T05:30:00.123456789Z", 1_781_069_400_123_456_789),
        ("2026-06-10T07:30:00+02:00", 1_781_069_400_000_000_000),
        ("2026-06-10T00:00:00-05:30", 1_781_069_400_000_000_000),
        ("2026-06-10 05:30:00", 1_781_069_400_000_000_000),
        ("2026-06-10t05:30:60z", 1_781_069_459_000_000_000),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert time_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-06-10",
        "2026-02-30T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "2100-01-01T00:00:00Z",
        "2026-06-10T05:30:61Z",
        "0001-01-01T00:00:00+10:00",
        "2026-06-10T05:30:00+99:99",
        "٢٠٢٦-06-10T05:30:00Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(DecodeError, match="time"):
        time_ns(text)

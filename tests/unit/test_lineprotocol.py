"""The kernels write what the naive encoder writes, byte for byte."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import lineprotocol as lp
from models import rollups
from models._words import Scratch
from models.batch import ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS, REGISTER_CHANNEL
from models.devices import DeviceTable
from models.outputs import CdrRow, FindingChange, IntervalRow, RollupRows
from models.points import PointEncoder, bill_lines, encode_point, finding_lines
from models.schema import MEASUREMENTS, ROLLUP_MEASUREMENT, split_unit
from models.units import NO_REGISTER, NS_PER_MS
from tests.naive import lineprotocol as naive

T0 = 1_790_000_000_123_456_789


def put(kernel: Any, *args: Any) -> str:
    out = np.zeros(128, np.uint8)
    return out[: kernel(out, 0, *args)].tobytes().decode()


def fleet(names: list[tuple[str, str, int]]) -> DeviceTable:
    devices = DeviceTable()
    for site, station, evse in names:
        s = devices.site(site)
        node = devices.node(s, station)
        devices.evse(devices.station(s, station, node), evse, node)
    return devices


@settings(max_examples=300)
@given(st.floats(-9e11, 9e11), st.integers(0, 4))
@example(-0.0, 3)
@example(-0.0004, 3)
@example(0.0005, 3)
@example(0.0015, 3)
@example(2.5, 0)
@example(-2.5, 0)
@example(999.9996, 3)
@example(999999.99996, 4)
@example(1e-300, 4)
@example(50.0203, 4)
def test_number_equals_the_naive_text(value: float, decimals: int) -> None:
    assert put(lp.put_float, value, decimals) == naive.number(value, decimals)
    assert lp.number(value, decimals) == naive.number(value, decimals)


@given(st.floats(1e15, lp.MAX_FLOAT), st.sampled_from([1, -1]))
def test_huge_values_keep_their_size(value: float, sign: int) -> None:
    value *= sign
    text = put(lp.put_float, value, 3)
    assert len(text) <= lp.NUMBER_BYTES
    assert math.isclose(float(text), value, rel_tol=1e-12)


@settings(max_examples=300)
@given(st.integers(-(2**63) + 1, 2**63 - 1))
@example(0)
@example(999_999_999)
@example(1_000_000_000)
@example(10**18)
@example(-1)
def test_integers_are_exact(value: int) -> None:
    assert put(lp.put_integer, value) == str(value)
    assert put(lp.put_milli, value) == naive.wh(value)


def test_a_float_reads_back_within_half_a_unit_of_the_last_decimal(rng: Any) -> None:
    for _ in range(500):
        value, decimals = rng.uniform(-1e6, 1e6), rng.randrange(5)
        assert abs(float(put(lp.put_float, value, decimals)) - value) <= 0.5 * 10**-decimals + 1e-9


NAMES = st.text(st.characters(blacklist_categories=["Cs"]), max_size=40)
ANALOG = [i for i in range(len(CHANNELS)) if i != REGISTER_CHANNEL]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[tuple[str, str, int]], ReadingBatch, Any]:
    names = draw(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 9)), min_size=1, max_size=6, unique=True))
    n = draw(st.integers(0, 12))
    channels = tuple(draw(st.lists(st.sampled_from(ANALOG), max_size=12, unique=True)))
    rows = ReadingBatch.empty(n, channels)
    rows.evse[:] = sorted(draw(st.lists(st.integers(0, len(names) - 1), min_size=n, max_size=n)))
    rows.time_ns[:] = T0 + np.arange(n)
    value = st.one_of(
        st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e-9, 230.1, -5e-4])
    )
    for slot in range(len(channels)):
        rows.values[slot] = draw(st.lists(value, min_size=n, max_size=n))
    registers = st.one_of(st.integers(-(10**12), 10**15), st.just(NO_REGISTER))
    rows.reg_mwh[:] = draw(st.lists(registers, min_size=n, max_size=n))
    mask = draw(st.one_of(st.none(), st.lists(st.booleans(), min_size=n, max_size=n)))
    return names, rows, None if mask is None else np.array(mask, bool)


@settings(max_examples=150)
@given(batches())
def test_readings_equal_the_naive_lines(drawn: tuple[list[tuple[str, str, int]], ReadingBatch, Any]) -> None:
    names, rows, mask = drawn
    expected = ""
    for i in range(len(rows)):
        if mask is not None and not mask[i]:
            continue
        site, station, evse = names[rows.evse[i]]
        channels = [(c.field, float(rows.column(j)[i]), c.decimals) for j, c in enumerate(CHANNELS)]
        register = int(rows.reg_mwh[i])
        expected += naive.line(
            "ev_reading",
            [("evse", str(evse)), ("site", site), ("station", station)],
            channels,
            [] if register == NO_REGISTER else [("energy_import_wh", naive.wh(register))],
            int(rows.time_ns[i]),
        )
    assert PointEncoder(fleet(names)).readings(rows, mask).decode() == expected


def test_every_name_length_fits_and_comes_out_whole() -> None:
    names = [(f"s{'x' * k}", f"t{'y' * (40 - k)}", 1) for k in range(40)]
    rows = ReadingBatch.empty(40, (CHANNEL_ID["Power.Active.Import"],))
    rows.evse[:] = np.arange(40)
    rows.values[:] = 1.5
    lines = PointEncoder(fleet(names)).readings(rows).decode().splitlines()
    assert lines == [f"ev_reading,evse=1,site={s},station={t} power_w=1.5 0" for s, t, _ in names]


def test_the_encoder_takes_up_evses_that_appear_later() -> None:
    devices = fleet([("a", "s1", 1)])
    encoder = PointEncoder(devices)
    node = devices.node(devices.site("a"), "s2")
    devices.evse(devices.station(0, "s2", node), 7, node)
    rows = ReadingBatch.empty(2, (CHANNEL_ID["Power.Active.Import"],))
    rows.evse[:] = [0, 1]
    rows.values[:] = [[1.0, 2.0]]
    assert b"evse=7,site=a,station=s2 power_w=2 0\n" in encoder.readings(rows)


def test_output_larger_than_the_scratch_comes_in_one_piece() -> None:
    n = 20_000
    rows = ReadingBatch.empty(n, (CHANNEL_ID["Power.Active.Import"], CHANNEL_ID["Voltage@L1-N"]))
    rows.time_ns[:] = T0 + np.arange(n)
    rows.values[:] = 1.25
    encoder = PointEncoder(fleet([("site" * 8, "station" * 8, 1)]))
    whole = encoder.readings(rows)
    encoder._scratch = Scratch(4096, 65536)
    assert encoder.readings(rows) == whole
    stamps = [int(line.rsplit(b" ", 1)[1]) for line in whole.splitlines()]
    assert stamps == list(range(T0, T0 + n))


def test_a_line_that_cannot_fit_is_refused() -> None:
    head, tags = lp.texts([b"m"]), lp.texts([b",a=b"])
    none = lp.field_names([], [])
    floats = lp.Floats(none, np.zeros(0, np.int64), np.zeros((0, 1)))
    integers = lp.Integers(lp.field_names(["n"], [lp.COUNT]), np.ones((1, 1), np.int64))
    args = (head, tags, np.zeros(1, np.int32), np.zeros(1, np.int64), None, floats, integers)
    assert lp.encode_rows(*args, Scratch(64, 512)) == b"m,a=b n=1i 0\n"
    with pytest.raises(ValueError, match=r"a line of 1 fields does not fit into 50 bytes of scratch"):
        lp.encode_rows(*args, Scratch(50, 80))


def test_rows_of_unknown_series_are_refused_not_read_from_somewhere() -> None:
    rows = ReadingBatch.empty(1, (CHANNEL_ID["Power.Active.Import"],))
    rows.evse[:] = 3
    with pytest.raises(IndexError, match="rows of series 3 to 3, but 1 series are known"):
        PointEncoder(fleet([("a", "b", 1)])).readings(rows)


def test_field_names_too_long_or_too_precise_are_refused() -> None:
    with pytest.raises(ValueError, match="names have at most 30 bytes"):
        lp.field_names(["x" * 31], [0])
    with pytest.raises(ValueError, match="numbers at most 4 decimals"):
        lp.field_names(["x"], [5])


def test_rollups_have_count_register_and_statistics() -> None:
    devices = fleet([("depot", "cs 1", 2)])
    rows = RollupRows(
        60,
        np.array([0, 0], np.int32),
        np.array([60, 120], np.int64) * 10**9,
        np.array([6, 5], np.int64),
        np.array([1_234_567, NO_REGISTER], np.int64),
        ("power_mean_w", "voltage_l1_min_v"),
        np.array([[7360.0, math.nan], [228.4, 229.0]]),
    )
    encoder = PointEncoder(devices)
    assert encoder.rollups(rows).decode().splitlines() == [
        "ev_1m,evse=2,site=depot,station=cs\\ 1 power_mean_w=7360,voltage_l1_min_v=228.4,"
        "readings=6i,energy_import_wh=1234.567 60000000000",
        "ev_1m,evse=2,site=depot,station=cs\\ 1 voltage_l1_min_v=229,readings=5i 120000000000",
    ]
    rows.period_s = 900
    assert encoder.rollups(rows).startswith(b"ev_15m,")
    rows.fields = ("power_median_w", "voltage_l1_min_v")
    with pytest.raises(KeyError, match="no field 'power_median_w'"):
        encoder.rollups(rows)


def test_intervals_leave_out_energy_that_is_missing() -> None:
    encoder = PointEncoder(DeviceTable())
    row: dict[str, Any] = {"site": "a", "station": "b", "evse": 1, "start_ms": 900_000, "revision": 2}
    lines = encoder.intervals(
        [
            IntervalRow(**row, energy_mwh=1_500, quality="measured"),
            IntervalRow(**row, energy_mwh=None, quality="missing"),
        ]
    ).decode()
    assert lines.splitlines() == [
        'ev_energy_15m,evse=1,site=a,station=b energy_wh=1.5,quality="measured",revision=2i 900000000000',
        'ev_energy_15m,evse=1,site=a,station=b quality="missing",revision=2i 900000000000',
    ]


def change(**kw: Any) -> FindingChange:
    base: dict[str, Any] = {
        "finding_id": "f1", "code": "under_voltage", "scope": "evse", "site": "depot", "node": "gw",
        "station": "cs1", "evse": 1, "connector": None, "severity": "warning", "source": "rule",
        "state": "raised", "live": True, "planned": False, "raised_at": 1_000, "start": 900, "last": 1_000,
        "end": None, "score": 1.0, "evidence": {"voltage_v": 204.2}, "taxonomy": None, "advice": "",
        "parent": None, "change": 1, "changed_at": 1_000, "shard": 3, "order": 12,
    }  # fmt: skip
    return FindingChange(**(base | kw))


def test_findings_become_points_with_all_tags() -> None:
    site_wide = change(scope="site", node=None, station=None, evse=None, state="cleared", end=2_000)
    first, second = finding_lines([change(), site_wide]).decode().splitlines()
    assert first == (
        "ev_finding,code=under_voltage,evse=1,node=gw,scope=evse,site=depot,station=cs1 "
        'state="raised",open=1i,severity="warning",source="rule",live=true,planned=false,score=1,'
        'finding_id="f1",raised_at_ms=1000i,start_ms=900i,evidence="{\\"voltage_v\\":204.2}" 1000001200'
    )
    assert second.startswith("ev_finding,code=under_voltage,evse=-,node=-,scope=site,site=depot,station=- ")
    assert 'state="cleared",open=0i' in second
    assert second.endswith(" 1000001201")


def test_changes_of_one_millisecond_keep_their_order_whatever_the_split() -> None:
    changes = [
        change(order=7),
        change(order=7, state="cleared"),
        change(order=7, finding_id="f2"),
        change(order=8),
    ]
    lines = finding_lines(changes)
    stamps = [int(line.rsplit(b" ", 1)[1]) for line in lines.splitlines()]
    assert stamps == sorted(set(stamps))
    assert {s // NS_PER_MS for s in stamps} == {1_000}
    assert finding_lines(changes[:3]) + finding_lines(changes[3:]) == lines


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="no tags"):
        encode_point("ev_pipeline", {"colour": "red"}, {"dead": 1}, 0)
    with pytest.raises(KeyError, match="has no field 'colour'"):
        encode_point("ev_pipeline", {}, {"colour": 1}, 0)


def test_string_fields_stay_on_one_line() -> None:
    text = lp.quote('a "b" \\ c\nd\r\ne')
    assert text == '"a \\"b\\" \\\\ c d  e"'


@pytest.mark.parametrize("measurement", MEASUREMENTS.values(), ids=lambda m: m.name)
def test_the_schema_keeps_the_rules_of_every_influxdb(measurement: Any) -> None:
    names = [f.name for f in measurement.fields]
    assert len(set(names)) == len(names)
    assert not set(names) & set(measurement.tags)
    assert list(measurement.tags) == sorted(measurement.tags)
    assert len(names) + len(measurement.tags) + 1 <= 500  # columns of an InfluxDB 3 table
    for name in [measurement.name, *names, *measurement.tags]:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert name != "time"
    for spec in measurement.fields:
        assert spec.description
        assert bool(spec.unit) == (spec.type in {"float", "int"})
        assert spec.decimals == 0 or spec.type == "float"


def test_units_stand_last_in_roll_up_names() -> None:
    assert split_unit("voltage_l1_v") == ("voltage_l1", "_v")
    assert split_unit("power_factor") == ("power_factor", "")


def test_the_schema_lists_exactly_what_roll_ups_write() -> None:
    for name in ROLLUP_MEASUREMENT.values():
        written = {*rollups.FIELDS, "readings", "energy_import_wh"}
        assert {field.name for field in MEASUREMENTS[name].fields} == written
    assert set(rollups.PERIODS_S) == set(ROLLUP_MEASUREMENT)


def test_bills_are_net_of_credits_and_do_not_overwrite_each_other() -> None:
    body = {
        "currency": "EUR", "total_energy": 10.5, "total_cost": {"excl_vat": 4.2, "incl_vat": 5},
        "cdr_location": {"evse_uid": "cp-1-2"},
    }  # fmt: skip
    bill = CdrRow(
        id="a", revision=2, site="s", station="cp-1", transaction_id="t", credit=False,
        credit_reference_id=None, ocpi_version="2.2.1", last_updated_ms=1_000, body=json.dumps(body),
    )  # fmt: skip
    back = body | {"total_cost": {"before_taxes": -4.2, "taxes": [{"name": "VAT", "amount": -0.8}]}}
    credit = msgspec.structs.replace(bill, id="a-C", credit=True, body=json.dumps(back))
    first, second = bill_lines([bill, credit]).decode().splitlines()
    head, fields, at = first.split(" ")
    assert head == "ev_bill,evse=2,site=s,station=cp-1"
    assert fields == (
        'total_excl=4.2,total_incl=5,energy_wh=10500,currency="EUR",credit=0i,cdr_id="a",transaction_id="t"'
    )
    assert second.split(" ")[1].startswith("total_excl=-4.2,total_incl=-5,energy_wh=-10500,")
    assert int(at) // 1_000_000 == int(second.split(" ")[2]) // 1_000_000 == 1_000
    assert at != second.split(" ")[2]

"""The native dialect beyond the golden cases: exact registers, counting, what is never let through."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import batch as b
from models.errors import ConfigError, DecodeError
from models.topics import Route, Router
from models.units import NO_REGISTER, mwh_from_wh
from pipeline.dialects import Message, Topic
from pipeline.dialects._native_meter import registers_mwh
from pipeline.dialects.native import Native, build, readings_in

from .dialect_sink import CollectingSink, topic_of

T0 = 1_781_069_400_000


def decode(kind: int, payload: Any, *, msgpack: bool = False) -> CollectingSink:
    sink = CollectingSink()
    data = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    Native().decode(Message(Topic("t", "native", kind, "s", "n", msgpack), data, 0, False), sink)
    return sink


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-1e13, 1e13) | st.decimals(-(10**6), 10**6, places=4).map(float), max_size=5))
@example([0.5015, 2.0035])  # products with 1000 that round to the wrong side
@example([0.1, 1.0005, 1.0015, 2.5e-4, -0.0, 1e12, 1e12 + 1])
@example([999_999_999_999.999, 8_589_934_592.125])
def test_registers_equal_their_shortest_text(values: list[float]) -> None:
    got = registers_mwh(np.array(values, np.float64)).tolist()
    assert got == [mwh_from_wh(v) if abs(v) <= 1e12 else NO_REGISTER for v in values]


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_three_decimals_survive(mwh: int) -> None:
    text = str(Decimal(mwh).scaleb(-3))
    assert registers_mwh(np.array([float(text)])).tolist() == [mwh]


def test_missing_registers_are_never_zero() -> None:
    got = registers_mwh(np.array([np.nan, np.inf, -np.inf, 0.0]))
    assert got.tolist() == [NO_REGISTER, NO_REGISTER, NO_REGISTER, 0]


def test_nan_in_messagepack_is_missing_where_allowed_and_refused_elsewhere() -> None:
    nan = float("nan")
    item = {"evse": 1, "t": T0, "txId": "A", "eventType": "Started", "reg_wh": nan}
    with pytest.raises(DecodeError, match="reg_wh"):
        decode(b.TX, msgspec.msgpack.encode({"items": [item]}), msgpack=True)
    with pytest.raises(DecodeError, match="hb_s"):
        decode(b.CONN, msgspec.msgpack.encode({"online": True, "hb_s": nan}), msgpack=True)


def test_an_empty_column_is_not_a_column_of_zeros() -> None:
    series = {"evse": 1, "t0": T0, "ch": ["SoC", "Energy.Active.Import.Register"], "rows": [[0, None, None]]}
    (row,) = decode(b.METER, {"series": [series]}).of("rows")
    assert np.isnan(row["values"]).all()
    assert row["reg_mwh"].tolist() == [NO_REGISTER]


def test_messagepack_equals_json() -> None:
    body = {
        "v": 1,
        "boot": 3,
        "seq": 4,
        "series": [
            {"st": "S", "evse": 2, "t0": T0, "ch": ["SoC", "x.CP.V"], "rows": [[0, 1.5, None], [-7, 2, 3]]}
        ],
    }
    packed = decode(b.METER, msgspec.msgpack.encode(body), msgpack=True)
    assert packed.readable() == decode(b.METER, body).readable()


def test_readings_are_counted() -> None:
    series = {"evse": 1, "t0": T0, "ch": ["SoC"], "rows": [[0, 1], [1, "broken"], [2]]}
    body = {"series": [series, series | {"rows": []}]}
    assert readings_in(msgspec.json.encode(body)) == 3
    assert readings_in(msgspec.msgpack.encode(body), msgpack=True) == 3
    assert readings_in(b"{") == 0
    assert readings_in(b'{"series":' + b"[" * 100_000) == 0


def test_unknown_channels_are_counted() -> None:
    dialect = Native()
    series = {"evse": 1, "t0": T0, "ch": ["Vendor.A"], "rows": [[0, 1]]}
    message = msgspec.json.encode({"series": [series, series]})
    topic = Topic("t", "native", b.METER, "s", "n")
    dialect.decode(Message(topic, message, 0, False), CollectingSink())
    assert dialect.unknown_channels == {"Vendor.A": 2}


def test_what_json_cannot_carry_is_refused() -> None:
    body = {"cmdId": "c", "t": T0, "status": "Accepted", "result": {(1, 2): 3}}
    with pytest.raises(DecodeError):
        decode(b.CMDRES, msgspec.msgpack.encode(body), msgpack=True)
    extension = msgspec.msgpack.encode(body | {"result": msgspec.msgpack.Ext(5, b"x")})
    with pytest.raises(DecodeError, match="extension type 5"):
        decode(b.CMDRES, extension, msgpack=True)


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(DecodeError, match="cannot be kept"):
        decode(b.OPERATOR, b'{"number":-9223372036854775809}')


def test_deep_nesting_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="json"):
        decode(b.METER, b'{"series":[],"more":' + b"[" * 200_000 + b"}")


@pytest.mark.parametrize(
    "t", [-1, 4_102_444_800_000, 1_781_069_400_000_000, 1.5, "2026-06-10T05:30:00Z", None]
)
def test_times_are_epoch_ms(t: Any) -> None:
    with pytest.raises(DecodeError, match="schema"):
        decode(b.HEARTBEAT, {"t": t})


def test_unset_clocks_are_let_through() -> None:
    assert decode(b.HEARTBEAT, {"t": 0}).of("heartbeat")[0]["time_ns"] == 0


def test_there_are_no_options() -> None:
    with pytest.raises(ConfigError, match="takes no options, got form"):
        build({"form": "raw"})
    assert build({}).snapshot() == {}


def test_the_sample_of_an_independent_simulator(data_dir: Path) -> None:
    """Everything in it decodes, the reader and the general decoder agreeing on every meter message."""
    from .meter_messages import assert_equal_or_slow, read, taught

    router = Router([Route("evt/v1/_op/#", "native"), Route("evt/v1/{site}/{node}/{rest}", "native")])
    calls: Counter[str] = Counter()
    dialect = Native()
    meters: list[bytes] = []
    with gzip.open(data_dir / "native-sample" / "messages.jsonl.gz", "rt") as lines:
        for line in lines:
            entry = json.loads(line)
            sink = CollectingSink()
            topic = topic_of(router, entry["topic"])
            payload = msgspec.json.encode(entry["payload"])
            dialect.decode(Message(topic, payload, entry["t"] * 10**6, False), sink)
            calls.update(method for method, _ in sink.calls)
            if topic.kind == b.METER:
                meters.append(payload)
    assert dialect.unknown_channels == {}
    assert calls["rows"] > calls["head"] > 1800
    rows, head, status = read(taught(meters), meters)
    assert not status.any()
    for i in range(0, len(meters), 20):
        assert_equal_or_slow(meters[i], rows, head[i], int(status[i]), i)

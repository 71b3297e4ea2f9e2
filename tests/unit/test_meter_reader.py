"""The reader from bytes to columns equals the general decoder on every message it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import batch as b
from models.channels import CHANNEL_ID, CHANNELS, N_CHANNELS
from models.errors import DecodeError
from models.meter_reader import MAX_UNKNOWN_NAMES, MeterReader, MeterRows
from models.units import NO_REGISTER
from pipeline.dialects import Message, Topic
from pipeline.dialects.native import Native, build

from .dialect_sink import CollectingSink

REGISTER = "Energy.Active.Import.Register"
T0 = 1_781_069_406_907


def payload(**changes: Any) -> dict[str, Any]:
    series = {
        "st": "S1",
        "evse": 1,
        "conn": 1,
        "t0": T0,
        "ch": ["Voltage@L1-N", REGISTER, "x.CP.V"],
        "rows": [[0, 230.1, 6847430, 11.9], [1000, None, 6847430.125, -0.0]],
    }
    return {"v": 1, "boot": 4, "seq": 9, "series": [series | changes]}


def read(
    reader: MeterReader, messages: list[bytes], topics: list[int] | None = None
) -> tuple[MeterRows, NDArray[np.int64], NDArray[np.uint8]]:
    end = np.cumsum([len(m) for m in messages], dtype=np.int64)
    start = np.concatenate([np.zeros(1, np.int64), end[:-1]])
    return reader.read(b"".join(messages), start, end, np.array(topics or [0] * len(messages), np.int32))


def slow(message: bytes) -> list[tuple[str, dict[str, Any]]] | None:
    sink = CollectingSink()
    try:
        Native().decode(Message(Topic("t", "native", b.METER, "s", "n"), message, 0, False), sink)
    except DecodeError:
        return None
    return sink.calls


def taught(messages: list[bytes], reader: MeterReader | None = None) -> MeterReader:
    """Return a reader that has learnt every series the general decoder finds, as the flow teaches it."""
    reader = reader or MeterReader()
    for message in messages:
        for method, call in slow(message) or ():
            if method == "rows":
                reader.learn(0, call["station"], call["evse"], 1000 * call["evse"] + len(call["station"]))
    return reader


def assert_equal_or_slow(
    message: bytes, rows: MeterRows, head: NDArray[np.int64], status: int, at: int
) -> None:
    mine = rows.message == at
    if status == 1:
        assert not mine.any()
        return
    calls = slow(message)
    assert calls is not None, f"read what the general decoder refuses: {message!r}"
    assert calls[0] == ("head", {"kind": b.METER, "boot": head[0], "seq": head[1]})
    chunks = [call for method, call in calls if method == "rows"]
    n = sum(len(c["time_ns"]) for c in chunks)
    assert head[2] == mine.sum() == n
    want = np.full((N_CHANNELS, n), np.nan)
    got = np.full((N_CHANNELS, n), np.nan)
    begin = 0
    for chunk in chunks:
        stop = begin + len(chunk["time_ns"])
        want[chunk["channels"], begin:stop] = chunk["values"]
        begin = stop
    present = np.flatnonzero(rows.slot_of >= 0)
    got[present] = rows.values[rows.slot_of[present]][:, mine]
    assert got.view(np.int64).tolist() == want.view(np.int64).tolist() or _same_bits(got, want)
    times = [c["time_ns"] for c in chunks]
    assert rows.time_ns[mine].tolist() == [t for c in times for t in c.tolist()]
    registers = [
        c["reg_mwh"].tolist() if c["reg_mwh"] is not None else [NO_REGISTER] * len(c["time_ns"])
        for c in chunks
    ]
    assert rows.reg_mwh[mine].tolist() == [r for c in registers for r in c]
    evses = [[1000 * c["evse"] + len(c["station"])] * len(c["time_ns"]) for c in chunks]
    assert rows.evse[mine].tolist() == [e for c in evses for e in c]


def _same_bits(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Return whether two tables agree bit for bit, all NaN being the same missing value."""
    both = np.isnan(a) & np.isnan(b)
    return bool(((a.view(np.int64) == b.view(np.int64)) | both).all())


def check(messages: list[bytes], reader: MeterReader | None = None) -> NDArray[np.uint8]:
    rows, head, status = read(taught(messages, reader), messages)
    for i, message in enumerate(messages):
        assert_equal_or_slow(message, rows, head[i], int(status[i]), i)
    return status


def test_reads_what_stations_send() -> None:
    message = json.dumps(payload()).encode()
    reader = taught([message])
    rows, head, status = read(reader, [message, message])
    assert status.tolist() == [0, 0]
    assert head.tolist() == [[4, 9, 2], [4, 9, 2]]
    assert rows.message.tolist() == [0, 0, 1, 1]
    assert rows.time_ns[:2].tolist() == [T0 * 10**6, (T0 + 1000) * 10**6]
    assert rows.reg_mwh[:2].tolist() == [6_847_430_000, 6_847_430_125]
    volts = rows.values[rows.slot_of[CHANNEL_ID["Voltage@L1-N"]]]
    assert volts[0] == 230.1
    assert np.isnan(volts[1])
    assert np.signbit(rows.values[rows.slot_of[CHANNEL_ID["x.CP.V"]]][1])
    assert rows.values.flags.c_contiguous


SIMPLE = [
    json.dumps(payload()).encode(),
    json.dumps(payload(), indent=1).encode(),
    json.dumps(payload(), separators=(",", ":")).encode(),
    json.dumps(payload(rows=[])).encode(),
    json.dumps({"series": []}).encode(),
    json.dumps({"series": payload()["series"] * 3}).encode(),
    json.dumps(payload(tx="T-1", ctx="Sample.Periodic")).encode(),
    json.dumps(payload(ch=[], rows=[[0], [5]])).encode(),
    json.dumps(payload(ch=["Vendor.Thing", "SoC"], rows=[[0, 1e9, 55.5]])).encode(),
    json.dumps(payload(ch=["SoC"], rows=[[0, 2e9], [1, -2e9], [2, 1e-7], [3, 123456789012345.5]])).encode(),
    b'{"series":[{"ch":["SoC"],"t0":5,"evse":2,"rows":[[-5,1.5E+2],[1,0.000]]}]}',
]

NOT_SIMPLE = [
    b'{"v":2,"series":[]}',
    b'{"v":1,"v":1,"series":[]}',
    b'{"v":1,"series":[],"series":[]}',
    b'{"v":1,"more":{"deep":[1,{}]},"series":[]}',
    b'{"v":01,"series":[]}',
    b'{"boot":-1,"series":[]}',
    b'{"seq":9007199254740993,"series":[]}',
    b'{"seq":1.0,"series":[]}',
    b'{"v":1}',
    b"[]",
    b"",
    b"{}",
    b'{"series":[]}x',
    b'{"series":[],}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1]],"rows":[[0,2]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"]}]}',
    b'{"series":[{"evse":0,"t0":1,"ch":["SoC"],"rows":[[0,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC","SoC"],"rows":[[0,1,2]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC" "RPM"],"rows":[[0,1,2]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC",],"rows":[[0,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["S\\u006fC"],"rows":[[0,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1,2]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[null,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0.5,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[-2,1]]}]}',
    b'{"series":[{"evse":1,"t0":4102444800000,"ch":["SoC"],"rows":[[0,1]]}]}',
    b'{"series":[{"evse":1,"t0":4102444800000,"ch":["SoC"],"rows":[[-1,1]]}]}',
    b'{"series":[{"evse":1,"t0":4102444800000,"ch":["SoC"],"rows":[]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,true]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,"1"]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,nul]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1.]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,.5]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,-]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1e]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1e400]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["Nobody.Knows"],"rows":[[0,1e400]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,NaN]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,0.30000000000000004]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1],]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1] [0,1]]}]}',
    b'{"series":[{"rows":[[0,1]],"evse":1,"t0":1,"ch":["SoC"]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1]],"st":"late"}]}',
    b'{"series":[{"st":null,"evse":1,"t0":1,"ch":["SoC"],"rows":[[0,1]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["Energy.Active.Import.Register"],"rows":[[0,1.0005]]}]}',
    b'{"series":[{"evse":1,"t0":1,"ch":["Energy.Active.Import.Register"],"rows":[[0,1e13]]}]}',
]


@pytest.mark.parametrize("message", SIMPLE)
def test_simple_messages_are_read(message: bytes) -> None:
    assert check([message]).tolist() == [0]


@pytest.mark.parametrize("message", NOT_SIMPLE)
def test_others_go_the_slow_way(message: bytes) -> None:
    assert check([message]).tolist() == [1]


def test_a_refused_message_leaves_nothing_behind() -> None:
    good = json.dumps(payload()).encode()
    bad = good.replace(b"-0.0", b"-0.0.1")
    other = json.dumps(payload(ch=["SoC"], rows=[[0, 50]])).encode()
    messages = [good, bad, other, bad, good]
    assert check(messages).tolist() == [0, 1, 0, 1, 0]


def test_unknown_series_go_the_slow_way_until_learnt() -> None:
    message = json.dumps(payload()).encode()
    reader = MeterReader()
    assert read(reader, [message])[2].tolist() == [1]
    reader.learn(0, "S1", 1, 17)
    rows, _, status = read(reader, [message])
    assert status.tolist() == [0]
    assert rows.evse.tolist() == [17, 17]
    assert read(reader, [message], topics=[1])[2].tolist() == [1]  # the same words on another topic
    reader.learn(0, "S1", 1, 3)
    assert read(reader, [message])[0].evse.tolist() == [3, 3]


def test_many_series_and_layouts() -> None:
    """Tables grow; every key and list is found again."""
    names = [c.name for c in CHANNELS]
    messages = [
        json.dumps(
            payload(
                st=f"Station-{i}",
                evse=i % 7 + 1,
                ch=names[: i % 40 + 1],
                rows=[[0] + [float(i)] * (i % 40 + 1)],
            )
        ).encode()
        for i in range(1500)
    ]
    reader = taught(messages)
    assert not check(messages, reader).any()


def test_two_lists_in_turn() -> None:
    first = payload()["series"][0]
    second = payload(ch=["Frequency"], rows=[[0, 50.01]])["series"][0]
    message = json.dumps({"series": [first, second]}).encode()
    assert not check([message] * 5).any()


def test_names_nobody_knows_are_counted_and_bounded() -> None:
    messages = [
        json.dumps(payload(ch=[f"Vendor.{i}", "SoC"], rows=[[0, 1, 2]])).encode()
        for i in range(MAX_UNKNOWN_NAMES + 50)
    ]
    reader = taught(messages)
    for message in messages:
        assert read(reader, [message])[2].tolist() == [0]
    read(reader, messages[:1])
    assert reader.unknown_channels["Vendor.0"] == 2
    assert reader.unknown_channels["(others)"] == 50
    assert len(reader.unknown_channels) == MAX_UNKNOWN_NAMES + 1


def test_spans_outside_the_buffer_are_not_read() -> None:
    message = json.dumps(payload()).encode()
    reader = taught([message])
    start = np.array([-1, 0, 5], np.int64)
    end = np.array([4, len(message) + 1, 2], np.int64)
    _, _, status = reader.read(message, start, end, np.zeros(3, np.int32))
    assert status.tolist() == [1, 1, 1]


PLAIN = st.one_of(
    st.integers(-(10**6), 10**6).map(str), st.decimals(-1000, 10**7, places=3).map(str), st.just("null")
)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 10**7, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-1e4, 1e4, width=32).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(
        ["null"] * 9 + ["-0", "-0.0", "1e22", "1e23", "9007199254740993", "0e999", "1e-400", "true", "01"]
    ),
)
MOSTLY_PLAIN = st.integers(0, 20).flatmap(lambda k: NUMBERS if k == 0 else PLAIN)
BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n"])
STRINGS = st.one_of(
    st.sampled_from(["S1", "", "station-22", "S1", "station-23", "x y", "é", "a\\u0062", "x\ny"]),
    st.text("abc/ ", max_size=6),
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a message close to the schema, spelled in many ways."""

    def gap() -> str:
        return draw(BLANKS)

    def series() -> str:
        channels = draw(
            st.lists(st.sampled_from([*[c.name for c in CHANNELS[:9]], REGISTER, "Odd"]), max_size=4)
        )
        width = len(channels) + draw(st.sampled_from([0] * 12 + [1, -1]))
        rows = [
            ",".join(
                [
                    draw(st.integers(0, 10**5).map(str) if draw(st.integers(0, 20)) else NUMBERS),
                    *(gap() + draw(MOSTLY_PLAIN) for _ in range(width)),
                ]
            )
            for _ in range(draw(st.integers(0, 3)))
        ]
        members = {
            "st": f'"{draw(STRINGS)}"',
            "evse": draw(st.sampled_from(["1", "1", "2", "3", "1", "2", "0"])),
            "conn": draw(st.sampled_from(["1", "null", "0"])),
            "tx": f'"{draw(STRINGS)}"',
            "t0": str(draw(st.sampled_from([T0, T0, T0, 7, 4102444799999, 10**15]))),
            "ch": "[" + ",".join(f'{gap()}"{c}"' for c in channels) + "]",
            "rows": "[" + ",".join(f"{gap()}[{row}]" for row in rows) + gap() + "]",
        }
        names = draw(
            st.sampled_from(
                [list(members), ["evse", "t0", "ch", "rows"], ["evse", "ch", "t0", "rows", "evse"]]
            )
        )
        if draw(st.integers(0, 9)) == 0:
            names = draw(st.permutations(names))
        return "{" + ",".join(f'{gap()}"{n}"{gap()}:{gap()}{members[n]}' for n in names) + "}"

    top = {
        "v": draw(st.sampled_from(["1"] * 20 + ["2", "1.0"])),
        "boot": str(draw(st.integers(0, 2**53) | st.sampled_from([-1, 2**54]))),
        "seq": str(draw(st.integers(0, 100))),
        "series": "[" + ",".join(series() for _ in range(draw(st.integers(0, 3)))) + "]",
        "more": '{"a":[1,{"b":null}]}',
    }
    names = draw(
        st.sampled_from([["v", "boot", "seq", "series"], ["series"], ["seq", "series", "v"], list(top)])
    )
    return gap() + "{" + ",".join(f'"{n}":{gap()}{top[n]}' for n in names) + gap() + "}" + gap()


SHARED = MeterReader()


@settings(max_examples=250, deadline=None)
@given(st.lists(texts(), min_size=1, max_size=2))
@example([SIMPLE[0].decode()])
def test_equal_to_the_general_decoder(messages: list[str]) -> None:
    check([m.encode() for m in messages], SHARED)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SIMPLE),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from("sid")), max_size=3),
    st.integers(0, 500),
)
def test_equal_on_damaged_messages(message: bytes, edits: list[tuple[int, int, str]], cut: int) -> None:
    damaged = bytearray(message)
    for at, value, how in edits:
        where = at % (len(damaged) + 1)
        if how == "i":
            damaged.insert(where, value)
        elif where < len(damaged):
            if how == "s":
                damaged[where] = value
            else:
                del damaged[where]
    check([SIMPLE[0], bytes(damaged), bytes(damaged)[: max(0, len(damaged) - cut % 40)], SIMPLE[2]], SHARED)


LONG = st.from_regex(r"-?[1-9][0-9]{0,2}\.[0-9]{13,19}", fullmatch=True)


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBERS | LONG, min_size=1, max_size=8))
@example(["337.83147282794969"])  # one division of its 17 digits would be rounded twice
@example(["3.36620644402302749"])
@example(["9007199.254740993", "90071992.54740992"])
@example(["12.345678901234567890"])  # its digits overflow 64 bits
@example(["1844674407370955.1617e-15", "18446744073709551616.5e-19"])
def test_numbers_are_correctly_rounded(numbers: list[str]) -> None:
    def message(channel: str) -> bytes:
        rows = ",".join(f"[0,{n}]" for n in numbers)
        return f'{{"series":[{{"evse":1,"t0":5,"ch":["{channel}"],"rows":[{rows}]}}]}}'.encode()

    check([message("SoC"), message(REGISTER)], SHARED)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=8))
def test_registers_are_exact_to_the_mwh(registers: list[int]) -> None:
    rows = ",".join(f"[0,{'-' if r < 0 else ''}{abs(r) // 1000}.{abs(r) % 1000:03d}]" for r in registers)
    message = f'{{"series":[{{"evse":1,"t0":5,"ch":["{REGISTER}"],"rows":[{rows}]}}]}}'.encode()
    got, _, status = read(taught([message], SHARED), [message])
    assert status.tolist() == [0]
    assert got.reg_mwh.tolist() == registers


_CHECKED = """
import json
from tests.unit import test_meter_reader as t
for message in [*t.SIMPLE, *t.NOT_SIMPLE]:
    t.check([message])
for message in t.SIMPLE:
    reader = t.taught([message])
    for cut in range(len(message)):
        rows, head, status = t.read(reader, [message[:cut]])
        assert status.tolist() == [1], message[:cut]
print("in bounds")
"""


def test_never_reads_out_of_bounds() -> None:
    """Every truncation, with Python checking every index of the kernels."""
    env = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHECKED], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "in bounds", done.stderr[-2000:]


def test_build_takes_no_options() -> None:
    with pytest.raises(Exception, match="takes no options"):
        build({"form": "raw"})

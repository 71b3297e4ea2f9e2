"""Native meter messages and the comparison of the reader with the general decoder on them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import batch as b
from models.channels import N_CHANNELS
from models.errors import DecodeError
from models.meter_reader import MeterReader, MeterRows
from models.units import NO_REGISTER
from pipeline.dialects import Message, Topic
from pipeline.dialects.native import Native

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

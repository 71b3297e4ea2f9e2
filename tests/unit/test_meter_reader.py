"""The reader from bytes to columns: what it reads, leaves and remembers, and where it never reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from models.channels import CHANNEL_ID, CHANNELS
from models.meter_reader import MAX_UNKNOWN_NAMES, MeterReader
from pipeline.dialects.native import build

from .meter_messages import NOT_SIMPLE, SIMPLE, T0, check, payload, read, taught


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


_CHECKED = """
import json
from tests.unit import meter_messages as t
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

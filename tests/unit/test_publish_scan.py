"""PUBLISH packets out of a buffer, against the textbook reader, cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED
from models.publish_scan import FULL, MALFORMED, NEED_MORE, OTHER, QOS2, PublishColumns, scan_publishes
from tests.naive import publish_scan as naive

ANY_MAX = 1 << 40

packets = st.lists(
    st.tuples(
        st.binary(min_size=0, max_size=200),
        st.binary(max_size=400),
        st.sampled_from([0b0000, 0b0001, 0b0010, 0b0011, 0b1010, 0b1011]),
        st.integers(1, 65535),
        st.binary(max_size=150),
    ),
    max_size=8,
)


def scan(
    data: bytes, version5: bool, max_payload: int = ANY_MAX, room: int = 64
) -> tuple[list[tuple[bytes, bytes, int, int]], int, int]:
    """Return (topic, payload, flags, identifier) of each packet, where the scan ended, and why."""
    out = PublishColumns.room(room)
    array = np.frombuffer(data, np.uint8).copy()
    n, at, why = scan_publishes(array, 0, len(data), version5, max_payload, out)
    rows = [
        (
            data[out.topic_start[i] : out.topic_end[i]],
            data[out.payload_start[i] : out.payload_end[i]],
            int(out.flags[i]),
            int(out.mids[i]),
        )
        for i in range(n)
    ]
    return rows, int(at), int(why)


@settings(max_examples=200)
@given(packets, st.booleans(), st.integers(0, 3000))
def test_equals_the_textbook_reader_wherever_it_is_cut(
    drawn: list[tuple[bytes, bytes, int, int, bytes]], version5: bool, cut: int
) -> None:
    data = b"".join(naive.encode(t, p, f, m, props if version5 else None) for t, p, f, m, props in drawn)
    data = data[: max(0, len(data) - cut)]
    expected, left = naive.scan(data, version5)
    rows, at, why = scan(data, version5)
    assert why == NEED_MORE
    assert data[at:] == left
    flags = {(f & 1) * RETAINED | (f >> 3) * REDELIVERED for _, _, f, _ in expected}
    assert flags >= {f for _, _, f, _ in rows}
    assert [(t, p, m) for t, p, _, m in rows] == [(t, p, m) for t, p, _, m in expected]
    assert [f for _, _, f, _ in rows] == [
        (RETAINED if f & 1 else 0) | (REDELIVERED if f & 8 else 0) for _, _, f, _ in expected
    ]


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
@example(b"\x32\x02\x00\x00", True)
@example(b"\x30\x03\x00\x00\xff", True)
@example(b"\x30\xff\xff\xff\xff\x01", False)
def test_any_bytes_stay_inside_the_buffer(data: bytes, version5: bool) -> None:
    rows, at, why = scan(data, version5)
    assert 0 <= at <= len(data)
    assert why in {NEED_MORE, OTHER, FULL, MALFORMED, QOS2}
    assert sum(len(t) + len(p) for t, p, _, _ in rows) <= len(data)


@pytest.mark.parametrize(
    ("packet", "version5", "why"),
    [
        (b"\x20\x02\x00\x00", False, OTHER),
        (b"\x34\x06\x00\x01t\x00\x07x", False, QOS2),
        (b"\x36\x06\x00\x01t\x00\x07x", False, MALFORMED),
        (b"\x32\x05\x00\x01t\x00\x00", False, MALFORMED),  # identifier 0
        (b"\x30\x02\x00\x09", False, MALFORMED),  # the topic runs past the packet
        (b"\x30\x04\x00\x01t\x05", True, MALFORMED),  # so do the properties
        (b"\x30\xff\xff\xff\xff\x01", False, MALFORMED),  # five length bytes
        (b"\x30\x80", False, NEED_MORE),
        (b"\x30", False, NEED_MORE),
    ],
)
def test_why_a_scan_ends(packet: bytes, version5: bool, why: int) -> None:
    good = naive.encode(b"t", b"p", 2, 9, b"" if version5 else None)
    rows, at, found = scan(good + packet, version5)
    assert (rows, at, found) == ([(b"t", b"p", 0, 9)], len(good), why)


def test_full_columns_go_on_where_they_ended() -> None:
    data = b"".join(naive.encode(b"t", b"%d" % i, 2, i + 1, None) for i in range(5))
    rows, at, why = scan(data, False, room=3)
    assert ([p for _, p, _, _ in rows], why) == ([b"0", b"1", b"2"], FULL)
    rest, _, why = scan(data[at:], False, room=3)
    assert ([p for _, p, _, _ in rest], why) == ([b"3", b"4"], NEED_MORE)


def test_a_payload_beyond_the_limit_keeps_its_first_bytes() -> None:
    data = naive.encode(b"t", b"a" * 1000, 2, 1, None) + naive.encode(b"t", b"b" * 1001, 2, 2, None)
    rows, _, _ = scan(data, False, max_payload=1000)
    assert rows == [(b"t", b"a" * 1000, 0, 1), (b"t", b"b" * OVERSIZE_PREFIX_BYTES, OVERSIZE, 2)]

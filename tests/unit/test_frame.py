"""Frames: what is encoded comes back, and nothing else is taken for a frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import StorageCorrupt
from models.frame import TICK_FLAG, Frame

from ._stored import unpack

messages = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=20),
        st.binary(max_size=40),
        st.integers(0, 255),
    ),
    max_size=12,
)


@given(messages, st.data())
@settings(max_examples=100)
def test_encoding_and_slicing_keep_every_message(
    rows: list[tuple[int, bytes, bytes, int]], data: st.DataObject
) -> None:
    frame = Frame.decode(Frame.build(rows).encode())
    assert unpack(frame) == rows
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    assert unpack(frame.slice(start, stop)) == rows[start:stop]


@given(st.lists(messages, min_size=1, max_size=5))
@settings(max_examples=100)
def test_decoding_all_is_joining_each(groups: list[list[tuple[int, bytes, bytes, int]]]) -> None:
    stored = [Frame.build(rows).encode() for rows in groups]
    joined = Frame.concat([Frame.decode(data) for data in stored])
    together = Frame.decode_all(stored)
    assert unpack(together) == unpack(joined) == [row for rows in groups for row in rows]
    for name in ("recv_ns", "topic_end", "payload_end", "flags"):
        one, other = getattr(together, name), getattr(joined, name)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@given(st.binary(max_size=80), st.integers(0, 200))
@settings(max_examples=100)
def test_anything_but_a_whole_frame_is_refused(garbage: bytes, cut: int) -> None:
    whole = Frame.build([(1, b"a/b", b"payload", 0), (2, b"", b"", TICK_FLAG)]).encode()
    for data in (garbage, whole[: min(cut, len(whole) - 1)], whole + garbage + b"x"):
        with pytest.raises(StorageCorrupt, match="frame of"):
            Frame.decode(data)
        with pytest.raises(StorageCorrupt, match="frame of"):
            Frame.decode_all([whole, data])

"""A run of messages as columns: the unit that the journal stores and the flow decodes.

Layout of the encoded form (little endian): magic ``CSF1``, n as uint32, topic bytes and payload
bytes as uint64, then ``recv_ns`` int64[n], ``topic_end`` uint32[n], ``payload_end`` uint64[n], ``flags``
uint8[n], topics, payloads. Decoding copies nothing but the header columns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from .errors import StorageCorrupt

RETAINED: Final = 1  # delivered because it was retained, not because it just happened
TICK_FLAG: Final = 2  # the journal's own second hand: no topic, no payload
REDELIVERED: Final = 4  # MQTT DUP flag
OVERSIZE: Final = 8  # longer than allowed: only the first OVERSIZE_PREFIX_BYTES of the payload were kept

COPY: Final = 16  # an operator message without site goes to every shard: this one is not the first

#: What is kept of a payload that is longer than ``mqtt.max_payload_bytes``.
OVERSIZE_PREFIX_BYTES: Final = 256

_HEAD: Final = struct.Struct("<4sIQQ")
_MAGIC: Final = b"CSF1"


@dataclass(slots=True)
class Frame:
    """n messages in arrival order.

    Attributes
    ----------
    recv_ns : ndarray, shape (n,), int64
        Arrival.
    topic_end, payload_end : ndarray, shape (n,), int64
        End of each topic and payload in `topics` and `payloads`; the start is the previous end.
    flags : ndarray, shape (n,), uint8
    topics, payloads : bytes
        All topics and all payloads, one after the other.
    """

    recv_ns: NDArray[np.int64]
    topic_end: NDArray[np.int64]
    payload_end: NDArray[np.int64]
    flags: NDArray[np.uint8]
    topics: bytes
    payloads: bytes

    def __len__(self) -> int:
        return len(self.recv_ns)

    def topic(self, i: int) -> bytes:
        """Return the topic of message i."""
        return self.topics[int(self.topic_end[i - 1]) if i else 0 : int(self.topic_end[i])]

    def payload(self, i: int) -> bytes:
        """Return the payload of message i."""
        return self.payloads[int(self.payload_end[i - 1]) if i else 0 : int(self.payload_end[i])]

    @classmethod
    def build(cls, messages: Iterable[tuple[int, bytes, bytes, int]]) -> Self:
        """Return a frame of (recv_ns, topic, payload, flags) messages."""
        rows = list(messages)
        return cls.from_columns(
            [m[0] for m in rows], [m[1] for m in rows], [m[2] for m in rows], [m[3] for m in rows]
        )

    @classmethod
    def from_columns(
        cls, recv_ns: Sequence[int], topics: Sequence[bytes], payloads: Sequence[bytes], flags: Sequence[int]
    ) -> Self:
        """Return a frame of four equally long columns."""
        n = len(recv_ns)
        return cls(
            np.array(recv_ns, np.int64),
            np.cumsum(np.fromiter(map(len, topics), np.int64, n), dtype=np.int64),
            np.cumsum(np.fromiter(map(len, payloads), np.int64, n), dtype=np.int64),
            np.array(flags, np.uint8),
            b"".join(topics),
            b"".join(payloads),
        )

    @classmethod
    def ticks(cls, recv_ns: Sequence[int]) -> Self:
        """Return a frame of ticks."""
        n = len(recv_ns)
        return cls.from_columns(recv_ns, [b""] * n, [b""] * n, [TICK_FLAG] * n)

    @classmethod
    def concat(cls, frames: Sequence[Self]) -> Self:
        """Return one frame with the messages of all `frames`, in order."""
        if len(frames) == 1:
            return frames[0]
        topic_base = np.cumsum([0] + [len(f.topics) for f in frames])
        payload_base = np.cumsum([0] + [len(f.payloads) for f in frames])
        return cls(
            np.concatenate([f.recv_ns for f in frames]) if frames else np.zeros(0, np.int64),
            np.concatenate(
                [f.topic_end + b for f, b in zip(frames, topic_base, strict=False)] or [np.zeros(0, np.int64)]
            ),
            np.concatenate(
                [f.payload_end + b for f, b in zip(frames, payload_base, strict=False)]
                or [np.zeros(0, np.int64)]
            ),
            np.concatenate([f.flags for f in frames]) if frames else np.zeros(0, np.uint8),
            b"".join(f.topics for f in frames),
            b"".join(f.payloads for f in frames),
        )

    def slice(self, start: int, stop: int) -> Self:
        """Return messages start (inclusive) to stop (exclusive)."""
        t0 = int(self.topic_end[start - 1]) if start else 0
        p0 = int(self.payload_end[start - 1]) if start else 0
        t1 = int(self.topic_end[stop - 1]) if stop else 0
        p1 = int(self.payload_end[stop - 1]) if stop else 0
        return type(self)(
            self.recv_ns[start:stop],
            self.topic_end[start:stop] - t0,
            self.payload_end[start:stop] - p0,
            self.flags[start:stop],
            self.topics[t0:t1],
            self.payloads[p0:p1],
        )

    def encode(self) -> bytes:
        """Return the stored form."""
        return b"".join(
            (
                _HEAD.pack(_MAGIC, len(self), len(self.topics), len(self.payloads)),
                self.recv_ns.astype("<i8").tobytes(),
                self.topic_end.astype("<u4").tobytes(),
                self.payload_end.astype("<u8").tobytes(),
                self.flags.tobytes(),
                self.topics,
                self.payloads,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the frame stored in `data`.

        Raises
        ------
        StorageCorrupt
            If `data` is not a whole frame.
        """
        n, topic_bytes, head = _sizes(data)
        at = _HEAD.size
        recv_ns = np.frombuffer(data, "<i8", n, at)
        topic_end = np.frombuffer(data, "<u4", n, at + 8 * n).astype(np.int64)
        payload_end = np.frombuffer(data, "<u8", n, at + 12 * n).astype(np.int64)
        flags = np.frombuffer(data, np.uint8, n, at + 20 * n)
        topics = data[head : head + topic_bytes]
        payloads = data[head + topic_bytes :]
        return cls(recv_ns.astype(np.int64), topic_end, payload_end, flags, topics, payloads)

    @classmethod
    def decode_all(cls, stored: Sequence[bytes]) -> Self:
        """Return one frame with the messages of all `stored` frames, in order.

        The same as `concat` of each one's `decode`; several times as fast when they are short, because no
        arrays are made for each.

        Raises
        ------
        StorageCorrupt
            If one of them is not a whole frame.
        """
        if len(stored) == 1:
            return cls.decode(stored[0])
        sizes = [_sizes(data) for data in stored]
        at = _HEAD.size

        def column(start: int, width: int, dtype: str) -> NDArray[Any]:
            parts = [
                data[at + start * n : at + (start + width) * n]
                for data, (n, _, _) in zip(stored, sizes, strict=True)
            ]
            return np.frombuffer(b"".join(parts), dtype)

        counts = [n for n, _, _ in sizes]
        topics = [data[head : head + size] for data, (_, size, head) in zip(stored, sizes, strict=True)]
        payloads = [data[head + size :] for data, (_, size, head) in zip(stored, sizes, strict=True)]
        topic_base = np.cumsum([0, *map(len, topics)])[:-1]
        payload_base = np.cumsum([0, *map(len, payloads)])[:-1]
        return cls(
            column(0, 8, "<i8").astype(np.int64),
            column(8, 4, "<u4").astype(np.int64) + np.repeat(topic_base, counts),
            column(12, 8, "<u8").astype(np.int64) + np.repeat(payload_base, counts),
            column(20, 1, "u1"),
            b"".join(topics),
            b"".join(payloads),
        )


def _sizes(data: bytes) -> tuple[int, int, int]:
    """Return (messages, bytes of topics, where the topics begin) of a stored frame, if it is whole."""
    if len(data) < _HEAD.size:
        raise StorageCorrupt(f"frame of {len(data)} bytes is shorter than its header of {_HEAD.size}")
    magic, n, topic_bytes, payload_bytes = _HEAD.unpack_from(data)
    head = _HEAD.size + 21 * n
    if magic != _MAGIC or len(data) != head + topic_bytes + payload_bytes:
        raise StorageCorrupt(f"frame of {len(data)} bytes has magic {magic!r} and promises another length")
    return n, topic_bytes, head

"""MQTT PUBLISH packets out of a byte buffer, as columns."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED

# Why a scan ended.
NEED_MORE: Final = 0  # the packet at `at` is not complete
OTHER: Final = 1  # the packet at `at` is complete and not a PUBLISH
FULL: Final = 2  # the columns are full
MALFORMED: Final = 3  # the packet at `at` is not MQTT
QOS2: Final = 4  # the packet at `at` is a PUBLISH at QoS 2, which a QoS 1 subscription never gets

_PUBLISH: Final = 3


class PublishColumns(NamedTuple):
    """Room for n PUBLISH packets; spans are [start, end) in the scanned buffer."""

    topic_start: NDArray[np.int64]
    topic_end: NDArray[np.int64]
    payload_start: NDArray[np.int64]
    payload_end: NDArray[np.int64]  # cut to the prefix when flagged OVERSIZE
    payload_size: NDArray[np.int64]
    flags: NDArray[np.uint8]
    mids: NDArray[np.uint16]

    @classmethod
    def room(cls, n: int) -> PublishColumns:
        """Return columns for n packets."""
        spans = [np.zeros(n, np.int64) for _ in range(5)]
        return cls(
            spans[0], spans[1], spans[2], spans[3], spans[4], np.zeros(n, np.uint8), np.zeros(n, np.uint16)
        )

    def first(self, n: int) -> PublishColumns:
        """Return views of the first n packets."""
        return PublishColumns(
            self.topic_start[:n],
            self.topic_end[:n],
            self.payload_start[:n],
            self.payload_end[:n],
            self.payload_size[:n],
            self.flags[:n],
            self.mids[:n],
        )


@njit(cache=True, nogil=True, fastmath=False)
def packet_length(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Return (header bytes, bytes after the header) of the packet at `at`.

    (0, 0) when the header is not complete in ``data[at:end]``, (-1, 0) when it is malformed.
    """
    size = 0
    shift = 0
    i = at + 1
    while True:
        if i >= end:
            return 0, 0
        byte = int(np.int64(data[i]))
        size |= (byte & 0x7F) << shift
        shift += 7
        i += 1
        if byte & 0x80 == 0:
            return i - at, size
        if shift >= 28:
            return -1, 0


@njit(cache=True, nogil=True, fastmath=False)
def publish_spans(
    data: NDArray[np.uint8], body: int, end: int, has_mid: bool, version5: bool
) -> tuple[int, int, int]:
    """Return (topic end, identifier, payload start) of a PUBLISH whose body is ``data[body:end]``.

    The topic starts at ``body + 2``. Topic end is -1 when a length runs past `end`.
    """
    if end - body < 2:
        return -1, 0, 0
    topic_end = body + 2 + (int(np.int64(data[body])) << 8 | int(np.int64(data[body + 1])))
    at = topic_end
    mid = 0
    if has_mid:
        if at + 2 > end:
            return -1, 0, 0
        mid = int(np.int64(data[at])) << 8 | int(np.int64(data[at + 1]))
        at += 2
        if mid == 0:
            return -1, 0, 0
    if version5:
        # One byte earlier: packet_length reads a variable byte integer after a first byte.
        used, size = packet_length(data, at - 1, end)
        if used <= 0:
            return -1, 0, 0
        at += used - 1 + size
    if at > end:
        return -1, 0, 0
    return topic_end, mid, at


@njit(cache=True, nogil=True, fastmath=False)
def scan_publishes(
    data: NDArray[np.uint8], at: int, end: int, version5: bool, max_payload: int, out: PublishColumns
) -> tuple[int, int, int]:
    """Read whole PUBLISH packets of ``data[at:end]`` into `out`.

    Returns
    -------
    (n, at, why)
        Packets read, where the next packet starts, and why the scan ended.
    """
    n = 0
    room = len(out.mids)
    while at < end:
        first = data[at]
        header, size = packet_length(data, at, end)
        if header < 0:
            return n, at, MALFORMED
        if header == 0 or at + header + size > end:
            return n, at, NEED_MORE
        if first >> 4 != _PUBLISH:
            return n, at, OTHER
        if n == room:
            return n, at, FULL
        qos = (first >> 1) & 3
        if qos >= 2:
            return n, at, QOS2 if qos == 2 else MALFORMED
        body = at + header
        stop = body + size
        topic_end, mid, payload = publish_spans(data, body, stop, qos > 0, version5)
        if topic_end < 0:
            return n, at, MALFORMED
        flags = (RETAINED if first & 1 else 0) | (REDELIVERED if first & 8 else 0)
        out.payload_size[n] = stop - payload
        if stop - payload > max_payload:
            flags |= OVERSIZE
            out.payload_end[n] = payload + OVERSIZE_PREFIX_BYTES
        else:
            out.payload_end[n] = stop
        out.topic_start[n] = body + 2
        out.topic_end[n] = topic_end
        out.payload_start[n] = payload
        out.flags[n] = flags
        out.mids[n] = mid
        n += 1
        at = stop
    return n, at, NEED_MORE


@njit(cache=True, nogil=True, fastmath=False)
def gather(
    data: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Copy the spans ``data[start[i]:end[i]]`` one after the other into `out`."""
    at = 0
    for i in range(len(start)):
        length = end[i] - start[i]
        out[at : at + length] = data[start[i] : end[i]]
        at += length

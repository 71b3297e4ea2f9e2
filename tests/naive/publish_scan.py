"""MQTT PUBLISH packets read the textbook way (MQTT 5 §3.3, 3.1.1 §3.3), one at a time."""

from __future__ import annotations


def varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Return (value, next position), None when `data` ends first; raise ValueError past four bytes."""
    value = 0
    for i in range(4):
        if at + i >= len(data):
            return None
        value += (data[at + i] & 0x7F) * 128**i
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("more than four bytes")


def encode(topic: bytes, payload: bytes, first: int, mid: int, properties: bytes | None) -> bytes:
    """Return a PUBLISH; `properties` None means MQTT 3.1.1."""
    body = len(topic).to_bytes(2, "big") + topic
    if first & 6:
        body += mid.to_bytes(2, "big")
    if properties is not None:
        body += length(len(properties)) + properties
    body += payload
    return bytes([0x30 | first]) + length(len(body)) + body


def length(value: int) -> bytes:
    """Return a variable byte integer."""
    out = []
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def scan(data: bytes, version5: bool) -> tuple[list[tuple[bytes, bytes, int, int]], bytes]:
    """Return (topic, payload, first byte's low half, identifier) of each whole packet, and what is left."""
    found = []
    at = 0
    while at < len(data):
        head = varint(data, at + 1)
        if head is None:
            break
        size, body = head
        if body + size > len(data):
            break
        first = data[at] & 0x0F
        topic_end = body + 2 + int.from_bytes(data[body : body + 2], "big")
        pos, mid = topic_end, 0
        if first & 6:
            mid = int.from_bytes(data[pos : pos + 2], "big")
            pos += 2
        if version5:
            properties = varint(data, pos)
            assert properties is not None
            pos = properties[1] + properties[0]
        found.append((data[body + 2 : topic_end], data[pos : body + size], first, mid))
        at = body + size
    return found, data[at:]

"""The few MQTT 3.1.1 and 5 packets that a receiving client needs, as bytes."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .mqtt_settings import LinkLost, MqttSettings

CONNACK: Final = 2
PUBLISH: Final = 3
SUBACK: Final = 9
PINGRESP: Final = 13
DISCONNECT: Final = 14

PINGREQ_PACKET: Final = b"\xc0\x00"
DISCONNECT_PACKET: Final = b"\xe0\x00"

#: MQTT 3.1.1 CONNACK return codes as MQTT 5 reason codes.
_CONNACK_311: Final = {0: 0, 1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}

_SESSION_EXPIRY: Final = 0x11
_RECEIVE_MAXIMUM: Final = 0x21
_SERVER_KEEP_ALIVE: Final = 0x13
_PROPERTY_SIZES: Final = {
    0x11: 4,
    0x21: 2,
    0x24: 1,
    0x25: 1,
    0x27: 4,
    0x22: 2,
    0x28: 1,
    0x29: 1,
    0x2A: 1,
    0x13: 2,
}
_TEXT_PROPERTIES: Final = {0x12, 0x1F, 0x1A, 0x1C, 0x15, 0x16}
_PAIR_PROPERTY: Final = 0x26


def varint(value: int) -> bytes:
    """Return a variable byte integer."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def connect(settings: MqttSettings) -> bytes:
    """Return a CONNECT for a persistent session."""
    version5 = settings.version == "5"
    flags = 0 if version5 or settings.client_id else 2
    if settings.username:
        flags |= 0x80 | (0x40 if settings.password else 0)
    body = _text("MQTT") + bytes([5 if version5 else 4, flags]) + struct.pack(">H", settings.keep_alive_s)
    if version5:
        properties = struct.pack(
            ">BIBH", _SESSION_EXPIRY, settings.session_expiry_s, _RECEIVE_MAXIMUM, settings.receive_maximum
        )
        body += varint(len(properties)) + properties
    body += _text(settings.client_id)
    if settings.username:
        body += _text(settings.username)
        if settings.password:
            body += _text(settings.password.reveal())
    return _packet(0x10, body)


def subscribe(settings: MqttSettings, mid: int) -> bytes:
    """Return a SUBSCRIBE for all filters at QoS 1.

    MQTT 5 options: retain as published off (the flag then means "this is the retained copy"), retained
    messages only when the subscription is new (retain handling 1).
    """
    version5 = settings.version == "5"
    options = 0x11 if version5 else 0x01
    body = struct.pack(">H", mid) + (b"\0" if version5 else b"")
    body += b"".join(_text(f) + bytes([options]) for f in settings.subscriptions)
    return _packet(0x82, body)


def pubacks(mids: NDArray[np.uint16]) -> bytes:
    """Return a PUBACK for each identifier that is not 0."""
    wanted = mids[mids != 0]
    out = np.empty((len(wanted), 4), np.uint8)
    out[:, 0], out[:, 1] = 0x40, 2
    out[:, 2], out[:, 3] = wanted >> 8, wanted & 0xFF
    return out.tobytes()


def connack(body: bytes, version: str) -> tuple[int, int | None]:
    """Return the reason code (as in MQTT 5) and the keep-alive that the server demands, if any.

    Raises
    ------
    LinkLost
        If the packet is malformed.
    """
    if len(body) < 2:
        raise LinkLost(f"malformed CONNACK of {len(body)} bytes")
    if version != "5":
        return _CONNACK_311.get(body[1], 0x80), None
    return body[1], _server_keep_alive(body[2:])


def _server_keep_alive(data: bytes) -> int | None:
    """Return property Server Keep Alive of a CONNACK's properties; unknown ones end the search."""
    try:
        length, at = _read_varint(data, 0)
        end = at + length
        while at < end:
            key = data[at]
            at += 1
            if key == _SERVER_KEEP_ALIVE:
                return int.from_bytes(data[at : at + 2], "big")
            if key in _PROPERTY_SIZES:
                at += _PROPERTY_SIZES[key]
            elif key in _TEXT_PROPERTIES:
                at += 2 + int.from_bytes(data[at : at + 2], "big")
            elif key == _PAIR_PROPERTY:
                for _ in range(2):
                    at += 2 + int.from_bytes(data[at : at + 2], "big")
            else:
                return None
    except IndexError:
        return None
    return None


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def suback_codes(body: bytes, version: str) -> list[int]:
    """Return one code for each filter: the granted QoS, or 128 and more for a refusal."""
    at = 2
    if version == "5":
        length, at = _read_varint(body, at)
        at += length
    return list(body[at:])


def disconnect_code(body: bytes) -> int:
    """Return the reason of a DISCONNECT from the broker."""
    return body[0] if body else 0

"""Bytes from outside through msgspec: a value, or a `DecodeError` that says what is wrong with them."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from models.errors import DecodeError

#: What decoding of bytes from outside may raise; anything else would be a fault of this program.
BAD_BYTES: Final = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError)

_SHOWN: Final = 500


def plain(value: Any) -> Any:
    """Return `value` as JSON would carry it, for fields that may hold anything.

    Raises
    ------
    DecodeError
        If JSON or MessagePack, in which it is stored, cannot carry it (such as integers beyond 64 bits).
    """
    try:
        carried = msgspec.json.decode(msgspec.json.encode(value))
        msgspec.msgpack.encode(carried)
    except BAD_BYTES as error:
        raise DecodeError("schema", f"a value that cannot be kept: {error}"[:_SHOWN]) from error
    return carried


class Decoder(Protocol):
    """A msgspec decoder of either format."""

    def decode(self, buf: bytes | msgspec.Raw, /) -> Any:
        """Return the value that `buf` spells."""


def read(decoder: Decoder, data: bytes | msgspec.Raw, form: str, what: str = "") -> Any:
    """Return what `decoder` makes of `data`.

    Raises
    ------
    DecodeError
        With reason ``schema`` where the form is right and the content is not, else with `form`
        (``json``, ``msgpack``).
    """
    where = f"{what}: " if what else ""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise DecodeError("schema", f"{where}{error}"[:_SHOWN]) from error
    except BAD_BYTES as error:
        raise DecodeError(form, f"{where}{error}"[:_SHOWN]) from error

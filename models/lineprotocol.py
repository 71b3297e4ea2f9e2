"""InfluxDB line protocol from columns: kernels that write text, and the escaping rules.

Numbers are written as short as they can be: at most the given decimals, no trailing zeros, no
exponent below 1e15. A float is rounded half to even *as the product* ``value * 10**decimals`` in
double precision (what `numpy.rint` does), so 0.0005 at three decimals is 0 and 0.0015 is 0.002;
minus zero is 0. NaN, infinities and `units.NO_REGISTER` are missing: their field is left out, and a
row without any field is no line. Registers are integer mWh and written exactly, in Wh.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ._words import SLACK, Scratch, load64, store32, store64
from .batch import F64, I32, I64, U8
from .units import NO_REGISTER

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]

#: Longest ",name=" a field may have, in bytes: four words a name are copied, whatever its length.
NAME_BYTES: Final = 32
#: Longest text of one number: sign, 19 digits, point, 4 decimals, exponent, with room to spare.
NUMBER_BYTES: Final = 32
MAX_DECIMALS: Final = 4
#: A float beyond this is as good as infinite: it is left out, as it might not read back as finite.
MAX_FLOAT: Final = 1e300

# How an integer column is written.
COUNT: Final = 0  # 12i
MILLI: Final = 1  # thousandths as a float: 1500 -> 1.5


class Texts(NamedTuple):
    """n byte strings in one array; string i is ``data[at[i]:at[i + 1]]``, and `SLACK` bytes follow."""

    data: U8
    at: I64


class FieldNames(NamedTuple):
    """k fields: ",name=" padded with zeros to `NAME_BYTES`, its length, and decimals or kind."""

    words: U64  # shape (k, NAME_BYTES // 8)
    length: I64  # shape (k,)
    kind: I64  # shape (k,): decimals of a float column, COUNT or MILLI of an integer column


class Floats(NamedTuple):
    """Float columns: field f is row ``slot[f]`` of `values`."""

    names: FieldNames
    slot: I64  # shape (k,)
    values: F64  # shape (any, n)


class Integers(NamedTuple):
    """Integer columns: field f is row f of `values`; `units.NO_REGISTER` is missing."""

    names: FieldNames
    values: I64  # shape (k, n)


def _digit_words(form: str, strip: str) -> tuple[U32, I64]:
    """Return the texts of 0..999 by `form`, as words of four bytes, and their lengths."""
    texts = [
        (form % i).rstrip(strip).rstrip(".").encode() if strip else (form % i).encode() for i in range(1000)
    ]
    words = np.frombuffer(b"".join(text.ljust(4, b"\0") for text in texts), np.uint32)
    return words.copy(), np.array([len(text) for text in texts], np.int64)


_LEADING, _LEADING_LENGTH = _digit_words("%d", "")
_THREE, _ = _digit_words("%03d", "")
_FRACTION, _FRACTION_LENGTH = _digit_words(".%03d", "0")
_POWER: Final = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
_POWER_INT: Final = np.array([1, 10, 100, 1000, 10000], np.int64)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


def escape_tag(text: str) -> str:
    """Return `text` as a tag key, tag value or field key.

    Comma, equals sign and space take a backslash. A backslash or control character cannot be
    written faithfully (a line break ends the point, a final backslash swallows the separator), so
    those become percent codes: a line feed is ``%0A``.
    """
    safe = _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", text)
    return safe.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")


def quote(text: str) -> str:
    """Return `text` as a string field value; line breaks become spaces, so that a point stays one line."""
    one_line = text.replace("\n", " ").replace("\r", " ")
    return '"' + one_line.replace("\\", "\\\\").replace('"', '\\"') + '"'


def number(value: float, decimals: int) -> str:
    """Return a float as the kernels write it; the value must be finite and below 1e15.

    Examples
    --------
    >>> number(230.1000004, 3), number(-0.0, 3), number(2.5, 0)
    ('230.1', '0', '2')
    """
    scaled = round(value * 10**decimals)
    whole, rest = divmod(abs(scaled), 10**decimals)
    text = f"{whole}.{rest:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return f"-{text}" if scaled < 0 else text


def field_names(names: Sequence[str], kinds: Sequence[int]) -> FieldNames:
    """Return the table of field names with their decimals (floats) or kind (integers).

    Raises
    ------
    ValueError
        If a name is too long or has more decimals than a number can show.
    """
    texts = [f",{escape_tag(name)}=".encode() for name in names]
    for name, text, kind in zip(names, texts, kinds, strict=True):
        if len(text) > NAME_BYTES or not 0 <= kind <= MAX_DECIMALS:
            raise ValueError(
                f"field {name!r} with {kind} decimals: names have at most {NAME_BYTES - 2} bytes, "
                f"numbers at most {MAX_DECIMALS} decimals"
            )
    padded = b"".join(text.ljust(NAME_BYTES, b"\0") for text in texts)
    words = np.frombuffer(padded, np.uint64).reshape(len(texts), NAME_BYTES // 8).copy()
    return FieldNames(words, np.array([len(t) for t in texts], np.int64), np.array(kinds, np.int64))


@njit(cache=True, nogil=True, inline="always")
def _put_below_billion(out: U8, p: int, v: int) -> int:
    if v < 1000:
        store32(out, p, _LEADING[v])
        p += _LEADING_LENGTH[v]
        return p
    if v < 1_000_000:
        high = v // 1000
        store32(out, p, _LEADING[high])
        p += _LEADING_LENGTH[high]
        store32(out, p, _THREE[v - high * 1000])
        return p + 3
    high = v // 1_000_000
    store32(out, p, _LEADING[high])
    p += _LEADING_LENGTH[high]
    rest = v - high * 1_000_000
    middle = rest // 1000
    store32(out, p, _THREE[middle])
    store32(out, p + 3, _THREE[rest - middle * 1000])
    return p + 6


@njit(cache=True, nogil=True, inline="always")
def _put_nine(out: U8, p: int, v: int) -> int:
    high = v // 1_000_000
    rest = v - high * 1_000_000
    middle = rest // 1000
    store32(out, p, _THREE[high])
    store32(out, p + 3, _THREE[middle])
    store32(out, p + 6, _THREE[rest - middle * 1000])
    return p + 9


@njit(cache=True, nogil=True)
def put_integer(out: U8, p: int, v: int) -> int:
    """Write v (not the smallest int64) in decimal at p; return the position behind it."""
    if v < 0:
        out[p] = 45
        p += 1
        v = -v
    if v < 1_000_000_000:
        return int(_put_below_billion(out, p, v))
    high = v // 1_000_000_000
    low = v - high * 1_000_000_000
    if high < 1_000_000_000:
        p = _put_below_billion(out, p, high)
    else:
        top = high // 1_000_000_000
        p = _put_below_billion(out, p, top)
        p = _put_nine(out, p, high - top * 1_000_000_000)
    return int(_put_nine(out, p, low))


@njit(cache=True, nogil=True, inline="always")
def put_milli(out: U8, p: int, v: int) -> int:
    """Write v thousandths (not the smallest int64) without trailing zeros; return the position behind."""
    if v < 0:
        out[p] = 45
        p += 1
        v = -v
    whole = v // 1000
    rest = v - whole * 1000
    if whole < 1000:
        store32(out, p, _LEADING[whole])
        p += _LEADING_LENGTH[whole]
    else:
        p = put_integer(out, p, whole)
    store32(out, p, _FRACTION[rest])
    p += _FRACTION_LENGTH[rest]
    return p


@njit(cache=True, nogil=True)
def _put_huge(out: U8, p: int, value: float) -> int:
    exponent = 0
    while abs(value) >= 1e18:
        value /= 10.0
        exponent += 1
    p = put_integer(out, p, np.int64(np.rint(value)))
    if exponent:
        out[p] = 101
        p = put_integer(out, p + 1, exponent)
    return p


@njit(cache=True, nogil=True, inline="always")
def put_float(out: U8, p: int, value: float, decimals: int) -> int:
    """Write a finite value with at most `decimals` (0 to 4) decimals; return the position behind it.

    From 1e15 on, where a double has no decimals left to speak of, whole numbers are written, from
    1e18 on with an exponent and 18 digits.
    """
    if abs(value) >= 1e15:
        return int(_put_huge(out, p, value))
    if decimals <= 3:
        return int(put_milli(out, p, np.int64(np.rint(value * _POWER[decimals])) * _POWER_INT[3 - decimals]))
    scaled = np.int64(np.rint(value * 10000.0))
    if scaled % 10 == 0:
        return int(put_milli(out, p, scaled // 10))
    if scaled < 0:
        out[p] = 45
        p += 1
        scaled = -scaled
    whole = scaled // 10_000
    rest = scaled - whole * 10_000
    p = put_integer(out, p, whole)
    out[p] = 46
    store32(out, p + 1, _THREE[rest // 10])
    out[p + 4] = 48 + rest % 10
    return p + 5


@njit(cache=True, nogil=True, inline="always")
def _put_name(out: U8, p: int, words: U64, length: int, f: int) -> int:
    store64(out, p, words[f, 0])
    store64(out, p + 8, words[f, 1])
    store64(out, p + 16, words[f, 2])
    store64(out, p + 24, words[f, 3])
    return p + length


@njit(cache=True, nogil=True, inline="always")
def _put_text(out: U8, p: int, data: U8, start: int, length: int) -> int:
    for j in range(0, length, 16):
        store64(out, p + j, load64(data, start + j))
        store64(out, p + j + 8, load64(data, start + j + 8))
    return p + length


@njit(cache=True, nogil=True)
def _encode_kernel(
    head: Texts,
    tags: Texts,
    evse: I32,
    time_ns: I64,
    mask: U8,
    floats: Floats,
    integers: Integers,
    out: U8,
    i: int,
    p: int,
) -> tuple[int, int]:
    """Write rows from i on to `out` from p on while there is room; return the next i and p."""
    # Arrays are taken out of their tuples once: handing a tuple on counts every reference in it, per row.
    head_data, tag_data, tag_at = head.data, tags.data, tags.at
    head_length = head.at[1]
    names, lengths, decimals = floats.names
    slot, values = floats.slot, floats.values
    int_names, int_lengths, kinds = integers.names
    counts = integers.values
    room = head_length + (len(slot) + len(kinds)) * (NAME_BYTES + NUMBER_BYTES) + NUMBER_BYTES + SLACK
    while i < len(evse):
        if len(mask) and not mask[i]:
            i += 1
            continue
        tag_start = tag_at[evse[i]]
        tag_length = tag_at[evse[i] + 1] - tag_start
        if p + room + tag_length > len(out):
            break
        start = p
        p = _put_text(out, p, head_data, 0, head_length)
        p = _put_text(out, p, tag_data, tag_start, tag_length)
        begin = p
        for f in range(len(slot)):
            value = values[slot[f], i]
            if abs(value) <= MAX_FLOAT:  # neither NaN nor infinite
                p = _put_name(out, p, names, lengths[f], f)
                p = put_float(out, p, value, decimals[f])
        for f in range(len(kinds)):
            count = counts[f, i]
            if count != NO_REGISTER:
                p = _put_name(out, p, int_names, int_lengths[f], f)
                if kinds[f] == MILLI:
                    p = put_milli(out, p, count)
                else:
                    p = put_integer(out, p, count)
                    out[p] = 105
                    p += 1
        if p == begin:
            p = start
        else:
            out[begin] = 32  # the first field's comma is the space behind the tags
            out[p] = 32
            p = put_integer(out, p + 1, time_ns[i])
            out[p] = 10
            p += 1
        i += 1
    return i, p


def texts(strings: Sequence[bytes]) -> Texts:
    """Return `strings` as one array."""
    at = np.zeros(len(strings) + 1, np.int64)
    np.cumsum([len(s) for s in strings], out=at[1:])
    return Texts(np.frombuffer(b"".join(strings) + bytes(SLACK), np.uint8).copy(), at)


def encode_rows(
    head: Texts,
    tags: Texts,
    evse: I32,
    time_ns: I64,
    mask: NDArray[np.bool_] | None,
    floats: Floats,
    integers: Integers,
    scratch: Scratch,
) -> bytes:
    """Return one line a row that has at least one field, each ended by a line feed.

    Parameters
    ----------
    head : Texts
        One string: the measurement.
    tags : Texts
        For each EVSE row ",tag=value..." escaped.
    evse : ndarray, shape (n,), int32
        Series of each row, an index into `tags`.
    time_ns : ndarray, shape (n,), int64
    mask : ndarray, shape (n,), bool, or None
        Rows to write; None = all.
    floats, integers
        The columns, written in this order.
    scratch : Scratch

    Raises
    ------
    ValueError
        If one line does not fit into `scratch`.
    IndexError
        If a row is of a series that is not in `tags`.
    """
    if len(evse) and not 0 <= int(evse.min()) <= int(evse.max()) < len(tags.at) - 1:
        raise IndexError(
            f"rows of series {int(evse.min())} to {int(evse.max())}, but {len(tags.at) - 1} series are known"
        )
    chosen = np.zeros(0, np.uint8) if mask is None else mask.view(np.uint8)
    parts = []
    done = used = 0
    while True:
        done, used = _encode_kernel(
            head, tags, evse, time_ns, chosen, floats, integers, scratch.array, done, used
        )
        if done == len(evse):
            break
        if scratch.grow(used):
            continue
        if not used:
            raise ValueError(
                f"a line of {len(floats.slot) + len(integers.values)} fields does not fit into "
                f"{len(scratch.array)} bytes of scratch: allow more"
            )
        parts.append(scratch.array[:used].tobytes())
        used = 0
    parts.append(scratch.array[:used].tobytes())
    return b"".join(parts)

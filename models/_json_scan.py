"""Scanning JSON bytes from inside kernels: blanks, integers, plain strings and exact numbers.

Kernels here and in `_meter_kernel` are compiled without numba's reference counting (``_nrt=False``):
they own no memory, and counting the columns they pass on cost half of the run time. Positions are
cast to unsigned where they index, which spares numba's test for negative ones.

Every function takes the buffer, the position and the end (exclusive) of the message and returns the
position behind what it read, or -1 when the bytes are not what it reads *simply*. -1 never means
"malformed": the caller hands such a message to the general decoder, which decides.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int: TypeAlias = int | np.signedinteger[Any]

QUOTE: Final = 34
COMMA: Final = 44
MINUS: Final = 45
DOT: Final = 46
ZERO: Final = 48
COLON: Final = 58
OPEN_LIST: Final = 91
BACKSLASH: Final = 92
CLOSE_LIST: Final = 93
OPEN_OBJECT: Final = 123
CLOSE_OBJECT: Final = 125

#: 10**k is exact in float64 up to k = 22: with a mantissa below 2**53 one multiplication or division
#: is then the correctly rounded value (Clinger, "How to read floating point numbers accurately", 1990).
POW10: Final = np.array([10.0**k for k in range(23)])
MAX_MANTISSA: Final = 2**53
MAX_POW10: Final = 22
#: More digits than this could overflow an int64 mantissa.
MAX_DIGITS: Final = 18

_FNV_OFFSET: Final = 2166136261
_FNV_PRIME: Final = 16777619


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def skip_blanks(buf: NDArray[np.uint8], i: Int, end: Int) -> Int:
    """Return the position of the first byte from i on that is not JSON white space."""
    while i < end:
        c = buf[np.uint64(i)]
        if c > 32 or (c != 32 and c != 10 and c != 13 and c != 9):
            break
        i += 1
    return i


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def scan_natural(buf: NDArray[np.uint8], i: Int, end: Int) -> tuple[Int, Int]:
    """Return (position behind, value) of a whole number without sign, at most 18 digits."""
    first = i
    value: Int = 0
    while i < end:
        c = np.int64(buf[np.uint64(i)]) - ZERO
        if c < 0 or c > 9:
            break
        value = value * 10 + c
        i += 1
        if i - first > MAX_DIGITS:
            return -1, 0
    if i == first or (i - first > 1 and buf[np.uint64(first)] == ZERO):
        return -1, 0
    if i < end and (buf[np.uint64(i)] == DOT or (buf[np.uint64(i)] | 32) == 101):  # a fraction or an exponent
        return -1, 0
    return i, value


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def scan_integer(buf: NDArray[np.uint8], i: Int, end: Int) -> tuple[Int, Int]:
    """Return (position behind, value) of a whole number with or without minus, at most 18 digits."""
    if i < end and buf[np.uint64(i)] == MINUS:
        behind, value = scan_natural(buf, i + 1, end)
        negative: Int = -value
        return behind, negative
    behind, value = scan_natural(buf, i, end)
    return behind, value


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def scan_number(buf: NDArray[np.uint8], i: Int, end: Int) -> tuple[Int, Int, Int, bool]:
    """Return (position behind, mantissa >= 0, power of ten, negative) of a number.

    The value is exactly mantissa * 10**power, negated if negative. ``-0`` without fraction is not
    negative, as whole numbers have no negative zero.
    """
    fail = (-1, 0, 0, False)
    negative = False
    if i < end and buf[np.uint64(i)] == MINUS:
        negative = True
        i += 1
    first = i
    mantissa: Int = 0
    while i < end:
        c = np.int64(buf[np.uint64(i)]) - ZERO
        if c < 0 or c > 9:
            break
        mantissa = mantissa * 10 + c
        i += 1
    digits = i - first
    if digits == 0 or digits > MAX_DIGITS or (digits > 1 and buf[np.uint64(first)] == ZERO):
        return fail
    power: Int = 0
    whole = True
    if i < end and buf[np.uint64(i)] == DOT:
        whole = False
        i += 1
        first = i
        while i < end:
            c = np.int64(buf[np.uint64(i)]) - ZERO
            if c < 0 or c > 9:
                break
            mantissa = mantissa * 10 + c
            i += 1
        power = first - i
        digits += i - first
        if power == 0 or digits > MAX_DIGITS:
            return fail
    if i < end and (buf[np.uint64(i)] | 32) == 101:
        whole = False
        i += 1
        falling = i < end and buf[np.uint64(i)] == MINUS
        if i < end and (buf[np.uint64(i)] == MINUS or buf[np.uint64(i)] == 43):
            i += 1
        first = i
        exponent: Int = 0
        while i < end and i - first < 4:
            c = np.int64(buf[np.uint64(i)]) - ZERO
            if c < 0 or c > 9:
                break
            exponent = exponent * 10 + c
            i += 1
        if i == first or i - first > 3:
            return fail
        power += -exponent if falling else exponent
    if whole and mantissa == 0:
        negative = False
    return i, mantissa, power, negative


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def skip_string(buf: NDArray[np.uint8], i: Int, end: Int) -> Int:
    """Return the position behind the plain string that opens at i: printable ASCII, no escapes."""
    if i >= end or buf[np.uint64(i)] != QUOTE:
        return -1
    i += 1
    while i < end:
        c = buf[np.uint64(i)]
        if c == QUOTE:
            return i + 1
        if c < 32 or c > 126 or c == BACKSLASH:
            return -1
        i += 1
    return -1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def skip_string_list(buf: NDArray[np.uint8], i: Int, end: Int) -> Int:
    """Return the position behind the flat list of plain strings that opens at i.

    Commas and blanks between the strings are not judged: the caller looks the whole span up
    among spans that the general decoder has read.
    """
    if i >= end or buf[np.uint64(i)] != OPEN_LIST:
        return -1
    i += 1
    while i < end:
        c = buf[np.uint64(i)]
        if c == QUOTE:
            i = skip_string(buf, i, end)
            if i < 0:
                return -1
        elif c == CLOSE_LIST:
            return i + 1
        elif c == COMMA or c == 32 or c == 10 or c == 13 or c == 9:
            i += 1
        else:
            return -1
    return -1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def same_bytes(a: NDArray[np.uint8], i: Int, b: NDArray[np.uint8], j: Int, length: Int) -> bool:
    """Return whether a[i:i+length] equals b[j:j+length]; both spans must lie inside."""
    differ = np.uint8(0)
    for k in range(length):  # no early exit: the loop runs 16 or more bytes at a time
        differ |= a[np.uint64(i + k)] ^ b[np.uint64(j + k)]
    return bool(differ == 0)


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def count_byte(buf: NDArray[np.uint8], i: Int, end: Int, value: Int) -> Int:
    """Return how often the byte `value` stands in buf[i:end]."""
    n: Int = 0
    for k in range(i, end):
        n += buf[np.uint64(k)] == value
    return n


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def hash_bytes(buf: NDArray[np.uint8], i: Int, end: Int, seed: Int) -> Int:
    """Return the 32-bit FNV-1a hash of buf[i:end], started from `seed`; no step overflows an int64."""
    h: Int = (_FNV_OFFSET ^ seed) & 0xFFFFFFFF
    for k in range(i, end):
        h = ((h ^ np.int64(buf[np.uint64(k)])) * _FNV_PRIME) & 0xFFFFFFFF
    h ^= h >> 15
    return h


def as_buffer(data: bytes) -> NDArray[Any]:
    """Return `data` as a read-only uint8 array without copying."""
    return np.frombuffer(data, np.uint8)

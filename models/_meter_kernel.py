"""The kernel behind `models.meter_reader`: one pass over the bytes of many ``up/meter`` messages."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from . import _json_scan as js
from ._json_scan import Int
from .units import MAX_REGISTER_MWH, MAX_STATION_TIME_MS, NO_REGISTER, NS_PER_MS

I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

#: A column of a layout that carries no known channel, and the import register's column.
SKIP: Final = -1
REGISTER: Final = -2

#: Analog values beyond this are garbage whatever the unit, and missing.
MAX_ANALOG: Final = 1e9


class Keys(NamedTuple):
    """Learnt (topic, station, EVSE) -> EVSE row, as an open hash table of indices into columns."""

    table: I32
    topic: I32
    evse: I32
    row: I32
    begin: I64  # of the station name in `names`
    length: I32
    guess: I32  # (entries, 2): layouts this key used last, even and odd series
    names: U8


class Layouts(NamedTuple):
    """Learnt ``ch`` lists: their bytes as they stand in messages, and what each column carries."""

    table: I32
    begin: I64
    length: I32
    width: I32
    column: I16  # (layouts, MAX_WIDTH): channel id, SKIP or REGISTER
    uses: I64
    spans: U8


class Columns(NamedTuple):
    """What the kernel fills: rows used and slots used so far are in `used`."""

    message: I32
    evse: I32
    time_ns: I64
    reg_mwh: I64
    values: F64
    slot_of: I16
    used: I64  # rows, slots, unknown layouts
    unknown: I64  # (room, 2): spans of layouts that are not known yet


class Series(NamedTuple):
    """Scratch of the series being read."""

    slot: I32  # column -> slot of `values`, SKIP or REGISTER
    stamp: I64  # slot -> number of the last series that carried it
    number: I64  # series counted so far


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def find_key(keys: Keys, topic: Int, evse: Int, buf: U8, begin: Int, end: Int) -> Int:
    """Return the entry of a series key, -1 if it was not learnt."""
    mask = len(keys.table) - 1
    at = js.hash_bytes(buf, begin, end, topic * 1000003 + evse) & mask
    length = end - begin
    while True:
        entry: Int = keys.table[at]
        if entry < 0:
            return -1
        if (
            keys.topic[entry] == topic
            and keys.evse[entry] == evse
            and keys.length[entry] == length
            and js.same_bytes(buf, begin, keys.names, keys.begin[entry], length)
        ):
            return entry
        at = (at + 1) & mask


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def place_keys(keys: Keys, first: Int, stop: Int) -> None:
    """Enter keys first..stop-1, known to be new, into the hash table."""
    mask = len(keys.table) - 1
    for entry in range(first, stop):
        begin = keys.begin[entry]
        seed = np.int64(keys.topic[entry]) * 1000003 + keys.evse[entry]
        at = js.hash_bytes(keys.names, begin, begin + keys.length[entry], seed) & mask
        while keys.table[at] >= 0:
            at = (at + 1) & mask
        keys.table[at] = entry


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def find_layout(layouts: Layouts, buf: U8, begin: Int, end: Int) -> Int:
    """Return the layout whose bytes are buf[begin:end], -1 if it was not learnt."""
    mask = len(layouts.table) - 1
    length = end - begin
    at = js.hash_bytes(buf, begin, end, np.int64(0)) & mask
    while True:
        layout: Int = layouts.table[at]
        if layout < 0:
            return -1
        if layouts.length[layout] == length and js.same_bytes(
            buf, begin, layouts.spans, layouts.begin[layout], length
        ):
            return layout
        at = (at + 1) & mask


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def place_layout(layouts: Layouts, layout: Int) -> None:
    """Enter a layout known to be new into the hash table."""
    mask = len(layouts.table) - 1
    begin = layouts.begin[layout]
    at = js.hash_bytes(layouts.spans, begin, begin + layouts.length[layout], np.int64(0)) & mask
    while layouts.table[at] >= 0:
        at = (at + 1) & mask
    layouts.table[at] = layout


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _guessed_layout(layouts: Layouts, guess: Int, buf: U8, i: Int, end: Int) -> Int:
    """Return `guess` if its bytes stand at i, else -1."""
    if guess < 0:
        return -1
    length = layouts.length[guess]
    if i + length <= end and js.same_bytes(buf, i, layouts.spans, layouts.begin[guess], length):
        return guess
    return -1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def read_layout(buf: U8, i: Int, end: Int, guess: Int, layouts: Layouts, out: Columns) -> tuple[Int, Int]:
    """Return (position behind, layout) of the ``ch`` list at i; layout -1 when it is not known.

    An unknown span is noted in `out.unknown` for the wrapper to learn.
    """
    layout = _guessed_layout(layouts, guess, buf, i, end)
    if layout >= 0:
        return i + layouts.length[layout], layout
    stop = js.skip_string_list(buf, i, end)
    if stop < 0:
        return -1, -1
    layout = find_layout(layouts, buf, i, stop)
    if layout < 0:
        n = out.used[2]
        if n < len(out.unknown):
            out.unknown[n, 0] = i
            out.unknown[n, 1] = stop
            out.used[2] = n + 1
    return stop, layout


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def map_columns(layout: Int, layouts: Layouts, out: Columns, series: Series) -> None:
    """Give every channel of a layout a slot of `values`; new slots are NaN in all rows before."""
    series.number[0] += 1
    layouts.uses[layout] += 1
    rows = out.used[0]
    for column in range(layouts.width[layout]):
        channel = layouts.column[layout, column]
        if channel < 0:
            series.slot[column] = channel
            continue
        slot = out.slot_of[channel]
        if slot < 0:
            slot = np.int16(out.used[1])
            out.slot_of[channel] = slot
            out.used[1] += 1
            out.values[slot, :rows] = np.nan
        series.slot[column] = slot
        series.stamp[slot] = series.number[0]


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _analog(mantissa: Int, power: Int, negative: bool) -> tuple[bool, float]:
    """Return (exactly rounded, value)."""
    if mantissa > js.MAX_MANTISSA or power > js.MAX_POW10 or power < -js.MAX_POW10:
        return False, np.nan
    value = np.float64(mantissa)
    if power < 0:
        value = value / js.POW10[-power]
    elif power > 0:
        value = value * js.POW10[power]
    if value > MAX_ANALOG:
        return True, np.nan
    return True, -value if negative else value


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _register(mantissa: Int, power: Int, negative: bool) -> tuple[bool, Int]:
    """Return (exact, mWh) of mantissa * 10**power Wh."""
    power += 3
    while power < 0:
        if mantissa % 10 != 0:
            return False, 0
        mantissa //= 10
        power += 1
    while power > 0 and mantissa <= MAX_REGISTER_MWH:
        if mantissa == 0:
            break
        mantissa *= 10
        power -= 1
    if mantissa > MAX_REGISTER_MWH:
        return False, 0
    return True, -mantissa if negative else mantissa


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _read_row(buf: U8, i: Int, end: Int, t0: Int, width: Int, out: Columns, series: Series) -> Int:
    """Read ``dt, x1, ..., xn]`` behind its bracket into the next row; -1 when not simply readable."""
    row = out.used[0]
    i = js.skip_blanks(buf, i, end)
    i, dt = js.scan_integer(buf, i, end)
    if i < 0:
        return -1
    time_ms = t0 + dt
    if time_ms < 0 or time_ms >= MAX_STATION_TIME_MS:
        return -1
    out.time_ns[row] = time_ms * NS_PER_MS
    reg: Int = NO_REGISTER
    for column in range(width):
        if i < end and buf[np.uint64(i)] != js.COMMA:
            i = js.skip_blanks(buf, i, end)
        if i >= end or buf[np.uint64(i)] != js.COMMA:
            return -1
        i += 1
        if i < end and buf[np.uint64(i)] <= 32:
            i = js.skip_blanks(buf, i, end)
        slot = series.slot[column]
        if i + 4 <= end and buf[np.uint64(i)] == 110:  # null
            if buf[np.uint64(i + 1)] != 117 or buf[np.uint64(i + 2)] != 108 or buf[np.uint64(i + 3)] != 108:
                return -1
            i += 4
            if slot >= 0:
                out.values[slot, row] = np.nan
            continue
        i, mantissa, power, negative = js.scan_number(buf, i, end)
        if i < 0:
            return -1
        if slot >= 0:
            good, value = _analog(mantissa, power, negative)
            if not good:
                return -1
            out.values[slot, row] = value
        elif slot == REGISTER:
            good, reg = _register(mantissa, power, negative)
            if not good:
                return -1
        elif not _analog(mantissa, power, negative)[0]:
            return -1
    out.reg_mwh[row] = reg
    i = js.skip_blanks(buf, i, end)
    if i >= end or buf[np.uint64(i)] != js.CLOSE_LIST:
        return -1
    return i + 1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def read_rows(buf: U8, i: Int, end: Int, t0: Int, width: Int, out: Columns, series: Series) -> Int:
    """Read the list of rows at i; -1 when not simply readable."""
    if i >= end or buf[np.uint64(i)] != js.OPEN_LIST:
        return -1
    first = out.used[0]
    room = len(out.time_ns)
    i = js.skip_blanks(buf, i + 1, end)
    if i < end and buf[np.uint64(i)] == js.CLOSE_LIST:
        return i + 1
    while True:
        if i >= end or buf[np.uint64(i)] != js.OPEN_LIST or out.used[0] >= room:
            return -1
        i = _read_row(buf, i + 1, end, t0, width, out, series)
        if i < 0:
            return -1
        out.used[0] += 1
        i = js.skip_blanks(buf, i, end)
        if i >= end:
            return -1
        if buf[np.uint64(i)] == js.CLOSE_LIST:
            break
        if buf[np.uint64(i)] != js.COMMA:
            return -1
        i = js.skip_blanks(buf, i + 1, end)
    last = out.used[0]
    for slot in range(out.used[1]):
        if series.stamp[slot] != series.number[0]:
            out.values[slot, first:last] = np.nan
    return i + 1

"""The object around the rows: ``{v, boot, seq, series: [{st, evse, conn, tx, ctx, t0, ch, rows}]}``."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from . import _json_scan as js
from ._json_scan import Int
from ._meter_kernel import (
    I32,
    I64,
    U8,
    Columns,
    Keys,
    Layouts,
    Series,
    find_key,
    map_columns,
    read_layout,
    read_rows,
)
from .units import MAX_STATION_TIME_MS

#: EVSE numbers are int32 in the device table.
MAX_EVSE: Final = 2**31 - 1
#: Counters of the envelope stay exact in every consumer of JSON.
MAX_COUNTER: Final = 2**53

READ: Final = 0
NOT_READ: Final = 1

# bits of the keys met in an object; each may stand once
_V, _BOOT, _SEQ, _SERIES = 1, 2, 4, 8
_ST, _EVSE, _CONN, _TX, _CTX, _T0, _CH, _ROWS = 1, 2, 4, 8, 16, 32, 64, 128


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _top_key(buf: U8, i: Int, length: Int) -> Int:
    """Return the bit of the message key of `length` bytes at i, 0 for all others."""
    if length == 1 and buf[np.uint64(i)] == 118:  # v
        return _V
    if (
        length == 3
        and buf[np.uint64(i)] == 115
        and buf[np.uint64(i + 1)] == 101
        and buf[np.uint64(i + 2)] == 113
    ):  # seq
        return _SEQ
    if (
        length == 4
        and buf[np.uint64(i)] == 98
        and buf[np.uint64(i + 1)] == 111
        and buf[np.uint64(i + 2)] == 111
        and buf[np.uint64(i + 3)] == 116
    ):
        return _BOOT
    if (
        length == 6
        and buf[np.uint64(i)] == 115
        and buf[np.uint64(i + 1)] == 101
        and buf[np.uint64(i + 2)] == 114
        and buf[np.uint64(i + 3)] == 105
        and buf[np.uint64(i + 4)] == 101
        and buf[np.uint64(i + 5)] == 115
    ):
        return _SERIES
    return 0


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _series_key(buf: U8, i: Int, length: Int) -> Int:
    """Return the bit of the series key of `length` bytes at i, 0 for all others."""
    if length < 2 or length > 4:
        return 0
    a = buf[np.uint64(i)]
    b = buf[np.uint64(i + 1)]
    if length == 2:
        if a == 116:
            return _TX if b == 120 else (_T0 if b == 48 else 0)
        if a == 115 and b == 116:
            return _ST
        return _CH if a == 99 and b == 104 else 0
    c = buf[np.uint64(i + 2)]
    if length == 3:
        return _CTX if a == 99 and b == 116 and c == 120 else 0
    d = buf[np.uint64(i + 3)]
    if a == 101 and b == 118 and c == 115 and d == 101:
        return _EVSE
    if a == 99 and b == 111 and c == 110 and d == 110:
        return _CONN
    return _ROWS if a == 114 and b == 111 and c == 119 and d == 115 else 0


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _key_end(buf: U8, i: Int, end: Int) -> tuple[Int, Int]:
    """Return (position of the value, length of the key) for ``"key" :`` at i; -1 when not simple."""
    stop = js.skip_string(buf, i, end)
    if stop < 0:
        return -1, 0
    length = stop - i - 2
    i = js.skip_blanks(buf, stop, end)
    if i >= end or buf[np.uint64(i)] != js.COLON:
        return -1, 0
    return js.skip_blanks(buf, i + 1, end), length


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _next_member(buf: U8, i: Int, end: Int) -> tuple[Int, bool]:
    """Return (position, object closed) behind a member: of the next key, or behind the brace."""
    i = js.skip_blanks(buf, i, end)
    if i >= end:
        return -1, False
    if buf[np.uint64(i)] == js.CLOSE_OBJECT:
        return i + 1, True
    if buf[np.uint64(i)] != js.COMMA:
        return -1, False
    return js.skip_blanks(buf, i + 1, end), False


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _read_series(
    buf: U8, i: Int, end: Int, topic: Int, turn: Int, keys: Keys, layouts: Layouts, out: Columns, work: Series
) -> Int:
    """Read one series object at i; -1 when not simply readable or not learnt."""
    if i >= end or buf[np.uint64(i)] != js.OPEN_OBJECT:
        return -1
    i = js.skip_blanks(buf, i + 1, end)
    seen = 0
    # typed from the start: a bare 0 would make numba compile every callee once more for the literal
    name: Int = np.int64(0)
    name_end: Int = np.int64(0)
    evse: Int = np.int64(-1)
    t0: Int = np.int64(0)
    layout: Int = np.int64(-1)
    entry: Int = np.int64(-1)
    closed = False
    while not closed:
        at = i + 1
        i, length = _key_end(buf, i, end)
        if i < 0:
            return -1
        key = _series_key(buf, at, length)
        if key == 0 or seen & key:
            return -1
        seen |= key
        if key == _ST:
            if seen & _ROWS or entry >= 0:  # the series was looked up without it
                return -1
            name = i + 1
            i = js.skip_string(buf, i, end)
            name_end = i - 1
        elif key in (_TX, _CTX):
            i = js.skip_string(buf, i, end)
        elif key == _CH:
            entry = find_key(keys, topic, evse, buf, name, name_end)  # -1 while EVSE is -1
            guess: Int = keys.guess[entry, turn] if entry >= 0 else -1
            i, layout = read_layout(buf, i, end, guess, layouts, out)
        elif key == _ROWS:
            if entry < 0:
                entry = find_key(keys, topic, evse, buf, name, name_end)
            if entry < 0 or layout < 0 or not seen & _T0:
                return -1
            keys.guess[entry, turn] = layout
            map_columns(layout, layouts, out, work)
            first = out.used[0]
            i = read_rows(buf, i, end, t0, layouts.width[layout], out, work)
            out.evse[first : out.used[0]] = keys.row[entry]
        else:
            i, value = js.scan_natural(buf, i, end)
            if value >= MAX_STATION_TIME_MS if key == _T0 else value > MAX_EVSE:
                return -1
            if key == _T0:
                t0 = value
            elif key == _EVSE:
                evse = value
        if i < 0:
            return -1
        i, closed = _next_member(buf, i, end)
        if i < 0:
            return -1
    return i if seen & _ROWS else -1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _read_series_list(
    buf: U8, i: Int, end: Int, topic: Int, keys: Keys, layouts: Layouts, out: Columns, work: Series
) -> Int:
    """Read the list of series at i; -1 when not simply readable or not learnt."""
    if i >= end or buf[np.uint64(i)] != js.OPEN_LIST:
        return -1
    i = js.skip_blanks(buf, i + 1, end)
    if i < end and buf[np.uint64(i)] == js.CLOSE_LIST:
        return i + 1
    turn: Int = np.int64(0)
    while True:
        i = _read_series(buf, i, end, topic, turn, keys, layouts, out, work)
        if i < 0:
            return -1
        i = js.skip_blanks(buf, i, end)
        if i >= end:
            return -1
        if buf[np.uint64(i)] == js.CLOSE_LIST:
            return i + 1
        if buf[np.uint64(i)] != js.COMMA:
            return -1
        i = js.skip_blanks(buf, i + 1, end)
        turn ^= 1


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def _read_message(
    buf: U8,
    i: Int,
    end: Int,
    topic: Int,
    head: I64,
    keys: Keys,
    layouts: Layouts,
    out: Columns,
    work: Series,
) -> Int:
    """Read one message and its `head` (boot, seq); NOT_READ when it is for the slow path."""
    i = js.skip_blanks(buf, i, end)
    if i >= end or buf[np.uint64(i)] != js.OPEN_OBJECT:
        return NOT_READ
    i = js.skip_blanks(buf, i + 1, end)
    seen = 0
    closed = False
    while not closed:
        at = i + 1
        i, length = _key_end(buf, i, end)
        if i < 0:
            return NOT_READ
        key = _top_key(buf, at, length)
        if key == 0 or seen & key:
            return NOT_READ
        seen |= key
        if key == _SERIES:
            i = _read_series_list(buf, i, end, topic, keys, layouts, out, work)
        else:
            i, value = js.scan_natural(buf, i, end)
            if value > MAX_COUNTER or (key == _V and value != 1):
                return NOT_READ
            if key == _BOOT:
                head[0] = value
            elif key == _SEQ:
                head[1] = value
        if i < 0:
            return NOT_READ
        i, closed = _next_member(buf, i, end)
        if i < 0:
            return NOT_READ
    if not seen & _SERIES or js.skip_blanks(buf, i, end) != end:
        return NOT_READ
    return READ


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def room_for(buf: U8, start: I64, stop: I64) -> Int:
    """Return an upper bound of the readings in messages buf[start:stop].

    Every reading opens a bracket, and so do the list of series and, per series, the channels and the
    rows: the bound is exact for messages of one series.
    """
    size = np.int64(len(buf))
    room = 0
    for m in range(len(start)):
        if start[m] >= 0 and stop[m] <= size:
            room += max(0, js.count_byte(buf, start[m], stop[m], js.OPEN_LIST) - 3)
    return room


@njit(cache=True, nogil=True, fastmath=False, _nrt=False)
def read_messages(
    buf: U8,
    start: I64,
    stop: I64,
    topic: I32,
    head: I64,
    status: U8,
    keys: Keys,
    layouts: Layouts,
    out: Columns,
    work: Series,
) -> None:
    """Read messages buf[start:stop] into `out`, `head` (boot, seq, rows) and `status`.

    A message that is not read leaves no rows behind.
    """
    size = np.int64(len(buf))
    for m in range(len(start)):
        before = out.used[0]
        head[m, 0] = -1
        head[m, 1] = -1
        head[m, 2] = 0
        status[m] = NOT_READ
        if start[m] >= 0 and stop[m] <= size:
            status[m] = _read_message(
                buf, start[m], stop[m], np.int64(topic[m]), head[m], keys, layouts, out, work
            )
        if status[m] != READ:
            out.used[0] = before
            head[m, 0] = -1
            head[m, 1] = -1
            continue
        head[m, 2] = out.used[0] - before
        out.message[before : out.used[0]] = m

"""State of the energy meter and what can be read from it: points, border values, energy of a quarter.

Per EVSE the quarters of a window ending with the newest one that has readings; of each the first and last
register in it. Registers are kept unwrapped: `off` is added so that they never fall, over resets, rollovers
and meter replacements. First and last are minimum and maximum by time, so it does not matter in which
order readings come or how often.

Times are ms since the epoch, energy is mWh, a quarter is numbered from the epoch.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._kernel import kernel
from .batch import F64, I32, I64, U8
from .units import NO_TIME

QUARTER_MS: Final = 900_000

# Quality of a quarter, by number.
MEASURED: Final = 0
INTERPOLATED: Final = 1
ESTIMATED: Final = 2
MISSING: Final = 3

HOT_QUARTERS: Final = 6

#: A step beyond a year between two registers is no gap to be filled: the series starts anew.
GAP_QUARTERS_MAX: Final = 366 * 96
#: A silent EVSE gets missing quarters for this long (31 days); on its return all of the gap is filled.
MISSING_QUARTERS_MAX: Final = 31 * 96

EVSE_DTYPE: Final[list[Any]] = [
    # what every reading needs comes first: one cache line
    ("off", "i8"),  # unwrapped = register + off, in the current segment
    ("effect", "i8"),  # journaled time of the last reading
    ("newest", "i8"),  # newest quarter with readings, -1 = none yet
    ("through", "i8"),  # last quarter put out; all before it are out too
    ("generation", "i4"),  # of the meter
    ("level", "u1"),  # values that wait: 0, 1, 2
    ("open", "u1"),  # 1: the newest quarter has readings that no interval put out knows of
    ("low", "u1"),  # 1: the current segment began with readings that fell
    ("open_q", "u1"),
    ("open_e", "i8"),  # what was put out of the newest quarter, if its revision is not 0
    ("base_t", "i8"),  # last point before the window, NO_TIME = none; see `freeze`
    ("base_u", "i8"),
    ("base_off", "i8"),
    ("a_t", "i8"),  # last point of the segment before the current one
    ("a_u", "i8"),
    ("a_off", "i8"),
    ("b_t", "i8"),  # first point of the current segment, NO_TIME = the only segment
    ("b_u", "i8"),
    ("c0_t", "i8"),  # low readings that wait: first and last time of the first value,
    ("c0_last", "i8"),
    ("c0_r", "i8"),
    ("c1_t", "i8"),  # and of the second, risen one
    ("c1_last", "i8"),
    ("c1_r", "i8"),
    ("first", "i8"),  # first quarter ever
]
EVSE_BLANK: Final = {"base_t": NO_TIME, "a_t": NO_TIME, "b_t": NO_TIME, "newest": -1}

SLOT_DTYPE: Final = np.dtype(
    [
        ("u_first", "i8"),
        ("u_last", "i8"),
        ("off", "i8"),  # of the segment that the last point is in
        ("t_first", "i4"),  # ms into the quarter, -1 = no readings
        ("t_last", "i4"),
    ]
)


class Readings(NamedTuple):
    """Columns of a `ReadingBatch`; late ones by (EVSE, order, beside, time), all with a register."""

    evse: I32
    time_ns: I64
    order: I64
    effect_ns: I64
    reg_mwh: I64
    beside: U8  # 1: of a transaction, read at a moment of its own


class Hot(NamedTuple):
    """The window of each EVSE; quarter q lies in column q modulo the width."""

    evse: Any  # (n,) records of EVSE_DTYPE
    slots: Any  # (n, width) records of SLOT_DTYPE
    revision: NDArray[np.uint32]  # (n, width), 0 = not put out yet


class Inventory(NamedTuple):
    """Columns of the device table, by EVSE."""

    generation: I32
    resolution_mwh: I64
    modulus_mwh: I64
    p_max_w: F64
    grace_ms: I64  # see `_grace.Graces`


class Rules(NamedTuple):
    """Settings in the kernels' units."""

    tolerance_ms: int
    late_quarters: int


class Out(NamedTuple):
    """Intervals put out."""

    used: I64  # (1,)
    order: I64
    evse: I32
    quarter: I64
    energy: I64
    quality: U8
    revision: I32


class Evicted(NamedTuple):
    """Quarters that left the window, with the last point before each."""

    used: I64  # (1,)
    evse: I32
    quarter: I64
    keep_from: I64  # quarters of the EVSE before this one are never asked for again
    t_first: I64
    u_first: I64
    t_last: I64
    u_last: I64
    off: I64
    t_before: I64
    u_before: I64
    off_before: I64
    revision: I32


def out_arrays(n: int) -> Out:
    """Return room for n intervals."""
    return Out(
        np.zeros(1, np.int64), np.empty(n, np.int64), np.empty(n, np.int32), np.empty(n, np.int64),
        np.empty(n, np.int64), np.empty(n, np.uint8), np.empty(n, np.int32),
    )  # fmt: skip


def evicted_arrays(n: int) -> Evicted:
    """Return room for n quarters."""
    wide = [np.empty(n, np.int64) for _ in range(10)]
    return Evicted(
        np.zeros(1, np.int64),
        np.empty(n, np.int32),
        wide[0], wide[1], wide[2], wide[3], wide[4], wide[5], wide[6], wide[7], wide[8], wide[9],
        np.empty(n, np.int32),
    )  # fmt: skip


@kernel
def _share(rest: int, x: int, span: int) -> int:
    """Return floor(rest * x / span) for 0 <= rest, x < span < 2**62 without overflow."""
    if span < 3_000_000_000:
        return (rest * x) // span
    quotient = 0
    remainder = 0
    for bit in range(61, -1, -1):
        quotient *= 2
        remainder *= 2
        if remainder >= span:
            remainder -= span
            quotient += 1
        if (x >> bit) & 1:
            remainder += rest
            if remainder >= span:
                remainder -= span
                quotient += 1
    return quotient


@kernel
def between(t0: int, u0: int, t1: int, u1: int, b: int, tolerance_ms: int) -> tuple[int, bool]:
    """Return (register at border b, whether it was read there) for t0 < b <= t1.

    A reading within the tolerance counts as read at the border, the nearest first, the later of two
    equally near; else linear between the two, rounded down.
    """
    before, after = b - t0, t1 - b
    if after <= tolerance_ms and after <= before:
        return u1, True
    if before <= tolerance_ms:
        return u0, True
    span = t1 - t0
    step = (u1 - u0) // span
    return u0 + step * before + _share((u1 - u0) - step * span, before, span), False


@kernel
def point_before(hot: Hot, e: int, q: int) -> tuple[int, int]:
    """Return (time, register) of the last point before quarter q; time NO_TIME: none."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    lowest = rec["newest"] - width + 1
    j = min(q - 1, int(rec["newest"]))
    while j >= lowest:
        slot = hot.slots[e, j % width]
        if slot["t_first"] >= 0:
            return j * QUARTER_MS + int(slot["t_last"]), slot["u_last"]
        j -= 1
    return rec["base_t"], rec["base_u"]


@kernel
def point_from(hot: Hot, e: int, q: int) -> tuple[int, int]:
    """Return (time, register) of the first point in quarter q or later; time NO_TIME: none."""
    rec = hot.evse[e]
    width = hot.slots.shape[1]
    j = max(q, rec["newest"] - width + 1)
    while j <= rec["newest"]:
        slot = hot.slots[e, j % width]
        if slot["t_first"] >= 0:
            return j * QUARTER_MS + int(slot["t_first"]), slot["u_first"]
        j += 1
    return NO_TIME, 0


@kernel
def border(hot: Hot, e: int, q: int, tolerance_ms: int) -> tuple[int, bool]:
    """Return (register at the start of quarter q, whether it was read there).

    Before the first reading and after the last one it is that reading's.
    """
    b = q * QUARTER_MS
    t0, u0 = point_before(hot, e, q)
    t1, u1 = point_from(hot, e, q)
    if t0 == NO_TIME:
        return u1, t1 - b <= tolerance_ms
    if t0 >= b:  # frozen
        return u0, t0 > b
    if t1 == NO_TIME:
        return u0, b - t0 <= tolerance_ms
    u, read = between(t0, u0, t1, u1, b, tolerance_ms)
    return u, read


@kernel
def freeze(hot: Hot, e: int, q: int, tolerance_ms: int) -> None:
    """Keep the border at the start of quarter q, the first of the window, as it is whatever comes.

    It becomes the point before the window: at the border's time, a ms later if it was read there.
    """
    u, read = border(hot, e, q, tolerance_ms)
    hot.evse[e]["base_t"] = q * QUARTER_MS + (1 if read else 0)
    hot.evse[e]["base_u"] = u


@kernel
def quality_of(read_at_start: bool, read_at_end: bool, has_readings: bool) -> int:
    """Return the quality of a quarter that is not missing."""
    if read_at_start and read_at_end:
        return MEASURED
    return INTERPOLATED if has_readings else ESTIMATED


@kernel
def quarter_energy(hot: Hot, e: int, q: int, tolerance_ms: int) -> tuple[int, int]:
    """Return (energy, quality) of a quarter of the window as known now; the open one ends at its last
    register."""
    start, read_at_start = border(hot, e, q, tolerance_ms)
    end, read_at_end = border(hot, e, q + 1, tolerance_ms)
    has = hot.slots[e, q % hot.slots.shape[1]]["t_first"] >= 0
    return end - start, quality_of(read_at_start, read_at_end, has)


@kernel
def put(out: Out, order: int, e: int, q: int, energy: int, quality: int, revision: int) -> None:
    """Append one interval; the caller has made sure of room."""
    i = out.used[0]
    out.order[i] = order
    out.evse[i] = e
    out.quarter[i] = q
    out.energy[i] = energy
    out.quality[i] = quality
    out.revision[i] = revision
    out.used[0] = i + 1

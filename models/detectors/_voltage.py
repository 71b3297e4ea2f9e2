"""Grid voltage against its nominal value by clock-aligned means: `under_voltage` and `over_voltage`.

One kernel serves both: `sign` is -1 for too low, +1 for too high, and a value is beyond a limit when
``sign * value > sign * limit``. Minute sums are folded into ten-minute sums when their minute ends, and a
window is judged when the first reading after it arrives. Every EVSE has its sums; what else is to know of a
window is kept from the first reading beyond the ten-minute limit on, without which no mean can be beyond.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import F64, I16, U8, ReadingBatch
from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import GRID_CHANNELS, ns, slots
from ._kernels import NOTHING, ROOM, emit, phase_view, pick_phases
from ._sparse import Sparse, SparseDetector, find, full, give, take

_MINUTE_NS: Final = 60_000_000_000
_TEN_NS: Final = 600_000_000_000

#: A mean this near to its limit is at it: sums of floats may miss it by less.
_ROUNDING_V: Final = 1e-6

EVIDENCE: Final = ("voltage_mean_v", "u_n_v", "limit_v", "window_s", "phase", "samples")

#: Sums are of whole fifths of a millivolt: three decimals fit, and ten minutes of 1 s samples up to 1400 V.
_PER_V: Final = 5000.0
_MOST: Final = 2**32 - 1

_DTYPE: Final[list[Any]] = [
    ("minute", "u4"),  # open minute, counted from the epoch; 0 before the first
    ("sum1", "u4", (3,)),
    ("sum10", "u4", (3,)),
    ("n1", "u2", (3,)),
    ("n10", "u2", (3,)),
]

#: Of EVSEs with a reading beyond the ten-minute limit in an open window, or of which something is raised.
_SPARSE_DTYPE: Final[list[Any]] = [
    ("last_ns", "i8"),  # last reading in the open minute
    ("first_ns", "i8"),  # first reading in it beyond the ten-minute limit
    ("first10_ns", "i8"),  # the same in the closed minutes of the open ten
    ("start_ns", "i8"),
    ("bad_end_ns", "i8"),  # end of the last window beyond its limit
    ("raised", "u1"),
    ("live", "u1"),
    ("ten", "u1"),  # what is raised was (also) found by a ten-minute mean
    ("last_live", "u1"),
]

_SPARSE_BLANK: Final = dict.fromkeys(("last_ns", "first_ns", "first10_ns", "start_ns", "bad_end_ns"), NO_TIME)


class Inventory(NamedTuple):
    """Columns of the device table that say what the grid should be."""

    u_n_v: F64
    phases: NDArray[np.int8]
    dc: U8
    declared: U8


class Limits(NamedTuple):
    """What is too low or too high, relative to the nominal voltage, and for whom none is declared."""

    sign: float
    ten_min: float
    one_min: float
    unpowered: float
    undeclared_v: float
    undeclared_floor_v: float
    ten_samples: int
    stale_ns: int


class Found(NamedTuple):
    """The worst window of a reading: shape (1,) scratch arrays, so that kernels can share it."""

    mean_v: F64
    limit_v: F64
    window_s: F64
    phase: F64
    samples: F64
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]


def found() -> Found:
    """Return an empty `Found`."""
    return Found(
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
    )


def inventory(devices: DeviceTable) -> Inventory:
    """Return the columns of `devices` that the kernels take."""
    return Inventory(devices.u_n_v, devices.phases, devices.dc, devices.declared)


@kernel
def _judge(
    sums: Any, n: Any, long: int, u_n: float, limits: Limits, start_ns: int, end_ns: int, worst: Found
) -> bool:
    """Judge one closed window (long: ten minutes); put the worst phase beyond the limit into `worst`."""
    bad = False
    factor = limits.ten_min if long != 0 else limits.one_min
    limit = factor * u_n
    for p in range(3):
        if n[p] == 0 or (long != 0 and n[p] < limits.ten_samples):
            continue
        mean = sums[p] / (_PER_V * n[p])
        if limits.sign * mean > limits.sign * limit + _ROUNDING_V and (
            not bad or limits.sign * mean > limits.sign * worst.mean_v[0] + _ROUNDING_V
        ):
            bad = True
            worst.mean_v[0] = mean
            worst.limit_v[0] = limit
            worst.window_s[0] = 600.0 if long != 0 else 60.0
            worst.phase[0] = p + 1
            worst.samples[0] = n[p]
            worst.start_ns[0] = start_ns
            worst.end_ns[0] = end_ns
    return bad


@kernel
def _add(sums: Any, n: Any, p: int, more: int, samples: int) -> None:
    """Add to the sum and the count of phase p; full ones stay full."""
    sums[p] = min(np.int64(sums[p]) + more, _MOST)
    n[p] = min(np.int64(n[p]) + samples, 65_535)


@kernel
def _take_in(rec: Any, p: int, volts: float, floor: float) -> None:
    """Add a voltage of phase p to the open minute, unless it is missing or below `floor`."""
    if volts >= floor:  # false for NaN
        _add(rec["sum1"], rec["n1"], p, int(min(volts, 1e6) * _PER_V + 0.5), 1)


@kernel
def _any_beyond(a: float, b: float, c: float, floor: float, sign: float, edge: float) -> bool:
    first, second = a >= floor and sign * a > edge, b >= floor and sign * b > edge
    return first or second or (c >= floor and sign * c > edge)


@kernel
def _fold(rec: Any) -> None:
    """Add the open minute, which ends, to its ten."""
    for p in range(3):
        _add(rec["sum10"], rec["n10"], p, np.int64(rec["sum1"][p]), np.int64(rec["n1"][p]))


@kernel
def _reset(rec: Any, ten_ends: bool) -> None:
    """Start another minute, and another ten if they ended."""
    for p in range(3):
        rec["sum1"][p] = 0
        rec["n1"][p] = 0
        if ten_ends:
            rec["sum10"][p] = 0
            rec["n10"][p] = 0


@kernel
def _close(rec: Any, odd: Any, t: int, u_n: float, limits: Limits, worst: Found) -> int:
    """Judge the open minute, which is folded, and the ten minutes around it if `t` lies beyond.

    Returns bits: 1 the minute was beyond its limit, 2 the ten minutes were. The figures in `worst` are
    the minute's if it was, its start and end span both.
    """
    minute = np.int64(rec["minute"])
    ten = minute // 10
    first10 = odd["first10_ns"] if odd["first10_ns"] != NO_TIME else odd["first_ns"]
    bad = 0
    if t // _TEN_NS != ten:
        if first10 != NO_TIME and _judge(
            rec["sum10"], rec["n10"], 1, u_n, limits, first10, (ten + 1) * _TEN_NS, worst
        ):
            bad = 2
        first10 = NO_TIME
    since, until = worst.start_ns[0], worst.end_ns[0]
    if odd["first_ns"] != NO_TIME and _judge(
        rec["sum1"], rec["n1"], 0, u_n, limits, odd["first_ns"], (minute + 1) * _MINUTE_NS, worst
    ):
        if bad != 0:
            worst.start_ns[0] = min(since, worst.start_ns[0])
            worst.end_ns[0] = max(until, worst.end_ns[0])
        bad |= 1
    odd["first10_ns"] = first10
    odd["first_ns"] = NO_TIME
    return bad


@kernel
def _decide(rec: Any, bad: int, t: int, minute_end: int, limits: Limits, worst: Found) -> int:
    """Return what to emit after a minute was closed; keep what is raised and when it was last bad."""
    if bad != 0:
        if rec["raised"] == 0:
            rec["ten"] = 0
            rec["live"] = 0
            rec["start_ns"] = worst.start_ns[0]
        if bad & 2:
            rec["ten"] = 1
        rec["bad_end_ns"] = worst.end_ns[0]
        live = rec["last_live"] if t - worst.end_ns[0] <= limits.stale_ns else 0
        if rec["raised"] == 0 or (live != 0 and rec["live"] == 0):
            rec["raised"] = 1
            rec["live"] = live
            return RAISE
        return NOTHING
    if rec["raised"] == 0:
        return NOTHING
    hold = _TEN_NS if rec["ten"] != 0 else _MINUTE_NS
    if minute_end - rec["bad_end_ns"] < hold:
        return NOTHING
    rec["raised"] = 0
    return CLEAR


@kernel
def _report(
    rec: Any, i: int, time: Timeline, kind: int, u_n: float, worst: Found, out: EmissionArrays
) -> None:
    if kind == CLEAR:
        emit(
            out, time.evse[i], kind, WARNING, rec["live"], rec["start_ns"], rec["bad_end_ns"],
            time.order[i], time.effect_ns[i], 0.0,
        )  # fmt: skip
        return
    score = abs(worst.mean_v[0] - u_n) / abs(worst.limit_v[0] - u_n)
    j = emit(
        out, time.evse[i], kind, WARNING, rec["live"], rec["start_ns"], rec["last_ns"],
        time.order[i], time.effect_ns[i], score,
    )  # fmt: skip
    out.evidence[j, 0] = worst.mean_v[0]
    out.evidence[j, 1] = u_n
    out.evidence[j, 2] = worst.limit_v[0]
    out.evidence[j, 3] = worst.window_s[0]
    out.evidence[j, 4] = worst.phase[0]
    out.evidence[j, 5] = worst.samples[0]


@kernel
def _minute_ends(
    rec: Any,
    sparse: Sparse,
    i: int,
    time: Timeline,
    u_n: float,
    limits: Limits,
    worst: Found,
    out: EmissionArrays,
) -> None:
    """Close the open minute before reading i, and judge it if there is anything to judge."""
    e, t = time.evse[i], time.time_ns[i]
    at = find(sparse, e)
    _fold(rec)
    if at != 0:
        odd = sparse.records[at]
        bad = _close(rec, odd, t, u_n, limits, worst)
        kind = _decide(odd, bad, t, (np.int64(rec["minute"]) + 1) * _MINUTE_NS, limits, worst)
        if kind != NOTHING:
            _report(odd, i, time, kind, u_n, worst, out)
        if odd["raised"] == 0 and odd["first10_ns"] == NO_TIME:
            give(sparse, e)
    _reset(rec, t // _TEN_NS != np.int64(rec["minute"]) // 10)


@njit(cache=True, nogil=True, fastmath=False)
def _voltage_kernel(
    start: int,
    time: Timeline,
    values: F64,
    columns: I16,
    inv: Inventory,
    state: Any,
    sparse: Sparse,
    limits: Limits,
    worst: Found,
    out: EmissionArrays,
) -> int:
    n, room, sign = len(time.evse), len(out.order) - ROOM, limits.sign
    evse, time_ns = time.evse, time.time_ns
    chosen = np.empty(4, np.int16)
    i = start
    while i < n:
        e = evse[i]
        rec = state[e]
        declared = inv.declared[e] != 0
        u_n = inv.u_n_v[e] if declared else limits.undeclared_v
        floor = 0.0 if declared else limits.undeclared_floor_v
        edge = sign * limits.ten_min * u_n
        least = max(limits.unpowered * u_n, floor)
        some = pick_phases(inv.dc[e], inv.phases[e], columns, chosen)
        one, two = phase_view(values, chosen, 0), phase_view(values, chosen, 1)
        three, single = phase_view(values, chosen, 2), phase_view(values, chosen, 3)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            a = one[i] if chosen[0] >= 0 else np.nan
            if chosen[3] >= 0 and a != a:
                a = single[i]
            b = two[i] if chosen[1] >= 0 else np.nan
            c = three[i] if chosen[2] >= 0 else np.nan
            if some != 0 and (a >= least or b >= least or c >= least):
                t = time_ns[i]
                beyond = _any_beyond(a, b, c, floor, sign, edge)
                if beyond and full(sparse) and find(sparse, e) == 0:
                    return i
                minute = t // _MINUTE_NS
                if minute != rec["minute"]:
                    if rec["minute"] != 0:
                        _minute_ends(rec, sparse, i, time, u_n, limits, worst, out)
                    rec["minute"] = minute
                _take_in(rec, 0, a, floor)
                _take_in(rec, 1, b, floor)
                _take_in(rec, 2, c, floor)
                at = find(sparse, e)
                if at == 0 and beyond:
                    at = take(sparse, e)
                if at != 0:
                    odd = sparse.records[at]
                    if beyond and odd["first_ns"] == NO_TIME:
                        odd["first_ns"] = t
                    odd["last_ns"] = t
                    odd["last_live"] = time.live[i]
            i += 1
    return n


class VoltageDetector(SparseDetector):
    """The detector behind `under_voltage` and `over_voltage`."""

    version = 2
    dtype = _DTYPE
    sparse_dtype = _SPARSE_DTYPE
    sparse_blank = _SPARSE_BLANK

    def __init__(self, spec: DetectorSpec, limits: Limits, resume_state: dict[str, Any] | None) -> None:
        self.spec = spec
        self.limits = limits
        self._worst = found()
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _voltage_kernel(
                start,
                timeline(rows),
                np.ascontiguousarray(rows.values),
                slots(rows, GRID_CHANNELS),
                inventory(devices),
                self.table.rows,
                self.sparse.arrays,
                self.limits,
                self._worst,
                out,
            )
        )


def limits(config: Any, sign: float, undeclared_v: float, undeclared_floor_v: float) -> Limits:
    """Return the kernel's limits of an under- or over-voltage configuration."""
    return Limits(
        sign,
        float(config.ten_min_pu),
        float(config.one_min_pu),
        float(config.unpowered_pu),
        float(undeclared_v),
        float(undeclared_floor_v),
        int(config.ten_min_samples),
        ns(config.stale_s),
    )

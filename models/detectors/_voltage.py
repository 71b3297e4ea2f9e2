"""Grid voltage against its nominal value by clock-aligned means: `under_voltage` and `over_voltage`.

One kernel serves both: `sign` is -1 for too low, +1 for too high, and a value is beyond a limit when
``sign * value > sign * limit``. Minute sums are folded into ten-minute sums when their minute ends, and a
window is judged when the first reading after it arrives.
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

from ._base import GRID_CHANNELS, RowDetector, ns, slots
from ._kernels import NOTHING, ROOM, emit, phase_view, pick_phases

_MINUTE_NS: Final = 60_000_000_000
_TEN_NS: Final = 600_000_000_000

#: A mean this near to its limit is at it: sums of floats may miss it by less.
_ROUNDING_V: Final = 1e-6

EVIDENCE: Final = ("voltage_mean_v", "u_n_v", "limit_v", "window_s", "phase", "samples")

_DTYPE: Final[list[Any]] = [
    ("minute", "i8"),  # open minute, counted from the epoch
    ("last_ns", "i8"),  # last reading in it
    ("first_ns", "i8"),  # first reading in it beyond the ten-minute limit
    ("first10_ns", "i8"),  # the same in the closed minutes of the open ten
    ("start_ns", "i8"),
    ("bad_end_ns", "i8"),  # end of the last window beyond its limit
    ("sum1", "f8", (3,)),
    ("sum10", "f8", (3,)),
    ("n1", "u2", (3,)),
    ("n10", "u2", (3,)),
    ("raised", "u1"),
    ("live", "u1"),
    ("ten", "u1"),  # what is raised was (also) found by a ten-minute mean
    ("last_live", "u1"),
]

_BLANK: Final = {
    "minute": -1,
    "last_ns": NO_TIME,
    "first_ns": NO_TIME,
    "first10_ns": NO_TIME,
    "start_ns": NO_TIME,
    "bad_end_ns": NO_TIME,
}


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
def _judge(rec: Any, long: int, u_n: float, limits: Limits, start_ns: int, end_ns: int, worst: Found) -> bool:
    """Judge one closed window (long: ten minutes); put the worst phase beyond the limit into `worst`."""
    bad = False
    factor = limits.ten_min if long != 0 else limits.one_min
    limit = factor * u_n
    for p in range(3):
        n = rec["n10"][p] if long != 0 else rec["n1"][p]
        if n == 0 or (long != 0 and n < limits.ten_samples):
            continue
        mean = (rec["sum10"][p] if long != 0 else rec["sum1"][p]) / n
        if limits.sign * mean > limits.sign * limit + _ROUNDING_V and (
            not bad or limits.sign * mean > limits.sign * worst.mean_v[0] + _ROUNDING_V
        ):
            bad = True
            worst.mean_v[0] = mean
            worst.limit_v[0] = limit
            worst.window_s[0] = 600.0 if long != 0 else 60.0
            worst.phase[0] = p + 1
            worst.samples[0] = n
            worst.start_ns[0] = start_ns
            worst.end_ns[0] = end_ns
    return bad


@kernel
def _close(rec: Any, t: int, u_n: float, limits: Limits, worst: Found) -> int:
    """Close the open minute, and the ten minutes around it if `t` lies beyond.

    Returns bits: 1 the minute was beyond its limit, 2 the ten minutes were. The figures in `worst` are
    the minute's if it was, its start and end span both.
    """
    minute = rec["minute"]
    ten = minute // 10
    first10 = rec["first10_ns"] if rec["first10_ns"] != NO_TIME else rec["first_ns"]
    for p in range(3):
        rec["sum10"][p] += rec["sum1"][p]
        rec["n10"][p] += rec["n1"][p]
    bad = 0
    if t // _TEN_NS != ten:
        if _judge(rec, 1, u_n, limits, first10, (ten + 1) * _TEN_NS, worst):
            bad = 2
        for p in range(3):
            rec["sum10"][p] = 0.0
            rec["n10"][p] = 0
        first10 = NO_TIME
    since, until = worst.start_ns[0], worst.end_ns[0]
    if _judge(rec, 0, u_n, limits, rec["first_ns"], (minute + 1) * _MINUTE_NS, worst):
        if bad != 0:
            worst.start_ns[0] = min(since, worst.start_ns[0])
            worst.end_ns[0] = max(until, worst.end_ns[0])
        bad |= 1
    rec["first10_ns"] = first10
    rec["first_ns"] = NO_TIME
    for p in range(3):
        rec["sum1"][p] = 0.0
        rec["n1"][p] = 0
    return bad


@kernel
def _decide(rec: Any, bad: int, t: int, limits: Limits, worst: Found) -> int:
    """Return what to emit after a minute was closed; keep what is raised and when it was last bad."""
    minute_end = (rec["minute"] + 1) * _MINUTE_NS
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
def _add(rec: Any, p: int, v: float, floor: float) -> None:
    """Add a voltage of phase p to the open minute, unless it is missing or below `floor`."""
    if v >= floor:  # false for NaN
        rec["sum1"][p] += v
        rec["n1"][p] += 1


@njit(cache=True, nogil=True, fastmath=False)
def _voltage_kernel(
    start: int,
    time: Timeline,
    values: F64,
    columns: I16,
    inv: Inventory,
    state: Any,
    limits: Limits,
    worst: Found,
    out: EmissionArrays,
) -> int:
    n, room, sign = len(time.evse), len(out.order) - ROOM, limits.sign
    evse, time_ns, live = time.evse, time.time_ns, time.live
    chosen = np.empty(4, np.int16)
    i = start
    while i < n:
        e = evse[i]
        rec = state[e]
        declared = inv.declared[e] != 0
        u_n = inv.u_n_v[e] if declared else limits.undeclared_v
        floor = 0.0 if declared else limits.undeclared_floor_v
        beyond = sign * limits.ten_min * u_n
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
                minute = t // _MINUTE_NS
                if minute != rec["minute"]:
                    if rec["minute"] >= 0:
                        bad = _close(rec, t, u_n, limits, worst)
                        kind = _decide(rec, bad, t, limits, worst)
                        if kind != NOTHING:
                            _report(rec, i, time, kind, u_n, worst, out)
                    rec["minute"] = minute
                _add(rec, 0, a, floor)
                _add(rec, 1, b, floor)
                _add(rec, 2, c, floor)
                if rec["first_ns"] == NO_TIME and (
                    (a >= floor and sign * a > beyond)
                    or (b >= floor and sign * b > beyond)
                    or (c >= floor and sign * c > beyond)
                ):
                    rec["first_ns"] = t
                rec["last_ns"] = t
                rec["last_live"] = live[i]
            i += 1
    return n


class VoltageDetector(RowDetector):
    """The detector behind `under_voltage` and `over_voltage`."""

    dtype = _DTYPE
    blank = _BLANK

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

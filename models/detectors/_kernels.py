"""What row kernels share: writing emissions, and conditions that must last before they count.

State of a detector is one structured array with one record per EVSE, so that an EVSE costs one place in
memory and not one per field. Kernels take records as ``state[e]`` and fields as ``rec["name"]``, which
means the same compiled and interpreted.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from numba import njit

from models._kernel import kernel
from models.batch import F64
from models.detecting import CLEAR, RAISE, UPDATE, EmissionArrays
from models.units import NO_TIME

#: Emissions one reading may cause at most; a kernel makes sure of this room before it touches state.
ROOM: Final = 4

NOTHING: Final = 0

#: Fields that `watch` keeps, to be part of a detector's record.
WATCH_FIELDS: Final[list[tuple[str, str]]] = [
    ("since_ns", "i8"),  # first sample of the run at level 1 or more
    ("since2_ns", "i8"),  # first sample of the run at level 2
    ("last_ns", "i8"),  # last sample judged
    ("good_ns", "i8"),  # first sample without the condition, while raised
    ("start_ns", "i8"),  # start of what is raised
    ("n", "i4"),
    ("n2", "i4"),
    ("raised", "i1"),  # 0, or the level raised
    ("live", "u1"),  # what is raised was raised live
]

#: Values of new records (others are 0).
WATCH_BLANK: Final[dict[str, Any]] = {
    "since_ns": NO_TIME,
    "since2_ns": NO_TIME,
    "last_ns": NO_TIME,
    "good_ns": NO_TIME,
    "start_ns": NO_TIME,
}


class Lasting(NamedTuple):
    """How long a condition must last, in event time.

    `min_n` samples and `min_ns` from the first to the last of them raise; `hold_ns` without it clear; two
    samples further apart than `gap_ns` do not belong to one run.
    """

    min_ns: int
    min_n: int
    hold_ns: int
    gap_ns: int


@kernel
def emit(
    out: EmissionArrays,
    subject: int,
    kind: int,
    severity: int,
    live: int,
    start_ns: int,
    time_ns: int,
    order: int,
    effect_ns: int,
    score: float,
) -> int:
    """Write one emission; return its index, at which the caller fills the evidence."""
    j = out.used[0]
    out.used[0] = j + 1
    out.order[j] = order
    out.effect_ns[j] = effect_ns
    out.subject[j] = subject
    out.kind[j] = kind
    out.severity[j] = severity
    out.live[j] = live
    out.start_ns[j] = start_ns
    out.time_ns[j] = time_ns
    out.score[j] = score
    return int(j)


@kernel
def watch(rec: Any, t: int, level: int, live: int, rule: Lasting) -> int:
    """Take in one sample of a condition with levels 0 (absent), 1, 2; return what to emit.

    Returns NOTHING, RAISE, UPDATE (a higher level was reached) or CLEAR. What was raised from backlog is
    raised again at the first live sample at which the condition holds. `rec["raised"]` is the level,
    which never falls before the clear. On CLEAR, `rec["good_ns"]` is when the condition ended.
    """
    if level == 0:
        rec["n"] = 0
        rec["n2"] = 0
        rec["last_ns"] = t
        if rec["raised"] == 0:
            return NOTHING
        if rec["good_ns"] == NO_TIME:
            rec["good_ns"] = t
        if t - rec["good_ns"] < rule.hold_ns:
            return NOTHING
        rec["raised"] = 0
        return CLEAR
    torn = rec["last_ns"] == NO_TIME or t - rec["last_ns"] > rule.gap_ns
    rec["last_ns"] = t
    rec["good_ns"] = NO_TIME
    if rec["n"] == 0 or torn:
        rec["n"] = 0
        rec["n2"] = 0
        rec["since_ns"] = t
    rec["n"] += 1
    if level == 1:
        rec["n2"] = 0
    else:
        if rec["n2"] == 0:
            rec["since2_ns"] = t
        rec["n2"] += 1
    reached = 0
    if rec["n"] >= rule.min_n and t - rec["since_ns"] >= rule.min_ns:
        reached = 1
    if rec["n2"] >= rule.min_n and t - rec["since2_ns"] >= rule.min_ns:
        reached = 2
    if rec["raised"] == 0:
        if reached == 0:
            return NOTHING
        rec["raised"] = reached
        rec["start_ns"] = rec["since_ns"]
        rec["live"] = live
        return RAISE
    higher = reached > rec["raised"]
    if higher:
        rec["raised"] = reached
    if live != 0 and rec["live"] == 0:
        rec["live"] = 1
        return RAISE
    return UPDATE if higher else NOTHING


@kernel
def pick_phases(dc: int, phases: int, slots: Any, chosen: Any) -> int:
    """Choose the columns that hold line-to-neutral grid voltages of an EVSE; return how many.

    `slots` are the columns of Voltage@L1-N, @L2-N, @L3-N, Voltage, and the same four at the inlet. For DC the
    grid is at the inlet (`Voltage` is the output to the car). A voltage without phase counts only where the
    EVSE declares one phase: elsewhere it may be line to line, a mean, or the output of a DC station.
    ``chosen[p]`` is the column of phase p, ``chosen[3]`` the one that stands in for a reading without the
    first phase; -1 when absent.
    """
    base = 4 if dc != 0 else 0
    n = 0
    for p in range(4):
        chosen[p] = slots[base + p] if p < 3 or phases == 1 else -1
        if chosen[p] >= 0:
            n += 1
    return n


@njit(cache=True, nogil=True, fastmath=False)
def phase_view(values: F64, chosen: Any, p: int) -> F64:
    """Return the column of phase p; where it has none, any column (its values must then be taken as NaN)."""
    column: F64 = values[max(chosen[p], 0)]
    return column

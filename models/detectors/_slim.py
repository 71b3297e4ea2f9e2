"""A condition with one level that must last, in 19 bytes, and conditions made of columns.

`_kernels.watch` keeps two levels and five times; most rules of the cable have one level, so this keeps two
times: `since_ns` is the start of the run, and of what is raised; `mark_ns` is the last sample of a run that
is not raised yet, and of what is raised the first sample without the condition.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import CHARGING, F64, I8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, RAISE
from models.units import NO_TIME

from ._base import ns
from ._kernels import NOTHING, Lasting

SLIM_FIELDS: Final[list[tuple[str, str]]] = [
    ("since_ns", "i8"),
    ("mark_ns", "i8"),
    ("n", "u1"),  # samples of the run, at most 255
    ("raised", "u1"),
    ("live", "u1"),  # what is raised was raised live
]

#: Values of new records (others are 0).
SLIM_BLANK: Final[dict[str, Any]] = {"since_ns": NO_TIME, "mark_ns": NO_TIME}

#: Currents of which one shows that energy flows: phases, and the output of DC stations.
CURRENTS: Final = tuple(
    CHANNEL_ID[name]
    for name in ("Current.Import@L1", "Current.Import@L2", "Current.Import@L3", "Current.Import")
)

#: Most samples that a rule over `SLIM_FIELDS` can ask for.
MOST_SAMPLES: Final = 250

#: Level of a reading that says nothing of a condition.
UNKNOWN: Final = -1


def lasting(least_s: float, least_samples: int, hold_s: float, gap_s: float) -> Lasting:
    """Return how long a condition must last, from a configuration's seconds."""
    return Lasting(ns(least_s), int(least_samples), ns(hold_s), ns(gap_s))


@kernel
def slim_watch(rec: Any, t: int, present: bool, live: int, rule: Lasting) -> int:
    """Take in one sample of a condition; return NOTHING, RAISE or CLEAR.

    What was raised from backlog is raised again at the first live sample at which the condition holds. On
    CLEAR, `rec["mark_ns"]` is when the condition ended.
    """
    if not present:
        rec["n"] = 0
        if rec["raised"] == 0:
            return NOTHING
        if rec["mark_ns"] == NO_TIME:
            rec["mark_ns"] = t
        if t - rec["mark_ns"] < rule.hold_ns:
            return NOTHING
        rec["raised"] = 0
        return CLEAR
    if rec["raised"] == 0:
        if rec["n"] == 0 or t - rec["mark_ns"] > rule.gap_ns:
            rec["n"] = 0
            rec["since_ns"] = t
        rec["mark_ns"] = t
        if rec["n"] < 255:
            rec["n"] += 1
        if rec["n"] < rule.min_n or t - rec["since_ns"] < rule.min_ns:
            return NOTHING
        rec["raised"] = 1
        rec["live"] = live
        rec["mark_ns"] = NO_TIME
        return RAISE
    rec["mark_ns"] = NO_TIME
    if live != 0 and rec["live"] == 0:
        rec["live"] = 1
        return RAISE
    return NOTHING


class Columns(NamedTuple):
    """A condition of n readings: `level` is 1 where it holds, 0 where not, `UNKNOWN` where nothing is known.

    `value`, `limit` and `extra` are evidence; `score` is value per limit in the direction of bad.
    """

    level: I8
    value: F64
    limit: F64
    extra: F64
    score: F64


def levels(known: NDArray[np.bool_], bad: NDArray[np.bool_]) -> I8:
    """Return the level of each reading."""
    return np.where(known, bad, UNKNOWN).astype(np.int8)


def greatest_current(rows: ReadingBatch) -> F64:
    """Return the greatest phase or output current of each reading, A, shape (n,); NaN without any."""
    return rows.kept("greatest_current", lambda: _greatest_current(rows))


def _greatest_current(rows: ReadingBatch) -> F64:
    found = [rows.column(c) for c in CURRENTS if rows.has(c)]
    if not found:
        return np.full(len(rows), np.nan)
    greatest = found[0]
    for column in found[1:]:
        greatest = np.fmax(greatest, column)
    return greatest


def in_state_c(rows: ReadingBatch, least_a: float) -> NDArray[np.bool_]:
    """Return which readings were taken while energy flows: a current of `least_a` shows it.

    A reading without any current is taken at the station's word (chargingState Charging).
    """
    return rows.kept(f"in_state_c {least_a}", lambda: _in_state_c(rows, least_a))


def _in_state_c(rows: ReadingBatch, least_a: float) -> NDArray[np.bool_]:
    amps = greatest_current(rows)
    return np.where(np.isnan(amps), (rows.state & CHARGING) != 0, amps >= least_a)

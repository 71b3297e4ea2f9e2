"""A rule that must last, and beside it a drift towards its limit: for quantities that worsen slowly.

The quantity is a number x per reading with a weight (most: share of the limit, weight 1). Its weighted
means over clock-aligned blocks of event time are judged when the first reading after a block arrives:

- warm-up: mean and variance of the first blocks, nothing is judged;
- then z = (block - mean) / sigma, cut to 4 either way so that no single block decides, with a floor under
  sigma;
- CUSUM: S = max(0, S + z - 0.5), at most twice its limit h. While S is below h, mean and variance go on
  learning from blocks with z < 4, with a memory of `memory` blocks; from h on the baseline stands still;
- drift: S >= h, the level since S left 0 (mean with memory of 4 blocks) is at least `factor` x mean +
  `offset` (half-way from baseline to limit), and the change began `least_blocks` ago or earlier. It ends when
  S falls below h or the level below 80 % of that way.

Average run length without a change, by Siegmund's formula for a reference value k = 0.5 and independent
normal blocks, with b = h + 1.166: (exp(b) - b - 1) / 0.5 = 1.0e6 blocks at h = 12, which is 20 years of
blocks of ten minutes without a break; blocks of one car are not independent and the baseline is an estimate,
hence not the h = 9 that one year would need. A test measures it with estimated baselines.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, I8, ReadingBatch
from models.detecting import (
    CLEAR,
    RAISE,
    UPDATE,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.units import NO_TIME

from ._kernels import NOTHING, ROOM, Lasting, emit
from ._pool import Known, KnownTable, lacks, record_of
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

#: Reference value of the CUSUM, sigmas: half of the shift that it finds fastest.
REFERENCE: Final = 0.5
#: No block counts for more than this, sigmas.
MOST_Z: Final = 4.0
#: Share of the way from baseline to threshold below which a drift has ended.
_KEEP: Final = 0.8

#: What holds: nothing, a drift, the rule.
DRIFT: Final = 1
RULE: Final = 2

#: What is kept of an EVSE that was measured.
TREND_FIELDS: Final[list[tuple[str, str]]] = [
    ("total", "f4"),  # of the block: sum of weight x (quantity - mean), so that single precision will do
    ("weight", "f4"),
    ("mean", "f4"),
    ("variance", "f4"),
    ("cusum", "f4"),
    ("level", "f4"),  # since the CUSUM left 0
    ("block", "i4"),  # number of the block in the epoch
    ("onset", "i4"),  # block in which the CUSUM left 0
    ("blocks", "u2"),  # that the baseline is of
    ("drift", "u1"),
]

#: What is kept while the rule's condition holds, or something is raised.
RULE_FIELDS: Final[list[tuple[str, str]]] = [
    ("since_ns", "i8"),  # first sample of the rule's run
    ("mark_ns", "i8"),  # last sample of it
    ("start_ns", "i8"),  # start of what is raised
    ("good_ns", "i8"),  # first sample without either, while raised
    ("n", "u1"),
    ("raised", "u1"),
    ("live", "u1"),
]

RULE_BLANK: Final[dict[str, Any]] = {
    "since_ns": NO_TIME,
    "mark_ns": NO_TIME,
    "start_ns": NO_TIME,
    "good_ns": NO_TIME,
}


class Trend(NamedTuple):
    """How a drift is found; see the module."""

    block_ns: int
    warm_up: int
    memory: int
    limit: float  # h, sigmas
    floor: float  # least sigma, in the unit of the quantity
    floor_share: float  # and as a share of the mean
    factor: float
    offset: float
    least_blocks: int


class Trending(NamedTuple):
    """What n readings say: `level` is 1 where the rule's condition holds, 0 where not, -1 where unknown.

    `x` is the quantity, NaN where unknown, with its `weight`; `value` and `limit` are evidence (a NaN limit
    stands for the threshold of the drift).
    """

    level: I8
    x: F64
    weight: F64
    value: F64
    limit: F64
    score: F64


@kernel
def threshold(rec: Any, trend: Trend) -> float:
    """Return the level that a drift must reach."""
    return float(trend.factor * rec["mean"] + trend.offset)


@kernel
def _learn(rec: Any, x: float, most: int) -> None:
    """Take a block into mean and variance with a memory of `most` blocks."""
    if rec["blocks"] < most:
        rec["blocks"] += 1
    change = x - rec["mean"]
    rec["mean"] += change / rec["blocks"]
    rec["variance"] += (change * (x - rec["mean"]) - rec["variance"]) / rec["blocks"]


@kernel
def close_block(rec: Any, x: float, trend: Trend) -> None:
    """Judge the mean of the block that `rec` holds."""
    if rec["blocks"] < trend.warm_up:
        _learn(rec, x, trend.warm_up)
        return
    sigma = max(np.sqrt(rec["variance"]), trend.floor, trend.floor_share * abs(rec["mean"]))
    z = min(max((x - rec["mean"]) / sigma, -MOST_Z), MOST_Z)
    before = rec["cusum"]
    rec["cusum"] = min(max(0.0, before + z - REFERENCE), 2.0 * trend.limit)
    if before == 0.0:
        rec["onset"] = rec["block"]
        rec["level"] = x
    else:
        rec["level"] += (x - rec["level"]) / 4.0
    if rec["cusum"] < trend.limit and z < MOST_Z:
        _learn(rec, x, trend.memory)
    high = threshold(rec, trend)
    low = rec["mean"] + _KEEP * (high - rec["mean"])
    lasted = rec["block"] - rec["onset"] + 1 >= trend.least_blocks
    if rec["cusum"] < trend.limit or rec["level"] < low:
        rec["drift"] = 0
    elif rec["level"] >= high and lasted:
        rec["drift"] = 1


@kernel
def _add(rec: Any, t: int, x: float, weight: float, trend: Trend) -> bool:
    """Take the quantity into its block; return whether a block was judged."""
    block = t // trend.block_ns
    judged = False
    if rec["block"] != block:
        if rec["weight"] > 0.0:
            close_block(rec, rec["mean"] + rec["total"] / rec["weight"], trend)
            judged = True
        rec["block"] = block
        rec["total"] = 0.0
        rec["weight"] = 0.0
    rec["total"] += weight * (x - rec["mean"])
    rec["weight"] += weight
    return judged


@kernel
def _rule_holds(rec: Any, t: int, level: int, rule: Lasting) -> bool:
    """Take in one sample of the rule; return whether its condition has lasted."""
    if level == 0:
        rec["n"] = 0
    elif level == 1:
        if rec["n"] == 0 or t - rec["mark_ns"] > rule.gap_ns:
            rec["n"] = 0
            rec["since_ns"] = t
        rec["mark_ns"] = t
        if rec["n"] < 255:
            rec["n"] += 1
    if rec["n"] == 0:
        return False
    lasted = rec["n"] >= rule.min_n and rec["mark_ns"] - rec["since_ns"] >= rule.min_ns
    return bool(lasted or rec["raised"] == RULE)


@kernel
def _decide(rec: Any, seen: Any, t: int, holds: bool, live: int, rule: Lasting, block_ns: int) -> int:
    """Return what to emit: `rec` has `RULE_FIELDS`, `seen` is the drift."""
    reached = RULE if holds else (DRIFT if seen["drift"] != 0 else 0)
    if rec["raised"] == 0:
        if reached == 0:
            return NOTHING
        rec["raised"] = reached
        rec["start_ns"] = rec["since_ns"] if reached == RULE else seen["onset"] * block_ns
        rec["live"] = live
        rec["good_ns"] = NO_TIME
        return RAISE
    if rec["n"] == 0 and seen["drift"] == 0:
        if rec["good_ns"] == NO_TIME:
            rec["good_ns"] = t
        if t - rec["good_ns"] < rule.hold_ns:
            return NOTHING
        rec["raised"] = 0
        return CLEAR
    rec["good_ns"] = NO_TIME
    higher = reached > rec["raised"]
    if higher:
        rec["raised"] = reached
    if live != 0 and rec["live"] == 0:
        rec["live"] = 1
        return RAISE
    return UPDATE if higher else NOTHING


@kernel
def _suspicious(rec: Any, t: int, level: int, known: bool, trend: Trend) -> bool:
    """Return whether a reading may need a record of `RULE_FIELDS`: no block adds more than `MOST_Z`."""
    if level == 1 or rec["drift"] != 0:
        return True
    return bool(known and rec["block"] != t // trend.block_ns and rec["cusum"] + MOST_Z >= trend.limit)


@kernel
def trend_kernel(
    start: int,
    time: Timeline,
    seen: Trending,
    state: Known,
    rules: Sparse,
    severities: tuple[int, int],
    rule: Lasting,
    trend: Trend,
    out: EmissionArrays,
) -> int:
    """Watch rule and drift over all readings; return the first not processed for want of room, or n.

    `severities` are those of a drift and of the rule. Evidence: 0 value, 1 limit, 2 level of the drift, 3
    baseline, 4 CUSUM, 5 seconds since it began (a clear has only this).
    """
    n, room = len(time.evse), len(out.order) - ROOM
    level, evse = seen.level, time.evse
    for i in range(start, n):
        x = seen.x[i]
        if level[i] < 0 and x != x:
            continue
        e, t = evse[i], time.time_ns[i]
        if out.used[0] > room or lacks(state, e):
            return i
        rec = state.rows[record_of(state, e)]
        at = find(rules, e)
        if at == 0 and full(rules) and _suspicious(rec, t, level[i], x == x, trend):
            return i
        judged = x == x and _add(rec, t, x, seen.weight[i], trend)
        if not judged and (level[i] < 0 or (level[i] == 0 and at == 0)):
            continue
        if at == 0:
            if level[i] != 1 and rec["drift"] == 0:
                continue
            at = take(rules, e)
        held = rules.records[at]
        holds = _rule_holds(held, t, level[i], rule)
        before = held["raised"]
        kind = _decide(held, rec, t, holds, time.live[i], rule, trend.block_ns)
        if kind != NOTHING:
            end = held["good_ns"] if kind == CLEAR else t
            severity = severities[1] if max(before, held["raised"]) == RULE else severities[0]
            j = emit(
                out, e, kind, severity, held["live"], held["start_ns"], end,
                time.order[i], time.effect_ns[i], seen.score[i],
            )  # fmt: skip
            out.evidence[j, 5] = (end - held["start_ns"]) / 1e9
            if kind != CLEAR:
                limit = seen.limit[i]
                out.evidence[j, 0] = seen.value[i]
                out.evidence[j, 1] = limit if limit == limit else threshold(rec, trend)
                if rec["cusum"] > 0.0:
                    out.evidence[j, 2] = rec["level"]
                if rec["blocks"] >= trend.warm_up:
                    out.evidence[j, 3] = rec["mean"]
                out.evidence[j, 4] = rec["cusum"]
        if idle(held):
            give(rules, e)
    return n


class TrendDetector(SparseDetector):
    """A detector of a rule and a drift; subclasses say what readings mean, and hand that to `_watch`."""

    version = 2
    sparse_dtype = RULE_FIELDS
    sparse_blank = RULE_BLANK
    _severities: tuple[int, int]
    _rule: Lasting
    _trend: Trend

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        self._drifts = KnownTable(TREND_FIELDS, {})
        super().__init__(resume_state)

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        self._drifts.load(state["evses"], self.spec.code)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        if not seen.rows.present.isdisjoint(self.spec.channels):
            self._drifts.reserve(seen.devices.n_evses)
        super().process(seen, out)

    def _watch(self, start: int, rows: ReadingBatch, seen: Trending, out: EmissionArrays) -> int:
        return int(
            trend_kernel(
                start, timeline(rows), seen, self._drifts.arrays, self.sparse.arrays, self._severities,
                self._rule, self._trend, out,
            )
        )  # fmt: skip

    def _make_room(self) -> bool:
        return self._drifts.make_room() or super()._make_room()

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return super().snapshot() | {"evses": self._drifts.columns()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._drifts.nbytes

"""Readings of an EVSE come at longer intervals than its node declares, and nothing explains it.

An interval is the event time between two readings that follow one another. It is left out where something
explains it: the node passed over a message number, restarted, or sent a backlog in between; the declared
period changed; it is longer than 20 declared periods (an EVSE that was not measured, not a slower cadence).
Intervals are gathered until they make up 30 minutes and are at least 4. Raised when more than half of them
are at least 1.4 times the declared period, which is to say that their median is. Cleared by 30 minutes whose
median is not. Nodes that declare no sample period are not judged.

Starts with the first of the intervals; ends with the last 30 minutes that were too slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import DECODED, HEARTBEAT, I32, I64, U8, MessageColumns, ReadingBatch
from models.detecting import (
    CLEAR,
    INFO,
    RAISE,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.devices import DeviceTable
from models.units import NO_TIME, NS_PER_MS

from ._base import RowDetector, Table, ns, require
from ._kernels import NOTHING, ROOM, emit
from ._sparse import Sparse, SparseDetector, find, full, give, take

SPEC = DetectorSpec(
    "cadence_shift",
    "evse",
    "statistical",
    evidence=("interval_mean_s", "declared_s", "long_share", "intervals"),
)

_NEVER: Final = -1
_MASK: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `cadence_shift`.

    Attributes
    ----------
    factor : float
        Median interval that is too long. Unit: declared periods. Default 1.4. Source: CONVENTIONS.
    window_s : float
        Intervals that are judged together make up this time. Unit: s. Default 1800. Source: CONVENTIONS.
    intervals_least : int
        How many they are at least. Unit: intervals. Default 4. Source: with fewer one lost reading makes the
        median.
    absent_periods : float
        A longer interval is an absence. Unit: declared periods. Default 20. Source: no station slows down
        twentyfold; EVSEs that are measured only while they charge pause for longer.
    """

    factor: float = 1.4
    window_s: float = 1800.0
    intervals_least: int = 4
    absent_periods: float = 20.0

    def __post_init__(self) -> None:
        require(
            self,
            factor=(1.05, 100.0),
            window_s=(1.0, 86_400.0),
            intervals_least=(1, 100_000),
            absent_periods=(2.0, 1e6),
        )


class _Limits(NamedTuple):
    factor: float
    window_ns: int
    least: int
    absent: float


class _Numbered(NamedTuple):
    """What the walk reads of each message."""

    order: I64
    node: I32
    kind: U8
    boot: I64
    seq: I64
    live: U8
    fate: U8


@kernel
def _breaks_kernel(m: _Numbered, nodes: Any, node_of: I32, order_of: I64) -> int:
    """Write node and order of every message that explains a long interval before it; return how many."""
    found = 0
    for k in range(len(m.order)):
        node = m.node[k]
        if node < 0 or m.fate[k] != DECODED:
            continue
        torn = m.live[k] == 0
        if m.boot[k] >= 0 and m.seq[k] >= 0:
            rec = nodes[node]
            if m.boot[k] > rec["boot"]:
                torn = torn or rec["boot"] >= 0
                rec["boot"] = m.boot[k]
                rec["top"] = m.seq[k]
            elif m.boot[k] == rec["boot"] and m.seq[k] > rec["top"]:
                torn = torn or m.kind[k] == HEARTBEAT or m.seq[k] > rec["top"] + 1
                rec["top"] = m.seq[k]
        if torn:
            node_of[found] = node
            order_of[found] = m.order[k]
            found += 1
    return found


@kernel
def _restart(rec: Any) -> None:
    rec["sum_ns"] = 0
    rec["n"] = 0
    rec["long"] = 0


@kernel
def _judge(rec: Any, t: int, e: int, raised: Sparse) -> int:
    """Judge the intervals gathered up to t; return what to emit."""
    at = find(raised, e)
    if 2 * rec["long"] > rec["n"]:
        before = at
        if at == 0:
            at = take(raised, e)
        raised.records[at]["end_ns"] = t
        return RAISE if before == 0 else NOTHING
    return CLEAR if at != 0 else NOTHING


@kernel
def _cadence_kernel(
    start: int,
    time: Timeline,
    evse_node: I32,
    sample_ns: I64,
    begin: I64,
    breaks: I64,
    last_break: I64,
    state: Any,
    raised: Sparse,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room, i = len(time.evse), len(out.order) - ROOM, start
    evse, time_ns, order, live = time.evse, time.time_ns, time.order, time.live
    while i < n:
        e = evse[i]
        rec, node = state[e], evse_node[e]
        declared = sample_ns[node]
        least, most = declared * limits.factor, declared * limits.absent
        at, stop, broken = begin[node], begin[node + 1], last_break[node]
        if declared // NS_PER_MS & _MASK != rec["declared_ms"]:
            rec["declared_ms"] = declared // NS_PER_MS & _MASK
            rec["last_order"] = _NEVER
            _restart(rec)
        while i < n and evse[i] == e:
            if out.used[0] > room or full(raised):
                return i
            t = time_ns[i]
            while at < stop and breaks[at] <= order[i]:
                broken = breaks[at]
                at += 1
            interval = t - rec["last_ns"]
            known = rec["last_order"] != _NEVER and live[i] != 0 and declared > 0
            if known and broken <= rec["last_order"] and interval <= most:
                if rec["n"] == 0 and find(raised, e) == 0:
                    rec["start_ns"] = rec["last_ns"]
                rec["sum_ns"] += interval
                rec["n"] += 1
                rec["long"] += 1 if interval >= least else 0
                if rec["sum_ns"] >= limits.window_ns and rec["n"] >= limits.least:
                    kind = _judge(rec, t, e, raised)
                    if kind != NOTHING:
                        end_ns = raised.records[find(raised, e)]["end_ns"]
                        mean_ns = rec["sum_ns"] / rec["n"]
                        j = emit(
                            out, e, kind, INFO, 1, rec["start_ns"], end_ns,
                            order[i], time.effect_ns[i], mean_ns / declared,
                        )  # fmt: skip
                        out.evidence[j, 0] = mean_ns / 1e9
                        out.evidence[j, 1] = declared / 1e9
                        out.evidence[j, 2] = rec["long"] / rec["n"]
                        out.evidence[j, 3] = rec["n"]
                        if kind == CLEAR:
                            give(raised, e)
                    _restart(rec)
            rec["last_ns"] = t
            rec["last_order"] = order[i] if live[i] != 0 else _NEVER
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype: ClassVar[list[Any]] = [
        ("last_ns", "i8"),
        ("last_order", "i8"),  # of the last reading, -1: the next interval does not count
        ("sum_ns", "i8"),
        ("start_ns", "i8"),
        ("declared_ms", "u2"),  # the low bits of it
        ("n", "i4"),
        ("long", "i4"),
    ]
    blank: ClassVar[dict[str, Any]] = {"last_order": _NEVER}
    sparse_dtype: ClassVar[list[Any]] = [("end_ns", "i8")]  # of what is raised
    sparse_blank: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.factor),
            ns(config.window_s),
            int(config.intervals_least),
            float(config.absent_periods),
        )
        self._nodes = Table(
            [("boot", "i8"), ("top", "i8"), ("break", "i8")], {"boot": -1, "top": -1, "break": _NEVER}
        )
        if resume_state is not None:
            self._nodes.load(resume_state.get("nodes", {}), SPEC.code)
        self._begin, self._breaks = np.zeros(1, np.int64), np.zeros(0, np.int64)
        self._last_break = np.zeros(0, np.int64)
        self._find_breaks(MessageColumns.empty())
        super().__init__(resume_state)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._nodes.reserve(seen.devices.n_nodes)
        self._find_breaks(seen.messages)
        super().process(seen, out)

    def _find_breaks(self, m: MessageColumns) -> None:
        """Note what explains long intervals: orders by node, and the last one before this batch."""
        nodes = self._nodes.rows[: self._nodes.n]
        self._last_break = nodes["break"].copy()
        node, order = np.empty(len(m), np.int32), np.empty(len(m), np.int64)
        numbered = _Numbered(m.order, m.node, m.kind, m.boot, m.seq, m.live, m.fate)
        found = _breaks_kernel(numbered, self._nodes.rows, node, order)
        node, order = node[:found], order[:found]
        by_node = np.argsort(node, kind="stable")
        self._breaks = order[by_node]
        self._begin = np.searchsorted(node[by_node], np.arange(self._nodes.n + 1))
        if found:
            np.maximum.at(self._nodes.rows["break"], node, order)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _cadence_kernel(
                start,
                timeline(rows),
                devices.evse_node,
                np.where(devices.sample_ns == NO_TIME, 0, devices.sample_ns),
                self._begin,
                self._breaks,
                self._last_break,
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                out,
            )
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return super().snapshot() | {"nodes": self._nodes.columns()}

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._nodes.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

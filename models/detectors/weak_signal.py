"""A radio signal that is poor, or much worse than it used to be.

Means of ``x.RSSI`` over clock-aligned half hours (UTC) with at least two samples, a half hour being over with
the first sample after it. Raised when a mean is below -90 dBm, or 10 dB or more below the EVSE's own median
of the last 7 days: of its closed twelve-hour means. Cleared by a half
hour that is neither.

Each EVSE's readings are judged by themselves; the finding is about its station: the first EVSE raises it,
the last one to recover clears it. The signal that heartbeats carry (``rssi``) is judged in the same way, at
the time it came; that finding is about the node. What is the own level is learnt all the time, so a signal
that stays 10 dB lower for half of the seven days becomes the new level; -90 dBm does not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
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
from models.records import Heartbeat

from ._base import Table, columns, ns, require
from ._kernels import NOTHING, ROOM, emit
from ._pool import NONE, Chains, Pool, take
from ._stations import StationDetector

SPEC = DetectorSpec(
    "weak_signal",
    "station",
    "statistical",
    (CHANNEL_ID["x.RSSI"],),
    ("mean_dbm", "limit_dbm", "median_dbm", "drop_db", "samples", "evse"),
    needs_channels=True,
)

_HALF_HOUR_NS: Final = 1_800_000_000_000
_WINDOWS_PER_BLOCK: Final = 24  # twelve hours
_BLOCKS: Final = 14  # seven days
_MOST: Final = 65_535  # samples of a mean; what comes after is left out of it
_NONE: Final = -1

#: What is kept from the first closed twelve hours on, or from the first raise.
_PAST: Final[list[Any]] = [
    ("start", "i4"),
    ("bad", "i4"),
    ("raised", "u1"),
    ("live", "u1"),
    ("ring", "u1", (_BLOCKS,)),
]


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `weak_signal`.

    Attributes
    ----------
    least_dbm : float
        A mean below this is weak by itself. Unit: dBm. Default -90. Source: CONVENTIONS.
    drop_db : float
        So far below the own median is weak. Unit: dB. Default 10. Source: CONVENTIONS.
    window_samples : int
        Samples that a half hour needs. Unit: samples. Default 2. Source: the slowest usual meter interval
        is 900 s (OCPP aligned data).
    blocks_least : int
        Twelve-hour means of the last seven days that make a median. Unit: means. Default 1. Source: half a
        day at most until a station is judged by itself; a bad hour is a small part of such a mean.
    stale_s : float
        A half hour that ended longer ago than this when the next sample came is backlog. Unit: s.
        Default 3600. Source: twice the slowest usual cadence, as for voltages.
    """

    least_dbm: float = -90.0
    drop_db: float = 10.0
    window_samples: int = 2
    blocks_least: int = 1
    stale_s: float = 3600.0

    def __post_init__(self) -> None:
        require(
            self,
            least_dbm=(-150.0, 0.0),
            drop_db=(1.0, 100.0),
            window_samples=(1, 1000),
            blocks_least=(1, _BLOCKS),
            stale_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    least: float
    drop: float
    window_samples: int
    blocks_least: int
    stale_ns: int


@kernel
def _median(ring: U8, sorted_: U8) -> tuple[float, int]:
    """Return the median of the known twelve-hour means (half decibels below 0 dBm; 0: none), and how many."""
    n = 0
    for i in range(len(ring)):
        value = ring[i]
        if value != 0:
            k = n
            while k > 0 and sorted_[k - 1] > value:
                sorted_[k] = sorted_[k - 1]
                k -= 1
            sorted_[k] = value
            n += 1
    if n == 0:
        return np.nan, 0
    return -0.25 * (float(sorted_[(n - 1) // 2]) + float(sorted_[n // 2])), n


@kernel
def _past(rec: Any, pool: Chains) -> int:
    """Return the number of what is kept of the past, a blank record if there was none."""
    if rec["past"] == NONE:
        rec["past"] = take(pool, NONE)
    return int(rec["past"])


@kernel
def _keep(rec: Any, window: int, pool: Chains) -> None:
    """Close the twelve hours around the closed half hour if `window` lies beyond; forget older ones."""
    block, now = rec["window"] // _WINDOWS_PER_BLOCK, window // _WINDOWS_PER_BLOCK
    if np.int64(rec["block_n"]) + rec["n"] <= _MOST:
        rec["block_sum"] += rec["sum"]
        rec["block_n"] += rec["n"]
    if now == block:
        return
    half_db = min(max(np.floor(0.5 - 2.0 * rec["block_sum"] / rec["block_n"]), 1.0), 255.0)
    ring = pool.rows[_past(rec, pool)]["ring"]
    ring[block % _BLOCKS] = np.uint8(half_db)
    for gone in range(block + 1, min(now + 1, block + 1 + _BLOCKS)):
        ring[gone % _BLOCKS] = 0
    rec["block_sum"] = 0.0
    rec["block_n"] = 0


@kernel
def _judge(rec: Any, t: int, limits: _Limits, pool: Chains, scratch: U8, found: F64) -> int:
    """Judge the half hour that is over; return what to emit. `found` takes mean, limit and median."""
    mean = rec["sum"] / rec["n"]
    median, known = np.nan, 0
    if rec["past"] != NONE:
        median, known = _median(pool.rows[rec["past"]]["ring"], scratch)
    limit = limits.least
    if known >= limits.blocks_least:
        limit = max(limit, median - limits.drop)
    else:
        median = np.nan
    found[0] = mean
    found[1] = limit
    found[2] = median
    if rec["n"] < limits.window_samples:
        return NOTHING
    if not (mean < limits.least or mean <= median - limits.drop):  # false for NaN
        if rec["past"] == NONE or pool.rows[rec["past"]]["raised"] == 0:
            return NOTHING
        pool.rows[rec["past"]]["raised"] = 0
        return CLEAR
    past = pool.rows[_past(rec, pool)]
    fresh = rec["last_live"] if t - (rec["window"] + 1) * _HALF_HOUR_NS <= limits.stale_ns else 0
    if past["raised"] == 0:
        past["start"] = rec["window"]
        past["live"] = 0
    past["bad"] = rec["window"]
    if past["raised"] != 0 and (fresh == 0 or past["live"] != 0):
        return NOTHING
    past["raised"] = 1
    past["live"] = fresh
    return RAISE


@kernel
def _signal_kernel(
    start: int,
    time: Timeline,
    rssi_dbm: F64,
    state: Any,
    limits: _Limits,
    pool: Chains,
    scratch: U8,
    found: F64,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    evse, time_ns, live = time.evse, time.time_ns, time.live
    for i in range(start, n):
        dbm = rssi_dbm[i]
        if dbm != dbm:
            continue
        if out.used[0] > room or pool.free[1] < 1:
            return i
        rec = state[evse[i]]
        window = time_ns[i] // _HALF_HOUR_NS
        if window != rec["window"]:
            if rec["n"] > 0:
                kind = _judge(rec, time_ns[i], limits, pool, scratch, found)
                if kind != NOTHING:
                    past = pool.rows[rec["past"]]
                    j = emit(
                        out, evse[i], kind, INFO, past["live"], past["start"] * _HALF_HOUR_NS,
                        (past["bad"] + 1) * _HALF_HOUR_NS, time.order[i], time.effect_ns[i],
                        found[0] / found[1],
                    )  # fmt: skip
                    out.evidence[j, 0] = found[0]
                    out.evidence[j, 1] = found[1]
                    out.evidence[j, 2] = found[2]
                    out.evidence[j, 3] = found[2] - found[0]
                    out.evidence[j, 4] = rec["n"]
                _keep(rec, window, pool)
            rec["window"] = window
            rec["sum"] = 0.0
            rec["n"] = 0
        if rec["n"] < _MOST:
            rec["sum"] += dbm
            rec["n"] += 1
        rec["last_live"] = live[i]
    return n


class _Detector(StationDetector):
    spec = SPEC
    version = 4
    dtype: ClassVar[list[Any]] = [
        ("sum", "f8"),
        ("block_sum", "f8"),
        ("window", "i4"),  # half hours since the epoch
        ("n", "u2"),
        ("block_n", "u2"),
        ("past", "i4"),  # its `_PAST` record
        ("last_live", "u1"),
    ]
    blank: ClassVar[dict[str, Any]] = {"window": _NONE, "past": NONE}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            float(config.least_dbm),
            float(config.drop_db),
            int(config.window_samples),
            int(config.blocks_least),
            ns(config.stale_s),
        )
        self._scratch, self._found = np.zeros(_BLOCKS, np.uint8), np.zeros(3)
        self._nodes, self._pasts = Table(self.dtype, self.blank), Pool(_PAST)
        self._told = Emissions()
        super().__init__(resume_state)
        if resume_state is not None:
            self._nodes.load(resume_state["nodes"], SPEC.code)
            for table, name in ((self.table, "evses_past"), (self._nodes, "nodes_past")):
                self._pasts.load(resume_state[name], table.rows["past"], SPEC.code)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed, of stations and of nodes."""
        super().process(seen, out)
        beats = [r for r in seen.records if isinstance(r, Heartbeat)]
        if not beats:
            return
        self._nodes.reserve(seen.devices.n_nodes)
        time, dbm = _heard(beats)
        at = 0
        while (at := self._judge(at, time, dbm, self._nodes, self._told.arrays)) < len(dbm):
            self._told.grow()
        self._told.collect(self.spec)
        for e in self._told.drain():
            out.add(
                self.spec,
                order=e.order,
                effect_ns=e.effect_ns,
                subject=e.subject,
                kind=e.kind,
                severity=e.severity,
                start_ns=e.start_ns,
                time_ns=e.time_ns,
                live=e.live,
                score=e.score,
                evidence=e.evidence,
                scope="node",
            )

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        (rssi_dbm,) = columns(rows, SPEC.channels)
        return self._judge(start, timeline(rows), rssi_dbm, self.table, out)

    def _judge(self, start: int, time: Timeline, dbm: F64, table: Table, out: EmissionArrays) -> int:
        rows, limits, scratch, found = table.rows, self._limits, self._scratch, self._found
        while True:
            pool = self._pasts.chains
            start = int(_signal_kernel(start, time, dbm, rows, limits, pool, scratch, found, out))
            if not self._pasts.have(1):
                return start

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        saved = super().snapshot() | {"nodes": self._nodes.columns()}
        for name in ("evses", "nodes"):
            saved[f"{name}_past"] = self._pasts.columns(saved[name]["past"])
            saved[name]["past"][:] = NONE
        return saved

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._nodes.nbytes + self._pasts.nbytes


def _heard(beats: list[Heartbeat]) -> tuple[Timeline, F64]:
    """Return heartbeats as readings of their nodes, at the time of the journal."""
    times = np.array([r.at.effect_ns for r in beats], np.int64)
    time = Timeline(
        np.array([r.at.node_row for r in beats], np.int32),
        times,
        np.array([r.at.order for r in beats], np.int64),
        times,
        np.zeros(len(beats), np.int16),
        np.array([r.at.live for r in beats], np.uint8),
    )
    return time, np.array([r.rssi_dbm for r in beats])


def build(config: Config, resume_state: dict[str, Any] | None = None) -> StationDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

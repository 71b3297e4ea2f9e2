"""Car draws more than it was offered: a phase above offered x 1.10 + 0.5 A for 7 s and two samples.

Offered is the last ``Current.Offered`` of the EVSE that is at most 15 minutes old. On AC EVSEs the phase
currents decide; on DC ones ``Current.Import``, the output. A current without phase of an AC EVSE is a
phase's current where the inventory declares one phase; elsewhere it may be a phase's or the sum of all,
so it is judged only against the limit times the number of phases (three where none is declared): beyond
that it is too much either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from models._kernel import kernel
from models.batch import F64, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, WARNING, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable
from models.units import NO_TIME

from ._base import columns, ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take
from ._voltage import Inventory, inventory

SPEC = DetectorSpec(
    "over_current",
    "evse",
    "rule",
    tuple(
        CHANNEL_ID[name]
        for name in (
            "Current.Import@L1",
            "Current.Import@L2",
            "Current.Import@L3",
            "Current.Import",
            "Current.Offered",
        )
    ),
    ("current_a", "offered_a", "limit_a", "duration_s", "phase"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `over_current`.

    Attributes
    ----------
    factor : float
        Share of the offered current that may flow. Unit: 1 (per unit). Default 1.10. Source: EVerest
        EvseManager, soft over-current tolerance 10 %.
    margin_a : float
        Added to it. Unit: A. Default 0.5. Source: EVerest EvseManager, measurement noise.
    least_s : float
        Time that the condition must last. Unit: s. Default 7. Source: EVerest EvseManager; a car has 5 s
        to follow (IEC 61851-1).
    least_samples : int
        Samples that it must last. Unit: samples. Default 2. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    offered_max_age_s : float
        An older offer is not known any more. Unit: s. Default 900. Source: OCPP aligned data interval.
    """

    factor: float = 1.10
    margin_a: float = 0.5
    least_s: float = 7.0
    least_samples: int = 2
    hold_s: float = 60.0
    gap_s: float = 1800.0
    offered_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            factor=(1.0, 3.0),
            margin_a=(0.0, 100.0),
            least_s=(0.0, 3600.0),
            least_samples=(1, MOST_SAMPLES),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
            offered_max_age_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    factor: float
    margin: float
    offered_max_age_ns: int


class _Columns(NamedTuple):
    """The channels read, NaN where a batch has none."""

    l1_a: F64
    l2_a: F64
    l3_a: F64
    unphased_a: F64
    offered_a: F64


@kernel
def _greatest(l1_a: float, l2_a: float, l3_a: float) -> tuple[float, int]:
    """Return the greatest phase current and its phase, -1 when none is known."""
    greatest, phase = -np.inf, -1
    if l1_a > greatest:  # false for NaN
        greatest, phase = l1_a, 1
    if l2_a > greatest:
        greatest, phase = l2_a, 2
    if l3_a > greatest:
        greatest, phase = l3_a, 3
    return greatest, phase


@kernel
def _report(
    rec: Any,
    i: int,
    time: Timeline,
    kind: int,
    amps: float,
    phase: int,
    offered_a: float,
    limit: float,
    out: EmissionArrays,
) -> None:
    t = time.time_ns[i]
    end = rec["mark_ns"] if kind == CLEAR else t
    j = emit(
        out,
        time.evse[i],
        kind,
        WARNING,
        rec["live"],
        rec["since_ns"],
        end,
        time.order[i],
        time.effect_ns[i],
        amps / limit,
    )
    out.evidence[j, 3] = (end - rec["since_ns"]) / 1e9
    if kind != CLEAR:
        out.evidence[j, 0] = amps
        out.evidence[j, 1] = offered_a
        out.evidence[j, 2] = limit
        out.evidence[j, 4] = phase


@kernel
def _current_kernel(
    start: int,
    time: Timeline,
    columns: _Columns,
    inv: Inventory,
    offers: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n = len(time.evse)
    l1_a, l2_a, l3_a = columns.l1_a, columns.l2_a, columns.l3_a
    unphased_a, offered_a = columns.unphased_a, columns.offered_a
    evse, time_ns, room = time.evse, time.time_ns, len(out.order) - ROOM
    i = start
    while i < n:
        e = evse[i]
        offer, at = offers[e], find(sparse, e)
        dc = inv.dc[e] != 0
        share = 1 if dc else (inv.phases[e] if inv.phases[e] > 0 else 3)
        while i < n and evse[i] == e:
            if out.used[0] > room:
                return i
            t = time_ns[i]
            if offered_a[i] == offered_a[i]:
                offer["offered_a"] = offered_a[i]
                offer["offered_ns"] = t
            amps, phase = _greatest(l1_a[i], l2_a[i], l3_a[i])
            if dc or phase < 0:
                amps, phase = unphased_a[i] / share, 0
            fresh = offer["offered_ns"] != NO_TIME and t - offer["offered_ns"] <= limits.offered_max_age_ns
            if fresh and amps == amps:
                offered = offer["offered_a"]
                limit = offered * limits.factor + limits.margin
                if amps > limit or at != 0:
                    if at == 0 and full(sparse):
                        return i
                    if at == 0:
                        at = take(sparse, e)
                    rec = sparse.records[at]
                    kind = slim_watch(rec, t, amps > limit, time.live[i], rule)
                    if kind != NOTHING:
                        _report(rec, i, time, kind, amps, phase, offered, limit, out)
                    if idle(rec):
                        give(sparse, e)
                        at = 0
            i += 1
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype: ClassVar[list[Any]] = [("offered_ns", "i8"), ("offered_a", "f4")]
    blank: ClassVar[dict[str, Any]] = {"offered_ns": NO_TIME, "offered_a": np.nan}
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(float(config.factor), float(config.margin_a), ns(config.offered_max_age_s))
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _current_kernel(
                start,
                timeline(rows),
                _Columns(*columns(rows, SPEC.channels)),
                inventory(devices),
                self.table.rows,
                self.sparse.arrays,
                self._limits,
                self._rule,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> SparseDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

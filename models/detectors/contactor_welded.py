"""Output live outside a transaction for 60 s and two samples: DC more than 60 V, AC more than 100 W.

A transaction runs from Started to Ended. Not to know is not "outside": nothing is judged before a status or
transaction message of the EVSE was seen, nor while the station says that it charges or has suspended (it may
charge without transactions, or its Started is still on the way). While a car is plugged in, a Started may be
late or lost: there the output counts only after the end of a transaction at this plug, or while the pilot
shows that the car does not ask for energy. Where the Ended is lost, the transaction goes on for this rule
until the station says otherwise.

The output of a DC EVSE is the higher of ``x.Output.V`` and ``Voltage``; its power does not count (a DC power
meter may stand on the grid side). An EVSE that no birth declared is judged by its power.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from models import batch as b
from models._kernel import kernel
from models.batch import F64, U8, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import CLEAR, CRITICAL, DetectorSpec, EmissionArrays, Timeline, timeline
from models.devices import DeviceTable

from ._base import columns, ns, require
from ._kernels import NOTHING, ROOM, Lasting, emit
from ._slim import MOST_SAMPLES, SLIM_BLANK, SLIM_FIELDS, slim_watch
from ._sparse import Sparse, SparseDetector, find, full, give, idle, take

SPEC = DetectorSpec(
    "contactor_welded",
    "evse",
    "rule",
    tuple(CHANNEL_ID[name] for name in ("Power.Active.Import", "x.Output.V", "Voltage", "x.CP.V")),
    ("output_v", "power_w", "limit", "duration_s", "plugged"),
    needs_channels=True,
)

_ENERGISED: Final = b.IN_TRANSACTION | b.CHARGING | b.SUSPENDED_EV | b.SUSPENDED_EVSE


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `contactor_welded`.

    Attributes
    ----------
    output_v : float
        Voltage of a DC output above which it is live. Unit: V. Default 60. Source: EVgo MREC F008; limit
        of touchable direct voltage (IEC 61851-23).
    power_w : float
        Power of an AC output above which something flows. Unit: W. Default 100. Source: CONVENTIONS;
        above the consumption of a controller, below any charge (6 A at 230 V is 1380 W).
    pilot_idle_v : float
        Pilot above which the car does not ask for energy. Unit: V. Default 7.5. Source: IEC 61851-1, half
        way between states B (9 V) and C (6 V).
    least_samples : int
        Samples that the condition must last. Unit: samples. Default 2. Source: CONVENTIONS, a rule over
        time needs more than one sample.
    least_s : float
        Time that it must last. Unit: s. Default 60. Source: CONVENTIONS; filters discharge and mean
        values reported late.
    hold_s : float
        Clear after this long without it. Unit: s. Default 60. Source: CONVENTIONS, max(raise duration, 60
        s).
    gap_s : float
        Two samples further apart are not one run. Unit: s. Default 1800. Source: twice the slowest usual
        meter interval (OCPP aligned data, 900 s).
    """

    output_v: float = 60.0
    power_w: float = 100.0
    pilot_idle_v: float = 7.5
    least_samples: int = 2
    least_s: float = 60.0
    hold_s: float = 60.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            output_v=(10.0, 500.0),
            power_w=(1.0, 10_000.0),
            pilot_idle_v=(6.6, 12.0),
            least_samples=(1, MOST_SAMPLES),
            least_s=(0.0, 3600.0),
            hold_s=(1.0, 86_400.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    output: float
    power: float
    pilot_idle: float


class _Columns(NamedTuple):
    power_w: F64
    output_v: F64
    voltage_v: F64
    pilot_v: F64


@kernel
def _outside(rec: Any, bits: int, pilot_v: float, limits: _Limits) -> bool:
    """Note the context of a reading; return whether nothing may flow in it."""
    if bits & b.IN_TRANSACTION != 0:
        rec["ended"] = 1
    elif bits & b.OCCUPIED == 0:
        rec["ended"] = 0
    if bits & b.STATE_KNOWN == 0 or bits & _ENERGISED != 0:
        return False
    return bits & b.OCCUPIED == 0 or rec["ended"] != 0 or pilot_v > limits.pilot_idle


@kernel
def _contactor_kernel(
    start: int,
    time: Timeline,
    columns: _Columns,
    dc: U8,
    context: Any,
    sparse: Sparse,
    limits: _Limits,
    rule: Lasting,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e = time.evse[i]
        if dc[e] != 0:
            found, limit = columns.output_v[i], limits.output
            if columns.voltage_v[i] > found or found != found:
                found = columns.voltage_v[i]
        else:
            found, limit = columns.power_w[i], limits.power
        if found != found:
            continue
        bits, at = time.state[i], find(sparse, e)
        bad = _outside(context[e], bits, columns.pilot_v[i], limits) and found > limit
        if at == 0 and not bad:
            continue
        if at == 0 and full(sparse):
            return i  # the context is noted again
        if at == 0:
            at = take(sparse, e)
        rec = sparse.records[at]
        kind = slim_watch(rec, time.time_ns[i], bad, time.live[i], rule)
        if kind != NOTHING:
            end = rec["mark_ns"] if kind == CLEAR else time.time_ns[i]
            j = emit(
                out, e, kind, CRITICAL, rec["live"], rec["since_ns"], end,
                time.order[i], time.effect_ns[i], found / limit,
            )  # fmt: skip
            out.evidence[j, 3] = (end - rec["since_ns"]) / 1e9
            if kind != CLEAR:
                out.evidence[j, 0 if dc[e] != 0 else 1] = found
                out.evidence[j, 2] = limit
                out.evidence[j, 4] = 1.0 if bits & b.OCCUPIED != 0 else 0.0
        if idle(rec):
            give(sparse, e)
    return n


class _Detector(SparseDetector):
    spec = SPEC
    version = 3
    dtype: ClassVar[list[Any]] = [("ended", "u1")]  # a transaction ran at the plug that is in
    sparse_dtype: ClassVar[list[Any]] = SLIM_FIELDS
    sparse_blank = SLIM_BLANK

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(float(config.output_v), float(config.power_w), float(config.pilot_idle_v))
        self._rule = Lasting(
            ns(config.least_s), int(config.least_samples), ns(config.hold_s), ns(config.gap_s)
        )
        super().__init__(resume_state)

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _contactor_kernel(
                start,
                timeline(rows),
                _Columns(*columns(rows, SPEC.channels)),
                devices.dc,
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

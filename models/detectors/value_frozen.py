"""A sensor repeats one value although the load moves.

Looked at are measured analog channels: grid voltages, currents, active power and the temperatures of plug
and cabinet. A value that is not 0 and equal for 30 minutes and at least 20 samples is frozen if meanwhile
the load moved by more than 20 % of its larger value. The load is the greatest phase current (without phases
the current of the EVSE), for currents the active power. Temperatures need 60 minutes, and their load is the
square of the current behind a first-order lag of 300 s, since a plug needs minutes to follow: it must move
by more than half and by an amount that a sensor of 1 K can show: (0.4 `max_a`)², for the cabinet four
times that.

Not looked at: set-points, counters, SoC, and the output voltage of DC stations, which a battery holds
constant while its current tapers. Zero is what an unused phase shows. A stretch without any reading ends all
runs. Clears after the channel moved for as long as it takes to raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numba import njit

from models._kernel import kernel
from models.batch import F64, I16, U8, ReadingBatch
from models.channels import CHANNEL_ID, CHANNELS
from models.detecting import (
    CLEAR,
    RAISE,
    WARNING,
    DetectorSpec,
    EmissionArrays,
    Emissions,
    Observed,
    Timeline,
    timeline,
)
from models.devices import DeviceTable

from ._base import RowDetector, require, slots
from ._kernels import ROOM, emit

_VOLTS: Final = ("Voltage@L1-N", "Voltage@L2-N", "Voltage@L3-N")
_AMPS: Final = ("Current.Import@L1", "Current.Import@L2", "Current.Import@L3", "Current.Import")
_REST: Final = ("Power.Active.Import", "Temperature/Cable", "Temperature/Outlet", "Temperature/Body")
#: Channels by role: AC and DC differ in where the grid's voltages are.
_AC: Final = (*_VOLTS, "Voltage", *_AMPS, *_REST)
_DC: Final = (*(f"{name}/Inlet" for name in _VOLTS), "Voltage/Inlet", *_AMPS, *_REST)
_AMP, _WATT, _TEMPERATURE, _BODY, _ROLES = 4, 8, 9, 11, 12

SPEC = DetectorSpec(
    "value_frozen",
    "evse",
    "rule",
    tuple(CHANNEL_ID[name] for name in dict.fromkeys(_AC + _DC)),
    ("channel", "value", "frozen_s", "samples", "load_min", "load_max"),
    needs_channels=True,
)


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `value_frozen`.

    Attributes
    ----------
    least_s, temperature_s : float
        Time for which a value (a temperature) must repeat. Unit: s. Default 1800 and 3600. Source:
        CONVENTIONS.
    least_samples : int
        Samples for which it must. Unit: samples. Default 20. Source: CONVENTIONS.
    moved, temperature_moved : float
        Change of the load (for temperatures: of the lagged square of the current) relative to its larger
        value. Unit: 1. Default 0.20 and 0.50. Source: CONVENTIONS.
    lag_s : float
        Lag of the squared current. Unit: s. Default 300. Source: plugs follow within 6 to 10 minutes.
    least_share : float
        The change must reach the square of this share of `max_a`, for the cabinet of twice this share. Unit:
        1. Default 0.4. Source: a plug that rises by 15 K at rated current then rises by 2.4 K, more than the
        1 K that coarse sensors resolve.
    ac_undeclared_a, dc_undeclared_a : float
        `max_a` where none is declared. Unit: A. Default 32 and 200. Source: usual plugs.
    gap_s : float
        A longer stretch without readings ends all runs. Unit: s. Default 1800. Source: twice the slowest
        usual meter interval (OCPP aligned data, 900 s).
    """

    least_s: float = 1800.0
    temperature_s: float = 3600.0
    least_samples: int = 20
    moved: float = 0.20
    temperature_moved: float = 0.50
    lag_s: float = 300.0
    least_share: float = 0.4
    ac_undeclared_a: float = 32.0
    dc_undeclared_a: float = 200.0
    gap_s: float = 1800.0

    def __post_init__(self) -> None:
        require(
            self,
            least_s=(1.0, 86_400.0),
            temperature_s=(1.0, 86_400.0),
            least_samples=(2, 10_000),
            moved=(0.01, 1.0),
            temperature_moved=(0.01, 1.0),
            lag_s=(1.0, 86_400.0),
            least_share=(0.0, 1.0),
            ac_undeclared_a=(1.0, 1000.0),
            dc_undeclared_a=(1.0, 1000.0),
            gap_s=(1.0, 86_400.0),
        )


class _Limits(NamedTuple):
    least_s: int
    temperature_s: int
    least_samples: int
    moved: float
    temperature_moved: float
    lag_s: float
    least_share: float
    ac_a: float
    dc_a: float
    gap_s: int


class _Inventory(NamedTuple):
    dc: U8
    phases: Any
    max_a: F64


_DTYPE: Final[list[Any]] = [
    ("value", "f4", (_ROLES,)),
    ("low", "f4", (_ROLES,)),  # least and greatest load of the run
    ("high", "f4", (_ROLES,)),
    ("since_s", "i4", (_ROLES,)),
    ("n", "i2", (_ROLES,)),
    ("last_s", "i4"),
    ("warm_s", "i4"),
    ("warm_a2", "f4"),  # lagged square of the current
    ("start_s", "i4"),  # of what is raised
    ("good_s", "i4"),  # since when nothing is frozen, while raised
    ("frozen", "i2"),  # bit per role
    ("raised", "u1"),
    ("live", "u1"),
    ("hold_s", "i4"),
]

_N_MAX: Final = 32_000
_NEVER: Final = -1


@kernel
def _load(values: F64, slots: I16, i: int) -> float:
    """Return the greatest phase current of reading i, else the plain one; NaN when there is none."""
    greatest = np.nan
    for k in range(_AMP, _AMP + 3):
        if slots[k] >= 0:
            amps = values[slots[k], i]
            if amps == amps and not greatest >= amps:
                greatest = amps
    if greatest != greatest and slots[_AMP + 3] >= 0:
        greatest = values[slots[_AMP + 3], i]
    return float(greatest)


@kernel
def _lag(rec: Any, amps: float, t_s: int, lag_s: float) -> None:
    """Let the lagged square of the current follow."""
    if rec["warm_s"] == _NEVER:
        rec["warm_a2"] = amps * amps
    else:
        dt = t_s - rec["warm_s"]
        rec["warm_a2"] += (amps * amps - rec["warm_a2"]) * (dt / (dt + lag_s))
    rec["warm_s"] = t_s


@kernel
def _moved(rec: Any, k: int, max_a: float, limits: _Limits) -> bool:
    """Return whether the load of the run of role k moved enough."""
    change = rec["high"][k] - rec["low"][k]
    if k < _TEMPERATURE:
        return bool(change > limits.moved * rec["high"][k])
    least = limits.least_share * max_a * (2.0 if k == _BODY else 1.0)
    return bool(change > limits.temperature_moved * rec["high"][k] and change >= least * least)


@kernel
def _take(rec: Any, k: int, value: float, load: float, t_s: int, max_a: float, limits: _Limits) -> bool:
    """Take in a value of role k; return whether it is frozen by now and was not before."""
    single = np.float32(value)
    bit = 1 << k
    if single != rec["value"][k] or single == 0.0 or rec["n"][k] == 0:
        rec["value"][k] = single
        rec["since_s"][k] = t_s
        rec["n"][k] = 1 if single != 0.0 else 0
        rec["low"][k] = load
        rec["high"][k] = load
        rec["frozen"] &= ~bit
        return False
    rec["n"][k] = min(rec["n"][k] + 1, _N_MAX)
    rec["low"][k] = min(rec["low"][k], np.float32(load))
    rec["high"][k] = max(rec["high"][k], np.float32(load))
    if rec["frozen"] & bit:
        return False
    span_s = limits.least_s if k < _TEMPERATURE else limits.temperature_s
    if rec["n"][k] < limits.least_samples or t_s - rec["since_s"][k] < span_s:
        return False
    if not _moved(rec, k, max_a, limits):
        return False
    rec["frozen"] |= bit
    return True


@kernel
def _emit(rec: Any, i: int, time: Timeline, kind: int, k: int, out: EmissionArrays) -> None:
    t_s = time.time_ns[i] // 1_000_000_000
    end_s = rec["good_s"] if kind == CLEAR else t_s
    j = emit(
        out, time.evse[i], kind, WARNING, rec["live"], rec["start_s"] * 1_000_000_000,
        end_s * 1_000_000_000, time.order[i], time.effect_ns[i], 1.0 if kind == RAISE else 0.0,
    )  # fmt: skip
    if kind == RAISE:
        out.evidence[j, 0] = k
        out.evidence[j, 1] = rec["value"][k]
        out.evidence[j, 2] = t_s - rec["since_s"][k]
        out.evidence[j, 3] = rec["n"][k]
        out.evidence[j, 4] = rec["low"][k]
        out.evidence[j, 5] = rec["high"][k]


@kernel
def _decide(rec: Any, i: int, time: Timeline, fresh: int, limits: _Limits, out: EmissionArrays) -> None:
    """Raise for the role `fresh` that froze at reading i (-1: none did), or clear."""
    t_s = time.time_ns[i] // 1_000_000_000
    if rec["frozen"] == 0:
        if rec["raised"] == 0:
            return
        if rec["good_s"] == _NEVER:
            rec["good_s"] = t_s
        if t_s - rec["good_s"] >= rec["hold_s"]:
            rec["raised"] = 0
            _emit(rec, i, time, CLEAR, 0, out)
        return
    rec["good_s"] = _NEVER
    if rec["raised"] == 0:
        rec["start_s"] = rec["since_s"][fresh]
        rec["hold_s"] = limits.least_s if fresh < _TEMPERATURE else limits.temperature_s
        rec["live"] = 0
    elif rec["live"] != 0 or time.live[i] == 0:
        return
    k = fresh
    if k < 0:
        k = 0
        while not rec["frozen"] & (1 << k):
            k += 1
    rec["raised"] = 1
    rec["live"] = time.live[i]
    _emit(rec, i, time, RAISE, k, out)


@njit(cache=True, nogil=True, fastmath=False)
def _frozen_kernel(
    start: int,
    time: Timeline,
    values: F64,
    ac_slots: I16,
    dc_slots: I16,
    inv: _Inventory,
    state: Any,
    limits: _Limits,
    out: EmissionArrays,
) -> int:
    n, room = len(time.evse), len(out.order) - ROOM
    for i in range(start, n):
        if out.used[0] > room:
            return i
        e = time.evse[i]
        rec = state[e]
        dc = inv.dc[e] != 0
        chosen = dc_slots if dc else ac_slots
        max_a = inv.max_a[e] if inv.max_a[e] == inv.max_a[e] else (limits.dc_a if dc else limits.ac_a)
        amps = _load(values, chosen, i)
        watts = values[chosen[_WATT], i] if chosen[_WATT] >= 0 else np.nan
        if amps != amps and watts != watts:
            continue
        t_s = time.time_ns[i] // 1_000_000_000
        if t_s - rec["last_s"] > limits.gap_s:
            rec["warm_s"] = _NEVER
            rec["frozen"] = 0
            for k in range(_ROLES):
                rec["n"][k] = 0
        rec["last_s"] = t_s
        if amps == amps:
            _lag(rec, amps, t_s, limits.lag_s)
        fresh = -1
        for k in range(_ROLES):
            if chosen[k] < 0 or (k == 3 and inv.phases[e] != 1):
                continue
            value = values[chosen[k], i]
            load = watts if _AMP <= k < _WATT else amps
            if value == value and load == load:
                if k >= _TEMPERATURE:
                    load = rec["warm_a2"]
                if _take(rec, k, value, load, t_s, max_a, limits) and fresh < 0:
                    fresh = k
        if rec["frozen"] != 0 or rec["raised"] != 0:
            _decide(rec, i, time, fresh, limits, out)
    return n


class _Detector(RowDetector):
    spec = SPEC
    dtype = _DTYPE
    blank: ClassVar[dict[str, Any]] = {"warm_s": _NEVER, "good_s": _NEVER}

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._limits = _Limits(
            round(config.least_s),
            round(config.temperature_s),
            int(config.least_samples),
            float(config.moved),
            float(config.temperature_moved),
            float(config.lag_s),
            float(config.least_share),
            float(config.ac_undeclared_a),
            float(config.dc_undeclared_a),
            round(config.gap_s),
        )
        self._ac = tuple(CHANNEL_ID[name] for name in _AC)
        self._dc = tuple(CHANNEL_ID[name] for name in _DC)
        self._found = Emissions()
        super().__init__(resume_state)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed, with channels by name."""
        super().process(seen, self._found)
        for e in self._found.drain():
            evidence = dict(e.evidence)
            if e.kind == RAISE:
                roles = self._dc if seen.devices.dc[e.subject] else self._ac
                evidence["channel"] = CHANNELS[roles[int(evidence["channel"])]].name
            out.add(
                SPEC,
                order=e.order,
                effect_ns=e.effect_ns,
                subject=e.subject,
                kind=e.kind,
                severity=e.severity,
                start_ns=e.start_ns,
                time_ns=e.time_ns,
                live=e.live,
                score=e.score,
                evidence=evidence,
            )

    def _run(self, start: int, rows: ReadingBatch, devices: DeviceTable, out: EmissionArrays) -> int:
        return int(
            _frozen_kernel(
                start,
                timeline(rows),
                np.ascontiguousarray(rows.values),
                slots(rows, self._ac),
                slots(rows, self._dc),
                _Inventory(devices.dc, devices.phases, devices.max_a),
                self.table.rows,
                self._limits,
                out,
            )
        )


def build(config: Config, resume_state: dict[str, Any] | None = None) -> RowDetector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

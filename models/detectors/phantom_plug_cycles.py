"""A plug that comes and goes without a charge: three plug-ins that end in Available without energy within
120 s.

Statuses and transactions decide. A cycle is a plug-in (Occupied, or a 1.6 status that means it) and the
return to Available of the same EVSE; it counts unless energy flowed in between: the station said that it
charged, or a transaction's register moved. Repeated statuses (all are sent again after a reconnect) are no
cycles. The condition has ended when no further cycle came for 120 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models.detecting import CLEAR, RAISE, WARNING, DetectorSpec, Emissions, Observed
from models.records import Status, Transaction

from ._base import check_version, ns, require
from ._nodes import NEVER, NodeDetector

SPEC = DetectorSpec(
    "phantom_plug_cycles",
    "evse",
    "rule",
    evidence=("cycles", "span_s", "limit_s"),
)

VERSION: Final = 1

_PLUGGED: Final = frozenset(
    {"Occupied", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}
)
_ENERGY16: Final = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE"})


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `phantom_plug_cycles`.

    Attributes
    ----------
    cycles : int
        Cycles that raise. Unit: cycles. Default 3. Source: CONVENTIONS; integrations in the field ignore
        two returns to Available.
    window_s : float
        Time from the first plug-in to the last return. Unit: s. Default 120. Source: CONVENTIONS.
    hold_s : float
        Clear after this long without a further cycle. Unit: s. Default 120. Source: CONVENTIONS,
        max(raise duration, 60 s).
    energy_wh : float
        Energy that makes a cycle a charge. Unit: Wh. Default 1. Source: resolution of common meters.
    live_max_age_s : float
        A cycle older than this at arrival is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    cycles: int = 3
    window_s: float = 120.0
    hold_s: float = 120.0
    energy_wh: float = 1.0
    live_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            cycles=(2, 100),
            window_s=(1.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
            energy_wh=(0.0, 10_000.0),
            live_max_age_s=(1.0, 86_400.0),
        )


@dataclass(slots=True)
class _Plug:
    """What is known of one EVSE's plug."""

    plug_ns: int = -1  # time of the plug-in, -1: not plugged in
    energy: bool = False  # flowed since
    reg_mwh: int | None = None  # first register since
    cycles: list[list[int]] | None = None  # (plug-in, return) of the last ones
    raised: bool = False
    live: bool = False
    start_ns: int = 0
    count: int = 0
    last_ns: int = 0  # return of the last cycle
    clear_ns: int = NEVER  # journaled time at which it clears


class Detector(NodeDetector):
    """The detector behind `phantom_plug_cycles`."""

    spec = SPEC
    wanted = (Status, Transaction)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._cycles = config.cycles
        self._window_ns, self._hold_ns = ns(config.window_s), ns(config.hold_s)
        self._energy_mwh = round(config.energy_wh * 1000)
        self._live_max_age_ns = ns(config.live_max_age_s)
        self._limit_s = config.window_s
        self._plugs: dict[int, _Plug] = {}
        self.due_ns = NEVER
        if resume_state is not None:
            check_version(SPEC, VERSION, resume_state)
            for row, *values in resume_state["plugs"]:
                self._plugs[row] = _Plug(*values)
            self._set_due()

    def _set_due(self) -> None:
        self.due_ns = min((plug.clear_ns for plug in self._plugs.values()), default=NEVER)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        if isinstance(record, Transaction):
            plug = self._plugs.get(record.evse_row)
            if plug is not None and plug.plug_ns >= 0:
                self._transaction(record, plug)
            return
        state = record.status16 or record.status
        rows = [record.evse_row] if record.evse_row >= 0 else seen.devices.evses_of(record.station_row)
        for row in rows:
            if state in _PLUGGED:
                plug = self._plugs.setdefault(row, _Plug())
                if plug.plug_ns < 0:
                    plug.plug_ns, plug.energy, plug.reg_mwh = record.time_ns, False, None
                plug.energy = plug.energy or state in _ENERGY16
            elif state == "Available" and row in self._plugs:
                self._returned(row, record, out)

    def _transaction(self, record: Transaction, plug: _Plug) -> None:
        if record.charging_state == "Charging":
            plug.energy = True
        if record.reg_mwh is not None:
            if plug.reg_mwh is None:
                plug.reg_mwh = record.reg_mwh
            elif record.reg_mwh - plug.reg_mwh >= self._energy_mwh:
                plug.energy = True

    def _returned(self, row: int, record: Status, out: Emissions) -> None:
        plug = self._plugs[row]
        began, plug.plug_ns = plug.plug_ns, -1
        if began < 0 or plug.energy or record.time_ns < began:
            if began >= 0 and not plug.raised:
                del self._plugs[row]
            return
        cycles = [*(plug.cycles or []), [began, record.time_ns]][-self._cycles :]
        plug.cycles = cycles
        span = record.time_ns - cycles[0][0]
        live = record.at.live and record.at.recv_ns - record.time_ns <= self._live_max_age_ns
        if plug.raised:
            plug.count += 1
            plug.last_ns = max(plug.last_ns, record.time_ns)
            plug.clear_ns = record.at.effect_ns + self._hold_ns
            if not live or plug.live:
                return
        elif len(cycles) < self._cycles or not 0 <= span <= self._window_ns:
            return
        else:
            plug.raised, plug.start_ns, plug.count = True, cycles[0][0], len(cycles)
            plug.last_ns = record.time_ns
            plug.clear_ns = record.at.effect_ns + self._hold_ns
        plug.live = live
        self.due_ns = min(self.due_ns, plug.clear_ns)
        evidence = {"cycles": float(plug.count), "span_s": span / 1e9, "limit_s": self._limit_s}
        self._emit(row, plug, RAISE, record.at.order, record.at.effect_ns, out, evidence)

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        for row in sorted(self._plugs):
            plug = self._plugs[row]
            if plug.clear_ns <= now_ns:
                evidence = {"cycles": float(plug.count)}
                self._emit(row, plug, CLEAR, order, now_ns, out, evidence)
                plug.raised, plug.clear_ns, plug.cycles = False, NEVER, None
                if plug.plug_ns < 0:
                    del self._plugs[row]
        self._set_due()

    def _emit(
        self,
        row: int,
        plug: _Plug,
        kind: int,
        order: int,
        effect_ns: int,
        out: Emissions,
        evidence: dict[str, float],
    ) -> None:
        out.add(
            SPEC,
            order=order,
            effect_ns=effect_ns,
            subject=row,
            kind=kind,
            severity=WARNING,
            start_ns=plug.start_ns,
            time_ns=plug.last_ns,
            live=plug.live,
            score=plug.count / self._cycles,
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        names = _Plug.__slots__
        plugs = []
        for row, plug in self._plugs.items():
            cycles = None if plug.cycles is None else [list(c) for c in plug.cycles]
            plugs.append([row, *(cycles if n == "cycles" else getattr(plug, n) for n in names)])
        return {"code": SPEC.code, "version": VERSION, "plugs": plugs}

    def nbytes(self) -> int:
        """Return the bytes of state held (an estimate: 250 an EVSE that is plugged in or cycled)."""
        return 250 * len(self._plugs)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)

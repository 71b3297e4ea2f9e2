"""Wear of one EVSE by the rule text. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .plain import Reading, S

CHARGING = 2  # context bit
OCCUPIED = {"Occupied", "Preparing", "Finishing", "Charging", "SuspendedEV", "SuspendedEVSE"}
CONNECTED = {"EVConnected", "Charging", "SuspendedEV", "SuspendedEVSE"}


@dataclass
class Wear:
    """Counts, and what they hang on."""

    plug_cycles: int = 0
    energy_mwh: int = 0
    seconds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("use", "warm", "hot", "body"), 0))
    said: int = 0
    seen: int = 0
    counted: int = 0
    plugged: int | None = None  # connector
    charges: bool = False
    status_heard: bool = False
    register: tuple[int, int] | None = None  # mWh, s
    last_s: int | None = None
    unheard_s: int = 0
    holds: set[str] = field(default_factory=set)

    def told(self) -> tuple[int, int, int | None, int, int, int, int]:
        """Return what is put out."""
        energy = self.energy_mwh if self.register else None
        s = self.seconds
        operations = max(self.said, self.seen, self.counted)
        return (self.plug_cycles, operations, energy, s["use"], s["warm"], s["hot"], s["body"])

    def record(self, record: Any) -> None:
        """Take in a status or transaction."""
        if hasattr(record, "charging_state"):
            self._transaction(record)
            return
        self.status_heard = True
        if record.status in OCCUPIED:
            self._plug(record.conn)
        elif record.status == "Available" and self.plugged in {None, 0, record.conn}:
            self.plugged, self.charges = None, False
        if "Charging" in {record.status, record.status16}:
            self._charge()
        elif record.status16:
            self.charges = False

    def _transaction(self, record: Any) -> None:
        state, ended = record.charging_state, record.event_type == "Ended"
        if state in CONNECTED:
            self._plug(record.conn or 0)
        if state == "Charging" and not ended:
            self._charge()
        elif state and state != "Charging":
            self.charges = False
        if ended:
            self.charges = False
        if (ended or state == "Idle") and not self.status_heard:
            self.plugged = None

    def _plug(self, conn: int) -> None:
        if self.plugged is None:
            self.plug_cycles += 1
            self.plugged = conn

    def _charge(self) -> None:
        if not self.charges:
            self.said += 1
            self.charges = True

    def reading(self, r: Reading, gap_s: int = 1800) -> None:
        """Take in a reading."""
        t = r.time_ns // S
        passed = 0 if self.last_s is None else t - self.last_s
        self.last_s = t
        if passed > gap_s:
            self.holds -= {"warm", "hot", "body"}
            passed = 0
        else:
            for name in self.holds:
                self.seconds[name] += passed
        self._heat(r, passed, gap_s)
        self._flow(r)
        if r.reg_mwh is not None:
            if self.register is not None:
                risen, dt = r.reg_mwh - self.register[0], t - self.register[1]
                most = 1e6 if r.about.p_max_w is None or not r.about.declared else r.about.p_max_w
                if 0 < risen <= 1e6 + 1.5 * most * dt / 3.6:
                    self.energy_mwh += risen
            self.register = (r.reg_mwh, t)
        counter = r.values.get("x.Contactor.Cycles")
        if counter is not None and counter > self.counted:
            self.counted = int(counter)

    def _heat(self, r: Reading, passed: int, gap_s: int) -> None:
        def greatest(*names: str) -> float | None:
            found = [c for name in names if (c := r.values.get(name)) is not None and -40 < c < 150]
            return max(found, default=None)

        plug, body = greatest("Temperature/Cable", "Temperature/Outlet"), greatest("Temperature/Body")
        self.unheard_s = self.unheard_s + passed if plug is None and body is None else 0
        if self.unheard_s > gap_s:
            self.holds -= {"warm", "hot", "body"}
        if plug is not None:
            self.holds -= {"warm", "hot"}
            self.holds |= {name for name, limit in (("warm", 50), ("hot", 65)) if plug >= limit}
        if body is not None:
            self.holds -= {"body"}
            self.holds |= {"body"} if body >= 60 else set()

    def _flow(self, r: Reading) -> None:
        power = r.values.get("Power.Active.Import")
        amps = [r.values.get(f"Current.Import{p}") for p in ("", "@L1", "@L2", "@L3")]
        known = [v for v in (power, *amps) if v is not None and v == v]
        flows = (power is not None and power > 100) or any(a is not None and a > 1 for a in amps)
        if not known:
            flows = r.state & CHARGING != 0
        if flows and "use" not in self.holds:
            self.seen += 1
        self.holds = self.holds | {"use"} if flows else self.holds - {"use"}


def wear(events: Iterable[Reading | Any]) -> Wear:
    """Return the wear after `events` (readings and records of one EVSE)."""
    found = Wear()
    for event in events:
        if isinstance(event, Reading):
            found.reading(event)
        else:
            found.record(event)
    return found

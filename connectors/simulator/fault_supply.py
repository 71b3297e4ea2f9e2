"""Faults of the power supply."""

from __future__ import annotations

import numpy as np

from .fault_base import Fault, Repeating
from .plant import U_N_V
from .sampling import Sample

_PHASES = ("L1", "L2", "L3")


class UnderVoltage(Fault):
    """All phases at a share of the nominal voltage: below 0.85 for the one-minute rule, else below 0.90."""

    code = "under_voltage"
    kind = "ac"
    levels = (0.82, 0.87, 0.893)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_pin[:, self.evses] = U_N_V * self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_pin[:, self.evses] = np.nan


class OverVoltage(UnderVoltage):
    """All phases above 1.10, or 1.15, of the nominal voltage."""

    code = "over_voltage"
    levels = (1.18, 1.13, 1.107)


class VoltageDip(Repeating):
    """Short dips to a share of the nominal voltage, one every two minutes."""

    code = "voltage_dip"
    kind = "ac"
    levels = (0.70, 0.80, 0.875)

    def pulse_s(self) -> float:
        return min(45.0, max(3.0, 1.05 * self.parts.topology.nodes[self.node].sample_s))

    def step(self, now_ms: int) -> None:
        level = U_N_V * self.level if self.bad(now_ms) else np.nan
        self.parts.plant.faulty.v_pin[:, self.evses] = level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_pin[:, self.evses] = np.nan


class VoltageUnbalance(Fault):
    """Two phases move apart by this many volts each way."""

    code = "voltage_unbalance"
    kind = "ac"
    levels = (17.0, 13.5, 11.5)

    def on_begin(self, now_ms: int) -> None:
        shift = self.parts.plant.faulty.v_add
        shift[0, self.evses], shift[1, self.evses] = self.level * 0.7, -self.level * 1.1

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_add[:, self.evses] = 0.0


class FrequencyDeviation(Fault):
    """The site's frequency is off by this many hertz (an island, or a broken meter)."""

    code = "frequency_deviation"
    scope = "site"
    levels = (-3.6, 0.9, 0.6)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.f_add[self.site] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.f_add[self.site] = 0.0


class SourceImpedance(Fault):
    """A loose terminal adds this many ohm in series with the EVSE."""

    code = "source_impedance"
    kind = "ac"
    charging = True
    levels = (0.5, 0.3, 0.17)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.r_add[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.r_add[self.evses] = 0.0


class OverCurrent(Fault):
    """The car draws this share more than offered, and 1 A."""

    code = "over_current"
    load = True
    levels = (0.35, 0.20, 0.13)

    def step(self, now_ms: int) -> None:
        plant = self.parts.plant
        plant.faulty.over_a[self.evses] = self.level * plant.offered_a[self.evses] + 1.0

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.over_a[self.evses] = 0.0


class AuxSupply(Fault):
    """The 12 V supply sinks to this voltage."""

    code = "aux_supply"
    scope = "station"
    levels = (9.0, 10.2, 10.7)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.Supply12V", self.evses)
        if found:
            column, mask = found
            column[mask] += self.level - 12.02


class SitePowerEvent(Fault):
    """The feeder sags to a share of its voltage; clear: the stations also report power loss (CX015)."""

    code = "site_power_event"
    scope = "site"
    levels = (0.55, 0.70, 0.86)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_pin[:, self.evses] = U_N_V * self.level
        if self.severity == "clear":
            self._power_loss(now_ms, cleared=False)

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.v_pin[:, self.evses] = np.nan
        if self.severity == "clear":
            self._power_loss(now_ms, cleared=True)

    def _power_loss(self, now_ms: int, *, cleared: bool) -> None:
        wire, topology = self.parts.wire, self.parts.topology
        for station in sorted({int(topology.evse_station[evse]) for evse in self.evses}):
            wire.event(station, -1, now_ms, code="CX015", taxonomy="mrec", cleared=cleared)


class PhaseOpen(Fault):
    """A phase drops out during a three-phase charge; subtle: it comes and goes."""

    code = "phase_open"
    kind = "ac"
    load = True

    def step(self, now_ms: int) -> None:
        since_s = (now_ms - self.at_ms) / 1000.0
        is_open = since_s >= 60 and (self.severity != "subtle" or since_s % 300 < 150)
        self.parts.plant.faulty.phase_on[2, self.evses] = 0.0 if is_open else 1.0

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.phase_on[:, self.evses] = 1.0

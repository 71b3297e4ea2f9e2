"""Faults of the connector, the contactor and the cable."""

from __future__ import annotations

import numpy as np

from .fault_base import Fault
from .sampling import Sample
from .sessions import IDLE


class ConnectorOverTemperature(Fault):
    """The plug heats up to this temperature at full current (DC: 25 K more)."""

    code = "connector_over_temperature"
    load = True
    levels = (92.0, 76.0, 68.0)

    def on_begin(self, now_ms: int) -> None:
        plant = self.parts.plant
        plant.faulty.hot_c[self.evses] = self.level + np.where(plant.dc[self.evses], 25.0, 0.0)

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.hot_c[self.evses] = np.nan


class ContactResistance(Fault):
    """The contact's heat per I² grows by this factor."""

    code = "contact_resistance"
    charging = True
    levels = (3.5, 2.6, 2.1)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.k_scale[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.k_scale[self.evses] = 1.0


class CabinetOverTemperature(Fault):
    """The cabinet heats up by this many kelvin."""

    code = "cabinet_over_temperature"
    scope = "station"
    levels = (80.0, 70.0, 62.0)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.body_add[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.body_add[self.evses] = 0.0


class SilentDerate(Fault):
    """The station cuts the current of a hot plug to this share, silently, until it has cooled (minutes)."""

    code = "silent_derate"
    load = True
    levels = (0.5, 0.7, 0.85)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.hot_c[self.evses] = 64.0
        self.parts.plant.faulty.hot_tau_s[self.evses] = 200.0

    def step(self, now_ms: int) -> None:
        plant = self.parts.plant
        derated = plant.faulty.cap[self.evses] < 1.0
        hot = plant.plug_c[self.evses] > np.where(derated, 36.0, 61.5)
        plant.faulty.cap[self.evses] = np.where(hot, self.level, 1.0)

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.cap[self.evses] = 1.0
        self.parts.plant.faulty.hot_c[self.evses] = np.nan
        self.parts.plant.faulty.hot_tau_s[self.evses] = 60.0


class ContactorWelded(Fault):
    """Outside a transaction: this many watt flow (AC), or the output stays live (DC)."""

    code = "contactor_welded"
    idle = True
    levels = (900.0, 400.0, 160.0)

    def on_begin(self, now_ms: int) -> None:
        faulty, dc = self.parts.plant.faulty, self.parts.plant.dc[self.evses]
        faulty.leak_w[self.evses] = np.where(dc, 0.0, self.level)
        faulty.leak_v[self.evses] = np.where(dc, min(380.0, self.level / 2), 0.0)

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.leak_w[self.evses] = 0.0
        self.parts.plant.faulty.leak_v[self.evses] = 0.0


class ContactorStuckOpen(Fault):
    """The station says it charges, and no current flows: never, from the tenth minute on (moderate), or for
    two minutes out of ten (subtle: a contact that bounces).
    """

    code = "contactor_stuck_open"
    load = True

    def on_begin(self, now_ms: int) -> None:
        if self.severity != "clear":
            self.truth.start = min(now_ms + 600_000, self.until_ms - 1)

    def step(self, now_ms: int) -> None:
        since_s = (now_ms - self.at_ms) / 1000.0
        on = self.severity == "clear" or since_s >= 600
        self.parts.plant.faulty.stuck_open[self.evses] = on and (
            self.severity != "subtle" or since_s % 600 < 120
        )

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.stuck_open[self.evses] = False


class PilotOutOfBand(Fault):
    """The pilot of state C is off by this many volts."""

    code = "pilot_out_of_band"
    load = True
    levels = (1.2, 0.85, 0.65)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.CP.V", self.evses)
        if found:
            column, mask = found
            column[mask] += np.where(sample.plant.closed[sample.evses[mask]], self.level, 0.0)


class PilotJitter(Fault):
    """Noise of this standard deviation, V, on the pilot."""

    code = "pilot_jitter"
    load = True
    levels = (0.30, 0.20, 0.14)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.CP.V", self.evses)
        if found:
            column, mask = found
            noise = [self.parts.rng.gauss(0.0, self.level) for _ in range(int(mask.sum()))]
            column[mask] += np.clip(noise, -0.45, 0.45)


class DiodeFault(Fault):
    """The negative half wave of the pilot collapses to this voltage."""

    code = "diode_fault"
    load = True
    levels = (-1.0, -6.0, -9.2)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.CP.Low.V", self.evses)
        if found:
            column, mask = found
            column[mask] += self.level + 11.98


class ProximityOutOfRange(Fault):
    """The proximity voltage sits at this value while plugged in (type 1 plugs)."""

    code = "proximity_out_of_range"
    load = True
    levels = (2.1, 1.95, 1.88)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.PP.V", self.evses)
        if found:
            column, mask = found
            column[mask] += np.where(sample.plant.plugged[sample.evses[mask]], self.level - 1.51, 0.0)


class PhantomPlugCycles(Fault):
    """The plug is seen to come and go without a charge, every so many seconds."""

    code = "phantom_plug_cycles"
    levels = (20.0, 26.0, 35.0)

    def on_begin(self, now_ms: int) -> None:
        self.parts.sessions.clear(self.evse, now_ms)
        self._next_ms = now_ms

    def step(self, now_ms: int) -> None:
        sessions = self.parts.sessions
        if now_ms >= self._next_ms:
            self._next_ms += int(self.level * 1000)
            sessions.phantom(self.evse, now_ms)
        elif sessions.phase[self.evse] == IDLE:
            sessions.next_ms[self.evse] = max(int(sessions.next_ms[self.evse]), self.until_ms)


class StartFailures(Fault):
    """This share of the starts of a charge fails."""

    code = "start_failures"
    levels = (1.0, 0.85, 0.7)

    def on_begin(self, now_ms: int) -> None:
        sessions = self.parts.sessions
        sessions.fail_start[self.evse] = self.level
        if sessions.phase[self.evse] == IDLE:
            sessions.next_ms[self.evse] = now_ms

    def on_end(self, now_ms: int) -> None:
        self.parts.sessions.fail_start[self.evse] = 0.0


class IsolationLow(Fault):
    """The isolation resistance falls to this share of 100 ohm per volt of output."""

    code = "isolation_low"
    kind = "dc"
    load = True
    levels = (0.4, 0.7, 0.93)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.Isolation.R", self.evses)
        if found:
            column, mask = found
            limit_kohm = 0.1 * sample.plant.dc_v[sample.evses[mask]]
            column[mask] = np.where(np.isnan(column[mask]), np.nan, self.level * limit_kohm)


class CapacitanceHigh(Fault):
    """The isolation monitor sees this many microfarad more."""

    code = "capacitance_high"
    kind = "dc"
    load = True
    levels = (6.0, 4.8, 4.4)

    def measure(self, sample: Sample) -> None:
        found = sample.at("x.Isolation.C", self.evses)
        if found:
            column, mask = found
            column[mask] += self.level


class ConductorAging(Fault):
    """The DC cable's resistance grows by this factor."""

    code = "conductor_aging"
    kind = "dc"
    load = True
    levels = (4.0, 2.5, 1.8)

    def on_begin(self, now_ms: int) -> None:
        self.parts.plant.faulty.cable_scale[self.evses] = self.level

    def on_end(self, now_ms: int) -> None:
        self.parts.plant.faulty.cable_scale[self.evses] = 1.0


class ResidualCurrentRising(Fault):
    """This many mA more of DC residual current, and five times that of AC."""

    code = "residual_current_rising"
    kind = "ac"
    levels = (4.5, 3.5, 3.0)

    def measure(self, sample: Sample) -> None:
        for name, factor in (("x.Residual.DC", 1.0), ("x.Residual.AC", 5.0)):
            found = sample.at(name, self.evses)
            if found:
                column, mask = found
                column[mask] += self.level * factor


class ResidualCurrentTrip(ResidualCurrentRising):
    """Residual current above the trip limits, and the station's own event (CX002)."""

    code = "residual_current_trip"
    levels = (9.0, 7.5, 6.2)

    def on_begin(self, now_ms: int) -> None:
        self.report(now_ms, "CX002", "mrec", component="RCD", variable="Tripped", severity=2, cleared=False)

    def on_end(self, now_ms: int) -> None:
        self.report(now_ms, "CX002", "mrec", component="RCD", variable="Tripped", severity=2, cleared=True)

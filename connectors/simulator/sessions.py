"""Cars come, charge and leave: the state machine of every EVSE and the messages it causes.

Most ticks touch no EVSE: due timers and crossed limits are found with numpy, and only those EVSEs run
Python.
"""

from __future__ import annotations

import math
import random
from typing import Any, Final

import numpy as np

from .config import FleetConfig
from .curves import CARS, TEST_LOAD
from .loads import MIN_A, LoadManager
from .plant import Plant
from .topology import Topology
from .wire import Wire

IDLE: Final = 0
PLUGGED: Final = 1  # waits for authorisation
AUTHORIZED: Final = 2  # contactor still open
CHARGING: Final = 3
SUSPENDED_EV: Final = 4
SUSPENDED_EVSE: Final = 5
FINISHED: Final = 6  # transaction over, car still there
BLOCKED: Final = 7  # a fault keeps cars away

_STATUS16: Final = {
    IDLE: "Available",
    PLUGGED: "Preparing",
    AUTHORIZED: "Preparing",
    CHARGING: "Charging",
    SUSPENDED_EV: "SuspendedEV",
    SUSPENDED_EVSE: "SuspendedEVSE",
    FINISHED: "Finishing",
    BLOCKED: "Available",
}
_STATE: Final = {CHARGING: "Charging", SUSPENDED_EV: "SuspendedEV", SUSPENDED_EVSE: "SuspendedEVSE"}
_NEVER: Final = 1 << 62
_HOUR_MS: Final = 3_600_000

# Arrivals over the hours of the day (UTC), mean 1: work places and homes, and fast charging.
_AC_HOURS: Final = (
    *(0.2, 0.1, 0.1, 0.1, 0.2, 0.5, 1.2, 2.2, 2.0, 1.3, 0.9, 0.9),
    *(1.0, 1.0, 0.9, 1.0, 1.3, 1.8, 2.0, 1.7, 1.2, 0.9, 0.9, 0.6),
)
_DC_HOURS: Final = (
    *(0.2, 0.2, 0.1, 0.1, 0.3, 0.6, 0.9, 1.2, 1.2, 1.2, 1.3, 1.4),
    *(1.5, 1.5, 1.4, 1.5, 1.6, 1.7, 1.6, 1.4, 1.1, 0.9, 0.7, 0.4),
)


class Sessions:
    """Runs the EVSEs; `step` is called once a tick before the physics."""

    def __init__(
        self,
        topology: Topology,
        plant: Plant,
        loads: LoadManager,
        wire: Wire,
        config: FleetConfig,
        rng: random.Random,
        start_ms: int,
    ) -> None:
        n = topology.n_evses
        self.topology, self.plant, self.loads, self.wire = topology, plant, loads, wire
        self.config, self.rng = config, rng
        self.phase = np.zeros(n, np.int8)
        self.next_ms = np.full(n, _NEVER, np.int64)
        self.target_soc = np.ones(n)
        self.leave_ms = np.full(n, _NEVER, np.int64)
        self.periodic_ms = np.full(n, _NEVER, np.int64)
        self.told_a = np.zeros(n)
        self.held = np.zeros(n, bool)  # a fault keeps a test load plugged in
        self.departs = np.zeros(n, bool)  # is unplugged without a stop in a moment
        self.fail_start = np.zeros(n)  # share of starts that fail
        self.plug_ms = np.full(n, -_NEVER, np.int64)
        self._tx_id = [""] * n
        self._seq_no = [0] * n
        self._ac_cars = [i for i, car in enumerate(CARS) if car.share > 0]
        self._dc_cars = [i for i in self._ac_cars if CARS[i].dc_curve]
        for evse in range(n):
            if rng.random() < config.busy_at_start:
                self.next_ms[evse] = start_ms + rng.randrange(3_000, 120_000)
            else:
                self.next_ms[evse] = self._arrival(evse, start_ms)

    # -- time ------------------------------------------------------------------------------------

    def step(self, now_ms: int) -> None:
        """Run what is due at a tick, then share out the loads."""
        for evse in np.flatnonzero(self.next_ms <= now_ms).tolist():
            self._due(evse, now_ms)
        charging = self.phase == CHARGING
        for evse in np.flatnonzero(charging & (self.plant.soc >= self.target_soc)).tolist():
            self._full(evse, now_ms)
        if self.loads.step(now_ms):
            self._offers(now_ms)

    def _offers(self, now_ms: int) -> None:
        plant = self.plant
        charging = self.phase == CHARGING
        low = plant.offered_a < MIN_A
        for evse in np.flatnonzero(charging & low).tolist():
            self._enter(evse, SUSPENDED_EVSE)
            self._update(evse, now_ms, "ChargingStateChanged")
        for evse in np.flatnonzero((self.phase == SUSPENDED_EVSE) & ~low).tolist():
            self._start_charging(evse, now_ms)
        changed = (self.phase == CHARGING) & (np.abs(plant.offered_a - self.told_a) >= 1.0)
        for evse in np.flatnonzero(changed).tolist():
            self._update(evse, now_ms, "ChargingRateChanged")

    def _due(self, evse: int, now_ms: int) -> None:
        phase = int(self.phase[evse])
        if phase == IDLE:
            self._arrive(evse, now_ms)
        elif phase == PLUGGED:
            self._authorize(evse, now_ms)
        elif phase == AUTHORIZED:
            self._start_charging(evse, now_ms)
        elif phase == FINISHED:
            self._unplug(evse, now_ms)
        elif now_ms >= self.leave_ms[evse] and not self.held[evse]:
            self._leave(evse, now_ms)
        else:
            if now_ms >= self.periodic_ms[evse]:
                self.periodic_ms[evse] += int(self.config.tx_periodic_s * 1000)
                self._update(evse, now_ms, "MeterValuePeriodic")
            self._arm(evse)

    def _arm(self, evse: int) -> None:
        leave = _NEVER if self.held[evse] else int(self.leave_ms[evse])
        self.next_ms[evse] = min(leave, int(self.periodic_ms[evse]))

    def _arrival(self, evse: int, now_ms: int) -> int:
        """Return when the next car comes: Poisson, with a rate that follows the hour, drawn by thinning."""
        hours = _DC_HOURS if self.plant.dc[evse] else _AC_HOURS
        peak = max(hours)
        per_ms = self.config.arrivals_per_day * peak / (24 * _HOUR_MS)
        time = float(now_ms) + 5_000.0
        while True:
            time -= math.log(1.0 - self.rng.random()) / per_ms
            if self.rng.random() * peak < hours[int(time // _HOUR_MS) % 24]:
                return int(time)

    # -- transitions -----------------------------------------------------------------------------

    def _enter(self, evse: int, phase: int) -> None:
        self.phase[evse] = phase
        self.plant.closed[evse] = phase == CHARGING
        wants = phase in {AUTHORIZED, CHARGING, SUSPENDED_EVSE}
        if wants != self.loads.wants[evse]:
            self.loads.wants[evse] = wants
            self.loads.dirty = True
        if not wants:
            self.plant.offered_a[evse] = 0.0

    def _show(self, evse: int, now_ms: int) -> None:
        phase = int(self.phase[evse])
        status = "Available" if phase in {IDLE, BLOCKED} else "Occupied"
        self.wire.status(evse, now_ms, status, _STATUS16[phase])

    def _arrive(self, evse: int, now_ms: int) -> None:
        rng, dc = self.rng, bool(self.plant.dc[evse])
        cars = self._dc_cars if dc else self._ac_cars
        car = rng.choices(cars, [CARS[i].share for i in cars])[0]
        soc = rng.uniform(0.08, 0.6)
        self.target_soc[evse] = rng.uniform(0.72, 0.92) if dc else rng.choice((0.8, 0.9, 1.0, 1.0, 1.0))
        median_h = 1.0 if dc else 3.5
        stay_h = min(14.0, median_h * math.exp(rng.gauss(0.0, 0.6))) * self.config.stay_scale
        self.leave_ms[evse] = now_ms + int(max(0.15 if dc else 0.4, stay_h) * _HOUR_MS)
        self._plug(evse, now_ms, car, soc)
        self.next_ms[evse] = now_ms + rng.randrange(3_000, 26_000)

    def _plug(self, evse: int, now_ms: int, car: int, soc: float) -> None:
        phases = 3 if self.plant.dc[evse] else CARS[car].ac_phases
        self.plant.load_car(evse, car, soc, phases, 0)
        self.plug_ms[evse] = now_ms
        self._enter(evse, PLUGGED)
        self._show(evse, now_ms)
        station = self.topology.stations[self.topology.evse_station[evse]]
        if station.tx_start == "CablePluggedIn":
            self._begin(evse, now_ms, "CablePluggedIn", {})

    def _begin(self, evse: int, now_ms: int, trigger: str, extra: dict[str, Any]) -> None:
        self._tx_id[evse] = f"{self.rng.getrandbits(64):016x}"
        self._seq_no[evse] = 0
        self._send(evse, now_ms, "Started", trigger, "EVConnected", extra)

    def _authorize(self, evse: int, now_ms: int) -> None:
        rng = self.rng
        token = {
            "idTokenHash": f"{rng.getrandbits(32):08x}",
            "idTokenType": rng.choice(("ISO14443", "ISO14443", "eMAID", "Central")),
        }
        if self._tx_id[evse]:
            self._send(evse, now_ms, "Updated", "Authorized", "EVConnected", token)
        else:
            trigger = "RemoteStart" if token["idTokenType"] == "Central" else "Authorized"
            self._begin(evse, now_ms, trigger, token)
        self._enter(evse, AUTHORIZED)
        low, high = (12_000, 35_000) if self.plant.dc[evse] else (2_000, 7_000)
        self.next_ms[evse] = now_ms + rng.randrange(low, high)

    def _start_charging(self, evse: int, now_ms: int) -> None:
        if self.fail_start[evse] and self.rng.random() < self.fail_start[evse]:
            self._end(evse, now_ms, "EVConnectTimeout", "Timeout", "EVConnected")
            return
        plant = self.plant
        resumed = self.phase[evse] == SUSPENDED_EVSE
        if not resumed:
            self.periodic_ms[evse] = now_ms + int(self.config.tx_periodic_s * 1000)
        self._arm(evse)
        if plant.offered_a[evse] < MIN_A and not self.loads.dirty:
            self._enter(evse, SUSPENDED_EVSE)
            self._update(evse, now_ms, "ChargingStateChanged")
            return
        self._enter(evse, CHARGING)
        plant.cycles[evse] += 1
        extra: dict[str, Any] = {}
        if not plant.dc[evse]:
            extra["phases"] = int((plant.car_phases[:, evse] * plant.supply[:, evse]).sum())
            extra["cableMaxA"] = int(plant.max_a[evse])
        self._update(evse, now_ms, "ChargingStateChanged", extra)

    def _full(self, evse: int, now_ms: int) -> None:
        if self.plant.dc[evse]:
            self._end(evse, now_ms, "ChargingStateChanged", "StoppedByEV", "EVConnected")
        else:
            self._enter(evse, SUSPENDED_EV)
            self._update(evse, now_ms, "ChargingStateChanged")

    def _leave(self, evse: int, now_ms: int) -> None:
        if self.departs[evse]:
            self.departs[evse] = False
            self._end(evse, now_ms, "EVDeparted", "EVDisconnected", "Idle")
            self._unplug(evse, now_ms)
            return
        kind = self.rng.random()
        if kind < 0.15 and not self.plant.dc[evse]:
            # who unplugs without a stop unlocks the plug first, and the car lets go of the current
            self.departs[evse] = True
            if self.phase[evse] == CHARGING:
                self._enter(evse, SUSPENDED_EV)
                self._update(evse, now_ms, "ChargingStateChanged")
            self.next_ms[evse] = now_ms + self.rng.randrange(4_000, 15_000)
        elif kind < 0.3:
            self._end(evse, now_ms, "RemoteStop", "Remote", "EVConnected")
        else:
            self._end(evse, now_ms, "StopAuthorized", "Local", "EVConnected")

    def _end(self, evse: int, now_ms: int, trigger: str, reason: str, state: str) -> None:
        if self._tx_id[evse]:
            self._enter(evse, FINISHED)
            self._send(evse, now_ms, "Ended", trigger, state, {"stoppedReason": reason})
            self._tx_id[evse] = ""
        self._enter(evse, FINISHED)
        self._show(evse, now_ms)
        self.next_ms[evse] = now_ms + self.rng.randrange(8_000, 90_000)

    def _unplug(self, evse: int, now_ms: int) -> None:
        self.plant.unload_car(evse)
        self.departs[evse] = False
        self._enter(evse, IDLE)
        self._show(evse, now_ms)
        pause = self.rng.randrange(2_000, 20_000) if self.fail_start[evse] else 0
        self.next_ms[evse] = now_ms + pause if pause else self._arrival(evse, now_ms)

    def _update(self, evse: int, now_ms: int, trigger: str, extra: dict[str, Any] | None = None) -> None:
        self.told_a[evse] = self.plant.offered_a[evse]
        self._send(evse, now_ms, "Updated", trigger, _STATE[int(self.phase[evse])], extra)
        self._show(evse, now_ms)

    def _send(
        self, evse: int, now_ms: int, kind: str, trigger: str, state: str, extra: dict[str, Any] | None
    ) -> None:
        number = self._seq_no[evse]
        self._seq_no[evse] = number + 1
        self.wire.transaction(evse, now_ms, self._tx_id[evse], number, kind, trigger, state, extra)

    # -- for commands ----------------------------------------------------------------------------

    def transaction(self, evse: int) -> str:
        """Return the transaction that runs at an EVSE, empty for none."""
        return self._tx_id[evse]

    def begin(self, evse: int, now_ms: int) -> bool:
        """Let a car come, or the one that waits charge, at the next tick; return whether the EVSE is free."""
        free = self.phase[evse] in (IDLE, PLUGGED)
        if free:
            self.next_ms[evse] = now_ms
        return bool(free)

    def stop(self, evse: int, now_ms: int) -> None:
        """End the transaction that runs at an EVSE; the car stays for a while."""
        if self._tx_id[evse]:
            self._end(evse, now_ms, "RemoteStop", "Remote", "EVConnected")

    # -- for faults ------------------------------------------------------------------------------

    def clear(self, evse: int, now_ms: int, reason: str = "Other") -> None:
        """End what goes on at an EVSE and take the car away."""
        if self.phase[evse] not in {IDLE, BLOCKED}:
            self._end(evse, now_ms, "AbnormalCondition", reason, "EVConnected")
            self._unplug(evse, now_ms)

    def hold(self, evse: int, now_ms: int) -> None:
        """Charge a car at full rated current until `let_go`."""
        self.clear(evse, now_ms)
        self.held[evse] = True
        self.loads.priority[evse] = True
        self.target_soc[evse] = 2.0
        self.leave_ms[evse] = _NEVER
        self._plug(evse, now_ms, TEST_LOAD, 0.3)
        self._authorize(evse, now_ms)
        self.next_ms[evse] = now_ms + 2_000

    def visit(self, evse: int, now_ms: int, car: int, soc: float, target_soc: float, stay_ms: int) -> None:
        """Let a certain car come now, with a charge of `soc` (0 to 1), and stay for `stay_ms`."""
        self.clear(evse, now_ms)
        self.target_soc[evse] = target_soc
        self.leave_ms[evse] = now_ms + stay_ms
        self._plug(evse, now_ms, car, soc)
        self.next_ms[evse] = now_ms + 5_000

    def let_go(self, evse: int, now_ms: int) -> None:
        """End the session that `hold` began."""
        self.held[evse] = False
        self.loads.priority[evse] = False
        self.loads.dirty = True
        self.clear(evse, now_ms, "Local")

    def block(self, evse: int, now_ms: int) -> None:
        """Keep cars away until `unblock`."""
        self.clear(evse, now_ms)
        self._enter(evse, BLOCKED)
        self.next_ms[evse] = _NEVER

    def tear_off(self, evse: int, now_ms: int) -> None:
        """Take the car away without a stop, as a cut cable looks to the station; keep others away."""
        if self._tx_id[evse]:
            self._end(evse, now_ms, "EVDeparted", "EVDisconnected", "Idle")
        self._unplug(evse, now_ms)
        self._enter(evse, BLOCKED)
        self.next_ms[evse] = _NEVER

    def unblock(self, evse: int, now_ms: int) -> None:
        """Let cars come again."""
        if self.phase[evse] == BLOCKED:
            self._enter(evse, IDLE)
            self._show(evse, now_ms)
            self.next_ms[evse] = self._arrival(evse, now_ms)

    def phantom(self, evse: int, now_ms: int) -> None:
        """Plug in without authorisation; the car is gone when the timer runs out."""
        if self.phase[evse] == IDLE:
            self.plant.load_car(evse, 0, 0.5, 3, 0)
            self._enter(evse, FINISHED)
            self._show(evse, now_ms)
            self.next_ms[evse] = now_ms + 8_000

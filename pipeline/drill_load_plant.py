"""The simulated site of the load drill: stations that hold limits, vehicles that follow, other load.

One step is one second. A station's limit is its dynamic one until it runs out, else its fallback; a vehicle
follows a lower pilot within 5 s (IEC 61851-1) and rises by 2 A/s.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator

from models.batch import F64, I64

from .drill_load_day import Visit

VOLTAGE_V: Final = 230.0
#: How stations that ignore commands do it.
OBEYS, DEAF, LIAR, STUCK = range(4)
IGNORING: Final = ("obeys", "deaf", "liar", "stuck")
_RISE_A: Final = 2.0
_LEAST_A: Final = 6.0
_LAG_S: Final = 8
_NEVER: Final = 1 << 40
#: The last part of the energy is taken at falling current.
_TAPER: Final = 0.08


class Command(NamedTuple):
    """A limit on its way: when it reaches the station, and how long it is valid (seconds of the day)."""

    due_s: int
    evse: int
    limit_a: float
    until_s: int
    cause: str
    tx: bool


class Plant:
    """The site, second by second; every column has one value an EVSE."""

    def __init__(self, rng: Generator, evses: int, fallback_a: float, max_a: float, ignoring: float) -> None:
        self.n = evses
        self._rng = rng
        self._fallback_a, self._max_a = fallback_a, max_a
        self.legs: I64 = (np.arange(evses)[:, None] + np.arange(3)[None]) % 3  # site phase of each leg
        self.kind = np.zeros(evses, np.int64)
        some = rng.permutation(evses)[: round(evses * ignoring)]
        self.kind[some] = 1 + np.arange(len(some)) % 3
        self.stuck_s = np.where(self.kind == STUCK, rng.integers(6 * 3600, 16 * 3600, evses), _NEVER)
        self._dyn_a = np.zeros(evses)
        self._until_s = np.zeros(evses, np.int64)
        self._of_tx = np.zeros(evses, np.bool_)
        self._frozen_a = np.full(evses, np.nan)
        self.car_a, self.phases = np.zeros(evses), np.zeros(evses, np.int64)
        self.left_wh, self.need_wh = np.zeros(evses), np.ones(evses)
        self.taken_wh = np.zeros(evses)
        self.amps = np.zeros(evses)
        self._lag = rng.integers(1, 6, evses)
        self._pilot = np.full((_LAG_S, evses), fallback_a)
        self._on_leg: F64 = np.zeros((evses, 3))
        self._on_phase: F64 = np.zeros((evses, 3))
        self._way: list[Command] = []

    def arrive(self, visit: Visit) -> None:
        """A vehicle is plugged in."""
        evse = visit.evse
        self.car_a[evse], self.phases[evse] = visit.max_a, visit.phases
        self.left_wh[evse] = self.need_wh[evse] = visit.wh
        self.taken_wh[evse] = self.amps[evse] = 0.0
        self._on_leg[evse] = np.arange(3) < visit.phases
        self._on_phase[evse] = 0.0
        self._on_phase[evse, self.legs[evse]] = self._on_leg[evse]

    def leave(self, evse: int, now_s: int) -> float:
        """Return the Wh that the vehicle took; limits of its transaction end."""
        taken = float(self.taken_wh[evse])
        self.car_a[evse] = self.left_wh[evse] = self.taken_wh[evse] = self.amps[evse] = 0.0
        self.phases[evse] = 0
        self._on_leg[evse] = self._on_phase[evse] = 0.0
        if self._of_tx[evse] and now_s < self.stuck_s[evse]:
            self._until_s[evse] = 0
        return taken

    def send(self, command: Command) -> None:
        """A command leaves the broker."""
        self._way.append(command)

    def step(self, now_s: int) -> list[tuple[str, str]]:
        """Let one second pass; return the answers of stations: (cause, status)."""
        answers = self._deliver(now_s) if self._way else []
        limit = np.where(now_s < self._until_s, self._dyn_a, self._fallback_a)
        stuck = now_s >= self.stuck_s
        if stuck.any():
            new = stuck & np.isnan(self._frozen_a)
            self._frozen_a[new] = limit[new]
            limit = np.where(stuck, self._frozen_a, limit)
        self._pilot[now_s % _LAG_S] = limit
        seen = self._pilot[(now_s - self._lag) % _LAG_S, np.arange(self.n)]
        most = self.car_a * np.clip(self.left_wh / (_TAPER * self.need_wh), 0.25, 1.0)
        want = np.where((seen >= _LEAST_A) & (self.left_wh > 0), np.minimum(seen, most), 0.0)
        self.amps = np.minimum(want, self.amps + _RISE_A)
        wh = np.minimum(self.amps * self.phases * (VOLTAGE_V / 3600), self.left_wh)
        self.left_wh -= wh
        self.taken_wh += wh
        return answers

    def _deliver(self, now_s: int) -> list[tuple[str, str]]:
        answers = []
        due = [command for command in self._way if command.due_s <= now_s]
        self._way = [command for command in self._way if command.due_s > now_s]
        for command in due:
            evse = command.evse
            kind = int(self.kind[evse])
            if kind == DEAF:
                continue
            if kind == OBEYS or (kind == STUCK and now_s < self.stuck_s[evse]):
                if command.tx and not self.phases[evse]:
                    answers.append((command.cause, "rejected"))
                    continue
                self._dyn_a[evse], self._until_s[evse] = command.limit_a, command.until_s
                self._of_tx[evse] = command.tx
            answers.append((command.cause, "accepted"))
        return answers

    def by_phase(self) -> F64:
        """Return the current of charging on each phase of the site, A, shape (3,)."""
        found: F64 = self.amps @ self._on_phase
        return found

    def by_leg(self) -> F64:
        """Return the current on each leg of each station, A, shape (n, 3)."""
        return self.amps[:, None] * self._on_leg


def other_load(rng: Generator, seconds: int, site_a: float) -> F64:
    """Return the load of a building that is not charging, A, shape (seconds, 3).

    It follows the working day between 8 % and 20 % of the connection, with compressors that start and stop
    and with noise.
    """
    t = np.arange(seconds)
    hour = t / 3600 % 24
    day = 1 / (1 + np.exp(-(hour - 7.0) * 2)) / (1 + np.exp((hour - 18.5) * 2))
    load = np.repeat(((0.08 + 0.12 * day) * site_a)[:, None], 3, axis=1)
    for phase in range(3):
        period, start = int(rng.integers(1200, 2400)), int(rng.integers(0, 1200))
        on = ((t + start) % period) < 0.4 * period
        load[:, phase] += np.where(on, 0.015 * site_a, 0.0)
        slow = np.repeat(rng.normal(0, 0.003 * site_a, seconds // 30 + 1), 30)[:seconds]
        load[:, phase] += slow
    return np.asarray(np.maximum(load, 0.0), np.float64)


def describe(plant: Plant) -> dict[str, Any]:
    """Return how many stations ignore commands, by kind."""
    return {name: int((plant.kind == kind).sum()) for kind, name in enumerate(IGNORING) if kind}

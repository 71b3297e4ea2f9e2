"""A small site for tests of load management: stations that obey at once, vehicles that take what they get."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.load import LimitAsk, Outcome, SiteLoad
from models.load_settings import Outlet, Panel, SiteSettings

T0 = 1_700_000_000_000 // 900_000 * 900_000


def settings(limit_a: float = 100.0, n: int = 3, **changes: Any) -> SiteSettings:
    """Return a site of `n` three-phase stations s0, s1, … on one connection."""
    given: dict[str, Any] = {
        "site": "yard",
        "panels": (Panel("grid", "", (limit_a,) * 3),),
        "outlets": tuple(Outlet(f"s{i}", 1) for i in range(n)),
        "commissioned": True,
        "interval_s": 5.0,
        "ramp_a_per_s": 100.0,
    }
    return SiteSettings(**(given | changes))


class Yard:
    """Runs a site second by second; `car` says how much a vehicle takes on which legs."""

    def __init__(self, site: SiteSettings, resume_state: dict[str, Any] | None = None) -> None:
        self.load = SiteLoad(site, resume_state=resume_state)
        self.site = site
        self.now = T0
        self.car: dict[str, tuple[float, int]] = {}
        self.ignores: dict[str, str] = {}  # station -> status it answers, "" for none
        self.draws: dict[str, float] = {}  # station -> what it draws whatever its limit
        self.limit: dict[str, tuple[float, int]] = {}
        self.silent: set[str] = set()
        self.asks: list[LimitAsk] = []
        self.outcomes: list[Outcome] = []
        for outlet in site.outlets:
            self.load.row(outlet.station, outlet.evse)

    def plug(self, station: str, amps: float = 32.0, legs: int = 3) -> int:
        self.car[station] = (amps, legs)
        row = self.load.row(station, 1)
        self.load.plug(row, self.now, f"tx-{station}-{self.now}")
        return row

    def amps(self, station: str) -> float:
        limit, until = self.limit.get(station, (0.0, 0))
        outlet = self.site.outlet(station, 1)
        assert outlet
        held = limit if self.now < until else outlet.fallback_a
        most = self.car.get(station, (0.0, 0))[0]
        return self.draws.get(station, min(held, most) if held >= 6 else 0.0)

    def run(self, seconds: int, other: float | None = None) -> Yard:
        for _ in range(seconds):
            self.now += 1000
            if self.now % 5000 == 0:
                self._read()
            if other is not None and self.now % 5000 == 0:
                self.load.observe_other(np.full(3, other), self.now)
            self._answer(self.load.tick(self.now))
        return self

    def _read(self) -> None:
        seen = {name: legs for name, (_, legs) in self.car.items() if name not in self.silent}
        rows = [self.load.row(name, 1) for name in seen]
        amps = [
            [self.amps(name) if leg < legs else np.nan for leg in range(3)] for name, legs in seen.items()
        ]
        self.load.observe(np.array(rows, np.int64), np.array(amps), np.full(len(rows), self.now))

    def _answer(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        for ask in outcome.asks:
            self.asks.append(ask)
            status = self.ignores.get(ask.station, "accepted")
            if status == "accepted" and ask.limit_a >= 0:
                self.limit[ask.station] = (ask.limit_a, ask.valid_until_ms)
            if status:
                self.load.answer(ask.cause, status.removeprefix("lie:"), self.now)

    def limits(self, *stations: str) -> list[float]:
        return [self.amps(station) for station in stations]

    def used(self) -> float:
        return sum(self.amps(station) for station in self.car)

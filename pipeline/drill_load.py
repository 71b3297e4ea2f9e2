"""The load drill: a working day of vehicles at one site in fast time, against optimum and failure.

The model that runs in the control stage decides; simulated stations answer, obey or do not; for a time there
is no control at all, and afterwards it works off what was journaled meanwhile, like a worker that restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.batch import F64
from models.errors import ConfigError
from models.load import LimitAsk, SiteLoad, SiteSettings
from models.load_settings import OtherLoad, Outlet, Panel

from .drill_load_day import Day, Visit, make_day
from .drill_load_optimum import optimum_wh
from .drill_load_plant import VOLTAGE_V, Command, Plant, describe, other_load

#: From an overload to every vehicle being lower: meter, decision, delivery, pilot and vehicle.
REACTION_S: Final = 15
_METER_S: Final = 5
_START_MS: Final = 1_700_006_400_000 // 86_400_000 * 86_400_000
_LEAST_SHARE: Final = 0.95
_LEAST_FAIRNESS: Final = 0.9


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the drill does: sizes, the share of stations that ignore commands, time without control."""

    seed: int = 1
    evses: int = 60
    site_a: float = 200.0
    hours: float = 24.0
    from_h: float = 0.0
    ignoring: float = 0.0
    dead_s: int = 0
    demand_kw: float = 0.0
    stated: str = "right"
    data: Path | None = None


@dataclass(slots=True)
class _Seen:
    """What is recorded while the day runs."""

    site_a: F64
    quarter_wh: F64
    turned: list[tuple[Visit, float]] = field(default_factory=list)
    commands: int = 0
    most_per_min: int = 0
    unanswered: int = 0


class LoadDrill:
    """One drill; `run` returns its figures."""

    def __init__(self, options: LoadOptions, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._rng = np.random.default_rng(options.seed)
        self._seconds = round(options.hours * 3600)
        self._start = round(options.from_h * 3600)
        whole: Day = make_day(self._rng, options.evses, self._seconds, options.data, options.stated)
        self._day = whole._replace(visits=[v for v in whole.visits if v.arrive_s > self._start])
        if not self._day.visits:
            raise ConfigError(
                "drill load: no vehicle comes in this time; expected a wider --from-hour, --hours"
            )
        self._other = other_load(self._rng, self._seconds, options.site_a)
        self._plant = Plant(self._rng, options.evses, 0.0, 32.0, options.ignoring)
        self._load = SiteLoad(self._settings())
        self._names = [f"cs{i + 1:03d}" for i in range(options.evses)]
        for name in self._names:
            self._load.row(name, 1)
        self._seen = _Seen(np.zeros((self._seconds, 3)), np.zeros(self._seconds // 900 + 1))
        self._events = self._timetable()
        self._dead = self._dead_times()
        self._backlog: list[tuple[int, list[Any], F64, F64, list[tuple[str, str]]]] = []

    def _settings(self) -> SiteSettings:
        options = self._options
        outlets = tuple(
            Outlet(f"cs{i + 1:03d}", 1, wiring=tuple(int(leg) for leg in self._plant.legs[i]))
            for i in range(options.evses)
        )
        limit = (options.site_a,) * 3
        return SiteSettings(
            site="drill",
            panels=(Panel("grid", "", limit),),
            outlets=outlets,
            other=OtherLoad("meter", 1, worst_a=0.3 * options.site_a, rise_a=0.03 * options.site_a),
            demand_limit_kw=options.demand_kw,
            commissioned=True,
        )

    def _timetable(self) -> dict[int, list[tuple[str, Visit]]]:
        found: dict[int, list[tuple[str, Visit]]] = {}
        for visit in self._day.visits:
            found.setdefault(visit.arrive_s, []).append(("arrive", visit))
            found.setdefault(visit.leave_s, []).append(("leave", visit))
        return found

    def _dead_times(self) -> list[tuple[int, int]]:
        """Return when nobody decides: at the busiest moment, and twice at random."""
        if not self._options.dead_s:
            return []
        present = np.zeros(self._seconds, np.int64)
        for visit in self._day.visits:
            present[visit.arrive_s : visit.arrive_s + 3600] += 1
        starts = [int(present.argmax()), *self._rng.integers(self._start, self._seconds, 2).tolist()]
        return [(start, start + self._options.dead_s) for start in sorted(starts)]

    def run(self) -> dict[str, Any]:
        """Run the day and return what happened, with ``passed``."""
        answers: list[tuple[str, str]] = []
        for now in range(self._start, self._seconds):
            events = self._events.get(now, [])
            for what, visit in events:
                if what == "arrive":
                    self._plant.arrive(visit)
                else:
                    self._seen.turned.append((visit, self._plant.leave(visit.evse, now)))
            answers += self._plant.step(now)
            total = self._plant.by_phase() + self._other[now]
            self._seen.site_a[now] = total
            self._seen.quarter_wh[now // 900] += total.sum() * VOLTAGE_V / 3600
            self._backlog.append((now, events, self._plant.by_leg(), self._other[now], answers))
            answers = []
            if not any(start <= now < end for start, end in self._dead):
                for journaled in self._backlog:
                    self._control(*journaled, now)
                self._backlog.clear()
        return self._figures()

    def _control(
        self, at: int, events: list[Any], legs: F64, other: F64, answers: list[tuple[str, str]], now: int
    ) -> None:
        """Give control what was journaled at second `at`; it is `now`."""
        load, at_ms = self._load, _START_MS + at * 1000
        for what, visit in events:
            if what == "arrive":
                load.plug(visit.evse, at_ms, f"tx-{visit.evse}-{visit.arrive_s}")
                if visit.says_s:
                    load.request(
                        {
                            "site": "drill",
                            "station": self._names[visit.evse],
                            "departure_ms": _START_MS + visit.says_s * 1000,
                            "energy_wh": visit.wants_wh,
                        },
                        at_ms,
                    )
            else:
                load.unplug(visit.evse, at_ms)
        for cause, status in answers:
            load.answer(cause, status, at_ms)
        if at % _METER_S == 0:
            # half of the stations send every five seconds, each every ten
            rows = np.arange(at // _METER_S % 2, self._options.evses, 2)
            load.observe(rows, legs[rows], np.full(len(rows), at_ms))
            load.observe_other(other, at_ms)
        outcome = load.tick(at_ms)
        self._send(outcome.asks, now)
        for minute in outcome.loads:
            self._seen.most_per_min = max(self._seen.most_per_min, minute.commands)

    def _send(self, asks: list[LimitAsk], now: int) -> None:
        for ask in asks:
            self._seen.commands += 1
            if ask.expires_ms < _START_MS + now * 1000:
                continue  # worked off too late: never sent
            profile = ask.body["chargingProfile"]
            schedule = profile["chargingSchedule"][0]
            until = (ask.valid_until_ms - _START_MS) // 1000
            self._plant.send(
                Command(
                    now + int(self._rng.integers(1, 3)),
                    int(ask.station[2:]) - 1,
                    schedule["chargingSchedulePeriod"][0]["limit"],
                    until,
                    ask.cause,
                    profile["chargingProfilePurpose"] == "TxProfile",
                )
            )

    def _optimum(self, kept_a: float, demand_share: float) -> float:
        """Return the optimum in Wh of a site that keeps `kept_a` of each phase free, and part of demand."""
        options = self._options
        return optimum_wh(
            self._day.visits,
            self._plant.legs,
            self._other + kept_a,
            options.site_a,
            options.demand_kw * demand_share + (kept_a * 3 * VOLTAGE_V / 1000 if options.demand_kw else 0.0),
            self._seconds,
        )

    def _figures(self) -> dict[str, Any]:
        options, seen = self._options, self._seen
        over = seen.site_a > options.site_a + 1e-6
        longest = max(_longest_run(over[:, phase]) for phase in range(3))
        delivered = sum(wh for _, wh in seen.turned)
        best, margins = self._optimum(0.0, 1.0), self._load.settings
        within = self._optimum(margins.other.rise_a, 1 - margins.demand_margin)
        ratios = np.array([wh / min(v.wh, _most_wh(v)) for v, wh in seen.turned])
        peak = float(seen.quarter_wh.max() * 4 / 1000)
        fair = float(ratios.sum() ** 2 / (len(ratios) * (ratios**2).sum()))
        result: dict[str, Any] = {
            "seed": options.seed,
            "arrivals": self._day.source,
            "evses": options.evses,
            "stated": options.stated,
            "visits": len(self._day.visits),
            "turned_away": self._day.turned_away,
            "ignoring": describe(self._plant),
            "dead_s": options.dead_s,
            "site_limit_a": options.site_a,
            "highest_a": round(float(seen.site_a.max()), 2),
            "over_limit_s": int(over.any(axis=1).sum()),
            "longest_over_limit_s": longest,
            "reaction_s": REACTION_S,
            "delivered_kwh": round(delivered / 1000, 1),
            "optimum_kwh": round(best / 1000, 1),
            "share_of_optimum": round(delivered / best, 4),
            "optimum_within_margins_kwh": round(within / 1000, 1),
            "share_within_margins": round(delivered / within, 4),
            "demand_limit_kw": options.demand_kw,
            "demand_peak_kw": round(peak, 2),
            "fairness_jain": round(fair, 4),
            "least_served": round(float(ratios.min()), 3),
            "commands": seen.commands,
            "most_commands_per_min": seen.most_per_min,
        }
        held = longest <= REACTION_S and (not options.demand_kw or peak <= options.demand_kw)
        healthy = not options.ignoring and not options.dead_s
        served = result["share_of_optimum"] >= _LEAST_SHARE and fair >= _LEAST_FAIRNESS
        return result | {"passed": bool(held and (served or not healthy))}


def _most_wh(visit: Visit) -> float:
    """Return what a vehicle could take in its stay at its full power."""
    return (visit.leave_s - visit.arrive_s) * visit.max_a * visit.phases * VOLTAGE_V / 3600


def _longest_run(over: Any) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))

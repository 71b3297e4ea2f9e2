"""The gate drill: a bad image must be stopped in the canary wave, a harmless one must pass, seed after seed.

The whole way: a campaign of a canary wave and the rest, births, hourly digests of every station, and the
verdict of the campaign book. The bad image raises the rate of findings of updated stations by half and does
nothing else. Stations differ (each has its own rates, drawn from gamma distributions), and load follows the
time of day, so the figures scatter more than Poisson. Before the campaign the fleet has a week of past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models._campaign_states import Member
from models.campaigns import CampaignBook
from models.gate import HOUR_MS

from .drill_campaign import START_MS, plan_of
from .drill_words import Line, in_words

#: Means per station: findings an hour, starts an hour, failed of them, hours with an offline spell.
FINDINGS, STARTS, FAILED, OFFLINE = 0.02, 0.3, 0.06, 0.01
#: How much stations differ: standard deviation over mean of their own rates.
SPREAD: Final = 0.5
#: A bad image: findings of updated stations times this.
WORSE: Final = 1.5


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the drill does: `seeds` campaigns with a bad image and as many with a harmless one.

    1,000 canaries of 4,000 stations see enough in two days; `soak_hours` 0 waits longer the fewer there are
    (`soak`), because what decides is the number of events.
    """

    seed: int = 1
    seeds: int = 100
    stations: int = 4000
    canaries: int = 1000
    soak_hours: int = 0
    history_hours: int = 168

    @property
    def soak(self) -> int:
        """Longest wait for a verdict in hours: as asked for, or 120,000 station-hours, at most 60 days."""
        return self.soak_hours or min(60 * 24, max(120, 120_000 // self.canaries))


def run_gate(options: GateOptions, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the drill; return the figures and whether it passed."""
    out: dict[str, Any] = {"drill": "gate"} | {name: getattr(options, name) for name in options.__slots__}
    out["soak_hours"] = options.soak
    outcomes: dict[bool, list[tuple[str, int, str]]] = {True: [], False: []}
    for worse, found in outcomes.items():
        for i in range(options.seeds):
            found.append(one_campaign(options, options.seed + i, worse))
            if i % 10 == 9:
                say(f"{'bad' if worse else 'harmless'} image: {i + 1} campaigns")
    for name, worse, wanted in (("bad_stopped", True, "paused"), ("harmless_passed", False, "next wave")):
        found = outcomes[worse]
        out[name] = sum(end == wanted for end, _, _ in found)
        hours = np.array([h for _, h, _ in found])
        out[f"{name}_hours"] = {f"p{q}": float(np.percentile(hours, q)) for q in (5, 50, 95, 100)}
        out[f"{name}_why"] = dict(Counter(why for _, _, why in found))
    needed = 0.95 * options.seeds
    out["passed"] = out["bad_stopped"] >= needed and out["harmless_passed"] >= needed
    return out


def one_campaign(options: GateOptions, seed: int, bad: bool) -> tuple[str, int, str]:
    """Return how the canary wave of one campaign ended, after how many hours of soak, and why."""
    rng = np.random.default_rng(seed)
    book, now = CampaignBook(), START_MS
    n = options.stations
    book.advance(now)
    for i in range(n):
        book.seen("station", _born(i, 1, "1.4.0"), now)
    rates, rows, as_ever = _Rates(rng, n), np.arange(n), np.ones(n)
    for hour in range(now // HOUR_MS - options.history_hours, now // HOUR_MS):
        book.fleet.history.add(hour, rows, *rates.hour(hour, as_ever))
    gate = {"max_soak_s": options.soak * 3600}
    plan = plan_of(n) | {
        "waves": [{"count": options.canaries}],
        "windows": [],
        "gate": gate,
        "previous": None,
    }
    plan |= {"per_minute": 100_000, "max_in_flight": 100_000, "previous_location": "", "id": f"gate-{seed}"}
    for body in (plan, {"action": "approve", "by": "bob"}, {"action": "start", "by": "ann"}):
        book.operator(body | {"id": plan["id"]}, now)
    run = book.runs[plan["id"]]
    now += 60_000
    book.advance(now)
    for row in np.flatnonzero(run.members.chosen(Member.REQUESTED)).tolist():
        book.seen("station", _born(row, 2, "2.0.0"), now + 1)
    book.drain()
    first = now // HOUR_MS + 1
    updated = run.members.chosen(Member.SUCCEEDED)
    for hour in range(first, first + options.soak + 2):
        values, starts = rates.hour(hour, np.where(updated, WORSE if bad else 1.0, 1.0))
        book.digests(hour, rows, values, starts)
        book.advance((hour + 1) * HOUR_MS + 60_000)
        for told in book.drain().campaigns:
            if told.event == "gate":
                verdict = told.verdict or {}
                worse = [m["metric"] for m in verdict["metrics"] if m["verdict"] == "worse"]
                left = [m["metric"] for m in verdict["metrics"] if m["verdict"] == "open"]
                decided = {"pass": "every figure as before", "undecided": "cannot tell of"}
                word = decided.get(verdict["decision"], verdict["decision"])
                why = f"{word} {', '.join(worse or left)}".strip()
                end = "next wave" if verdict["decision"] == "pass" else "paused"
                return end, hour + 1 - first, why
    return "no verdict", options.soak + 2, "none"


def _born(row: int, order: int, fw: str) -> dict[str, Any]:
    where = {"site": f"site-{row % 40:02d}", "station": f"cs-{row:05d}", "order": order, "boot": order}
    return where | {"online": True, "vendor": "Volta", "model": "V2", "fw": fw}


class _Rates:
    """What a fleet does in an hour; every station has rates of its own."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self._rng, self._n = rng, n
        shape = 1.0 / SPREAD**2
        self._own = rng.gamma(shape, 1.0 / shape, (4, n))

    def hour(
        self, hour: int, findings: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values and starts of an hour; `findings` multiplies the rate of findings."""
        rng, n = self._rng, self._n
        day = 1.0 + 0.6 * np.sin(2.0 * np.pi * hour / 24.0)
        found = rng.poisson(FINDINGS * self._own[0] * findings * day)
        starts = rng.poisson(STARTS * self._own[1] * day)
        failed = rng.binomial(starts, FAILED)
        away = rng.random(n) < OFFLINE * self._own[2]
        offline = np.where(away, rng.exponential(600.0, n).clip(0.0, 3600.0), 0.0)
        energy = starts * rng.gamma(2.0, 6000.0 * self._own[3])
        values = np.stack([found, failed, offline, energy], axis=1).astype(np.float64)
        return values, starts.astype(np.float64)


def table(result: dict[str, Any]) -> str:
    """Return the figures in words."""
    least = -(-95 * result["seeds"] // 100)
    told = result | {"enough": f"{least} of {result['seeds']}"}
    for name in ("bad_stopped", "harmless_passed"):
        hours = result[f"{name}_hours"]
        told[f"{name}_hours"] = f"{hours['p50']:g} (median), {hours['p95']:.3g} for 95 of 100"
    title = (
        f"{result['seeds']} campaigns with a bad image and as many with a harmless one, "
        f"{result['canaries']:,} canaries of {result['stations']:,} stations (seeds from {result['seed']})"
    )
    return in_words(
        title,
        told,
        [
            Line("bad_stopped", "bad images stopped before the second wave"),
            Line("bad_stopped_hours", "hours until then"),
            Line("bad_stopped_why", "what decided"),
            Line("harmless_passed", "harmless images that passed"),
            Line("harmless_passed_hours", "hours until then"),
            Line("harmless_passed_why", "what decided"),
            Line("enough", "enough of each"),
        ],
    )

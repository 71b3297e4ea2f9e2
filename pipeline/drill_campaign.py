"""The campaign drill: thousands of simulated stations in fast time, and a control stage that is killed.

A campaign of four waves with the telemetry gate between them. Messages are kept as the journal keeps them;
the campaign book is saved now and then, and killed at seeded moments: its state and what it had not handed
out are lost, it starts from the last save and reads on from there. What it hands out then comes twice, as in
life. It must end as it does without kills, station by station and word by word.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.campaign_rows import CampaignRow, CampaignStationRow
from models.campaigns import STEP_MS, CampaignBook
from models.gate import HOUR_MS

from .drill_campaign_stations import NEW, OLD, Station, World
from .drill_words import Line, in_words

START_MS: Final = 1_795_478_400_000  # 2026-11-24T00:00Z
#: The drill gives up after this much time.
_LONGEST_MS: Final = 30 * 86_400_000
#: Per station-hour: findings, failed starts per start, seconds offline, energy per start.
_FINDINGS, _STARTS, _FAILED, _OFFLINE = 0.02, 0.3, 0.06, 0.01
#: How a station may end; one that fails may have its last word lost.
EXPECTED: Final = {
    "good": ("succeeded",),
    "failing": ("failed", "timed_out"),
    "bricked": ("timed_out",),
    "silent": ("timed_out",),
}


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """What the drill does: `kills` of the control stage, on a fleet of `stations`."""

    seed: int = 1
    stations: int = 10_000
    kills: int = 20


def image(version: str) -> dict[str, Any]:
    """Return an image as a campaign names it; nobody loads it here."""
    return {
        "image_id": f"volta_v2_{version}",
        "vendor": "Volta",
        "model": "V2",
        "version": version,
        "size_bytes": 1 << 20,
        "sha256": "0" * 64,
        "signing_certificate": "pem",
        "signature": "c2ln",
        "algorithm": "ed25519",
    }


def plan_of(stations: int) -> dict[str, Any]:
    """Return the campaign: a canary of 5 %, then up to 20 %, 50 % and all, at night or over noon.

    With fewer than 400 canaries the gate cannot decide in five days: it looks for half a day, and goes on.
    """
    gate: dict[str, Any] = {"offline_ratio": 2.0, "max_soak_s": 5 * 86_400}
    if stations * 0.05 < 400:
        gate |= {"max_soak_s": 43_200, "undecided": "continue"}
    return {
        "action": "create",
        "id": "drill",
        "by": "ann",
        "image": image(NEW),
        "previous": image(OLD),
        "location": "https://firmware.example/{site}/{station}",
        "previous_location": "https://firmware.example/old",
        "waves": [{"percent": 5.0}, {"percent": 20.0}, {"percent": 50.0}, {"percent": 100.0}],
        "windows": [{"from": "21:00", "to": "06:00"}, {"from": "12:00", "to": "15:30"}],
        "time_zone": "Europe/Berlin",
        "site_time_zones": {"site-00": "America/New_York", "site-01": "Asia/Kolkata"},
        "per_minute": max(200, stations // 20),
        "max_in_flight": max(500, stations // 5),
        "min_sample": max(40, stations // 200),
        "retry_wait_s": 600,
        "attempt_timeout_s": 5400,
        "wave_timeout_s": 3 * 86_400,
        "gate": gate,
    }


class _Stage:
    """The control stage: state, the last save, and the journal it reads."""

    def __init__(self, kills: set[int], save_every: int) -> None:
        self.book = CampaignBook()
        self.journal: list[tuple[int, str, Any]] = []
        self.read = 0
        self.kills = 0
        self._kills, self._save_every = kills, save_every
        self._saved: tuple[int, Any] = (0, None)

    def catch_up(self) -> Any:
        """Read what is new; return what came of it."""
        due = [index for index in range(self.read, len(self.journal)) if index in self._kills]
        if due:
            while self.read <= due[0]:
                self._take()
            self.kills += 1
            self.read, state = self._saved
            self.book = CampaignBook(state)
            self._kills.discard(due[0])
        while self.read < len(self.journal):
            self._take()
        out = self.book.drain()
        if self.read - self._saved[0] >= self._save_every:
            self._saved = (self.read, self.book.snapshot())
        return out

    def _take(self) -> None:
        time_ms, kind, body = self.journal[self.read]
        self.book.advance(time_ms)
        if kind == "op":
            self.book.operator(body, time_ms)
        elif kind == "digests":
            self.book.digests(*body)
        elif kind != "tick":
            self.book.seen(kind, body, time_ms)
        self.read += 1


def rehearse(options: CampaignOptions, kills: set[int]) -> dict[str, Any]:
    """Run the campaign once, killed after these messages of the journal; return what became of it."""
    rng, noise = random.Random(options.seed), np.random.default_rng(options.seed)
    told: list[tuple[int, str, Any]] = []
    world = World(options.stations, rng, lambda *message: told.append(message))
    world.now_ms = START_MS
    world.begin()
    stage = _Stage(set(kills), save_every=max(200, options.stations // 4))
    last: dict[tuple[str, str], CampaignStationRow] = {}
    history: dict[int, CampaignRow] = {}
    now = START_MS
    people = [
        (START_MS + 120_000, plan_of(options.stations)),
        (START_MS + 180_000, {"id": "drill", "action": "approve", "by": "bob"}),
        (START_MS + 240_000, {"id": "drill", "action": "start", "by": "ann"}),
    ]
    while now < START_MS + _LONGEST_MS:
        now += STEP_MS
        world.run(now - 1)
        told += [(at, "op", body) for at, body in people if at == now]
        if now % HOUR_MS == 300_000:
            told.append((now, "digests", _hour(stage.book, now // HOUR_MS - 1, noise)))
        told.append((now, "tick", None))
        stage.journal += told
        told.clear()
        out = stage.catch_up()
        for ask in out.asks:
            world.ask(ask)
        for row in out.stations:
            known = last.get((row.site, row.station))
            if known is None or row.change > known.change:
                last[row.site, row.station] = row
        history |= {row.change: row for row in out.campaigns}
        if history and max(history.items())[1].state in ("finished", "paused", "aborted"):
            break
    return _reckoned(options, world, stage, last, history, now)


def _hour(book: CampaignBook, hour: int, noise: np.random.Generator) -> tuple[Any, ...]:
    """Return the digests of an hour: the new version changes nothing."""
    n = len(book.fleet)
    starts = noise.poisson(_STARTS, n)
    offline = np.where(noise.random(n) < _OFFLINE, noise.exponential(600.0, n).clip(0.0, 3600.0), 0.0)
    energy = starts * noise.gamma(2.0, 6000.0, n)
    failed = noise.binomial(starts, _FAILED)
    values = np.stack([noise.poisson(_FINDINGS, n), failed, offline, energy], axis=1).astype(np.float64)
    return hour, np.arange(n), values, starts.astype(np.float64)


def _reckoned(
    options: CampaignOptions,
    world: World,
    stage: _Stage,
    last: dict[tuple[str, str], CampaignStationRow],
    history: dict[int, CampaignRow],
    now: int,
) -> dict[str, Any]:
    end = max(history.items())[1] if history else None
    wrong = [
        key for key, station in world.stations.items()
        if key not in last or last[key].state not in EXPECTED[_kind(station)]
    ]  # fmt: skip
    stations = world.stations.values()
    return {
        "state": "" if end is None else end.state,
        "text": "" if end is None else end.text,
        "waves": sum(row.event == "wave" for row in history.values()),
        "gates_passed": sum(_decided(row) == "every metric is as before" for row in history.values()),
        "gates_let_on": sum("says: continue" in _decided(row) for row in history.values()),
        "hours": round((now - START_MS) / HOUR_MS, 1),
        "messages": len(stage.journal),
        "kills": stage.kills,
        "counts": dict(Counter(row.state for row in last.values())),
        "wrong_states": len(wrong),
        "wrong": [
            f"{'/'.join(k)}: {world.stations[k].kind}, {last[k].state}" for k in wrong[:5] if k in last
        ],
        "updated_twice": sum(s.installs > 1 and s.kind == "good" for s in stations),
        "not_updated": sum(_kind(s) == "good" and s.fw != NEW for s in stations),
        "installed_while_charging": sum(s.while_charging for s in stations),
        "asked_while_charging": world.asks_while_charging,
        "refused_car_came": world.told_busy,
        "put_off_by_server": world.sheds,
        "requests_told_twice": world.doubles,
        "rows": {key: (row.state, row.attempt, row.request_id, row.change) for key, row in last.items()},
        "story": [(row.change, row.event, row.state, row.text) for _, row in sorted(history.items())],
    }


def _decided(row: CampaignRow) -> str:
    """Return what the telemetry gate said, "" of other rows."""
    return row.text if row.event == "gate" else ""


def _kind(station: Station) -> str:
    """Return what a station turned out to be: three downloads that failed by chance use up its attempts."""
    return "failing" if station.kind == "good" and station.unlucky > 2 and station.fw == OLD else station.kind


def run_campaign(options: CampaignOptions, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the drill: once with kills, once without; return the figures and whether it passed."""
    quiet = rehearse(options, set())
    say(f"without kills: {quiet['state']} after {quiet['hours']} h and {quiet['messages']} messages")
    moments = range(options.stations + 1, quiet["messages"])
    killed = rehearse(options, set(random.Random(options.seed).sample(moments, options.kills)))
    same = killed["rows"] == quiet["rows"] and killed["story"] == quiet["story"]
    result = {name: value for name, value in killed.items() if name not in ("rows", "story")}
    passed = (
        same
        and killed["state"] == "finished"
        and killed["kills"] == options.kills
        and killed["waves"] == 4
        and not any(
            killed[name]
            for name in (
                "wrong_states",
                "updated_twice",
                "not_updated",
                "installed_while_charging",
                "asked_while_charging",
            )
        )
    )
    return (
        {"drill": "campaign", "seed": options.seed, "stations": options.stations}
        | result
        | {
            "same_as_without_kills": same,
            "passed": passed,
        }
    )


def table(result: dict[str, Any]) -> str:
    """Return the figures in words."""
    live = "seconds" in result
    lines = [
        Line("counts", "stations at the end, by state"),
        Line("state", "state of the campaign", "finished"),
        Line("waves", "waves that opened", 4),
        Line("gates_passed", "times the telemetry gate let the next wave begin"),
        Line("gates_let_on", "times it could not tell: too few canaries"),
        Line("seconds", "seconds that it took"),
        Line("hours", "hours of simulated time"),
        Line("messages", "messages of stations, people and clock"),
        Line("kills", f"times the {'worker of the control shard' if live else 'control stage'} was killed"),
        Line("same_as_without_kills", "same end as without kills, row by row", True),
        Line("wrong_states", "stations that ended as they must not", 0),
        Line("wrong", "the first of them", []),
        Line("not_updated", "good stations without the new version", 0),
        Line("updated_twice", "stations that installed it twice", 0),
        Line("installed_while_charging", "stations that installed while a car charged", 0),
        Line("asked_while_charging", "stations that were asked while a car charged", 0),
        Line("refused_car_came", "requests refused because a car had come meanwhile"),
        Line("put_off_by_server", "downloads that the file server put off: no failures"),
        Line("requests_told_twice", "requests that came again after a kill: done once"),
        Line("commands", "commands that reached stations"),
        Line("commands_again", "commands that came again: answered, not done again"),
        Line("folder", "what is left to look at"),
    ]
    title = (
        f"A campaign over {result['stations']:,} stations: 2 % fail, 1 % are bricked, 1 % stay silent "
        f"(seed {result['seed']})"
    )
    return in_words(title, result, [line for line in lines if result.get(line.name, "") is not None])

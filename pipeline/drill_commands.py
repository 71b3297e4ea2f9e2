"""The commands drill: simulated stations in fast time, a broker that loses and repeats, killed workers.

Everything but broker and clock is real: requests, answers and ticks go through a journal in memory into the
order and control stages of each shard, and what those publish goes to the stations. The broker loses a share
of messages for good, delivers others twice, and restarts; the workers are killed and go on from their last
snapshot, which publishes again what they had published since.
"""

from __future__ import annotations

import heapq
import json
import pickle
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.simulator.manners import Manners
from connectors.simulator.obey import Obedient, Said
from models.command_shorthand import spell_out
from models.command_states import ENDED
from models.command_types import command_id
from models.frame import TICK_FLAG, Frame
from models.outputs import CommandRow, Publish
from models.sharding import Sharder
from models.topics import Router
from models.units import NS_PER_MS

from .config import Config
from .control import ControlStage
from .control_plan import control_plan
from .order import OrderConfig, OrderStage

_T0_MS: Final = 1_780_000_000_000
_STEP_MS: Final = 1000
_SNAPSHOT_S: Final = 60
_WORDS: Final = (
    ("reset", ""), ("unlock", ""), ("inoperative", ""), ("operative", ""), ("start", "AB12"),
    ("limit", "16"), ("clear-limit", ""), ("trigger", "StatusNotification"),
)  # fmt: skip

Message = tuple[int, bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class CommandsOptions:
    """How the drill goes.

    Attributes
    ----------
    seed, commands, stations, sites : int
    loss, double : float
        Share of messages that never arrive, and of those that arrive twice.
    kills : int
        Times that the workers are killed.
    """

    seed: int = 1
    commands: int = 1000
    stations: int = 100
    sites: int = 8
    loss: float = 0.05
    double: float = 0.05
    kills: int = 5


@dataclass
class _Shard:
    """Order and control stage of one shard, its journal since the last snapshot, and that snapshot."""

    order: OrderStage
    control: ControlStage
    saved: bytes = b""
    since: list[tuple[int, Frame]] = field(default_factory=list)
    end: int = 0


class CommandsDrill:
    """One rehearsal.

    Parameters
    ----------
    options : CommandsOptions
    say : callable
        Told what goes on, a line at a time.
    """

    def __init__(self, options: CommandsOptions, say: Callable[[str], None] = lambda _: None) -> None:
        self.options, self._say = options, say
        self._rng = random.Random(options.seed)
        config = Config()
        self._order = OrderConfig(tuple(config.topic_routes()))
        self._plan = control_plan(config)
        self._sharder = Sharder(Router(config.topic_routes()), config.journal.shards)
        self._shards: dict[int, _Shard] = {}
        self._stations: dict[tuple[str, str], Obedient] = {}
        self._seq: Counter[tuple[str, str]] = Counter()
        self._wire: list[tuple[int, int, str, bytes]] = []  # what the broker delivers, and when
        self._sent = 0
        self._restart_ms = (0, 0)
        self._rows: dict[tuple[str, int], CommandRow] = {}
        self._wishes: list[tuple[int, dict[str, Any]]] = []
        self._counts: Counter[str] = Counter()
        self._make()

    def _make(self) -> None:
        """Invent stations and wishes."""
        options, rng = self.options, self._rng
        manners = Manners(ignore=0.03, reject=0.05, twice=0.1, slow=0.1)
        for i in range(options.stations):
            place = (f"site{i % options.sites:02d}", f"s{i:04d}")
            self._stations[place] = Obedient(place[1], "1.0.0", manners.of(rng), random.Random(rng.random()))
        span_ms = max(600_000, options.commands * 2_000)
        for i in range(options.commands):
            site, station = rng.choice(list(self._stations))
            word, value = rng.choice(_WORDS)
            command, body = spell_out(word, 1 if word in ("limit", "unlock", "start") else None, value)
            wish = {
                "id": f"wish-{i}",
                "site": site,
                "station": station,
                "command": command,
                "body": body,
                "by": "drill",
                "priority": rng.choice((0, 1, 1, 1, 2, 4)),
                "expires_s": rng.choice((30, 120, 600, 1800)),
            }
            self._wishes.append((_T0_MS + 5_000 + rng.randrange(span_ms), wish))
        self._wishes.sort(key=lambda item: (item[0], item[1]["id"]))
        self._end_ms = self._wishes[-1][0] + 2_000_000
        middle = _T0_MS + span_ms // 2
        self._restart_ms = (middle, middle + 20_000)

    def run(self) -> dict[str, Any]:
        """Rehearse and return the figures."""
        for (site, station), one in self._stations.items():
            self._speak(site, station, one.birth(_T0_MS))
        steps = range(_T0_MS, self._end_ms, _STEP_MS)
        kills = sorted(self._rng.sample(range(60, len(steps) - 60), self.options.kills))
        wishes = list(reversed(self._wishes))
        for number, now_ms in enumerate(steps):
            if kills and number == kills[0]:
                kills.pop(0)
                self._kill(now_ms)
            while wishes and wishes[-1][0] <= now_ms:
                at_ms, wish = wishes.pop()
                self._publish(at_ms, "evt/v1/_op/command", json.dumps(wish).encode(), lossless=True)
            for (site, station), one in self._stations.items():
                due = one.next_ms()
                if due is not None and due <= now_ms:
                    for said in one.step(now_ms):
                        self._speak(site, station, said)
            self._deliver(now_ms)
            if number % _SNAPSHOT_S == 0:
                self._snapshot()
        return self._reckon()

    # -- the broker --------------------------------------------------------------------------------

    def _publish(self, at_ms: int, topic: str, payload: bytes, *, lossless: bool = False) -> None:
        """Hand a message to the broker; some are lost, some come twice, none comes while it restarts."""
        rng = self._rng
        times = 1
        if not lossless:
            times = 0 if rng.random() < self.options.loss else 2 if rng.random() < self.options.double else 1
            self._counts["lost"] += times == 0
            self._counts["doubled"] += times == 2
        for time in range(times):
            arrival = at_ms + rng.randrange(5, 400) + time * rng.randrange(100, 5_000)
            if self._restart_ms[0] <= arrival < self._restart_ms[1]:
                arrival = self._restart_ms[1] + rng.randrange(10, 3_000)  # its sender repeats it then
                self._counts["delayed"] += 1
            self._sent += 1
            heapq.heappush(self._wire, (arrival, self._sent, topic, payload))

    def _speak(self, site: str, station: str, said: Said) -> None:
        body = {"v": 1, "t": said.at_ms} | said.body
        if said.kind != "conn":
            one = self._stations[site, station]
            self._seq[site, f"{station}/{one.boot}"] += 1
            body |= {"boot": one.boot, "seq": self._seq[site, f"{station}/{one.boot}"]}
        # births are retained: the broker has the last one whatever was lost
        lossless = said.kind in ("conn", "tx")
        topic = f"evt/v1/{site}/{station}/up/{said.kind}"
        self._publish(said.at_ms, topic, json.dumps(body).encode(), lossless=lossless)

    def _deliver(self, now_ms: int) -> None:
        """Let arrive what is due: commands at stations, all else in the journal, with a tick."""
        arrived: list[Message] = []
        while self._wire and self._wire[0][0] <= now_ms:
            at_ms, _, topic, payload = heapq.heappop(self._wire)
            if topic.endswith("/dn/cmd"):
                _, _, site, node, *_ = topic.split("/")
                self._stations[site, node].receive(json.loads(payload), at_ms)
            else:
                arrived.append((at_ms * NS_PER_MS, topic.encode(), payload, 0))
        frames = self._sharder.split(Frame.build(arrived)) if arrived else {}
        for shard in sorted(frames.keys() | self._shards.keys()):
            if shard == self._sharder.control:
                continue
            messages = frames.get(shard)
            tick = Frame.build([(now_ms * NS_PER_MS, b"", b"", TICK_FLAG)])
            self._feed(shard, tick if messages is None else Frame.concat([messages, tick]))

    # -- the workers -------------------------------------------------------------------------------

    def _feed(self, shard: int, frame: Frame) -> None:
        held = self._shards.get(shard)
        if held is None:
            held = self._shards[shard] = self._begin(shard)
        self._process(shard, held, held.end, frame)
        held.since.append((held.end, frame))
        held.end += len(frame)

    def _begin(self, shard: int, saved: bytes = b"") -> _Shard:
        order, control = pickle.loads(saved) if saved else (None, None)  # noqa: S301  # our own bytes
        return _Shard(OrderStage(shard, self._order, order), ControlStage(shard, self._plan, control), saved)

    def _process(self, shard: int, held: _Shard, first: int, frame: Frame) -> None:
        now_ms = int(frame.recv_ns.max()) // NS_PER_MS
        for batch in held.order.process((shard, first, frame)):
            for out in held.control.process(batch):
                for row in out.commands:
                    self._tell(row)
                for message in out.publishes:
                    self._carry(message, now_ms)

    def _tell(self, row: CommandRow) -> None:
        """Keep a row as the ledger does; what comes again has to be the same."""
        before = self._rows.setdefault((row.cmd_id, row.change), row)
        self._counts["rows that came again with another content"] += before != row

    def _carry(self, message: Publish, now_ms: int) -> None:
        if message.topic.endswith("/dn/cmd"):
            self._counts["published"] += 1
            self._publish(now_ms, message.topic, message.payload)

    def _snapshot(self) -> None:
        for held in self._shards.values():
            held.saved = pickle.dumps((held.order.snapshot(), held.control.snapshot()))
            held.since.clear()

    def _kill(self, now_ms: int) -> None:
        """Kill the workers: they go on from their snapshots over what was journaled since."""
        self._say(f"{(now_ms - _T0_MS) / 1000:.0f} s: workers killed, {len(self._rows)} rows so far")
        self._counts["kills"] += 1
        for shard, held in list(self._shards.items()):
            again = self._shards[shard] = self._begin(shard, held.saved)
            again.end = held.end
            for first, frame in held.since:
                self._process(shard, again, first, frame)
            again.since = held.since

    # -- reckoning ---------------------------------------------------------------------------------

    def _reckon(self) -> dict[str, Any]:
        """Compare what the book says with what stations did."""
        told: dict[str, list[CommandRow]] = {}
        for _, row in sorted(self._rows.items()):
            told.setdefault(row.cmd_id, []).append(row)
        wanted = {
            command_id(wish["site"], wish["station"], f"operator/{wish['id']}") for _, wish in self._wishes
        }
        states = Counter(rows[-1].state for rows in told.values())
        wrong = sum(not _right(rows, self._stations[rows[0].site, rows[0].station]) for rows in told.values())
        done = Counter(cmd for one in self._stations.values() for cmd, _ in one.done)
        result: dict[str, Any] = {
            "seed": self.options.seed,
            "commands": len(wanted),
            "stations": len(self._stations),
            "ended": sum(states[state] for state in ENDED),
            **{state: states[state] for state in ENDED},
            "missing": len(wanted - told.keys()),
            "wrong_answer": wrong,
            "done": len(done),
            "done_twice": sum(n > 1 for n in done.values()),
            "rows": len(self._rows),
            "rows_differ": self._counts["rows that came again with another content"],
            **{name: self._counts[name] for name in ("published", "lost", "doubled", "delayed", "kills")},
        }
        passed = (result["ended"], result["missing"], wrong) == (len(wanted), 0, 0)
        return result | {"passed": passed and not result["done_twice"] and not result["rows_differ"]}


_ANSWERS: Final = ("accept", "reject", "schedule", "error")
_MEANINGS: Final = {"Accepted": "accepted", "Unlocked": "accepted", "Scheduled": "scheduled"}


def _right(rows: list[CommandRow], station: Obedient) -> bool:
    """Return whether a command ended once, as the first answer that came in time says, or without one."""
    end = next((row for row in rows if row.state in ENDED), None)
    if end is None or {row.state for row in rows if row.change >= end.change} != {end.state}:
        return False
    if end.event not in _ANSWERS:
        return not any(row.event in _ANSWERS for row in rows if row.change < end.change)
    said = station.answer_to(end.cmd_id)
    if said is not None and end.status not in (said, "Expired"):
        return False
    return _MEANINGS.get(end.status, "rejected") == end.state


def table(result: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [f"{name:18} {value}" for name, value in result.items() if name != "passed"]
    return "\n".join([*lines, f"{'result':18} {'PASSED' if result['passed'] else 'FAILED'}"])

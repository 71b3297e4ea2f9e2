"""The commands drill: simulated stations in fast time, a broker that loses and repeats, killed processes.

Everything but broker and clock is real: requests, answers and ticks go through a journal in memory into the
order and control stages of each shard, and what those publish goes through egress's sink, with its claims on
disk, to the stations. The broker loses a share of messages for good, delivers others twice, and restarts. The
workers are killed and go on from their last snapshot, which publishes again what they had published since;
egress is killed between the broker and its own notes. A share of the stations speak OCPP-J and keep no ids:
what reaches them twice they do twice.
"""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.simulator.manners import Manners
from connectors.simulator.obey import Obedient, Said
from connectors.simulator.ocpp_station import OcppStation
from models.command_shorthand import spell_out
from models.command_states import ENDED
from models.frame import TICK_FLAG, Frame
from models.outputs import CommandRow, Publish
from models.sharding import Sharder
from models.topics import Router
from models.units import NS_PER_MS

from .config import Config
from .control import ControlStage
from .control_plan import control_plan
from .drill_commands_egress import Egress, LossyBroker
from .drill_commands_reckoning import Heard, reckon
from .order import OrderConfig, OrderStage

_T0_MS: Final = 1_780_000_000_000
_STEP_MS: Final = 1000
_SNAPSHOT_S: Final = 60
#: The longest life of a command and some; and what is still listened to when all have ended.
_LONGEST_S: Final = 2_000
_LATE_S: Final = 180
_WORDS: Final = (
    ("reset", ""), ("unlock", ""), ("inoperative", ""), ("operative", ""), ("start", "AB12"),
    ("limit", "16"), ("clear-limit", ""), ("trigger", "StatusNotification"),
)  # fmt: skip
_CONNECTOR_WORDS: Final = ("limit", "unlock", "start")
#: Topics of stations, by the form of their dialect; the first of both is the one that they are told on.
_TOPICS: Final = {"raw": "ocpp/{site}/{station}/{way}", "wrapped": "cs/{site}/{way}/{version}/{station}"}
_ROUTES: Final = {"raw": "ocpp/{site}/{node}/{rest}", "wrapped": "cs/{site}/+/+/{node}"}

Message = tuple[int, bytes, bytes, int]
Place = tuple[str, str]


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
    naive : float
        Share of stations that speak OCPP-J and keep no ids: 1.6 and 2.0.1 in turn, in the raw form with an
        odd seed, in the wrapped form with an even one.
    egress_kills : int
        Times that egress is killed or its connection breaks, with a message in hand that may go once.
    manners : Manners
        Shares of stations that misbehave.
    """

    seed: int = 1
    commands: int = 1000
    stations: int = 100
    sites: int = 8
    loss: float = 0.05
    double: float = 0.05
    kills: int = 5
    naive: float = 0.3
    egress_kills: int = 12
    manners: Manners = Manners(ignore=0.03, reject=0.05, twice=0.1, slow=0.1)  # noqa: RUF009  # frozen

    @property
    def form(self) -> str:
        """The form of OCPP-J."""
        return "raw" if self.seed % 2 else "wrapped"


@dataclass
class _Shard:
    """Order and control stage of one shard, its journal since the last snapshot, and that snapshot."""

    order: OrderStage
    control: ControlStage
    saved: bytes = b""
    since: list[tuple[int, Frame]] = field(default_factory=list)
    end: int = 0


def _config(form: str) -> Config:
    """Return a configuration with OCPP-J stations that we may talk to, and no central system beside us."""
    routes = [{"pattern": route.pattern, "dialect": route.dialect} for route in Config().routes]
    own = {"form": form, "commands": True, "answers": False}
    ocpp = {"pattern": _ROUTES[form], "dialect": "ocpp_j"}
    return Config.model_validate({"routes": [*routes, ocpp], "dialects": {"ocpp_j": own}})


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
        config = _config(options.form)
        self._order = OrderConfig(tuple(config.topic_routes()), config.dialect_options())
        self._plan = control_plan(config)
        self._sharder = Sharder(Router(config.topic_routes()), config.journal.shards)
        self._shards: dict[int, _Shard] = {}
        self._stations: dict[Place, Obedient] = {}
        self._told_on: dict[str, Place] = {}  # topic -> station that listens there
        self._seq: Counter[Place] = Counter()
        self._rows: dict[tuple[str, int], CommandRow] = {}
        self._heard = Heard()
        self._wishes: list[tuple[int, dict[str, Any]]] = []
        self._counts: Counter[str] = Counter()
        span_ms = max(600_000, options.commands * 2_000)
        self._make(span_ms)
        middle = _T0_MS + span_ms // 2
        self._broker = LossyBroker(self._rng, options.loss, options.double, (middle, middle + 20_000))
        self._egress = Egress(self._broker, self._rng, say)

    def _make(self, span_ms: int) -> None:
        """Invent stations and wishes."""
        options, rng = self.options, self._rng
        naive = round(options.naive * options.stations)
        for i in range(options.stations):
            place = (f"site{i % options.sites:02d}", f"s{i:04d}")
            own, dice = options.manners.of(rng), random.Random(rng.random())
            if i < naive:
                version = "1.6" if i // options.sites % 2 else "2.0.1"
                self._stations[place] = OcppStation(place[1], version, options.form, own, dice)
            else:
                self._stations[place] = Obedient(place[1], "1.0.0", own, dice)
            self._told_on[self._topic(place, "out", "dn/cmd")] = place
        for i in range(options.commands):
            site, station = rng.choice(list(self._stations))
            word, value = rng.choice(_WORDS)
            command, body = spell_out(word, 1 if word in _CONNECTOR_WORDS else None, value)
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

    def _topic(self, place: Place, way: str, native: str) -> str:
        site, station = place
        one = self._stations[place]
        if not isinstance(one, OcppStation):
            return f"evt/v1/{site}/{station}/{native}"
        return _TOPICS[one.form].format(site=site, station=station, way=way, version=f"ocpp{one.version}")

    def run(self) -> dict[str, Any]:
        """Rehearse and return the figures."""
        options = self.options
        for place, one in self._stations.items():
            self._speak(place, one.birth(_T0_MS))
        last = (self._wishes[-1][0] - _T0_MS) // _STEP_MS
        kills = sorted(self._rng.sample(range(60, last + 300), options.kills))
        troubles = sorted(self._rng.choices(range(10, max(11, last - 60)), k=options.egress_kills))
        wishes = list(reversed(self._wishes))
        over = 0
        for number in range(last + _LONGEST_S):
            now_ms = _T0_MS + number * _STEP_MS
            if kills and number == kills[0]:
                kills.pop(0)
                self._kill(now_ms)
            while troubles and number >= troubles[0]:
                troubles.pop(0)
                self._egress.expect_trouble()
            self._step(now_ms, wishes)
            if number % _SNAPSHOT_S == 0:
                self._snapshot()
                over += number > last and not kills and self._all_ended()
                if over > _LATE_S // _SNAPSHOT_S:
                    break
        self._egress.end()
        return self._reckon()

    def _step(self, now_ms: int, wishes: list[tuple[int, dict[str, Any]]]) -> None:
        """Let a second pass: people ask, stations speak, messages arrive, commands leave."""
        while wishes and wishes[-1][0] <= now_ms:
            at_ms, wish = wishes.pop()
            asked = Publish(topic="evt/v1/_op/command", payload=json.dumps(wish).encode())
            self._broker.take(at_ms, asked, lossless=True)
        for place, one in self._stations.items():
            due = one.next_ms()
            if due is not None and due <= now_ms:
                for said in one.step(now_ms):
                    self._speak(place, said)
        self._deliver(now_ms)
        self._egress.drain(now_ms)

    def _all_ended(self) -> bool:
        last = {row.cmd_id: row.state for row in sorted(self._rows.values(), key=lambda row: row.change)}
        return len(last) == len(self._wishes) and all(state in ENDED for state in last.values())

    # -- the broker --------------------------------------------------------------------------------

    def _speak(self, place: Place, said: Said) -> None:
        """Let a station say something: births are retained, so none is lost."""
        one = self._stations[place]
        if isinstance(one, OcppStation):
            voice = one.voice(said)
            if voice is None:
                return
            payload = voice
        else:
            body = {"v": 1, "t": said.at_ms} | said.body
            if said.kind != "conn":
                count = (place[0], f"{place[1]}/{one.boot}")
                self._seq[count] += 1
                body |= {"boot": one.boot, "seq": self._seq[count]}
            payload = json.dumps(body).encode()
        message = Publish(topic=self._topic(place, "in", f"up/{said.kind}"), payload=payload)
        self._broker.take(said.at_ms, message, lossless=said.kind in ("conn", "tx"))

    def _deliver(self, now_ms: int) -> None:
        """Let arrive what is due: commands at stations, all else in the journal, with a tick."""
        arrived: list[Message] = []
        for one in self._broker.due(now_ms):
            place = self._told_on.get(one.topic)
            if place is not None:
                station = self._stations[place]
                if isinstance(station, OcppStation):
                    station.call(one.payload, one.at_ms)
                else:
                    station.receive(json.loads(one.payload), one.at_ms)
            else:
                self._heard.note(one.topic, one.payload, one.at_ms)
                arrived.append((one.at_ms * NS_PER_MS, one.topic.encode(), one.payload, 0))
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
        for batch in held.order.process((shard, first, frame)):
            for out in held.control.process(batch):
                for row in out.commands:
                    self._tell(row)
                for message in out.publishes:
                    if message.topic in self._told_on:
                        self._egress.put(message)

    def _tell(self, row: CommandRow) -> None:
        """Keep a row as the ledger does; what comes again has to be the same."""
        before = self._rows.setdefault((row.cmd_id, row.change), row)
        self._counts["rows that came again with another content"] += before != row

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
        """Compare what the book says with what stations did and said."""
        figures = reckon(self._wishes, self._rows.values(), self._stations, self._heard)
        differ = self._counts["rows that came again with another content"]
        broker, egress = self._broker.counts, self._egress.counts
        result: dict[str, Any] = {
            "seed": self.options.seed,
            "ocpp_form": self.options.form,
            **figures,
            "rows_differ": differ,
            **{name: broker[name] for name in ("lost", "doubled", "delayed")},
            "expired_on_the_way": broker["expired on the way"],
            "published": egress["published"],
            "worker_kills": self._counts["kills"],
            "egress_killed_claimed": egress["killed with the claim noted"],
            "egress_killed_sent": egress["killed before the cursor moved"],
            "connections_broken": egress["connection broken"],
        }
        wrong = ("missing", "wrong_answer", "done_twice", "harm", "done_late", "rows_differ")
        passed = result["ended"] == result["commands"] and not any(result[name] for name in wrong)
        return result | {"passed": passed}

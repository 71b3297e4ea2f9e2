"""What was pre-authorised ends a session in time: cost, command, station, bill; also over a broker."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.broker import MosquittoBroker
from connectors.journal import JournalReader
from connectors.mqtt import Publisher
from connectors.simulator import Fleet, FleetConfig, NodeConfig, SiteConfig, StationConfig
from connectors.simulator.live import LiveOptions, run_live
from connectors.simulator.manners import Manners
from connectors.simulator.obeying import Obeying
from connectors.simulator.publisher import Broker
from models.billing_rows import PaymentRow
from models.cashier import BillingPlan, Place
from models.dynamic import Succession
from models.energy import MemoryArchive
from models.errors import RetryLater
from models.frame import TICK_FLAG, Frame
from models.outputs import CommandRow, Publish, SessionRow
from models.payments import COMMAND_TOPIC, TOPIC
from models.tariffs import read
from models.topics import shard_of
from models.transactions import TransactionConfig
from models.units import NS_PER_MS, NS_PER_S
from pipeline.bill import BillConfig, BillStage
from pipeline.config import Config
from pipeline.control import ControlStage
from pipeline.control_plan import control_plan
from pipeline.ingest import journal_file, mqtt_settings
from pipeline.order import OrderConfig, OrderStage
from tests.servers import require
from tests.servers.ingesting import ingesting, settings, wait_for

T0 = 1_781_071_200_000


@dataclass
class Worker:
    """The stages that a payment passes, of one shard."""

    eur_per_kwh: float
    cost_s: int
    shard: int = 0
    fed: int = 0
    sessions: list[SessionRow] = field(default_factory=list)
    commands: list[CommandRow] = field(default_factory=list)
    payments: list[PaymentRow] = field(default_factory=list)
    published: list[Publish] = field(default_factory=list)

    def __post_init__(self) -> None:
        component = {"type": "ENERGY", "price": self.eur_per_kwh, "step_size": 1}
        tariff = {"id": "T", "currency": "EUR", "elements": [{"price_components": [component]}]}
        place = Place(Succession([read(tariff)], "UTC"), "", "", "", "DEU", "", "0.00000", "0.00000")
        config = BillConfig(
            transactions=TransactionConfig(cost_ns=self.cost_s * NS_PER_S),
            plan=BillingPlan("DE", "CHS", default=place),
        )
        self._order = OrderStage(self.shard, OrderConfig(tuple(Config().topic_routes())))
        self._bill = BillStage(self.shard, config, MemoryArchive())
        self._control = ControlStage(self.shard, control_plan(Config()))

    def feed(self, frame: Frame) -> list[Publish]:
        """Take in a piece of the journal; return what is to be published for it."""
        before = len(self.published)
        for batch in self._order.process((self.shard, self.fed, frame)):
            for billed in self._bill.process(batch):
                for out in self._control.process(billed):
                    self.sessions += out.sessions
                    self.commands += out.commands
                    self.payments += out.reported.get("payments", [])
                    self.published += out.publishes
        self.fed += len(frame)
        return self.published[before:]


def fleet(start_ms: int, period_s: float) -> Fleet:
    node = NodeConfig("s1", (StationConfig("s1", 1),), sample_s=period_s, batch_s=period_s)
    return Fleet(
        FleetConfig(sites=(SiteConfig(site="depot", nodes=(node,)),), busy_at_start=1.0), 3, start_ms
    )


def about_to_charge() -> tuple[Fleet, list[Publish]]:
    """Return a fleet of now whose first session begins in a few seconds, and what it said before."""
    probe, seconds = fleet(T0, 1.0), 0
    while not probe.sessions.transaction(0):
        probe.advance(probe.now_ms)
        seconds += 1
    ahead = seconds - 3
    live = fleet(time.time_ns() // 1_000_000 - ahead * 1000, 1.0)
    said = [m for _ in range(ahead) for m in live.advance(live.now_ms)]
    live.start_ms = live.now_ms  # run_live counts from here
    return live, [Publish(topic=m.topic, payload=m.payload) for m in said]


def authorised(amount: str) -> bytes:
    word: dict[str, Any] = {"action": "authorize", "site": "depot", "station": "s1", "evse": 1}
    return json.dumps(
        word | {"authorization_reference": "b5f3", "amount": amount, "currency": "EUR"}
    ).encode()


@dataclass
class FastTime:
    """A fleet, a worker and what travels between them, a second at a time."""

    worker: Worker
    fleet: Fleet
    obeying: Obeying
    waiting: list[tuple[int, bytes, bytes, int]] = field(default_factory=list)

    def run(self, seconds: int, *, deaf_s: int = 0) -> None:
        """Let time go on; commands of the first `deaf_s` seconds are lost."""
        begin = self.fleet.now_ms
        while (now := self.fleet.now_ms) < begin + seconds * 1000:
            self.obeying.step(now)
            said = self.fleet.advance(now)
            messages = self.waiting + [(m.t_ms * NS_PER_MS, m.topic.encode(), m.payload, 0) for m in said]
            second = self.fleet.now_ms * NS_PER_MS
            self.waiting = []
            for message in self.worker.feed(Frame.build([*messages, (second, b"", b"", TICK_FLAG)])):
                if message.topic == COMMAND_TOPIC:
                    self.waiting.append((second, message.topic.encode(), message.payload, 0))
                elif message.topic.endswith("/dn/cmd") and now >= begin + deaf_s * 1000:
                    self.obeying.receive(message.topic, message.payload, now)


def fast(cost_s: int = 60, manners: Manners | None = None) -> FastTime:
    made = fleet(T0, 10.0)
    return FastTime(Worker(0.5, cost_s), made, Obeying(made, manners or Manners(), 1))


@pytest.mark.parametrize("cost_s", [60, 0])
def test_a_session_ends_before_its_money_does(cost_s: int) -> None:
    scene = fast(cost_s)
    scene.waiting = [(T0 * NS_PER_MS, TOPIC.encode(), authorised("3.00"), 0)]
    scene.run(3000)
    worker = scene.worker
    assert [(row.command, row.event, row.state) for row in worker.commands] == [
        ("RequestStopTransaction", "asked", "requested"),
        ("RequestStopTransaction", "send", "sent"),
        ("RequestStopTransaction", "accept", "accepted"),
    ]
    paid = worker.payments[-1]
    assert (paid.state, paid.problem) == ("billed", "")
    assert paid.cost is not None
    assert 2.0 < float(paid.cost) <= 3.0
    told = [p for p in worker.published if "/cost/" in p.topic and b"running" in p.payload]
    assert bool(told) == bool(cost_s)  # what is authorised is watched even where no cost is told
    ended = next(row for row in worker.sessions if row.transaction_id == paid.transaction_id and row.end_ms)
    assert ended.body["authorization_reference"] == "b5f3"


def test_it_is_asked_again_while_it_goes_on() -> None:
    scene = fast()
    scene.waiting = [(T0 * NS_PER_MS, TOPIC.encode(), authorised("0.20"), 0)]
    scene.run(3600, deaf_s=900)
    ends = [row.state for row in scene.worker.commands if row.event in ("accept", "expire", "give_up")]
    assert len(ends) >= 2
    assert ends[-1] == "accepted"
    assert "accepted" not in ends[:-1]
    assert scene.worker.payments[-1].state == "billed"


@pytest.mark.server
@pytest.mark.slow
def test_over_a_real_broker(tmp_path: Path) -> None:
    require("mosquitto")
    stop = threading.Event()
    live, said = about_to_charge()
    obeying = Obeying(live, Manners(), 1)
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        publisher = Publisher(mqtt_settings(config, "-test"))
        worker = Worker(100.0, 1, shard_of("depot", config.journal.shards))
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            assert not publisher.publish(said, 5.0)
            options, address = LiveOptions(per_node=False), Broker("127.0.0.1", broker.port)
            thread = threading.Thread(target=run_live, args=(live, address, options, stop, obeying))
            thread.start()
            try:
                waiting = [Publish(topic=TOPIC, payload=authorised("1.00"))]
                _work(worker, publisher, journal_file(config), waiting)
            finally:
                stop.set()
                thread.join(20)
                publisher.close()
    assert [row.state for row in worker.commands] == ["requested", "sent", "accepted"]
    [done] = [body for one in obeying.stations.values() for body in one.done]
    assert done[0] == worker.commands[0].cmd_id


def _work(worker: Worker, publisher: Publisher, path: Path, waiting: list[Publish]) -> None:
    """Play worker until the station has answered the request to stop."""
    until = time.monotonic() + 40
    with JournalReader(path, wait=True) as reader:
        while time.monotonic() < until:
            found = reader.read(worker.shard, worker.fed)
            if found is not None:
                made = worker.feed(found[1])
                waiting += [m for m in made if m.topic == COMMAND_TOPIC or m.topic.endswith("/dn/cmd")]
            try:
                if waiting and not publisher.publish(waiting, 2.0):
                    waiting.clear()
            except RetryLater:
                time.sleep(0.1)
            if worker.commands and worker.commands[-1].state == "accepted":
                return
            time.sleep(0.02)
    raise AssertionError(f"no answer: {[row.state for row in worker.commands]}, {worker.payments}")

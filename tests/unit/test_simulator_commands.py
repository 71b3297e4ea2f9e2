"""A simulated fleet takes commands: what it does shows in what it reports; over a real broker that dies."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
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
from models.command_states import ENDED
from models.command_types import CommandConfig
from models.errors import RetryLater
from models.outputs import Publish
from models.topics import shard_of
from pipeline.config import Config
from pipeline.control_plan import control_plan
from pipeline.ingest import journal_file, mqtt_settings
from tests.servers import require
from tests.servers.ingesting import ingesting, settings, wait_for

from .test_control import Bench

T0 = 1_781_071_200_000


def fleet(start_ms: int = T0, stations: int = 2) -> Fleet:
    nodes = tuple(
        NodeConfig(f"s{i}", (StationConfig(f"s{i}", 1),), sample_s=1.0, batch_s=2.0)
        for i in range(1, stations + 1)
    )
    config = FleetConfig(sites=(SiteConfig(site="depot", nodes=nodes),), busy_at_start=1.0)
    return Fleet(config, 3, start_ms)


class Told:
    """A fleet in fast time, with everything that its stations say."""

    def __init__(self, manners: Manners | None = None) -> None:
        self.fleet = fleet()
        self.obeying = Obeying(self.fleet, manners or Manners(), 1)
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.number = 0

    def command(self, action: str, **payload: Any) -> None:
        self.number += 1
        now = self.fleet.now_ms
        body: dict[str, Any] = {"cmdId": str(self.number), "st": "s1", "action": action, "payload": payload}
        body["expires"] = now + 60_000
        self.obeying.receive("evt/v1/depot/s1/dn/cmd", json.dumps(body).encode(), now)

    def run(self, seconds: float) -> None:
        until = self.fleet.now_ms + round(seconds * 1000)
        while self.fleet.now_ms < until:
            self.obeying.step(self.fleet.now_ms)
            for message in self.fleet.advance(self.fleet.now_ms):
                if "/s1/up/" in message.topic:
                    self.said.append((message.topic.rsplit("/", 1)[1], json.loads(message.payload)))

    def answers(self) -> list[str]:
        return [body["status"] for kind, body in self.said if kind == "cmdres"]

    def current_a(self) -> float:
        return float(self.fleet.plant.offered_a[0])


def test_a_limit_stops_and_starts_show_in_the_fleet() -> None:
    told = Told()
    told.run(400)
    assert told.current_a() > 10
    schedule = [{"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8}]}]
    told.command("SetChargingProfile", chargingProfile={"id": 1, "chargingSchedule": schedule})
    told.run(10)
    assert told.current_a() == 8
    told.command("ClearChargingProfile", chargingProfileId=1)
    told.run(10)
    assert told.current_a() > 10
    tx = told.fleet.sessions.transaction(0)
    told.command("RequestStopTransaction", transactionId=tx)
    told.run(10)
    assert told.fleet.sessions.transaction(0) == ""
    ended = [
        i for kind, body in told.said if kind == "tx" for i in body["items"] if i["eventType"] == "Ended"
    ]
    assert (ended[-1]["txId"], ended[-1]["stoppedReason"]) == (tx, "Remote")
    told.command("ChangeAvailability", operationalStatus="Inoperative")
    told.run(10)
    statuses = [i["status"] for kind, body in told.said if kind == "status" for i in body["items"]]
    assert statuses[-1] == "Unavailable"
    assert told.answers() == ["Accepted"] * 4


def test_a_reset_boots_and_an_update_brings_another_version() -> None:
    told = Told()
    told.run(400)
    told.command("Reset", type="OnIdle")
    told.run(60)
    assert told.answers() == ["Scheduled"]
    before = told.fleet.wire.boot[0]
    told.command("RequestStopTransaction", transactionId=told.fleet.sessions.transaction(0))
    told.run(120)
    assert told.fleet.wire.boot[0] == before + 1
    firmware = {"location": "https://x.example/fw-9.9.9.bin", "retrieveDateTime": "2026-06-10T00:00:00Z"}
    told.command("UpdateFirmware", requestId=4, firmware=firmware)
    told.run(600)
    births = [body for kind, body in told.said if kind == "conn" and body["online"]]
    assert (births[-1]["fw"], births[-1]["boot"]) == ("9.9.9", before + 2)
    assert [body["status"] for kind, body in told.said if kind == "fw"][-1] == "Installed"


def test_wrong_messages_and_bad_manners() -> None:
    told = Told(Manners(ignore=1.0))
    told.command("Reset", type="Immediate")
    for payload in (b"{", b"[]", b'{"st": "s1"}', b'{"st": "nobody"}'):
        told.obeying.receive("evt/v1/depot/s1/dn/cmd", payload, T0)
    told.run(30)
    assert told.answers() == []


@pytest.mark.server
@pytest.mark.slow
def test_commands_over_a_broker_that_is_killed_end_and_are_done_once(tmp_path: Path) -> None:
    require("mosquitto")
    stop, stations = threading.Event(), 4
    live = fleet(time.time_ns() // 1_000_000, stations)
    obeying = Obeying(live, Manners(twice=0.5), 1)
    control = dataclasses.replace(control_plan(Config()), commands=CommandConfig(answer_ms=1500, sends=10))
    with MosquittoBroker(persistence=True) as broker:
        config = settings(tmp_path / "journal", broker.port)
        publisher = Publisher(mqtt_settings(config, "-test"))
        shard = shard_of("depot", config.journal.shards)
        bench = Bench(shard, control)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            options = LiveOptions(per_node=False)
            address = Broker("127.0.0.1", broker.port)
            thread = threading.Thread(target=run_live, args=(live, address, options, stop, obeying))
            thread.start()
            try:
                _command(publisher, bench, journal_file(config), shard, broker, stations)
            finally:
                stop.set()
                thread.join(20)
                publisher.close()
    done = [cmd for one in obeying.stations.values() for cmd, _ in one.done]
    assert len(done) == len(set(done)) == 3 * stations
    last = {row.cmd_id: row.state for row in bench.rows}
    assert set(last) == set(done)
    assert set(last.values()) == {"accepted"}


def _command(
    publisher: Publisher, bench: Bench, path: Path, shard: int, broker: MosquittoBroker, stations: int
) -> None:
    """Ask for three commands a station, kill the broker amid them, and play worker until all have ended."""
    wishes = [(f"s{i}", n) for n in range(3) for i in range(1, stations + 1)]
    until = time.monotonic() + 40
    waiting: list[Publish] = []
    killed = False
    with JournalReader(path, wait=True) as reader:
        while time.monotonic() < until:
            _work(reader, bench, shard, waiting)
            # a station that was never heard of is refused at once
            if wishes and len({told["station"] for told in bench.told("station")}) == stations:
                station, number = wishes.pop(0)
                body: dict[str, Any] = {"id": f"{station}/{number}", "site": "depot", "station": station}
                body |= {"command": "TriggerMessage", "body": {"requestedMessage": "Heartbeat"}}
                payload = json.dumps(body | {"by": "x", "expires_s": 120}).encode()
                waiting.append(Publish(topic="evt/v1/_op/command", payload=payload))
            if len(wishes) == stations and not killed:
                killed = True
                broker.kill()
                broker.start()
            try:
                if waiting and not publisher.publish(waiting, 2.0):
                    waiting.clear()
            except RetryLater:
                time.sleep(0.1)
            states = {row.cmd_id: row.state for row in bench.rows}
            if len(states) == 3 * stations and set(states.values()) <= set(ENDED):
                return
            time.sleep(0.02)
    raise AssertionError(f"not all ended: {states}")


def _work(reader: JournalReader, bench: Bench, shard: int, waiting: list[Publish]) -> None:
    found = reader.read(shard, bench.fed)
    if found is None:
        return
    before = len(bench.published)
    bench.feed_frame(found[1])
    waiting += [message for message in bench.published[before:] if message.topic.endswith("/dn/cmd")]

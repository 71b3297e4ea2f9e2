"""The live publisher against a real broker: wills, retained births, PUBACK records, injection, reconnects."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from connectors.simulator import (
    Fleet,
    FleetConfig,
    NodeConfig,
    SiteConfig,
    StationConfig,
    TransportConfig,
    bench_fleet,
)
from connectors.simulator.live import INJECT_TOPIC, LiveOptions, publish_all, run_live
from connectors.simulator.publisher import Broker, Publisher
from models.errors import RetryLater
from tests.servers import free_port, require

pytestmark = pytest.mark.server


class Mosquitto:
    """A broker on a free port that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._binary = require("mosquitto")
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._binary, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    server = Mosquitto(tmp_path)
    server.start()
    yield server
    server.kill()


class Listener:
    """Subscribes to everything and keeps it; subscribes again after a reconnect."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, bytes, bool]] = []
        self.subscribed = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self.client.on_connect = lambda client, *_: client.subscribe("evt/v1/#", 1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = lambda _c, _d, m: self.got.append((m.topic, bytes(m.payload), m.retain))
        self.client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # seconds may have a fraction
        _until(lambda: self._connect(port), 5)
        self.client.loop_start()
        assert self.subscribed.wait(5)

    def _connect(self, port: int) -> bool:
        try:
            self.client.connect("127.0.0.1", port)
        except OSError:
            return False
        return True

    def json(self, ending: str) -> list[Any]:
        return [json.loads(payload) for topic, payload, _ in list(self.got) if topic.endswith(ending)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def _fleet(keep_alive_s: float = 60.0) -> Fleet:
    node = NodeConfig("A", (StationConfig("A", 2),), sample_s=0.2, batch_s=0.2, hb_s=5)
    behind = (StationConfig("G1"), StationConfig("G2"))
    gateway = NodeConfig("GW", behind, gateway=True, sample_s=0.2, batch_s=0.4, hb_s=5)
    transport = TransportConfig(20, 0, 0, 0, 0, 0, 0, keep_alive_s)
    config = FleetConfig((SiteConfig("S", (node, gateway)),), busy_at_start=1.0, transport=transport)
    return Fleet(config, 7, time.time_ns() // 1_000_000)


def _run(
    fleet: Fleet, port: int, options: LiveOptions
) -> tuple[threading.Thread, threading.Event, list[Any]]:
    stop, results = threading.Event(), []
    broker = Broker("127.0.0.1", port)
    thread = threading.Thread(target=lambda: results.append(run_live(fleet, broker, options, stop)))
    thread.start()
    return thread, stop, results


def test_every_acknowledged_message_is_on_record_and_was_delivered(broker: Mosquitto, tmp_path: Path) -> None:
    listener = Listener(broker.port)
    acked = tmp_path / "acked.tsv"
    thread, _, results = _run(_fleet(), broker.port, LiveOptions(duration_s=2, acked=acked))
    thread.join(20)
    (result,) = results
    assert result.unacknowledged == 0
    lines = [line.split("\t") for line in acked.read_text().splitlines()]
    assert len(lines) == result.acknowledged
    _until(lambda: len(listener.got) >= result.sent, 5)
    listener.close()
    delivered = {
        (topic, message["boot"], message.get("seq", -1))
        for topic, payload, _ in listener.got
        if (message := json.loads(payload))
    }
    numbered = [(topic, int(boot), int(seq)) for topic, boot, seq, _ in lines if int(seq) > 0]
    assert len(numbered) > 10
    assert set(numbered) <= delivered
    late = Listener(broker.port)
    _until(lambda: len(late.got) >= 2, 5)
    late.close()
    assert {topic for topic, _, retained in late.got if retained} == {
        "evt/v1/S/A/up/conn",
        "evt/v1/S/GW/up/conn",
    }
    assert all(birth["online"] for birth in late.json("conn")), "a clean end publishes no will"


def test_offline_is_a_real_lost_connection_and_the_broker_publishes_the_will(broker: Mosquitto) -> None:
    listener = Listener(broker.port)
    fleet = _fleet(keep_alive_s=0.4)
    thread, stop, _ = _run(fleet, broker.port, LiveOptions(duration_s=30))
    _until(lambda: len(listener.json("A/up/meter")) > 2, 10)
    listener.client.publish(
        INJECT_TOPIC, json.dumps({"code": "offline", "station": "A", "for_s": 1.2, "severity": "clear"})
    )
    _until(lambda: any(not m["online"] for m in listener.json("A/up/conn")), 10)
    _until(lambda: len(listener.json("A/up/conn")) >= 3, 10)
    _until(lambda: _complete(listener), 10)
    stop.set()
    thread.join(20)
    listener.close()
    birth, will, again = listener.json("A/up/conn")[:3]
    assert (will["boot"], will["cid"]) == (birth["boot"], birth["cid"])
    assert again["cid"] == birth["cid"] + 1
    assert all(m["online"] for m in listener.json("GW/up/conn"))
    assert [truth.code for truth in fleet.truth] == ["offline"]


def _complete(listener: Listener) -> bool:
    after = [m["seq"] for kind in ("meter", "status", "tx") for m in listener.json(f"A/up/{kind}")]
    return sorted(after) == list(range(1, len(after) + 1)) and len(listener.json("A/up/conn")) >= 3


def test_a_wrong_injection_is_refused_and_the_fleet_goes_on(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener(broker.port)
    fleet = _fleet()
    thread, stop, _ = _run(fleet, broker.port, LiveOptions(duration_s=20))
    _until(lambda: len(listener.json("A/up/meter")) > 0, 10)
    for payload in ("nonsense", '{"code": "flood", "station": "A"}'):
        listener.client.publish(INJECT_TOPIC, payload)
    _until(lambda: caplog.text.count("injection refused") == 2, 10)
    before = len(listener.json("A/up/meter"))
    _until(lambda: len(listener.json("A/up/meter")) > before, 10)
    stop.set()
    thread.join(20)
    listener.close()
    assert "no fault 'flood'" in caplog.text
    assert fleet.truth == []


@pytest.mark.parametrize("per_node", [True, False])
def test_a_killed_broker_costs_nothing(broker: Mosquitto, tmp_path: Path, per_node: bool) -> None:
    acked = tmp_path / "acked.tsv"
    fleet = _fleet()
    first_cid = fleet.wire.cid[0]
    thread, stop, results = _run(
        fleet, broker.port, LiveOptions(duration_s=60, acked=acked, per_node=per_node)
    )
    _until(lambda: acked.exists() and len(acked.read_text().splitlines()) > 10, 10)
    broker.kill()
    time.sleep(0.3)
    broker.start()
    listener = Listener(broker.port)
    _until(lambda: len(listener.json("A/up/meter")) > 3, 15)
    _until(lambda: len(listener.json("up/conn")) >= 2, 10)
    stop.set()
    thread.join(20)
    listener.close()
    (result,) = results
    assert result.unacknowledged == 0
    numbers: dict[str, set[int]] = {}
    for line in acked.read_text().splitlines():
        topic, _, seq, _ = line.split("\t")
        if int(seq) > 0:
            numbers.setdefault(topic.split("/")[3], set()).add(int(seq))
    for seen in numbers.values():
        assert seen == set(range(1, len(seen) + 1)), "what the broker did not acknowledge was sent again"
    again = [birth for birth in listener.json("A/up/conn") if birth["online"]]
    assert again[-1]["cid"] == fleet.wire.cid[0] > first_cid


def test_ready_messages_go_out_at_the_rate_asked_for(broker: Mosquitto) -> None:
    start_ms = time.time_ns() // 1_000_000
    fleet = Fleet(bench_fleet(20, rows=1), 1, start_ms)
    messages = [m for m in fleet.advance(start_ms + 20_000) if m.seq > 0]
    result = publish_all(messages[:300], Broker("127.0.0.1", broker.port), rate=300)
    assert (result.sent, result.acknowledged) == (300, 300)
    assert 0.9 < result.wall_s < 3


def test_no_broker_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.simulator.publisher._PATIENCE_S", 0.2)
    fleet = _fleet()
    with pytest.raises(RetryLater, match=r"no MQTT broker answers at 127\.0\.0\.1:1; start one"):
        run_live(fleet, Broker("127.0.0.1", 1), LiveOptions(per_node=False))


def test_the_password_never_shows() -> None:
    assert "secret" not in repr(Broker("h", 1, "u", "secret"))


def test_nothing_counts_as_acknowledged_before_its_puback(tmp_path: Path) -> None:
    """A broker that takes connections and messages but never answers a publish."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"\x20\x02\x00\x00")
                while peer.recv(65536):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        acked = tmp_path / "acked.tsv"
        broker = Broker("127.0.0.1", server.getsockname()[1])
        publisher = Publisher(broker, [], per_node=False, acked=acked)
        start_ms = 1_781_071_200_000
        messages = Fleet(bench_fleet(5), 1, start_ms).advance(start_ms + 70_000)
        for message in messages:
            publisher.send(message)
        publisher.close(0.2)
        thread.join(5)
    assert publisher.sent == len(messages)
    assert (publisher.acknowledged, acked.read_bytes()) == (0, b"")
    assert publisher.unacknowledged > 10

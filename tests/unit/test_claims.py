"""What may leave once leaves once: whoever is killed, whatever breaks, and also when it comes again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from connectors.broker import MosquittoBroker
from connectors.claims import KEPT_MS, Claims
from connectors.mqtt import Publisher, Refusal
from connectors.mqtt_settings import MqttSettings
from models.errors import RetryLater
from models.outputs import Publish
from models.units import NS_PER_MS
from pipeline.egress_sinks import MqttSink, Record
from tests.servers import require
from tests.servers.fake_broker import CONNACK_5, FakeBroker

from ._egress_tools import cursor, put, until

T0 = 1_780_000_000_000


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hear what is merely told."""
    with caplog.at_level(logging.INFO, "chargestream"):
        yield


def reset(key: str = "c1", until_ms: int = T0 + 60_000) -> Publish:
    return Publish(topic="ocpp/CP1/out", payload=key.encode(), until_ms=until_ms, once=key)


def test_a_claim_is_given_once_and_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    with Claims(path) as claims:
        assert claims.take({"a": T0, "b": T0}, T0) == {"a", "b"}
        assert claims.take({"a": T0, "c": T0}, T0) == {"c"}
        claims.release(["b"])
    with Claims(path) as claims:
        assert claims.take({"a": T0, "b": T0, "c": T0}, T0 + KEPT_MS) == {"b"}
    with Claims(path) as claims:  # what is long over is swept
        assert claims.take({"a": T0 + 2 * KEPT_MS}, T0 + KEPT_MS + 1) == {"a"}


class Broker:
    """A publisher that keeps what it is handed."""

    def __init__(self, refuses: str = "", up: bool = True) -> None:
        self.refuses, self.up = refuses, up
        self.sent: list[str] = []

    def connect(self) -> None:
        if not self.up:
            raise RetryLater("no broker")

    def publish(self, batch: Sequence[Publish]) -> list[Refusal]:
        self.connect()
        taken = [m.payload.decode() for m in batch]
        self.sent += [text for text in taken if text != self.refuses]
        return [Refusal(i, "not authorized") for i, text in enumerate(taken) if text == self.refuses]

    def close(self) -> None:
        """Nothing."""


def sink(tmp_path: Path, broker: Broker, now_ms: int = T0) -> MqttSink:
    return MqttSink(broker, tmp_path / "claims.db", lambda: now_ms * NS_PER_MS)


def record(*messages: Publish, seq: int = 1) -> Record:
    return Record(seq, 0, msgspec.msgpack.encode(messages))


def test_what_may_leave_once_leaves_once_and_the_rest_again(tmp_path: Path) -> None:
    broker = Broker()
    free = Publish(topic="t", payload=b"free")
    for _ in range(2):  # a worker that starts again puts its last messages into the outbox again
        one = sink(tmp_path, broker)
        assert one.deliver("publish", [record(free, reset(), reset("c2"), reset())]) == []
        one.close()
    assert broker.sent == ["free", "c1", "c2", "free"]


def test_without_a_connection_nothing_is_claimed(tmp_path: Path) -> None:
    broker = Broker(up=False)
    one = sink(tmp_path, broker)
    with pytest.raises(RetryLater):
        one.deliver("publish", [record(reset())])
    broker.up = True
    assert one.deliver("publish", [record(reset())]) == []
    assert broker.sent == ["c1"]


def test_what_the_broker_refused_may_be_delivered_from_the_dead_letter(tmp_path: Path) -> None:
    broker = Broker(refuses="c1")
    one = sink(tmp_path, broker)
    (letter,) = one.deliver("publish", [record(reset(), reset("c2"))])
    assert letter.reason == "not authorized"
    broker.refuses = ""
    assert one.deliver("publish", [Record(9, 0, letter.blob)]) == []
    assert broker.sent == ["c2", "c1"]


def test_what_has_expired_is_not_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    native = Publish(topic="evt/v1/a/s1/dn/cmd", payload=b"native", until_ms=T0 + 1)
    sink(tmp_path, broker).deliver("publish", [record(native, reset())])
    sink(tmp_path, broker, T0 + 60_000).deliver("publish", [record(native, reset("c2"))])
    assert broker.sent == ["native", "c1"]
    assert "2 messages had expired before the broker could be told" in caplog.text
    assert "evt/v1/a/s1/dn/cmd" in caplog.text


def test_a_connection_that_breaks_is_not_asked_a_second_time(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeBroker(CONNACK_5)  # takes the message and never says so
    publisher = Publisher(MqttSettings("127.0.0.1", fake.port, "out"))
    assert publisher.publish([reset()], 0.3) == []
    with pytest.raises(RetryLater, match="1 of 2 messages unacknowledged"):
        publisher.publish([reset("c2"), Publish(topic="t", payload=b"free")], 0.3)
    publisher.close()
    fake.close()
    assert bytes(fake.heard).count(b"CP1/out") == 2
    assert "nobody knows whether 1 commands arrived, and they are not sent again: c1" in caplog.text


_KILLED = """
import os, signal, sys
from connectors import claims, outbox
from pipeline.egress_sinks import MqttSink
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
where = sys.argv[1]
if where == "acknowledged":
    kept = outbox.OutboxCursors.set
    outbox.OutboxCursors.set = lambda self, name, *rest: die() if name == "mqtt" else kept(self, name, *rest)
elif where == "claimed":
    kept = claims.Claims.take
    claims.Claims.take = lambda self, *rest: (kept(self, *rest), die())
from pipeline.cli import main
sys.exit(main(["egress"]))
"""


class Naive:
    """A station that does whatever it is told, as often as it is told."""

    def __init__(self, port: int) -> None:
        self.done: list[str] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._do
        self._client.on_connect = lambda client, *_: client.subscribe("ocpp/+/out", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the station")
        time.sleep(0.1)

    def _do(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.done.append(message.payload.decode())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.server
@pytest.mark.parametrize(
    ("where", "done"),
    [
        ("acknowledged", ["limit", "reset", "limit"]),  # the broker had both, and nobody had noted it
        ("claimed", ["limit"]),  # the reset may have gone: it does not go again
    ],
)
def test_killed_between_broker_and_cursor_nothing_harmful_goes_twice(
    tmp_path: Path, where: str, done: list[str]
) -> None:
    require("mosquitto")
    end_ms = time.time_ns() // NS_PER_MS + 600_000
    limit = Publish(topic="ocpp/CP1/out", payload=b"limit", until_ms=end_ms)
    put(tmp_path, [("publish", 0, msgspec.msgpack.encode([limit, reset("reset", end_ms)]))])
    with MosquittoBroker() as broker:
        station = Naive(broker.port)
        environment = os.environ | {
            "CHARGESTREAM_SERVICE__DATA_DIR": str(tmp_path),
            "CHARGESTREAM_MQTT__PORT": str(broker.port),
        }
        command = [sys.executable, "-P", "-c", _KILLED]
        killed = subprocess.run([*command, where], env=environment, stderr=subprocess.PIPE, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert cursor(tmp_path, "mqtt", "publish") == 0
        with subprocess.Popen(
            [*command, "nowhere"], env=environment, stderr=subprocess.PIPE, text=True
        ) as again:
            until(lambda: cursor(tmp_path, "mqtt", "publish") == 1, "everything delivered")
            again.send_signal(signal.SIGTERM)
            _, said = again.communicate(timeout=20)
        time.sleep(0.2)
        station.close()
    assert station.done == done
    assert "1 commands have gone to the broker before, or may have, and are not sent again: reset" in said

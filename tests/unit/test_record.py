"""``chargestream record`` against a real broker, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from connectors.broker import MosquittoBroker
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from connectors.msglog import read_frames
from models.outputs import Publish
from models.secret import Secret
from tests.servers import free_port, require

pytestmark = pytest.mark.server


@pytest.fixture
def broker() -> Iterator[MosquittoBroker]:
    require("mosquitto")
    with MosquittoBroker(users={"ev": "pw-hunter2"}) as running:
        yield running


class Record:
    """A running ``chargestream record``."""

    def __init__(
        self, broker_port: int, out: Path, *options: str, version: str = "5", password: str = "pw-hunter2"
    ) -> None:
        env = os.environ | {
            "CHARGESTREAM_MQTT__PORT": str(broker_port),
            "CHARGESTREAM_MQTT__PROTOCOL_VERSION": version,
            "CHARGESTREAM_MQTT__USERNAME": "ev",
            "CHARGESTREAM_MQTT__PASSWORD": "env:BROKER_PW",
            "CHARGESTREAM_MQTT__RECONNECT_MIN_S": "0.1",
            "BROKER_PW": password,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "record", "--out", str(out), *options],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


def publish_until_heard(broker: MosquittoBroker, out: Path) -> None:
    """Publish probes until the recorder's log grows: it is subscribed then."""
    publisher = Publisher(settings(broker))
    deadline = time.monotonic() + 15
    while not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
        publisher.publish([Publish(topic="evt/v1/S/N/up/probe", payload=b"probe")])
        time.sleep(0.1)
    publisher.close()


def settings(broker: MosquittoBroker) -> MqttSettings:
    return MqttSettings("127.0.0.1", broker.port, "test-pub", username="ev", password=Secret("pw-hunter2"))


@pytest.mark.parametrize(("version", "number"), [("5", signal.SIGTERM), ("3.1.1", signal.SIGINT)])
def test_records_what_routes_read_until_a_signal(
    broker: MosquittoBroker, tmp_path: Path, version: Literal["5", "3.1.1"], number: signal.Signals
) -> None:
    out = tmp_path / "log.jsonl"
    publisher = Publisher(settings(broker))
    publisher.publish([Publish(topic="evt/v1/S/N/up/conn", payload=b'{"old":1}', retain=True)])
    recording = Record(broker.port, out, version=version)
    publish_until_heard(broker, out)
    payloads = [json.dumps({"i": i}).encode() for i in range(300)] + [b"\xff", b"x" * 5_000_000]
    before = time.time_ns()
    publisher.publish([Publish(topic="evt/v1/S/N/up/meter", payload=p) for p in payloads])
    publisher.publish(
        [Publish(topic="evt/v1/_op/a/b", payload=b"once"), Publish(topic="other/x", payload=b"no")]
    )
    time.sleep(0.5)
    recording.process.send_signal(number)
    code, said, err = recording.end()
    publisher.close()
    found = [
        (frame.topic(i), frame.payload(i), int(frame.recv_ns[i]), int(frame.flags[i]))
        for frame in read_frames(out)
        for i in range(len(frame))
        if frame.payload(i) != b"probe"
    ]
    assert (code, err.splitlines()[0]) == (
        0,
        f"recording evt/v1/_op/#, evt/v1/+/+/up/#, evt/v1/_ctl/# from 127.0.0.1:{broker.port} to {out}",
    )
    assert [p for t, p, _, _ in found if t == b"evt/v1/S/N/up/meter"] == payloads
    assert [p for t, p, _, _ in found if t != b"evt/v1/S/N/up/meter"] == [b"once"]
    assert all(before - 1_000_000 <= t <= time.time_ns() and not flags for _, _, t, flags in found)
    assert said.startswith(f"{sum(len(f) for f in read_frames(out))} messages recorded in {out}")
    assert ("1 retained left out" in said) == (version == "3.1.1")  # MQTT 5 does not even send them


def test_retained_messages_are_marked(broker: MosquittoBroker, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl.gz"
    publisher = Publisher(settings(broker))
    publisher.publish([Publish(topic="a/b", payload=b'{"old":1}', retain=True)])
    publisher.close()
    code, said, _ = Record(broker.port, out, "--filter", "a/#", "--for", "500ms", "--include-retained").end()
    (frame,) = read_frames(out)
    assert (code, frame.payload(0), frame.flags.tolist()) == (0, b'{"old":1}', [1])
    assert said == f"1 messages recorded in {out}\n"


def test_a_lost_connection_is_told_and_recording_goes_on(broker: MosquittoBroker, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    recording = Record(broker.port, out)
    publish_until_heard(broker, out)
    broker.kill()
    broker.start()
    size, deadline = out.stat().st_size, time.monotonic() + 15
    publisher = Publisher(settings(broker))
    while out.stat().st_size == size and time.monotonic() < deadline:
        publisher.publish([Publish(topic="evt/v1/S/N/up/probe", payload=b"probe")])
        time.sleep(0.1)
    publisher.close()
    recording.process.terminate()
    code, said, err = recording.end()
    assert code == 0
    assert "connection lost: closed the connection" in err
    assert said.endswith("connection lost 1 times: the log has gaps\n")
    assert out.stat().st_size > size


def test_nobody_there_and_wrong_password(broker: MosquittoBroker, tmp_path: Path) -> None:
    port = free_port()
    code, _, err = Record(port, tmp_path / "a.jsonl").end()
    assert code == 69
    assert f"MQTT broker 127.0.0.1:{port} cannot be reached: " in err
    code, _, err = Record(broker.port, tmp_path / "b.jsonl", password="wrong-hunter3").end()
    assert code == 69
    assert "refused the login of client 'chargestream-record-" in err
    assert "check mqtt.username" in err
    assert "hunter" not in err
    code, _, err = Record(broker.port, tmp_path / "no" / "b.jsonl").end()
    assert code == 74
    assert "b.jsonl cannot be written: No such file or directory" in err


def test_a_full_disk_ends_the_recording_with_a_clear_word(broker: MosquittoBroker) -> None:
    recording = Record(broker.port, Path("/dev/full"))
    publisher = Publisher(settings(broker))
    deadline = time.monotonic() + 15
    while recording.process.poll() is None and time.monotonic() < deadline:
        publisher.publish([Publish(topic="evt/v1/S/N/up/probe", payload=b"probe")])
        time.sleep(0.1)
    publisher.close()
    code, _, err = recording.end()
    assert code == 74
    assert "storage: message log /dev/full cannot be written: No space left on device" in err
    assert "Traceback" not in err

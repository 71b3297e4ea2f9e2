"""How fast a backlog of QoS 1 messages gets from the broker into the journal, against mosquitto_sub.

Every contender drains the same backlog from its own persistent session of one mosquitto
(``max_queued_messages 0``, no in-flight limit of the broker's), one after the other. mosquitto_sub only
acknowledges; ingest has each message on disk first. Time counts from the connection to the last message
(mosquitto_sub: from process start, about 10 ms more).
"""

from __future__ import annotations

import multiprocessing
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from connectors import mqtt_wire as wire
from connectors.broker import MosquittoBroker
from connectors.cursors import Cursors, cursors_path
from connectors.journal import JournalWriter
from connectors.mqtt_settings import MqttSettings
from models.secret import Secret

from . import config_sections as sections
from .config import Config
from .ingest import Ingest, journal_file, mqtt_settings

#: name, client, receiver processes, MQTT version
CONTENDERS: Final = (
    ("mosquitto_sub", "", 0, ""),
    ("paho x1 MQTT 5", "paho", 1, "5"),
    ("paho x2 MQTT 5", "paho", 2, "5"),
    ("lean x1 MQTT 5", "lean", 1, "5"),
    ("lean x1 MQTT 3.1.1", "lean", 1, "3.1.1"),
    ("lean x2 MQTT 5", "lean", 2, "5"),
)
_SITES = 50
_TIMEOUT_S = 300.0


def config_for(
    folder: Path, port: int, name: str, client: str, receivers: int, version: str, window: int
) -> Config:
    """Return the configuration of one contender."""
    return Config(
        service=sections.ServiceSection(data_dir=str(folder), instance=name),
        mqtt=sections.MqttSection.model_validate(
            {
                "port": port,
                "client": client,
                "receivers": receivers,
                "share_group": Secret(name if receivers > 1 else ""),
                "protocol_version": version,
                "receive_maximum": window,
            }
        ),
        journal=sections.JournalSection(min_free_mib=64),
    )


def open_session(settings: MqttSettings) -> None:
    """Make the broker keep a session for these subscriptions."""
    with socket.create_connection((settings.host, settings.port)) as sock:
        sock.sendall(wire.connect(settings) + wire.subscribe(settings, 1))
        time.sleep(0.1)
        sock.recv(65536)
        sock.sendall(wire.DISCONNECT_PACKET)


def publish(port: int, count: int, size: int) -> float:
    """Publish the backlog at QoS 1 over MQTT 3.1.1 without waiting, and return the seconds it took."""
    settings = MqttSettings("127.0.0.1", port, "backlog", version="3.1.1")
    payload = bytes(i % 251 for i in range(size))
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(wire.connect(settings))
        sock.recv(4)
        reader = threading.Thread(target=_read_exactly, args=(sock, 4 * count))
        reader.start()
        for start in range(0, count, 1000):
            sock.sendall(b"".join(_publish(i, payload) for i in range(start, min(start + 1000, count))))
        reader.join(_TIMEOUT_S)
    return time.perf_counter() - started


def _publish(i: int, payload: bytes) -> bytes:
    topic = f"evt/v1/site{i % _SITES}/node{i % 997}/up/meter".encode()
    body = len(topic).to_bytes(2, "big") + topic + (i % 65_535 + 1).to_bytes(2, "big") + payload
    return b"\x32" + wire.varint(len(body)) + body


def _read_exactly(sock: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(sock.recv(min(count, 65536)))


def drain_ingest(config: Config, count: int) -> dict[str, Any]:
    """Run ingest in a process of its own until `count` messages are journaled."""
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[dict[str, Any]] = context.Queue()
    process = context.Process(target=_ingest, args=(config, count, answers))
    process.start()
    answer = answers.get(timeout=_TIMEOUT_S)
    process.join()
    return answer


def _ingest(config: Config, count: int, answers: multiprocessing.Queue[dict[str, Any]]) -> None:
    path = journal_file(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with (
        JournalWriter(path, config.journal.shards, control=True) as writer,
        Cursors(cursors_path(path)) as cursors,
    ):
        ingest = Ingest(config, writer, cursors, stop)
        thread = threading.Thread(target=ingest.run)
        thread.start()
        while not any(source.status().connected for source in ingest.sources):
            time.sleep(0.001)
        started, cpu = time.perf_counter(), time.process_time()
        while ingest.counters.messages < count and time.perf_counter() - started < _TIMEOUT_S:
            time.sleep(0.005)
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        stop.set()
        thread.join()
        status = ingest.status()
    answers.put(
        {
            "seconds": round(taken, 3),
            "cpu_s": round(cpu, 3),
            "messages": ingest.counters.messages,
            "acked": status["acked"],
            "commits": ingest.counters.commits,
        }
    )


def drain_sub(port: int, count: int) -> dict[str, Any]:
    """Let mosquitto_sub drain its session."""
    command = ["mosquitto_sub", "-p", str(port), "-i", "sub", "-c", "-q", "1", "-t", "evt/v1/+/+/#"]
    started = time.perf_counter()
    subprocess.run([*command, "-C", str(count)], stdout=subprocess.DEVNULL, check=True, timeout=_TIMEOUT_S)
    return {"seconds": round(time.perf_counter() - started, 3), "messages": count}


def drain(messages: int, size: int, receive_maximum: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Let every contender drain a backlog of its own, one after the other, and return their figures."""
    out: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as scratch, MosquittoBroker() as broker:
        sub = MqttSettings("127.0.0.1", broker.port, "sub", version="3.1.1", filters=("evt/v1/+/+/#",))
        for name, client, receivers, version in CONTENDERS:
            config = None
            if receivers:
                slug = name.replace(" ", "-")
                config = config_for(
                    Path(scratch, slug), broker.port, slug, client, receivers, version, receive_maximum
                )
                for i in range(receivers):
                    open_session(mqtt_settings(config, f"-{i}" if receivers > 1 else ""))
            else:
                open_session(sub)
            published_s = publish(broker.port, messages, size)
            answer = drain_ingest(config, messages) if config else drain_sub(broker.port, messages)
            rate = round(answer["messages"] / answer["seconds"])
            say(f"{name}: {rate:,} messages a second")
            out.append({"contender": name, "per_s": rate, **answer, "published_s": round(published_s, 2)})
            broker.restart()  # no contender pays for the sessions of those before it
    best = next(row["per_s"] for row in out if row["contender"] == "mosquitto_sub")
    return [row | {"share": round(row["per_s"] / best, 2)} for row in out]

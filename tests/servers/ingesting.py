"""Ingest under test: as a thread, as a process, and what it left in the journal."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from connectors.cursors import Cursors, cursors_path
from connectors.journal import JournalReader, JournalWriter
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from models.frame import TICK_FLAG
from models.outputs import Publish
from pipeline import config_sections as sections
from pipeline.config import Config
from pipeline.ingest import Ingest, journal_file

CLIENTS = [("paho", "5"), ("paho", "3.1.1"), ("lean", "5"), ("lean", "3.1.1")]
MAIN = [sys.executable, "-c", "from pipeline.cli import main; raise SystemExit(main())"]


class Message(NamedTuple):
    """One journaled message."""

    topic: str
    payload: bytes
    flags: int
    recv_ns: int
    shard: int


def settings(folder: Path, port: int, journal: dict[str, Any] | None = None, **mqtt: Any) -> Config:
    """Return a configuration with quick reconnections."""
    quick = {"reconnect_min_s": 0.1, "reconnect_max_s": 0.5, "connect_timeout_s": 3.0}
    return Config(
        service=sections.ServiceSection(data_dir=str(folder)),
        mqtt=sections.MqttSection(port=port, **(quick | mqtt)),
        journal=sections.JournalSection(min_free_mib=1, shards=4, **(journal or {})),
    )


def write_config(config: Config, path: Path) -> Path:
    """Write the sections that matter to ingest as TOML."""
    table = {
        "service": {"data_dir": config.service.data_dir, "log_level": "info"},
        "mqtt": config.mqtt.model_dump(exclude={"password"}, exclude_defaults=True),
        "journal": config.journal.model_dump(exclude_defaults=True),
    }
    path.write_text(tomli_w.dumps(table))
    return path


@contextmanager
def ingesting(config: Config, max_bytes: int = 0) -> Iterator[Ingest]:
    """Run ingest in a thread; stops it in order, and raises what it raised."""
    path = journal_file(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    failed: list[BaseException] = []
    with (
        JournalWriter(
            path, config.journal.shards, control=True, max_bytes=max_bytes, reserve_bytes=0
        ) as writer,
        Cursors(cursors_path(path)) as cursors,
    ):
        ingest = Ingest(config, writer, cursors, stop)

        def run() -> None:
            try:
                ingest.run()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield ingest
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
    if failed:
        raise failed[0]


@contextmanager
def ingest_process(config: Config, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``chargestream ingest`` as a process; what it logs goes to ``ingest.log`` in `folder`."""
    file = write_config(config, folder / "ingest.toml")
    with (folder / "ingest.log").open("a") as log:
        process = subprocess.Popen([*MAIN, "ingest", "--config", str(file)], stderr=log, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(15)


def journaled(config: Config) -> list[Message]:
    """Return the journaled messages without ticks, by shard and offset."""
    found = []
    path = journal_file(config)
    if not path.exists():
        return []
    with JournalReader(path, wait=True) as reader:
        for shard, end in reader.ends().items():
            offset = reader.first(shard)
            while offset < end:
                run = reader.read(shard, offset)
                assert run is not None
                _, frame = run
                offset += len(frame)
                found += [
                    Message(
                        frame.topic(i).decode(errors="replace"),
                        frame.payload(i),
                        int(frame.flags[i]),
                        int(frame.recv_ns[i]),
                        shard,
                    )
                    for i in range(len(frame))
                    if not frame.flags[i] & TICK_FLAG
                ]
    return found


def wait_for(check: Callable[[], Any], what: str, timeout_s: float = 15.0) -> None:
    """Wait until `check` is true, or fail with `what`."""
    deadline = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > deadline:
            pytest.fail(f"after {timeout_s:g} s still not: {what}")
        time.sleep(0.01)


def send(port: int, messages: list[tuple[str, bytes]], retain: bool = False, **more: Any) -> None:
    """Publish at QoS 1 and wait for every acknowledgement."""
    publisher = Publisher(MqttSettings("127.0.0.1", port, "test-sender", **more))
    try:
        refused = publisher.publish([Publish(topic=t, payload=p, retain=retain) for t, p in messages])
        assert refused == []
    finally:
        publisher.close()


def meter(first: int, stop: int) -> list[tuple[str, bytes]]:
    """Return numbered messages of several sites."""
    return [(f"evt/v1/site{i % 5}/node{i % 11}/up/meter", b"%d" % i) for i in range(first, stop)]


@contextmanager
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let caplog hear our loggers also after something set them up for a process."""
    root = logging.getLogger("chargestream")
    before = root.propagate
    root.propagate = True
    try:
        with caplog.at_level(logging.INFO, "chargestream"):
            yield
    finally:
        root.propagate = before

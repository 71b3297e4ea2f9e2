"""``chargestream api`` as a process: what it says, its exit codes, and that it ends when told to."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.seeded import Fleet, seed
from tests.servers.web import process, write_config


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=5))
    yield write_config(tmp_path, tmp_path / "data", 0)
    made.ledger.close()


def test_a_port_in_use_is_a_mistake_of_configuration(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        log = tmp_path / "log"
        with process(write_config(tmp_path, tmp_path, port), log) as running:
            assert running.wait(30) == 2
    assert log.read_text() == (
        "chargestream: configuration: api.host and api.port: cannot listen on 127.0.0.1 port "
        f"{port}: Address already in use; another program listens there: stop it, or choose another api.port "
        "(0: any free one)\n"
    )


def test_an_address_that_is_not_ours_is_a_mistake_of_configuration(tmp_path: Path) -> None:
    config = write_config(tmp_path, tmp_path, 0)
    config.write_text(config.read_text().replace("127.0.0.1", "192.0.2.1"))
    log = tmp_path / "log"
    with process(config, log) as running:
        assert running.wait(30) == 2
    assert "cannot listen on 192.0.2.1 port 0: Cannot assign requested address\n" in log.read_text()


@contextmanager
def pollers(url: str) -> Iterator[list[int]]:
    """Ask for `url` again and again from three threads; yield the sizes of the answers."""
    stop = threading.Event()
    answers: list[int] = []

    def poll() -> None:
        while not stop.is_set():
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    answers.append(len(answer.read()))
            except OSError:
                time.sleep(0.01)

    threads = [threading.Thread(target=poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_while_somebody_looks(config: Path, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    with process(config, log) as running:
        address = _address(log)
        host, port = re.findall(r"//(.+):(\d+)/", address)[0]
        with pollers(f"{address}live") as answers, socket.create_connection((host, int(port))) as idle:
            # a browser keeps its connection open
            idle.sendall(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            running.send_signal(number)
            assert running.wait(10) == 0
            assert time.monotonic() - began < 5
    assert answers
    assert "Traceback" not in log.read_text()
    assert log.read_text().rstrip().endswith("api: stopped")


def _address(log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = re.search(r"INFO api: page at (http://\S+/)\n", log.read_text())
        if found:
            with urllib.request.urlopen(f"{found[1]}health", timeout=10):
                return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text())

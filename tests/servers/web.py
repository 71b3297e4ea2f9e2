"""The web application as a real server: in a thread of the test, or as the process that it is in service."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import tomli_w
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from connectors.api.app import create_app
from connectors.api.settings import ApiSettings
from connectors.mqtt_settings import MqttSettings

COMMAND: Final = [sys.executable, "-c", "from pipeline.cli import main; raise SystemExit(main())"]
_START_S: Final = 30.0

Get = Callable[..., httpx.Response]


def client(url: str, folder: Path) -> Get:
    """Return a function that asks the application, each time in an event loop of its own."""
    app = create_app(url, folder, "depot")

    async def ask(path: str, parameters: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as http:
            return await http.get(path, params=parameters or None)

    def get(path: str, **parameters: Any) -> httpx.Response:
        answer: Awaitable[httpx.Response] = ask(path, parameters)
        return asyncio.run(answer)  # type: ignore[arg-type]  # a coroutine, which Awaitable is wider than

    return get


def metrics(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample: (name, label value, ...) -> value."""
    return {
        (
            sample.name.removeprefix("chargestream_"),
            *(v for _, v in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def served(
    ledger_url: str,
    data_dir: Path,
    instance: str = "chargestream",
    broker: MqttSettings | None = None,
    settings: ApiSettings | None = None,
) -> Iterator[str]:
    """Serve from a thread and yield the address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = create_app(ledger_url, data_dir, instance, broker, settings or ApiSettings())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="web")
        thread.start()
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
            _await(address)
            yield address
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


def _await(address: str) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def write_config(folder: Path, data_dir: Path, port: int, instance: str = "chargestream") -> Path:
    """Write a configuration for the page alone and return its path."""
    path = folder / "page.toml"
    settings = {
        "service": {"data_dir": str(data_dir), "instance": instance},
        "api": {"host": "127.0.0.1", "port": port},
    }
    path.write_text(tomli_w.dumps(settings), encoding="utf-8")
    return path


@contextmanager
def process(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``chargestream api`` and yield its process; kill it at the end if it still runs."""
    with log.open("wb") as out:
        running = subprocess.Popen([*COMMAND, "api", "--config", str(config)], stdout=out, stderr=out)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


def await_start(running: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the process answers at `address`."""
    deadline = time.monotonic() + _START_S
    while True:
        assert running.poll() is None, f"ended with {running.returncode}"
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, "does not answer"
            time.sleep(0.05)

"""The whole service as processes: ``chargestream run`` with mosquitto and, if wanted, influxd and nginx."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import tomli_w

from connectors.broker import MosquittoBroker
from connectors.influx_server import InfluxServer
from connectors.ledger_reader import LedgerReader
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from connectors.status import read_status
from models.errors import ChargestreamError
from models.outputs import Publish
from pipeline import config as configuration

from . import free_port, require
from .ingesting import wait_for

START_S = 160.0
_PATIENCE_S = 30.0
_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = (sys.executable, "-P", "-m", "pipeline")


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(_ROOT)}


class Service:
    """A running service.

    Parameters
    ----------
    folder : Path
        Of configuration, log and (unless ``service.data_dir`` says otherwise) data.
    settings : dict
        Sections of the configuration that differ from a quick default.
    influx : InfluxServer, optional
        Started by whoever made it.
    token : str
        What is in the token file at first; empty: the right one.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, dict[str, Any]] | None = None,
        influx: InfluxServer | None = None,
        token: str = "",
    ) -> None:
        require("mosquitto")
        self.folder, self.influx = folder, influx
        self.broker = MosquittoBroker(persistence=True)
        self.port = free_port()
        self.token = folder / "token"
        self.log = folder / "service.log"
        self.file = folder / "service.toml"
        sections: dict[str, dict[str, Any]] = {
            "service": {"data_dir": str(folder / "data"), "restart_min_s": 0.1, "restart_max_s": 0.5},
            "mqtt": {"port": self.broker.port, "reconnect_min_s": 0.1, "reconnect_max_s": 1.0},
            "journal": {"shards": 2, "min_free_mib": 1},
            "flow": {"epoch_s": 0.5},
            "energy": {"close_grace_s": 0.0},
            "api": {"port": self.port},
        }
        if influx is not None:
            self.token.write_text(token or influx.token)
            sections["influx"] = {
                "enabled": True,
                "url": influx.url,
                "token": f"file:{self.token}",
                "bucket": f"{influx.database}/autogen",
                "retry_min_s": 0.1,
                "retry_max_s": 0.5,
            }
        for name, values in (settings or {}).items():
            sections[name] = sections.get(name, {}) | values
        self.file.write_text(tomli_w.dumps(sections))
        self.config = configuration.load(self.file, {})
        self.data = Path(self.config.service.data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the processes and wait until all are at work."""
        self.broker.start()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_COMMAND, "run", "--config", str(self.file)], stderr=log, stdout=log, env=_environment()
            )
        wait_for(self._ready, f"the service ready, see {self.log}", START_S)
        return self

    def stop(self) -> int:
        """Stop the service in order, not the broker; return its exit code."""
        code = 0
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            code = self._process.wait(_PATIENCE_S)
            self._process = None
        return code

    def set(self, section: str, **values: Any) -> None:
        """Change the configuration of the next start."""
        sections = tomllib.loads(self.file.read_text())
        sections[section] = sections.get(section, {}) | values
        self.file.write_text(tomli_w.dumps(sections))
        self.config = configuration.load(self.file, {})

    def run(self, *arguments: str) -> str:
        """Run a command of ours to its good end; return what it printed."""
        done = subprocess.run(
            [*_COMMAND, *arguments], capture_output=True, text=True, env=_environment(), check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.broker.close()

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        workers = len(self.config.flow.cluster_addresses) or self.config.flow.workers
        reported = [read_status(self.data, f"worker-{i:02d}").get("pid") for i in range(workers)]
        connected = read_status(self.data, "ingest").get("connected")
        return bool(all(reported) and connected and read_status(self.data, "egress") and self._page_answers())

    def _page_answers(self) -> bool:
        try:
            self.get("/health")
        except OSError:
            return False
        return True

    def get(self, path: str) -> Any:
        """Return what the page answers, as JSON if it is."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Publish at QoS 1 and wait for every acknowledgement."""
        publisher = Publisher(MqttSettings("127.0.0.1", self.broker.port, f"test-{time.monotonic_ns()}"))
        try:
            assert publisher.publish([Publish(topic=t, payload=p) for t, p in messages]) == []
        finally:
            publisher.close()

    def log_text(self) -> str:
        """Return what all processes logged until now."""
        return self.log.read_text(errors="replace")

    def problems(self) -> list[str]:
        """Return the problems that the page shows now."""
        found: list[str] = self.get("/health")["problems"]
        return found

    def await_problem(self, *words: str, timeout_s: float = _PATIENCE_S) -> str:
        """Wait until the page shows a problem that holds all `words`; return it."""
        found: list[str] = []

        def shown() -> bool:
            found[:] = [line for line in self.problems() if all(word in line for word in words)]
            return bool(found)

        wait_for(shown, f"a problem about {words}", timeout_s)
        return found[0]

    def await_no_problem(self, word: str, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until no problem holds `word` any longer."""
        wait_for(lambda: not any(word in line for line in self.problems()), f"no {word!r}", timeout_s)

    def ledger(self) -> LedgerReader:
        """Return a reader of the ledger; the caller closes it."""
        return LedgerReader(self.config.ledger_url())

    def await_settled(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until everything that was published is accounted for and delivered; return the closing."""
        asked_ms = time.time_ns() // 1_000_000
        closing: dict[str, Any] = {}

        def settled() -> bool:
            ledger = self.ledger()
            try:
                closing.update(ledger.closes())
            except ChargestreamError:
                return False
            finally:
                ledger.close()
            egress = read_status(self.data, "egress")
            delivered = all(not c.get("lag_records", 1) for c in egress.get("consumers", {}).values())
            known = (closing["through_ms"] or 0) > asked_ms + 1_500
            return bool(known and closing["closes"] and delivered and not closing["messages"]["held"])

        wait_for(settled, f"everything settled, see {self.log}", timeout_s)
        return closing

"""The campaign drill on the real service: a broker, ingest, workers, egress; the control worker is killed.

Stations are simulated over one MQTT connection, in real time with short timeouts. The telemetry gate is left
out: its digests are hourly. What must hold at the end is read from the ledger and from the stations.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w

from connectors.broker import MosquittoBroker
from connectors.campaign_desk import CampaignDesk
from connectors.campaign_reader import CampaignReader
from connectors.mqtt_settings import MqttSettings
from connectors.status import read_status
from models.errors import ChargestreamError, DeliveryError

from . import config as configuration
from .drill_campaign import EXPECTED, image
from .drill_campaign_live import LiveFleet
from .drill_campaign_stations import NEW, OLD
from .supervisor import Supervisor, children

SHARDS: Final = 4
WORKERS: Final = 2
#: The worker that has the control shard, whose number is `SHARDS`.
CONTROL: Final = f"worker-{SHARDS % WORKERS:02d}"
_START_S: Final = 180.0
_MOST_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """What the drill does. `at` is HOST:PORT of a broker that runs already; empty: one of its own."""

    seed: int = 1
    stations: int = 200
    kills: int = 3
    at: str = ""


class BrokerDrill:
    """One run of the drill."""

    def __init__(self, options: BrokerOptions, say: Callable[[str], None]) -> None:
        self.options, self.say = options, say
        self._random = random.Random(options.seed)
        self.folder = Path(tempfile.mkdtemp(prefix="chargestream-campaign-"))
        self.data = self.folder / "data"
        self._kills: list[float] = []

    def run(self) -> dict[str, Any]:
        """Run the drill and return its figures."""
        if self.options.at:
            host, _, port = self.options.at.rpartition(":")
            return self._with(host, int(port))
        with MosquittoBroker() as broker:
            return self._with(broker.host, broker.port)

    def _with(self, host: str, port: int) -> dict[str, Any]:
        settings = self._write_config(host, port)
        config = configuration.load(settings, {})
        members = [child for child in children(config, settings) if child.name != "api"]
        supervisor = Supervisor(members, self.data, restart_min_s=0.2, restart_max_s=1.0, say=lambda _: None)
        thread = threading.Thread(target=supervisor.run, name="supervisor")
        thread.start()
        fleet = LiveFleet(self.options.stations, self._random, host, port)
        reader = CampaignReader(config.ledger_url())
        try:
            self._wait("the service to start", _START_S, self._ready)
            began = time.monotonic()
            fleet.start()
            self._wait("the births", _START_S, fleet.idle)
            told = 2 * self.options.stations  # each birth, and what its shard told the control shard of it
            self._wait("the control shard", _MOST_S, lambda: _accounted(reader) >= told)
            self.say(f"{self.options.stations} stations born after {time.monotonic() - began:.0f} s")
            self._people(host, port)
            self._watch(reader, supervisor, fleet)
            return self._report(reader, fleet, time.monotonic() - began)
        finally:
            fleet.stop()
            supervisor.stop.set()
            thread.join()
            reader.close()

    def _write_config(self, host: str, port: int) -> Path:
        path = self.folder / "drill.toml"
        settings = {
            "service": {"data_dir": str(self.data), "log_level": "error"},
            "mqtt": {"host": host, "port": port, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5},
            "journal": {"shards": SHARDS},
            "firmware": {"foreign_hosts": ["firmware.example"]},
            "flow": {"workers": WORKERS, "epoch_s": 0.5},
        }
        path.write_text(tomli_w.dumps(settings), encoding="utf-8")
        return path

    def _ready(self) -> bool:
        workers = all(read_status(self.data, f"worker-{i:02d}").get("pid") for i in range(WORKERS))
        ingest = read_status(self.data, "ingest")
        return workers and bool(ingest.get("connected")) and bool(read_status(self.data, "egress"))

    def _people(self, host: str, port: int) -> None:
        plan = {
            "action": "create",
            "id": "drill",
            "by": "ann",
            "image": image(NEW),
            "previous": image(OLD),
            "location": "https://firmware.example/{site}/{station}",
            "previous_location": "https://firmware.example/old",
            "waves": [{"percent": 5.0}, {"percent": 20.0}, {"percent": 50.0}, {"percent": 100.0}],
            "gate": {"enabled": False},
            "min_sample": max(20, self.options.stations // 100),
            "per_minute": 30_000,
            "max_in_flight": 2_000,
            "retries": 1,
            "retry_wait_s": 5,
            "attempt_timeout_s": 120 if self.options.stations < 2_000 else 300,
            "answer_timeout_s": 60,
        }
        desk = CampaignDesk(MqttSettings(host, port, f"drill-{time.time_ns():x}"))
        try:
            for body in (
                plan,
                {"id": "drill", "action": "approve", "by": "bob"},
                {"id": "drill", "action": "start", "by": "ann"},
            ):
                desk.ask(body)
        finally:
            desk.close()

    def _watch(self, reader: CampaignReader, supervisor: Supervisor, fleet: LiveFleet) -> None:
        """Wait until the campaign ends; kill the control worker again and again meanwhile."""
        deadline, told = time.monotonic() + _MOST_S, ""
        next_kill = time.monotonic() + 15.0
        while True:
            state, counts = _progress(reader)
            if (words := f"{state} {counts}") != told:
                told = words
                self.say(words)
            if state in ("finished", "paused", "aborted"):
                return
            if time.monotonic() > deadline:
                raise DeliveryError(f"campaign drill: not ended after {_MOST_S:.0f} s; see {self.folder}")
            if len(self._kills) < self.options.kills and time.monotonic() >= next_kill:
                self._kill(supervisor)
                next_kill = time.monotonic() + self._random.uniform(8.0, 16.0)
            time.sleep(1.0)

    def _kill(self, supervisor: Supervisor) -> None:
        child = next(c for c in supervisor.members if c.name == CONTROL)
        if child.process is not None:
            os.kill(child.process.pid, signal.SIGKILL)
            self._kills.append(time.monotonic())
            self.say(f"kill {len(self._kills)}: {CONTROL}")

    def _wait(self, what: str, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise DeliveryError(f"campaign drill: waited {seconds:.0f} s for {what}; see {self.folder}")
            time.sleep(0.2)

    def _report(self, reader: CampaignReader, fleet: LiveFleet, took_s: float) -> dict[str, Any]:
        found = reader.campaign("drill")
        rows = {(row["site"], row["station"]): row for row in reader.every_station("drill")}
        wrong = [
            f"{'/'.join(key)}: {station.kind}, {rows[key]['state'] if key in rows else 'not in it'}"
            for key, station in fleet.stations.items()
            if key not in rows or rows[key]["state"] not in EXPECTED[station.kind]
        ]
        stations = fleet.stations.values()
        result: dict[str, Any] = {
            "drill": "campaign",
            "seed": self.options.seed,
            "stations": self.options.stations,
            "broker": self.options.at or "mosquitto of its own",
            "state": "" if found is None else found["state"],
            "waves": 0 if found is None else sum(c["event"] == "wave" for c in found["changes"]),
            "seconds": round(took_s),
            "kills": len(self._kills),
            "counts": dict(Counter(row["state"] for row in rows.values())),
            "wrong_states": len(wrong),
            "wrong": wrong[:5],
            "commands": fleet.commands,
            "commands_again": fleet.again,
            "updated_twice": sum(s.installs > 1 for s in stations),
            "not_updated": sum(s.kind == "good" and s.fw != NEW for s in stations),
            "installed_while_charging": sum(s.while_charging for s in stations),
            "refused_car_came": fleet.refused,
        }
        bad = ("wrong_states", "updated_twice", "not_updated", "installed_while_charging")
        passed = (
            result["state"] == "finished" and result["waves"] == 4 and not any(result[name] for name in bad)
        )
        passed = passed and result["kills"] == self.options.kills
        return result | {"folder": None if passed else str(self.folder), "passed": passed}


def _accounted(reader: CampaignReader) -> int:
    try:
        return int(reader.closes()["messages"]["total"])
    except ChargestreamError:
        return 0


def _progress(reader: CampaignReader) -> tuple[str, dict[str, int]]:
    try:
        found = reader.campaign("drill")
    except ChargestreamError:
        return "no ledger yet", {}
    return ("not made yet", {}) if found is None else (found["state"], found["funnel"]["all"])


def run_broker(options: BrokerOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill; return the figures and whether it passed."""
    return BrokerDrill(options, say).run()

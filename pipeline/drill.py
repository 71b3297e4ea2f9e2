"""The crash drill: real processes, real servers, SIGKILL at seeded random moments, then the reckoning.

What is proved afterwards: every message that the broker acknowledged to its sender is in the journal; the
account closes over every range; intervals and findings in the ledger equal those of an undisturbed run
over the same journal, revision by revision; InfluxDB holds the same intervals as the ledger.

The broker's own memory is not ours to keep: mosquitto acknowledges before it saves, so it is killed
only while the sender pauses, ingest is connected and nothing is outstanding. Once it is back it delivers
again what it had passed on since it last saved: most of the duplicates in the account come from that.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import tomli_w

from connectors.broker import MosquittoBroker
from connectors.influx_server import InfluxServer
from connectors.journal import JournalReader
from connectors.ledger_reader import LedgerReader
from connectors.simulator.fleet import Fleet
from connectors.simulator.fleets import mixed_fleet
from connectors.simulator.live import LiveResult, publish_all
from connectors.simulator.messages import SimMessage
from connectors.simulator.publisher import Broker
from connectors.status import read_status
from models.errors import ChargestreamError, ConfigError, DeliveryError

from . import config as configuration
from .drill_reckoning import Reckoning, reckon
from .supervisor import Supervisor, children

WORKERS: Final = 2
TARGETS: Final = ("ingest", "worker-00", "worker-01", "influxd", "mosquitto", "egress")
#: What sessions cost, so that there are bills to compare.
TARIFF: Final = {
    "id": "drill",
    "currency": "EUR",
    "elements": [
        {
            "price_components": [
                {"type": "ENERGY", "price": 0.49, "vat": 19, "step_size": 1},
                {"type": "PARKING_TIME", "price": 1.20, "vat": 19, "step_size": 60},
            ]
        }
    ],
}
#: What breaks in the fleet, so that there are findings to compare: one after the other over its time.
FAULTS: Final = (
    "under_voltage",
    "over_current",
    "lock_failure",
    "register_rollback",
    "over_voltage",
    "connector_over_temperature",
    "station_reported",
    "message_loss",
    "offline",
)
_SETTLE_S: Final = 90.0
_START_S: Final = 180.0
#: Longer than what was sent last needs to the broker and back.
_CALM_NS: Final = 500_000_000
_SAVE_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class CrashOptions:
    """What the drill does.

    Attributes
    ----------
    kills : int
    seed : int
        Decides who is killed when, and the fleet.
    messages : int
        Least number of QoS 1 messages published.
    gap_s : float
        Mean time between two kills.
    folder : Path or None
        Where everything goes; None: a temporary folder, removed when the drill passed.
    """

    kills: int = 25
    seed: int = 1
    messages: int = 10_000
    gap_s: float = 1.2
    folder: Path | None = None


@dataclass(slots=True)
class Killed:
    """The kills that were made."""

    by_target: dict[str, int] = field(default_factory=dict)
    slowest_restart_s: float = 0.0


class CrashDrill:
    """One run of the drill.

    Parameters
    ----------
    options : CrashOptions
    say : callable
        Takes progress lines.
    """

    def __init__(self, options: CrashOptions, say: Callable[[str], None]) -> None:
        self.options = options
        self.say = say
        self._random = random.Random(options.seed)
        self._made = options.folder is None
        self.folder = options.folder or Path(tempfile.mkdtemp(prefix="chargestream-drill-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.broker = MosquittoBroker(persistence=True, save_every=_SAVE_EVERY)
        self.influx = InfluxServer(self.folder / "influx")
        self.killed = Killed()
        self._may_send = threading.Event()
        self._may_send.set()

    def run(self) -> dict[str, Any]:
        """Run the drill and return its figures; ``passed`` says whether nothing was lost or doubled."""
        self.say(f"crash drill: {self.options.kills} kills, seed {self.options.seed}, in {self.folder}")
        with self.broker, self.influx:
            settings = self._write_config()
            config = configuration.load(settings, {})
            members = [child for child in children(config, settings) if child.name != "api"]
            supervisor = Supervisor(
                members, self.data, restart_min_s=0.1, restart_max_s=0.5, say=lambda _: None
            )
            thread = threading.Thread(target=supervisor.run, name="supervisor")
            thread.start()
            try:
                self._wait("the pipeline to start", _START_S, self._ready)
                sent = self._storm(supervisor)
                ends = self._journal_ends()
                settled = partial(self._settled, config, ends)
                self._wait("everything to arrive", _SETTLE_S, settled)
                # What egress said may be older than the last records: hear it once more.
                self._wait(
                    "egress to say more", _SETTLE_S, partial(self._says_since, "egress", time.time_ns())
                )
                self._wait("everything to be delivered", _SETTLE_S, settled)
            finally:
                supervisor.stop.set()
                thread.join()
            self.say("reckoning: an undisturbed run over the same journal, and InfluxDB against the ledger")
            result = reckon(config, self.folder / "acked.tsv", self.influx, self.folder / "reference")
        return self._report(sent, result)

    def _write_config(self) -> Path:
        path = self.folder / "drill.toml"
        (self.folder / "token").write_text(self.influx.token, encoding="utf-8")
        settings: dict[str, Any] = {
            "service": {"data_dir": str(self.data), "log_level": "error"},
            "mqtt": {
                "host": self.broker.host,
                "port": self.broker.port,
                "reconnect_min_s": 0.1,
                "reconnect_max_s": 0.5,
            },
            "journal": {"shards": 4},
            "flow": {"workers": WORKERS, "epoch_s": 0.5},
            "influx": {
                "enabled": True,
                "url": self.influx.url,
                "token": f"file:{self.folder / 'token'}",
                "bucket": f"{self.influx.database}/autogen",
                "retry_min_s": 0.1,
                "retry_max_s": 0.5,
            },
        }
        tariff = self.folder / "tariff.json"
        tariff.write_bytes(msgspec.json.encode(TARIFF))
        settings["billing"] = {"tariff_file": str(tariff), "running_cost_s": 300.0, "settle_s": 5.0}
        settings["ocpi"] = {"country_code": "DE", "party_id": "CHS"}
        path.write_text(tomli_w.dumps(settings), encoding="utf-8")
        return path

    def _wait(self, what: str, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise DeliveryError(f"crash drill: waited {seconds:.0f} s for {what}; see {self.folder}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        workers = all(read_status(self.data, f"worker-{i:02d}").get("pid") for i in range(WORKERS))
        return workers and self._ingest_idle() and bool(read_status(self.data, "egress"))

    def _ingest_idle(self, since_ns: int = 0) -> bool:
        """Return whether ingest said, after `since_ns`, that it is connected and owes nothing."""
        status = read_status(self.data, "ingest")
        said_ns = int(status.get("updated_ns", 0))
        fresh = time.time_ns() - said_ns < 3_000_000_000 and said_ns > since_ns
        return fresh and bool(status.get("connected")) and not status.get("in_flight")

    def _says_since(self, name: str, since_ns: int) -> bool:
        status = read_status(self.data, name)
        said_ns = status.get("updated_ns") or status.get("updated_ms", 0) * 1_000_000
        return int(said_ns) > since_ns

    def _messages(self) -> list[SimMessage]:
        """Return some hours of a fleet's QoS 1 messages, ending about now."""
        config = mixed_fleet(16, self.options.seed, sample_s=20.0, batch_s=20.0)
        hours = 1.0
        while True:
            start = time.time_ns() // 1_000_000 - int(hours * 3_600_000)
            fleet = Fleet(config, self.options.seed, start)
            _break(fleet, int(hours * 3_600_000))
            found = [m for m in fleet.advance(start + int(hours * 3_600_000)) if m.qos]
            if len(found) >= self.options.messages:
                return found
            hours *= max(1.1, 1.05 * self.options.messages / max(1, len(found)))

    def _storm(self, supervisor: Supervisor) -> LiveResult:
        """Publish, and kill meanwhile; return how many messages were sent and acknowledged."""
        messages = self._messages()
        duration = self.options.kills * self.options.gap_s
        rate = len(messages) / max(5.0, duration)
        self.say(f"publishing {len(messages)} messages at {rate:.0f} a second")
        results: list[LiveResult] = []
        target = Broker(self.broker.host, self.broker.port)
        stop, acked = threading.Event(), self.folder / "acked.tsv"
        sender = threading.Thread(
            target=lambda: results.append(
                publish_all(self._unless_quiet(messages), target, rate=rate, acked=acked, stop=stop)
            ),
            name="sender",
        )
        sender.start()
        try:
            for number in range(self.options.kills):
                time.sleep(self._random.uniform(0.4, 2 * self.options.gap_s - 0.4))
                name = TARGETS[number] if number < len(TARGETS) else self._random.choice(TARGETS)
                self._kill(name, supervisor)
        except BaseException:
            stop.set()  # else it would try to reach the broker for ever
            raise
        finally:
            self._may_send.set()
            sender.join()
        if not results:
            raise DeliveryError(f"crash drill: the sender failed; its own words are above; see {self.folder}")
        return results[0]

    def _unless_quiet(self, messages: list[SimMessage]) -> Iterator[SimMessage]:
        for message in messages:
            self._may_send.wait()
            yield message

    def _await_idle(self) -> None:
        """Pause the sender and wait until all that it sent is acknowledged on both sides of the broker."""
        self._may_send.clear()
        deadline = time.monotonic() + _SETTLE_S
        while True:
            calm_ns = time.time_ns() + _CALM_NS
            self._wait("ingest to be idle", _SETTLE_S, partial(self._ingest_idle, calm_ns))
            # Once more: what it was just connected for may not have come yet.
            time.sleep(_CALM_NS / 1e9)
            self._wait("ingest to say more", _SETTLE_S, partial(self._says_since, "ingest", time.time_ns()))
            if self._ingest_idle():
                return
            if time.monotonic() > deadline:
                raise DeliveryError(f"crash drill: ingest is never idle; see {self.folder}")

    def _kill(self, name: str, supervisor: Supervisor) -> None:
        self.killed.by_target[name] = self.killed.by_target.get(name, 0) + 1
        down_s = self._random.uniform(0.2, 1.0)
        self.say(f"kill {sum(self.killed.by_target.values())}: {name}")
        if name == "mosquitto":
            self._await_idle()
            self.broker.kill()
            self._may_send.set()
            time.sleep(down_s)
            self.broker.restart()
        elif name == "influxd":
            self.influx.kill()
            time.sleep(down_s)
            self.influx.restart()
        else:
            child = next(c for c in supervisor.members if c.name == name)
            if child.process is not None:
                os.kill(child.process.pid, signal.SIGKILL)

    def _journal_ends(self) -> dict[int, int]:
        """Return the end of every shard's journal once nothing more is on its way into it."""
        self._await_idle()
        with JournalReader(self.data / "journal.db") as journal:
            return journal.ends()

    def _settled(self, config: configuration.Config, ends: dict[int, int]) -> bool:
        """Return whether every message up to `ends` is accounted for and every result delivered."""
        ledger = LedgerReader(config.ledger_url())
        try:
            closes, reached = ledger.closes()["closes"], ledger.ends()
        except ChargestreamError:
            return False
        finally:
            ledger.close()
        egress = read_status(self.data, "egress")
        delivered = all(not c.get("lag_records", 1) for c in egress.get("consumers", {}).values())
        there = all(reached.get(shard, 0) >= end for shard, end in ends.items())
        return bool(closes and there and (delivered or not egress))

    def _report(self, sent: LiveResult, result: Reckoning) -> dict[str, Any]:
        passed = result.passed
        if passed and self._made:
            import shutil

            shutil.rmtree(self.folder, ignore_errors=True)
        return {
            "drill": "crash",
            "seed": self.options.seed,
            "kills": sum(self.killed.by_target.values()),
            "killed": dict(sorted(self.killed.by_target.items())),
            "sent": sent.sent,
            "unacknowledged": sent.unacknowledged,
            **result.figures(),
            "folder": None if passed and self._made else str(self.folder),
            "passed": passed,
        }


def _break(fleet: Fleet, span_ms: int) -> None:
    """Inject `FAULTS` at stations that can have them, evenly over the first four fifths of `span_ms`."""
    stations = [station.station for station in fleet.topology.stations]
    for number, code in enumerate(FAULTS):
        at_ms = fleet.start_ms + span_ms * (number + 1) * 8 // (10 * (len(FAULTS) + 1))
        for station in stations[number:] + stations[:number]:
            try:
                fleet.inject(code, station, at_ms, at_ms + max(span_ms // 10, 900_000))
            except ConfigError:
                continue  # not of the kind that can have it
            break

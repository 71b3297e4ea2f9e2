"""The egress process: drains every worker's outbox to InfluxDB, the ledger, the broker and people.

One thread for each outbox and consumer, so that a dead InfluxDB delays neither the ledger nor the
broker. New outboxes are taken up as they appear. A cursor moves only after the other side accepted.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from connectors.billing_writer import BillingWriter
from connectors.claims import claims_path
from connectors.influx import InfluxSettings, InfluxWriter
from connectors.ledger import Ledger
from connectors.mqtt import Publisher
from connectors.mqtt_link import Backoff
from connectors.ocpi_store import OcpiStore
from connectors.outbox import DeadLetter
from connectors.status import write_status
from models.errors import DeliveryError, RetryLater, StorageError
from models.units import NS_PER_MS

from .config import Config
from .consumers import CONSUMERS
from .egress_drain import Drain
from .egress_health import health_lines, totals
from .egress_notify import CONSUMER, Notifying
from .egress_ocpi import OcpiSink
from .egress_sinks import InfluxSink, LedgerSink, MqttSink, Sink
from .ingest import mqtt_settings

_LOG = logging.getLogger("chargestream.egress")

_SCAN_S: Final = 0.25
_STATUS_S: Final = 1.0
_HEALTH_S: Final = 10.0
_TRIM_S: Final = 600.0
_JOIN_S: Final = 5.0
_RETRY_MIN_S: Final = 0.25
_RETRY_MAX_S: Final = 15.0
_HOUR_MS: Final = 3_600_000
#: What the ledger keeps of what is only for looking at.
ROLLUPS_KEPT_MS: Final = 48 * _HOUR_MS
DEAD_KEPT_MS: Final = 90 * 24 * _HOUR_MS

SinkFactory = Callable[[str], Sink]


def dead_letter_path(data_dir: Path) -> Path:
    """Return where refused deliveries are kept."""
    return data_dir / "dead-letter.db"


def outboxes(data_dir: Path) -> list[Path]:
    """Return the outboxes there are, without their cursor files."""
    found = (data_dir / "outbox").glob("*.db")
    return sorted(path for path in found if not path.stem.endswith(".cursors"))


def influx_settings(config: Config) -> InfluxSettings:
    """Return how to reach InfluxDB."""
    influx = config.influx
    return InfluxSettings(
        url=influx.url,
        bucket=influx.bucket,
        token=influx.token,
        org=influx.org,
        batch_points=influx.batch_points,
        gzip=influx.gzip,
        timeout_s=influx.timeout_s,
        blocked_retry_s=min(15.0, influx.retry_max_s),
    )


class _SharedLedger:
    """Opens the ledger when it is first needed and its database answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None

    def __call__(self) -> Ledger:
        with self._lock:
            if self._ledger is None:
                self._ledger = Ledger(self._url)
            return self._ledger

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()


class _Partners:
    """Opens what OCPI keeps in the ledger when it is first needed."""

    def __init__(self, config: Config) -> None:
        self._url = config.ledger_url()
        self._lock = threading.Lock()
        self._writer: BillingWriter | None = None

    def store(self) -> OcpiStore:
        with self._lock:
            if self._writer is None:
                self._writer = BillingWriter(self._url)
            return OcpiStore(self._writer)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Egress:
    """Starts a drain for every outbox and sink, watches over them, reports.

    Parameters
    ----------
    data_dir : Path
    sinks : mapping of consumer to factory
        Makes the sink of an outbox, by the outbox's name.
    stop : threading.Event
        Ends `run`.
    retry_s : mapping of consumer to (shortest, longest) wait between tries, s
        For those that are to differ from 0.25 to 15 s.
    finish_s : float
        Time for what still waits when `stop` is set.
    ledger : callable, optional
        Returns the ledger whose account and old rows are looked after.
    also : mapping of outbox to factory
        Outboxes that one sink each drains from the start: those of the routes of messages.
    health : InfluxWriter, optional
        Takes ``ev_pipeline`` points; best effort: what it does not take at once is not kept.
    zones : (mapping of site to time zone, time zone of the others)
        For the months that the ledger's views know.
    """

    def __init__(
        self,
        data_dir: Path,
        sinks: Mapping[str, SinkFactory],
        stop: threading.Event,
        *,
        retry_s: Mapping[str, tuple[float, float]] | None = None,
        also: Mapping[Path, SinkFactory] | None = None,
        finish_s: float = 0.0,
        ledger: Callable[[], Ledger] | None = None,
        health: InfluxWriter | None = None,
        zones: tuple[Mapping[str, str], str] = ({}, "UTC"),
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.data_dir = data_dir
        self.drains: list[Drain] = []
        self._sinks, self._stop, self._finish_s = sinks, stop, finish_s
        self._retry_s, self._also = dict(retry_s or {}), dict(also or {})
        self._ledger, self._health, self._wall_ns = ledger, health, wall_ns
        self._closing: dict[str, Any] | None = None
        self._zones = zones
        self._started_ns = wall_ns()

    def run(self) -> None:
        """Drain until `stop` is set, then finish what is in hand."""
        keeper = threading.Thread(target=self._keep_house, name="egress-house", daemon=True)
        report_at = 0.0
        with DeadLetter(dead_letter_path(self.data_dir)) as letters:
            keeper.start()
            for path, make in self._also.items():
                self._drain(path, CONSUMER, make)
            while not self._stop.wait(_SCAN_S):
                self._take_up_new()
                if time.monotonic() >= report_at:
                    report_at = time.monotonic() + _STATUS_S
                    self._report(letters)
            deadline = time.monotonic() + self._finish_s + _JOIN_S
            for drain in self.drains:
                if not drain.join(max(0.1, deadline - time.monotonic())):
                    _LOG.warning("%s of %s did not finish in time", drain.sink.name, drain.outbox.stem)
            keeper.join(max(0.1, deadline - time.monotonic()))
            self._report(letters)

    def status(self, dead_letters: dict[str, int]) -> dict[str, Any]:
        """Return what the status file says."""
        boxes: dict[str, dict[str, Any]] = {}
        for drain in self.drains:
            boxes.setdefault(drain.outbox.stem, {})[drain.sink.name] = drain.state.report()
        return {
            "pid": os.getpid(),
            "started_ms": self._started_ns // NS_PER_MS,
            "updated_ms": self._wall_ns() // NS_PER_MS,
            "dead_letters": sum(dead_letters.values()),
            "consumers": totals(self.drains, dead_letters),
            "outboxes": boxes,
            "closing": self._closing,
        }

    def _take_up_new(self) -> None:
        known = {drain.outbox for drain in self.drains}
        for path in outboxes(self.data_dir):
            if path in known:
                continue
            for name, make in self._sinks.items():
                self._drain(path, name, make)
            _LOG.info("draining %s to %s", path.name, ", ".join(self._sinks))

    def _drain(self, path: Path, name: str, make: SinkFactory) -> None:
        shortest, longest = self._retry_s.get(name, (_RETRY_MIN_S, _RETRY_MAX_S))
        drain = Drain(
            path,
            make(path.stem),
            dead_letter_path(self.data_dir),
            Backoff(shortest, longest, random.Random()),
            self._stop,
            finish_s=self._finish_s,
            wall_ns=self._wall_ns,
        )
        self.drains.append(drain)
        drain.start()

    def _report(self, letters: DeadLetter) -> None:
        write_status(self.data_dir, "egress", self.status(_counts(letters)))

    def _keep_house(self) -> None:
        """Every few seconds: is the account closed, points of our health, old rows out of the ledger."""
        trim_at = 0.0
        with DeadLetter(dead_letter_path(self.data_dir)) as letters:
            while True:
                stopped = self._stop.wait(_STATUS_S if self._closing is None else _HEALTH_S)
                try:
                    now_ms = self._wall_ns() // NS_PER_MS
                    if self._ledger is not None:
                        self._closing = self._ledger().closes()
                        if time.monotonic() >= trim_at and not stopped:
                            trim_at = time.monotonic() + _TRIM_S
                            self._ledger().trim(
                                rollups_before_ms=now_ms - ROLLUPS_KEPT_MS,
                                dead_before_ms=now_ms - DEAD_KEPT_MS,
                            )
                            self._ledger().note_months(*self._zones)
                    if self._health is not None and not stopped:
                        self._health.write(
                            health_lines(self.drains, _counts(letters), self._closing, self._wall_ns())
                        )
                except (DeliveryError, StorageError) as error:
                    _LOG.debug("health: %s", error)  # the drains say the same, louder
                if stopped:
                    return


def _counts(letters: DeadLetter) -> dict[str, int]:
    return {name: letters.count(name) for name in CONSUMERS}


def run_egress(config: Config, stop: threading.Event) -> int:
    """Run the egress process until `stop` is set and return its exit code.

    Raises
    ------
    ConfigError
        If the ledger's address is wrong, its driver is missing, a TLS file cannot be used, or the address
        of a route of messages.
    StorageError
        If the ledger was written by a newer program, or the dead-letter cannot be opened.
    """
    ledger = _SharedLedger(config.ledger_url())
    settings = dataclasses.replace(mqtt_settings(config), filters=(), share_group="")
    settings.tls_context()  # a TLS file that cannot be used is a mistake to be told now
    try:
        ledger()
    except RetryLater as error:
        _LOG.warning("%s", error)

    claims = claims_path(Path(config.service.data_dir))

    def publisher(outbox: str) -> MqttSink:
        client_id = f"{config.service.instance}-egress-{outbox}"
        return MqttSink(Publisher(dataclasses.replace(settings, client_id=client_id)), claims)

    sinks: dict[str, SinkFactory] = {"ledger": lambda _: LedgerSink(ledger), "mqtt": publisher}
    health = None
    if config.influx.enabled:
        influx = influx_settings(config)
        sinks["influx"] = lambda _: InfluxSink(influx)
        health = InfluxWriter(influx)
    partners = _Partners(config)
    if config.ocpi.enabled:
        sinks["ocpi"] = lambda _: OcpiSink(partners.store, insecure=config.ocpi.insecure)
    notifying = Notifying(config)
    sinks |= notifying.sinks
    egress = Egress(
        Path(config.service.data_dir),
        sinks,
        stop,
        retry_s={
            "influx": (config.influx.retry_min_s, config.influx.retry_max_s),
            CONSUMER: (config.notify.retry_min_s, config.notify.retry_max_s),
        },
        also=notifying.routes,
        finish_s=config.service.stop_timeout_s / 3,
        ledger=ledger,
        health=health,
        zones=(config.billing.zones(), config.billing.time_zone),
    )
    try:
        egress.run()
    finally:
        ledger.close()
        partners.close()
        notifying.close()
        if health is not None:
            health.close()
    delivered = sum(drain.state.delivered for drain in egress.drains)
    _LOG.info("stopped: %d records delivered", delivered)
    return 0

"""Prometheus metrics of the whole service, read anew at each scrape from status files and ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .health import Health

PREFIX: Final = "chargestream_"
_MESSAGES: Final = ("decoded", "duplicate", "dead", "held")
_ROWS: Final = ("processed", "late", "duplicate", "invalid")
_SEVERITIES: Final = ("info", "warning", "critical")
_NS: Final = 1e-9
_MIB: Final = 1024 * 1024

# key in the status file, name, help, factor
_INGEST_COUNTERS: Final = (
    ("messages", "ingest_messages", "Messages journaled since ingest started"),
    ("bytes", "ingest_bytes", "Payload bytes journaled since ingest started"),
    ("commits", "ingest_commits", "Group commits since ingest started"),
    ("acked", "ingest_acknowledged", "Messages acknowledged to the broker since ingest started"),
    ("stale_acks", "ingest_stale_acknowledgements", "Acknowledgements dropped as of a former connection"),
    ("oversize", "ingest_oversize", "Messages beyond mqtt.max_payload_bytes since ingest started"),
    ("reconnects", "ingest_reconnects", "Reconnections to the broker since ingest started"),
)
_INGEST_GAUGES: Final = (
    ("connected", "ingest_connected", "Receivers connected to the broker", 1.0),
    ("receivers", "ingest_receivers", "Receivers that should be connected", 1.0),
    ("in_flight", "ingest_in_flight", "Messages received and not yet acknowledged", 1.0),
    ("waiting_messages", "ingest_waiting_messages", "Messages waiting for their commit", 1.0),
    ("waiting_bytes", "ingest_waiting_bytes", "Bytes waiting for their commit", 1.0),
    ("storage_full", "ingest_storage_full", "1 while the disk of the journal is full", 1.0),
    ("clock_behind_ns", "clock_behind_seconds", "Machine's clock behind journaled time", _NS),
    ("last_commit_ns", "ingest_last_commit_seconds", "Time of the last commit, since the epoch", _NS),
)
_WORKER_GAUGES: Final = (
    (
        "lag_messages",
        "worker_unsaved_messages",
        "Journaled messages and ticks no saved state covers yet",
        1.0,
    ),
    ("rss_mb", "worker_peak_rss_bytes", "Greatest resident memory", float(_MIB)),
    ("uptime_s", "worker_uptime_seconds", "Time since the worker started", 1.0),
)
_EGRESS: Final = (
    (GaugeMetricFamily, "lag_records", "egress_lag_records", "Results not yet delivered, at most"),
    (CounterMetricFamily, "delivered", "egress_delivered_records", "Results delivered since egress started"),
    (CounterMetricFamily, "retries", "egress_retries", "Deliveries put off since egress started"),
    (GaugeMetricFamily, "dead_letters", "egress_dead_letters", "Deliveries refused for good and kept"),
)

_DOWNLOADS: Final = (
    ("started", "firmware_downloads_started", "Downloads begun since the server of images started"),
    ("completed", "firmware_downloads_completed", "Downloads sent to their end"),
    ("broken", "firmware_downloads_broken", "Downloads that broke off on their way"),
    ("resumed", "firmware_downloads_resumed", "Downloads that went on where a former one broke off"),
    ("sent_bytes", "firmware_sent_bytes", "Bytes of images sent over HTTP"),
)


class HealthCollector(Collector):
    """Turns a `Health` into metrics; what is not known has no sample.

    Parameters
    ----------
    read : callable
        Returns the present health.
    """

    def __init__(self, read: Callable[[], Health]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families."""
        health = self._read()
        yield _gauge("problems", "Things that a person should look at", len(health.problems))
        yield _gauge("ledger_readable", "1 when the ledger can be read", int(bool(health.closing)))
        if health.closing:
            yield from _account(health)
            yield from _counts(health)
        yield from _ingest(health.status("ingest"))
        yield from _processes(health)
        yield from _workers(health)
        yield from _egress(health.status("egress"))
        yield from _firmware(health.status("firmware"), health.status("firmware-chunks"))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _family(kind: type, name: str, text: str, label: str, samples: Iterable[tuple[str, float]]) -> Any:
    family = kind(PREFIX + name, text, labels=[label])
    for of, value in samples:
        family.add_metric([of], value)
    return family


def _account(health: Health) -> Iterator[Metric]:
    """The closing account.

    Gauges, not counters: after a crash the newest ranges are cut anew and the sums may fall a little, which a
    counter would take for a restart.
    """
    messages, rows = health.closing["messages"], health.closing["rows"]
    yield _gauge("account_messages", "Journaled messages accounted for", messages["total"])
    fates = ((fate, messages[fate]) for fate in _MESSAGES)
    text = "The same by what became of them; they add up to the whole"
    yield _family(GaugeMetricFamily, "account_messages_by_fate", text, "fate", fates)
    yield _gauge("account_readings", "Readings accounted for", rows["in"])
    fates = ((fate, rows[fate]) for fate in _ROWS)
    yield _family(GaugeMetricFamily, "account_readings_by_fate", text, "fate", fates)
    yield _gauge("account_closes", "1 when nothing is missing in the account", int(health.closing["closes"]))
    yield _gauge("account_ranges", "Journal ranges in the account", health.closing["ranges"])
    if health.behind_ms is not None:
        text = "Arrival of the newest message accounted for, since the epoch"
        yield _gauge("account_through_seconds", text, health.closing["through_ms"] / 1000)
        text = "How long ago that was: the lag of the whole pipeline"
        yield _gauge("behind_seconds", text, health.behind_ms / 1000)


def _counts(health: Health) -> Iterator[Metric]:
    for key, name, text in (
        ("evses", "evses", "EVSEs known"),
        ("intervals", "intervals", "Quarter-hour intervals in the ledger"),
        ("findings", "findings", "Findings ever recorded"),
        ("dead", "dead_messages", "Messages, or parts of one, kept as unusable"),
        ("late_readings", "late_readings", "Readings that came after newer ones"),
    ):
        yield _gauge(name, text, health.counts[key])
    severities: Counter[str] = Counter(dict.fromkeys(_SEVERITIES, 0))
    family = GaugeMetricFamily(
        PREFIX + "findings_open_by_code", "Raised open findings by code", labels=["code", "severity"]
    )
    for code, severity, n in health.findings:
        severities[severity] += n
        family.add_metric([code, severity], n)
    text = "Raised open findings by severity"
    yield _family(GaugeMetricFamily, "findings_open", text, "severity", sorted(severities.items()))
    yield family


def _ingest(status: dict[str, Any]) -> Iterator[Metric]:
    for key, name, text in _INGEST_COUNTERS:
        if key in status:
            yield CounterMetricFamily(PREFIX + name, text, value=status[key])
    for key, name, text, factor in _INGEST_GAUGES:
        if key in status:
            yield _gauge(name, text, status[key] * factor)


def _processes(health: Health) -> Iterator[Metric]:
    up = ((p.name, float(p.state == "running")) for p in health.processes)
    yield _family(GaugeMetricFamily, "process_up", "1 while the process runs and reports", "process", up)
    restarts = ((p.name, p.restarts) for p in health.processes if p.restarts is not None)
    yield _family(CounterMetricFamily, "process_restarts", "Restarts by the supervisor", "process", restarts)
    ages = ((p.name, p.age_ms / 1000) for p in health.processes if p.age_ms is not None)
    yield _family(GaugeMetricFamily, "process_report_age_seconds", "Age of its last report", "process", ages)


def _workers(health: Health) -> Iterator[Metric]:
    for key, name, text, factor in _WORKER_GAUGES:
        found = [(w.name, w.status[key] * factor) for w in health.workers if key in w.status]
        yield _family(GaugeMetricFamily, name, text, "worker", found)
    shed = [(w.name, w.status["shed_bytes"]) for w in health.workers if "shed_bytes" in w.status]
    text = "Bytes of points left out because the outbox was full, since the worker started"
    yield _family(CounterMetricFamily, "worker_shed_bytes", text, "worker", shed)


def _egress(status: dict[str, Any]) -> Iterator[Metric]:
    consumers = sorted(status.get("consumers", {}).items())
    waits = ((name, float(c.get("state") == "waiting")) for name, c in consumers)
    text = "1 while the other side does not take deliveries"
    yield _family(GaugeMetricFamily, "egress_waiting", text, "consumer", waits)
    for kind, key, name, text in _EGRESS:
        found = [(consumer, c[key]) for consumer, c in consumers if key in c]
        yield _family(kind, name, text, "consumer", found)


def _firmware(http: dict[str, Any], chunks: dict[str, Any]) -> Iterator[Metric]:
    for key, name, text in _DOWNLOADS:
        if key in http:
            yield CounterMetricFamily(PREFIX + name, text, value=http[key])
    if "in_flight" in http:
        yield _gauge("firmware_downloads_in_flight", "Downloads on their way", http["in_flight"])
    if "chunks" in chunks:
        text = "Pieces of images sent over MQTT since the server of chunks started"
        yield CounterMetricFamily(PREFIX + "firmware_chunks", text, value=chunks["chunks"])
        text = "The same in bytes"
        yield CounterMetricFamily(PREFIX + "firmware_chunk_bytes", text, value=chunks["sent_bytes"])
    refused: Counter[str] = Counter(http.get("refused", {})) + Counter(chunks.get("refused", {}))
    if http or chunks:
        text = "Requests for firmware that were refused, by reason"
        samples = [(reason, float(n)) for reason, n in sorted(refused.items())]
        yield _family(CounterMetricFamily, "firmware_refused", text, "reason", samples)

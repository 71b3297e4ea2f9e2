"""Prometheus metrics of the whole service, read anew at each scrape from status files and ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .health import Health

_ROWS: Final = ("in", "processed", "late", "duplicate", "invalid")
_MESSAGES: Final = ("total", "decoded", "duplicate", "dead", "held")


class HealthCollector(Collector):
    """Turns a `Health` into metrics.

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
        yield from _account(health)
        yield from _ingest(health.ingest)
        yield from _workers(health)
        yield from _egress(health.egress)
        yield _gauge("problems", "Things that a person should look at", len(health.problems))
        for name, text in (
            ("evses", "EVSEs known"),
            ("findings_open", "Open live findings"),
            ("intervals", "Quarter-hour intervals in the ledger"),
        ):
            if name in health.counts:
                yield _gauge(name, text, health.counts[name])


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"chargestream_{name}", text, value=value)


def _labelled(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, label: str
) -> Any:
    return kind(f"chargestream_{name}", text, labels=[label])


def _account(health: Health) -> Iterator[Metric]:
    """The closing ledger: messages = decoded + duplicate + dead + held; readings likewise."""
    closing = health.closing
    if not closing:
        return
    messages = _labelled(CounterMetricFamily, "messages", "Journaled messages by what became of them", "fate")
    for fate in _MESSAGES:
        messages.add_metric([fate], closing["messages"][fate])
    yield messages
    rows = _labelled(CounterMetricFamily, "readings", "Readings by what became of them", "fate")
    for fate in _ROWS:
        rows.add_metric([fate], closing["rows"][fate])
    yield rows
    yield _gauge("account_closes", "1 when nothing is missing in the account", int(closing["closes"]))
    if closing["through_ms"] is not None:
        yield _gauge(
            "accounted_through_seconds",
            "Arrival of the newest message accounted for",
            closing["through_ms"] / 1000,
        )


def _ingest(status: dict[str, Any]) -> Iterator[Metric]:
    for key, name, text in (
        ("messages", "ingest_messages", "Messages journaled since ingest started"),
        ("bytes", "ingest_bytes", "Bytes journaled since ingest started"),
        ("commits", "ingest_commits", "Group commits since ingest started"),
        ("oversize", "ingest_oversize", "Messages over the size bound"),
        ("reconnects", "ingest_reconnects", "Reconnections to the broker"),
    ):
        if key in status:
            yield CounterMetricFamily(f"chargestream_{name}", text, value=status[key])
    for key, text in (
        ("connected", "Receivers connected to the broker"),
        ("in_flight", "Messages received and not yet acknowledged"),
    ):
        if key in status:
            yield _gauge(f"ingest_{key}", text, int(status[key]))


def _workers(health: Health) -> Iterator[Metric]:
    lag = _labelled(GaugeMetricFamily, "worker_lag_messages", "Journaled messages not yet saved", "worker")
    rss = _labelled(GaugeMetricFamily, "worker_rss_bytes", "Peak resident memory", "worker")
    for name, status in health.workers.items():
        lag.add_metric([name], status.get("lag_messages", 0))
        rss.add_metric([name], status.get("rss_mb", 0) * 1024 * 1024)
    yield lag
    yield rss
    restarts = _labelled(CounterMetricFamily, "process_restarts", "Restarts by the supervisor", "process")
    for name, status in health.supervisor.items():
        if isinstance(status, dict):
            restarts.add_metric([name], status.get("restarts", 0))
    yield restarts


def _egress(status: dict[str, Any]) -> Iterator[Metric]:
    lag = _labelled(GaugeMetricFamily, "egress_lag_records", "Results not yet delivered", "consumer")
    dead = _labelled(GaugeMetricFamily, "egress_dead_letters", "Deliveries refused for good", "consumer")
    for name, consumer in status.get("consumers", {}).items():
        lag.add_metric([name], consumer.get("lag_records", 0))
        dead.add_metric([name], consumer.get("dead_letters", 0))
    yield lag
    yield dead

"""``/metrics`` reads as Prometheus does, equals the ledger and the status files, and is described."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ledger_reader import LedgerReader
from tests.seeded import Fleet, Seeded, seed
from tests.servers.web import Get, client, metrics


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    made = seed(tmp_path_factory.mktemp("metrics") / "data", Fleet(time.time_ns() // 1_000_000, minutes=1))
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def get(seeded: Seeded) -> Get:
    return client(seeded.url, seeded.folder)


@pytest.fixture(scope="module")
def reader(seeded: Seeded) -> Iterator[LedgerReader]:
    opened = LedgerReader(seeded.url)
    yield opened
    opened.close()


def test_metrics_equal_the_ledger(get: Get, reader: LedgerReader) -> None:
    answer = get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = metrics(answer.text)
    closing, counts = reader.closes(), reader.counts()
    assert found["account_messages",] == closing["messages"]["total"] == 48_211
    for fate in ("decoded", "duplicate", "dead", "held"):
        assert found["account_messages_by_fate", fate] == closing["messages"][fate]
    for fate in ("processed", "late", "duplicate", "invalid"):
        assert found["account_readings_by_fate", fate] == closing["rows"][fate]
    for name, total in (("messages", 48_211), ("readings", 2_892_660)):
        parts = [v for key, v in found.items() if key[0] == f"account_{name}_by_fate"]
        assert sum(parts) == found[f"account_{name}",] == total
    assert found["account_closes",] == found["ledger_readable",] == 1
    assert found["account_through_seconds",] == pytest.approx(closing["through_ms"] / 1000)
    names = {
        "evses": "evses",
        "intervals": "intervals",
        "dead_messages": "dead",
        "late_readings": "late_readings",
    }
    for name, key in names.items():
        assert found[name,] == counts[key]
    assert [found["findings_open", s] for s in ("critical", "warning", "info")] == [3, 4, 1]
    assert found["findings_open_by_code", "over_current", "warning"] == 1


def test_metrics_carry_what_the_processes_say(seeded: Seeded, get: Get) -> None:
    seeded.statuses()
    found = metrics(get("/metrics").text)
    assert found["ingest_messages_total",] == 48_211
    assert found["ingest_connected",] == found["ingest_receivers",] == 1
    assert found["ingest_storage_full",] == 0
    assert found["worker_unsaved_messages", "worker-00"] == 212
    assert found["worker_peak_rss_bytes", "worker-01"] == pytest.approx(298.1 * 2**20)
    assert found["process_restarts_total", "worker-00"] == 1
    assert found["process_up", "egress"] == 1
    assert found["egress_delivered_records_total", "ledger"] == 9_412
    assert found["egress_lag_records", "influx"] == found["egress_waiting", "influx"] == 0
    assert found["problems",] == 0


def test_the_docs_describe_every_metric_and_no_other(get: Get) -> None:
    found = {name for name, *_ in metrics(get("/metrics").text)}
    text = (Path(__file__).parents[2] / "docs/page.md").read_text()
    table = text.split("## Metrics")[1].split("## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    described = {name.split("{")[0] for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    assert described == found

"""The running service, in every layout, against a replay of its own journal.

Each test publishes two hours of a fleet with faults, which end now, through a real broker; then the journal
is exported as a message log and replayed, and the ledger has to hold the same intervals and findings,
revision by revision and change by change. Where a layout changes on the way, saved state that got lost would
show: the replay never stops in between.
"""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.simulator import Fleet, SimMessage, mixed_fleet
from connectors.simulator.live import publish_all
from connectors.simulator.publisher import Broker
from connectors.status import read_status
from models.units import wh_text
from pipeline.replay import replay
from tests.servers import free_port
from tests.servers.ingesting import wait_for
from tests.servers.service import Service

pytestmark = [pytest.mark.server, pytest.mark.slow]

HOURS: Final = 2.0
QUARTER_MS: Final = 900_000
#: code, target, begin and end in minutes before now
FAULTS: Final = (
    ("under_voltage", "AX01-01/1", 100, 80),
    ("over_voltage", "CU01-01/1", 12, 4),
    ("lock_failure", "AX01-02/1", 110, 100),
    ("residual_current_trip", "BO01-01/1", 10, 1),
    ("register_rollback", "BO01-02/1", 60, 40),
    ("message_loss", "CU01-01", 90, 30),
    ("offline", "AX01-03", 70, 45),
)


def two_hours(seed: int) -> list[SimMessage]:
    """Return what a fleet sends in the two hours before now, heartbeats left out.

    A heartbeat carries the clock of the moment: sent hours late it would say that the clock is wrong.
    """
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms - round(HOURS * 3_600_000)
    fleet = Fleet(mixed_fleet(10, seed, sample_s=30.0, batch_s=60.0, arrivals_per_day=24.0), seed, start_ms)
    for code, target, begin_min, end_min in FAULTS:
        fleet.inject(code, target, now_ms - begin_min * 60_000, now_ms - end_min * 60_000)
    return [m for m in [*fleet.advance(now_ms), *fleet.finish()] if m.qos]


def send(service: Service, messages: Sequence[SimMessage]) -> None:
    """Publish messages and wait until their results are delivered."""
    sent = publish_all(messages, Broker("127.0.0.1", service.broker.port))
    assert sent.acknowledged == sent.sent == len(messages)
    service.await_settled()
    # the station whose will came is offline seconds later, by the ticks of a service that runs: stopped
    # before, it would say so when it runs again, and a replay, which never stops, at once
    wait_for(lambda: "offline" in _raised(service), "the station that said goodbye to be offline")


def _raised(service: Service) -> set[str]:
    ledger = service.ledger()
    try:
        return {row["code"] for row in ledger.finding_changes() if row["state"] == "raised"}
    finally:
        ledger.close()


def check_against_replay(service: Service, folder: Path) -> None:
    """Compare the ledger of a stopped service with a replay of its journal."""
    log = folder / "export.jsonl.gz"
    service.run("journal", "export", "--data", str(service.data), "--out", str(log))
    summary = replay(service.config, log, folder / "replayed", write_points=False)
    ledger = service.ledger()
    try:
        closing, intervals, changes = ledger.closes(), ledger.intervals(), ledger.finding_changes()
    finally:
        ledger.close()
    assert closing["closes"]
    assert {name: closing["messages"][name] for name in summary["messages"]} == summary["messages"]
    assert {name: closing["rows"][name] for name in summary["rows"]} == summary["rows"]
    _compare_intervals(intervals, folder / "replayed" / "intervals.csv", closing["through_ms"])
    _compare_findings(changes, folder / "replayed" / "findings.jsonl")


def _compare_intervals(held: list[dict[str, Any]], replayed: Path, through_ms: int) -> None:
    live = {
        (row["site"], row["station"], row["evse"], row["start_ms"]): (
            "" if row["energy_mwh"] is None else wh_text(row["energy_mwh"]),
            row["quality"],
            row["revision"],
        )
        for row in held
    }
    with replayed.open(newline="") as file:
        again = {
            (row["site"], row["station"], int(row["evse"]), int(row["start"])): (
                row["energy_wh"],
                row["quality"],
                int(row["revision"]),
            )
            for row in csv.DictReader(file)
        }
    # a log that ends closes its open quarters; a service that stops goes on later. An EVSE that fell silent
    # has its newest quarter open for minutes after its last message, however long ago the quarter was.
    newest: dict[tuple[str, str, int], int] = {}
    for site, station, evse, start_ms in again:
        newest[site, station, evse] = max(newest.get((site, station, evse), 0), start_ms)
    closed = {
        key: row
        for key, row in again.items()
        if key[3] + QUARTER_MS <= through_ms - 2_000 and key[3] < newest[key[:3]]
    }
    assert len(closed) > 60
    assert {key: row for key, row in live.items() if key in closed} == closed
    assert {key for key in live if key not in closed} <= again.keys()


def _compare_findings(held: list[dict[str, Any]], replayed: Path) -> None:
    names = ("finding_id", "code", "state", "live", "raised_at", "start", "last", "end", "severity", "parent")
    again = Counter(
        tuple(json.loads(line)[name] for name in names) for line in replayed.read_text().splitlines()
    )
    live = Counter(tuple(row[name] for name in names) for row in held)
    assert live == again
    raised = {row["code"] for row in held if row["state"] == "raised"}
    assert raised >= {"under_voltage", "over_voltage", "lock_failure", "register_rollback"}


def last_word(service: Service) -> None:
    """Send one more message and stop at once: a replay's time ends with its last message."""
    service.publish([("evt/v1/AX01/AX01-01/up/last", b"{}")])
    wait = time.monotonic() + 10
    while time.monotonic() < wait and _unaccounted(service):
        time.sleep(0.05)
    assert service.stop() == 0


def _unaccounted(service: Service) -> bool:
    ledger = service.ledger()
    try:
        return ledger.counts()["dead"] == 0
    finally:
        ledger.close()


def test_a_live_run_equals_its_replay_also_over_a_change_of_workers(tmp_path: Path) -> None:
    messages = two_hours(1)
    half = len(messages) // 2
    with Service(tmp_path, {"journal": {"shards": 4}}) as service:
        send(service, messages[:half])
        assert service.stop() == 0
        service.set("flow", workers=2)
        with pytest.raises(AssertionError, match=r"the state in .* was made with 1"):
            service.start()
        assert "run `chargestream rescale --workers 2` first" in service.log_text()
        dealt = service.run("rescale", "--config", str(service.file), "--workers", "2")
        assert "now set flow.workers = 2" in dealt
        service.start()
        send(service, messages[half:])
        shards = [read_status(service.data, f"worker-{i:02d}")["shards"] for i in range(2)]
        assert shards == [[0, 2, 4], [1, 3]]
        last_word(service)
        check_against_replay(service, tmp_path)


def test_a_cluster_of_two_processes_equals_a_replay(tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    settings: dict[str, dict[str, Any]] = {
        "journal": {"shards": 4},
        "flow": {"cluster_addresses": addresses},
    }
    messages = two_hours(2)
    half = len(messages) // 2
    with Service(tmp_path, settings) as service:
        send(service, messages[:half])
        assert service.stop() == 0
        service.start()  # each process finds its part of the saved state
        send(service, messages[half:])
        last_word(service)
        check_against_replay(service, tmp_path)

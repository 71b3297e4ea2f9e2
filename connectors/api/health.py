"""How the pipeline is: one picture from the processes' status files and the ledger, for page and /metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connectors.ledger_reader import LedgerReader
from connectors.status import read_status
from models.errors import ChargestreamError

#: A process that wrote no status for this long is not well.
STALE_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Health:
    """What is known now; a part that cannot be read is empty, and `problems` says so in words."""

    ingest: dict[str, Any]
    workers: dict[str, dict[str, Any]]
    egress: dict[str, Any]
    supervisor: dict[str, Any]
    closing: dict[str, Any]
    counts: dict[str, int]
    problems: list[str] = field(default_factory=list)

    @property
    def lag_messages(self) -> int:
        """Journaled messages that no saved state covers yet."""
        return sum(int(w.get("lag_messages", 0)) for w in self.workers.values())


def read_health(ledger: LedgerReader, data_dir: Path, now_ms: int) -> Health:
    """Return the present health."""
    problems: list[str] = []
    names = sorted(path.stem for path in (data_dir / "status").glob("worker-*.json"))
    workers = {name: read_status(data_dir, name) for name in names}
    ingest, egress = read_status(data_dir, "ingest"), read_status(data_dir, "egress")
    closing: dict[str, Any] = {}
    counts: dict[str, int] = {}
    try:
        closing, counts = ledger.closes(), ledger.counts()
    except ChargestreamError as error:
        problems.append(str(error))
    if closing and not closing["closes"]:
        first = closing["open"][0]
        problems.append(f"the account does not close: shard {first['shard']} {first['why']}")
    problems += _process_problems(workers, now_ms)
    if ingest and not ingest.get("connected", True):
        problems.append("ingest is not connected to the MQTT broker")
    if ingest.get("storage_full"):
        problems.append("the disk of the journal is full: nothing is acknowledged until there is room")
    for name, consumer in sorted(egress.get("consumers", {}).items()):
        if consumer.get("last_error"):
            problems.append(f"{name}: {consumer['last_error']}")
    return Health(ingest, workers, egress, read_status(data_dir, "supervisor"), closing, counts, problems)


def _process_problems(workers: dict[str, dict[str, Any]], now_ms: int) -> list[str]:
    return [
        f"{name} has not said anything for {(now_ms - int(status.get('written_ms', 0))) // 1000} s"
        for name, status in workers.items()
        if now_ms - int(status.get("written_ms", 0)) > STALE_MS
    ]

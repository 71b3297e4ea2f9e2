"""The one part of the web application that writes: decisions of people, and partners."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Final

import msgspec

from connectors.billing_writer import BillingWriter
from connectors.ocpi_store import OcpiStore
from connectors.outbox import OutboxWriter
from models.outputs import Publish
from models.topics import OPERATOR_SITE, ROOT

#: Where decisions go: the broker, and through ingest and journal into the flow, which thus replays them.
REVIEW_TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/review"
_NO_SHARD: Final = -1


class Desk:
    """Opens what is written to when it is first needed. Thread-safe.

    Parameters
    ----------
    ledger_url : str
    data_dir : Path
        Holds the outboxes; ours is ``outbox/api.db``.
    """

    def __init__(self, ledger_url: str, data_dir: Path) -> None:
        self._url, self._outbox_path = ledger_url, data_dir / "outbox" / "api.db"
        self._lock = threading.Lock()
        self._writer: BillingWriter | None = None
        self._outbox: OutboxWriter | None = None

    def writer(self) -> BillingWriter:
        """Return the writer; creates the ledger if there is none."""
        with self._lock:
            if self._writer is None:
                self._writer = BillingWriter(self._url)
            return self._writer

    def store(self) -> OcpiStore:
        """Return what OCPI reads and writes."""
        return OcpiStore(self.writer())

    def record(self, decision: dict[str, Any]) -> dict[str, Any]:
        """Store a decision, tell the flow of it, and return its row."""
        row = self.writer().decide(decision)
        self.announce(row)
        return row

    def announce(self, row: dict[str, Any]) -> None:
        """Put a decision into the outbox, from where it is published for the flow."""
        names = ("site", "station", "transaction_id", "session_revision", "decision", "energy_mwh", "reason")
        body = {"v": 1} | {name: row[name] for name in names}
        body |= {"by": row["decided_by"], "t": row["decided_ms"], "review_id": row["review_id"]}
        self.publish(REVIEW_TOPIC, body)

    def publish(self, topic: str, body: dict[str, Any]) -> None:
        """Put an operator's message into the outbox; through the broker it comes to the journal."""
        message = Publish(topic=topic, payload=json.dumps(body).encode())
        with self._lock:
            if self._outbox is None:
                self._outbox = OutboxWriter(self._outbox_path)
            self._outbox.append([("publish", _NO_SHARD, msgspec.msgpack.encode([message]))])
            self._outbox.commit()

    def close(self) -> None:
        """Close all that was opened."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
            if self._outbox is not None:
                self._outbox.close()

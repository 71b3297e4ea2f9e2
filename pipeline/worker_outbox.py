"""A worker's outbox within its bounds: delivered records go, and a dead InfluxDB cannot fill the disk.

Beyond `keep_bytes` the stream ``points`` is no longer stored until there is room again: dashboards get a
gap, billing, findings and commands go on. The journal still has every reading, so a replay fills the gap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from connectors.outbox import OutboxCursors, OutboxWriter

_LOG = logging.getLogger("chargestream.worker")

_EVERY_S: Final = 5.0
_REMIND_S: Final = 60.0
_SHED: Final = "points"

Blob = tuple[str, int, bytes]


class BoundedOutbox:
    """Writes to an outbox, trims it, and sheds points when it grows too large.

    Parameters
    ----------
    writer : OutboxWriter
    cursors : OutboxCursors
    consumers : mapping of stream to names
        Who has to deliver each stream.
    keep_s : float
        Delivered records are kept this long.
    keep_bytes : int
    """

    def __init__(
        self,
        writer: OutboxWriter,
        cursors: OutboxCursors,
        consumers: Mapping[str, Sequence[str]],
        keep_s: float,
        keep_bytes: int,
    ) -> None:
        self._writer = writer
        self._cursors = cursors
        self._consumers = consumers
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._next = 0.0
        self._remind = 0.0
        self.full = False
        self.shed_bytes = 0

    def append(self, records: list[Blob]) -> None:
        """Take records for the next commit."""
        if self.full:
            kept = [record for record in records if record[0] != _SHED]
            self.shed_bytes += sum(len(record[2]) for record in records if record[0] == _SHED)
            records = kept
        if records:
            self._writer.append(records)

    def commit(self) -> int:
        """Store what was appended; return the last sequence number."""
        return self._writer.commit()

    def last_seq(self) -> int:
        """Return the last stored sequence number."""
        return self._writer.last_seq()

    def look_after(self) -> None:
        """Trim and measure, at most every few seconds."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        delivered = self._cursors.delivered(self._consumers)
        self._writer.trim(delivered, keep_s=self._keep_s, keep_bytes=self._keep_bytes)
        self.full = self._writer.used_bytes() > self._keep_bytes
        if self.full and now >= self._remind:
            self._remind = now + _REMIND_S
            _LOG.warning(
                "the outbox holds more than outbox.keep_gib: points for InfluxDB are left out until it "
                "delivers again (%d bytes so far); a replay of the journal can fill the gap",
                self.shed_bytes,
            )

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
        self._cursors.close()

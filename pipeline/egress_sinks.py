"""The consumers of the outbox: InfluxDB, the ledger, the broker. One file says how each delivers.

A sink delivers a run of records of one stream and returns what was refused for good; it raises
`RetryLater` to be asked again with the same records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from connectors.claims import Claims
from connectors.influx import InfluxSettings, InfluxWriter, RefusedLine
from connectors.ledger import STREAMS as LEDGER_STREAMS
from connectors.ledger import Ledger
from connectors.mqtt import Refusal, named
from models.errors import Refused
from models.outputs import Publish
from models.units import NS_PER_MS

_LOG = logging.getLogger("chargestream.egress")

#: Findings go on their way at once; what only dashboards and bookkeeping wait for is asked for less often.
FAST_S: Final = 0.005
SLOW_S: Final = 0.1
_PUBLISH_AT_ONCE: Final = 500


class Record(NamedTuple):
    """One outbox record."""

    seq: int
    shard: int
    blob: bytes


Messages = Sequence[tuple[int, Publish]]


class Letter(NamedTuple):
    """A record, or the part of one, that was refused for good, and in what words."""

    seq: int
    blob: bytes
    reason: str


class Sink(Protocol):
    """What drains streams of an outbox. Used by one thread."""

    @property
    def name(self) -> str:
        """The consumer's name in cursors, dead-letter and status."""

    @property
    def streams(self) -> Mapping[str, float]:
        """Streams it drains -> seconds between two looks at an empty one."""

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Deliver `records` and return what was refused for good; raises RetryLater to be asked again."""

    def close(self) -> None:
        """Close connections."""


@runtime_checkable
class OrderedSink(Sink, Protocol):
    """A sink that needs the records of all its streams in the order in which they were put in."""

    def deliver_in_order(self, records: Sequence[tuple[str, Record]]) -> list[Letter]:
        """Deliver (stream, record)s, ascending, with nothing of its streams left out between them."""


class InfluxSink:
    """Line protocol to InfluxDB."""

    name = "influx"
    streams: Mapping[str, float] = {"points": SLOW_S}

    def __init__(self, settings: InfluxSettings) -> None:
        self._writer = InfluxWriter(settings)

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Write the lines of all `records` in batches."""
        refused = self._writer.write(b"".join(with_line_end(r.blob) for r in records))
        return list(_letters(records, refused))

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


def with_line_end(blob: bytes) -> bytes:
    """Return lines whose last one is ended, so that they can be put together."""
    return blob if not blob or blob.endswith(b"\n") else blob + b"\n"


def _letters(records: Sequence[Record], refused: Sequence[RefusedLine]) -> Iterator[Letter]:
    """Return a letter for each run of lines refused in the same words, under the record it came in."""
    run: list[bytes] = []
    key: tuple[int, str] | None = None
    at = 0
    for line, reason in refused:
        # Refused lines keep their order, so the record of a line is never before that of the last one.
        found = next((i for i in range(at, len(records)) if line in records[i].blob), at)
        at = found
        if key != (records[found].seq, reason):
            if key is not None:
                yield Letter(key[0], b"".join(run), key[1])
            key, run = (records[found].seq, reason), []
        run.append(line + b"\n")
    if key is not None:
        yield Letter(key[0], b"".join(run), key[1])


class LedgerSink:
    """Rows to the ledger.

    Parameters
    ----------
    ledger : callable
        Returns the ledger; all threads share one. Raises RetryLater while its database is away.
    """

    name = "ledger"
    streams: Mapping[str, float] = {s: 2 * FAST_S if s == "findings" else SLOW_S for s in LEDGER_STREAMS}

    def __init__(self, ledger: Callable[[], Ledger]) -> None:
        self._ledger = ledger

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Store all rows in one transaction; when one is refused, all the others."""
        ledger = self._ledger()
        try:
            ledger.apply(stream, [(r.shard, r.blob) for r in records])
        except Refused as error:
            if len(records) > 1:
                return [letter for record in records for letter in self.deliver(stream, [record])]
            parts = _rows_apart(records[0])
            if len(parts) <= 1:
                return [Letter(records[0].seq, records[0].blob, str(error))]
            return [letter for part in parts for letter in self.deliver(stream, [part])]
        return []

    def close(self) -> None:
        """Nothing: the ledger belongs to all threads."""


def _rows_apart(record: Record) -> list[Record]:
    """Return one record for each row of `record`; none when it is not a list."""
    try:
        rows = msgspec.msgpack.decode(record.blob, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [record._replace(blob=msgspec.msgpack.encode([row])) for row in rows]


class BrokerLink(Protocol):
    """What hands messages to a broker: `connectors.mqtt.Publisher`."""

    def connect(self) -> None:
        """Connect, unless that is done; raises RetryLater."""

    def publish(self, batch: Sequence[Publish]) -> list[Refusal]:
        """Publish and return what the broker refused; raises RetryLater to be asked again."""

    def close(self) -> None:
        """Disconnect."""


class MqttSink:
    """Messages to the broker, each acknowledged before the cursor moves.

    What is void by now is not published. Messages with `Publish.once` are claimed on disk first, a batch at
    a time, and what was claimed before is left out: it has gone, or may have.

    Parameters
    ----------
    publisher : BrokerLink
    claims : Path
        File of the claims, shared by all threads; opened when it is first needed.
    wall_ns : callable
        The machine's clock.
    """

    name = "mqtt"
    streams: Mapping[str, float] = {"publish": FAST_S}

    def __init__(
        self, publisher: BrokerLink, claims: Path, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._publisher, self._wall_ns = publisher, wall_ns
        self._claims_path = claims
        self._claims: Claims | None = None
        self._decoder = msgspec.msgpack.Decoder(list[Publish])

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Publish all messages in order."""
        letters: list[Letter] = []
        messages: list[tuple[int, Publish]] = []
        for record in records:
            try:
                messages += [(record.seq, message) for message in self._decoder.decode(record.blob)]
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                letters.append(Letter(record.seq, record.blob, f"cannot be read: {error}"))
        for start in range(0, len(messages), _PUBLISH_AT_ONCE):
            part = self._claimed(self._in_time(messages[start : start + _PUBLISH_AT_ONCE]))
            refusals = self._publisher.publish([message for _, message in part])
            for refusal in refusals:
                seq, message = part[refusal.index]
                letters.append(Letter(seq, msgspec.msgpack.encode([message]), refusal.reason))
            self._release([part[refusal.index][1].once for refusal in refusals])
        return letters

    def _in_time(self, messages: Messages) -> Messages:
        """Return what is not void yet."""
        now_ms = self._wall_ns() // NS_PER_MS
        void = [m for _, m in messages if m.until_ms is not None and m.until_ms <= now_ms]
        if void:
            _LOG.warning(
                "%d messages had expired before the broker could be told, and are not published, the first "
                "to %s", len(void), void[0].topic,
            )  # fmt: skip
            return [(seq, m) for seq, m in messages if m.until_ms is None or m.until_ms > now_ms]
        return messages

    def _claimed(self, messages: Messages) -> Messages:
        """Claim what may go once, and return `messages` without what was claimed before."""
        now_ms = self._wall_ns() // NS_PER_MS
        wanted = {m.once: m.until_ms or now_ms for _, m in messages if m.once}
        if not wanted:
            return messages
        self._publisher.connect()  # a claim without a connection would be a command that never goes
        if self._claims is None:
            self._claims = Claims(self._claims_path)
        free = self._claims.take(wanted, now_ms)
        known = [key for key in wanted if key not in free]
        if known:
            _LOG.warning(
                "%d commands have gone to the broker before, or may have, and are not sent again: %s",
                len(known), named(known),
            )  # fmt: skip
        out = []
        for seq, message in messages:
            if not message.once or message.once in free:
                free.discard(message.once)
                out.append((seq, message))
        return out

    def _release(self, refused: Sequence[str]) -> None:
        """Give back the claims of what the broker refused: it may go when it is asked for again."""
        keys = [key for key in refused if key]
        if keys and self._claims is not None:
            self._claims.release(keys)

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()
        if self._claims is not None:
            self._claims.close()

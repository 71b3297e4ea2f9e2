"""Reads the channels around a finding from the journal, in full detail, for as long as it keeps them.

The messages of the finding's site and node go through an order stage of their own, so that times are
corrected, repeats are gone and readings are in order, as they were in the flow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from connectors.journal import JournalReader, export
from models.batch import ReadingBatch
from models.channels import CHANNELS, REGISTER_CHANNEL
from models.devices import DeviceTable
from models.evidence import MOST_PLACES, READINGS, Ask, Trace
from models.frame import Frame
from models.shard import ShardBatch
from models.topics import Router, shard_of
from models.units import NO_REGISTER, NS_PER_MS

from .config import Config
from .ingest import journal_file
from .order import OrderStage
from .order_plan import order_plan

#: Messages that are looked at, at most, and bytes that are read; what lies beyond is left out.
MOST_MESSAGES: Final = 400_000
MOST_BYTES: Final = 64 << 20
#: Readings may arrive this long after their time.
LATEST_MS: Final = 15 * 60_000
_EARLIER_MS: Final = 60_000
_AT_ONCE: Final = 4_096
_MINUTE_MS: Final = 60_000

Message = tuple[int, bytes, bytes, int]


class JournalTraces:
    """Traces of channels from the journal. Thread-safe; one at a time reads.

    Parameters
    ----------
    config : Config
        Of the service whose journal it is.
    """

    def __init__(self, config: Config) -> None:
        self._path = journal_file(config)
        self._shards = config.journal.shards
        self._router = Router(config.topic_routes())
        self._order = order_plan(config)
        self._lock = threading.Lock()

    def __call__(self, ask: Ask) -> list[Trace] | None:
        """Return the traces that were asked for; None when the journal no longer (or never) had that time.

        Raises
        ------
        StorageError
            If the journal cannot be read.
        """
        with self._lock:
            if not self._path.exists() or not self._reaches(ask):
                return None
            gathered = _Gathered(ask)
            for batch in self._batches(ask):
                gathered.take(batch.rows, batch.devices)
            return gathered.traces()

    def _reaches(self, ask: Ask) -> bool:
        """Return whether the site's shard still has all that it had of the time asked for."""
        shard = shard_of(ask.site, self._shards)
        with JournalReader(self._path) as reader:
            first = reader.first(shard)
            oldest = reader.read(shard, first, max_messages=1)
        if first == 0:
            return oldest is not None
        return oldest is not None and int(oldest[1].recv_ns[0]) // NS_PER_MS <= ask.plan.since_ms + LATEST_MS

    def _batches(self, ask: Ask) -> Iterator[ShardBatch]:
        shard = shard_of(ask.site, self._shards)
        stage, first = OrderStage(shard, self._order), 0
        held: list[Message] = []
        for message in self._messages(ask, shard):
            held.append(message)
            if len(held) == _AT_ONCE:
                yield from stage.process((shard, first, Frame.build(held)))
                first, held = first + len(held), []
        if held:
            yield from stage.process((shard, first, Frame.build(held)))
        yield from stage.finish()

    def _messages(self, ask: Ask, shard: int) -> Iterator[Message]:
        """Yield the messages of the site, and of the node if one is asked for."""
        wanted: dict[bytes, bool] = {}
        size = 0
        plan = ask.plan
        arrivals = (plan.since_ms - _EARLIER_MS) * NS_PER_MS, (plan.until_ms + LATEST_MS) * NS_PER_MS
        stream = export(self._path, [shard], from_ns=arrivals[0], to_ns=arrivals[1])
        for count, message in enumerate(stream):
            topic = message[1]
            if topic not in wanted:
                match = self._router.match(topic.decode("utf-8", "replace"))
                wanted[topic] = (
                    match is not None and match.site == ask.site and ask.node in {None, match.node}
                )
            size += len(message[2])
            if count >= MOST_MESSAGES or size > MOST_BYTES:
                return
            if wanted[topic]:
                yield message


class _Gathered:
    """Traces as they come together."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._traces: dict[tuple[int, str, int], Trace] = {}  # by importance of channel, then place
        self._counts: dict[int, int] = {}

    def take(self, rows: ReadingBatch, devices: DeviceTable) -> None:
        """Take in readings."""
        plan = self._ask.plan
        time_ms = rows.time_ns // NS_PER_MS
        inside = (time_ms >= plan.since_ms) & (time_ms < plan.until_ms)
        for evse in np.unique(rows.evse[inside]).tolist():
            site, station, number = devices.names(evse)
            if site != self._ask.site or self._ask.station not in {None, station}:
                continue
            if self._ask.evse not in {None, number}:
                continue
            at = np.flatnonzero(inside & (rows.evse == evse))
            self._count(time_ms[at].tolist())
            for place, channel in enumerate(plan.channels):
                self._channel(rows, at, time_ms, channel, (place, station, number))

    def _count(self, times_ms: list[int]) -> None:
        for t in times_ms:
            minute = t // _MINUTE_MS * _MINUTE_MS
            self._counts[minute] = self._counts.get(minute, 0) + 1

    def _channel(
        self,
        rows: ReadingBatch,
        at: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        channel: int,
        key: tuple[int, str, int],
    ) -> None:
        if channel == REGISTER_CHANNEL:
            known = at[rows.reg_mwh[at] != NO_REGISTER]
            values = (rows.reg_mwh[known] / 1000).tolist()
        else:
            column = rows.column(channel)
            known = at[~np.isnan(column[at])]
            values = column[known].tolist()
        if not values:
            return
        about = CHANNELS[channel]
        trace = self._traces.setdefault(key, Trace(about.name, about.unit, key[1], key[2]))
        trace.times_ms += time_ms[known].tolist()
        trace.values += values

    def traces(self) -> list[Trace]:
        """Return them, the most important first; readings each minute where no channel decides."""
        if not self._ask.plan.channels:
            return [self._readings()]
        places = sorted({key[1:] for key in self._traces})[:MOST_PLACES]
        # where the grid side is measured apart, a voltage without location is the output to the car
        inlet = {key[1:] for key, trace in self._traces.items() if trace.name.endswith("/Inlet")}
        return [
            trace
            for key, trace in sorted(self._traces.items())
            if key[1:] in places
            and (key[1:] not in inlet or trace.unit != "V" or trace.name.endswith("/Inlet"))
        ]

    def _readings(self) -> Trace:
        plan = self._ask.plan
        trace = Trace(READINGS, "1/min", self._ask.station or "", self._ask.evse or 0)
        first, last = (t // _MINUTE_MS * _MINUTE_MS for t in (plan.since_ms, plan.until_ms - 1))
        trace.times_ms = list(range(first, last + 1, _MINUTE_MS))
        trace.values = [float(self._counts.get(minute, 0)) for minute in trace.times_ms]
        return trace

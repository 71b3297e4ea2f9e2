"""A message log as a journal: sharded, and with ticks of its own arrival times woven in.

Ticks are derived for every shard that has been heard of: one per second, in silences of the shard one per
ten seconds after two minutes and one per minute after an hour.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from connectors.journal import JournalWriter
from connectors.msglog import read_frames
from models.frame import TICK_FLAG, Frame
from models.sharding import Sharder
from models.topics import Router
from models.units import NS_PER_S

from .config import Config

_HOUR_S: Final = 3600
_DENSE_S: Final = 120
_BLOCK_MESSAGES: Final = 200_000
_BLOCK_BYTES: Final = 32 << 20  # of payloads
_BLOCK_NS: Final = 24 * _HOUR_S * NS_PER_S  # of arrivals: each second has a tick a shard


def tick_times(heard_s: int, after_s: int, until_s: int) -> NDArray[np.int64]:
    """Return the seconds in (after_s, until_s] that get a tick, in a silence that began at `heard_s`.

    All of the first two minutes, every tenth within the hour, then every sixtieth: a service ticks every
    second, but nothing that waits that long needs to be known to the second.
    """
    dense, medium = heard_s + _DENSE_S, heard_s + _HOUR_S
    parts = [
        np.arange(after_s + 1, min(dense, until_s) + 1, dtype=np.int64),
        _multiples(10, max(after_s, dense), min(medium, until_s)),
        _multiples(60, max(after_s, medium), until_s),
    ]
    return np.concatenate(parts)


def _multiples(step: int, after_s: int, until_s: int) -> NDArray[np.int64]:
    """Return the multiples of `step` in (after_s, until_s]."""
    first = (after_s // step + 1) * step
    return np.arange(first, until_s + 1, step, dtype=np.int64)


class Ticker:
    """Puts ticks between the messages of each shard, by that shard's own silences."""

    def __init__(self) -> None:
        self._heard_s: dict[int, int] = {}  # newest message of each shard
        self._until_s: dict[int, int] = {}  # ticked up to here

    def weave(self, frame: Frame, by_shard: dict[int, Frame]) -> dict[int, Frame]:
        """Return the frames of this block with ticks woven in; shards without messages get ticks too."""
        until = int(frame.recv_ns.max()) // NS_PER_S
        for shard, part in by_shard.items():
            first = int(part.recv_ns[0]) // NS_PER_S
            self._heard_s.setdefault(shard, first)
            self._until_s.setdefault(shard, first)
        out = {}
        for shard in sorted(self._heard_s):
            own = by_shard.get(shard)
            seconds = self._seconds(shard, own, until)
            if own is not None or len(seconds):
                out[shard] = _merge(own, seconds * NS_PER_S)
        return out

    def _seconds(self, shard: int, own: Frame | None, until: int) -> NDArray[np.int64]:
        stops: list[int] = [] if own is None else np.unique(own.recv_ns // NS_PER_S).tolist()
        parts = []
        for stop in stops:
            parts.append(tick_times(self._heard_s[shard], self._until_s[shard], stop))
            self._heard_s[shard] = max(self._heard_s[shard], stop)
            self._until_s[shard] = max(self._until_s[shard], stop)
        parts.append(tick_times(self._heard_s[shard], self._until_s[shard], until))
        self._until_s[shard] = max(self._until_s[shard], until)
        return np.concatenate(parts)


def _merge(frame: Frame | None, ticks_ns: NDArray[np.int64]) -> Frame:
    """Return messages and ticks in order of time; a tick comes before a message of its own second."""
    if frame is None:
        return Frame.ticks(ticks_ns.tolist())
    if len(ticks_ns) == 0:
        return frame
    recv = np.maximum.accumulate(frame.recv_ns)
    at = np.searchsorted(recv, ticks_ns, side="left")  # index of the first message at or after the tick
    n = len(frame) + len(ticks_ns)
    where = np.zeros(n, np.bool_)
    where[at + np.arange(len(ticks_ns))] = True
    out = Frame(
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.uint8),
        frame.topics,
        frame.payloads,
    )
    out.recv_ns[where], out.recv_ns[~where] = ticks_ns, frame.recv_ns
    out.flags[where], out.flags[~where] = TICK_FLAG, frame.flags
    ends = np.where(where, 0, 1).cumsum()
    for name in ("topic_end", "payload_end"):
        column = np.concatenate([np.zeros(1, np.int64), getattr(frame, name)])
        setattr(out, name, column[ends])
    return out


def blocks(path: Path) -> Iterator[Frame]:
    """Yield the messages of a log in blocks of about `_BLOCK_MESSAGES`, `_BLOCK_BYTES` or `_BLOCK_NS`."""
    held: list[Frame] = []
    count = size = 0
    for frame in read_frames(path):
        held.append(frame)
        count += len(frame)
        size += len(frame.payloads)
        long = int(frame.recv_ns[-1]) - int(held[0].recv_ns[0]) >= _BLOCK_NS
        if count >= _BLOCK_MESSAGES or size >= _BLOCK_BYTES or long:
            yield Frame.concat(held)
            held, count, size = [], 0, 0
    if held:
        yield Frame.concat(held)


def sharded(config: Config, source: Path) -> Iterator[dict[int, Frame]]:
    """Yield the blocks of a log by shard, ticks woven in."""
    sharder, ticker = Sharder(Router(config.topic_routes()), config.journal.shards), Ticker()
    for frame in blocks(source):
        yield ticker.weave(frame, sharder.split(frame))


def write_journal(config: Config, source: Path, path: Path) -> None:
    """Write a log into a new journal, without fsync, in chunks that fit the flow's batches."""
    most, size = config.flow.batch_max_messages, config.flow.batch_max_bytes
    with JournalWriter(path, config.journal.shards, control=True, durable=False) as writer:
        for by_shard in sharded(config, source):
            for shard, frame in by_shard.items():
                for part in _parts(frame, most, size):
                    writer.append({shard: part})


class LogJournal:
    """A journal that is read from a log as the flow asks for it, and kept nowhere.

    It hands out every shard once, from the start on. A block of the log is read when no shard has anything
    left of the one before, so it holds one block.
    """

    def __init__(self, config: Config, source: Path) -> None:
        self._source = sharded(config, source)
        #: shard -> (offset of its first message, how many were read, messages)
        self._left: dict[int, tuple[int, int, Frame]] = {}
        self._ends = dict.fromkeys(range(config.journal.shards + 1), 0)  # the last is the control shard
        self._exhausted = False
        self.fill_s = 0.0  # time spent on reading, sharding and ticking

    def ends(self) -> dict[int, int]:
        """Return the end of every shard as far as the log was read."""
        return self._ends

    def first(self, shard: int) -> int:
        """Return the first offset of a shard."""
        return 0

    def read(
        self, shard: int, offset: int, max_messages: int = 8192, max_bytes: int = 4 << 20
    ) -> tuple[int, Frame] | None:
        """Return the messages of `shard` from `offset` on, None at the end of the log.

        No message at all means that other shards come first.
        """
        if not self._left and not self._exhausted:
            self._fill()
        if shard not in self._left:
            return None if self._exhausted else (offset, Frame.ticks([]))
        base, at, frame = self._left.pop(shard)
        if base + at != offset:
            raise ValueError(
                f"shard {shard} of a log was read up to {base + at}, offset {offset} was asked for"
            )
        stop = _stop(frame, at, max_messages, max_bytes)
        if stop < len(frame):
            self._left[shard] = (base, stop, frame)
        return offset, frame if stop - at == len(frame) else frame.slice(at, stop)

    def _fill(self) -> None:
        began = time.perf_counter()
        found = next(self._source, None)
        self._exhausted = found is None
        for shard, frame in (found or {}).items():
            if len(frame):
                self._left[shard] = (self._ends[shard], 0, frame)
                self._ends[shard] += len(frame)
        self.fill_s += time.perf_counter() - began


def _parts(frame: Frame, most: int, size: int) -> Iterator[Frame]:
    """Yield a frame in parts of at most `most` messages and `size` bytes, one message at least."""
    at = 0
    while at < len(frame):
        stop = _stop(frame, at, most, size)
        yield frame.slice(at, stop)
        at = stop


def _stop(frame: Frame, at: int, most: int, size: int) -> int:
    """Return where the part that begins at message `at` ends."""
    last = min(at + max(most, 1), len(frame))
    end = frame.topic_end[at:last] + frame.payload_end[at:last]
    base = int(frame.topic_end[at - 1] + frame.payload_end[at - 1]) if at else 0
    fit = at + int(np.searchsorted(end, base + size, side="right"))
    return min(max(fit, at + 1), last)

"""Replay: a message log through the whole flow, on a private journal, without broker or network.

Ticks are derived from the log's own arrival times, for every shard that has been heard of: one per second,
in silences of the shard one per ten seconds after two minutes and one per minute after an hour.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.journal import JournalReader, JournalWriter
from connectors.msglog import read_frames
from models.frame import TICK_FLAG, Frame
from models.outputs import Account, CdrRow, CommandRow, FindingChange, IntervalRow, SessionRow
from models.records import Dead
from models.sharding import Sharder
from models.topics import Router
from models.units import NS_PER_S

from . import engine
from .config import Config
from .flow import Stages, build_flow
from .replay_files import write_results
from .warmup import warm_up

_HOUR_S: Final = 3600
_DENSE_S: Final = 120
_FILL_MESSAGES: Final = 200_000  # messages that are journaled before the flow runs over them


@dataclass(slots=True)
class Collected:
    """The sink of a replay: keeps what becomes files, writes points as they come."""

    points: IO[bytes] | None
    findings: list[FindingChange] = field(default_factory=list)
    intervals: dict[tuple[str, str, int, int], IntervalRow] = field(default_factory=dict)
    dead: list[Dead] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    sessions: dict[tuple[str, str, str, int], SessionRow] = field(default_factory=dict)
    cdrs: dict[str, CdrRow] = field(default_factory=dict)
    commands: list[CommandRow] = field(default_factory=list)

    def append(self, records: list[engine.Blob]) -> None:
        """Take in blobs."""
        for stream, _, blob in records:
            if stream == "points":
                if self.points is not None:
                    self.points.write(blob)
            elif stream == "findings":
                self.findings += msgspec.msgpack.decode(blob, type=list[FindingChange])
            elif stream == "intervals":
                for row in msgspec.msgpack.decode(blob, type=list[IntervalRow]):
                    key = (row.site, row.station, row.evse, row.start_ms)
                    if key not in self.intervals or self.intervals[key].revision < row.revision:
                        self.intervals[key] = row
            elif stream == "dead":
                self.dead += msgspec.msgpack.decode(blob, type=list[Dead])
            elif stream == "sessions":
                for session in msgspec.msgpack.decode(blob, type=list[SessionRow]):
                    place = (session.site, session.station, session.transaction_id, session.revision)
                    self.sessions[place] = session
            elif stream == "cdrs":
                for cdr in msgspec.msgpack.decode(blob, type=list[CdrRow]):
                    self.cdrs.setdefault(cdr.id, cdr)
            elif stream == "commands":
                self.commands += msgspec.msgpack.decode(blob, type=list[CommandRow])
            elif stream == "account":
                self.accounts += msgspec.msgpack.decode(blob, type=list[Account])

    def commit(self) -> int:
        """Nothing to do: a replay that is interrupted is run again."""
        return 0


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
    ticks = Frame.ticks(ticks_ns.tolist())
    if frame is None:
        return ticks
    if len(ticks_ns) == 0:
        return frame
    recv = np.maximum.accumulate(frame.recv_ns)
    at = np.searchsorted(recv, ticks_ns, side="left")  # index of the first message at or after the tick
    n = len(frame) + len(ticks)
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


def _blocks(path: Path) -> Iterator[list[Frame]]:
    held, count = [], 0
    for frame in read_frames(path):
        held.append(frame)
        count += len(frame)
        if count >= _FILL_MESSAGES:
            yield held
            held, count = [], 0
    if held:
        yield held


def _fill(config: Config, source: Path, journal: Path) -> None:
    """Write the log into a journal, sharded and ticked."""
    shards = config.journal.shards
    sharder, ticker = Sharder(Router(config.topic_routes()), shards), Ticker()
    with JournalWriter(journal, shards, control=True, durable=False) as writer:
        for frames in _blocks(source):
            frame = Frame.concat(frames)
            writer.append(ticker.weave(frame, sharder.split(frame)))


def replay(config: Config, source: Path, out: Path, *, write_points: bool = True) -> dict[str, Any]:
    """Run the flow over the log `source` and write its results into `out`; return the summary.

    Raises
    ------
    DecodeError
        If a line of the log cannot be read.
    StorageError
        If the results cannot be stored.
    """
    began = time.perf_counter()
    stages = Stages.of(config, None)
    warm_up(stages)
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=".journal-", dir=out))
    try:
        with (out / "points.lp").open("wb") if write_points else _Nothing() as points:
            collected = Collected(points)
            _fill(config, source, private / "journal.db")
            filled = time.perf_counter()
            with JournalReader(private / "journal.db") as reader:
                shards = list(range(reader.shards()))
                settings = engine.SourceSettings(
                    shards=shards,
                    all_shards=shards,
                    batch_max_messages=config.flow.batch_max_messages,
                    batch_max_bytes=config.flow.batch_max_bytes,
                    ends=True,
                )
                flow = build_flow(stages, reader, settings).build(collected)
                engine.run(flow, epoch_s=3600.0)
            flowed = time.perf_counter()
    finally:
        shutil.rmtree(private, ignore_errors=True)
    write_results(out, collected)
    wall = time.perf_counter() - started
    summary = summarise(collected, wall, started - began)
    summary["fill_s"] = round(filled - started, 3)
    summary["flow_s"] = round(flowed - filled, 3)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


class _Nothing:
    """Stands for a file that is not written."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


def summarise(collected: Collected, wall_s: float, startup_s: float) -> dict[str, Any]:
    """Return the closing account of a replay (DESIGN: ``summary.json``)."""
    total: Counter[str] = Counter()
    held: dict[int, tuple[int, int]] = {}
    for account in collected.accounts:
        for name in (
            "messages",
            "decoded",
            "duplicate",
            "dead",
            "rows_in",
            "rows_processed",
            "rows_late",
            "rows_duplicate",
            "rows_invalid",
        ):
            total[name] += getattr(account, name)
        held[account.shard] = max(held.get(account.shard, (0, 0)), (account.end, account.held))
    waiting = sum(count for _, count in held.values())
    messages = {
        "total": total["messages"],
        "decoded": total["decoded"],
        "duplicate": total["duplicate"],
        "dead": total["dead"],
    }
    rows = {
        "in": total["rows_in"],
        "processed": total["rows_processed"],
        "late": total["rows_late"],
        "duplicate": total["rows_duplicate"],
        "invalid": total["rows_invalid"],
    }
    raised = Counter(change.code for change in collected.findings if change.state == "raised")
    return {
        "messages": messages,
        "rows": rows,
        "waiting": waiting,
        "closes": messages["total"]
        == messages["decoded"] + messages["duplicate"] + messages["dead"] + waiting
        and rows["in"] == rows["processed"] + rows["late"] + rows["duplicate"] + rows["invalid"],
        "findings": dict(sorted(raised.items())),
        "intervals": len(collected.intervals),
        "rows_per_s": round(rows["in"] / wall_s) if wall_s > 0 else 0,
        "wall_s": round(wall_s, 3),
        "startup_s": round(startup_s, 3),
        "versions": {
            name: version(name) for name in ("chargestream", "bytewax", "numba", "numpy", "msgspec")
        },
    }

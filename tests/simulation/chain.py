"""The stages of the flow without an engine: fed by hand, killed and restored at any message."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from connectors.msglog import LogWriter
from connectors.quarters import SqliteArchive, open_archive
from connectors.simulator import Fleet, FleetConfig, SimMessage
from models.energy import MemoryArchive
from models.frame import Frame
from models.outputs import Account, FindingChange, IntervalRow
from models.records import Dead
from models.shard import ShardBatch
from models.sharding import Sharder
from models.topics import Router
from models.units import NS_PER_MS
from pipeline.bill import BillStage
from pipeline.config import Config
from pipeline.flow import Stages
from pipeline.replay_log import Ticker

T0_MS = 1_780_000_020_000

Key = tuple[str, str, int, int]


def fleet_messages(
    config: FleetConfig, seed: int, hours: float, faults: Sequence[tuple[str, str, float, float]] = ()
) -> list[SimMessage]:
    """Return what a fleet sends; `faults` are (code, target, begin, end), times in s from the start."""
    fleet = Fleet(config, seed, T0_MS)
    for code, target, begin_s, end_s in faults:
        fleet.inject(code, target, T0_MS + round(begin_s * 1000), T0_MS + round(end_s * 1000))
    return [*fleet.advance(T0_MS + round(hours * 3_600_000)), *fleet.finish()]


def write_log(messages: Sequence[SimMessage], path: Path) -> Path:
    """Write messages as a message log."""
    with LogWriter(path) as log:
        for message in messages:
            log.write(message.t_ms * NS_PER_MS, message.topic, message.payload)
    return path


def frame_of(messages: Sequence[SimMessage]) -> Frame:
    """Return messages as one frame."""
    return Frame.build([(m.t_ms * NS_PER_MS, m.topic.encode(), m.payload, 0) for m in messages])


def sharded(config: Config, messages: Sequence[SimMessage]) -> dict[int, Frame]:
    """Return each shard's messages with ticks between them, as a journal would hold them."""
    frame = frame_of(messages)
    sharder = Sharder(Router(config.topic_routes()), config.journal.shards)
    return Ticker().weave(frame, sharder.split(frame))


@dataclass
class Outputs:
    """Everything that came out, by natural key: what comes again has to be the same."""

    intervals: dict[tuple[Key, int], IntervalRow] = field(default_factory=dict)
    findings: dict[tuple[str, int], FindingChange] = field(default_factory=dict)
    dead: dict[tuple[int, str], Dead] = field(default_factory=dict)
    accounts: dict[tuple[int, int], Account] = field(default_factory=dict)
    points: set[bytes] = field(default_factory=set)
    states: dict[tuple[str, str, int, int], int] = field(default_factory=dict)  # context bits of readings

    def take(self, blobs: Sequence[tuple[str, int, bytes]]) -> None:
        """Take in what the last stage gave; fails when a record came before with another content."""
        for stream, shard, blob in blobs:
            if stream == "points":
                self.points.update(blob.splitlines())
            elif stream == "intervals":
                for row in msgspec.msgpack.decode(blob, type=list[IntervalRow]):
                    key = (row.site, row.station, row.evse, row.start_ms)
                    _put(self.intervals, (key, row.revision), row)
            elif stream == "findings":
                for change in msgspec.msgpack.decode(blob, type=list[FindingChange]):
                    _put(self.findings, (change.finding_id, change.change), change)
            elif stream == "dead":
                for dead in msgspec.msgpack.decode(blob, type=list[Dead]):
                    _put(self.dead, (dead.pos, dead.topic), dead)
            elif stream == "account":
                for account in msgspec.msgpack.decode(blob, type=list[Account]):
                    self.accounts[shard, account.end] = account

    def final(self) -> dict[Key, tuple[int | None, str]]:
        """Return energy and quality of the last revision of each interval."""
        out: dict[Key, tuple[int | None, str]] = {}
        for (key, _), row in sorted(self.intervals.items()):
            out[key] = (row.energy_mwh, row.quality)
        return out

    def open_gap(self) -> tuple[int, int]:
        """Return messages and readings that the account does not explain: (0, 0) when it closes.

        Only for a chain that was not killed: else ranges overlap.
        """
        accounts = list(self.accounts.values())
        held = {a.shard: a.held for a in sorted(accounts, key=lambda a: a.end)}
        messages = sum(a.messages - a.decoded - a.duplicate - a.dead for a in accounts)
        rows = sum(
            a.rows_in - a.rows_processed - a.rows_late - a.rows_duplicate - a.rows_invalid for a in accounts
        )
        return messages - sum(held.values()), rows


def _put(store: dict[Any, Any], key: Any, value: Any) -> None:
    assert store.setdefault(key, value) == value, f"{key} came again with another content"


class Chain:
    """The five stages of one shard.

    Parameters
    ----------
    stages : Stages
    shard : int
    out : Outputs
    archive_dir : Path or None
        Of the quarters' files, which outlive a kill; None: kept in memory, for chains that are not killed.
    """

    def __init__(self, stages: Stages, shard: int, out: Outputs, archive_dir: Path | None = None) -> None:
        self._stages, self.shard, self.out, self._folder = stages, shard, out, archive_dir
        self._archive: SqliteArchive | None = None
        self.restore(None)

    def restore(self, saved: bytes | None) -> None:
        """Begin anew from what `snapshot` gave, None: from nothing. What was since then is forgotten."""
        states = pickle.loads(saved) if saved else [None] * 6
        self.close()
        if self._folder is not None:
            self._archive = open_archive(self._folder, self.shard)
        archive = self._archive or MemoryArchive()
        self._chain: list[Any] = [
            self._stages.build_order(self.shard, states[0]),
            self._stages.build_detect(self.shard, states[1]),
            BillStage(self.shard, self._stages.bill, archive, states[2]),
            self._stages.build_control(self.shard, states[3]),
            self._stages.build_maintain(self.shard, states[4]),
            self._stages.build_emit(self.shard, states[5]),
        ]

    def snapshot(self) -> bytes:
        """Return the state of all stages as the engine saves it."""
        return pickle.dumps([stage.snapshot() for stage in self._chain])

    def feed(self, first: int, frame: Frame) -> None:
        """Give the stages a piece of the journal."""
        self._pass([(self.shard, first, frame)], 0)

    def finish(self) -> None:
        """Let the stages give out what they hold back: the log ends."""
        for k, stage in enumerate(self._chain):
            self._pass(list(stage.finish()), k + 1)

    def close(self) -> None:
        """Close the quarters' file; what no saved state knows of is gone."""
        if self._archive is not None:
            self._archive.close()

    def holds(self) -> bool:
        """Return whether messages wait for one with an earlier number."""
        return bool(self._chain[0].snapshot()["held"])

    def _pass(self, items: list[Any], at: int) -> None:
        for k, stage in enumerate(self._chain[at:], at):
            items = [made for item in items for made in stage.process(item)]
            if k == 0:
                self._note_states(items)
        for blobs in items:
            self.out.take(blobs)

    def _note_states(self, batches: list[ShardBatch]) -> None:
        for batch in batches:
            rows = batch.rows
            for evse, time_ns, state in zip(
                rows.evse.tolist(), rows.time_ns.tolist(), rows.state.tolist(), strict=True
            ):
                _put(self.out.states, (*batch.devices.names(evse), time_ns), state)


def run_all(stages: Stages, frames: dict[int, Frame]) -> Outputs:
    """Return what undisturbed chains make of the frames."""
    out = Outputs()
    for shard, frame in frames.items():
        chain = Chain(stages, shard, out)
        chain.feed(0, frame)
        chain.finish()
    return out

"""The one file that knows Bytewax: journal source, keyed stages, outbox sink, recovery, clean stop.

Guarantees (measured against bytewax 0.21.1): state and journal offset of a snapshot belong together;
after a kill both are those of the last finished epoch, and what came out since comes out again, the
same by content. On the first `next_batch` after a `snapshot` everything up to that snapshot is
durable, so that is when the journal is told what it may forget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from models.errors import ChargestreamError
from models.frame import Frame

from . import recovery as recovery_files

#: What the source emits: shard, offset of the first message, the messages.
Chunk = tuple[int, int, Frame]

#: What reaches the sink: stream, shard, encoded records.
Blob = tuple[str, int, bytes]

_RECOVERY_PARTITIONS: Final = 1
_REDUCED_POLL_S: Final = 0.05  # bytewax freezes an epoch while an input sleeps longer


class Stage(Protocol):
    """A stateful step of one shard; made by a `StageFactory`, driven in stream order."""

    def process(self, item: Any) -> Iterable[Any]:
        """Take in one item and return what goes on."""

    def finish(self) -> Iterable[Any]:
        """Return what is left at the end of a log that ends; not called when a live stream stops."""

    def snapshot(self) -> Any:
        """Return state as plain data, copied; what it refers to outside is durable when it returns."""


StageFactory = Callable[[int, Any], Stage]  # (shard, state or None)


class Journal(Protocol):
    """What the source needs of a journal."""

    def ends(self) -> dict[int, int]: ...

    def first(self, shard: int) -> int: ...

    def read(
        self, shard: int, offset: int, max_messages: int = ..., max_bytes: int = ...
    ) -> tuple[int, Frame] | None: ...


class Outbox(Protocol):
    """What the sink needs of an outbox."""

    def append(self, records: list[Blob]) -> None: ...

    def commit(self) -> int | None: ...


@dataclass(slots=True)
class SourceSettings:
    """How the journal is read.

    Attributes
    ----------
    shards : list of int
        Shards of this process.
    all_shards : list of int
        Shards of the whole cluster (equal to `shards` outside a cluster).
    poll_s : float
        Pause after finding nothing new.
    batch_max_messages, batch_max_bytes : int
        Bounds of one batch.
    ends : bool
        Stop at the present end of the journal; else follow it.
    finish : bool
        At that end let the stages give out what they hold back: the log ends for good (replay).
    stopping : callable
        True once the process was asked to stop.
    committed : callable
        Told {shard: offset} once everything before is durable.
    pulse : callable
        Called at every activation (group commits, status).
    """

    shards: list[int]
    all_shards: list[int]
    poll_s: float = 0.005
    batch_max_messages: int = 8192
    batch_max_bytes: int = 4 << 20
    ends: bool = False
    finish: bool = True
    stopping: Callable[[], bool] = lambda: False
    committed: Callable[[dict[int, int]], None] = lambda _: None
    pulse: Callable[[], None] = lambda: None


def part_name(shard: int) -> str:
    """Return the name of a shard in Bytewax keys and partitions; never changes."""
    return f"shard-{shard:04d}"


class _ShardSource(StatefulSourcePartition[tuple[str, Chunk], int]):
    """Reads one shard."""

    def __init__(self, journal: Journal, shard: int, settings: SourceSettings, resume: int | None) -> None:
        self._journal = journal
        self._shard = shard
        self._key = part_name(shard)
        self._settings = settings
        self._offset = journal.first(shard) if resume is None else resume
        self._pending: int | None = resume
        self._idle = False

    def next_batch(self) -> list[tuple[str, Chunk]]:
        settings = self._settings
        if self._pending is not None:
            settings.committed({self._shard: self._pending})
            self._pending = None
        settings.pulse()
        if settings.stopping():
            raise StopIteration
        found = self._journal.read(
            self._shard, self._offset, settings.batch_max_messages, settings.batch_max_bytes
        )
        self._idle = found is None
        if found is None:
            if settings.ends:
                raise StopIteration
            return []
        first, frame = found
        self._offset = first + len(frame)
        return [(self._key, (self._shard, first, frame))]

    def next_awake(self) -> datetime | None:
        if not self._idle:
            return None
        pause = min(self._settings.poll_s, _REDUCED_POLL_S)
        return datetime.now(UTC) + timedelta(seconds=pause)

    def snapshot(self) -> int:
        self._pending = self._offset
        return self._offset


class _JournalSource(FixedPartitionedSource[tuple[str, Chunk], int]):
    def __init__(self, journal: Journal, settings: SourceSettings) -> None:
        self._journal = journal
        self._settings = settings

    def list_parts(self) -> list[str]:
        return [part_name(shard) for shard in self._settings.shards]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _ShardSource:
        shard = int(for_part.rsplit("-", 1)[1])
        return _ShardSource(self._journal, shard, self._settings, resume_state)


class _StageLogic(op.StatefulBatchLogic[Any, Any, Any]):
    """Runs a stage for one key; the stage is built when its shard is known."""

    def __init__(self, factory: StageFactory, finish: bool, resume_state: tuple[int, Any] | None) -> None:
        self._factory = factory
        self._finish = finish
        self._shard = -1
        self._stage: Stage | None = None
        if resume_state is not None:
            self._shard = resume_state[0]
            self._stage = factory(*resume_state)

    def on_batch(self, values: list[Any]) -> tuple[Iterable[Any], bool]:
        out: list[Any] = []
        for value in values:
            if self._stage is None:
                self._shard = value[0] if isinstance(value, tuple) else value.shard
                self._stage = self._factory(self._shard, None)
            out.extend(self._stage.process(value))
        return out, False

    def on_eof(self) -> tuple[Iterable[Any], bool]:
        if self._finish and self._stage is not None:
            return list(self._stage.finish()), False
        return [], False

    def on_notify(self) -> tuple[Iterable[Any], bool]:
        return [], False

    def notify_at(self) -> None:
        return None

    def snapshot(self) -> tuple[int, Any] | None:
        return None if self._stage is None else (self._shard, self._stage.snapshot())


class _OutboxPartition(StatefulSinkPartition[list[Blob], None]):
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def write_batch(self, values: list[list[Blob]]) -> None:
        for blobs in values:
            if blobs:
                self._outbox.append(blobs)

    def snapshot(self) -> None:
        self._outbox.commit()


class _OutboxSink(FixedPartitionedSink[list[Blob], None]):
    """One partition a process, named by its place in the cluster."""

    def __init__(self, outbox: Outbox, process: int, processes: int) -> None:
        self._outbox = outbox
        self._name = f"outbox-{process:04d}"
        self._processes = processes

    def list_parts(self) -> list[str]:
        return [self._name]

    def part_fn(self, item_key: str) -> int:
        return int(item_key.rsplit("-", 1)[1]) % self._processes

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _OutboxPartition:
        return _OutboxPartition(self._outbox)


@dataclass(slots=True)
class Flow:
    """A Bytewax flow under construction: a line of keyed stages from a journal to an outbox."""

    name: str
    journal: Journal
    settings: SourceSettings
    steps: list[tuple[str, StageFactory]] = field(default_factory=list)

    def stage(self, name: str, factory: StageFactory) -> Flow:
        """Add a stage; its name is part of the saved state's key and must not change."""
        self.steps.append((name, factory))
        return self

    def build(self, outbox: Outbox, process: int = 0, processes: int = 1) -> Dataflow:
        """Return the dataflow that ends in `outbox`."""
        flow = Dataflow(self.name)
        stream: Any = op.input("journal", flow, _JournalSource(self.journal, self.settings))
        for name, factory in self.steps:
            stream = op.stateful_batch(
                name, stream, _builder(factory, self.settings.ends and self.settings.finish)
            )
        op.output("outbox", stream, _OutboxSink(outbox, process, processes))
        return flow


def _builder(factory: StageFactory, finish: bool) -> Callable[[Any], _StageLogic]:
    def build(resume_state: Any) -> _StageLogic:
        return _StageLogic(factory, finish, resume_state)

    return build


def run(
    flow: Dataflow,
    *,
    epoch_s: float,
    recovery_dir: Path | None = None,
    addresses: Sequence[str] = (),
    process: int = 0,
) -> None:
    """Run a dataflow in this thread until its sources end.

    Parameters
    ----------
    flow : Dataflow
    epoch_s : float
        State is saved this often.
    recovery_dir : Path, optional
        Where state is saved; made, or repaired after a crash, before the start.
    addresses : sequence of str
        ``host:port`` of every process of a cluster; empty: this process alone.
    process : int
        Place of this process in `addresses`.
    """
    recovery = None
    if recovery_dir is not None:
        if not addresses or process == 0:
            recovery_files.prepare(recovery_dir, make_recovery)
        else:
            recovery_files.await_made(recovery_dir)
        recovery = RecoveryConfig(recovery_dir)
    try:
        cli_main(
            flow,
            process_id=process if addresses else None,
            addresses=list(addresses) or None,
            epoch_interval=timedelta(seconds=epoch_s),
            recovery_config=recovery,
        )
    except RuntimeError as error:
        # Bytewax wraps what a step raised; whoever started us knows what to do with our own errors
        ours = _ours(error)
        if ours is None:
            raise
        raise ours from error


def _ours(error: BaseException | None) -> ChargestreamError | KeyboardInterrupt | None:
    """Return the error of ours, or the wish of a person to stop, that `error` was made of, if any."""
    while error is not None:
        if isinstance(error, ChargestreamError | KeyboardInterrupt):
            return error
        error = error.__cause__
    return None


def make_recovery(directory: Path) -> None:
    """Make an empty recovery directory."""
    init_db_dir(directory, _RECOVERY_PARTITIONS)

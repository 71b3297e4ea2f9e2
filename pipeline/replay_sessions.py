"""Finished sessions of logs and journals, as features: what models are trained on and compared over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.journal import JournalReader
from connectors.msglog import read_frames
from models.batch import F64, I64
from models.detecting import Observed
from models.detectors._base import Table
from models.frame import Frame
from models.learned.gathering import finished
from models.learned.sessions import N_FEATURES, SESSION_BLANK, SESSION_FIELDS
from models.shard import ShardBatch
from models.sharding import Sharder
from models.topics import Router

from .config import Config
from .flow import Stages
from .order import OrderStage

JOURNAL_FILE: Final = "journal.db"
_MESSAGES: Final = 8192
_BYTES: Final = 8 << 20


class Sessions(NamedTuple):
    """n finished sessions in order of their ends, EVSE by EVSE."""

    features: F64  # (n, N_FEATURES)
    station: NDArray[np.str_]  # (n,): site/station
    evse: NDArray[np.int32]  # (n,): the EVSE's id at its station
    start_ns: I64
    end_ns: I64


def sessions_of(
    config: Config,
    logs: list[Path],
    journals: list[Path],
    step: Callable[[int], object] = lambda _: None,
) -> Sessions:
    """Return the sessions of message logs and of data folders with a journal.

    Parameters
    ----------
    config : Config
        Topics, dialects and order are those of the service.
    logs, journals : list of Path
        Journals may be in use.
    step : callable
        Called with the number of messages and ticks that were read since the last call.

    Raises
    ------
    DecodeError
        If a line of a log cannot be read.
    StorageError
        If a journal cannot be read.
    """
    parts: list[Sessions] = []
    for log in logs:
        parts += _of_frames(config, _log_frames(config, log), step)
    for folder in journals:
        with JournalReader(folder / JOURNAL_FILE) as reader:
            for shard in range(reader.shards()):
                parts += _of_frames(config, _journal_frames(reader, shard), step)
    if not parts:
        i64 = np.zeros(0, np.int64)
        return Sessions(np.zeros((0, N_FEATURES)), np.zeros(0, np.str_), np.zeros(0, np.int32), i64, i64)
    features, station, evse, start_ns, end_ns = (np.concatenate(c) for c in zip(*parts, strict=True))
    by_plug = np.lexsort((end_ns, evse, station))
    return Sessions(features[by_plug], station[by_plug], evse[by_plug], start_ns[by_plug], end_ns[by_plug])


def _log_frames(config: Config, log: Path) -> Iterator[tuple[int, Frame]]:
    """Yield a log as one shard, in the order of arrival.

    Without ticks: no session depends on what passes in silence.
    """
    sharder, first = Sharder(Router(config.topic_routes()), 1), 0
    for frame in read_frames(log):
        (own,) = sharder.split(frame).values()
        yield first, own
        first += len(own)


def _journal_frames(reader: JournalReader, shard: int) -> Iterator[tuple[int, Frame]]:
    at = reader.first(shard)
    while (found := reader.read(shard, at, _MESSAGES, _BYTES)) is not None:
        yield found
        at = found[0] + len(found[1])


def _of_frames(
    config: Config, frames: Iterator[tuple[int, Frame]], step: Callable[[int], object]
) -> list[Sessions]:
    stage, table = OrderStage(0, Stages.of(config, None).order), Table(SESSION_FIELDS, SESSION_BLANK)
    out: list[Sessions] = []
    for first, frame in frames:
        out += [_of_batch(batch, table) for batch in stage.process((0, first, frame))]
        step(len(frame))
    return [*out, *(_of_batch(batch, table) for batch in stage.finish())]


def _of_batch(batch: ShardBatch, table: Table) -> Sessions:
    table.reserve(batch.devices.n_evses)
    found = finished(Observed(batch.devices, batch.rows, batch.messages, batch.records), table.rows)
    names = [batch.devices.names(e) for e in found.evse.tolist()]
    return Sessions(
        found.features,
        np.array([f"{site}/{station}" for site, station, _ in names], np.str_),
        np.array([evse for _, _, evse in names], np.int32),
        found.start_ns,
        found.end_ns,
    )

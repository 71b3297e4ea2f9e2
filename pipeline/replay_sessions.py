"""Recorded sessions as what models learn from: features of finished ones, their power by the minute."""

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
from models.learned.power_training import PowerRows
from models.learned.power_windows import N_INPUTS, N_SHAPES, POWER_BLANK, POWER_FIELDS, windows_of
from models.learned.sessions import N_FEATURES, SESSION_BLANK, SESSION_FIELDS
from models.sharding import Sharder
from models.topics import Router

from .config import Config
from .flow import Stages
from .order import OrderStage

JOURNAL_FILE: Final = "journal.db"
_MESSAGES: Final = 8192
_BYTES: Final = 8 << 20

Step = Callable[[int], object]


class Sessions(NamedTuple):
    """n finished sessions in order of their ends, EVSE by EVSE."""

    features: F64  # (n, N_FEATURES)
    station: NDArray[np.str_]  # (n,): site/station
    evse: NDArray[np.int32]  # (n,): the EVSE's id at its station
    start_ns: I64
    end_ns: I64


def sessions_of(
    config: Config, logs: list[Path], journals: list[Path], step: Step = lambda _: None
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
    i64 = np.zeros(0, np.int64)
    parts = [Sessions(np.zeros((0, N_FEATURES)), np.zeros(0, np.str_), np.zeros(0, np.int32), i64, i64)]
    for tape in _tapes(config, logs, journals, step):
        table = Table(SESSION_FIELDS, SESSION_BLANK)
        for seen in tape:
            table.reserve(seen.devices.n_evses)
            found = finished(seen, table.rows)
            station, evse = _names(seen, found.evse)
            parts.append(Sessions(found.features, station, evse, found.start_ns, found.end_ns))
    features, station, evse, start_ns, end_ns = (np.concatenate(c) for c in zip(*parts, strict=True))
    by_plug = np.lexsort((end_ns, evse, station))
    return Sessions(features[by_plug], station[by_plug], evse[by_plug], start_ns[by_plug], end_ns[by_plug])


def power_rows_of(
    config: Config, logs: list[Path], journals: list[Path], step: Step = lambda _: None
) -> PowerRows:
    """Return the power of sessions minute by minute, session by session; as `sessions_of`."""
    i64 = np.zeros(0, np.int64)
    none = np.zeros((0, N_INPUTS)), np.zeros((0, N_SHAPES))
    parts = [(np.zeros(0, np.str_), np.zeros(0, np.int32), i64, i64, np.zeros(0, "u1"), np.zeros(0), *none)]
    for tape in _tapes(config, logs, journals, step):
        table = Table(POWER_FIELDS, POWER_BLANK)
        for seen in tape:
            table.reserve(seen.devices.n_evses)
            w = windows_of(seen, table.rows)
            names = _names(seen, w.evse)
            parts.append((*names, w.session_ns, w.time_ns, w.flags, w.share, w.inputs, w.shapes))
    station, evse, begin, time_ns, *rest = (np.concatenate(c) for c in zip(*parts, strict=True))
    order = np.lexsort((time_ns, begin, evse, station))
    station, evse, begin = station[order], evse[order], begin[order]
    new = (station[1:] != station[:-1]) | (evse[1:] != evse[:-1]) | (begin[1:] != begin[:-1])
    session = np.concatenate([[0], np.cumsum(new)])[: len(station)].astype(np.int64)
    flags, share, inputs, shapes = (column[order] for column in rest)
    return PowerRows(station, evse, session, time_ns[order], flags, share, inputs, shapes)


def _names(seen: Observed, evses: NDArray[np.int32]) -> tuple[NDArray[np.str_], NDArray[np.int32]]:
    """Return site/station and number of each EVSE row."""
    names = [seen.devices.names(e) for e in evses.tolist()]
    stations = np.array([f"{site}/{station}" for site, station, _ in names], np.str_)
    return stations, np.array([evse for _, _, evse in names], np.int32)


def _tapes(
    config: Config, logs: list[Path], journals: list[Path], step: Step
) -> Iterator[Iterator[Observed]]:
    """Yield each log, and each shard of a journal, as what detectors would see of it."""
    for log in logs:
        yield _observed(config, _log_frames(config, log), step)
    for folder in journals:
        with JournalReader(folder / JOURNAL_FILE) as reader:
            for shard in range(reader.shards()):
                yield _observed(config, _journal_frames(reader, shard), step)


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


def _observed(config: Config, frames: Iterator[tuple[int, Frame]], step: Step) -> Iterator[Observed]:
    stage = OrderStage(0, Stages.of(config, None).order)
    for first, frame in frames:
        for batch in stage.process((0, first, frame)):
            yield Observed(batch.devices, batch.rows, batch.messages, batch.records)
        step(len(frame))
    for batch in stage.finish():
        yield Observed(batch.devices, batch.rows, batch.messages, batch.records)

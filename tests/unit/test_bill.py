"""The bill stage: it adds to batches, finishes a log, and resumes."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from models.batch import ReadingBatch
from models.energy import EnergyConfig, MemoryArchive
from models.errors import SnapshotError
from models.outputs import IntervalRow
from models.rollups import RollupConfig
from models.shard import ShardBatch
from pipeline.bill import BillConfig, BillStage
from tests.laws.energy_stream import Message, Orderer, fleet

T0 = 1_790_000_100_000
CONFIG = BillConfig(EnergyConfig(), RollupConfig())


def batches() -> list[ShardBatch]:
    """Return three batches of one reading a minute."""
    orderer, devices = Orderer(), fleet(1)
    out = []
    for k in range(3):
        times = [T0 + 60_000 * (10 * k + i) for i in range(10)]
        none = ReadingBatch.empty()
        rows, late, messages = orderer.batch([Message(t, ((0, t, (t - T0) // 100),)) for t in times])
        out.append(ShardBatch(4, 10 * k, 10 * k + 10, devices, rows, late, none, messages, [], [], None))
    return out


class Result(NamedTuple):
    """What a batch carries in the end."""

    first: int
    end: int
    intervals: list[IntervalRow]
    windows: list[tuple[int, int, int]]  # period, start, readings


def results(stage: BillStage, parts: list[ShardBatch]) -> list[Result]:
    """Return what each batch carries, and the last one after the end."""
    done = [batch for part in parts for batch in stage.process(part)] + stage.finish()
    return [
        Result(
            batch.first,
            batch.end,
            batch.intervals,
            [
                (rows.period_s, start, count)
                for rows in batch.rollups
                for start, count in zip(rows.start_ns.tolist(), rows.count.tolist(), strict=True)
            ],
        )
        for batch in done
    ]


def test_intervals_and_rollups_are_added_and_the_end_brings_the_rest() -> None:
    found = results(BillStage(4, CONFIG, MemoryArchive()), batches())
    assert [(part.first, part.end) for part in found] == [(0, 10), (10, 20), (20, 30), (30, 30)]
    assert [row.energy_mwh for part in found for row in part.intervals] == [9_000, 14 * 600]
    windows = [window for part in found for window in part.windows]
    assert sum(count for period, _, count in windows if period == 60) == 30
    assert [count for period, _, count in windows if period == 900] == [15, 15]
    assert len(found[-1].windows) == 2


def test_the_end_of_nothing_is_nothing() -> None:
    assert BillStage(0, CONFIG, MemoryArchive()).finish() == []


def test_a_restart_goes_on_where_the_state_was_saved() -> None:
    whole = results(BillStage(4, CONFIG, MemoryArchive()), batches())
    for at in range(3):
        archive = MemoryArchive()
        before = BillStage(4, CONFIG, archive)
        parts = batches()
        for part in parts[:at]:
            before.process(part)
        state = before.snapshot()
        for part in parts[at:]:
            before.process(part)
        assert results(BillStage(4, CONFIG, archive, state), batches()[at:]) == whole[at:]


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="bill stage has version 7, this program reads 2"):
        BillStage(0, CONFIG, MemoryArchive(), {"version": 7})


def test_bytes_of_state_are_told() -> None:
    stage = BillStage(4, CONFIG, MemoryArchive())
    stage.process(batches()[0])
    assert 300 < stage.nbytes() < 1_000

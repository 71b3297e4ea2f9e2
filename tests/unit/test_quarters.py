"""The archive of quarters: versions, going back, retention, and the same in SQLite as in memory."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from connectors import quarters
from connectors.quarters import open_archive
from models.energy import Archive, EnergyConfig, EnergyMeter, MemoryArchive, Quarters
from models.errors import StorageCorrupt
from models.outputs import IntervalRow
from models.units import NO_TIME
from tests.laws.energy_stream import Orderer, cut, fleet
from tests.laws.test_energy_laws import assert_as_naive, counting, deliver


@pytest.fixture(params=["memory", "sqlite"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """Return an archive of each kind."""
    return MemoryArchive() if request.param == "memory" else open_archive(tmp_path, 3)


def row(evse: int, quarter: int, revision: int) -> tuple[int, ...]:
    """Return a quarter that can be told apart by its revision."""
    return (evse, quarter, NO_TIME, 0, NO_TIME, 0, 0, 17, 10**15, -5, revision)


def put(archive: Archive, *rows: tuple[int, ...], keep_from: int = 0) -> None:
    """Store rows."""
    archive.put(Quarters.of(rows), np.full(len(rows), keep_from))


def revisions(archive: Archive, evse: int) -> dict[int, int]:
    """Return quarter -> revision of what the archive has of an EVSE."""
    found = archive.load(evse, 0, 10_000)
    return dict(zip(found.quarter.tolist(), found.revision.tolist(), strict=True))


def test_the_newest_version_is_loaded_by_quarter(archive: Archive) -> None:
    put(archive, row(1, 12, 1), row(1, 11, 1), row(2, 11, 7))
    archive.flush(10)
    put(archive, row(1, 11, 2))
    assert archive.load(1, 11, 13).rows() == [row(1, 11, 2), row(1, 12, 1)]
    assert archive.load(1, 12, 13).rows() == [row(1, 12, 1)]
    assert len(archive.load(9, 0, 99)) == 0


def test_rollback_returns_to_what_was_there_when_the_state_was_saved(archive: Archive) -> None:
    put(archive, row(1, 11, 1))
    archive.flush(10)
    put(archive, row(1, 11, 2), row(1, 12, 1))
    archive.flush(20)
    put(archive, row(1, 11, 3))
    archive.rollback(20)
    assert revisions(archive, 1) == {11: 2, 12: 1}
    put(archive, row(1, 11, 4))
    archive.rollback(10)
    assert revisions(archive, 1) == {11: 1}
    archive.rollback(0)
    assert revisions(archive, 1) == {}


def test_what_no_saved_state_needs_goes_and_not_before(archive: Archive) -> None:
    put(archive, row(1, 11, 1), row(1, 12, 1))
    archive.flush(10)
    put(archive, row(1, 13, 1), keep_from=13)
    for order in (20, 30, 40, 50):
        archive.flush(order)
        assert revisions(archive, 1) == {11: 1, 12: 1, 13: 1}
    archive.flush(60)
    assert revisions(archive, 1) == {13: 1}


def test_where_nobody_goes_back_what_cannot_change_goes_at_once() -> None:
    archive = MemoryArchive(goes_back=False)
    put(archive, row(1, 11, 1), row(1, 12, 1), row(2, 11, 1))
    put(archive, row(1, 13, 1), row(1, 12, 2), keep_from=12)
    assert revisions(archive, 1) == {12: 2, 13: 1}
    assert revisions(archive, 2) == {11: 1}
    put(archive, row(1, 14, 1), keep_from=15)
    assert revisions(archive, 1) == {}


def test_where_nobody_goes_back_the_intervals_are_the_same() -> None:
    rng = random.Random(12)
    readings = {evse: counting(rng, 150) for evse in range(2)}
    messages = deliver(rng, readings, "backlog") + deliver(rng, readings, "unbounded")[:40]
    devices, batches = fleet(2), Orderer()
    cuts = [batches.batch(part) for part in cut(messages, [9] * len(messages))]
    config = EnergyConfig(late_quarters=30)
    meters = [EnergyMeter(config, MemoryArchive(goes_back=goes_back)) for goes_back in (True, False)]
    one, other = [[meter.process(*batch, devices) for batch in cuts] for meter in meters]
    assert one == other


def test_what_was_flushed_outlives_the_process_and_nothing_else(tmp_path: Path) -> None:
    with open_archive(tmp_path, 0) as first:
        put(first, row(1, 11, 1))
        first.flush(10)
        put(first, row(1, 12, 1))
    with open_archive(tmp_path, 0) as again:
        again.rollback(10)
        assert revisions(again, 1) == {11: 1}
    with open_archive(tmp_path, 1) as other:
        assert revisions(other, 1) == {}


def test_much_is_written_before_a_state_is_saved_and_forgotten_on_going_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarters, "PENDING_MAX", 10)
    with open_archive(tmp_path, 0) as archive:
        archive.flush(10)
        for quarter in range(100):
            put(archive, row(1, quarter, 1))
        with sqlite3.connect(archive.path) as db:
            assert db.execute("SELECT count(*) FROM quarters").fetchone()[0] > 80
        db.close()
        assert len(revisions(archive, 1)) == 100
        archive.rollback(10)
        assert revisions(archive, 1) == {}


def test_a_damaged_file_says_so_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "quarters-0000.db").write_bytes(b"no database at all" * 300)
    with pytest.raises(StorageCorrupt, match=r"quarter archive .*delete it"):
        open_archive(tmp_path, 0)


def test_a_run_over_sqlite_with_crashes_equals_one_in_memory(tmp_path: Path) -> None:
    rng = random.Random(11)
    readings = {evse: counting(rng, 150) for evse in range(2)}
    messages = deliver(rng, readings, "backlog") + deliver(rng, readings, "unbounded")[:40]
    devices, orderer = fleet(2), Orderer()
    batches = [orderer.batch(part) for part in cut(messages, [9] * len(messages))]
    config = EnergyConfig(late_quarters=1_000)
    plain = EnergyMeter(config, MemoryArchive())
    wanted = [plain.process(*batch, devices) for batch in batches] + [plain.flush(devices)]

    archive = open_archive(tmp_path, 0)
    meter = EnergyMeter(config, archive)
    saved = [(0, meter.snapshot())]
    got: list[list[IntervalRow]] = []
    crashes = {len(batches) // 3, len(batches) // 2, len(batches) - 2}
    while len(got) < len(batches):
        at = len(got)
        if at in crashes:
            crashes.remove(at)
            archive.close()
            saved = saved[: max(1, len(saved) - 1)]
            at, state = saved[-1]
            archive = open_archive(tmp_path, 0)
            meter = EnergyMeter(config, archive, state)
            got = got[:at]
        got.append(meter.process(*batches[at], devices))
        if rng.random() < 0.4:
            saved.append((at + 1, meter.snapshot()))
    got.append(meter.flush(devices))
    archive.close()
    assert got == wanted
    assert_as_naive([r for part in got for r in part], readings)

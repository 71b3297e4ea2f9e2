"""How far a worker's saved state has come goes on being written down, for all shards, as long as it runs."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from connectors.cursors import Cursors, cursors_path
from connectors.journal import JournalWriter
from models.frame import Frame
from pipeline import engine
from pipeline import worker as workers
from pipeline.config import Config
from pipeline.config_sections import FlowSection, JournalSection, ServiceSection

SHARDS = 2


def hear(writer: JournalWriter, second: int) -> None:
    writer.append({shard: Frame.ticks([second * 10**9]) for shard in range(SHARDS)})


def test_cursors_follow_every_epoch_and_every_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the journal would never be trimmed.

    A stand-in for the engine tells of three epochs, as its source would.
    """
    stop = threading.Event()
    told: list[dict[int, int]] = []
    with JournalWriter(tmp_path / "journal.db", SHARDS) as writer:
        hear(writer, 1_780_000_000)

        def run(flow: engine.SourceSettings, **_: object) -> None:
            for epoch in (1, 2, 3):
                for shard in range(SHARDS):
                    flow.committed({shard: epoch})
                    flow.pulse()
                time.sleep(0.05)
            flow.pulse()
            told.append(Cursors(cursors_path(tmp_path / "journal.db")).all()["worker-00"])

        class Built:
            def __init__(self, settings: engine.SourceSettings) -> None:
                self.settings = settings

            def build(self, *_: object) -> engine.SourceSettings:
                return self.settings

        monkeypatch.setattr(workers, "_CURSORS_S", 0.01)
        monkeypatch.setattr(workers, "warm_up", lambda *_: None)
        monkeypatch.setattr(workers, "build_flow", lambda _stages, _journal, settings: Built(settings))
        monkeypatch.setattr(engine, "run", run)
        config = Config(
            service=ServiceSection(data_dir=str(tmp_path)),
            journal=JournalSection(shards=SHARDS),
            flow=FlowSection(workers=1),
        )
        workers.run_worker(config, 0, stop)
    assert told == [{0: 3, 1: 3}]

"""A worker process: its shards of the journal through the flow into its outbox.

Workers are independent: each has its shards, its recovery directory and its outbox, so a fault stays
where it is. The same flow also runs as a Bytewax cluster (``flow.cluster_addresses``).
"""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any, Final

from connectors.cursors import Cursors, cursors_path
from connectors.journal import JournalReader
from connectors.outbox import OutboxCursors, OutboxWriter, outbox_cursors_path
from connectors.status import write_status
from models.errors import ConfigError
from models.learned.running import merged, problems
from models.units import NS_PER_MS

from . import engine
from .config import Config
from .consumers import consumers
from .flow import Stages, build_flow
from .memory import keep_freed
from .warmup import warm_up
from .worker_outbox import BoundedOutbox

log = logging.getLogger("chargestream.worker")

_STATUS_S: Final = 1.0
_CURSORS_S: Final = 1.0


def shards_of(worker: int, workers: int, shards: int) -> list[int]:
    """Return the shards of a worker: every `workers`-th one."""
    return list(range(worker, shards, workers))


def check_layout(data_dir: Path, workers: int) -> None:
    """Refuse to start with another number of workers than the saved state was made with.

    Raises
    ------
    ConfigError
        If the number differs; says how to change it.
    """
    path = data_dir / "recovery" / "workers"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(f"{workers}\n", encoding="utf-8")
    before = int(path.read_text(encoding="utf-8"))
    if before != workers:
        raise ConfigError(
            f"flow.workers is {workers}, but the state in {path.parent} was made with {before}: set it back, "
            f"or stop everything and run `chargestream rescale --workers {workers}` first"
        )


class Worker:
    """One worker process, from open files to the end of its flow.

    Parameters
    ----------
    config : Config
    index : int
        Which worker, from 0.
    stop : Event
        Set to stop cleanly: the present epoch is finished and saved.
    """

    def __init__(self, config: Config, index: int, stop: threading.Event) -> None:
        self.config = config
        self.index = index
        self.name = f"worker-{index:02d}"
        self._stop = stop
        self._data = Path(config.service.data_dir)
        self._committed: dict[int, int] = {}
        self._last_commit = time.monotonic()
        self._last_cursor = time.monotonic()
        self._last_status = 0.0
        self._started = time.monotonic()
        self._unfit: set[str] = set()

    def run(self) -> None:
        """Run until `stop` is set."""
        config, flow = self.config, self.config.flow
        cluster = len(flow.cluster_addresses)
        workers = cluster or flow.workers
        if not 0 <= self.index < workers:
            raise ConfigError(f"worker {self.index}: there are {workers} workers, numbered from 0")
        if not cluster:
            check_layout(self._data, workers)
        journal_path = self._data / "journal.db"
        reader = JournalReader(journal_path, wait=True)
        self._reader = reader
        self._shards = shards_of(self.index, workers, reader.shards())
        self._cursors = Cursors(cursors_path(journal_path))
        self._outbox = self._open_outbox()
        settings = engine.SourceSettings(
            shards=self._shards,
            all_shards=list(range(reader.shards())),
            poll_s=flow.poll_ms / 1000,
            batch_max_messages=flow.batch_max_messages,
            batch_max_bytes=flow.batch_max_bytes,
            stopping=self._stop.is_set,
            committed=self._committed.update,
            pulse=self._pulse,
        )
        self._stages = Stages.of(config, self._data / "quarters")
        keep_freed()
        warm_up(self._stages, log.warning)
        dataflow = build_flow(self._stages, reader, settings).build(
            self._outbox, self.index if cluster else 0, max(1, cluster)
        )
        log.info("%s: shards %s, state in %s", self.name, self._shards, self._recovery_dir(cluster))
        try:
            engine.run(
                dataflow,
                epoch_s=flow.epoch_s,
                recovery_dir=self._recovery_dir(cluster),
                addresses=flow.cluster_addresses,
                process=self.index,
            )
        finally:
            self._outbox.close()
            self._write_cursors()
            self._cursors.close()
            reader.close()

    def _open_outbox(self) -> BoundedOutbox:
        path = self._data / "outbox" / f"{self.name}.db"
        bounds = self.config.outbox
        return BoundedOutbox(
            OutboxWriter(path),
            OutboxCursors(outbox_cursors_path(path)),
            consumers(self.config),
            bounds.keep_hours * 3600,
            int(bounds.keep_gib * (1 << 30)),
        )

    def _recovery_dir(self, cluster: int) -> Path:
        return self._data / "recovery" / ("cluster" if cluster else self.name)

    def _pulse(self) -> None:
        now = time.monotonic()
        if now - self._last_commit >= self.config.flow.outbox_commit_ms / 1000:
            self._last_commit = now
            self._outbox.commit()
            self._outbox.look_after()
        if self._committed and now - self._last_cursor >= _CURSORS_S:
            self._last_cursor = now
            self._write_cursors()
        if now - self._last_status >= _STATUS_S:
            self._last_status = now
            write_status(self._data, self.name, self._report())

    def _write_cursors(self) -> None:
        if self._committed:
            self._cursors.set_many(self.name, self._committed)
            self._committed.clear()  # the same dict: the source goes on filling it

    def _report(self) -> dict[str, Any]:
        ends = self._reader.ends()
        committed = {shard: self._cursors.get(self.name, shard) or 0 for shard in self._shards}
        return {
            "pid": os.getpid(),
            "written_ms": time.time_ns() // NS_PER_MS,
            "shards": self._shards,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "lag_messages": sum(ends[shard] - committed[shard] for shard in self._shards),
            "outbox_last": self._outbox.last_seq(),
            "shed_bytes": self._outbox.shed_bytes,
            "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "models": self._models(),
        }

    def _models(self) -> list[dict[str, Any]]:
        """Return what learned models do in this worker; say aloud when one no longer fits."""
        control = self.config.journal.shards  # has no stations, and is not told of models
        stages = [stage for stage in self._stages.detecting if stage.shard != control]
        found = merged(said for stage in stages for said in stage.running())
        unfit = {words for entry in found for words in problems(entry)}
        for words in sorted(unfit - self._unfit):
            log.warning("%s: %s", self.name, words)
        self._unfit = unfit
        return found


def run_worker(config: Config, index: int, stop: threading.Event) -> None:
    """Run one worker until `stop` is set."""
    Worker(config, index, stop).run()

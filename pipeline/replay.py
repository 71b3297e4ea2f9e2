"""Replay: a message log through the whole flow, without broker or network.

Ticks are derived from the log's own arrival times (see `replay_log`). The log is read, sharded and ticked a
block at a time while the flow runs, and nothing of it is stored; results are written as they come.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any, Final

from connectors.ledger import Ledger

from . import engine
from .config import Config
from .flow import Stages, build_flow
from .memory import keep_freed, search_seldom
from .replay_files import ResultFiles
from .replay_log import LogJournal
from .replay_tally import versions
from .warmup import warm_up

_LOG: Final = logging.getLogger("chargestream.replay")


def run_flow(config: Config, stages: Stages, journal: engine.Journal, results: ResultFiles) -> None:
    """Run the flow over all of a journal in this thread."""
    shards = sorted(journal.ends())
    settings = engine.SourceSettings(
        shards=shards,
        all_shards=shards,
        batch_max_messages=config.flow.batch_max_messages,
        batch_max_bytes=config.flow.batch_max_bytes,
        ends=True,
    )
    engine.run(build_flow(stages, journal, settings).build(results), epoch_s=3600.0)


def replay(
    config: Config, source: Path, out: Path, *, write_points: bool = True, ledger: str = ""
) -> dict[str, Any]:
    """Run the flow over the log `source` and write its results into `out`; return the summary.

    Energy, sessions and bills go into the ledger too whose address is given. Where it is interrupted, what
    came until then is there, and the summary there says that it is not complete.

    Raises
    ------
    ConfigError
        If the ledger's address is wrong.
    DecodeError
        If a line of the log cannot be read.
    StorageError
        If the results cannot be stored.
    RetryLater
        If the ledger does not take them.
    """
    began = time.perf_counter()
    keep_freed()
    stages = Stages.of(config, None)
    if not write_points:
        stages.emit = dataclasses.replace(stages.emit, influx=False)
    # what a running session has cost is for displays: of it nothing stays, and telling it is dear
    transactions = dataclasses.replace(stages.bill.transactions, cost_ns=0)
    stages.bill = dataclasses.replace(stages.bill, transactions=transactions)
    warm_up(stages)
    search_seldom()
    started = time.perf_counter()
    journal, store = LogJournal(config, source), Ledger(ledger) if ledger else None
    try:
        results = ResultFiles(out, points=write_points, ledger=store)
        try:
            run_flow(config, stages, journal, results)
        except BaseException:
            results.leave()
            _LOG.warning(
                "interrupted: %s has what came until then, in the order in which it came; its summary.json "
                "says how far that is",
                out,
            )
            raise
        flowed = time.perf_counter()
        results.finish(config.maintenance.rules())
        if store is not None:
            store.note_months(config.billing.zones(), config.billing.time_zone)
    finally:
        if store is not None:
            store.close()
    wall = time.perf_counter() - started
    account = results.tally.summary()
    summary = (
        {"complete": True}
        | account
        | {
            "rows_per_s": round(account["rows"]["in"] / wall) if wall > 0 else 0,
            "wall_s": round(wall, 3),
            "startup_s": round(started - began, 3),
            "versions": versions(),
            "fill_s": round(journal.fill_s, 3),
            "flow_s": round(flowed - started - journal.fill_s, 3),
        }
    )
    results.write_summary(summary)
    return summary

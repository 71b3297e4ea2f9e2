"""Replay: a message log through the whole flow, without broker or network.

Ticks are derived from the log's own arrival times (see `replay_log`). The log is read, sharded and ticked a
block at a time while the flow runs, and nothing of it is stored.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from sys import intern
from typing import IO, Any

import msgspec

from models.outputs import (
    Account,
    CdrRow,
    CommandRow,
    DeviceRow,
    FindingChange,
    InspectionRow,
    IntervalRow,
    ReactionRow,
    SessionRow,
    WearRow,
)
from models.records import Dead

from . import engine
from ._packed import Packed
from .config import Config
from .flow import Stages, build_flow
from .memory import keep_freed, search_seldom
from .replay_files import write_results
from .replay_ledger import fill_ledger
from .replay_log import LogJournal
from .warmup import warm_up


@dataclass(slots=True)
class Collected:
    """The sink of a replay: keeps what becomes files, writes points as they come."""

    points: IO[bytes] | None
    findings: list[FindingChange] = field(default_factory=list)
    intervals: MutableMapping[tuple[str, str, int, int], IntervalRow] = field(
        default_factory=lambda: Packed(IntervalRow)
    )
    dead: list[Dead] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    sessions: MutableMapping[tuple[str, str, str, int], SessionRow] = field(
        default_factory=lambda: Packed(SessionRow)
    )
    cdrs: MutableMapping[str, CdrRow] = field(default_factory=lambda: Packed(CdrRow))
    commands: list[CommandRow] = field(default_factory=list)
    reactions: list[ReactionRow] = field(default_factory=list)
    devices: dict[tuple[str, str, int], DeviceRow] = field(default_factory=dict)
    wear: dict[tuple[str, str, int], WearRow] = field(default_factory=dict)
    inspections: dict[tuple[str, int], InspectionRow] = field(default_factory=dict)

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
                    key = (intern(row.site), intern(row.station), row.evse, row.start_ms)
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
                    if cdr.id not in self.cdrs:
                        self.cdrs[cdr.id] = cdr
            elif stream == "reactions":
                self.reactions += msgspec.msgpack.decode(blob, type=list[ReactionRow])
            elif stream == "commands":
                self.commands += msgspec.msgpack.decode(blob, type=list[CommandRow])
            elif stream in {"wear", "devices"}:
                self._keep(stream, blob)
            elif stream == "inspections":
                for done in msgspec.msgpack.decode(blob, type=list[InspectionRow]):
                    self.inspections.setdefault((done.inspection_id, done.evse), done)
            elif stream == "account":
                self.accounts += msgspec.msgpack.decode(blob, type=list[Account])

    def _keep(self, stream: str, blob: bytes) -> None:
        if stream == "wear":
            for worn in msgspec.msgpack.decode(blob, type=list[WearRow]):
                self.wear[(worn.site, worn.station, worn.evse)] = worn
        else:
            for device in msgspec.msgpack.decode(blob, type=list[DeviceRow]):
                self.devices[(device.site, device.station, device.evse)] = device

    def commit(self) -> int:
        """Nothing to do: a replay that is interrupted is run again."""
        return 0


def run_flow(config: Config, stages: Stages, journal: engine.Journal, collected: Collected) -> None:
    """Run the flow over all of a journal in this thread."""
    shards = sorted(journal.ends())
    settings = engine.SourceSettings(
        shards=shards,
        all_shards=shards,
        batch_max_messages=config.flow.batch_max_messages,
        batch_max_bytes=config.flow.batch_max_bytes,
        ends=True,
    )
    engine.run(build_flow(stages, journal, settings).build(collected), epoch_s=3600.0)


def replay(
    config: Config, source: Path, out: Path, *, write_points: bool = True, ledger: str = ""
) -> dict[str, Any]:
    """Run the flow over the log `source` and write its results into `out`; return the summary.

    Energy, sessions and bills go into the ledger too whose address is given.

    Raises
    ------
    DecodeError
        If a line of the log cannot be read.
    StorageError
        If the results cannot be stored.
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
    out.mkdir(parents=True, exist_ok=True)
    journal = LogJournal(config, source)
    with (out / "points.lp").open("wb") if write_points else _Nothing() as points:
        collected = Collected(points)
        run_flow(config, stages, journal, collected)
    flowed = time.perf_counter()
    write_results(out, collected, config.maintenance.rules())
    if ledger:
        fill_ledger(ledger, collected, config)
    wall = time.perf_counter() - started
    summary = summarise(collected, wall, started - began)
    summary["fill_s"] = round(journal.fill_s, 3)
    summary["flow_s"] = round(flowed - started - journal.fill_s, 3)
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

"""What travels down the flow: one batch of one shard, filled in by stage after stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .batch import MessageColumns, ReadingBatch
from .devices import DeviceTable
from .outputs import (
    Account,
    CdrRow,
    CommandRow,
    FindingAction,
    FindingChange,
    IntervalRow,
    Publish,
    RollupRows,
    SessionRow,
)
from .records import Dead, Record


class Heard(NamedTuple):
    """A birth that came in another dialect than ours: how to answer it. `order` is that of the birth."""

    order: int
    node_row: int
    dialect: str
    topic: str


@dataclass(slots=True)
class ShardBatch:
    """Everything that one run of journal offsets [first, end) of a shard led to.

    `devices` is the table as of this batch: it may have grown since, but what it says of the rows
    in here has not changed.
    """

    shard: int
    first: int
    end: int
    devices: DeviceTable
    rows: ReadingBatch
    late: ReadingBatch
    beside: ReadingBatch  # registers of transactions where readings carry registers too: for energy only
    messages: MessageColumns
    records: list[Record]
    dead: list[Dead]
    account: Account | None  # one per run of the journal, with the last part of it
    new_devices: list[int] = field(default_factory=list)  # EVSE rows whose inventory is new or changed
    findings: list[FindingChange] = field(default_factory=list)
    finding_actions: list[FindingAction] = field(default_factory=list)
    intervals: list[IntervalRow] = field(default_factory=list)
    rollups: list[RollupRows] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)
    cdrs: list[CdrRow] = field(default_factory=list)
    commands: list[CommandRow] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)
    reported: dict[str, list[Any]] = field(default_factory=dict)  # further streams: name -> records
    heard: list[Heard] = field(default_factory=list)

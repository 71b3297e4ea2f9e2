"""What decides on commands: policies, each with state of its own, fed in the order of effect.

A policy overrides what it needs. Everything it does goes through the `Desk` it is handed. It must not look at
rows, records or findings beyond `desk.order`, else its decisions depend on how the stream is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from .command_types import Ask, Outgoing
from .commands import CommandBook
from .devices import DeviceTable
from .outputs import CommandRow, FindingChange, Publish
from .records import Record
from .shard import ShardBatch
from .whereabouts import Whereabouts


class Desk(Protocol):
    """Where a policy learns the time and leaves its decisions."""

    shard: int
    now_ms: int  # journaled time
    order: int  # everything up to here has taken effect
    devices: DeviceTable
    where: Whereabouts
    book: CommandBook  # to be read; `ask` writes

    def ask(self, ask: Ask) -> str:
        """Ask for a command to a station of this shard; return its id."""

    def publish(self, message: Publish) -> None:
        """Have a message published."""

    def report(self, stream: str, record: msgspec.Struct) -> None:
        """Put a record into an outbox stream."""


class Policy:
    """A policy that does nothing."""

    def begin(self, batch: ShardBatch, desk: Desk) -> None:
        """See a batch before its events; its rows count up to `desk.order` of each event."""

    def record(self, record: Record, desk: Desk) -> None:
        """Take in a record (operator requests too)."""

    def forwarded(self, kind: str, body: dict[str, Any], desk: Desk) -> None:
        """Control shard: take in what a site shard told."""

    def finding(self, change: FindingChange, desk: Desk) -> None:
        """Take in a finding that was raised, updated or cleared."""

    def command(self, row: CommandRow, desk: Desk) -> None:
        """Take in what happened to any command of the shard."""

    def forbids(self, command: Outgoing, desk: Desk) -> str:
        """Return why a command must not leave now, "" if it may; asked whenever one is about to leave."""
        return ""

    def tick(self, desk: Desk) -> None:
        """Let time go on; called when `due_ms` was reached."""

    def due_ms(self) -> int | None:
        """Return the earliest time at which `tick` may have something to do; None: never."""
        return None

    def end(self, batch: ShardBatch, desk: Desk) -> None:
        """Take in the rest of a batch after its last event."""

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {}


class PolicyPlan(NamedTuple):
    """A policy to be built for each shard it is for.

    Attributes
    ----------
    name : str
        Key of its saved state; never changes.
    control : bool
        True: for the control shard, False: for the shards of sites.
    build : callable
        (shard, state or None) -> Policy
    """

    name: str
    control: bool
    build: Callable[[int, dict[str, Any] | None], Policy]

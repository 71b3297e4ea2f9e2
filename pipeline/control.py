"""The control stage: what is asked of stations leaves, what they answer comes in, policies decide.

Thin: `models.commands` knows the commands of the shard, `models.policies` what else decides. Records,
findings and ticks reach them in the order of effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from models import batch as b
from models.command_request import CANCEL_KIND, KIND, CancelRequest, read_request
from models.command_types import Ask, CommandConfig, Outgoing
from models.commands import CommandBook
from models.devices import DeviceTable
from models.errors import DecodeError, SnapshotError
from models.outputs import CommandRow, FindingChange, Publish
from models.policies import Policy, PolicyPlan
from models.records import Birth, CommandResult, Link, Operator, Record
from models.shard import ShardBatch
from models.topics import CONTROL_SITE
from models.units import NS_PER_MS
from models.whereabouts import Whereabouts

from ._places import StationPlaces

VERSION: Final = 1
_TOLD: Final = f"{CONTROL_SITE}/"
_NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """Settings of the way back.

    Attributes
    ----------
    shards : int
        Shards of sites; the shard of this number is the control shard.
    commands : CommandConfig
    dialects : dict
        Dialect name -> its options, for each that a route names.
    policies : sequence of PolicyPlan
        What decides beside people, in the order in which they hear of things.
    """

    shards: int = 16
    commands: CommandConfig = field(default_factory=CommandConfig)
    dialects: dict[str, dict[str, Any]] = field(default_factory=lambda: {"native": {}})
    policies: Sequence[PolicyPlan] = ()


class _Ticks:
    """The ticks of a batch, and how far they have passed."""

    def __init__(self, batch: ShardBatch) -> None:
        messages = batch.messages
        tick = np.flatnonzero(messages.kind == b.TICK)
        self._order = messages.order[tick]
        self._effect_ns = np.maximum.accumulate(messages.effect_ns[tick])
        self._at = 0

    def until(self, order: int, due_ms: Callable[[], int]) -> Iterator[tuple[int, int]]:
        """Yield (order, effect_ns) of ticks up to `order`: each at which something is due, and the last."""
        end = int(self._order.searchsorted(order, side="right"))
        while self._at < end:
            due_ns = min(due_ms() * NS_PER_MS, _NEVER)
            at = self._at + int(self._effect_ns[self._at : end].searchsorted(due_ns))
            at = min(at, end - 1)
            self._at = at + 1
            yield int(self._order[at]), int(self._effect_ns[at])


def _events(batch: ShardBatch) -> list[tuple[int, int, int, Record | FindingChange]]:
    """Return (order, rank, effect_ns, event) of a batch in the order of effect; ticks come before."""
    found: list[tuple[int, int, int, Record | FindingChange]] = [
        (r.at.order, 1, r.at.effect_ns, r) for r in batch.records
    ]
    found += [(f.order, 2, f.changed_at * NS_PER_MS, f) for f in batch.findings]
    found.sort(key=lambda item: item[:2])
    return found


class ControlStage:
    """Commands and policies of one shard; the desk of its policies."""

    def __init__(self, shard: int, config: ControlConfig, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(
                f"control stage has version {state['version']!r}, this program reads {VERSION}"
            )
        self.shard = shard
        self.now_ms: int = state.get("now_ms", 0)
        self.order: int = state.get("order", 0)
        self.devices = DeviceTable()
        self.where = Whereabouts(state.get("where"))
        self._places = StationPlaces(self.where, config.dialects, self._forbids)
        self.book = CommandBook(shard, config.commands, self._places, state.get("book"))
        saved = state.get("policies", {})
        self._policies: list[tuple[str, Policy]] = [
            (plan.name, plan.build(shard, saved.get(plan.name)))
            for plan in config.policies
            if plan.control == (shard == config.shards)
        ]
        self._batch: ShardBatch | None = None
        self._told = 0  # rows of the book that policies have heard of
        self._due_ms = 0

    def process(self, batch: ShardBatch) -> list[ShardBatch]:
        """Add commands and messages to the batch."""
        self._batch, self.devices = batch, batch.devices
        self.where.use(batch.devices)
        self._places.use(batch)
        for _, policy in self._policies:
            policy.begin(batch, self)
        ticks = _Ticks(batch)
        for order, _, effect_ns, event in _events(batch):
            self._pass(ticks, order)
            self._reach(order, effect_ns)
            if isinstance(event, FindingChange):
                self._each("finding", event)
            else:
                self._record(event)
            self._tell_policies()
        self._pass(ticks, _NEVER)
        for _, policy in self._policies:
            policy.end(batch, self)
        self._places.advance(_NEVER)
        batch.commands, publishes = self.book.drain()
        batch.publishes += publishes
        self._told = 0
        self._batch = None
        return [batch]

    def _pass(self, ticks: _Ticks, order: int) -> None:
        """Let ticks up to `order` pass: those at which nothing is due only move the time on."""
        for tick_order, tick_ns in ticks.until(
            order, lambda: self._due_ms if self.now_ms < self._due_ms else 0
        ):
            self._reach(tick_order, tick_ns)

    def _reach(self, order: int, effect_ns: int) -> None:
        """Let time go on to that of a tick or event."""
        self.order = max(self.order, order)
        self.now_ms = max(self.now_ms, effect_ns // NS_PER_MS)
        self._places.advance(self.order)
        if self.now_ms >= self._due_ms:
            self._advance()

    def _advance(self) -> None:
        """Let time go on for whoever waits for it."""
        self.book.tick(self.now_ms, self.order)
        for _, policy in self._policies:
            due = policy.due_ms()
            if due is not None and due <= self.now_ms:
                policy.tick(self)
        self._tell_policies()

    def _set_due(self) -> None:
        dues = [self.book.next_due_ms(), *(policy.due_ms() for _, policy in self._policies)]
        self._due_ms = min((due for due in dues if due is not None), default=_NEVER)

    def _record(self, record: Record) -> None:
        where = self.where
        match record:
            case Birth():
                self._birth(record)
                return
            case Link():
                where.link(record)
                self._came(record.station_row, False)
            case CommandResult():
                where.hear(record.station_row)
                site, station = self._name(record.station_row)
                self.book.answer(
                    record.cmd_id, site, station, record.status, record.body, self.now_ms, self.order
                )
            case Operator():
                self._operator(record)
                return
            case _ if record.station_row >= 0:
                where.hear(record.station_row)
        self._each("record", record)

    def _birth(self, record: Birth) -> None:
        found = self.where.birth(record, self._places.speech_of(record))
        if found is None:
            return
        stations, rebooted = found
        self._each("record", record)
        for station in stations:
            self._came(station, rebooted)
        node = record.at.node_row
        if record.online and self.devices.nodes[node] not in {self.devices.stations[row] for row in stations}:
            site, name = self.devices.sites[int(self.devices.node_site[node])], self.devices.nodes[node]
            self.book.came_back(site, name, rebooted, self.now_ms, self.order)

    def _came(self, station_row: int, rebooted: bool) -> None:
        if self.where.online(station_row):
            site, station = self._name(station_row)
            self.book.came_back(site, station, rebooted, self.now_ms, self.order)

    def _operator(self, record: Operator) -> None:
        if record.topic.startswith(_TOLD):
            kind = record.topic.removeprefix(_TOLD)
            items = record.body.get("items")
            bodies = [record.body | item for item in items] if isinstance(items, list) else [record.body]
            for body in bodies:
                for _, policy in self._policies:
                    policy.forwarded(kind, body, self)
            return
        if record.topic in (KIND, CANCEL_KIND):
            try:
                request = read_request(record.topic, record.body)
            except DecodeError:
                return  # the dialect refuses it before; a journal may hold older ones
            if isinstance(request, CancelRequest):
                self.book.cancel(request.cmd_id, request.by, self.now_ms, self.order)
            else:
                self.ask(request.ask(record.at.recv_ns // NS_PER_MS))
        self._each("record", record)

    def _each(self, call: str, what: Any) -> None:
        for _, policy in self._policies:
            getattr(policy, call)(what, self)

    def _forbids(self, command: Outgoing) -> str:
        return next((why for _, policy in self._policies if (why := policy.forbids(command, self))), "")

    def _tell_policies(self) -> None:
        """Let policies hear what happened to commands; what they ask for then is heard too."""
        while self._told < len(self.book.rows):
            row: CommandRow = self.book.rows[self._told]
            self._told += 1
            self._each("command", row)
        self._set_due()

    def _name(self, station_row: int) -> tuple[str, str]:
        devices = self.devices
        return devices.sites[devices.station_site[station_row]], devices.stations[station_row]

    # -- the desk of the policies ------------------------------------------------------------------

    def ask(self, ask: Ask) -> str:
        """Ask for a command to a station of this shard; return its id."""
        return self.book.ask(ask, self.now_ms, self.order)

    def publish(self, message: Publish) -> None:
        """Have a message published."""
        self.book.publishes.append(message)

    def report(self, stream: str, record: msgspec.Struct) -> None:
        """Put a record into an outbox stream."""
        assert self._batch is not None
        self._batch.reported.setdefault(stream, []).append(record)

    # -- state -------------------------------------------------------------------------------------

    def finish(self) -> Iterable[ShardBatch]:
        """Nothing is held back."""
        return []

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "now_ms": self.now_ms,
            "order": self.order,
            "where": self.where.snapshot(),
            "book": self.book.snapshot(),
            "policies": {name: policy.snapshot() for name, policy in self._policies},
        }

    def nbytes(self) -> int:
        """Return the bytes of columnar state held."""
        return self.where.nbytes()

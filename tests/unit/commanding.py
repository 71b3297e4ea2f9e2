"""A book of commands with stations made up: what tests of commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from models.command_check import CommandRefused
from models.command_types import OPERATOR, Ask, CommandConfig, Outgoing, Place
from models.commands import CommandBook
from models.outputs import CommandRow, Publish

T0 = 1_780_000_000_000
CONFIG = CommandConfig(answer_ms=10_000, sends=3, queue=3, remember_ms=600_000, remember=100)


@dataclass
class Stations:
    """Places of stations s1 to s9; `away` are offline, `deaf` speak a dialect that carries nothing."""

    away: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    forgetful: set[str] = field(default_factory=set)  # they do a repeated command again

    def find(self, site: str, station: str) -> Place | None:
        if site != "depot" or station not in {f"s{i}" for i in range(1, 10)}:
            return None
        return Place(station, station not in self.away, station not in self.forgetful)

    def publication(self, command: Outgoing) -> Publish:
        if command.station in self.deaf:
            raise CommandRefused(f"{command.station} cannot be told {command.command}")
        return Publish(topic=f"to/{command.station}", payload=command.cmd_id.encode())


def reset(station: str = "s1", cause: str = "operator/1", **fields: Any) -> Ask:
    """Return a wish for a reset."""
    known: dict[str, Any] = {
        "site": "depot",
        "command": "Reset",
        "body": {"type": "OnIdle"},
        "by": "anna",
        "expires_ms": T0 + 300_000,
        "priority": OPERATOR,
    }
    return Ask(cause=cause, station=station, **(known | fields))


@dataclass
class Desk:
    """A book and everything that came out of it."""

    places: Stations = field(default_factory=Stations)
    config: CommandConfig = CONFIG
    rows: list[CommandRow] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = CommandBook(0, self.config, self.places)

    def ask(self, ask: Ask, at_s: float = 0) -> str:
        cmd_id = self.book.ask(ask, T0 + round(at_s * 1000))
        self.take()
        return cmd_id

    def answer(self, cmd_id: str, status: str, at_s: float, station: str = "s1", **body: Any) -> bool:
        known = self.book.answer(cmd_id, "depot", station, status, body, T0 + round(at_s * 1000), 0)
        self.take()
        return known

    def tick(self, at_s: float) -> None:
        self.book.tick(T0 + round(at_s * 1000), 0)
        self.take()

    def back(self, at_s: float, station: str = "s1", rebooted: bool = False) -> None:
        self.places.away.discard(station)
        self.book.came_back("depot", station, rebooted, T0 + round(at_s * 1000), 0)
        self.take()

    def take(self) -> None:
        rows, publishes = self.book.drain()
        self.rows += rows
        self.sent += [publish.payload.decode() for publish in publishes]

    def restart(self) -> None:
        """Save, and go on from what was saved, as it comes back from a file."""
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(self.book.snapshot()))
        self.book = CommandBook(0, self.config, self.places, saved)

    def told(self, cmd_id: str) -> list[tuple[str, str]]:
        return [(row.event, row.state) for row in self.rows if row.cmd_id == cmd_id]

    def state(self, cmd_id: str) -> str:
        return [row.state for row in self.rows if row.cmd_id == cmd_id][-1]

    def reason(self, cmd_id: str) -> str:
        return [row.reason for row in self.rows if row.cmd_id == cmd_id][-1]

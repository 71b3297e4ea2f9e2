"""What a command is made of: who wants what, how it is sent, where the station is."""

from __future__ import annotations

import uuid
from typing import Any, Final, Protocol

import msgspec

from .command_secrets import shown
from .command_states import State
from .outputs import CommandRow, Publish

SAFETY, OPERATOR, LOAD, CAMPAIGN, HOUSEKEEPING = range(5)
PRIORITIES: Final = ("safety", "operator", "load", "campaign", "housekeeping")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A command that somebody wants sent.

    `cause` is unique for each reason to send something: asking twice for one cause is asking once. `command`
    and `body` are an OCPP 2.0.1 request. `expires_ms` is journaled time, epoch ms. `replaces`: commands of
    the station with the same key that were not sent yet are superseded by this one.
    """

    cause: str
    site: str
    station: str
    command: str
    body: dict[str, Any]
    by: str
    expires_ms: int
    evse: int | None = None
    connector: int | None = None
    priority: int = OPERATOR
    replaces: str = ""

    @property
    def cmd_id(self) -> str:
        """The id that station and ledger know the command by."""
        return command_id(self.site, self.station, self.cause)


def command_id(site: str, station: str, cause: str) -> str:
    """Return the id of the command that `cause` leads to at a station; never changes."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{site}/{station}/{cause}"))


class Place(msgspec.Struct, frozen=True):
    """Where a station is: `online` None is not known; `honours`: it does a command id only once."""

    node: str
    online: bool | None
    honours: bool


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A command on its way out."""

    cmd_id: str
    site: str
    station: str
    command: str
    body: dict[str, Any]
    cause: str
    issued_ms: int
    expires_ms: int


class Places(Protocol):
    """Knows where stations are and how they are spoken to."""

    def find(self, site: str, station: str) -> Place | None:
        """Return where a station is, None if nothing was ever heard of it."""

    def publication(self, command: Outgoing) -> Publish:
        """Return the message that carries `command`; raises CommandRefused when the dialect cannot."""


class CommandConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How commands are sent.

    Attributes
    ----------
    answer_ms : int
        Wait for an answer before the second try; doubles with each further one. OCPP leaves it open; 30 s is
        the usual limit for a call.
    sends : int
        Tries in all. A station that does not know a repeated command gets what must not be done twice
        (`command_repeat.ONCE`) only once.
    queue : int
        Commands that may wait for one station.
    remember_ms : int
        How long the id of a command that ended is known, for repeats and late answers.
    remember : int
        Ended commands known at most.
    """

    answer_ms: int = 30_000
    sends: int = 3
    queue: int = 16
    remember_ms: int = 21_600_000
    remember: int = 4_000


class Command(msgspec.Struct, kw_only=True):
    """An open command, or the remembered rest of one that ended."""

    ask: Ask
    serial: int
    asked_ms: int
    state: State = "requested"
    change: int = 0
    sends: int = 0
    answers: int = 0
    sent_ms: int | None = None
    last_ms: int = 0  # last time it left
    ended_ms: int | None = None
    due_ms: int = 0  # when to look at it again; of an ended one: when to forget it
    status: str = ""
    reason: str = ""  # why it ended as it did


def outgoing(command: Command, now_ms: int) -> Outgoing:
    """Return `command` as it leaves now."""
    ask = command.ask
    return Outgoing(
        cmd_id=ask.cmd_id,
        site=ask.site,
        station=ask.station,
        command=ask.command,
        body=ask.body,
        cause=ask.cause,
        issued_ms=now_ms,
        expires_ms=ask.expires_ms,
    )


def row_of(
    command: Command,
    event: str,
    now_ms: int,
    place: tuple[int, int],
    note: str = "",
    answer: dict[str, Any] | None = None,
) -> CommandRow:
    """Return the row that tells of the newest change of `command`; `place` is (shard, order)."""
    ask = command.ask
    return CommandRow(
        cmd_id=ask.cmd_id,
        change=command.change,
        event=event,
        state=command.state,
        site=ask.site,
        station=ask.station,
        evse=ask.evse,
        connector=ask.connector,
        command=ask.command,
        body=shown(ask.body),
        cause=ask.cause,
        by=ask.by,
        priority=ask.priority,
        asked_ms=command.asked_ms,
        expires_ms=ask.expires_ms,
        sent_ms=command.sent_ms,
        ended_ms=command.ended_ms,
        sends=command.sends,
        answers=command.answers,
        status=command.status,
        answer=answer or {},
        reason=command.reason,
        changed_ms=now_ms,
        shard=place[0],
        order=place[1],
        note=note,
    )

"""Commands to stations: asked, sent, answered, and never forgotten before they ended.

`CommandBook` holds those of one shard. A station has one command in flight and a bounded queue ordered by
priority; every command expires; what is not answered is sent again, with the same id, a few times. All time
is journaled time that the caller hands in, so the same journal gives the same commands.
"""

from __future__ import annotations

import bisect
import heapq
from typing import Any, Final

import msgspec

from .command_check import CommandRefused, answer_event, check_command
from .command_repeat import maybe_done_before, repeatable
from .command_states import Event, after, is_open
from .command_types import SAFETY, Ask, Command, CommandConfig, Places, outgoing, row_of
from .errors import SnapshotError
from .outputs import CommandRow, Publish

VERSION: Final = 1

_UNKNOWN: Final = "nobody knows whether it was done"
_ONLY_ONCE: Final = f"it was sent once, because the station would do a repeat again: {_UNKNOWN}"

#: Rows told of answers that change nothing, per command; further ones are only counted.
_TOLD_ANSWERS: Final = 8


class _Line(msgspec.Struct):
    """Commands of one station: the one in flight, and those that wait, most urgent first."""

    flying: str = ""
    queue: list[tuple[int, int, str]] = []  # priority, serial, cmd_id


class CommandBook:
    """Commands of one shard.

    `rows` and `publishes` collect what happened; `drain` hands them out.

    Parameters
    ----------
    shard : int
    config : CommandConfig
    places : Places
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version.
    """

    def __init__(
        self, shard: int, config: CommandConfig, places: Places, resume_state: dict[str, Any] | None = None
    ) -> None:
        state = resume_state or {"version": VERSION}
        if state["version"] != VERSION:
            raise SnapshotError(f"commands have version {state['version']!r}, this program reads {VERSION}")
        self.shard, self.config, self.places = shard, config, places
        self.rows: list[CommandRow] = []
        self.publishes: list[Publish] = []
        self._serial: int = state.get("serial", 0)
        self._order = 0
        self._open: dict[str, Command] = {}
        self._ended: dict[str, Command] = {}  # in the order of their end
        self._lines: dict[tuple[str, str], _Line] = {}
        self._due: list[tuple[int, int, str]] = []
        for saved in state.get("commands", []):
            self._restore(msgspec.convert(saved, Command))

    def _restore(self, command: Command) -> None:
        self._watch(command, command.due_ms)
        if not is_open(command.state):
            self._ended[command.ask.cmd_id] = command
            return
        self._open[command.ask.cmd_id] = command
        line = self._line(command.ask)
        if command.state == "sent":
            line.flying = command.ask.cmd_id
        else:
            bisect.insort(line.queue, (command.ask.priority, command.serial, command.ask.cmd_id))

    # -- what happens ------------------------------------------------------------------------------

    def ask(self, ask: Ask, now_ms: int, order: int = 0) -> str:
        """Take in a request and return its command id; it leaves at once if nothing is in its way.

        A cause that is known already is not asked again. What cannot be sent fails with the reason.
        """
        self._order = order
        cmd_id = ask.cmd_id
        if self.get(cmd_id) is not None:
            return cmd_id
        self._serial += 1
        command = self._open[cmd_id] = Command(ask=ask, serial=self._serial, asked_ms=now_ms)
        place = self.places.find(ask.site, ask.station)
        self._tell(command, "asked", now_ms)
        try:
            if now_ms >= ask.expires_ms:
                self._step(command, "expire", now_ms, "it had expired when it was asked for")
                return cmd_id
            if place is None:
                raise CommandRefused(f"no station {ask.station!r} was ever heard of at site {ask.site!r}")
            check_command(ask.command, ask.body)
            self.places.publication(outgoing(command, now_ms))  # told now, not when its turn comes
            self._make_room(command, now_ms)
        except CommandRefused as error:
            self._step(command, "refuse", now_ms, str(error))
            return cmd_id
        self._watch(command, ask.expires_ms)
        line = self._line(ask)
        bisect.insort(line.queue, (ask.priority, command.serial, cmd_id))
        flying = self._open.get(line.flying)
        if flying is not None and (ask.priority < flying.ask.priority or self._goes_once(flying)):
            # It has the time for one answer, not for further tries, nor for all the time there is.
            soon_ms = max(now_ms, flying.last_ms + self.config.answer_ms)
            self._watch(flying, min(flying.due_ms, soon_ms))
        self._go_on((ask.site, ask.station), now_ms)
        return cmd_id

    def answer(
        self, cmd_id: str, site: str, station: str, status: str, body: dict[str, Any], now_ms: int, order: int
    ) -> bool:
        """Take in what a station answered; return whether it is an answer to a command of ours.

        Only the first answer to a command that is under way counts. An answer of another station is none.
        """
        self._order = order
        command = self.get(cmd_id)
        if command is None or (command.ask.site, command.ask.station) != (site, station):
            return False
        command.answers += 1
        event, why = answer_event(command.ask.command, status, body)
        if command.state == "sent":
            command.status = status
            if event == "reject" and command.sends > 1 and maybe_done_before(command.ask.command, status):
                why += f", to one of {command.sends} tries: an earlier one may have done it"
            self._step(command, event, now_ms, why, body)
        elif command.answers <= _TOLD_ANSWERS:
            late = "it was never sent" if is_open(command.state) else f"it was {command.state} before"
            self._tell(command, event, now_ms, f"{status}: an answer that counts no more: {late}", body)
        return True

    def came_back(self, site: str, station: str, rebooted: bool, now_ms: int, order: int) -> None:
        """Note that a station is there (again): what waited for it goes out."""
        self._order = order
        line = self._lines.get((site, station))
        if line is None:
            return
        command = self._open.get(line.flying)
        if command is not None:
            if rebooted and command.ask.command == "Reset":
                self._step(command, "restart", now_ms, "it booted anew before it answered")
            elif command.due_ms >= command.ask.expires_ms:  # it had gone before it answered
                self._again(command, now_ms)
        self._go_on((site, station), now_ms)

    def cancel(self, cmd_id: str, by: str, now_ms: int, order: int) -> None:
        """Take a command back that was not sent yet; of one that was, only tell that it was wanted."""
        self._order = order
        command = self._open.get(cmd_id)
        if command is None:
            return
        if command.state == "sent":
            self._tell(command, "cancel", now_ms, f"{by} wanted it back: it had been sent")
        else:
            self._step(command, "cancel", now_ms, f"taken back by {by}")

    def tick(self, now_ms: int, order: int) -> None:
        """Let time go on: expire, send again, give up."""
        self._order = order
        while self._due and self._due[0][0] <= now_ms:
            due_ms, serial, cmd_id = heapq.heappop(self._due)
            command = self.get(cmd_id)
            if command is None or command.serial != serial or command.due_ms != due_ms:
                continue  # it was looked at since
            if not is_open(command.state):
                del self._ended[cmd_id]
            elif now_ms >= command.ask.expires_ms:
                self._step(command, "expire", now_ms, self._why_expired(command))
            else:
                self._again(command, now_ms)

    def next_due_ms(self) -> int | None:
        """Return the earliest time at which `tick` may have something to do, None for never."""
        return self._due[0][0] if self._due else None

    # -- what comes of it --------------------------------------------------------------------------

    def _make_room(self, command: Command, now_ms: int) -> None:
        """Supersede what it replaces; refuse it, or for a safety command another, when the queue is full."""
        ask = command.ask
        line = self._line(ask)
        if ask.replaces:
            for _, _, cmd_id in list(line.queue):
                old = self._open[cmd_id]
                if old.ask.replaces == ask.replaces:
                    self._step(old, "supersede", now_ms, f"superseded by {ask.cmd_id}")
        line = self._line(ask)
        if len(line.queue) < self.config.queue:
            return
        last_priority, _, last = line.queue[-1]
        full = f"the queue of {ask.site}/{ask.station} is full: {len(line.queue)} commands wait"
        if ask.priority != SAFETY or last_priority == SAFETY:
            raise CommandRefused(f"{full} (commands.queue_max); ask again when some have ended")
        self._step(self._open[last], "refuse", now_ms, f"{full}, and a safety command needs the place")

    def _go_on(self, key: tuple[str, str], now_ms: int) -> None:
        """Send the next command of a station if nothing is in flight and it is not known to be away."""
        line = self._lines.get(key)
        while line is not None and not line.flying and line.queue:
            place = self.places.find(*key)
            if place is None or place.online is False:
                return
            command = self._open[line.queue.pop(0)[2]]
            line.flying = command.ask.cmd_id
            self._send(command, "send", now_ms)
            line = self._lines.get(key)

    def _again(self, command: Command, now_ms: int) -> None:
        """No answer in time: wait for a station that is away, else try again or give up."""
        ask = command.ask
        place = self.places.find(ask.site, ask.station)
        if place is not None and place.online is False:
            self._watch(command, ask.expires_ms)
            return
        queue = self._line(ask).queue
        urgent = bool(queue) and queue[0][0] < ask.priority
        if self._goes_once(command):
            answer_ms = command.last_ms + self.config.answer_ms
            if not queue:
                self._watch(command, ask.expires_ms)  # nobody loses by waiting for a late answer
            elif now_ms < answer_ms:
                self._watch(command, min(answer_ms, ask.expires_ms))
            else:
                self._step(command, "give_up", now_ms, f"no answer, and other commands wait; {_ONLY_ONCE}")
        elif command.sends >= self.config.sends or urgent:
            rest = ", and something more urgent waits" if urgent else ""
            self._step(command, "give_up", now_ms, f"no answer, {_tries(command)}{rest}; {_UNKNOWN}")
        else:
            self._send(command, "resend", now_ms)

    def _goes_once(self, command: Command) -> bool:
        """Return whether it may not be sent again: the station may do it again."""
        place = self.places.find(command.ask.site, command.ask.station)
        return not repeatable(command.ask.command) and not (place is not None and place.honours)

    def _why_expired(self, command: Command) -> str:
        if command.state != "sent":
            return "it could not be sent before it expired: the station was away or busy"
        if self._goes_once(command):
            return f"no answer before it expired; {_ONLY_ONCE}"
        return f"no answer before it expired, {_tries(command)}; {_UNKNOWN}"

    def _send(self, command: Command, event: Event, now_ms: int) -> None:
        try:
            publish = self.places.publication(outgoing(command, now_ms))
        except CommandRefused as error:
            self._step(command, "refuse", now_ms, str(error))
            return
        command.sends += 1
        command.last_ms = now_ms
        command.sent_ms = now_ms if command.sent_ms is None else command.sent_ms
        command.state = after(command.state, event)
        self._watch(
            command, min(command.ask.expires_ms, now_ms + self.config.answer_ms * 2 ** (command.sends - 1))
        )
        self.publishes.append(publish)
        self._tell(command, event, now_ms)

    def _step(
        self, command: Command, event: Event, now_ms: int, reason: str, answer: dict[str, Any] | None = None
    ) -> None:
        """Change a command's state; when it ended, the station's next one goes out."""
        command.state = after(command.state, event)
        if is_open(command.state):
            self._tell(command, event, now_ms, reason, answer)
            return
        command.reason = reason
        cmd_id = command.ask.cmd_id
        self._unline(command)
        self._ended[cmd_id] = self._open.pop(cmd_id)
        command.ended_ms = now_ms
        self._watch(command, now_ms + self.config.remember_ms)
        self._tell(command, event, now_ms, "", answer)
        if len(self._ended) > self.config.remember:
            del self._ended[next(iter(self._ended))]
        self._go_on((command.ask.site, command.ask.station), now_ms)

    def _unline(self, command: Command) -> None:
        ask = command.ask
        line = self._lines.get((ask.site, ask.station))
        if line is None:
            return
        if line.flying == ask.cmd_id:
            line.flying = ""
        place = (ask.priority, command.serial, ask.cmd_id)
        if place in line.queue:
            line.queue.remove(place)
        if not line.flying and not line.queue:
            del self._lines[ask.site, ask.station]

    def _watch(self, command: Command, due_ms: int) -> None:
        command.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, command.serial, command.ask.cmd_id))
        if len(self._due) > 4 * (len(self._open) + len(self._ended)) + 64:  # mostly what was looked at since
            held = (*self._ended.values(), *self._open.values())
            self._due = [(one.due_ms, one.serial, one.ask.cmd_id) for one in held]
            heapq.heapify(self._due)

    def _line(self, ask: Ask) -> _Line:
        return self._lines.setdefault((ask.site, ask.station), _Line())

    def _tell(
        self,
        command: Command,
        event: str,
        now_ms: int,
        note: str = "",
        answer: dict[str, Any] | None = None,
    ) -> None:
        command.change += 1
        place = (self.shard, self._order)
        self.rows.append(row_of(command, event, now_ms, place, note, answer))

    # -- what is known -----------------------------------------------------------------------------

    def drain(self) -> tuple[list[CommandRow], list[Publish]]:
        """Return what happened since the last call, and what is to be published."""
        rows, publishes, self.rows, self.publishes = self.rows, self.publishes, [], []
        return rows, publishes

    def get(self, cmd_id: str) -> Command | None:
        """Return a command that is open or still remembered."""
        return self._open.get(cmd_id) or self._ended.get(cmd_id)

    def stations(self) -> list[tuple[str, str]]:
        """Return the stations with open commands."""
        return list(self._lines)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data."""
        return {
            "version": VERSION,
            "serial": self._serial,
            "commands": [msgspec.to_builtins(c) for held in (self._ended, self._open) for c in held.values()],
        }


def _tries(command: Command) -> str:
    return f"sent {command.sends} time{'s' if command.sends > 1 else ''}"

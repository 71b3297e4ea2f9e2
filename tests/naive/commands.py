"""Commands of one shard, written from docs/commands.md: no heap, no index, every one looked at every time."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.command_types import Ask, CommandConfig

ONCE = {"Reset"}
SCHEDULED = {"Reset", "ChangeAvailability"}
MEANINGS = {"Accepted": "accepted", "Rejected": "rejected", "Scheduled": "scheduled"}


@dataclass
class One:
    """A command."""

    ask: Ask
    serial: int
    due_ms: int
    state: str = "requested"
    sends: int = 0
    last_ms: int = 0
    ended_ms: int = 0

    @property
    def open(self) -> bool:
        return self.state in ("requested", "sent")


@dataclass
class NaiveBook:
    """Commands of stations of one site; `away` and `forgetful` are changed from outside."""

    config: CommandConfig
    away: set[str] = field(default_factory=set)
    forgetful: set[str] = field(default_factory=set)
    known: list[One] = field(default_factory=list)
    serial: int = 0

    def get(self, cmd_id: str) -> One | None:
        return next((one for one in self.known if one.ask.cmd_id == cmd_id), None)

    def flying(self, station: str) -> One | None:
        return next((o for o in self.known if o.ask.station == station and o.state == "sent"), None)

    def queue(self, station: str) -> list[One]:
        waiting = [o for o in self.known if o.ask.station == station and o.state == "requested"]
        return sorted(waiting, key=lambda one: (one.ask.priority, one.serial))

    def once(self, one: One) -> bool:
        return one.ask.command in ONCE and one.ask.station in self.forgetful

    def ask(self, ask: Ask, now_ms: int) -> None:
        if self.get(ask.cmd_id) is not None:
            return
        self.serial += 1
        one = One(ask, self.serial, ask.expires_ms)
        if now_ms >= ask.expires_ms:
            self.known.append(one)
            self.end(one, "expired", now_ms)
            return
        for old in self.queue(ask.station):
            if ask.replaces and old.ask.replaces == ask.replaces:
                self.end(old, "failed", now_ms)
        waiting = self.queue(ask.station)
        self.known.append(one)
        if len(waiting) >= self.config.queue:
            if ask.priority != 0 or waiting[-1].ask.priority == 0:
                self.end(one, "failed", now_ms)
                return
            self.end(waiting[-1], "failed", now_ms)
        flying = self.flying(ask.station)
        if flying is not None and (ask.priority < flying.ask.priority or self.once(flying)):
            flying.due_ms = min(flying.due_ms, max(now_ms, flying.last_ms + self.config.answer_ms))
        self.go_on(ask.station, now_ms)

    def go_on(self, station: str, now_ms: int) -> None:
        if station not in self.away and self.flying(station) is None and self.queue(station):
            self.send(self.queue(station)[0], now_ms)

    def send(self, one: One, now_ms: int) -> None:
        one.state, one.sends, one.last_ms = "sent", one.sends + 1, now_ms
        one.due_ms = min(one.ask.expires_ms, now_ms + self.config.answer_ms * 2 ** (one.sends - 1))

    def end(self, one: One, state: str, now_ms: int) -> None:
        one.state, one.ended_ms, one.due_ms = state, now_ms, now_ms + self.config.remember_ms
        self.go_on(one.ask.station, now_ms)

    def answer(self, cmd_id: str, station: str, status: str, now_ms: int) -> None:
        one = self.get(cmd_id)
        if one is not None and one.ask.station == station and one.state == "sent":
            unheard_of = status == "Scheduled" and one.ask.command not in SCHEDULED
            self.end(one, "failed" if unheard_of else MEANINGS.get(status, "failed"), now_ms)

    def back(self, station: str, rebooted: bool, now_ms: int) -> None:
        self.away.discard(station)
        one = self.flying(station)
        if one is not None and rebooted and one.ask.command == "Reset":
            self.end(one, "accepted", now_ms)
        elif one is not None and one.due_ms >= one.ask.expires_ms:
            self.again(one, now_ms)
        self.go_on(station, now_ms)

    def cancel(self, cmd_id: str, now_ms: int) -> None:
        one = self.get(cmd_id)
        if one is not None and one.state == "requested":
            self.end(one, "failed", now_ms)

    def tick(self, now_ms: int) -> None:
        while due := [one for one in self.known if one.due_ms <= now_ms]:
            one = min(due, key=lambda one: (one.due_ms, one.serial))
            if not one.open:
                self.known.remove(one)
            elif now_ms >= one.ask.expires_ms:
                self.end(one, "expired", now_ms)
            else:
                self.again(one, now_ms)

    def again(self, one: One, now_ms: int) -> None:
        waiting = self.queue(one.ask.station)
        if one.ask.station in self.away:
            one.due_ms = one.ask.expires_ms
        elif self.once(one):
            patience_ms = one.last_ms + self.config.answer_ms
            if waiting and now_ms >= patience_ms:
                self.end(one, "failed", now_ms)
            else:
                one.due_ms = min(patience_ms, one.ask.expires_ms) if waiting else one.ask.expires_ms
        elif one.sends >= self.config.sends or (waiting and waiting[0].ask.priority < one.ask.priority):
            self.end(one, "failed", now_ms)
        else:
            self.send(one, now_ms)

"""What a finding sets off by itself: from a policy to commands, with everything that may hold them back.

A rule waits for a finding and then takes its steps, each so long after the finding was raised as the rule
says and only while it stays open. What holds a step back, in this order: the breaker is open; the EVSE
charges and the rule is not one of safety (then the step waits); the station, the site or the shard had its
number of commands within the hour (then it is refused). When the finding clears, what can be undone is
undone, in reverse. In a dry run everything is decided and recorded alike and nothing is sent.

Too many commands in a shard, or in the fleet (`Breaker`, on the control shard), open the breaker: nothing
more is sent until a person closes it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from ._reaction_breaker import HOUR_MS, TOLD, Breaker
from ._reaction_out import OutOfService
from ._reaction_rules import (
    ACTIONS,
    SEVERITY_RANK,
    Rule,
    RuleBook,
    Step,
    Where,
    build,
    in_words,
    limit,
    undo_of,
)
from .command_request import KIND as COMMAND_KIND
from .command_types import HOUSEKEEPING, SAFETY, Ask
from .devices import DeviceTable
from .errors import SnapshotError
from .forwarding import forwarded
from .outputs import FindingChange, ReactionRow
from .policies import Desk, Policy
from .records import Operator, Record, Status, Transaction
from .topics import OPERATOR_SITE, ROOT

__all__ = ["ACTIONS", "KIND", "TOPIC", "Breaker", "Reactions", "Rule", "RuleBook", "Step", "in_words"]

VERSION: Final = 1
#: Operator messages ``_op/reactions`` {action: trip | reset, by}: open or close the breaker.
KIND: Final = "reactions"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
STREAM: Final = "reactions"
#: Undoing waits for a station that is away, else its limit would stay for ever. Unit: ms.
_UNDO_MS: Final = 7 * 86_400_000


class Case(msgspec.Struct, kw_only=True):
    """One finding under one rule: what was done, and what comes next."""

    rule: str
    finding_id: str
    code: str
    site: str
    station: str
    evse: int | None
    safety: bool
    raised_ms: int
    next_step: int = 0
    change: int = 0
    held: str = ""  # why the next step waits, as last recorded
    done: list[tuple[int, dict[str, Any]]] = []  # steps taken, with what undoes each


class _State(msgspec.Struct, kw_only=True):
    cases: dict[str, Case] = {}
    charging: dict[str, str] = {}  # "site/station/evse" -> transaction that runs
    ended: dict[str, str] = {}  # the same -> last one that ended
    limits: dict[str, dict[str, float]] = {}  # "site/station" -> cause -> A, of open cases
    out: OutOfService = msgspec.field(default_factory=OutOfService)
    sent_ms: dict[str, list[int]] = {}  # "site/station", "site", "" -> times within the hour
    tripped_ms: int = -1
    tripped_by: str = ""


class Reactions(Policy):
    """The reactions of one site shard.

    Parameters
    ----------
    rules : RuleBook
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If the state is of another version.
    """

    def __init__(self, rules: RuleBook, resume_state: dict[str, Any] | None = None) -> None:
        self.book = rules
        self._rules = {rule.name: rule for rule in rules.rules}
        self._state = _State()
        if resume_state is not None:
            if resume_state.get("version") != VERSION:
                found = resume_state.get("version")
                raise SnapshotError(f"reactions have version {found!r}, this program reads {VERSION}")
            self._state = msgspec.convert(resume_state["state"], _State)

    def due_ms(self) -> int | None:
        """Return when the next step may be taken; one that is held waits for an event, not for the clock."""
        waits = [
            case.raised_ms + steps[case.next_step].after_ms
            for case in self._state.cases.values()
            if not case.held and case.next_step < len(steps := self._steps(case))
        ]
        return min(waits, default=None)

    def tick(self, desk: Desk) -> None:
        """Take the steps that are due."""
        for key in sorted(self._state.cases):
            case = self._state.cases[key]
            steps = self._steps(case)
            while case.next_step < len(steps):
                if desk.now_ms < case.raised_ms + steps[case.next_step].after_ms:
                    break
                if not self._step(case, desk):
                    break

    def record(self, record: Record, desk: Desk) -> None:
        """Note who charges, and what people say of the breaker."""
        match record:
            case Transaction() if record.evse_row >= 0:
                self._note_transaction(record, desk.devices)
            case Status() if record.evse_row >= 0:
                key = _place(desk.devices, record.evse_row)
                self._state.out.report(key, record.status)
                if record.status == "Available":
                    self._state.charging.pop(key, None)
            case Operator() if record.topic == KIND:
                self._operate(record, desk)
            case Operator() if record.topic == COMMAND_KIND:
                self._state.out.ask(record.body)
            case _:
                return
        self.tick(desk)

    def finding(self, change: FindingChange, desk: Desk) -> None:
        """Begin, or undo and forget."""
        if change.state == "cleared":
            self._clear(change.finding_id, desk)
        else:
            self._open(change)
        self.tick(desk)

    def _steps(self, case: Case) -> tuple[Step, ...]:
        """Return the steps of a case's rule; none where the rule is gone: then only undoing is left."""
        rule = self._rules.get(case.rule)
        return rule.steps if rule else ()

    def _note_transaction(self, record: Transaction, devices: DeviceTable) -> None:
        key = _place(devices, record.evse_row)
        if record.event_type == "Ended":
            self._state.ended[key] = record.tx_id
            if self._state.charging.get(key) == record.tx_id:
                del self._state.charging[key]
        elif self._state.ended.get(key) != record.tx_id:  # else a message that was late
            self._state.charging[key] = record.tx_id

    def _operate(self, record: Operator, desk: Desk) -> None:
        action, by = record.body.get("action"), str(record.body.get("by") or "somebody")
        if action == "trip" and self._state.tripped_ms < 0:
            self._trip(by, desk)
        elif action == "reset" and self._state.tripped_ms >= 0:
            self._state.tripped_ms, self._state.tripped_by = -1, ""
            self._state.sent_ms.clear()
            self._say(None, -1, "reset", f"the breaker was closed by {by}", desk)
            desk.publish(forwarded(TOLD, {"action": "reset", "by": by, "time_ms": desk.now_ms}))

    def _trip(self, by: str, desk: Desk) -> None:
        self._state.tripped_ms, self._state.tripped_by = desk.now_ms, by
        self._say(None, -1, "tripped", f"the breaker was opened by {by}", desk)

    def _open(self, change: FindingChange) -> None:
        if not change.live or change.planned or change.parent is not None or change.station is None:
            return
        for rule in self.book.rules:
            key = f"{change.finding_id}/{rule.name}"
            if key not in self._state.cases and _concerns(rule, change):
                self._state.cases[key] = Case(
                    rule=rule.name,
                    finding_id=change.finding_id,
                    code=change.code,
                    site=change.site,
                    station=change.station,
                    evse=change.evse,
                    safety=rule.safety,
                    raised_ms=change.changed_at,
                )

    def _clear(self, finding_id: str, desk: Desk) -> None:
        for key in sorted(k for k, case in self._state.cases.items() if case.finding_id == finding_id):
            case = self._state.cases.pop(key)
            for step, undo in reversed(case.done):
                self._undo(case, step, undo, desk)
            self._forget_limits(case)
            self._state.out.forget(_cause(case, ""))

    def _undo(self, case: Case, step: int, undo: dict[str, Any], desk: Desk) -> None:
        """Undo a step, unless somebody else keeps what it did."""
        if undo["command"] == "ChangeAvailability":
            kept = self._state.out.give_back(case.site, case.station, case.evse, _cause(case, step))
            if kept:
                self._say(case, step, "refused", f"not undone: {kept}", desk)
                return
        self._send(case, step, self._lifted(case, step, undo), desk, undo=True)

    def _step(self, case: Case, desk: Desk) -> bool:
        """Take the next step of a case, or say what holds it; return whether it is over, taken or refused."""
        rule, number = self._rules[case.rule], case.next_step
        step = rule.steps[number]
        evse = f"{case.site}/{case.station}/{case.evse}"
        charges = self._charging(case)
        if self._state.tripped_ms >= 0:
            return self._hold(case, number, "breaker", "the breaker of reactions is open", desk)
        if charges and not rule.safety:
            return self._hold(case, number, "charging", f"waits: {charges} charges", desk)
        full = self._full(case, desk.now_ms)
        if full:
            case.next_step, case.held = number + 1, ""
            self._say(case, number, "refused", full, desk)
            return True
        place = f"{case.site}/{case.station}"
        where = Where(case.evse, self._state.charging.get(evse, ""), place)
        command = build(step, where)
        if step.action == "limit":
            limits = self._state.limits.setdefault(place, {})
            limits[_cause(case, number)] = step.limit_a
            command = limit(place, min(limits.values()))
        case.next_step, case.held = number + 1, ""
        idle = "no transaction runs there" if command is None else ""
        if step.action == "inoperative":
            idle = self._state.out.take(case.site, case.station, case.evse, _cause(case, number))
        if command is None or idle:
            self._say(case, number, "refused", idle, desk)
            return True
        self._send(case, number, command, desk, undo=False)
        undo = undo_of(step, where) if rule.undo else None
        if undo is not None:
            case.done.append((number, undo))
        self._count(case, desk)
        return True

    def _lifted(self, case: Case, step: int, undo: dict[str, Any]) -> dict[str, Any]:
        """Return what undoes a step: for a limit the least that others still ask for, if any do."""
        place = f"{case.site}/{case.station}"
        if self._state.limits.get(place, {}).pop(_cause(case, step), None) is None:
            return undo
        return limit(place, min(self._state.limits[place].values(), default=None))

    def _forget_limits(self, case: Case) -> None:
        """Forget a station that no limit is left of; one that is never undone ends with its finding."""
        place, mine = f"{case.site}/{case.station}", _cause(case, "")
        left = {c: amps for c, amps in self._state.limits.pop(place, {}).items() if not c.startswith(mine)}
        if left:
            self._state.limits[place] = left

    def _charging(self, case: Case) -> str:
        """Return which EVSE of the case's subject charges, empty when none does."""
        if case.evse is not None:
            key = f"{case.site}/{case.station}/{case.evse}"
            return f"EVSE {case.evse}" if key in self._state.charging else ""
        prefix = f"{case.site}/{case.station}/"
        busy = sorted(k for k in self._state.charging if k.startswith(prefix))
        return f"EVSE {busy[0].rsplit('/', 1)[1]}" if busy else ""

    def _hold(self, case: Case, step: int, why: str, text: str, desk: Desk) -> bool:
        if case.held != why:
            case.held = why
            self._say(case, step, "held", text, desk)
        return False

    def _full(self, case: Case, now_ms: int) -> str:
        """Return which limit of commands an hour is reached, empty when none is."""
        policy = self.book
        for key, most, what in (
            (f"{case.site}/{case.station}", policy.station_per_h, f"station {case.station}"),
            (case.site, policy.site_per_h, f"site {case.site}"),
        ):
            recent = [t for t in self._state.sent_ms.get(key, []) if t > now_ms - HOUR_MS]
            if len(recent) >= most:
                return f"{what} had its {most} commands of this hour"
        return ""

    def _count(self, case: Case, desk: Desk) -> None:
        """Note one command; too many over all sites open the breaker."""
        for key in (f"{case.site}/{case.station}", case.site, ""):
            recent = [t for t in self._state.sent_ms.get(key, []) if t > desk.now_ms - HOUR_MS]
            self._state.sent_ms[key] = [*recent, desk.now_ms]
        if len(self._state.sent_ms[""]) >= self.book.fleet_per_h:
            self._trip(f"itself, after {self.book.fleet_per_h} commands within an hour", desk)

    def _send(self, case: Case, step: int, command: dict[str, Any], desk: Desk, *, undo: bool) -> None:
        policy = self.book
        cause = _cause(case, step) + ("/undo" if undo else "")
        ask = Ask(
            cause=cause,
            site=case.site,
            station=case.station,
            evse=case.evse,
            connector=None,
            command=command["command"],
            body=command["body"],
            by=f"reaction:{case.rule}",
            priority=SAFETY if case.safety else HOUSEKEEPING,
            expires_ms=desk.now_ms + (_UNDO_MS if undo else policy.expires_ms),
        )
        if policy.act:
            desk.ask(ask)
            if not undo:
                desk.publish(forwarded(TOLD, {"action": "sent", "cause": cause, "time_ms": desk.now_ms}))
        state = ("undone" if undo else "sent") if policy.act else ("would undo" if undo else "would send")
        self._say(case, step, state, "", desk, ask)

    def _say(
        self,
        case: Case | None,
        step: int,
        state: str,
        text: str,
        desk: Desk,
        ask: Ask | None = None,
    ) -> None:
        change = 0
        if case is not None:
            case.change += 1
            change = case.change
        desk.report(
            STREAM,
            ReactionRow(
                finding_id=case.finding_id if case else "",
                rule=case.rule if case else "",
                change=change,
                step=step,
                state=state,
                reason=text,
                code=case.code if case else "",
                site=case.site if case else "",
                station=case.station if case else "",
                evse=case.evse if case else None,
                command=ask.command if ask else "",
                body=ask.body if ask else {},
                cause=ask.cause if ask else "",
                at_ms=desk.now_ms,
                order=desk.order,
                shard=desk.shard,
            ),
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {"version": VERSION, "state": msgspec.to_builtins(self._state)}


def _cause(case: Case, step: int | str) -> str:
    return f"reaction/{case.finding_id}/{case.rule}/{step}"


def _place(devices: DeviceTable, evse_row: int) -> str:
    site, station, evse = devices.names(evse_row)
    return f"{site}/{station}/{evse}"


def _concerns(rule: Rule, change: FindingChange) -> bool:
    return (
        any(fnmatchcase(change.code, code) for code in rule.codes)
        and SEVERITY_RANK[change.severity] >= SEVERITY_RANK[rule.severity]
        and (not rule.sites or any(fnmatchcase(change.site, site) for site in rule.sites))
    )

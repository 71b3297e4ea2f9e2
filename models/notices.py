"""From changes of findings and what people do to messages due: each state of a finding once per route.

States are ``raised``, ``updated`` (it became critical after it was told as less, or came again after it was
told as cleared), ``cleared`` (only where it was told before) and ``escalated`` (nobody acknowledged it in
time). The planner sees records in the order of the outbox and the journal's clock only; before each record it
sends what became due. So neither the cut into batches nor how often the clock is told changes a message.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ._notice_rules import ESCALATED, STATES, RouteRule, quiet_minutes, rank, told_at_all, zone_of
from .outputs import FindingAction, FindingChange

__all__ = [
    "ESCALATED", "STATES", "Case", "Notice", "NoticeItem", "NoticePlanner", "RouteRule", "notice_of",
    "quiet_minutes", "told_at_all", "zone_of",
]  # fmt: skip

#: What waited goes this long after it is due: shards whose clocks differ a little share a digest. Unit: ms.
SETTLE_MS: Final = 10_000
#: A cleared finding is remembered this long, so that nothing about it is told twice. Unit: ms.
REMEMBERED_MS: Final = 30 * 86_400_000
_FORGET_EVERY_MS: Final = 3_600_000
#: In place of a state: it stood so before the route was set up, and nobody was told.
_BEFORE: Final = "before"


class NoticeItem(msgspec.Struct, frozen=True, kw_only=True):
    """One state of one finding for one route; `finding` is its record as others see it."""

    finding_id: str
    state: str  # raised, updated, cleared, escalated
    finding: dict[str, Any]
    acked_by: str = ""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is due on a route. Natural key: `id`; times are epoch ms of the journal."""

    id: str
    route: str
    at: int
    items: tuple[NoticeItem, ...]


class Case(msgspec.Struct, kw_only=True):
    """What the planner knows of one finding.

    `told` and `waiting` are by route and state: severity at which it was told; when it is due.
    """

    change: FindingChange
    was_cleared: bool = False
    acked_by: str = ""
    acked_at: int = -1
    snoozed_until: int = 0
    snoozed_at: int = -1
    told: dict[str, dict[str, str]] = {}
    waiting: dict[str, dict[str, int]] = {}


def notice_of(route: str, at: int, items: Iterable[NoticeItem]) -> Notice:
    """Return a message; the same items give the same id."""
    listed = tuple(items)
    name = "/".join(("notice", route, *(f"{item.finding_id}/{item.state}" for item in listed)))
    return Notice(id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), route=route, at=at, items=listed)


class NoticePlanner:
    """Decides what is told. Its state is `cases` and `clocks`; `touched` names the cases that changed.

    Parameters
    ----------
    rules : iterable of RouteRule
        Names differ; `escalate_to` names one of them.
    cases, clocks : mapping, optional
        State to go on with: finding id -> case, shard -> journaled ms.
    """

    def __init__(
        self,
        rules: Iterable[RouteRule],
        cases: Mapping[str, Case] | None = None,
        clocks: Mapping[int, int] | None = None,
    ) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.cases: dict[str, Case] = dict(cases or {})
        self.clocks: dict[int, int] = dict(clocks or {})
        self.touched: set[str] = set()
        self.forgotten: set[str] = set()
        self._now = max(self.clocks.values(), default=0)
        self._forget_at = self._now + _FORGET_EVERY_MS
        self._waiting = {name for name, case in self.cases.items() if case.waiting}
        self._earliest = 0 if self._waiting else None
        self._out: list[Notice] = []

    def change(self, change: FindingChange) -> list[Notice]:
        """Take one change of a finding; return the messages that are due by now, in order."""
        self._advance(change.shard, change.changed_at)
        case = self.cases.get(change.finding_id)
        if case is not None and change.change <= case.change.change:
            return self._drain()  # told again after a crash
        if case is None:
            case = self.cases[change.finding_id] = Case(change=change)
        else:
            case.was_cleared |= case.change.state == "cleared"
            case.change = change
        self.touched.add(change.finding_id)
        for rule in self.rules.values():
            self._weigh(rule, case, change.changed_at)
        self._keep_waiting(change.finding_id, case)
        return self._drain()

    def action(self, action: FindingAction, shard: int) -> list[Notice]:
        """Take what a person did; return the messages that are due by now."""
        self._advance(shard, action.at)
        case = self.cases.get(action.finding_id)
        if case is None:
            return self._drain()  # of another outbox: an action without site goes to every shard
        if action.action == "ack" and action.at >= case.acked_at:
            case.acked_by, case.acked_at = action.by, action.at
            for states in case.waiting.values():
                states.pop(ESCALATED, None)
        elif action.action in {"snooze", "unsnooze"} and action.at >= case.snoozed_at:
            case.snoozed_at = action.at
            case.snoozed_until = (action.until or 0) if action.action == "snooze" else 0
            if action.action == "unsnooze":
                for states in case.waiting.values():
                    states |= {state: max(due, action.at) for state, due in states.items()}
        else:
            return self._drain()
        self.touched.add(action.finding_id)
        self._keep_waiting(action.finding_id, case)
        return self._drain()

    def clock(self, shard: int, through_ms: int) -> list[Notice]:
        """Take the journal's time of a shard; return the messages that are due by now."""
        self._advance(shard, through_ms)
        if self._now >= self._forget_at:
            self._forget_at = self._now + _FORGET_EVERY_MS
            self._forget()
        return self._drain()

    def _drain(self) -> list[Notice]:
        out, self._out = self._out, []
        return out

    def _weigh(self, rule: RouteRule, case: Case, at: int) -> None:
        """Plan what `rule` is to tell of the finding as it stands now."""
        change = case.change
        told = case.told.setdefault(rule.name, {})
        waiting = case.waiting.setdefault(rule.name, {})
        if change.state == "cleared":
            waiting.pop(ESCALATED, None)
            if waiting.pop("updated", None) is not None:
                del told["updated"]
            if "raised" in told or ESCALATED in told:
                self._plan(rule, case, "cleared", at)
        elif not told_at_all(change):
            # A parent took it, or a plan covers it: what waits is not true any more.
            for state in list(waiting):
                del waiting[state]
                told.pop(state, None)
        elif rule.wants(change):
            if waiting.pop("cleared", None) is not None:
                del told["cleared"]
            self._weigh_open(rule, case, at)

    def _weigh_open(self, rule: RouteRule, case: Case, at: int) -> None:
        change, told, waiting = case.change, case.told[rule.name], case.waiting[rule.name]
        fresh = change.state == "raised"
        if "raised" in waiting:
            if rule.due_ms(at, change.severity) < waiting["raised"]:  # it became urgent
                told["raised"] = change.severity
                self._send_or_wait(rule, case, "raised", at)
        elif "raised" not in told and (fresh or _BEFORE not in told):
            fresh = self._plan(rule, case, "raised", at)
        elif (case.was_cleared and fresh) or _worse(told, change.severity):
            self._plan(rule, case, "updated", at)
        if fresh:
            self._plan_escalation(rule, case, rule.due_ms(at, change.severity))

    def _plan(self, rule: RouteRule, case: Case, state: str, at: int) -> bool:
        """Note a state as told and send it, or let it wait; return whether it was new."""
        told = case.told[rule.name]
        if state in told:
            return False
        if at < rule.since_ms:
            told[_BEFORE] = case.change.severity
            return False
        told[state] = case.change.severity
        if state in rule.states:
            self._send_or_wait(rule, case, state, at)
        return True

    def _send_or_wait(self, rule: RouteRule, case: Case, state: str, at: int) -> None:
        waiting = case.waiting[rule.name]
        due = rule.due_ms(at, case.change.severity)
        if due > at or case.snoozed_until > at:
            waiting[state] = due
            return
        waiting.pop("raised", None)  # one message says both
        self._out.append(notice_of(rule.name, at, [_item(case, state)]))

    def _plan_escalation(self, rule: RouteRule, case: Case, told_ms: int) -> None:
        """Let a finding that `rule` tells at `told_ms` be escalated, unless somebody acknowledges it."""
        target = self.rules.get(rule.escalate_to)
        if not rule.escalate_s or target is None or case.acked_by:
            return
        if ESCALATED not in case.told.setdefault(target.name, {}):
            due = target.due_ms(told_ms + rule.escalate_s * 1000, case.change.severity)
            waiting = case.waiting.setdefault(target.name, {})
            waiting[ESCALATED] = min(due, waiting.get(ESCALATED, due))

    def _keep_waiting(self, finding_id: str, case: Case) -> None:
        case.waiting = {route: states for route, states in case.waiting.items() if states}
        if not case.waiting:
            self._waiting.discard(finding_id)
            return
        self._waiting.add(finding_id)
        for route, states in case.waiting.items():
            for due in states.values():
                due = self._effective(case, route, due)
                self._earliest = due if self._earliest is None else min(self._earliest, due)

    def _effective(self, case: Case, route: str, due: int) -> int:
        """Return when a waiting state may go, a snooze considered."""
        rule = self.rules.get(route)
        if rule is None or case.snoozed_until <= due:
            return due
        return rule.due_ms(case.snoozed_until, case.change.severity)

    def _advance(self, shard: int, at: int) -> None:
        """Move the clock of a shard and send what became due before `at`."""
        self.clocks[shard] = max(at, self.clocks.get(shard, 0))
        self._now = max(self._now, at)
        ripe: dict[tuple[int, str], list[NoticeItem]] | None = None
        # Again while there is something: what is escalated may be due for the next escalation.
        while ripe != {} and self._earliest is not None and self._now > self._earliest + SETTLE_MS:
            ripe, self._earliest = {}, None
            for finding_id in sorted(self._waiting):
                case = self.cases[finding_id]
                for route in sorted(case.waiting):
                    self._ripen(case, route, ripe)
                self._keep_waiting(finding_id, case)
            for (due, route), items in sorted(ripe.items(), key=lambda entry: entry[0]):
                self._out.append(notice_of(route, due, items))

    def _ripen(self, case: Case, route: str, ripe: dict[tuple[int, str], list[NoticeItem]]) -> None:
        """Move what is due of one finding and route to `ripe`."""
        states = case.waiting[route]
        own = self.clocks.get(case.change.shard, 0)
        for state in [s for s in (*STATES, ESCALATED) if s in states]:
            due = self._effective(case, route, states[state])
            # An acknowledgement may still lie before a shard whose own clock is behind.
            if self._now <= due + SETTLE_MS or (state == ESCALATED and own <= due + SETTLE_MS):
                continue
            del states[state]
            self.touched.add(case.change.finding_id)
            rule = self.rules.get(route)
            if rule is None or (state == "raised" and "cleared" in states):
                continue  # the route is gone; or one line says both
            if state == ESCALATED:
                case.told.setdefault(route, {})[ESCALATED] = case.change.severity
                self._plan_escalation(rule, case, due)
            ripe.setdefault((due, route), []).append(_item(case, state))

    def _forget(self) -> None:
        before = self._now - REMEMBERED_MS
        for finding_id, case in list(self.cases.items()):
            if case.change.state == "cleared" and not case.waiting and case.change.changed_at < before:
                del self.cases[finding_id]
                self.touched.discard(finding_id)
                self.forgotten.add(finding_id)


def _worse(told: Mapping[str, str], severity: str) -> bool:
    """Return whether a finding is critical that was told as less."""
    return severity == "critical" and all(rank(before) < rank(severity) for before in told.values())


def _item(case: Case, state: str) -> NoticeItem:
    return NoticeItem(
        finding_id=case.change.finding_id,
        state=state,
        finding=case.change.published(),
        acked_by=case.acked_by,
    )

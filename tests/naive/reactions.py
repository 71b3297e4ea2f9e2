"""Reactions second by second, from the rule's text: what a person with the policy and a clock would note."""

from __future__ import annotations

from typing import Any

from models.outputs import FindingChange
from models.reactions import RuleBook
from models.records import Operator, Status, Transaction


def reactions(
    events: list[tuple[int, Any]], end: int, policy: RuleBook, t0_ms: int
) -> list[tuple[str, int, str]]:
    """Return (rule, step, state) of everything that is noted, one second after the other; -1: no step."""
    at = dict(events)
    out: list[tuple[str, int, str]] = []
    cases: dict[str, dict[str, Any]] = {}
    running: dict[int, str] = {}
    over: dict[int, str] = {}
    sent: list[int] = []
    tripped = False
    said: dict[int, str] = {}  # EVSE -> its last status
    by_person: set[int] = set()
    for second in range(end):
        event = at.get(second)
        if isinstance(event, FindingChange):
            _find(event, second, policy, cases, out, said, by_person)
        elif not isinstance(event, Operator) or event.topic == "command":
            _hear(event, running, over, said, by_person)
        elif event.body["action"] == "trip" and not tripped:
            tripped = True
            out.append(("", -1, "tripped"))
        elif event.body["action"] == "reset" and tripped:
            tripped, sent = False, []
            out.append(("", -1, "reset"))
        for key in sorted(cases):
            case = cases[key]
            rule, evse_row = case["rule"], case["evse"] - 1
            while case["next"] < len(rule.steps):
                number = case["next"]
                step = rule.steps[number]
                if (second - case["since"]) * 1000 < step.after_ms:
                    break
                why = "breaker" if tripped else "charging" if evse_row in running and not rule.safety else ""
                if why:
                    if case["held"] != why:
                        out.append((rule.name, number, "held"))
                    case["held"] = why
                    break
                case["held"], case["next"] = "", number + 1
                recent = [t for t in sent if t > second - 3600]
                if len(recent) >= policy.station_per_h or (step.action == "stop" and evse_row not in running):
                    out.append((rule.name, number, "refused"))
                    continue
                if step.action == "inoperative":
                    ours = any(case["out"] for case in cases.values() if case["evse"] - 1 == evse_row)
                    if evse_row in by_person or (said.get(evse_row) == "Unavailable" and not ours):
                        out.append((rule.name, number, "refused"))
                        continue
                    case["out"] = True
                out.append((rule.name, number, "sent"))
                sent.append(second)
                if step.action in ("limit", "inoperative"):
                    case["undo"].append(number)
                if len([t for t in sent if t > second - 3600]) >= policy.fleet_per_h:
                    tripped = True
                    out.append(("", -1, "tripped"))
    return out


def _hear(
    event: Any, running: dict[int, str], over: dict[int, str], said: dict[int, str], by_person: set[int]
) -> None:
    if isinstance(event, Transaction):
        if event.event_type == "Ended":
            over[event.evse_row] = event.tx_id
            if running.get(event.evse_row) == event.tx_id:
                del running[event.evse_row]
        elif over.get(event.evse_row) != event.tx_id:
            running[event.evse_row] = event.tx_id
    elif isinstance(event, Status):
        if event.status == "Available":
            running.pop(event.evse_row, None)
        said[event.evse_row] = event.status
    elif isinstance(event, Operator):
        evse_row = event.body["body"]["evse"]["id"] - 1
        if event.body["body"]["operationalStatus"] == "Inoperative":
            by_person.add(evse_row)
        else:
            by_person.discard(evse_row)
            said[evse_row] = ""


def _find(
    event: FindingChange,
    second: int,
    policy: RuleBook,
    cases: dict[str, dict[str, Any]],
    out: list[Any],
    said: dict[int, str],
    by_person: set[int],
) -> None:
    if event.state == "cleared":
        for key in sorted(k for k, case in cases.items() if case["id"] == event.finding_id):
            case = cases.pop(key)
            evse_row = case["evse"] - 1
            for number in reversed(case["undo"]):
                if case["rule"].steps[number].action == "inoperative":
                    others = any(c["out"] for c in cases.values() if c["evse"] == case["evse"])
                    if others or evse_row in by_person:
                        out.append((case["rule"].name, number, "refused"))
                        continue
                    said[evse_row] = ""
                out.append((case["rule"].name, number, "undone"))
        return
    for rule in policy.rules:
        key = f"{event.finding_id}/{rule.name}"
        severe = rule.severity != "critical" or event.severity == "critical"
        if event.code in rule.codes and severe and key not in cases:
            cases[key] = {
                "id": event.finding_id,
                "rule": rule,
                "evse": event.evse,
                "since": second,
                "next": 0,
                "held": "",
                "undo": [],
                "out": False,  # it took the EVSE out of service
            }

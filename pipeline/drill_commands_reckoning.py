"""The reckoning of the commands drill: what the ledger says against what stations did and what was heard."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from connectors.simulator.obey import Obedient
from connectors.simulator.ocpp_station import OcppStation
from models.command_states import ANSWERS, ENDED
from models.command_types import command_id
from models.outputs import CommandRow

_MEANINGS: Final = {"Accepted": "accepted", "Unlocked": "accepted", "Scheduled": "scheduled", "": "failed"}

#: What a station must not be told twice if it does a repeat again: by OCPP, whatever our own table says.
_HARMFUL: Final = frozenset({"Reset", "UnlockConnector", "RequestStartTransaction", "TriggerMessage"})


class Heard:
    """The answers that reached the journal, in the order in which they came."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, str]]] = {}

    def note(self, topic: str, payload: bytes, at_ms: int) -> None:
        """Note an answer of a station, if this is one."""
        if topic.endswith("/up/cmdres"):
            body = json.loads(payload)
            self._add(body["cmdId"], at_ms, body["status"])
        elif topic.startswith("ocpp/"):
            parts = json.loads(payload)
            if parts[0] in (3, 4):
                self._add(parts[1], at_ms, parts[2].get("status", "Accepted") if parts[0] == 3 else "")
        elif topic.startswith("cs/"):
            body = json.loads(payload)
            if body["type"] in (3, 4):
                self._add(body["id"], at_ms, body.get("response", {"status": ""})["status"])

    def _add(self, cmd_id: str, at_ms: int, status: str) -> None:
        self.answers.setdefault(cmd_id, []).append((at_ms, status))


def reckon(
    wishes: Iterable[tuple[int, dict[str, Any]]],
    rows: Iterable[CommandRow],
    stations: Mapping[tuple[str, str], Obedient],
    heard: Heard,
) -> dict[str, Any]:
    """Return the figures: how commands ended, how many wrongly, what was done twice or late."""
    told: dict[str, list[CommandRow]] = {}
    for row in sorted(rows, key=lambda row: (row.cmd_id, row.change)):
        told.setdefault(row.cmd_id, []).append(row)
    wanted = {command_id(w["site"], w["station"], f"operator/{w['id']}"): w["command"] for _, w in wishes}
    states = Counter(rows[-1].state for rows in told.values())
    wrong = sum(
        not _right(rows, stations[rows[0].site, rows[0].station], heard.answers.get(cmd_id, []))
        for cmd_id, rows in told.items()
    )
    naive = [one for one in stations.values() if isinstance(one, OcppStation)]
    honest = Counter(cmd for one in stations.values() if one not in naive for cmd, _ in one.done)
    careless = {cmd: times for one in naive for cmd, times in one.at_ms.items()}
    again = [cmd for cmd, times in careless.items() if len(times) > 1]
    return {
        "commands": len(wanted),
        "stations": len(stations),
        "naive_stations": len(naive),
        "ended": sum(states[state] for state in ENDED),
        **{state: states[state] for state in ENDED},
        "nobody_knows": sum("nobody knows" in rows[-1].reason for rows in told.values()),
        "missing": len(wanted.keys() - told.keys()),
        "wrong_answer": wrong,
        "answered_after_end": sum(
            any(row.event in ANSWERS and row.changed_ms > (end.ended_ms or 0) for row in rows)
            for rows in told.values()
            if (end := rows[-1]).ended_ms
        ),
        "done": len(honest) + len(careless),
        "done_twice": sum(n > 1 for n in honest.values()),
        "harm": sum(wanted[cmd] in _HARMFUL for cmd in again),
        "repeated": sum(wanted[cmd] not in _HARMFUL for cmd in again),
        "done_late": sum(max(times) >= told[cmd][0].expires_ms for cmd, times in careless.items()),
        "rows": sum(len(rows) for rows in told.values()),
    }


def _right(rows: list[CommandRow], station: Obedient, answers: list[tuple[int, str]]) -> bool:
    """Return whether a command ended once, as the first answer that came in time says, or without one."""
    end = next((row for row in rows if row.state in ENDED), None)
    if end is None or {row.state for row in rows if row.change >= end.change} != {end.state}:
        return False
    if end.event not in ANSWERS:
        if any(row.event in ANSWERS for row in rows if row.change < end.change):
            return False
        # What a native station said may be held back until what it said before is there.
        return not isinstance(station, OcppStation) or all(at >= (end.ended_ms or 0) for at, _ in answers)
    if isinstance(station, OcppStation):
        return bool(answers) and answers[0][1] == end.status and _means(end)
    return any(status == end.status for _, status in answers) and _means(end)


def _means(end: CommandRow) -> bool:
    return _MEANINGS.get(end.status, "rejected") == end.state


def table(result: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [f"{name:22} {value}" for name, value in result.items() if name != "passed"]
    return "\n".join([*lines, f"{'result':22} {'PASSED' if result['passed'] else 'FAILED'}"])

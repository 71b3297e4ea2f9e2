"""The policy of reactions, and the commands that its steps are."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

SEVERITY_RANK: Final = {"info": 0, "warning": 1, "critical": 2}
#: What a step can do -> whether clearing can undo it.
ACTIONS: Final = {
    "limit": True,
    "stop": False,
    "inoperative": True,
    "reset_on_idle": False,
    "unlock": False,
    "trigger_status": False,
}
#: Above what operators send, so that it is the newest fault that counts.
_STACK_LEVEL: Final = 90
#: An absolute schedule begins somewhere in the past.
_SINCE: Final = "2020-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `action` after `after_ms` ms of the finding being open; `limit_a` for ``limit``."""

    action: str
    after_ms: int = 0
    limit_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a finding sets off.

    Attributes
    ----------
    name : str
    codes, sites : tuple of str
        Patterns with * and ?; no sites: all.
    severity : str
        Least severity.
    safety : bool
        Acts while a car charges, and before all other commands.
    undo : bool
        Undo when the finding clears.
    steps : tuple of Step
        Ascending in `after_ms`.
    """

    name: str
    codes: tuple[str, ...]
    steps: tuple[Step, ...]
    sites: tuple[str, ...] = ()
    severity: str = "warning"
    safety: bool = False
    undo: bool = True


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All rules and what bounds them.

    Attributes
    ----------
    rules : tuple of Rule
    act : bool
        False: decide and record, send nothing.
    station_per_h, site_per_h : int
        Commands that reactions may send in an hour of journaled time.
    fleet_per_h : int
        So many in the fleet, or in one shard of it, within an hour open the breaker: nothing more is sent
        until a person closes it.
    expires_ms : int
        A command that was not delivered by then is void.
    """

    rules: tuple[Rule, ...] = ()
    act: bool = False
    station_per_h: int = 3
    site_per_h: int = 20
    fleet_per_h: int = 50
    expires_ms: int = 120_000


class Where(NamedTuple):
    """What a command is about: `station` is ``site/station``, `transaction` runs there ("" = none)."""

    evse: int | None
    transaction: str
    station: str


def _profile_id(station: str) -> int:
    """Return a positive 31-bit number that is the same for the same station."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"reaction/{station}").int & 0x7FFF_FFFF


def build(step: Step, where: Where) -> dict[str, Any] | None:
    """Return the OCPP 2.0.1 command of a step; None when there is nothing it could do."""
    evse = {"id": where.evse} if where.evse is not None else None
    if step.action == "limit":
        return limit(where.station, step.limit_a)
    if step.action == "stop":
        if not where.transaction:
            return None
        return {"command": "RequestStopTransaction", "body": {"transactionId": where.transaction}}
    if step.action == "inoperative":
        return _availability("Inoperative", evse)
    if step.action == "reset_on_idle":
        body: dict[str, Any] = {"type": "OnIdle"}
        return {"command": "Reset", "body": body | ({"evseId": where.evse} if evse else {})}
    if step.action == "unlock":
        return {"command": "UnlockConnector", "body": {"evseId": where.evse or 1, "connectorId": 1}}
    if step.action == "trigger_status":
        wanted: dict[str, Any] = {"requestedMessage": "StatusNotification"}
        return {
            "command": "TriggerMessage",
            "body": wanted | ({"evse": evse | {"connectorId": 1}} if evse else {}),
        }
    raise ValueError(f"no action {step.action!r}: expected one of {', '.join(ACTIONS)}")


def undo_of(step: Step, where: Where) -> dict[str, Any] | None:
    """Return the command that undoes a step; None when nothing does."""
    if step.action == "limit":
        return limit(where.station, None)
    if step.action == "inoperative":
        return _availability("Operative", {"id": where.evse} if where.evse is not None else None)
    return None


def in_words(command: str, body: dict[str, Any]) -> str:
    """Return what a command of a reaction does, for people; the command itself where there is more to say.

    Examples
    --------
    >>> in_words("Reset", {"type": "OnIdle"})
    'Reset OnIdle'
    """
    match command:
        case "SetChargingProfile":
            periods = body["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"]
            return f"limit the station to {periods[0]['limit']:g} A per phase"
        case "ClearChargingProfile":
            return "lift the limit of the station"
        case "RequestStopTransaction":
            return f"stop transaction {body['transactionId']}"
        case "ChangeAvailability":
            return f"set {body['operationalStatus']}"
        case "Reset":
            return f"Reset {body['type']}"
    return command


def _availability(status: str, evse: dict[str, int] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"operationalStatus": status}
    return {"command": "ChangeAvailability", "body": body | ({"evse": evse} if evse else {})}


def limit(station: str, limit_a: float | None) -> dict[str, Any]:
    """Return the command that limits a station, in A per phase, or lifts the limit (None).

    It is the profile of the station as a whole. A station obeys the least of that and of what its
    transactions are allowed (OCPP 2.0.1 K01, composite schedule), so a limit of load management neither
    undoes it nor is undone by it, whichever comes last; of two profiles of one purpose the higher level
    would count, even where it allows more. There is one for each station: a new one takes its place.
    """
    number = _profile_id(station)
    if limit_a is None:
        return {"command": "ClearChargingProfile", "body": {"chargingProfileId": number}}
    schedule = {
        "id": 1,
        "startSchedule": _SINCE,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_a}],
    }
    profile = {
        "id": number,
        "stackLevel": _STACK_LEVEL,
        "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    return {"command": "SetChargingProfile", "body": {"evseId": 0, "chargingProfile": profile}}

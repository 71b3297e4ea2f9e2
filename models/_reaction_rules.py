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
#: Above the profiles that balance load, so that the lower limit of a fault counts.
_STACK_LEVEL: Final = 90


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
    """What a command is about: `cause` names it, `transaction` runs there ("" = none)."""

    evse: int | None
    transaction: str
    cause: str


def _profile_id(cause: str) -> int:
    """Return a positive 31-bit number that is the same for the same cause."""
    return uuid.uuid5(uuid.NAMESPACE_URL, cause).int & 0x7FFF_FFFF


def build(step: Step, where: Where) -> dict[str, Any] | None:
    """Return the OCPP 2.0.1 command of a step; None when there is nothing it could do."""
    evse = {"id": where.evse} if where.evse is not None else None
    if step.action == "limit":
        return _limit(step, where)
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
        return {
            "command": "ClearChargingProfile",
            "body": {"chargingProfileId": _profile_id(where.cause)},
        }
    if step.action == "inoperative":
        return _availability("Operative", {"id": where.evse} if where.evse is not None else None)
    return None


def _availability(status: str, evse: dict[str, int] | None) -> dict[str, Any]:
    body: dict[str, Any] = {"operationalStatus": status}
    return {"command": "ChangeAvailability", "body": body | ({"evse": evse} if evse else {})}


def _limit(step: Step, where: Where) -> dict[str, Any]:
    """Return a profile: of the transaction that runs, else of every one to come."""
    profile: dict[str, Any] = {
        "id": _profile_id(where.cause),
        "stackLevel": _STACK_LEVEL,
        "chargingProfilePurpose": "TxProfile" if where.transaction else "TxDefaultProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": [
            {
                "id": 1,
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": step.limit_a}],
            }
        ],
    }
    if where.transaction:
        profile["transactionId"] = where.transaction
    return {"command": "SetChargingProfile", "body": {"evseId": where.evse or 0, "chargingProfile": profile}}

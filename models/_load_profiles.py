"""SetChargingProfile bodies (OCPP 2.0.1): the limit of the moment, which expires, and the fallback below.

The dynamic limit is a TxProfile of the running transaction (it ends with it, so the next vehicle does not
inherit it), else a TxDefaultProfile of stack level 1; it is absolute and ends at `validTo`, whenever it
arrives. Beneath lies a TxDefaultProfile of stack level 0 without end: the fallback.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

#: Profile ids of an EVSE: one for each of ours, so that a new profile replaces the old one.
_DYNAMIC: Final = 710_000
_FALLBACK: Final = 720_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def dynamic(
    evse: int, limit_a: float, now_ms: int, until_ms: int, tx_id: str, legs: int, watts_per_a: float
) -> dict[str, Any]:
    """Return the body that sets `limit_a` (A per phase) from now until `until_ms`.

    `watts_per_a` > 0: the limit is sent in W (DC stations).
    """
    profile: dict[str, Any] = {
        "id": _DYNAMIC + evse,
        "stackLevel": 1,
        "chargingProfilePurpose": "TxProfile" if tx_id else "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "validTo": _text(until_ms),
        "chargingSchedule": [
            {
                "id": _DYNAMIC + evse,
                "startSchedule": _text(now_ms),
                "duration": max(1, (until_ms - now_ms) // 1000),
                **_schedule(limit_a, legs, watts_per_a),
            }
        ],
    }
    if tx_id:
        profile["transactionId"] = tx_id
    return {"evseId": evse, "chargingProfile": profile}


def fallback(evse: int, limit_a: float, legs: int, watts_per_a: float) -> dict[str, Any]:
    """Return the body that sets what the station allows when no other limit of ours is valid."""
    return {
        "evseId": evse,
        "chargingProfile": {
            "id": _FALLBACK + evse,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [
                {
                    "id": _FALLBACK + evse,
                    "startSchedule": _text(0),
                    **_schedule(limit_a, legs, watts_per_a),
                }
            ],
        },
    }


def displaces(command: str, body: dict[str, Any]) -> bool:
    """Return whether a command that a station accepted of somebody else took the place of a profile of ours.

    A profile replaces one of its purpose and stack level (K01.FR.05) and one of its id; clearing by purpose
    or level, or without either, takes ours along (K10).
    """
    if command == "SetChargingProfile":
        profile = _part(body, "chargingProfile")
        purpose, level = profile.get("chargingProfilePurpose"), profile.get("stackLevel")
        same = (purpose, level) in {("TxDefaultProfile", 0), ("TxDefaultProfile", 1), ("TxProfile", 1)}
        return same or _ours(profile.get("id"))
    if command != "ClearChargingProfile":
        return False
    if body.get("chargingProfileId") is not None:
        return _ours(body["chargingProfileId"])
    wanted = _part(body, "chargingProfileCriteria")
    purpose, level = wanted.get("chargingProfilePurpose"), wanted.get("stackLevel")
    return purpose in (None, "TxDefaultProfile", "TxProfile") and level in (None, 0, 1)


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    return part if isinstance(part, dict) else {}


def _ours(number: Any) -> bool:
    return isinstance(number, int) and _DYNAMIC <= number < _FALLBACK + (_FALLBACK - _DYNAMIC)


def _schedule(limit_a: float, legs: int, watts_per_a: float) -> dict[str, Any]:
    if watts_per_a:
        period: dict[str, Any] = {"startPeriod": 0, "limit": float(int(limit_a * watts_per_a))}
        return {"chargingRateUnit": "W", "chargingSchedulePeriod": [period]}
    period = {"startPeriod": 0, "limit": round(limit_a, 1), "numberPhases": legs}
    return {"chargingRateUnit": "A", "chargingSchedulePeriod": [period]}


def _text(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).strftime("%Y-%m-%dT%H:%M:%SZ")

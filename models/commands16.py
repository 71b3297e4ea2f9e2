"""OCPP 2.0.1 requests as OCPP 1.6 ones: what 1.6 can say is said, what it cannot is refused with the reason.

A 1.6 connector is a 2.0.1 EVSE; connector 0 is the whole station. Nothing is dropped silently: a field that
has no place in the 1.6 request refuses the command. Firmware without a signature goes as ``UpdateFirmware``,
which carries no requestId; signed firmware as ``SignedUpdateFirmware`` of the 1.6 security extension.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from .command_check import CommandRefused

Body = dict[str, Any]

#: Longest idTag of OCPP 1.6.
_ID_TAG: Final = 20
_TRIGGERS: Final = {
    "BootNotification": "BootNotification",
    "FirmwareStatusNotification": "FirmwareStatusNotification",
    "Heartbeat": "Heartbeat",
    "MeterValues": "MeterValues",
    "StatusNotification": "StatusNotification",
    "LogStatusNotification": "DiagnosticsStatusNotification",
}
_PURPOSES: Final = {
    "ChargingStationMaxProfile": "ChargePointMaxProfile",
    "TxDefaultProfile": "TxDefaultProfile",
    "TxProfile": "TxProfile",
}


def to_16(command: str, body: Body) -> tuple[str, Body]:
    """Return the OCPP 1.6 action and request that say the same.

    Raises
    ------
    CommandRefused
        If 1.6 has no such command, or cannot carry a field of it.
    """
    translate = _TRANSLATE.get(command)
    if translate is None:
        raise CommandRefused(
            f"{command}: OCPP 1.6 has nothing like it; it can carry {', '.join(sorted(_TRANSLATE))}"
        )
    action, told, left = translate(dict(body))
    lost = sorted(name for name, value in left.items() if value not in (None, {}, []))
    if lost:
        raise CommandRefused(f"{command}: OCPP 1.6 {action} cannot carry {', '.join(lost)}")
    return action, {name: value for name, value in told.items() if value is not None}


_Told = tuple[str, Body, Body]  # action, request, what was left over


def _connector(evse: Any, connector: Any, command: str) -> int:
    """Return the 1.6 connector of an EVSE (0: the station)."""
    if connector not in (None, 0, 1):
        raise CommandRefused(
            f"{command}: OCPP 1.6 numbers connectors through the station, one an EVSE; connector {connector} "
            f"of EVSE {evse} has no number there"
        )
    return int(evse or 0)


def _place(body: Body, command: str) -> int:
    evse = body.pop("evse", None) or {}
    left = {name for name in evse if name not in ("id", "connectorId")}
    if left:
        raise CommandRefused(f"{command}: OCPP 1.6 cannot carry evse.{', evse.'.join(sorted(left))}")
    return _connector(evse.get("id"), evse.get("connectorId"), command)


def _reset(body: Body) -> _Told:
    kind = {"Immediate": "Hard", "OnIdle": "Soft"}[body.pop("type")]
    return "Reset", {"type": kind}, body


def _unlock(body: Body) -> _Told:
    number = _connector(body.pop("evseId"), body.pop("connectorId"), "UnlockConnector")
    return "UnlockConnector", {"connectorId": number}, body


def _availability(body: Body) -> _Told:
    kind = body.pop("operationalStatus")
    return "ChangeAvailability", {"connectorId": _place(body, "ChangeAvailability"), "type": kind}, body


def _start(body: Body) -> _Told:
    token = dict(body.pop("idToken"))
    tag = token.pop("idToken")
    token.pop("type")  # 1.6 has one kind of tag
    body.pop("remoteStartId")
    if len(tag) > _ID_TAG or token:
        raise CommandRefused(
            f"RequestStartTransaction: OCPP 1.6 takes an idTag of up to {_ID_TAG} characters and nothing "
            f"beside it; came {len(tag)} characters" + (f" and {', '.join(token)}" if token else "")
        )
    told: Body = {"idTag": tag, "connectorId": body.pop("evseId", None)}
    if "chargingProfile" in body:
        told["chargingProfile"] = _profile(body.pop("chargingProfile"), "RequestStartTransaction")
    return "RemoteStartTransaction", told, body


def _stop(body: Body) -> _Told:
    name = body.pop("transactionId")
    return "RemoteStopTransaction", {"transactionId": _number(name, "RequestStopTransaction")}, body


def _number(transaction: str, command: str) -> int:
    if not transaction.isdecimal() or len(transaction) > 10:
        raise CommandRefused(
            f"{command}: OCPP 1.6 numbers transactions; {transaction!r:.60} is no number, so the central "
            "system gave it no id that the station knows"
        )
    return int(transaction)


def _profile(profile: Body, command: str) -> Body:
    profile = dict(profile)
    purpose = profile.pop("chargingProfilePurpose")
    schedules = profile.pop("chargingSchedule")
    if purpose not in _PURPOSES:
        raise CommandRefused(f"{command}: OCPP 1.6 has no profile purpose {purpose}")
    if len(schedules) != 1:
        raise CommandRefused(f"{command}: OCPP 1.6 takes one charging schedule, came {len(schedules)}")
    told = {
        "chargingProfileId": profile.pop("id"),
        "stackLevel": profile.pop("stackLevel"),
        "chargingProfilePurpose": _PURPOSES[purpose],
        "chargingProfileKind": profile.pop("chargingProfileKind"),
        "chargingSchedule": _schedule(schedules[0], command),
    }
    for name in ("recurrencyKind", "validFrom", "validTo"):
        if name in profile:
            told[name] = profile.pop(name)
    if "transactionId" in profile:
        told["transactionId"] = _number(profile.pop("transactionId"), command)
    _nothing_left(profile, "chargingProfile", command)
    return told


def _schedule(schedule: Body, command: str) -> Body:
    schedule = dict(schedule)
    schedule.pop("id")
    periods = []
    for given in schedule.pop("chargingSchedulePeriod"):
        period = dict(given)
        told = {"startPeriod": period.pop("startPeriod"), "limit": _tenths(period.pop("limit"))}
        if "numberPhases" in period:
            told["numberPhases"] = period.pop("numberPhases")
        _nothing_left(period, "chargingSchedulePeriod", command)
        periods.append(told)
    out = {"chargingRateUnit": schedule.pop("chargingRateUnit"), "chargingSchedulePeriod": periods}
    for name in ("duration", "startSchedule"):
        if name in schedule:
            out[name] = schedule.pop(name)
    if "minChargingRate" in schedule:
        out["minChargingRate"] = _tenths(schedule.pop("minChargingRate"))
    _nothing_left(schedule, "chargingSchedule", command)
    return out


def _tenths(limit: float) -> float:
    """Return a limit with one decimal, as 1.6 wants it; never more than it was."""
    return math.floor(round(limit * 10, 6)) / 10


def _nothing_left(body: Body, what: str, command: str) -> None:
    if body:
        raise CommandRefused(f"{command}: OCPP 1.6 cannot carry {what}.{', '.join(sorted(body))}")


def _set_profile(body: Body) -> _Told:
    told = {
        "connectorId": body.pop("evseId"),
        "csChargingProfiles": _profile(body.pop("chargingProfile"), "SetChargingProfile"),
    }
    return "SetChargingProfile", told, body


def _clear_profile(body: Body) -> _Told:
    criteria = dict(body.pop("chargingProfileCriteria", {}))
    told = {"id": body.pop("chargingProfileId", None)}
    purpose = criteria.pop("chargingProfilePurpose", None)
    if purpose is not None and purpose not in _PURPOSES:
        raise CommandRefused(f"ClearChargingProfile: OCPP 1.6 has no profile purpose {purpose}")
    told |= {"connectorId": criteria.pop("evseId", None), "stackLevel": criteria.pop("stackLevel", None)}
    told["chargingProfilePurpose"] = None if purpose is None else _PURPOSES[purpose]
    return "ClearChargingProfile", told, body | criteria


def _composite(body: Body) -> _Told:
    told = {"connectorId": body.pop("evseId"), "duration": body.pop("duration")}
    return "GetCompositeSchedule", told | {"chargingRateUnit": body.pop("chargingRateUnit", None)}, body


def _trigger(body: Body) -> _Told:
    wanted = body.pop("requestedMessage")
    if wanted not in _TRIGGERS:
        raise CommandRefused(
            f"TriggerMessage: OCPP 1.6 cannot trigger {wanted}; it can {', '.join(sorted(_TRIGGERS))}"
        )
    number = _place(body, "TriggerMessage")
    return "TriggerMessage", {"requestedMessage": _TRIGGERS[wanted], "connectorId": number or None}, body


def _set_variables(body: Body) -> _Told:
    data = body.pop("setVariableData")
    if len(data) != 1:
        raise CommandRefused(
            f"SetVariables: OCPP 1.6 changes one configuration key a request, came {len(data)}"
        )
    one = dict(data[0])
    told = {"key": one.pop("variable")["name"], "value": one.pop("attributeValue")}
    one.pop("component")  # 1.6 keys have none
    return "ChangeConfiguration", told, body | one


def _get_variables(body: Body) -> _Told:
    names = [item["variable"]["name"] for item in body.pop("getVariableData")]
    return "GetConfiguration", {"key": names}, body


def _log(body: Body) -> _Told:
    kind, log = body.pop("logType"), dict(body.pop("log"))
    if kind != "DiagnosticsLog":
        raise CommandRefused(f"GetLog: OCPP 1.6 uploads diagnostics only, not {kind}")
    body.pop("requestId")
    told = {
        "location": log.pop("remoteLocation"),
        "startTime": log.pop("oldestTimestamp", None),
        "stopTime": log.pop("latestTimestamp", None),
        "retries": body.pop("retries", None),
        "retryInterval": body.pop("retryInterval", None),
    }
    return "GetDiagnostics", told, body | log


def _firmware(body: Body) -> _Told:
    firmware = dict(body.pop("firmware"))
    tries = {name: body.pop(name, None) for name in ("retries", "retryInterval")}
    request = body.pop("requestId")
    if "signature" in firmware or "signingCertificate" in firmware:
        told = {name: value for name, value in tries.items() if value is not None}
        return "SignedUpdateFirmware", told | {"requestId": request, "firmware": firmware}, body
    told = {"location": firmware.pop("location"), "retrieveDate": firmware.pop("retrieveDateTime")}
    return "UpdateFirmware", told | tries, body | firmware


_TRANSLATE: Final[dict[str, Callable[[Body], _Told]]] = {
    "Reset": _reset,
    "UnlockConnector": _unlock,
    "ChangeAvailability": _availability,
    "RequestStartTransaction": _start,
    "RequestStopTransaction": _stop,
    "SetChargingProfile": _set_profile,
    "ClearChargingProfile": _clear_profile,
    "GetCompositeSchedule": _composite,
    "TriggerMessage": _trigger,
    "SetVariables": _set_variables,
    "GetVariables": _get_variables,
    "GetLog": _log,
    "UpdateFirmware": _firmware,
    "ClearCache": lambda body: ("ClearCache", {}, body),
}

"""A simulated OCPP-J station behind a gateway to MQTT: 1.6 or 2.0.1, raw or wrapped.

It does what it is called to do, as often as it is called: OCPP-J asks no station to know a message id again,
and knows no expiry. What it does is `Obedient`; here is only the language.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from typing import Any, Final

from .manners import Manners
from .obey import Obedient, Said

Body = dict[str, Any]

_CALL, _RESULT, _ERROR = 2, 3, 4
_NEVER: Final = 1 << 62

#: Action of 1.6 -> what it is in 2.0.1, as far as the station needs it.
_FROM_16: Final[dict[str, Callable[[Body], tuple[str, Body]]]] = {
    "Reset": lambda b: ("Reset", {"type": {"Hard": "Immediate", "Soft": "OnIdle"}[b["type"]]}),
    "UnlockConnector": lambda b: ("UnlockConnector", {"evseId": b["connectorId"], "connectorId": 1}),
    "ChangeAvailability": lambda b: ("ChangeAvailability", {"operationalStatus": b["type"]}),
    "RemoteStartTransaction": lambda b: ("RequestStartTransaction", {"evseId": b.get("connectorId", 1)}),
    "RemoteStopTransaction": lambda b: ("RequestStopTransaction", {"transactionId": str(b["transactionId"])}),
    "SetChargingProfile": lambda b: ("SetChargingProfile", _profile(b)),
    "ClearChargingProfile": lambda b: (
        "ClearChargingProfile",
        {"chargingProfileId": b.get("id")}
        | ({} if b.get("id") else {"chargingProfileCriteria": {"evseId": b.get("connectorId")}}),
    ),
    "UpdateFirmware": lambda b: ("UpdateFirmware", {"requestId": 0, "firmware": b}),
    "SignedUpdateFirmware": lambda b: ("UpdateFirmware", b),
}
#: Further actions of either version that change nothing a simulated station has.
_HARMLESS: Final = {
    "TriggerMessage", "ClearCache", "GetLog", "GetDiagnostics", "GetCompositeSchedule", "ChangeConfiguration",
    "GetConfiguration",
}  # fmt: skip
_OF_201: Final = {
    "Reset", "UnlockConnector", "ChangeAvailability", "RequestStartTransaction", "RequestStopTransaction",
    "SetChargingProfile", "ClearChargingProfile", "UpdateFirmware",
}  # fmt: skip
#: Words that 1.6 does not have.
_WORDS_16: Final = {"OngoingAuthorizedTransaction": "UnlockFailed", "AcceptedCanceled": "Accepted"}


def _profile(body: Body) -> Body:
    given = dict(body["csChargingProfiles"])
    given["id"] = given.pop("chargingProfileId")
    given["chargingSchedule"] = [given["chargingSchedule"]]
    purpose = given["chargingProfilePurpose"]
    given["chargingProfilePurpose"] = {"ChargePointMaxProfile": "ChargingStationMaxProfile"}.get(
        purpose, purpose
    )
    return {"evseId": body["connectorId"], "chargingProfile": given}


class OcppStation(Obedient):
    """One OCPP-J station.

    Parameters
    ----------
    station : str
    version : str
        ``1.6`` or ``2.0.1``.
    form : str
        ``raw`` or ``wrapped``.
    manners : Manners
        Of this station; it keeps no ids whatever they say.
    rng : Random

    Attributes
    ----------
    at_ms : dict of str to list of int
        Command id -> when it was done, each time.
    """

    def __init__(self, station: str, version: str, form: str, manners: Manners, rng: random.Random) -> None:
        super().__init__(station, "1.0.0", dataclasses.replace(manners, forgetful=1.0), rng)
        self.version, self.form = version, form
        self.at_ms: dict[str, list[int]] = {}
        self._calls = 0

    def call(self, payload: bytes, now_ms: int) -> None:
        """Take a message of the central system; what comes of it is said by `step`."""
        message = json.loads(payload)
        if self.form == "raw":
            kind, call_id, action, body = (*message, None, None)[:4]
        else:
            kind, call_id, action, body = (message[name] for name in ("type", "id", "action", "request"))
        if kind != _CALL or not self.online or self.manners.ignore:
            return
        if self.version == "1.6" and action in _FROM_16:
            action, body = _FROM_16[action](body)
        elif action not in _HARMLESS and (self.version == "1.6" or action not in _OF_201):
            self._say(now_ms + 50, "cmdres", {"cmdId": call_id, "error": "NotImplemented"})
            return
        command = {"cmdId": call_id, "action": action, "payload": body, "expires": _NEVER}
        done = len(self.done)
        self.receive(command, now_ms)
        if len(self.done) > done:
            self.at_ms.setdefault(call_id, []).append(now_ms)

    def voice(self, said: Said) -> bytes | None:
        """Return what it says as a message to the central system; None: a gateway says nothing of that."""
        if said.kind == "cmdres":
            return self._result(said.body)
        if said.kind == "conn" and said.body["online"]:
            name = {"1.6": ("chargePointVendor", "chargePointModel")}.get(self.version)
            station: Body = {"vendorName": "Simulated", "model": "Obedient", "firmwareVersion": self.fw}
            if name is None:
                return self._call_of("BootNotification", {"chargingStation": station, "reason": "PowerUp"})
            boot = {name[0]: "Simulated", name[1]: "Obedient", "firmwareVersion": self.fw}
            return self._call_of("BootNotification", boot)
        if said.kind == "fw":
            return self._call_of("FirmwareStatusNotification", {"status": said.body["status"]})
        return None

    def _result(self, body: Body) -> bytes:
        call_id, error = body["cmdId"], body.get("error")
        status = body.get("status", "")
        told: Body = {"status": _WORDS_16.get(status, status) if self.version == "1.6" else status}
        if self.form == "raw":
            parts = [_RESULT, call_id, told] if error is None else [_ERROR, call_id, error, "", {}]
            return json.dumps(parts).encode()
        message: Body = {"id": call_id, "action": None, "request": None}
        if error is None:
            return json.dumps(message | {"type": _RESULT, "response": told}).encode()
        return json.dumps(message | {"type": _ERROR, "error_code": error, "error_description": ""}).encode()

    def _call_of(self, action: str, body: Body) -> bytes:
        self._calls += 1
        call_id = f"{self.station}-{self.boot}-{self._calls}"
        if self.form == "raw":
            return json.dumps([_CALL, call_id, action, body]).encode()
        message = {"type": _CALL, "id": call_id, "action": action, "request": body, "response": None}
        return json.dumps(message).encode()

"""Which commands may go out a second time to a station that does not know a command id again.

A command is repeatable if doing it twice leaves the station as doing it once, and if the answer to the second
tells what became of the first. All others go to such a station once: when their answer is missing, nobody
knows whether they were done. Stations that know ids again (the native dialect) get every command again.
"""

from __future__ import annotations

from typing import Final

#: command -> why it may be repeated
REPEATABLE: Final[dict[str, str]] = {
    "ChangeAvailability": "it sets a state; set again it is the same",
    "SetChargingProfile": "a profile replaces the one with its id",
    "ClearChargingProfile": "what is gone stays gone",
    "RequestStopTransaction": "a transaction ends once",
    "SetVariables": "a variable that is set again has the same value",
    "ClearVariableMonitoring": "what is gone stays gone",
    "UnpublishFirmware": "what is gone stays gone",
    "GetVariables": "it only reads",
    "GetCompositeSchedule": "it only reads",
    "ClearCache": "an empty cache stays empty",
}

#: command -> why it may not
ONCE: Final[dict[str, str]] = {
    "Reset": "a second boot",
    "UnlockConnector": "it opens again what somebody has locked since",
    "RequestStartTransaction": "a second car may begin to charge on the first one's token",
    "UpdateFirmware": "it breaks off the update that it began, and begins again",
    "PublishFirmware": "it downloads and publishes again",
    "GetLog": "it breaks off the upload that it began, and begins again",
    "TriggerMessage": "a second message, or a second request for a certificate",
    "SetVariableMonitoring": "a second monitor, or the answer Duplicate to what was done",
}

#: Words that a repeat of these is answered with when an earlier try has done it.
_DONE_BEFORE: Final[dict[str, tuple[str, ...]]] = {
    "ClearChargingProfile": ("Unknown",),
    "RequestStopTransaction": ("Rejected",),
    "ClearVariableMonitoring": ("NotFound",),
    "UnpublishFirmware": ("NoFirmware",),
}


def repeatable(command: str) -> bool:
    """Return whether a command may be sent again to a station that does not know its id again."""
    return command in REPEATABLE


def maybe_done_before(command: str, status: str) -> bool:
    """Return whether this refusal of a repeat may mean that an earlier try has done it."""
    return status in _DONE_BEFORE.get(command, ())

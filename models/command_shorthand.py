"""The commands that people send every day, by a word and a value instead of an OCPP body."""

from __future__ import annotations

import difflib
from typing import Any, Final, NamedTuple

from .command_check import COMMANDS, CommandRefused

#: A schedule that began then is in force now.
_SINCE: Final = "2020-01-01T00:00:00Z"
#: The profile that people set by hand; one that sets it again replaces it.
_PROFILE: Final = 990_001


class Word(NamedTuple):
    """A word: what it does, and what its value is (empty: it takes none)."""

    does: str
    value: str = ""


WORDS: Final[dict[str, Word]] = {
    "reset": Word("restart when idle"),
    "reset-now": Word("restart at once"),
    "unlock": Word("unlock the connector"),
    "operative": Word("take into service"),
    "inoperative": Word("take out of service"),
    "start": Word("start charging", "token"),
    "stop": Word("stop charging", "transaction id"),
    "limit": Word("limit the current", "ampere"),
    "clear-limit": Word("lift the limit"),
    "trigger": Word("ask for a message", "message, such as StatusNotification"),
}


def spell_out(word: str, evse: int | None, value: str) -> tuple[str, dict[str, Any]]:
    """Return the OCPP 2.0.1 action and request behind a word.

    Raises
    ------
    CommandRefused
        If there is no such word, or its value or EVSE is missing or wrong.
    """
    known = WORDS.get(word)
    if known is None:
        near = difflib.get_close_matches(word, [*WORDS, *COMMANDS], 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CommandRefused(f"no word {word!r:.40}; {meant}there are {', '.join(WORDS)}, and OCPP actions")
    if known.value and not value:
        raise CommandRefused(f"{word}: it needs a value: {known.value}")
    if not known.value and value:
        raise CommandRefused(f"{word}: it takes no value, came {value!r:.40}")
    where = {"evse": {"id": evse}} if evse else {}
    match word:
        case "reset" | "reset-now":
            kind = "OnIdle" if word == "reset" else "Immediate"
            return "Reset", {"type": kind} | ({"evseId": evse} if evse else {})
        case "unlock":
            return "UnlockConnector", {"evseId": evse or 1, "connectorId": 1}
        case "operative" | "inoperative":
            return "ChangeAvailability", {"operationalStatus": word.capitalize()} | where
        case "start":
            token = {"idToken": value, "type": "Central"}
            return "RequestStartTransaction", {"idToken": token, "remoteStartId": 1, "evseId": evse or 1}
        case "stop":
            return "RequestStopTransaction", {"transactionId": value}
        case "limit":
            return "SetChargingProfile", {"evseId": evse or 0, "chargingProfile": limit(evse, _ampere(value))}
        case "clear-limit":
            return "ClearChargingProfile", {"chargingProfileId": _PROFILE}
        case _:
            return "TriggerMessage", {"requestedMessage": value} | where


def _ampere(value: str) -> float:
    try:
        ampere = float(value)
    except ValueError:
        ampere = -1.0
    if not 0 <= ampere <= 1000:
        raise CommandRefused(f"limit: its value is the current in ampere, 0 to 1000; came {value!r:.40}")
    return ampere


def limit(evse: int | None, ampere: float) -> dict[str, Any]:
    """Return the charging profile that holds an EVSE, or the station as a whole, to a current."""
    return {
        "id": _PROFILE,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile" if evse else "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [
            {
                "id": 1,
                "startSchedule": _SINCE,
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": ampere}],
            }
        ],
    }

"""What a command may be, and what an answer to it means: the OCPP 2.0.1 requests that we send.

Bodies are checked against the schemas and dataclasses of the `ocpp` package (loaded when the first command
comes). Response words are those of OCPP 2.0.1; 1.6 words that mean the same are taken too.
"""

from __future__ import annotations

import decimal
import difflib
import functools
import importlib
import json
import math
import re
from typing import Any, Final

import msgspec

from .command_secrets import without_secrets
from .command_states import Event
from .errors import DecodeError

_ACCEPTED: Final = ("Accepted",)
_REJECTED: Final = ("Rejected", "NotSupported", "NotImplemented")

#: command -> (words that mean it was done, words that mean it will be, words that mean it will not be)
COMMANDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    "UpdateFirmware": (
        ("Accepted", "AcceptedCanceled"),
        (),
        (*_REJECTED, "InvalidCertificate", "RevokedCertificate"),
    ),
    "PublishFirmware": (_ACCEPTED, (), _REJECTED),
    "UnpublishFirmware": (("Unpublished",), (), ("DownloadOngoing", "NoFirmware", *_REJECTED)),
    "Reset": (_ACCEPTED, ("Scheduled",), _REJECTED),
    "UnlockConnector": (
        ("Unlocked",),
        (),
        (*_REJECTED, "UnlockFailed", "OngoingAuthorizedTransaction", "UnknownConnector"),
    ),
    "ChangeAvailability": (_ACCEPTED, ("Scheduled",), _REJECTED),
    "RequestStartTransaction": (_ACCEPTED, (), _REJECTED),
    "RequestStopTransaction": (_ACCEPTED, (), _REJECTED),
    "SetChargingProfile": (_ACCEPTED, (), _REJECTED),
    "ClearChargingProfile": (_ACCEPTED, (), (*_REJECTED, "Unknown")),
    "GetCompositeSchedule": (_ACCEPTED, (), _REJECTED),
    "GetLog": (("Accepted", "AcceptedCanceled"), (), _REJECTED),
    "TriggerMessage": (_ACCEPTED, (), _REJECTED),
    "SetVariables": (
        ("Accepted", "RebootRequired"),
        (),
        (*_REJECTED, "UnknownComponent", "UnknownVariable", "NotSupportedAttributeType"),
    ),
    "GetVariables": (
        _ACCEPTED,
        (),
        (*_REJECTED, "UnknownComponent", "UnknownVariable", "NotSupportedAttributeType"),
    ),
    "SetVariableMonitoring": (
        _ACCEPTED,
        (),
        (*_REJECTED, "UnknownComponent", "UnknownVariable", "UnsupportedMonitorType", "Duplicate"),
    ),
    "ClearVariableMonitoring": (_ACCEPTED, (), (*_REJECTED, "NotFound")),
    "ClearCache": (_ACCEPTED, (), _REJECTED),
}

#: Commands whose response has a list of results instead of one status: field of it, word in each.
LISTED: Final = {
    "SetVariables": ("setVariableResult", "attributeStatus"),
    "GetVariables": ("getVariableResult", "attributeStatus"),
    "SetVariableMonitoring": ("setMonitoringResult", "status"),
    "ClearVariableMonitoring": ("clearMonitoringResult", "status"),
}

#: A native station's word for a command it did not do again, or that came too late.
STALE: Final = ("Expired", "Duplicate")

_MOST_BYTES: Final = 65_536
_MOST_ERRORS: Final = 4
_MOST_MESSAGE: Final = 200
_MOST_WORDS: Final = 1_000


class CommandRefused(DecodeError):
    """A command that cannot leave: its words say what came, where, and what was expected."""

    def __init__(self, detail: str) -> None:
        super().__init__("command", detail)

    def __str__(self) -> str:
        return self.detail


def answer_event(command: str, status: str, body: dict[str, Any]) -> tuple[Event, str]:
    """Return what an answer means and, if it is no yes, in what words.

    Parameters
    ----------
    command : str
        OCPP 2.0.1 action.
    status : str
        The station's word; empty where only an error came.
    body : dict
        ``statusInfo``, ``result`` and ``error`` as far as they came.
    """
    error = body.get("error")
    if error is not None:
        return "error", f"the station could not do it: {_words(error) or 'it gave no reason'}"
    done, later, refused = COMMANDS.get(command, (_ACCEPTED, ("Scheduled",), _REJECTED))
    info = body.get("statusInfo")
    told = f"{status} ({_words(info)})" if info else status
    if status in done:
        return "accept", "" if status in _ACCEPTED else told
    if status in later:
        return "schedule", told
    if status in refused or status in STALE:
        return "reject", told
    expected = ", ".join(dict.fromkeys((*done, *later, *refused)))
    return "error", f"the station answered {status!r:.80}; for {command} expected one of {expected}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(v) for v in value.values() if v not in (None, ""))[:300]
    return str(value)[:300]


def check_command(command: str, body: dict[str, Any]) -> None:
    """Check that `body` is an OCPP 2.0.1 request `command` that we send.

    Raises
    ------
    CommandRefused
        If it is not: what came, where in the body, what was expected.
    """
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CommandRefused(f"no command {command!r:.80}; {meant}there are {', '.join(COMMANDS)}")
    try:
        size = len(msgspec.json.encode(body))
    except (TypeError, ValueError, RecursionError) as error:
        raise CommandRefused(f"{command}: its body cannot be written as JSON: {error}") from error
    if size > _MOST_BYTES:
        raise CommandRefused(f"{command}: its body has {size} bytes; expected at most {_MOST_BYTES}")
    if not _finite(body):
        raise CommandRefused(f"{command}: its body holds a number that is not finite")
    check_schema(command, body, "2.0.1")


def check_schema(action: str, body: dict[str, Any], version: str) -> None:
    """Check a request against schema and dataclass of an OCPP version (1.6 or 2.0.1).

    Raises
    ------
    CommandRefused
        Naming every place that is wrong, up to four.
    """
    wrong = []
    # 1.6 allows numbers with one decimal, which a binary fraction rarely is
    read = body if version != "1.6" else json.loads(json.dumps(body), parse_float=decimal.Decimal)
    for error in _validator(action, version).iter_errors(read):
        place = ".".join(str(part) for part in error.absolute_path) or "the body"
        most = _MOST_WORDS if error.validator == "enum" else _MOST_MESSAGE  # what is allowed is told whole
        wrong.append(f"{place}: {without_secrets(error.message, body):.{most}}")
        if len(wrong) == _MOST_ERRORS:
            break
    if wrong:
        raise CommandRefused(f"{action} (OCPP {version}): " + "; ".join(sorted(wrong)))
    try:
        _typed(action, version)(**{_snake(name): value for name, value in body.items()})
    except TypeError as error:
        raise CommandRefused(f"{action} (OCPP {version}): {error}") from error


@functools.cache
def _validator(action: str, version: str) -> Any:
    from ocpp.messages import MessageType, get_validator

    exact = {"parse_float": decimal.Decimal} if version == "1.6" else {}
    return get_validator(MessageType.Call, action, version, **exact)


@functools.cache
def _typed(action: str, version: str) -> Any:
    calls = importlib.import_module("ocpp.v16.call" if version == "1.6" else "ocpp.v201.call")
    return getattr(calls, action)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_finite(item) for item in value)
    return True

"""What a station answers to a CALL of ours, as the record of a command's answer."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from models import batch as b
from models.command_check import LISTED

from . import Sink
from ._decoding import BAD_BYTES, plain

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
#: Words of a list of results that mean the item was done.
_DONE: Final = ("Accepted", "RebootRequired")


def is_command_id(message_id: str) -> bool:
    """Return whether a message id may be one of ours (a version 5 UUID)."""
    return _UUID.match(message_id) is not None


def put_answer(message_id: str, response: bytes | None, recv_ns: int, out: Sink) -> None:
    """Put a CALLRESULT; `response` None or unreadable: a CALLERROR without words."""
    body = _read(response)
    out.head(b.CMDRES)
    if not isinstance(body, dict):
        put_error(message_id, "", "the answer cannot be read", recv_ns, out)
        return
    details: dict[str, Any] = {"result": body}
    if isinstance(body.get("statusInfo"), dict):
        details["statusInfo"] = body["statusInfo"]
    out.command_result(station="", time_ns=recv_ns, cmd_id=message_id, status=_status(body), body=details)


def put_error(message_id: str, code: str, description: str, recv_ns: int, out: Sink) -> None:
    """Put a CALLERROR."""
    out.head(b.CMDRES)
    error = {"code": code[:100], "description": description[:500]}
    out.command_result(station="", time_ns=recv_ns, cmd_id=message_id, status="", body={"error": error})


def _read(response: bytes | None) -> Any:
    if response is None:
        return None
    try:
        return plain(msgspec.json.decode(response))
    except BAD_BYTES:
        return None


def _status(body: dict[str, Any]) -> str:
    """Return the word of an answer: its status, the first bad one of a list, Accepted where none is due."""
    if "status" in body:
        return str(body["status"])[:100]
    for name, word in LISTED.values():
        items = body.get(name)
        if isinstance(items, list):
            words = [str(item.get(word, "")) for item in items if isinstance(item, dict)]
            return next((one for one in words if one not in _DONE), words[0] if words else "Accepted")[:100]
    return "Accepted"

"""Requests for a command, of people and of our own control shard: ``_op/command``, ``_op/command_cancel``."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from .command_secrets import shown
from .command_types import CAMPAIGN, HOUSEKEEPING, OPERATOR, SAFETY, Ask
from .errors import DecodeError
from .topics import OPERATOR_SITE, ROOT

KIND: Final = "command"
CANCEL_KIND: Final = "command_cancel"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
CANCEL_TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{CANCEL_KIND}"

#: Longest life of a command: a month.
MOST_EXPIRES_S: Final = 31 * 86_400

_Name = Annotated[str, Meta(min_length=1, max_length=255)]
_Number = Annotated[int, Meta(ge=0, le=10_000)]


def shown_message(topic: str, payload: bytes) -> bytes:
    """Return a journaled message as people may read it: a request for a command without its secrets.

    What cannot be read as such a request keeps nothing; every other message is returned as it is.
    """
    if topic != TOPIC:
        return payload
    try:
        request = msgspec.json.decode(payload)
        if not isinstance(request, dict):
            return b"null"
        body = shown(request.get("body"))
    except (msgspec.DecodeError, RecursionError):
        return b"null"
    if body == request.get("body"):
        return payload
    return msgspec.json.encode(request | {"body": body})


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of ``_op/command``.

    `id` is what repeats of one request are known by. It expires `expires_s` after its arrival in the journal.
    `cause` is for our own control shard; people's requests get ``operator/<id>``.
    """

    id: _Name
    site: _Name
    station: _Name
    command: _Name
    by: _Name
    expires_s: Annotated[float, Meta(gt=0, le=MOST_EXPIRES_S)]
    body: dict[str, Any] = {}
    evse: _Number | None = None
    connector: _Number | None = None
    priority: Annotated[int, Meta(ge=SAFETY, le=HOUSEKEEPING)] = OPERATOR
    cause: Annotated[str, Meta(max_length=500)] = ""
    replaces: Annotated[str, Meta(max_length=255)] = ""

    def ask(self, arrived_ms: int) -> Ask:
        """Return what is asked for, by a request that arrived then."""
        return Ask(
            cause=self.cause or f"operator/{self.id}",
            site=self.site,
            station=self.station,
            evse=self.evse,
            connector=self.connector,
            command=self.command,
            body=self.body,
            by=self.by,
            priority=CAMPAIGN if self.cause and self.priority == OPERATOR else self.priority,
            expires_ms=arrived_ms + round(self.expires_s * 1000),
            replaces=self.replaces,
        )


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``_op/command_cancel``."""

    id: _Name
    site: _Name
    cmd_id: _Name
    by: _Name


def read_request(topic: str, body: Any) -> CommandRequest | CancelRequest:
    """Return a request from plain data; `topic` is what follows ``_op/``.

    Raises
    ------
    DecodeError
        If a field is missing or wrong.
    """
    kind: type[CommandRequest | CancelRequest] = CommandRequest if topic == KIND else CancelRequest
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        fields = ", ".join(field.name for field in msgspec.structs.fields(kind) if field.required)
        needs = f"; it needs {fields}" if "missing required" in str(error) else ""
        raise DecodeError("schema", f"a request for a command: {error}{needs}") from error

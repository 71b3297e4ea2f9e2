"""What people do about findings: acknowledge, assign, snooze, comment.

An action is an operator message ``evt/v1/_op/finding`` {finding_id, action, by, to?, until?, text?, site?,
id?}, journaled like every message. With ``site`` it goes to the shard of the site; without, to every shard,
and each tells the same record. `id` is what repeats of one message are known by.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from .errors import DecodeError
from .outputs import FindingAction
from .records import Operator, Record
from .topics import OPERATOR_SITE, ROOT
from .units import MAX_STATION_TIME_MS, NS_PER_MS

KIND: Final = "finding"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"
ACTIONS: Final = ("ack", "assign", "snooze", "unsnooze", "comment")

#: What an action is nothing without; `to` may be empty: nobody any more.
_NEEDS: Final = {"assign": "to", "snooze": "until", "comment": "text"}
_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an operator message about a finding.

    `to` is whom it is assigned to (empty: nobody any more), `until` (epoch ms) when a snooze ends, `text` a
    comment, or words with another action.
    """

    finding_id: _Name
    action: Literal["ack", "assign", "snooze", "unsnooze", "comment"]
    by: _Name
    to: Annotated[str, Meta(max_length=200)] | None = None
    until: Annotated[int, Meta(ge=0, le=MAX_STATION_TIME_MS)] | None = None
    text: Annotated[str, Meta(max_length=4000)] | None = None
    site: Annotated[str, Meta(max_length=255)] | None = None
    id: Annotated[str, Meta(max_length=100)] | None = None


def read_action(body: Any) -> ActionRequest:
    """Return a request from plain data.

    Raises
    ------
    DecodeError
        If a field is missing, wrong, or belongs to another action.
    """
    try:
        request = msgspec.convert(body, ActionRequest)
    except msgspec.ValidationError as error:
        raise DecodeError(
            "schema", f"an action on a finding: {error}; actions are {', '.join(ACTIONS)}"
        ) from error
    needed = _NEEDS.get(request.action)
    if needed and (getattr(request, needed) is None or (needed == "text" and not request.text)):
        raise DecodeError("schema", f"an action on a finding: {request.action} needs {needed!r}")
    for name in ("to", "until"):
        if name != needed and getattr(request, name) is not None:
            raise DecodeError("schema", f"an action on a finding: {request.action} takes no {name!r}")
    return request


def encode_action(request: ActionRequest) -> bytes:
    """Return the payload of the operator message."""
    fields = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    return msgspec.json.encode(fields)


def actions_of(records: Iterable[Record]) -> list[FindingAction]:
    """Return the actions among `records`, in order; what is none says nothing."""
    found = []
    for record in records:
        if not isinstance(record, Operator) or record.topic != KIND:
            continue
        try:
            request = read_action(record.body)
        except DecodeError:
            continue  # a dialect that checks refuses it before; a journal may hold older ones
        at = record.at.recv_ns // NS_PER_MS
        told = [request.finding_id, at, request.action, request.by, request.to, request.until, request.text]
        name = "/".join(map(str, told))
        found.append(
            FindingAction(
                finding_id=request.finding_id,
                action_id=request.id or str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
                site=request.site,
                action=request.action,
                by=request.by,
                to=request.to,
                until=request.until,
                text=request.text,
                at=at,
            )
        )
    return found

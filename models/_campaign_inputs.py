"""What the control shard is told: the bodies of ``evt/v1/_ctl/<kind>``, and of operators' requests.

Every message may come again and late: `order` is the order of effect in the station's own shard.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from .errors import DecodeError

_Name = Annotated[str, Meta(min_length=1, max_length=255)]


class StationSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``station``: a birth, a will, or a gateway's word; empty texts and None are not known."""

    site: _Name
    station: _Name
    order: int
    online: bool
    time_ms: int = 0
    vendor: str = ""
    model: str = ""
    fw: str = ""
    boot: int | None = None


class FirmwareSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``fw``: a FirmwareStatusNotification; 1.6 has no `request_id`. `station_ms` is the station's."""

    site: _Name
    station: _Name
    status: str
    time_ms: int
    station_ms: int | None = None
    request_id: int | None = None
    campaign: str = ""
    version: str = ""


class ResultSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``result``: how a command ended. `sent_ms` None: it never left."""

    site: _Name
    station: _Name
    cause: str
    state: str  # accepted, rejected, scheduled, expired, failed
    event: str = ""  # what ended it; ``error``: the station said that it could not do it (CALLERROR)
    status: str = ""  # what the station answered
    reason: str = ""
    sent_ms: int | None = None
    answer: dict[str, Any] = {}


class DigestItem(msgspec.Struct, frozen=True, kw_only=True):
    """What one station did in the time of a digest; `energy_mwh` None: no register told."""

    site: _Name
    station: _Name
    energy_mwh: int | None = None
    starts: int = 0
    failed_starts: int = 0
    offline_s: float = 0.0
    findings: int = 0


class DigestSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``digest``: stations of one shard from `hour_ms` to `to_ms`, a clock hour unless it was cut."""

    hour_ms: int
    to_ms: int
    order: int
    items: tuple[DigestItem, ...]


class ChargingSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``charging``: whether any transaction of the station runs."""

    site: _Name
    station: _Name
    order: int
    charging: bool


class ShedSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``shed``: the file server put a download off (503 or 429); not the station's failure."""

    site: _Name
    station: _Name
    time_ms: int
    retry_after_s: int = 0


class WithdrawnSeen(msgspec.Struct, frozen=True, kw_only=True):
    """kind ``withdrawn``: the file server gives an image to nobody any more (410)."""

    site: _Name
    station: _Name
    time_ms: int
    campaign: _Name
    image: _Name
    reason: str = ""


Seen = StationSeen | FirmwareSeen | ResultSeen | DigestSeen | ChargingSeen | ShedSeen | WithdrawnSeen

KINDS: Final[dict[str, type[Seen]]] = {
    "station": StationSeen,
    "fw": FirmwareSeen,
    "result": ResultSeen,
    "digest": DigestSeen,
    "charging": ChargingSeen,
    "shed": ShedSeen,
    "withdrawn": WithdrawnSeen,
}


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks of a campaign that exists; `waive_gate`: the open wave needs no gate (resume)."""

    id: _Name
    action: Literal["approve", "start", "pause", "resume", "abort", "rollback"]
    by: _Name
    text: Annotated[str, Meta(max_length=4000)] = ""
    waive_gate: bool = False


class TagRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Give tags to stations by patterns of ``site/station``, or take them away."""

    action: Literal["tag"]
    by: _Name
    stations: Annotated[tuple[_Name, ...], Meta(min_length=1)]
    tags: Annotated[tuple[_Name, ...], Meta(min_length=1)]
    remove: bool = False
    id: str = ""


def same_person(one: str, other: str) -> bool:
    """Return whether two names are of one person: case, width, accents' form and spaces do not count."""
    a, b = ("".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in (one, other))
    return a == b


def read_seen(kind: str, body: Any) -> Seen | None:
    """Return what a message of a kind says, None for a kind that is not of campaigns.

    Raises
    ------
    DecodeError
        If a field is missing or wrong.
    """
    wanted = KINDS.get(kind)
    if wanted is None:
        return None
    try:
        return msgspec.convert(body, wanted)
    except msgspec.ValidationError as error:
        raise DecodeError("schema", f"_ctl/{kind}: {error}") from error


def read_request(body: dict[str, Any]) -> Request | TagRequest:
    """Return an operator's request, other than ``create``.

    Raises
    ------
    DecodeError
        If a field is missing or wrong.
    """
    kind: type[Request | TagRequest] = TagRequest if body.get("action") == "tag" else Request
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise DecodeError("schema", f"campaign: {error}") from error

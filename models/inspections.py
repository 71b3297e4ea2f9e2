"""What technicians did at an EVSE, as an operator message tells it.

An inspection is ``evt/v1/_op/maintenance`` {site, station, evse?, by, what, note?, t?, id?}, journaled like
every message; without ``evse`` it is of the whole station. (The same topic announces planned absences,
which have ``from`` and ``until`` instead of ``what``.)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from .devices import DeviceTable
from .errors import DecodeError
from .outputs import InspectionRow, WearCounts
from .records import Operator
from .topics import OPERATOR_SITE, ROOT
from .units import MAX_STATION_TIME_MS, NS_PER_MS

KIND: Final = "maintenance"
TOPIC: Final = f"{ROOT}/{OPERATOR_SITE}/{KIND}"

#: What may be done -> the parts that are new afterwards.
WHAT: Final[dict[str, tuple[str, ...]]] = {
    "inspected": (),
    "cleaned": (),
    "repaired": (),
    "connector_replaced": ("plug",),
    "cable_replaced": ("plug",),
    "contactor_replaced": ("contactor",),
    "station_replaced": ("plug", "contactor"),
}

_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class InspectionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an operator message about work at a station.

    `t` (epoch ms) is when it was done, the message's arrival if absent; `id` is what repeats of one message
    are known by.
    """

    site: Annotated[str, Meta(min_length=1, max_length=255)]
    station: Annotated[str, Meta(min_length=1, max_length=255)]
    by: _Name
    what: Literal[
        "inspected",
        "cleaned",
        "repaired",
        "connector_replaced",
        "cable_replaced",
        "contactor_replaced",
        "station_replaced",
    ]
    evse: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    note: Annotated[str, Meta(max_length=4000)] | None = None
    t: Annotated[int, Meta(ge=0, le=MAX_STATION_TIME_MS)] | None = None
    id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


def is_inspection(body: Any) -> bool:
    """Return whether a message on the topic tells of work done, not of a planned absence."""
    return isinstance(body, dict) and "what" in body


def read_inspection(body: Any) -> InspectionRequest:
    """Return a request from plain data.

    Raises
    ------
    DecodeError
        If a field is missing or wrong.
    """
    try:
        return msgspec.convert(body, InspectionRequest)
    except msgspec.ValidationError as error:
        raise DecodeError(
            "schema", f"work at a station: {error}; needs site, station, by, what ({', '.join(WHAT)})"
        ) from error


def encode_inspection(request: InspectionRequest) -> bytes:
    """Return the payload of the operator message."""
    fields = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    return msgspec.json.encode(fields)


def inspections_of(
    operator: Operator, devices: DeviceTable, counts: Callable[[int], WearCounts]
) -> list[InspectionRow]:
    """Return a row for each EVSE that a message is about, with its wear of that moment.

    Of a station never heard of there is one row, for the EVSE named or for number 0: what was done is not
    lost. What is no inspection gives none.

    Parameters
    ----------
    operator : Operator
    devices : DeviceTable
    counts : callable
        Wear of an EVSE row; -1: of an unknown one.
    """
    if not is_inspection(operator.body):
        return []
    try:
        request = read_inspection(operator.body)
    except DecodeError:
        return []  # a dialect that checks refuses it before; a journal may hold older ones
    recv_ms = operator.at.recv_ns // NS_PER_MS
    told = [recv_ms, *msgspec.structs.astuple(request)]
    identity = request.id or str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(map(str, told))))
    station = devices.find_station(request.site, request.station)
    numbers = [request.evse] if request.evse else [int(devices.evse_id[e]) for e in devices.evses_of(station)]
    return [
        InspectionRow(
            inspection_id=identity,
            site=request.site,
            station=request.station,
            evse=number,
            at_ms=recv_ms if request.t is None else request.t,
            recorded_ms=recv_ms,
            by=request.by,
            what=request.what,
            note=request.note or "",
            counts=counts(devices.find_evse(station, number)),
        )
        for number in sorted(numbers) or [0]
    ]

"""Decoded parts to records at their place in the order of effect."""

from __future__ import annotations

from models.records import (
    Birth,
    CommandResult,
    FirmwareStatus,
    Heartbeat,
    Link,
    Operator,
    Origin,
    Record,
    StationEvent,
    Status,
    Transaction,
)
from models.units import NO_TIME

from ._collect import Part


def record_of(part: Part, at: Origin, shift_ns: int, retained: bool) -> Record:
    """Return the record that `part` describes, at its place, its time corrected by `shift_ns`."""
    fields, station, evse = part.fields, part.station_row, part.evse_row
    time_ns = part.time_ns + shift_ns if part.time_ns != NO_TIME else NO_TIME
    match part.kind:
        case "birth":
            return Birth(at=at, retained=retained, **fields)
        case "link":
            return Link(at=at, station_row=station, time_ns=time_ns, **fields)
        case "status":
            return Status(at=at, station_row=station, evse_row=evse, time_ns=time_ns, **fields)
        case "transaction":
            fields.setdefault("conn", None)
            fields.setdefault("seq_no", None)
            return Transaction(
                at=at,
                station_row=station,
                evse_row=evse,
                time_ns=time_ns,
                time_reported_ns=part.time_ns,
                **fields,
            )
        case "event":
            fields.setdefault("conn", None)
            fields.setdefault("event_id", "")
            return StationEvent(at=at, station_row=station, evse_row=evse, time_ns=time_ns, **fields)
        case "firmware":
            return FirmwareStatus(at=at, station_row=station, time_ns=time_ns, **fields)
        case "command_result":
            return CommandResult(at=at, station_row=station, time_ns=time_ns, **fields)
        case "heartbeat":
            return Heartbeat(at=at, time_ns=time_ns, **fields)
        case "operator":
            return Operator(at=at, **fields)
    raise AssertionError(f"no record for part {part.kind!r}")

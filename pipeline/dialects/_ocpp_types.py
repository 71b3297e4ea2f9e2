"""OCPP-J payloads, 1.6 and 2.0.1, as far as we read them: lenient structs, wire names in camel case.

Enumerations stay strings: a station that says something new is still heard. Times are RFC 3339
text, read by `time_ns`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from models.errors import DecodeError
from models.units import MAX_STATION_TIME_MS, NS_PER_MS, NS_PER_S

Id = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(max_length=255)]
Text = Annotated[str, Meta(max_length=8192)]
WholeNumber = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Number = Annotated[str, Meta(max_length=8192)] | Annotated[int, Meta(ge=-(2**62), le=2**62)] | float
#: 1.6 transaction ids are integers; some gateways turn them into text.
TransactionId = WholeNumber | Annotated[str, Meta(min_length=1, max_length=255)]

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?\s?"
    r"(?:([Zz])|([+-])([01]\d|2[0-3]):?([0-5]\d))?",
    re.ASCII,
)


def time_ns(text: str) -> int:
    """Return RFC 3339 text as epoch ns; without an offset it is UTC, as OCPP recommends.

    Raises
    ------
    DecodeError
        If it is no time between 1970 and 2100.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise DecodeError("time", f"{text!r:.80} is no time: expected 2026-01-31T12:00:00Z")
    year, month, day, hour, minute, second = (int(g) for g in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=UTC)
        if found[9]:
            offset = timedelta(hours=int(found[10]), minutes=int(found[11]))
            moment += offset if found[9] == "-" else -offset
    except (ValueError, OverflowError) as error:
        raise DecodeError("time", f"{text!r:.80} is no time: {error}") from error
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    ns = whole * NS_PER_S + int((found[7] or "0").ljust(9, "0")[:9])
    if not 0 <= ns < MAX_STATION_TIME_MS * NS_PER_MS:
        raise DecodeError("time", f"{text!r:.80} lies outside 1970 to 2100")
    return ns


class Wire(Struct, rename="camel"):
    """Base of all payloads."""


class UnitOfMeasure(Wire):
    """2.0.1."""

    unit: Name = ""
    multiplier: Annotated[int, Meta(ge=-99, le=99)] = 0


class SampledValue(Wire):
    """1.6: value is text, unit a name. 2.0.1: value is a number, unitOfMeasure an object."""

    value: Number
    context: Name | None = None
    format: Name | None = None
    measurand: Name | None = None
    phase: Name | None = None
    location: Name | None = None
    unit: Name | None = None
    unit_of_measure: UnitOfMeasure | None = None
    signed_meter_value: Any = None


class MeterValue(Wire):
    """Values sampled at one time."""

    timestamp: Name
    sampled_value: list[SampledValue]


# --- both versions: which one it is shows in the fields ---


class ChargingStation(Wire):
    """2.0.1 ``BootNotification``.chargingStation."""

    model: Name
    vendor_name: Name
    serial_number: Name | None = None
    firmware_version: Name | None = None


class BootNotification(Wire):
    """``BootNotification``."""

    charging_station: ChargingStation | None = None  # 2.0.1
    charge_point_vendor: Name | None = None  # 1.6 from here on
    charge_point_model: Name | None = None
    charge_point_serial_number: Name | None = None
    charge_box_serial_number: Name | None = None
    firmware_version: Name | None = None


class BootAnswer(Wire):
    """What the CSMS answers."""

    interval: Annotated[float, Meta(ge=0, le=1e7)] = 0
    status: Name = ""


class StatusNotification(Wire):
    """``StatusNotification``."""

    connector_id: Id = 1
    timestamp: Name | None = None
    connector_status: Name | None = None  # 2.0.1
    evse_id: Id | None = None
    status: Name | None = None  # 1.6 from here on
    error_code: Name | None = None
    info: Text | None = None
    vendor_id: Name | None = None
    vendor_error_code: Name | None = None


class MeterValues(Wire):
    """``MeterValues``: 2.0.1 names the EVSE, 1.6 the connector."""

    meter_value: list[MeterValue]
    evse_id: Id | None = None
    connector_id: Id | None = None
    transaction_id: TransactionId | None = None


class FirmwareStatus(Wire):
    """``FirmwareStatusNotification``; 1.6 has no request id."""

    status: Name
    request_id: WholeNumber | None = None


class SecurityEvent(Wire):
    """``SecurityEventNotification``, 2.0.1 and the 1.6 security extension."""

    type: Name
    timestamp: Name
    tech_info: Text | None = None


# --- 1.6 ---


class StartTransaction(Wire):
    """``StartTransaction``."""

    connector_id: Id
    id_tag: Name
    timestamp: Name
    meter_start: Number


class StartTransactionAnswer(Wire):
    """What the CSMS answers: the transaction id."""

    transaction_id: TransactionId


class StopTransaction(Wire):
    """``StopTransaction``."""

    transaction_id: TransactionId
    timestamp: Name
    meter_stop: Number
    reason: Name | None = None
    id_tag: Name | None = None
    transaction_data: list[MeterValue] | None = None


# --- 2.0.1 ---


class Evse(Wire):
    """An EVSE and maybe one of its connectors."""

    id: Id
    connector_id: Id | None = None


class TransactionInfo(Wire):
    """2.0.1 ``TransactionEvent``.transactionInfo."""

    transaction_id: Annotated[str, Meta(min_length=1, max_length=255)]
    charging_state: Name | None = None
    stopped_reason: Name | None = None


class IdToken(Wire):
    """2.0.1 token."""

    id_token: Name
    type: Name = ""


class TransactionEvent(Wire):
    """``TransactionEvent``."""

    event_type: Name
    timestamp: Name
    trigger_reason: Name
    seq_no: Annotated[int, Meta(ge=0, le=2**53)]
    transaction_info: TransactionInfo
    offline: bool | None = None
    number_of_phases_used: Annotated[int, Meta(ge=0, le=3)] | None = None
    cable_max_current: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    evse: Evse | None = None
    id_token: IdToken | None = None
    meter_value: list[MeterValue] | None = None


class Component(Wire):
    """2.0.1 component."""

    name: Name
    instance: Name | None = None
    evse: Evse | None = None


class Variable(Wire):
    """2.0.1 variable."""

    name: Name
    instance: Name | None = None


class EventData(Wire):
    """One event of ``NotifyEvent``."""

    event_id: WholeNumber
    timestamp: Name
    component: Component
    variable: Variable
    trigger: Name = "Alerting"
    actual_value: Text | WholeNumber | float | bool = ""
    cause: Text | None = None
    tech_code: Name | None = None
    tech_info: Text | None = None
    cleared: bool | None = None
    severity: Annotated[int, Meta(ge=0, le=999)] | None = None


class NotifyEvent(Wire):
    """``NotifyEvent``."""

    event_data: list[EventData]


class NotifySettlement(Wire):
    """``NotifySettlement`` of OCPP 2.1, but receipt and VAT data, which are no business of ours."""

    psp_ref: Annotated[str, Meta(min_length=1, max_length=255)]
    status: Name
    settlement_amount: WholeNumber | float
    settlement_time: Name
    transaction_id: Annotated[str, Meta(max_length=255)] | None = None


class Wrapped(Struct):
    """A message in the wrapped form."""

    type: int
    id: Annotated[str, Meta(max_length=255)]
    action: Name | None = None
    request: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")
    error_code: Any = None
    error_description: Any = None

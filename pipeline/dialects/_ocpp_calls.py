"""What the calls of both OCPP versions have in common, and how a station's words become records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from models import batch as b
from models.errors import DecodeError
from models.meter_reader import count_name
from models.units import MAX_REGISTER_MWH, mwh_from_wh

from . import Sink
from . import _ocpp_types as t
from ._decoding import read
from ._ocpp_state import NodeState
from ._ocpp_units import number

#: 1.6 ChargePointStatus -> 2.x ConnectorStatusEnumType
STATUS_OF_16: Final = {
    "Available": "Available",
    "Preparing": "Occupied",
    "Charging": "Occupied",
    "SuspendedEVSE": "Occupied",
    "SuspendedEV": "Occupied",
    "Finishing": "Occupied",
    "Reserved": "Reserved",
    "Unavailable": "Unavailable",
    "Faulted": "Faulted",
}

#: ChargeX minimum required error codes travel as ``CXnnn`` in vendorErrorCode and techCode.
_MREC: Final = re.compile(r"\bCX(\d{3})\b", re.ASCII)


@dataclass(slots=True)
class Call:
    """One call of a station, with everything a handler needs."""

    action: str
    id: str
    content: bytes
    recv_ns: int
    node: NodeState
    name: str  # site/node, for ids derived from it
    out: Sink
    ignored: dict[str, int]
    salt: str

    def read(self, decoder: msgspec.json.Decoder[Any]) -> Any:
        """Return the payload as `decoder` reads it."""
        return read(decoder, self.content, "json", self.action)

    def ignore(self, what: str) -> None:
        """Count something that is not used."""
        count_name(self.ignored, what)

    def token_hash(self, token: str | None) -> str:
        """Return the salted SHA-256 of a token in hex; empty for none. The token itself goes no further."""
        return sha256((self.salt + token).encode("utf-8", "replace")).hexdigest() if token else ""


def mrec_codes(text: str | None) -> list[str]:
    """Return the ChargeX codes in a vendor error code or tech code."""
    return [f"CX{digits}" for digits in _MREC.findall(text or "")]


def register_mwh(value: str | float, what: str) -> int:
    """Return a register in Wh that money hangs on as mWh.

    Raises
    ------
    DecodeError
        If it is no number an energy meter could show.
    """
    wh = number(value)
    if wh is None or abs(wh) > MAX_REGISTER_MWH // 1000:
        raise DecodeError("register", f"{what} {value!r:.80} is no register in Wh")
    return mwh_from_wh(wh)


_BOOT: Final = msgspec.json.Decoder(t.BootNotification)
_STATUS: Final = msgspec.json.Decoder(t.StatusNotification)
_FIRMWARE: Final = msgspec.json.Decoder(t.FirmwareStatus)
_SECURITY: Final = msgspec.json.Decoder(t.SecurityEvent)


def boot_fields(call: Call) -> dict[str, Any]:
    """Return the fields of the birth that a BootNotification declares."""
    boot: t.BootNotification = call.read(_BOOT)
    station = boot.charging_station
    if station is not None:
        return {
            "model": station.model,
            "vendor": station.vendor_name,
            "serial": station.serial_number or "",
            "fw": station.firmware_version or "",
            "proto": "ocpp2.0.1",
        }
    if boot.charge_point_vendor is None or boot.charge_point_model is None:
        raise DecodeError(
            "schema",
            "BootNotification has neither chargingStation (2.0.1) nor chargePointVendor"
            " and chargePointModel (1.6)",
        )
    return {
        "model": boot.charge_point_model,
        "vendor": boot.charge_point_vendor,
        "serial": boot.charge_point_serial_number or boot.charge_box_serial_number or "",
        "fw": boot.firmware_version or "",
        "proto": "ocpp1.6",
    }


def heartbeat(call: Call) -> None:
    """Put a heartbeat: it carries no time, so the station's clock stays unknown."""
    call.out.head(b.HEARTBEAT)
    call.out.heartbeat(time_ns=None)


def status_notification(call: Call) -> None:
    """Put a connector status and, of 1.6, the error in it."""
    body: t.StatusNotification = call.read(_STATUS)
    at = call.recv_ns if body.timestamp is None else t.time_ns(body.timestamp)
    if body.connector_status is not None and body.evse_id is not None:
        call.out.head(b.STATUS)
        call.out.status(
            station="", evse=body.evse_id, conn=body.connector_id, time_ns=at, status=body.connector_status
        )
        return
    if body.status is None:
        raise DecodeError(
            "schema", "StatusNotification has neither status (1.6) nor evseId with connectorStatus (2.0.1)"
        )
    call.out.head(b.STATUS)
    call.out.status(
        station="",
        evse=body.connector_id,
        conn=min(body.connector_id, 1),  # 1.6 knows no EVSEs: each connector is one; 0 is the station
        time_ns=at,
        status=STATUS_OF_16.get(body.status, body.status),
        status16=body.status,
    )
    _errors_of_16(call, body, at)


def _errors_of_16(call: Call, body: t.StatusNotification, at: int) -> None:
    evse = body.connector_id or None
    mrec = mrec_codes(body.vendor_error_code)
    if mrec:
        codes = [("mrec", code) for code in mrec]
    elif body.error_code not in (None, "", "NoError"):
        codes = [("ocpp16", str(body.error_code))]
    else:
        for taxonomy, code in call.node.take_raised(body.connector_id):
            call.out.event(
                station="",
                evse=evse,
                time_ns=at,
                code=code,
                taxonomy=taxonomy,
                conn=1 if evse else None,
                event_id=call.id,
                cleared=True,
            )
        return
    for taxonomy, code in codes:
        call.node.note_raised(body.connector_id, taxonomy, code)
        call.out.event(
            station="",
            evse=evse,
            time_ns=at,
            code=code,
            taxonomy=taxonomy,
            conn=1 if evse else None,
            event_id=call.id,
            component=body.vendor_id or "",
            value=body.vendor_error_code or "",
            cause=body.error_code or "",
            tech_info=body.info or "",
            cleared=False,
        )


def firmware_status(call: Call) -> None:
    """Put a firmware status; the message carries no time, so it is its arrival."""
    body: t.FirmwareStatus = call.read(_FIRMWARE)
    call.out.head(b.FIRMWARE)
    call.out.firmware(station="", time_ns=call.recv_ns, request_id=body.request_id, status=body.status)


def security_event(call: Call) -> None:
    """Put a security event as an event of the station."""
    body: t.SecurityEvent = call.read(_SECURITY)
    at = t.time_ns(body.timestamp)
    call.out.head(b.EVENT)
    call.out.event(
        station="",
        evse=None,
        time_ns=at,
        code=body.type,
        taxonomy="ocpp2",
        event_id=call.id,
        component="SecurityCtrlr",
        tech_info=body.tech_info or "",
        cleared=False,
    )

"""OCPP 2.0.1: transaction events and notified events; settlements of OCPP 2.1."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from models import batch as b
from models.errors import DecodeError
from models.payments import KIND as PAYMENT
from models.payments import SETTLE, read_payment

from . import _ocpp_types as t
from ._ocpp_calls import Call, mrec_codes
from ._ocpp_meter import BEGIN, END, Samples, read_samples

_TRANSACTION: Final = msgspec.json.Decoder(t.TransactionEvent)
_NOTIFY: Final = msgspec.json.Decoder(t.NotifyEvent)
_SETTLEMENT: Final = msgspec.json.Decoder(t.NotifySettlement)

#: Variables that are true while something is wrong: false says that it is over.
_TRUE_IS_WRONG: Final = frozenset({"Problem", "Tripped", "Operated"})

_COMMUNICATION_LOST: Final = "EVCommunicationLost"


def transaction_event(call: Call) -> None:
    """Put a transaction event and the readings in it."""
    body: t.TransactionEvent = call.read(_TRANSACTION)
    if body.event_type not in ("Started", "Updated", "Ended"):
        raise DecodeError(
            "schema",
            f"TransactionEvent.eventType is {body.event_type!r:.80}, expected Started, Updated or Ended",
        )
    at = t.time_ns(body.timestamp)
    samples = read_samples(body.meter_value or [], call.ignored)
    call.out.head(b.TX)
    info = body.transaction_info
    evse, conn = _place(call, body)
    if evse is not None:
        samples.put(call.out, evse)
    elif samples.readings:
        call.ignore("readings of a transaction whose EVSE is not known")
    call.out.transaction(
        station="",
        evse=evse,
        time_ns=at,
        tx_id=info.transaction_id,
        event_type=body.event_type,
        conn=conn,
        seq_no=body.seq_no,
        trigger=body.trigger_reason,
        charging_state=info.charging_state or "",
        stopped_reason=info.stopped_reason or "",
        offline=bool(body.offline),
        phases=body.number_of_phases_used,
        cable_max_a=body.cable_max_current,
        id_token_hash=call.token_hash(body.id_token.id_token if body.id_token else None),
        id_token_type=body.id_token.type if body.id_token else "",
        reg_mwh=_register(body.event_type, samples),
        signed=samples.signed or None,
    )
    if body.trigger_reason == _COMMUNICATION_LOST:
        call.out.event(
            station="",
            evse=evse,
            time_ns=at,
            code=_COMMUNICATION_LOST,
            taxonomy="ocpp2",
            conn=conn,
            event_id=call.id,
            cleared=False,
        )


def _place(call: Call, body: t.TransactionEvent) -> tuple[int | None, int | None]:
    """Return EVSE and connector; only the first event of a transaction need name them."""
    tx_id = body.transaction_info.transaction_id
    known = call.node.open.get(tx_id)
    evse = body.evse.id if body.evse else (known.evse if known else 0)
    if body.event_type == "Ended":
        call.node.open.pop(tx_id, None)
    elif evse:
        call.node.note_open(tx_id, evse)
    return evse or None, body.evse.connector_id if body.evse else None


def _register(event_type: str, samples: Samples) -> int | None:
    if event_type == "Started":
        return samples.register_mwh(BEGIN, last=False)
    return samples.register_mwh(END if event_type == "Ended" else "Sample.Periodic", last=True)


def notify_event(call: Call) -> None:
    """Put the events that tell of faults; measurements among them are counted and left out."""
    body: t.NotifyEvent = call.read(_NOTIFY)
    found = [(event, t.time_ns(event.timestamp)) for event in body.event_data]
    call.out.head(b.EVENT)
    for event, at in found:
        codes: list[tuple[str, str]] = [("mrec", code) for code in mrec_codes(event.tech_code)]
        tells_fault = event.variable.name in _TRUE_IS_WRONG or event.trigger == "Alerting"
        if not codes and not tells_fault and not event.tech_code:
            call.ignore(f"NotifyEvent {event.trigger} of {event.component.name}/{event.variable.name}")
            continue
        named = event.tech_code or f"{event.component.name}/{event.variable.name}"
        for taxonomy, code in codes or [("ocpp2", named)]:
            _put_event(call, event, at, taxonomy, code)


def _put_event(call: Call, event: t.EventData, at: int, taxonomy: str, code: str) -> None:
    value = event.actual_value
    text = str(value).lower() if isinstance(value, bool) else str(value)
    evse = event.component.evse
    over = event.variable.name in _TRUE_IS_WRONG and text.lower() == "false"
    call.out.event(
        station="",
        evse=evse.id or None if evse else None,
        time_ns=at,
        code=code,
        taxonomy=taxonomy,
        conn=evse.connector_id if evse else None,
        event_id=str(event.event_id),
        component=_named(event.component),
        variable=_named(event.variable),
        value=text,
        severity=event.severity,
        cleared=bool(event.cleared) or over,
        cause=event.cause or "",
        tech_info=event.tech_info or "",
    )


def _named(part: Any) -> str:
    return f"{part.name}[{part.instance}]" if part.instance else str(part.name)


def notify_settlement(call: Call) -> None:
    """Put what a payment terminal at the station settled, as the word of a payment system."""
    body: t.NotifySettlement = call.read(_SETTLEMENT)
    t.time_ns(body.settlement_time)  # a settlement without a time is none
    site, station = call.name.split("/", 1)
    word = {
        "action": SETTLE,
        "site": site,
        "station": station,
        "authorization_reference": body.psp_ref,
        "psp_reference": body.psp_ref,
        "transaction_id": body.transaction_id,
        "status": body.status,
        "amount": str(body.settlement_amount),
    }
    read_payment(word)
    call.out.head(b.OPERATOR)
    call.out.operator(topic=PAYMENT, body={name: value for name, value in word.items() if value is not None})

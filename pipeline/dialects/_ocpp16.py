"""OCPP 1.6 transactions and the meter values of both versions.

The id of a 1.6 transaction comes in the answer of the CSMS, and a stop names neither connector nor
EVSE: what was started is remembered until it stops.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from models import batch as b
from models.errors import DecodeError

from . import _ocpp_types as t
from ._ocpp_calls import Call, register_mwh
from ._ocpp_meter import read_samples
from ._ocpp_state import Waiting

_METER: Final = msgspec.json.Decoder(t.MeterValues)
_START: Final = msgspec.json.Decoder(t.StartTransaction)
_STOP: Final = msgspec.json.Decoder(t.StopTransaction)


def start_fields(call: Call) -> dict[str, Any]:
    """Return what a StartTransaction says, as plain data that can wait for the transaction id."""
    body: t.StartTransaction = call.read(_START)
    return {
        "evse": body.connector_id,
        "time_ns": t.time_ns(body.timestamp),
        "reg_mwh": register_mwh(body.meter_start, "StartTransaction.meterStart"),
        "id_token_hash": call.token_hash(body.id_tag),
    }


def put_started(call: Call, fields: dict[str, Any], tx_id: str | None) -> None:
    """Put the start of a transaction; without an answer its id is derived from what the station said."""
    provisional = tx_id is None
    if tx_id is None:
        said = f"{call.name}/{fields['evse']}/{fields['time_ns']}/{fields['reg_mwh']}"
        tx_id = f"provisional-{uuid5(NAMESPACE_URL, said)}"
    call.node.note_open(tx_id, fields["evse"], provisional=provisional)
    call.out.transaction(
        station="",
        evse=fields["evse"] or None,
        time_ns=fields["time_ns"],
        tx_id=tx_id,
        event_type="Started",
        conn=1 if fields["evse"] else None,
        reg_mwh=fields["reg_mwh"],
        id_token_hash=fields["id_token_hash"],
    )


def meter_values(call: Call) -> None:
    """Put the samples of a MeterValues; EVSE or connector 0 is the main meter and no EVSE."""
    body: t.MeterValues = call.read(_METER)
    evse = body.connector_id if body.evse_id is None else body.evse_id
    if evse is None:
        raise DecodeError("schema", "MeterValues has neither evseId (2.0.1) nor connectorId (1.6)")
    samples = read_samples(body.meter_value, call.ignored)
    call.out.head(b.METER)
    tx_id = _known_id(body.transaction_id)
    if evse == 0:
        call.ignore("MeterValues of the main meter")
        return
    if tx_id is not None and body.evse_id is None:
        _learn_transaction(call, tx_id, evse)
    samples.put(call.out, evse)
    if samples.signed and tx_id is not None and samples.readings:
        call.out.transaction(
            station="",
            evse=evse,
            time_ns=max(samples.readings),
            tx_id=tx_id,
            event_type="Updated",
            conn=1,
            trigger="SignedDataReceived",
            signed=samples.signed,
        )


def stop_transaction(call: Call) -> None:
    """Put the end of a transaction, with the readings that come with it."""
    body: t.StopTransaction = call.read(_STOP)
    at = t.time_ns(body.timestamp)
    reg_mwh = register_mwh(body.meter_stop, "StopTransaction.meterStop")
    samples = read_samples(body.transaction_data or [], call.ignored)
    call.out.head(b.TX)
    tx_id = _stopped_id(call, str(body.transaction_id))
    known = call.node.open.pop(tx_id, None)
    evse = known.evse or None if known else None
    if evse is not None:
        samples.put(call.out, evse)
    elif samples.readings:
        call.ignore("readings of a transaction whose connector is not known")
    call.out.transaction(
        station="",
        evse=evse,
        time_ns=at,
        tx_id=tx_id,
        event_type="Ended",
        conn=1 if evse else None,
        stopped_reason=body.reason or "Local",  # the norm's default
        reg_mwh=reg_mwh,
        signed=samples.signed or None,
        id_token_hash=call.token_hash(body.id_tag),
    )


def _known_id(transaction_id: int | str | None) -> str | None:
    """Return a transaction id as text; stations without a transaction send 0 or -1."""
    if transaction_id is None or (isinstance(transaction_id, int) and transaction_id <= 0):
        return None
    return str(transaction_id)


def _waiting_starts(call: Call, evse: int | None = None) -> list[str]:
    return [i for i, w in call.node.waiting.items() if w.kind == "start" and evse in (None, w.fields["evse"])]


def _learn_transaction(call: Call, tx_id: str, evse: int) -> None:
    """Take the id in a MeterValues as the answer that a start on its connector still waits for."""
    if tx_id in call.node.open:
        return
    starts = _waiting_starts(call, evse)
    if len(starts) == 1:
        waiting: Waiting = call.node.waiting.pop(starts[0])
        put_started(call, waiting.fields, tx_id)
    else:
        call.node.note_open(tx_id, evse)


def _stopped_id(call: Call, tx_id: str) -> str:
    """Return the id under which the stopped transaction was started, putting a start that waits."""
    if tx_id in call.node.open:
        return tx_id
    starts = _waiting_starts(call)
    if len(starts) == 1:
        put_started(call, call.node.waiting.pop(starts[0]).fields, tx_id)
        return tx_id
    provisional = [i for i, transaction in call.node.open.items() if transaction.provisional]
    return provisional[0] if not starts and len(provisional) == 1 else tx_id

"""The bill of a transaction that is complete, as the transaction book asks for it."""

from __future__ import annotations

from typing import Final

import msgspec

from . import _tx_state as s
from ._tx_judge import Verdict
from ._tx_rows import session_body, session_row
from ._tx_state import Tx
from .cashier import Cashier, Connector, TariffError, sale_of
from .devices import CONNECTOR_TYPES, DeviceTable
from .outputs import CdrRow, SessionRow
from .units import NS_PER_MS

_FIXED_CABLE: Final = frozenset(
    {"IEC_62196_T1", "IEC_62196_T1_COMBO", "IEC_62196_T2_COMBO", "CHADEMO", "MCS"}
)
_AC: Final = {1: "AC_1_PHASE", 2: "AC_2_PHASE"}


def with_bill(
    cashier: Cashier, tx: Tx, verdict: Verdict, row: SessionRow, devices: DeviceTable, now_ns: int
) -> tuple[SessionRow, list[CdrRow]]:
    """Return the session with its price, and the CDRs that follow; one without a price goes to review.

    What was billed and is discarded is credited.
    """
    row = msgspec.structs.replace(row, body=row.body | cashier.who(row, tx.payment, tx.cdr_token))
    known = verdict.begin_mwh is not None and verdict.end_mwh is not None and row.energy_mwh is not None
    discarded = (tx.decision or {}).get("decision") == "discard"
    if tx.state == s.COMPLETE and discarded and tx.billed:
        credits = cashier.credit(cashier.sent(tx.billed), row, now_ns // NS_PER_MS)
        tx.billed = b""
        return msgspec.structs.replace(row, body=row.body | {"cdr_ids": [c.id for c in credits]}), credits
    if tx.state != s.COMPLETE or not known or discarded or row.start_ms is None or row.end_ms is None:
        return row, []
    assert verdict.begin_mwh is not None
    assert verdict.end_mwh is not None
    assert row.energy_mwh is not None
    sale = sale_of(
        row.body,
        verdict.begin_mwh,
        verdict.end_mwh,
        row.energy_mwh,
        [(p.time_ns // NS_PER_MS, p.reg_mwh) for p in tx.points],
        connector_of(devices, tx.evse_row),
        tx.revision,
        now_ns // NS_PER_MS,
    )
    sale = msgspec.structs.replace(
        sale, at_start=tx.at_start, authorization_reference=tx.payment, cdr_token=tx.cdr_token
    )
    try:
        sent = cashier.sent(tx.billed) if tx.billed else None
        made = cashier.bill(sale, sent, decided=tx.decision is not None)
    except TariffError as error:
        tx.state = s.TRANSITIONS[tx.state, s.DOUBT]
        verdict.reasons.append("no price")
        verdict.decide("no price", error=str(error))
        tx.body = session_body(tx, verdict)
        return session_row(tx, verdict, now_ns), []
    price, cdrs = made.price, made.cdrs
    if not price:
        return row, []
    if made.sent is not None:
        tx.billed = msgspec.msgpack.encode(made.sent)
    total = {"excl_vat": price["total_excl"], "incl_vat": price["total_incl"]}
    body = row.body | {"price": price, "total_cost": total, "cdr_ids": [cdr.id for cdr in cdrs]}
    return msgspec.structs.replace(row, body=body), cdrs


def connector_of(devices: DeviceTable, evse: int) -> Connector:
    """Return the connector of an EVSE; of none (a decided transaction that named no EVSE) the usual one."""
    if evse < 0:
        return Connector("IEC_62196_T2", "AC_3_PHASE", fixed_cable=False)
    standard = CONNECTOR_TYPES[int(devices.conn_type[evse])]
    dc = bool(devices.dc[evse])
    power = "DC" if dc else _AC.get(int(devices.phases[evse]), "AC_3_PHASE")
    return Connector(standard or "IEC_62196_T2", power, dc or standard in _FIXED_CABLE)

"""Status and transaction records to the marks that give every reading its context."""

from __future__ import annotations

from typing import Final

import numpy as np

from models import batch as b
from models._ordering_kernels import Marks
from models.devices import DeviceTable
from models.records import Record, Status, Transaction
from models.units import NO_REGISTER, NO_TIME, NS_PER_S

_CHARGE: Final = b.CHARGING | b.SUSPENDED_EV | b.SUSPENDED_EVSE
_CONNECTOR: Final = b.OCCUPIED | b.UNAVAILABLE | b.FAULTED

_CHARGING_STATE: Final = {
    "Charging": b.CHARGING,
    "SuspendedEV": b.SUSPENDED_EV,
    "SuspendedEVSE": b.SUSPENDED_EVSE,
    "EVConnected": 0,
    "Idle": 0,
}

#: connector status (2.x and 1.6 names) -> bits of the connector
_STATUS: Final = {
    "Available": 0,
    "Reserved": 0,
    "Occupied": b.OCCUPIED,
    "Preparing": b.OCCUPIED,
    "Charging": b.OCCUPIED,
    "SuspendedEV": b.OCCUPIED,
    "SuspendedEVSE": b.OCCUPIED,
    "Finishing": b.OCCUPIED,
    "Unavailable": b.UNAVAILABLE,
    "Faulted": b.FAULTED,
}

_LEAST_WAIT_NS: Final = 120 * NS_PER_S


def register_wait_ns(devices: DeviceTable, node: int) -> int:
    """Return how long a transaction's register waits for the readings around it (journaled time)."""
    batch = int(devices.batch_ns[node]) if node >= 0 else NO_TIME
    return _LEAST_WAIT_NS if batch == NO_TIME else max(_LEAST_WAIT_NS, batch + batch // 2)


def _bits(record: Status | Transaction) -> tuple[int, int]:
    """Return (set, clear) bits of a record."""
    if isinstance(record, Transaction):
        if record.event_type == "Ended":
            return b.STATE_KNOWN, b.IN_TRANSACTION | _CHARGE
        if record.charging_state in _CHARGING_STATE:
            return b.STATE_KNOWN | b.IN_TRANSACTION | _CHARGING_STATE[record.charging_state], _CHARGE
        return b.STATE_KNOWN | b.IN_TRANSACTION, 0
    bits = _STATUS.get(record.status16 or record.status)
    if bits is None:
        return b.STATE_KNOWN, 0
    if record.status16 in _CHARGING_STATE:
        return b.STATE_KNOWN | bits | _CHARGING_STATE[record.status16], _CONNECTOR | _CHARGE
    return b.STATE_KNOWN | bits, _CONNECTOR


def context_marks(
    records: list[Record], order: b.I64, effect_ns: b.I64, kind: b.U8, devices: DeviceTable
) -> Marks:
    """Return what happens between readings: context changes, registers of transactions, ticks.

    `order`, `effect_ns` and `kind` are indexed by rank and describe the messages that took effect.
    """
    base = int(order[0]) if len(order) else 0
    found: list[tuple[int, int, int, int, int, int, int]] = []
    for record in records:
        if not isinstance(record, Status | Transaction):
            continue
        set_bits, clear_bits = _bits(record)
        rank = record.at.order - base
        reg, until = NO_REGISTER, 0
        if isinstance(record, Transaction) and record.reg_mwh is not None:
            reg = record.reg_mwh
            until = record.at.effect_ns + register_wait_ns(devices, record.at.node_row)
        evses = [record.evse_row] if record.evse_row >= 0 else devices.evses_of(record.station_row)
        if isinstance(record, Transaction) and record.evse_row < 0:
            continue  # a transaction that names no EVSE says nothing of any
        found += [(rank, e, record.time_ns, set_bits, clear_bits, reg, until) for e in evses]
    ticks = np.flatnonzero(kind == b.TICK)
    table = np.array(found, np.int64).reshape(len(found), 7)
    tick_table = np.zeros((len(ticks), 7), np.int64)
    tick_table[:, 0], tick_table[:, 1], tick_table[:, 2] = ticks, -1, effect_ns[ticks]
    tick_table[:, 5] = NO_REGISTER
    both = np.concatenate([table, tick_table])
    both = both[np.argsort(both[:, 0], kind="stable")]
    return Marks(
        both[:, 0].copy(),
        both[:, 1].astype(np.int32),
        both[:, 2].copy(),
        both[:, 3].astype(np.int16),
        both[:, 4].astype(np.int16),
        both[:, 5].copy(),
        both[:, 6].copy(),
    )

"""Status and transaction records to the marks that give every reading its context."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models import batch as b
from models._ordering_kernels import HISTORY, Marks
from models.devices import DeviceTable
from models.records import Birth, Record, Status, Transaction
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

#: rank, EVSE row, time, bits set, bits cleared, register, journaled time until which that waits
_Mark = tuple[int, int, int, int, int, int, int]

_LEAST_WAIT_NS: Final = 120 * NS_PER_S


class StationWords:
    """What stations said of themselves as a whole, for those of their EVSEs that are heard of later.

    An EVSE's row comes into being with the first message that names it: whether that message lies in the same
    batch as the station's word, or in a later one, makes no difference this way.
    """

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {"said": [], "evses": 0}
        self._said: dict[int, list[tuple[int, int, int]]] = {
            row: [(w[0], w[1], w[2]) for w in words] for row, words in state["said"]
        }
        self._evses: int = state["evses"]

    def note(self, station: int, time_ns: int, set_bits: int, clear_bits: int) -> None:
        """Remember a word; of more than an EVSE's history holds the oldest is forgotten."""
        words = self._said.setdefault(station, [])
        words.append((time_ns, set_bits, clear_bits))
        if len(words) > HISTORY:
            words.remove(min(words))

    def for_new(self, devices: DeviceTable) -> list[_Mark]:
        """Return the marks of EVSEs that are new since the last call: what their station had said."""
        found: list[_Mark] = []
        for evse in range(self._evses, devices.n_evses):
            for time_ns, set_bits, clear_bits in self._said.get(int(devices.evse_station[evse]), []):
                found.append((0, evse, time_ns, set_bits, clear_bits, NO_REGISTER, 0))
        self._evses = devices.n_evses
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        said = [[row, [list(word) for word in words]] for row, words in self._said.items()]
        return {"said": said, "evses": self._evses}


def batch_period_ns(birth: Birth) -> int | None:
    """Return the longest time between two meter messages that a birth declares, None when it does not."""
    batch_s = birth.batch_s if birth.batch_s is not None else birth.sample_s
    return None if batch_s is None else round(batch_s * NS_PER_S)


def register_wait_ns(batch_ns: int) -> int:
    """Return how long a transaction's register waits for the readings around it (journaled time)."""
    return _LEAST_WAIT_NS if batch_ns == NO_TIME else max(_LEAST_WAIT_NS, batch_ns + batch_ns // 2)


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
    records: list[Record],
    order: b.I64,
    effect_ns: b.I64,
    kind: b.U8,
    devices: DeviceTable,
    words: StationWords,
) -> Marks:
    """Return what happens between readings: context changes, registers of transactions, ticks.

    `order`, `effect_ns` and `kind` are indexed by rank and describe the messages that took effect. `devices`
    does not know yet what the births among the records declare.
    """
    base = int(order[0]) if len(order) else 0
    found = words.for_new(devices)
    batch_ns: dict[int, int] = {}  # of nodes, as births before a record declare it
    for record in records:
        if isinstance(record, Birth):
            declared = batch_period_ns(record) if record.online else None
            if declared is not None:
                batch_ns[record.at.node_row] = declared
        if not isinstance(record, Status | Transaction):
            continue
        set_bits, clear_bits = _bits(record)
        rank = record.at.order - base
        reg, until = NO_REGISTER, 0
        if isinstance(record, Transaction) and record.reg_mwh is not None:
            reg = record.reg_mwh
            node = record.at.node_row
            known = int(devices.batch_ns[node]) if node >= 0 else NO_TIME
            until = record.at.effect_ns + register_wait_ns(batch_ns.get(node, known))
        evses = [record.evse_row] if record.evse_row >= 0 else devices.evses_of(record.station_row)
        if isinstance(record, Transaction) and record.evse_row < 0:
            continue  # a transaction that names no EVSE says nothing of any
        if record.evse_row < 0:
            words.note(record.station_row, record.time_ns, set_bits, clear_bits)
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

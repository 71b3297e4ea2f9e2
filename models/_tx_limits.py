"""How much energy a time can hold, and which readings lie in a transaction."""

from __future__ import annotations

from typing import Final

from ._energy_kernels import P_MAX_UNKNOWN_W
from ._tx_state import Point, Tx
from .units import NS_PER_S

#: A station reads a register for a message and for a reading at moments this far apart at most.
READ_APART_S: Final = 30.0
_POWER_FACTOR: Final = 1.5
_NS_PER_H: Final = 3_600 * NS_PER_S


def most_mwh(tx: Tx, span_ns: int, *, read: bool = False) -> int:
    """Return the greatest plausible energy in a time; `read`: between two readings of one source."""
    p_max_w = P_MAX_UNKNOWN_W if tx.p_max_w is None else tx.p_max_w
    hours = max(0, span_ns) / _NS_PER_H + (0.0 if read else READ_APART_S / 3600.0)
    factor = 1.0 if read else _POWER_FACTOR
    return int(p_max_w * factor * hours * 1000.0) + 2 * tx.resolution_mwh


def tolerance_mwh(tx: Tx) -> int:
    """Return how far registers of messages and of readings may be apart."""
    p_max_w = P_MAX_UNKNOWN_W if tx.p_max_w is None else tx.p_max_w
    return int(p_max_w * READ_APART_S / 3600.0 * 1000.0) + 2 * tx.resolution_mwh


def inside(tx: Tx) -> list[Point]:
    """Return the readings of the register while the transaction ran, without what its own messages told.

    Where readings carry no registers those of transactions stand among them; they prove nothing about
    themselves.
    """
    low, limit = tx.begins_ns, tx.next_start_ns
    high = tx.end_ns if tx.end_ns is not None else tx.free_ns
    return [
        p
        for p in tx.points
        if p.time_ns >= low
        and (high is None or p.time_ns <= high)
        and (limit is None or p.time_ns < limit)
        and p not in tx.told
    ]

"""The currency between stages: columns of readings, columns of messages, and the device table.

`ReadingBatch` is what detectors and energy read; `MessageColumns` is what node detectors
(offline, message loss) read; `DeviceTable` gives every site, node, station and EVSE of one shard
a row number that all columnar state is indexed by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from .channels import N_CHANNELS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
I16 = NDArray[np.int16]
I8 = NDArray[np.int8]
U8 = NDArray[np.uint8]

# Context bits of a reading (`ReadingBatch.state`): what the station said of the EVSE at that time.
IN_TRANSACTION: Final = 1  # between Started and Ended
CHARGING: Final = 2  # chargingState Charging
SUSPENDED_EV: Final = 4
SUSPENDED_EVSE: Final = 8
OCCUPIED: Final = 16  # connector status Occupied (or a 1.6 status that means it)
UNAVAILABLE: Final = 32
FAULTED: Final = 64
STATE_KNOWN: Final = 128  # a status or transaction message was seen at all


@dataclass(slots=True)
class ReadingBatch:
    """n readings of one shard, grouped by EVSE, in event-time order within each EVSE.

    A reading is one timestamped set of channels of one EVSE.

    Attributes
    ----------
    evse : ndarray, shape (n,), int32
        Row in the `DeviceTable`, non-decreasing.
    time_ns : ndarray, shape (n,), int64
        Event time, corrected by measured clock skew; strictly increasing within an EVSE over the
        whole stream (a reading that is not is late and never in here).
    order : ndarray, shape (n,), int64
        Position of its message in the shard's order of effect (`MessageColumns.order`).
    effect_ns : ndarray, shape (n,), int64
        Journaled time at which that message took effect: what `raised_at` is taken from.
    state : ndarray, shape (n,), int16
        Context bits (`IN_TRANSACTION` ...).
    live : ndarray, shape (n,), uint8
        1 when live, 0 when it is backlog: state is updated, findings are not opened.
    reg_mwh : ndarray, shape (n,), int64
        Import register, `units.NO_REGISTER` when absent.
    values : ndarray, shape (k, n), float64
        One row per channel present, NaN where missing.
    slot_of : ndarray, shape (N_CHANNELS,), int16
        Channel id -> row of `values`, -1 when the channel is absent from this batch.
    """

    evse: I32
    time_ns: I64
    order: I64
    effect_ns: I64
    state: I16
    live: U8
    reg_mwh: I64
    values: F64
    slot_of: I16
    _missing: F64 | None = field(default=None, init=False, repr=False, compare=False)
    _present: frozenset[int] | None = field(default=None, init=False, repr=False, compare=False)
    _kept: dict[str, NDArray[Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.evse)

    @property
    def present(self) -> frozenset[int]:
        """Channels that a reading of this batch may carry."""
        if self._present is None:
            self._present = frozenset(np.flatnonzero(self.slot_of >= 0).tolist())
        return self._present

    def kept(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what `make` returned when this batch was first asked for `name`; nobody may write to it."""
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = make()
        return found

    def has(self, channel: int) -> bool:
        """Return whether any reading of this batch may carry `channel`."""
        return bool(self.slot_of[channel] >= 0)

    def column(self, channel: int) -> F64:
        """Return the column of `channel`, shape (n,); all NaN when absent.

        Nobody may write to it: the one that is all NaN serves all channels that are absent.
        """
        slot = int(self.slot_of[channel])
        if slot >= 0:
            found: F64 = self.values[slot]
            return found
        if self._missing is None:
            self._missing = np.full(len(self), np.nan)
        return self._missing

    def take(self, index: NDArray[Any]) -> Self:
        """Return a copy with the readings `index` (integers or a mask), in that order."""
        return type(self)(
            self.evse[index],
            self.time_ns[index],
            self.order[index],
            self.effect_ns[index],
            self.state[index],
            self.live[index],
            self.reg_mwh[index],
            self.values[:, index],
            self.slot_of,
        )

    @classmethod
    def empty(cls, n: int = 0, channels: tuple[int, ...] = ()) -> Self:
        """Return n readings with zero keys, no registers and NaN in the given channels."""
        slot_of = np.full(N_CHANNELS, -1, np.int16)
        for slot, channel in enumerate(channels):
            slot_of[channel] = slot
        return cls(
            np.zeros(n, np.int32),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            np.zeros(n, np.int16),
            np.ones(n, np.uint8),
            np.full(n, np.iinfo(np.int64).min, np.int64),
            np.full((len(channels), n), np.nan),
            slot_of,
        )


# Message kinds (`MessageColumns.kind`). TICK is the journal's own second hand.
TICK: Final = 0
METER: Final = 1
STATUS: Final = 2
TX: Final = 3
EVENT: Final = 4
CONN: Final = 5
LINK: Final = 6
HEARTBEAT: Final = 7
CMDRES: Final = 8
FIRMWARE: Final = 9
OPERATOR: Final = 10
OTHER: Final = 11

# What became of a message (`MessageColumns.fate`).
DECODED: Final = 0
DUPLICATE: Final = 1
DEAD: Final = 2
HELD: Final = 3  # waits for an earlier sequence number; counted when it is released


@dataclass(slots=True)
class MessageColumns:
    """m messages and ticks of one shard in the order in which they take effect.

    Attributes
    ----------
    order : ndarray, shape (m,), int64
        Counts the shard's messages and ticks in their order of effect, strictly increasing over
        the whole stream and the same for any split into batches. Everything a batch causes is
        sorted by it.
    pos : ndarray, shape (m,), int64
        Journal offset (a held message keeps the offset it arrived with).
    recv_ns : ndarray, shape (m,), int64
        Arrival; for a tick the journaled second.
    node : ndarray, shape (m,), int32
        Node row, -1 for ticks and operator messages.
    kind : ndarray, shape (m,), uint8
    boot, seq : ndarray, shape (m,), int64
        -1 where the message has none. A heartbeat's seq is the last one used.
    live : ndarray, shape (m,), uint8
        1 when the newest reading of the message is recent (or it has none).
    fate : ndarray, shape (m,), uint8
        DECODED or DUPLICATE; dead messages are not here.
    skew_ns : ndarray, shape (m,), int64
        arrival - hb.t for heartbeats, else `units.NO_TIME`.
    effect_ns : ndarray, shape (m,), int64
        Journaled time at which the message took effect (later than `recv_ns` when it was held);
        non-decreasing.
    """

    order: I64
    pos: I64
    recv_ns: I64
    node: I32
    kind: U8
    boot: I64
    seq: I64
    live: U8
    fate: U8
    skew_ns: I64
    effect_ns: I64

    def __len__(self) -> int:
        return len(self.order)

    def take(self, index: NDArray[Any]) -> Self:
        """Return a copy with the messages `index` (integers or a mask), in that order."""
        return type(self)(
            self.order[index],
            self.pos[index],
            self.recv_ns[index],
            self.node[index],
            self.kind[index],
            self.boot[index],
            self.seq[index],
            self.live[index],
            self.fate[index],
            self.skew_ns[index],
            self.effect_ns[index],
        )

    @classmethod
    def empty(cls) -> Self:
        """Return no messages."""
        i64, u8 = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        return cls(i64, i64, i64, np.zeros(0, np.int32), u8, i64, i64, u8, u8, i64, i64)

"""Native ``up/meter`` JSON straight from bytes to columns, for whole frames of messages at once.

`MeterReader` reads what is written the usual way: known keys, plain strings, numbers of up to 18
digits, series it has been told about. Anything else gets status 1 and belongs to the general decoder
(`pipeline.dialects.native`), whose result is equal on every message that is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ._json_scan import as_buffer
from ._meter_envelope import read_messages, room_for
from ._meter_kernel import (
    REGISTER,
    SKIP,
    Columns,
    Keys,
    Layouts,
    Series,
    find_key,
    find_layout,
    place_keys,
    place_layout,
)
from .channels import CHANNEL_ID, N_CHANNELS, REGISTER_CHANNEL

#: Channels of one series that the reader takes; longer lists go the slow way.
MAX_WIDTH: Final = 128
#: Distinct ``ch`` lists kept, counted by their bytes; a station that invents new ones goes the slow way.
MAX_LAYOUTS: Final = 4096
#: Longest ``ch`` list kept, bytes.
MAX_SPAN: Final = 4096
#: Names of unknown channels kept for counting.
MAX_UNKNOWN_NAMES: Final = 256
#: Unknown lists noted in one pass, and passes that learn them.
_NOTED: Final = 256
_PASSES: Final = 4

_NAMES = msgspec.json.Decoder(list[str])


@dataclass(slots=True)
class MeterRows:
    """n readings in message order.

    Attributes
    ----------
    message : ndarray, shape (n,), int32
        Position of the message among those given, non-decreasing.
    evse : ndarray, shape (n,), int32
        EVSE row as learnt.
    time_ns : ndarray, shape (n,), int64
        As the station said.
    reg_mwh : ndarray, shape (n,), int64
        `units.NO_REGISTER` if absent.
    values : ndarray, shape (k, n), float64
        NaN where missing.
    slot_of : ndarray, shape (N_CHANNELS,), int16
        Channel id -> row of `values`, -1 when absent.
    """

    message: NDArray[np.int32]
    evse: NDArray[np.int32]
    time_ns: NDArray[np.int64]
    reg_mwh: NDArray[np.int64]
    values: NDArray[np.float64]
    slot_of: NDArray[np.int16]


class MeterReader:
    """Reads native meter messages whose series keys it has learnt.

    What it knows is remembered for speed only: a new reader gives the same readings once it has
    learnt again.

    Attributes
    ----------
    unknown_channels : dict of str to int
        Series read that named a channel which is not in `models.channels`, by that name; at most
        `MAX_UNKNOWN_NAMES` names.
    """

    def __init__(self) -> None:
        self.unknown_channels: dict[str, int] = {}
        self._unknown_of: dict[int, tuple[str, ...]] = {}
        self._n_keys = 0
        self._n_layouts = 0
        self._name_bytes = 0
        self._span_bytes = 0
        self._refused: set[bytes] = set()
        self._union: set[int] = set()
        self._keys = _new_keys(256, 4096)
        self._layouts = _new_layouts(16, 4096)

    def read(
        self,
        payloads: bytes,
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        topic_id: NDArray[np.int32],
    ) -> tuple[MeterRows, NDArray[np.int64], NDArray[np.uint8]]:
        """Read messages ``payloads[start:end]``.

        Returns
        -------
        rows : MeterRows
            Readings of all messages with status 0.
        head : ndarray, shape (m, 3), int64
            boot, seq (-1 when absent) and number of readings.
        status : ndarray, shape (m,), uint8
            0 read, 1 for the general decoder.
        """
        m = len(start)
        head = np.empty((m, 3), np.int64)
        status = np.empty(m, np.uint8)
        start = np.ascontiguousarray(start, np.int64)
        end = np.ascontiguousarray(end, np.int64)
        topic_id = np.ascontiguousarray(topic_id, np.int32)
        buf = as_buffer(payloads)
        room = room_for(buf, start, end)
        for _ in range(_PASSES):
            self._layouts.uses[:] = 0
            out = _new_columns(room, len(self._union))
            work = Series(
                np.zeros(MAX_WIDTH, np.int32), np.zeros(N_CHANNELS, np.int64), np.zeros(1, np.int64)
            )
            read_messages(buf, start, end, topic_id, head, status, self._keys, self._layouts, out, work)
            if not self._learn_spans(payloads, out):
                break
        self._count_unknown()
        n, k = int(out.used[0]), int(out.used[1])
        rows = MeterRows(
            out.message[:n],
            out.evse[:n],
            out.time_ns[:n],
            out.reg_mwh[:n],
            np.ascontiguousarray(out.values[:k, :n]),
            out.slot_of,
        )
        return rows, head, status

    def learn(self, topic_id: int, station: str, evse: int, evse_row: int) -> None:
        """Take series (`station`, `evse`) of a topic as EVSE row `evse_row` from now on.

        `station` is what the series says in ``st``, empty when it says nothing.
        """
        name = station.encode()
        buf = as_buffer(name)
        entry = find_key(self._keys, topic_id, evse, buf, 0, len(name))
        if entry >= 0:
            self._keys.row[entry] = evse_row
            return
        if self._n_keys == len(self._keys.row) or self._name_bytes + len(name) > len(self._keys.names):
            self._grow_keys(len(name))
        keys, at = self._keys, self._n_keys
        keys.topic[at], keys.evse[at], keys.row[at] = topic_id, evse, evse_row
        keys.begin[at], keys.length[at] = self._name_bytes, len(name)
        keys.guess[at] = -1
        keys.names[self._name_bytes : self._name_bytes + len(name)] = buf
        self._name_bytes += len(name)
        self._n_keys += 1
        place_keys(keys, at, at + 1)

    def learn_layout(self, ch_bytes: bytes, channels: list[int]) -> None:
        """Take the bytes of a ``ch`` list, brackets included, to mean `channels` (-1: not known, skip).

        Lists too long or too many are not kept: their messages go the slow way.
        """
        buf = as_buffer(ch_bytes)
        if (
            len(channels) > MAX_WIDTH
            or len(ch_bytes) > MAX_SPAN
            or self._n_layouts >= MAX_LAYOUTS
            or find_layout(self._layouts, buf, 0, len(ch_bytes)) >= 0
        ):
            return
        if self._n_layouts == len(self._layouts.width) or self._span_bytes + len(ch_bytes) > len(
            self._layouts.spans
        ):
            self._grow_layouts(len(ch_bytes))
        layouts, at = self._layouts, self._n_layouts
        layouts.begin[at], layouts.length[at] = self._span_bytes, len(ch_bytes)
        layouts.width[at] = len(channels)
        layouts.column[at, : len(channels)] = [
            REGISTER if c == REGISTER_CHANNEL else SKIP if c < 0 else c for c in channels
        ]
        layouts.spans[self._span_bytes : self._span_bytes + len(ch_bytes)] = buf
        self._span_bytes += len(ch_bytes)
        self._n_layouts += 1
        self._union.update(c for c in channels if c >= 0 and c != REGISTER_CHANNEL)
        place_layout(layouts, at)

    def _learn_spans(self, payloads: bytes, out: Columns) -> bool:
        """Learn the lists the kernel did not know; return whether there was anything to learn."""
        learnt = False
        for begin, stop in {(int(a), int(b)) for a, b in out.unknown[: out.used[2]]}:
            span = payloads[begin:stop]
            if span in self._refused or self._n_layouts >= MAX_LAYOUTS:
                continue
            before = self._n_layouts
            channels = _channels_of(span)
            if channels is not None:
                self.learn_layout(span, channels)
            if self._n_layouts > before:
                learnt = True
                unknown = tuple(
                    name for name, c in zip(_NAMES.decode(span), channels or (), strict=True) if c < 0
                )
                if unknown:
                    self._unknown_of[before] = unknown
            elif len(self._refused) < MAX_LAYOUTS and len(span) <= MAX_SPAN:
                self._refused.add(span)
        return learnt

    def _count_unknown(self) -> None:
        for layout, names in self._unknown_of.items():
            uses = int(self._layouts.uses[layout])
            if uses:
                for name in names:
                    count_name(self.unknown_channels, name, uses)

    def _grow_keys(self, more: int) -> None:
        old = self._keys
        new = _new_keys(2 * len(old.row), 2 * len(old.names) + more)
        _copy_columns(old, new, self._n_keys)
        new.names[: self._name_bytes] = old.names[: self._name_bytes]
        self._keys = new
        place_keys(new, 0, self._n_keys)

    def _grow_layouts(self, more: int) -> None:
        old = self._layouts
        new = _new_layouts(2 * len(old.width), 2 * len(old.spans) + more)
        _copy_columns(old, new, self._n_layouts)
        new.spans[: self._span_bytes] = old.spans[: self._span_bytes]
        self._layouts = new
        for layout in range(self._n_layouts):
            place_layout(new, layout)


def count_name(counts: dict[str, int], name: str, by: int = 1) -> None:
    """Add `by` to the count of a name from outside; new names beyond the bound share ``(others)``."""
    if name not in counts and len(counts) >= MAX_UNKNOWN_NAMES:
        name = "(others)"
    counts[name] = counts.get(name, 0) + by


def _channels_of(span: bytes) -> list[int] | None:
    """Return the channel ids of a ``ch`` list, -1 for unknown ones; None when it is not for the reader."""
    try:
        names = _NAMES.decode(span)
    except (msgspec.MsgspecError, ValueError):
        return None
    if len(set(names)) != len(names):
        return None
    return [CHANNEL_ID.get(name, -1) for name in names]


def _copy_columns(old: Keys | Layouts, new: Keys | Layouts, n: int) -> None:
    for name in old._fields:
        if name not in {"table", "names", "spans"}:
            getattr(new, name)[:n] = getattr(old, name)[:n]


def _new_keys(room: int, name_room: int) -> Keys:
    """Return empty tables for `room` series keys (a power of two)."""
    return Keys(
        np.full(2 * room, -1, np.int32),
        np.zeros(room, np.int32),
        np.zeros(room, np.int32),
        np.zeros(room, np.int32),
        np.zeros(room, np.int64),
        np.zeros(room, np.int32),
        np.full((room, 2), -1, np.int32),
        np.zeros(name_room, np.uint8),
    )


def _new_layouts(room: int, span_room: int) -> Layouts:
    """Return empty tables for `room` layouts (a power of two)."""
    return Layouts(
        np.full(2 * room, -1, np.int32),
        np.zeros(room, np.int64),
        np.zeros(room, np.int32),
        np.zeros(room, np.int32),
        np.full((room, MAX_WIDTH), SKIP, np.int16),
        np.zeros(room, np.int64),
        np.zeros(span_room, np.uint8),
    )


def _new_columns(room: int, slots: int) -> Columns:
    """Return columns for `room` readings; memory is touched only where the kernel writes."""
    return Columns(
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty((slots, room)),
        np.full(N_CHANNELS, -1, np.int16),
        np.zeros(3, np.int64),
        np.zeros((_NOTED, 2), np.int64),
    )

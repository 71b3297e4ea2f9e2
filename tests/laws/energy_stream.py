"""Messages of readings, delivered in any order and cut into batches as the order stage would."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.batch import METER, TICK, MessageColumns, ReadingBatch
from models.devices import DeviceTable
from models.units import NO_REGISTER, NS_PER_MS


@dataclass(frozen=True)
class Message:
    """A tick (no rows), or readings (EVSE row, time in ms, register or None, value of each channel)."""

    effect_ms: int
    rows: tuple[tuple[int, int, int | None], ...] = ()
    tick: bool = False
    beside: tuple[tuple[int, int, int], ...] = ()  # registers of transactions


@dataclass
class Orderer:
    """What the order stage does: a reading not newer than its EVSE's newest is late."""

    newest: dict[int, int] = field(default_factory=dict)
    order: int = 0

    def batch(self, messages: list[Message]) -> tuple[ReadingBatch, ReadingBatch, MessageColumns]:
        """Return in-order readings, late readings and messages of one run."""
        good: list[tuple[int, int, int, int, int]] = []
        late: list[tuple[int, int, int, int, int]] = []
        first = self.order
        for message in messages:
            for evse, t, register in sorted(message.rows, key=lambda row: row[:2]):
                newest = self.newest.get(evse)
                is_late = newest is not None and t <= newest
                reg = NO_REGISTER if register is None else register
                (late if is_late else good).append((evse, t, self.order, message.effect_ms, reg))
                if not is_late:
                    self.newest[evse] = t
            self.order += 1
        m = len(messages)
        wide = np.zeros(m, np.int64)
        columns = MessageColumns(
            np.arange(first, self.order),
            wide,
            wide,
            np.zeros(m, np.int32),
            np.array([TICK if message.tick else METER for message in messages], np.uint8),
            wide,
            wide,
            np.ones(m, np.uint8),
            np.zeros(m, np.uint8),
            wide,
            np.array([message.effect_ms for message in messages], np.int64) * NS_PER_MS,
        )
        return _rows(good), _rows(late), columns


def beside(messages: list[Message], columns: MessageColumns) -> ReadingBatch:
    """Return the registers of transactions of one run whose messages are `columns`."""
    return _rows(
        [
            (evse, t, int(order), message.effect_ms, register)
            for message, order in zip(messages, columns.order, strict=True)
            for evse, t, register in message.beside
        ]
    )


def _rows(readings: list[tuple[int, int, int, int, int]]) -> ReadingBatch:
    readings = sorted(readings, key=lambda row: row[0])  # stable: order of effect within an EVSE
    out = ReadingBatch.empty(len(readings))
    for i, (evse, t, order, effect_ms, register) in enumerate(readings):
        out.evse[i], out.time_ns[i], out.order[i] = evse, t * NS_PER_MS, order
        out.effect_ns[i], out.reg_mwh[i] = effect_ms * NS_PER_MS, register
    return out


def fleet(n: int) -> DeviceTable:
    """Return n EVSEs of one station each."""
    devices = DeviceTable()
    site = devices.site("site")
    for i in range(n):
        node = devices.node(site, f"cp{i}")
        devices.evse(devices.station(site, f"cp{i}", node), 1, node)
    return devices


def cut(messages: list[Message], lengths: list[int]) -> list[list[Message]]:
    """Return the messages in batches of these lengths, the rest in one more."""
    out, at = [], 0
    for length in lengths:
        if at >= len(messages):
            break
        out.append(messages[at : at + length])
        at += length
    return [*out, messages[at:]] if at < len(messages) else out

"""How a stream becomes batches, for the laws over detectors.

A stream is a `Story` of plain data (`tests.naive.plain`): readings, messages and records in order of effect.
`tests.laws.teller` tells hostile ones: cadences from 1 s to 900 s, gaps, missing values, backlog, register
resets, meter replacement, new boots, births, wills, links, lost, doubled and late messages. `batches` cuts a
story at given orders, and always where an inventory changes, as the order stage does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from models import batch as b
from models.batch import MessageColumns, ReadingBatch
from models.channels import CHANNEL_ID
from models.detecting import Observed
from models.devices import DeviceTable
from models.records import (
    Connector,
    EvseInventory,
    Meter,
)
from models.units import NO_TIME
from tests.naive.plain import Evse, Message, Reading, S, Story

_KINDS: Final = {
    "tick": b.TICK,
    "meter": b.METER,
    "status": b.STATUS,
    "tx": b.TX,
    "event": b.EVENT,
    "conn": b.CONN,
    "link": b.LINK,
    "heartbeat": b.HEARTBEAT,
    "operator": b.OPERATOR,
}


def device_table(story: Story) -> DeviceTable:
    """Return the table of the story's devices, nothing declared."""
    devices = DeviceTable()
    for site in story.sites:
        devices.site(site)
    for site_row, name in story.nodes:
        devices.node(site_row, name)
    for site_row, name, node in story.stations:
        devices.station(site_row, name, node)
    for station, evse_id in story.evses:
        devices.evse(station, evse_id, story.stations[station][2])
    return devices


def _declare(devices: DeviceTable, about: Evse) -> bool:
    """Make the table say of an EVSE what the reading knows; return whether that changed anything."""
    if not about.declared:
        return False
    item = EvseInventory(
        evse=int(devices.evse_id[about.row]),
        u_n_v=about.u_n_v,
        phases=about.phases,
        p_max_w=about.p_max_w,
        dc=about.dc,
        meter=Meter(
            f"M{about.generation}",
            about.resolution_mwh / 1000,
            about.modulus_mwh / 1000 if about.modulus_mwh else None,
        ),
        conns=(Connector(1, about.conn_type, about.max_a),),
    )
    sample_ns = NO_TIME if about.sample_s is None else round(about.sample_s * S)
    changes = devices.differs(about.row, item) or int(devices.sample_ns[about.node]) != sample_ns
    if changes:
        devices.declare(about.row, item)
        devices.sample_ns[about.node] = sample_ns
    return changes


def batches(told: Story, cuts: Sequence[int] = ()) -> list[Observed]:
    """Return the story cut before each order in `cuts`, and where an inventory changes.

    As in the order stage, a changed inventory is another table: earlier batches keep theirs.
    """
    readings = sorted(told.readings, key=lambda r: (r.order, r.about.row, r.time_ns))
    messages = sorted(told.messages, key=lambda m: m.order)
    end = 1 + max([m.order for m in messages] + [r.order for r in readings], default=0)
    devices = device_table(told)
    tables = {0: devices}
    for reading in readings:
        changed = devices.copy()
        if _declare(changed, reading.about):
            devices = changed
            tables[reading.order] = devices
    edges = sorted({0, end} | tables.keys() | {c for c in cuts if 0 < c < end})
    at_reading = [bisect_left(readings, edge, key=lambda r: r.order) for edge in edges]
    at_message = [bisect_left(messages, edge, key=lambda m: m.order) for edge in edges]
    at_record = [bisect_left(told.records, edge, key=lambda r: r.at.order) for edge in edges]
    out = []
    for i in range(len(edges) - 1):
        devices = tables.get(edges[i], devices) if i else tables[0]
        out.append(
            Observed(
                devices,
                reading_batch(readings[at_reading[i] : at_reading[i + 1]]),
                message_columns(messages[at_message[i] : at_message[i + 1]]),
                told.records[at_record[i] : at_record[i + 1]],
            )
        )
    return out


def reading_batch(readings: list[Reading]) -> ReadingBatch:
    """Return readings as columns, grouped by EVSE, with the channels that occur."""
    readings = sorted(readings, key=lambda r: (r.about.row, r.time_ns))
    names = sorted({name for r in readings for name in r.values})
    rows = ReadingBatch.empty(len(readings), tuple(CHANNEL_ID[name] for name in names))
    for i, r in enumerate(readings):
        rows.evse[i], rows.time_ns[i] = r.about.row, r.time_ns
        rows.order[i], rows.effect_ns[i], rows.live[i] = r.order, r.effect_ns, r.live
        rows.state[i] = r.state
        if r.reg_mwh is not None:
            rows.reg_mwh[i] = r.reg_mwh
        for name, value in r.values.items():
            rows.values[rows.slot_of[CHANNEL_ID[name]], i] = value
    return rows


def message_columns(messages: list[Message]) -> MessageColumns:
    """Return messages as columns."""
    messages = sorted(messages, key=lambda m: m.order)

    def column(values: list[int], dtype: str = "i8") -> Any:
        return np.array(values, dtype)

    return MessageColumns(
        column([m.order for m in messages]),
        column([m.order for m in messages]),
        column([m.recv_ns for m in messages]),
        column([m.node for m in messages], "i4"),
        column([_KINDS[m.kind] for m in messages], "u1"),
        column([m.boot for m in messages]),
        column([m.seq for m in messages]),
        column([m.live for m in messages], "u1"),
        column([b.DUPLICATE if m.duplicate else b.DECODED for m in messages], "u1"),
        column([NO_TIME if m.skew_ns is None else m.skew_ns for m in messages]),
        column([m.effect_ns for m in messages]),
    )

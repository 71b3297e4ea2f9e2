"""The compiled walk of `offline`: who was heard when, and where something is overdue."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import CONN, DECODED, I32, I64, U8, MessageColumns, ReadingBatch
from models.units import NO_TIME

#: Fields of a record per EVSE: what it said of its availability, and `BEHIND`.
EVSE_FIELDS: Final[list[tuple[str, str]]] = [("said", "u1")]
UNAVAILABLE, OTHERWISE = 1, 2  # 0: nothing
SAID: Final = 3
BEHIND: Final = 4  # its station is behind a gateway

#: Phases of a node or station.
HEARD: Final = 0
PENDING: Final = 1  # its will came; raised unless it is heard within the grace
OPEN: Final = 2  # raised
BACK: Final = 3  # raised, and heard again since `back_ns`

#: Fields of a record per node.
NODE_FIELDS: Final[list[tuple[str, str]]] = [
    ("last_ns", "i8"),  # last message, NO_TIME before the first
    ("periods", "i4"),  # number of what it declared: (heartbeat, batch), ns or NO_TIME
    ("phase", "u1"),
]

#: What is known of a node that is not `HEARD`.
ABSENT_FIELDS: Final[list[tuple[str, str]]] = [
    ("start_ns", "i8"),
    ("back_ns", "i8"),
    ("until_ns", "i8"),  # end of the maintenance that makes it planned
    ("reason", "u1"),
    ("planned", "u1"),
]

#: What is known of a node with stations behind it.
GATEWAY_FIELDS: Final[list[tuple[str, str]]] = [
    ("heard_since_ns", "i8"),  # start of the stretch without silence of its own or backlog
    ("bound_ns", "i8"),  # no station behind it is overdue before
]

#: What is known of a station behind a gateway.
STATION_FIELDS: Final[list[tuple[str, str]]] = [
    ("rows_ns", "i8"),  # last rows or other word of it
    ("tx_ns", "i8"),  # since when it is in a transaction
    ("start_ns", "i8"),
    ("back_ns", "i8"),
    ("until_ns", "i8"),
    ("settle_ns", "i8"),  # when what was told late is raised live
    ("n_tx", "i4"),  # EVSEs in a transaction
    ("phase", "u1"),
    ("reason", "u1"),
    ("planned", "u1"),
    ("live", "u1"),
]

# places in the clock array
DUE: Final = 0  # lower bound of the next deadline
NOW: Final = 1  # the last journal entry
LISTENING: Final = 2  # since when entries came without a gap
ARRIVAL: Final = 3  # next of `Arrivals` to take in
CLOCK_SIZE: Final = 4


class Waits(NamedTuple):
    """Periods in ns, and how many of them make a silence."""

    hold: int
    listen_gap: int
    undeclared_hb: int
    periods: float
    grace: int


class Heard(NamedTuple):
    """What the walk reads of each message."""

    order: I64
    recv_ns: I64
    effect_ns: I64
    node: I32
    kind: U8
    live: U8
    fate: U8


class Arrivals(NamedTuple):
    """Live rows of stations behind gateways, one entry per message and EVSE, sorted by order."""

    order: I64
    effect_ns: I64
    station: I32  # record of the station
    time_ns: I64  # newest row


class Known(NamedTuple):
    """What is known: records of nodes, of stations behind gateways and of gateways, and declared periods."""

    nodes: Any
    stations: Any
    gateway_of: I32
    gateways: Any
    periods: I64


def heard(messages: MessageColumns) -> Heard:
    """Return the columns that the walk reads."""
    return Heard(
        messages.order,
        messages.recv_ns,
        messages.effect_ns,
        messages.node,
        messages.kind,
        messages.live,
        messages.fate,
    )


@kernel
def _series_kernel(evse: I32, order: I64, live: U8, evses: Any, last: I64) -> int:
    """Write the index of the last row of each series to `last`; return how many there are."""
    n, found = len(evse), 0
    for i in range(n):
        if i + 1 < n and evse[i + 1] == evse[i] and order[i + 1] == order[i]:
            continue
        if live[i] != 0 and evses[evse[i]]["said"] & BEHIND != 0:
            last[found] = i
            found += 1
    return found


def arrivals(rows: ReadingBatch, evses: NDArray[Any], evse_station: I32, record_of: I32) -> Arrivals:
    """Return the arrivals in `rows`; the records `evses` say who is behind a gateway."""
    last = np.empty(len(rows), np.int64)
    last = last[: _series_kernel(rows.evse, rows.order, rows.live, evses, last)]
    last = last[np.argsort(rows.order[last], kind="stable")]
    station = evse_station[rows.evse[last]]
    return Arrivals(rows.order[last], rows.effect_ns[last], record_of[station], rows.time_ns[last])


@kernel
def _take_arrivals(order: int, came: Arrivals, stations: Any, clock: I64, hold: int) -> None:
    s = clock[ARRIVAL]
    while s < len(came.order) and came.order[s] <= order:
        rec = stations[came.station[s]]
        t = came.effect_ns[s]
        rec["rows_ns"] = t
        if rec["phase"] == OPEN and came.time_ns[s] > rec["start_ns"]:
            rec["phase"] = BACK
            rec["back_ns"] = t
            clock[DUE] = min(clock[DUE], t + hold)
        s += 1
    clock[ARRIVAL] = s


@kernel
def silence_ns(hb_ns: int, waits: Waits) -> int:
    """Return after which silence a node is offline."""
    return int(waits.periods * (waits.undeclared_hb if hb_ns == NO_TIME else hb_ns))


@kernel
def _hear(rec: Any, t: int, clock: I64, waits: Waits, hb_ns: int) -> None:
    """Take in a message of a node."""
    if rec["last_ns"] == NO_TIME:
        clock[DUE] = min(clock[DUE], t + silence_ns(hb_ns, waits))
    rec["last_ns"] = t


@kernel
def _hear_gateway(
    gateway: Any, last_ns: int, t: int, live: int, waits: Waits, hb_ns: int, batch_ns: int
) -> None:
    """Take in a message of a node with stations behind it, before `_hear`."""
    quiet_ns = silence_ns(hb_ns, waits) // 2
    if batch_ns != NO_TIME:
        quiet_ns = max(quiet_ns, int(waits.periods * batch_ns))
    if last_ns == NO_TIME or live == 0 or t - last_ns > quiet_ns:
        gateway["heard_since_ns"] = t


@kernel
def walk_kernel(
    at: int, stop: int, messages: Heard, came: Arrivals, known: Known, clock: I64, waits: Waits
) -> int:
    """Take in messages from `at`; return the first after which something may be to decide, or `stop`.

    That is where something may be overdue, and each message of a node that is absent.
    """
    effect_ns, order, node = messages.effect_ns, messages.order, messages.node
    gateway_of, periods = known.gateway_of, known.periods
    n_came, n_gateways = len(came.order), len(gateway_of)
    for k in range(at, stop):
        t = effect_ns[k]
        if clock[NOW] == NO_TIME or t - clock[NOW] > waits.listen_gap:
            clock[LISTENING] = t
        clock[NOW] = t
        if clock[ARRIVAL] < n_came:
            _take_arrivals(order[k], came, known.stations, clock, waits.hold)
        if node[k] >= 0 and messages.fate[k] == DECODED and messages.kind[k] != CONN:
            rec = known.nodes[node[k]]
            hb_ns = periods[rec["periods"], 0]
            gateway = gateway_of[node[k]] if node[k] < n_gateways else -1
            if gateway >= 0:
                of = known.gateways[gateway]
                batch_ns = periods[rec["periods"], 1]
                _hear_gateway(of, rec["last_ns"], t, messages.live[k], waits, hb_ns, batch_ns)
            _hear(rec, t, clock, waits, hb_ns)
            if rec["phase"] == PENDING or rec["phase"] == OPEN:
                return k
            if gateway >= 0 and t >= known.gateways[gateway]["bound_ns"]:
                return k
        if t >= clock[DUE]:
            return k
    return stop

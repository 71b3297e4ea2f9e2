"""The compiled walk of `offline`: who was heard when, and where something is overdue."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models._kernel import kernel
from models.batch import CONN, DECODED, I32, I64, U8, MessageColumns, ReadingBatch
from models.units import NO_TIME

#: Fields of a record per EVSE.
EVSE_FIELDS: Final[list[tuple[str, str]]] = [
    ("in_tx", "u1"),
    ("availability", "u1"),  # 0 nothing was said, 1 Unavailable, 2 anything else
    ("behind", "u1"),  # its station is behind a gateway
]

#: Phases of a node or station.
HEARD: Final = 0
PENDING: Final = 1  # its will came; raised unless it is heard within the grace
OPEN: Final = 2  # raised
BACK: Final = 3  # raised, and heard again since `back_ns`

NODE_FIELDS: Final[list[tuple[str, str]]] = [
    ("last_ns", "i8"),  # last message
    ("heard_since_ns", "i8"),  # start of the stretch without silence of its own or backlog
    ("start_ns", "i8"),
    ("back_ns", "i8"),
    ("until_ns", "i8"),  # end of the maintenance that makes it planned
    ("bound_ns", "i8"),  # no station behind it is overdue before
    ("boot", "i8"),
    ("cid", "i8"),
    ("hb_ns", "i8"),
    ("batch_ns", "i8"),
    ("phase", "u1"),
    ("reason", "u1"),
    ("seen", "u1"),
    ("planned", "u1"),
]

STATION_FIELDS: Final[list[tuple[str, str]]] = [
    ("rows_ns", "i8"),  # last rows or other word of it
    ("tx_ns", "i8"),  # since when it is in a transaction
    ("start_ns", "i8"),
    ("back_ns", "i8"),
    ("until_ns", "i8"),
    ("settle_ns", "i8"),  # when what was told late is raised live
    ("said", "u1"),  # of the station as a whole, as `availability` below
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
    station: I32
    time_ns: I64  # newest row


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
        if live[i] != 0 and evses[evse[i]]["behind"] != 0:
            last[found] = i
            found += 1
    return found


def arrivals(rows: ReadingBatch, evses: NDArray[Any], evse_station: I32) -> Arrivals:
    """Return the arrivals in `rows`; the records `evses` say who is behind a gateway."""
    last = np.empty(len(rows), np.int64)
    last = last[: _series_kernel(rows.evse, rows.order, rows.live, evses, last)]
    last = last[np.argsort(rows.order[last], kind="stable")]
    return Arrivals(rows.order[last], rows.effect_ns[last], evse_station[rows.evse[last]], rows.time_ns[last])


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
def _hear(rec: Any, t: int, recv_ns: int, live: int, clock: I64, waits: Waits) -> None:
    """Take in a message of a node."""
    quiet_ns = silence_ns(rec["hb_ns"], waits) // 2
    if rec["batch_ns"] != NO_TIME:
        quiet_ns = max(quiet_ns, int(waits.periods * rec["batch_ns"]))
    if rec["seen"] == 0 or live == 0 or t - rec["last_ns"] > quiet_ns:
        rec["heard_since_ns"] = t
    if rec["seen"] == 0:
        rec["seen"] = 1
        clock[DUE] = min(clock[DUE], t + silence_ns(rec["hb_ns"], waits))
    rec["last_ns"] = t
    if rec["phase"] == PENDING and recv_ns > rec["start_ns"]:
        rec["phase"] = HEARD
        clock[DUE] = min(clock[DUE], t + silence_ns(rec["hb_ns"], waits))
    elif rec["phase"] == OPEN and recv_ns > rec["start_ns"]:
        rec["phase"] = BACK
        rec["back_ns"] = t
        clock[DUE] = min(clock[DUE], t + waits.hold)


@kernel
def walk_kernel(
    at: int, stop: int, messages: Heard, came: Arrivals, nodes: Any, stations: Any, clock: I64, waits: Waits
) -> int:
    """Take in messages from `at`; return the first at whose time something may be overdue, or `stop`."""
    effect_ns, order, node = messages.effect_ns, messages.order, messages.node
    n_came = len(came.order)
    for k in range(at, stop):
        t = effect_ns[k]
        if clock[NOW] == NO_TIME or t - clock[NOW] > waits.listen_gap:
            clock[LISTENING] = t
        clock[NOW] = t
        if clock[ARRIVAL] < n_came:
            _take_arrivals(order[k], came, stations, clock, waits.hold)
        if node[k] >= 0 and messages.fate[k] == DECODED and messages.kind[k] != CONN:
            rec = nodes[node[k]]
            _hear(rec, t, messages.recv_ns[k], messages.live[k], clock, waits)
            if t >= rec["bound_ns"]:
                return k
        if t >= clock[DUE]:
            return k
    return stop

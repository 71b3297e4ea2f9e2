"""What happens at an EVSE around its transactions: plugs and unplugs, other meters, other transactions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from ._tx_state import COMPLETE, Point, TransactionConfig, Tx
from .devices import DeviceTable
from .records import EvseInventory, Origin, Status, Transaction
from .units import NS_PER_S

_FREE: Final = frozenset({"Available"})
_PLUGGED: Final = frozenset(
    {"Occupied", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}
)
_STATUSES: Final = 256
_METERS: Final = 8
#: A connector may be told free this long before the end of its transaction.
_EARLY_NS: Final = 60 * NS_PER_S


class Around:
    """When an EVSE's connectors were taken and free, when it got another meter, and a station's EVSEs."""

    def __init__(self, resume_state: dict[str, Any] | None = None) -> None:
        state = resume_state or {}
        #: EVSE -> [time, plugged, connector] by time
        self._plugs: dict[int, list[list[int]]] = {row: list(items) for row, items in state.get("plugs", [])}
        self._serial: dict[int, str] = dict(state.get("serial", []))
        #: EVSE -> [journaled time, boot] of births that told of another meter
        self._meters: dict[int, list[list[int]]] = {
            row: list(items) for row, items in state.get("meters", [])
        }
        self._evses: dict[int, set[int]] = {row: set(evses) for row, evses in state.get("evses", [])}

    def snapshot(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "plugs": [[row, [list(item) for item in items]] for row, items in self._plugs.items()],
            "serial": [list(item) for item in self._serial.items()],
            "meters": [[row, [list(item) for item in items]] for row, items in self._meters.items()],
            "evses": [[row, sorted(evses)] for row, evses in self._evses.items()],
        }

    def heard(self, station_row: int, evse_row: int) -> None:
        """Note an EVSE of a station."""
        if evse_row >= 0:
            self._evses.setdefault(station_row, set()).add(evse_row)

    def evses_of(self, site_row: int, devices: DeviceTable) -> int:
        """Return how many EVSEs a site is known to have."""
        own = (evses for row, evses in self._evses.items() if int(devices.station_site[row]) == site_row)
        return sum(len(evses) for evses in own)

    def only_evse(self, station_row: int) -> int:
        """Return the EVSE of a station that has but one, else -1."""
        known = self._evses.get(station_row, set())
        return next(iter(known)) if len(known) == 1 else -1

    def status(self, record: Status) -> None:
        """Note that a connector is taken or free; the status of a whole station says nothing of cars."""
        word = record.status16 or record.status
        plugged = word in _PLUGGED
        if record.evse_row < 0 or not (plugged or word in _FREE):
            return
        items = self._plugs.setdefault(record.evse_row, [])
        item = [record.time_ns, int(plugged), record.conn]
        place = bisect_left(items, item)
        if place == len(items) or items[place] != item:
            items.insert(place, item)
            del items[:-_STATUSES]

    def declared(self, evse_row: int, item: EvseInventory, at: Origin) -> bool:
        """Note the meter that a birth or link message declares; return whether it is another one."""
        serial, known = item.meter.serial, self._serial.get(evse_row, "")
        if not serial:
            return False
        self._serial[evse_row] = serial
        if known and serial != known:
            meters = self._meters.setdefault(evse_row, [])
            meters.append([at.effect_ns, at.boot])
            del meters[:-_METERS]
            return True
        return False

    def plugged_ns(self, tx: Tx) -> int | None:
        """Return when the car of a transaction was plugged in."""
        since = None
        items = self._plugs.get(tx.evse_row, [])
        latest = tx.first_ns if tx.start_ns is None else tx.start_ns
        for place in range(bisect_left(items, [latest + 1]) - 1, -1, -1):
            t, plugged, connector = items[place]
            if _concerns(tx, connector):
                if not plugged:
                    break
                since = t
        return since

    def free_ns(self, tx: Tx) -> int | None:
        """Return when the connector became free after the transaction, before the next one."""
        least = tx.last_ns if tx.end_ns is None else max(tx.begins_ns, tx.end_ns - _EARLY_NS)
        items = self._plugs.get(tx.evse_row, [])
        for place in range(bisect_left(items, [least]), len(items)):
            t, plugged, connector = items[place]
            if not plugged and _concerns(tx, connector):
                return None if tx.next_start_ns is not None and t >= tx.next_start_ns else t
        return None

    def replaced(self, tx: Tx) -> bool:
        """Return whether another meter came while the transaction ran, by time or by the station's boots."""
        end = tx.end_ns if tx.end_ns is not None else tx.next_start_ns
        for t, boot in self._meters.get(tx.evse_row, []):
            if tx.begins_ns < t and (end is None or t < end):
                return True
            if tx.boots and tx.boots[0] < boot <= tx.boots[-1]:
                return True
        return False

    def serial(self, tx: Tx) -> str:
        """Return the serial number of the meter of a transaction, "" when it is not known for certain."""
        came_later = any(t > tx.begins_ns for t, _ in self._meters.get(tx.evse_row, []))
        return "" if came_later else self._serial.get(tx.evse_row, "")

    def meter_since(self, tx: Tx) -> int:
        """Return when the meter came that the transaction began with, 0 if it is the first known."""
        return max((t for t, _ in self._meters.get(tx.evse_row, []) if t <= tx.begins_ns), default=0)


def _concerns(tx: Tx, connector: int) -> bool:
    """Return whether a connector's status, or that of its whole EVSE, is one of the transaction's."""
    return connector == 0 or tx.connector in (None, 0, connector)


def _when(point: Point) -> tuple[int, int]:
    return point.time_ns, point.reg_mwh


def _told_before(tx: Tx, time_ns: int) -> Point | None:
    """Return the newest register but 0 that a transaction's messages told before a time."""
    place = bisect_left(tx.told, time_ns, key=lambda point: point.time_ns)
    return next((tx.told[i] for i in range(place - 1, -1, -1) if tx.told[i].reg_mwh), None)


def look_around(tx: Tx, others: Sequence[Tx], read: Point | None, meter_since_ns: int) -> None:
    """Note in `tx` what the other transactions of its EVSE and the reading before it say.

    The next transaction's begin closes one without an end; the newest register before the start, of a
    reading or of another transaction, is what a begin is checked against.
    """
    begins = tx.begins_ns
    began = [(o.begins_ns, o) for o in others]
    following = [(t, o.tx_id, o) for t, o in began if t > begins]
    tx.next_start_ns, tx.next_begin_mwh = None, 0
    if following:
        tx.next_start_ns, _, after = min(following, key=itemgetter(0, 1))
        tx.next_begin_mwh = after.begin_mwh or 0
    known = [p for p in (tx.before, read) if p is not None and meter_since_ns <= p.time_ns < begins]
    before = max(known, key=_when, default=None)
    for o in others:
        if not o.told or (before is not None and o.told[-1].time_ns < before.time_ns):
            continue  # the usual case: what is known already is newer
        told = _told_before(o, begins)
        if told is None or told.time_ns < meter_since_ns:
            continue
        if (before is None or _when(told) > _when(before)) and _counts_on(o):
            before = told
    tx.before = before
    tx.crowded = tx.before is not None and any(
        t < begins and (o.end_ns is None or o.end_ns > tx.before.time_ns) for t, o in began
    )
    # readings may count from 0 where the messages' registers do not
    counted = [o for o in others if o.begins and max(o.begins) == 0]
    tx.relative = any("session_relative" in o.body.get("flags", ()) for o in counted)


def new_tx(record: Transaction, devices: DeviceTable) -> Tx:
    """Return the transaction that a first message tells of, its EVSE not yet noted."""
    station = record.station_row
    return Tx(
        site=devices.sites[devices.station_site[station]],
        station=devices.stations[station],
        station_row=station,
        evse_row=-1,
        evse=None,
        tx_id=record.tx_id,
        node_row=record.at.node_row,
        first_order=record.at.order,
    )


def speaks_for_itself(record: Transaction, devices: DeviceTable) -> bool:
    """Return whether the node is the station, not a gateway."""
    node = record.at.node_row
    return node >= 0 and devices.nodes[node] == devices.stations[record.station_row]


def forgettable(
    known: Mapping[tuple[int, str], Tx], config: TransactionConfig, now_ns: int
) -> list[tuple[int, str]]:
    """Return the final transactions that are told of no more, and the oldest of those that are too many."""
    final = [key for key, tx in known.items() if tx.final and not tx.due_ns]
    old = [key for key in final if now_ns - known[key].heard_ns > config.keep_ns]
    spare = len(known) - len(old) - config.keep_max
    if spare > 0:
        rest = sorted(set(final) - set(old), key=lambda k: (known[k].heard_ns, known[k].first_order, k[1]))
        old += rest[:spare]
    return old


def _counts_on(tx: Tx) -> bool:
    """Return whether the registers a transaction told are the meter's, not counted from its own start."""
    placeholder = tx.state == COMPLETE and "placeholder_begin" in tx.body.get("flags", ())
    return tx.begin_mwh is None or tx.begin_mwh > 0 or placeholder

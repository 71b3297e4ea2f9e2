"""What wears of each EVSE: plug cycles, contactor operations, energy, hours in use and hours too warm.

Counted from what the station says and measures, from the first message on:

- a plug cycle is a car plugged in: the connector's status becomes Occupied, or, of stations that send no
  status, a transaction says so;
- a contactor operation is a beginning of charging. Three counts are kept, the station's own counter
  (``x.Contactor.Cycles``), its words (charging state) and its readings (current begins to flow); the
  greatest counts, because none of them counts what did not happen;
- energy is what the import register rises by, integer mWh; a rise that no EVSE of its power could make,
  or a fall, is a new start of the register, not wear. Without a register energy is not known;
- seconds in use (current flows), with the plug at `warm_c` and `hot_c`, and with the cabinet at
  `body_hot_c`: from reading to reading, in event time. Time between readings further apart than `gap_s` is
  not counted.

An EVSE's counts are put out when they changed, at most once a quarter hour of journaled time, as they were
at its end. An inspection (operator message) takes the counts of its moment with it: wear since then is a
difference.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ._wear_kernel import (
    CHANGED,
    CHARGES,
    LANES,
    PLUGGED,
    STATUS_HEARD,
    WEAR_DTYPE,
    Limits,
    Rows,
    wear_kernel,
)
from .batch import MessageColumns, ReadingBatch
from .devices import DeviceTable
from .errors import ConfigError, SnapshotError
from .inspections import KIND, inspections_of, is_inspection
from .outputs import InspectionRow, WearCounts, WearRow
from .records import Operator, Record, Status, Transaction
from .units import NS_PER_MS, NS_PER_S, QUARTER_NS

VERSION: Final = 1
#: An EVSE of unknown power could deliver this much, W: what MCS plugs are built for today.
_MOST_W: Final = 1_000_000.0
_CONNECTED: Final = frozenset({"EVConnected", "Charging", "SuspendedEV", "SuspendedEVSE"})
#: Connector statuses of OCPP 2.x and 1.6 in which a car is there.
_OCCUPIED: Final = frozenset({"Occupied", "Preparing", "Finishing"} | (_CONNECTED - {"EVConnected"}))


@dataclass(frozen=True, slots=True)
class WearConfig:
    """What counts as warm, as flowing, as a gap.

    Attributes
    ----------
    warm_c : float
        Plug temperature from which warm hours count. Unit: °C. Default 50. Source: our choice, 10 K below
        the band in which `silent_derate` looks: contacts age about twice as fast for each 10 K (Arrhenius).
    hot_c : float
        The same for hot hours. Unit: °C. Default 65. Source: first throttle step of OpenEVSE and of common
        wall boxes (reference: connector_over_temperature, AC).
    body_hot_c : float
        Cabinet temperature from which its hot hours count. Unit: °C. Default 60. Source: our choice, 10 K
        below `cabinet_over_temperature`.
    gap_s : float
        Readings further apart say nothing of the time between. Unit: s. Default 1800. Source: twice the
        slowest usual meter interval (OCPP aligned data, 900 s).
    flow_w, flow_a : float
        Above this the contactor is closed and current flows. Unit: W, A. Default 100 and 1. Source:
        CONVENTIONS, contactor_welded and contactor_stuck_open.
    """

    warm_c: float = 50.0
    hot_c: float = 65.0
    body_hot_c: float = 60.0
    gap_s: float = 1800.0
    flow_w: float = 100.0
    flow_a: float = 1.0

    def __post_init__(self) -> None:
        bounds = {
            "warm_c": (0.0, 149.0),
            "hot_c": (0.0, 149.0),
            "body_hot_c": (0.0, 149.0),
            "gap_s": (1.0, 43_200.0),
            "flow_w": (0.0, 100_000.0),
            "flow_a": (0.0, 1_000.0),
        }
        for name in (f.name for f in fields(self)):
            low, high = bounds[name]
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"[maintenance] {name} = {getattr(self, name)!r}: expected {low:g} to {high:g}"
                )

    def limits(self) -> Limits:
        """Return what the kernel takes; a sensor at -40 °C or 150 °C has failed (CONVENTIONS)."""
        return Limits(
            int(self.gap_s),
            float(self.warm_c),
            float(self.hot_c),
            float(self.body_hot_c),
            float(self.flow_w),
            float(self.flow_a),
            -40.0,
            150.0,
        )


class Wear:
    """Wear of one shard's EVSEs.

    Parameters
    ----------
    config : WearConfig
    resume_state : dict, optional
        What `snapshot` returned.

    Raises
    ------
    SnapshotError
        If `resume_state` is of another version or shape.
    """

    def __init__(self, config: WearConfig, resume_state: dict[str, Any] | None = None) -> None:
        self._limits = config.limits()
        self._n = 0
        self._state: NDArray[Any] = np.zeros(16, WEAR_DTYPE)
        self._quarter = -1  # of the last message or tick; -1 = none yet
        self._now_ns = 0
        self._devices: DeviceTable | None = None
        if resume_state is not None:
            self._load(resume_state)
        # compiled (or read from the cache) here, not at the first reading of a live stream
        wear_kernel(_columns(ReadingBatch.empty()), 0, 0, np.zeros(1), self._state, self._limits)

    def process(
        self, rows: ReadingBatch, messages: MessageColumns, records: list[Record], devices: DeviceTable
    ) -> tuple[list[WearRow], list[InspectionRow]]:
        """Take in one batch; return the counts of ended quarter hours and the inspections, in order."""
        self._reserve(devices.n_evses)
        self._devices = devices
        told: list[WearRow] = []
        seen: list[InspectionRow] = []
        cuts = self._cuts(messages, records)
        index, ends = _parts(rows, [order for order, _ in cuts])
        columns = _columns(rows, index)
        p_max_w = np.where(np.isnan(devices.p_max_w), _MOST_W, devices.p_max_w)
        at = row = 0
        for (order, operator), end in zip([*cuts, (_END, None)], ends, strict=True):
            wear_kernel(columns, row, end, p_max_w, self._state, self._limits)
            row = end
            while at < len(records) and records[at].at.order < order:
                self._take_record(records[at])
                at += 1
            if operator is not None:
                seen += inspections_of(operator, devices, self.counts)
            elif order != _END:
                self._quarter = self._quarter_at(messages, order, told)
        if len(messages):
            self._now_ns = int(messages.effect_ns[-1])
        return told, seen

    def flush(self) -> list[WearRow]:
        """Return the counts that changed since they were last put out: the end of a log."""
        return [] if self._devices is None else self._changed(self._devices, self._now_ns)

    def counts(self, evse: int) -> WearCounts:
        """Return what was counted of an EVSE row so far; nothing of one not known."""
        known = 0 <= evse < self._n
        return self._counts(np.array([evse], np.int64))[0] if known else WearCounts(0, 0, None, 0, 0, 0, 0)

    def _counts(self, evses: NDArray[np.int64]) -> list[WearCounts]:
        chosen = self._state[evses]
        closed = np.maximum(chosen["closed_said"], chosen["closed_seen"])
        columns = [chosen["plug_cycles"], np.maximum(closed, chosen["closed_counted"]), chosen["energy_mwh"]]
        columns += [chosen[name] for name in ("use_s", "warm_s", "hot_s", "body_hot_s")]
        known = (chosen["register_s"] != 0).tolist()
        rows = zip(known, *(column.tolist() for column in columns), strict=True)
        return [
            WearCounts(plugs, closings, mwh if energy else None, use, warm, hot, body)
            for energy, plugs, closings, mwh, use, warm, hot, body in rows
        ]

    def nbytes(self) -> int:
        """Return the bytes of state held for the EVSEs known."""
        return self._n * WEAR_DTYPE.itemsize

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return {
            "version": VERSION,
            "quarter": self._quarter,
            "now_ns": self._now_ns,
            "evses": {name: self._state[name][: self._n].copy() for name in WEAR_DTYPE.names or ()},
        }

    def _load(self, state: dict[str, Any]) -> None:
        if state.get("version") != VERSION:
            raise SnapshotError(f"wear has version {state.get('version')!r}, this program reads {VERSION}")
        if set(state["evses"]) != set(WEAR_DTYPE.names or ()):
            raise SnapshotError(
                f"wear: saved fields {sorted(state['evses'])} are not {sorted(WEAR_DTYPE.names or ())}; "
                "start without saved state"
            )
        self._reserve(len(state["evses"]["last_s"]))
        for name, values in state["evses"].items():
            self._state[name][: len(values)] = values
        self._quarter, self._now_ns = int(state["quarter"]), int(state["now_ns"])

    def _reserve(self, n: int) -> None:
        self._n = max(self._n, n)
        room = len(self._state)
        if self._n > room:
            more = np.zeros(max(self._n, 2 * room) - room, WEAR_DTYPE)
            self._state = np.concatenate([self._state, more])

    def _cuts(self, messages: MessageColumns, records: list[Record]) -> list[tuple[int, Operator | None]]:
        """Return (order, inspection or None) before which all must be counted: the first message of another
        quarter hour, and every inspection."""
        quarters = messages.effect_ns // QUARTER_NS
        before = np.concatenate([[self._quarter if self._quarter >= 0 else -1], quarters[:-1]])
        starts = messages.order[quarters != before] if len(messages) else messages.order
        cuts: list[tuple[int, Operator | None]] = [(order, None) for order in starts.tolist()]
        asked = [r for r in records if isinstance(r, Operator) and r.topic == KIND and is_inspection(r.body)]
        # of one order the quarter ends first: the inspection belongs to the next
        return sorted([*cuts, *((r.at.order, r) for r in asked)], key=lambda c: (c[0], c[1] is not None))

    def _quarter_at(self, messages: MessageColumns, order: int, told: list[WearRow]) -> int:
        """End the quarter hour before the message `order`; return the one it lies in."""
        effect_ns = int(messages.effect_ns[np.searchsorted(messages.order, order)])
        assert self._devices is not None
        if self._quarter >= 0:
            told += self._changed(self._devices, (self._quarter + 1) * QUARTER_NS)
        return effect_ns // QUARTER_NS

    def _changed(self, devices: DeviceTable, at_ns: int) -> list[WearRow]:
        flags = self._state["flags"][: self._n]
        evses = np.flatnonzero(flags & CHANGED)
        flags[evses] &= np.uint16(0xFFFF ^ CHANGED)
        first_s = self._state["first_s"][evses].tolist()
        out = []
        for evse, first, counts in zip(evses.tolist(), first_s, self._counts(evses), strict=True):
            site, station, number = devices.names(evse)
            out.append(
                WearRow(
                    site=site,
                    station=station,
                    evse=number,
                    time_ms=at_ns // NS_PER_MS,
                    first_ms=first * 1000,
                    counts=counts,
                )
            )
        return out

    def _take_record(self, record: Record) -> None:
        if not isinstance(record, Status | Transaction) or record.evse_row < 0:
            return
        rec = self._state[record.evse_row]
        if rec["first_s"] == 0:
            rec["first_s"] = record.at.effect_ns // NS_PER_S
            rec["flags"] |= CHANGED
        if isinstance(record, Status):
            self._take_status(rec, record)
        else:
            self._take_transaction(rec, record)

    def _take_status(self, rec: Any, record: Status) -> None:
        rec["flags"] |= STATUS_HEARD
        if record.status in _OCCUPIED:
            _plug_in(rec, record.conn)
        elif record.status == "Available" and int(rec["flags"]) >> 8 in {0, record.conn & 0xFF}:
            rec["flags"] &= _clear(PLUGGED | CHARGES)
        if "Charging" in {record.status, record.status16}:
            _charge(rec)
        elif record.status16:
            rec["flags"] &= _clear(CHARGES)

    def _take_transaction(self, rec: Any, record: Transaction) -> None:
        state = record.charging_state
        if state in _CONNECTED:
            _plug_in(rec, record.conn or 0)
        if state == "Charging" and record.event_type != "Ended":
            _charge(rec)
        elif state and state != "Charging":
            rec["flags"] &= _clear(CHARGES)
        if record.event_type == "Ended":
            rec["flags"] &= _clear(CHARGES)
            if not rec["flags"] & STATUS_HEARD:
                rec["flags"] &= _clear(PLUGGED)
        elif state == "Idle" and not rec["flags"] & STATUS_HEARD:
            rec["flags"] &= _clear(PLUGGED)


def _parts(rows: ReadingBatch, orders: list[int]) -> tuple[NDArray[np.int64], list[int]]:
    """Return the rows by the part between `orders` that they lie in, and where each part ends."""
    if not orders or not len(rows):
        return np.arange(len(rows)), [len(rows)] * (len(orders) + 1)
    part = np.searchsorted(np.array(orders, np.int64), rows.order, side="right")
    if int(part.min()) == int(part.max()):
        at = int(part[0])
        return np.arange(len(rows)), [0] * at + [len(rows)] * (len(orders) + 1 - at)
    # sorting 16-bit numbers takes one pass over them
    index = np.argsort(part.astype(np.uint16) if len(orders) < 65_536 else part, kind="stable")
    return index, np.cumsum(np.bincount(part, minlength=len(orders) + 1)).tolist()


_END: Final = int(np.iinfo(np.int64).max)


def _clear(bits: int) -> np.uint16:
    return np.uint16(0xFFFF ^ bits)


def _plug_in(rec: Any, conn: int) -> None:
    if rec["flags"] & PLUGGED:
        return
    rec["plug_cycles"] += 1
    rec["flags"] = (int(rec["flags"]) & 0xFF) | PLUGGED | CHANGED | (conn & 0xFF) << 8


def _charge(rec: Any) -> None:
    if not rec["flags"] & CHARGES:
        rec["closed_said"] += 1
        rec["flags"] |= CHARGES | CHANGED


def _columns(rows: ReadingBatch, index: NDArray[np.int64] | None = None) -> Rows:
    return Rows(
        np.ascontiguousarray(rows.evse),
        np.ascontiguousarray(rows.time_ns),
        np.ascontiguousarray(rows.effect_ns),
        np.ascontiguousarray(rows.state),
        np.ascontiguousarray(rows.reg_mwh),
        np.ascontiguousarray(rows.values),
        rows.slot_of[list(LANES)],
        np.arange(len(rows)) if index is None else index,
    )

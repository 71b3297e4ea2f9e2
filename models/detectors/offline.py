"""A node, or a station behind a gateway, is not heard any more.

A node is offline when its will says so and no word of it follows within `will_grace_s`, or when nothing
came from it for three of its heartbeat periods. A will older than the last birth (by boot, then cid), a
will or birth that was only retained, and the silence of a node never heard are no news. A station behind
a gateway is offline when ``up/link`` says so, or when it is in a transaction and sent no rows for three
of its gateway's `batch_s` while the gateway itself was heard: the clock of that silence starts anew when
the gateway returns from a silence of its own, or drains a backlog.

Time is the journal's. After a stretch in which nothing was journaled at all, not even ticks, it is we who
did not listen: all silences start anew.

The finding starts at the will, at the link's time, or when it was last heard; it ends with the first word
after that and clears 60 s later, if it stays. It is planned (severity info) when a maintenance window
(operator message ``maintenance``) covers it, until that ends, or when all connectors that said anything
were Unavailable. What a gateway tells late (link messages from a backlog) is raised live if it still
stands after 600 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.batch import CONN, DECODED, MessageColumns, ReadingBatch
from models.detecting import Emissions, Observed
from models.devices import DeviceTable
from models.records import Birth, Link, Operator, Status, Transaction
from models.units import NO_TIME

from . import _offline_kernel as kernel
from ._base import ns, require
from ._nodes import NEVER, NodeDetector
from ._offline_kernel import BACK, DUE, HEARD, OPEN, PENDING
from ._offline_state import LINK, NO_ROWS, SILENCE, SPEC, WILL, Absences, Scope

__all__ = ["SPEC", "Config", "Detector", "build"]


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `offline`.

    Attributes
    ----------
    periods : float
        Silent periods (of `hb_s`, behind a gateway of `batch_s`) that make it offline. Unit: periods.
        Default 3. Source: CONVENTIONS; a deadman of three periods is common practice.
    will_grace_s : float
        A will followed by a word within this time is a reconnect. Unit: s. Default 5. Source: a broker
        publishes the old session's will when the same client connects again.
    undeclared_hb_s : float
        Heartbeat period of nodes that declare none. Unit: s. Default 1800. Source: libocpp's default
        heartbeat.
    hold_s : float
        Clear this long after it was heard again. Unit: s. Default 60. Source: CONVENTIONS, clear.
    listen_gap_s : float
        A longer stretch without any journal entry means that we did not listen. Unit: s. Default 30.
        Source: ticks are journaled each second.
    live_max_age_s : float
        A link message about something older is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    settle_s : float
        Time after which what was told late, and still stands, is raised live. Unit: s. Default 600.
        Source: CONVENTIONS, a gap is final after 600 s while a backlog drains.
    """

    periods: float = 3.0
    will_grace_s: float = 5.0
    undeclared_hb_s: float = 1800.0
    hold_s: float = 60.0
    listen_gap_s: float = 30.0
    live_max_age_s: float = 900.0
    settle_s: float = 600.0

    def __post_init__(self) -> None:
        require(
            self,
            periods=(1.0, 100.0),
            will_grace_s=(0.0, 3600.0),
            undeclared_hb_s=(1.0, 86_400.0),
            hold_s=(1.0, 86_400.0),
            listen_gap_s=(2.0, 3600.0),
            live_max_age_s=(1.0, 86_400.0),
            settle_s=(1.0, 86_400.0),
        )


class Detector(NodeDetector):
    """The detector behind `offline`."""

    spec = SPEC
    wanted = (Birth, Link, Status, Transaction, Operator)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        self._live_max_age_ns = ns(config.live_max_age_s)
        self._settle_ns = ns(config.settle_s)
        waits = kernel.Waits(
            ns(config.hold_s),
            ns(config.listen_gap_s),
            ns(config.undeclared_hb_s),
            float(config.periods),
            ns(config.will_grace_s),
        )
        self._all = Absences(waits, resume_state)
        self._none = ReadingBatch.empty()
        self._came = self._arrivals(self._none, DeviceTable())
        # compiled (or read from the cache) here, not at the first message of a live stream
        self._walk(Observed(DeviceTable(), ReadingBatch.empty(), MessageColumns.empty(), []), 0, 0)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._all.reserve(seen.devices)
        rows = seen.rows if len(self._all.gateways) else self._none
        self._came = self._arrivals(rows, seen.devices)
        self._all.clock[kernel.ARRIVAL] = 0
        super().process(seen, out)

    def _arrivals(self, rows: ReadingBatch, devices: DeviceTable) -> kernel.Arrivals:
        return kernel.arrivals(rows, self._all.evses.rows, devices.evse_station, self._all.stations.slot_of)

    def _walk(self, seen: Observed, at: int, stop: int) -> int:
        return int(
            kernel.walk_kernel(
                at,
                stop,
                kernel.heard(seen.messages),
                self._came,
                self._all.known(),
                self._all.clock,
                self._all.waits,
            )
        )

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        match record:
            case Birth():
                self._birth(record)
            case Link():
                self._link(record, seen.devices, out)
            case Status():
                self._status(record, seen.devices)
            case Transaction():
                self._transaction(record, seen.devices)
            case Operator(topic="maintenance"):
                self._all.maintenance.add(record.body, record.at.effect_ns)

    def _birth(self, birth: Birth) -> None:
        every, node = self._all, birth.at.node_row
        connection = (birth.at.boot, birth.cid)
        older = connection < every.connections[node]
        rec = every.nodes.rows[node]
        if birth.online:
            if birth.retained and older:
                return
            every.connections[node] = connection
            hb_ns, batch_ns = every.periods.values[rec["periods"]].tolist()
            batch_s = birth.batch_s if birth.batch_s is not None else birth.sample_s
            hb_ns = hb_ns if birth.hb_s is None else ns(birth.hb_s)
            rec["periods"] = every.periods.number((hb_ns, batch_ns if batch_s is None else ns(batch_s)))
            if not birth.retained:
                self._return(node, birth.at.effect_ns)
        elif not birth.retained and not older and rec["phase"] != OPEN:
            if rec["phase"] == BACK:
                every.phase("node", node, OPEN)
            elif rec["phase"] == HEARD:
                absent = every.absent.take(node)
                absent["start_ns"], absent["reason"] = birth.at.recv_ns, WILL
                every.phase("node", node, PENDING)
                every.soon(birth.at.recv_ns + every.waits.grace)

    def _return(self, node: int, now_ns: int) -> None:
        """Take in a birth: the node is there, whatever was before."""
        every = self._all
        rec = every.nodes.rows[node]
        rec["last_ns"] = now_ns
        if rec["phase"] == OPEN:
            self._back(node, now_ns)
        elif rec["phase"] == PENDING:
            every.phase("node", node, HEARD)
        if node in every.gateways:
            gateway = every.gateways[node]
            gateway["heard_since_ns"] = now_ns
            gateway["bound_ns"] = min(int(gateway["bound_ns"]), now_ns)
        every.soon(now_ns + every.silence_ns(node))

    def _back(self, node: int, now_ns: int) -> None:
        """A node that is raised was heard again."""
        self._all.phase("node", node, BACK)
        self._all.absent[node]["back_ns"] = now_ns
        self._all.soon(now_ns + self._all.waits.hold)

    def _heard(self, node: int, recv_ns: int, now_ns: int) -> None:
        """Take in a message of a node that may be absent: one that came after its will or silence."""
        phase = self._all.nodes.rows[node]["phase"]
        if phase in {PENDING, OPEN} and recv_ns > self._all.absent[node]["start_ns"]:
            if phase == OPEN:
                self._back(node, now_ns)
            else:
                self._all.phase("node", node, HEARD)
                self._all.soon(now_ns + self._all.silence_ns(node))

    def _link(self, link: Link, devices: DeviceTable, out: Emissions) -> None:
        rec = self._all.stations.take(link.station_row)
        if link.online:
            self._station_heard(rec, link.time_ns, link.at.effect_ns)
            return
        if rec["phase"] == BACK:
            rec["phase"] = OPEN
        if rec["phase"] != HEARD:
            return
        rec["start_ns"], rec["reason"] = link.time_ns, LINK
        live = self._is_live(link)
        self._all.raise_(
            "station",
            link.station_row,
            (link.at.order, link.at.effect_ns),
            devices,
            out,
            live=live,
            words=link.reason,
        )
        if not live:
            # the return may be on its way, too: that a plan ended meanwhile is no news before it settles
            rec["until_ns"] = NEVER
            rec["settle_ns"] = link.at.effect_ns + self._settle_ns
            self._all.soon(int(rec["settle_ns"]))

    def _is_live(self, record: Link | Status | Transaction) -> bool:
        return record.at.live and record.at.recv_ns - record.time_ns <= self._live_max_age_ns

    def _station_heard(self, rec: Any, time_ns: int, now_ns: int) -> None:
        rec["rows_ns"] = now_ns
        if rec["phase"] == OPEN and time_ns > rec["start_ns"]:
            rec["phase"], rec["back_ns"] = BACK, now_ns
            self._all.soon(now_ns + self._all.waits.hold)

    def _spoke(self, record: Status | Transaction) -> None:
        """Take in a live word of a station; only those behind gateways can be absent themselves."""
        if record.station_row in self._all.stations and self._is_live(record):
            self._station_heard(self._all.stations[record.station_row], record.time_ns, record.at.effect_ns)

    def _status(self, status: Status, devices: DeviceTable) -> None:
        unavailable = (status.status16 or status.status) == "Unavailable"
        said = kernel.UNAVAILABLE if unavailable else kernel.OTHERWISE
        evses = self._all.evses.rows["said"]
        if status.evse_row < 0:
            self._all.said.rows["said"][status.station_row] = said
        of = [status.evse_row] if status.evse_row >= 0 else devices.evses_of(status.station_row)
        evses[of] = evses[of] & kernel.BEHIND | said
        self._spoke(status)

    def _transaction(self, record: Transaction, devices: DeviceTable) -> None:
        self._spoke(record)
        every, evse = self._all, record.evse_row
        if evse < 0 or not every.evses.rows["said"][evse] & kernel.BEHIND:
            return
        running = record.event_type != "Ended"
        if (evse in every.in_tx) == running:
            return
        station = every.stations[record.station_row]
        every.in_tx ^= {evse}
        station["n_tx"] += 1 if running else -1
        if station["n_tx"] == 0:
            station["tx_ns"] = NO_TIME
        elif station["n_tx"] == 1 and running:
            station["tx_ns"] = record.at.effect_ns
            gateway = every.gateways[devices.station_node[record.station_row]]
            gateway["bound_ns"] = min(int(gateway["bound_ns"]), record.at.effect_ns)

    def _due(self, now_ns: int, order: int, seen: Observed, out: Emissions) -> None:
        at = (order, now_ns)
        m = seen.messages
        k = int(np.searchsorted(m.order, order))
        node = int(m.node[k])
        if node >= 0 and m.fate[k] == DECODED and m.kind[k] != CONN:
            self._heard(node, int(m.recv_ns[k]), now_ns)
        if node in self._all.gateways and self._all.gateways[node]["bound_ns"] <= now_ns:
            self._stations_of_node(node, at, seen.devices, out)
        if self._all.clock[DUE] <= now_ns:
            self._overdue("node", at, seen.devices, out)
            self._overdue("station", at, seen.devices, out)
            self._all.clock[DUE] = self._all.next_due()

    def _stations_of_node(self, node: int, at: tuple[int, int], devices: DeviceTable, out: Emissions) -> None:
        """Decide which stations behind a gateway are silent while it is heard."""
        gateway = self._all.gateways[node]
        bound = NEVER
        batch_ns = int(self._all.periods.values[self._all.nodes.rows[node]["periods"], 1])
        silence = NEVER if batch_ns == NO_TIME else int(self._all.waits.periods * batch_ns)
        for station in self._all.stations_of[node] if silence != NEVER else []:
            rec = self._all.stations[station]
            if rec["tx_ns"] == NO_TIME:
                continue
            base = max(int(rec["rows_ns"]), int(rec["tx_ns"]), int(gateway["heard_since_ns"]))
            if rec["phase"] != OPEN and base + silence > at[1]:
                bound = min(bound, base + silence)
                continue
            # absent; should it come back, it cannot be silent again before
            bound = min(bound, at[1] + silence)
            if rec["phase"] == BACK:
                rec["phase"] = OPEN
            elif rec["phase"] == HEARD:
                rec["start_ns"], rec["reason"] = base, NO_ROWS
                self._all.raise_("station", station, at, devices, out, limit_ns=silence)
        gateway["bound_ns"] = bound

    def _overdue(self, scope: Scope, at: tuple[int, int], devices: DeviceTable, out: Emissions) -> None:
        """Decide deadlines of nodes or stations that do not depend on others."""
        every, now_ns = self._all, at[1]
        rows, phase = every.phases(scope)

        def overdue(late: Any) -> list[int]:
            return sorted(rows["row"][late].tolist())

        back = overdue((phase == BACK) & (rows["back_ns"] <= now_ns - every.waits.hold))
        planned = overdue((phase == OPEN) & (rows["until_ns"] <= now_ns))
        if scope == "station":
            again = overdue((phase == OPEN) & (rows["settle_ns"] <= now_ns))
        else:
            again = overdue((phase == PENDING) & (rows["start_ns"] <= now_ns - every.waits.grace))
        for row in back:
            every.clear(scope, row, at, out)
        for row in planned:
            every.end_of_plan(scope, row, at, devices, out)
        for row in again:
            every.raise_(scope, row, at, devices, out)
        silent = np.flatnonzero(every.silent_at() <= now_ns) if scope == "node" else np.zeros(0, np.int64)
        for row in silent.tolist():
            absent = every.absent.take(row)
            absent["start_ns"], absent["reason"] = every.nodes.rows[row]["last_ns"], SILENCE
            every.raise_(scope, row, at, devices, out, limit_ns=every.silence_ns(row))

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        return self._all.snapshot()

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return self._all.nbytes


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)

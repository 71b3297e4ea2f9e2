"""A connection that is lost and made again many times: 6 births of a node, or link-ups of a station behind
a gateway, within 60 minutes.

A birth counts when its connection (boot, cid) is newer than the last one counted, so that a birth delivered
twice or only retained does not; births without numbers all count. A link-up counts when the gateway had
lost the station before: what it repeats after a birth of its own does not. Births have the time of their
arrival, link-ups the gateway's; link-ups told more than 15 minutes late are backlog.

Starts with the first of the six; ends when the last six no longer lie within 60 minutes, and clears 60 s
after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models.detecting import DetectorSpec, Emissions, Observed
from models.records import Birth, Link
from models.units import NS_PER_S

from ._base import ns, require
from ._connections import Connections
from ._repeats import EVIDENCE, MOST, Moment, Often, RepeatDetector

SPEC = DetectorSpec("flapping", "node", "rule", evidence=EVIDENCE)

#: Link-ups of a gateway's backlog may come in so much later than newer ones of another gateway.
_LATE_NS: Final = 7 * 86_400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Config:
    """Limits of `flapping`.

    Attributes
    ----------
    connections : int
        Births or link-ups that raise. Unit: connections. Default 6. Source: CONVENTIONS.
    window_s : float
        Time within which they lie. Unit: s. Default 3600. Source: CONVENTIONS.
    hold_s : float
        Clear this long after it was over. Unit: s. Default 60. Source: CONVENTIONS, clear.
    live_max_age_s : float
        A link message about something older is backlog. Unit: s. Default 900. Source: CONVENTIONS,
        live_max_age_s.
    """

    connections: int = 6
    window_s: float = 3600.0
    hold_s: float = 60.0
    live_max_age_s: float = 900.0

    def __post_init__(self) -> None:
        require(
            self,
            connections=(2, MOST),
            window_s=(1.0, 7 * 86_400.0),
            hold_s=(0.0, 86_400.0),
            live_max_age_s=(1.0, 86_400.0),
        )


class Detector(RepeatDetector):
    """The detector behind `flapping`."""

    wanted = (Birth, Link)

    def __init__(self, config: Config, resume_state: dict[str, Any] | None = None) -> None:
        often = Often(int(config.connections), ns(config.window_s), ns(config.hold_s))
        self._live_max_age_ns = ns(config.live_max_age_s)
        super().__init__(SPEC, often, {"node": 0, "station": _LATE_NS}, resume_state)
        state = resume_state or {"connections": None, "lost": []}
        self._connections = Connections(state["connections"])
        self._lost: set[int] = set(state["lost"])  # stations that their gateway lost

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._connections.reserve(seen.devices.n_nodes)
        super().process(seen, out)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        at = record.at
        if isinstance(record, Link):
            self._link(record, out)
            return
        connection = (at.boot, record.cid)
        known = self._connections[at.node_row]
        if not record.online or connection < known or (connection == known and record.cid >= 0):
            return
        self._connections[at.node_row] = connection
        if not record.retained:
            self.happened("node", at.node_row, Moment(at.effect_ns, at.order, at.effect_ns, True), out)

    def _link(self, link: Link, out: Emissions) -> None:
        at, station = link.at, link.station_row
        if not link.online:
            self._lost.add(station)
        elif station in self._lost:
            self._lost.remove(station)
            live = at.live and at.recv_ns - link.time_ns <= self._live_max_age_ns
            self.happened("station", station, Moment(link.time_ns, at.order, at.effect_ns, live), out)

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        told = {"connections": self._connections.snapshot(), "lost": sorted(self._lost)}
        return super().snapshot() | told

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        return super().nbytes() + self._connections.nbytes + 60 * len(self._lost)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)

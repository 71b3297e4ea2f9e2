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
from typing import Any

from models.detecting import DetectorSpec, Emissions, Observed
from models.records import Birth, Link

from ._base import ns, require
from ._repeats import EVIDENCE, MOST, Moment, Often, RepeatDetector

SPEC = DetectorSpec("flapping", "node", "rule", evidence=EVIDENCE)


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
        fields = [("boot", "i8"), ("cid", "i8"), ("lost", "u1")]
        super().__init__(SPEC, often, ("node", "station"), fields, {"boot": -1, "cid": -1}, resume_state)

    def _record(self, record: Any, seen: Observed, out: Emissions) -> None:
        at = record.at
        if isinstance(record, Link):
            # only gateways speak of their stations' links: most fleets need no record of a station
            self.tables["station"].reserve(seen.devices.n_stations)
            rec = self.tables["station"].rows[record.station_row]
            if record.online and rec["lost"]:
                live = at.live and at.recv_ns - record.time_ns <= self._live_max_age_ns
                self.happened(
                    "station", record.station_row, Moment(record.time_ns, at.order, at.effect_ns, live), out
                )
            rec["lost"] = not record.online
            return
        rec = self.tables["node"].rows[at.node_row]
        connection = (at.boot, record.cid)
        known = (int(rec["boot"]), int(rec["cid"]))
        if not record.online or connection < known or (connection == known and record.cid >= 0):
            return
        rec["boot"], rec["cid"] = connection
        if not record.retained:
            self.happened("node", at.node_row, Moment(at.effect_ns, at.order, at.effect_ns, True), out)


def build(config: Config, resume_state: dict[str, Any] | None = None) -> Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return Detector(config, resume_state)

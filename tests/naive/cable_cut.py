"""Twin of `cable_cut`: looks back over all readings and words for what happened before a loss."""

from __future__ import annotations

from typing import Any

from models import batch as b

from .cable import currents
from .lasting import Lasting
from .plain import Expected, Reading, S, Story

_PAUSED = {"EVConnected", "SuspendedEV", "SuspendedEVSE", "Finishing"}
_GONE = {"EVDeparted", "EVCommunicationLost", "EVDetected", "AbnormalCondition"}


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    stops = [w for w in story.records if _stops(w)]
    return [e for readings in story.by_evse() for e in _of_evse(readings, stops)]


def _stops(word: Any) -> bool:
    if type(word).__name__ == "Status":
        return word.status16 in _PAUSED
    if type(word).__name__ != "Transaction":
        return False
    if word.event_type != "Ended":
        return word.charging_state in _PAUSED and word.trigger not in _GONE
    if word.stopped_reason == "":
        return word.trigger not in _GONE
    return bool(word.stopped_reason != "EVDisconnected")


def _good(celsius: float | None) -> bool | None:
    if celsius is None or celsius != celsius:
        return None
    return -40.0 < celsius < 150.0


class _Cable:
    """What was seen of one cable."""

    def __init__(self, stops: list[Any]) -> None:
        self.stops = stops
        self.both: int | None = None
        self.one: int | None = None
        self.flow: tuple[int, float] | None = None
        self.torn = self.opened = False
        self.amps_before = 0.0

    def sensors(self, r: Reading) -> str:
        """Return good, bad or nothing."""
        found = [_good(r.values.get(f"Temperature/{where}")) for where in ("Cable", "Outlet")]
        if None in found and True not in found:
            return ""
        if found == [True, True]:
            self.both, self.one = r.time_ns, None
        elif None not in found and True in found:
            self.one = r.time_ns if self.one is None else self.one
        elif found == [False, False]:
            recent = self.both is not None and r.time_ns - self.both <= 1800 * S
            if recent and (self.one is None or r.time_ns - self.one <= 10 * S):
                self.torn = True
            self.both = None
            return "bad"
        self.torn = False
        return "good"

    def pilot(self, r: Reading, raised: bool) -> str:
        """Return good, bad or nothing."""
        volt, amps = r.values.get("x.CP.V"), currents(r)
        if volt is None or volt != volt:
            return ""
        most = max(amps, default=0.0)
        if volt < 11.0 or most >= 1.0:
            self.opened = False
            self.flow = (r.time_ns, most) if most >= 1.0 and r.state & b.CHARGING else None
            return "good"
        if not amps:
            return ""
        words = [w for w in self.stops if w.evse_row == r.about.row and w.at.order < r.order]
        told = words[-1].time_ns if words else None
        stopped = told is not None and self.flow is not None and self.flow[0] - 5 * S <= told <= r.time_ns
        if stopped or r.state & (b.SUSPENDED_EV | b.SUSPENDED_EVSE):
            self.flow = None
            self.opened = self.opened and raised
        elif self.flow is not None and not self.opened and r.time_ns - self.flow[0] <= 30 * S:
            self.opened, self.amps_before = True, self.flow[1]
        return "bad"


def _of_evse(readings: list[Reading], stops: list[Any]) -> list[Expected]:
    out: list[Expected] = []
    cable, watch = _Cable(stops), Lasting(0, 2, 60 * S, 1800 * S)
    for r in readings:
        sensors, pilot = cable.sensors(r), cable.pilot(r, bool(watch.raised))
        shown = (sensors == "bad" and cable.torn) or (pilot == "bad" and cable.opened)
        silent = cable.torn or cable.opened or not (sensors or pilot)
        nothing_good = watch.raised and "good" not in {sensors, pilot}
        if not shown and (silent or nothing_good):
            continue
        kind = watch.add(r.time_ns, 1 if shown else 0, r.live)
        if not kind:
            continue
        end = watch.end_ns if kind == "clear" else r.time_ns
        evidence: dict[str, float] = {"duration_s": (end - watch.start_ns) / S}
        if kind != "clear":
            evidence["cause"] = cable.torn + 2 * cable.opened
            for name, channel in (
                ("temperature_cable_c", "Temperature/Cable"),
                ("temperature_outlet_c", "Temperature/Outlet"),
                ("pilot_v", "x.CP.V"),
            ):
                if (value := r.values.get(channel)) is not None and value == value:
                    evidence[name] = value
            if cable.opened:
                evidence["current_before_a"] = cable.amps_before
        out.append(
            Expected(
                r.order, "cable_cut", "evse", r.about.row, kind, "critical",
                watch.live, watch.start_ns, end, evidence,
            )
        )  # fmt: skip
    return out

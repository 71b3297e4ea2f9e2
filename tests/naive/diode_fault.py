"""Twin of `diode_fault`."""

from __future__ import annotations

from models import batch as b

from .cable import Sample, flows, watched
from .plain import Expected, Reading, Story


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    return watched(story, "diode_fault", "warning", _judge, 5, 2, 60)


def _judge(r: Reading) -> Sample | None:
    low, pilot = r.values.get("x.CP.Low.V"), r.values.get("x.CP.V")
    if low is None or low != low or not _pulses(r, pilot):
        return None
    evidence = {"pilot_low_v": low, "limit_v": -10.0}
    if pilot is not None and pilot == pilot:
        evidence["pilot_v"] = pilot
    return low > -10.0, evidence


def _pulses(r: Reading, pilot: float | None) -> bool:
    if flows(r):
        return True
    running = r.state & b.IN_TRANSACTION and not r.state & b.SUSPENDED_EVSE
    connected = pilot is not None and 5.0 < pilot < 10.5
    return bool(running and connected and r.values.get("Current.Offered", 0.0) >= 6.0)

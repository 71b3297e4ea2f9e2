"""Twin of `weak_signal`: keeps every sample and reckons each half hour from all of them."""

from __future__ import annotations

import math
import statistics
from typing import Any

from models.records import Heartbeat

from .plain import Evse, Expected, Reading, S, Story

_HALF_HOUR = 1800 * S
_BLOCK = 24 * _HALF_HOUR


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit with its defaults."""
    by_station: dict[int, list[Expected]] = {}
    for readings in story.by_evse():
        about = readings[0].about
        number = story.evses[about.row][1]
        found = [e._replace(evidence=e.evidence | {"evse": number}) for e in _of_evse(readings)]
        by_station.setdefault(about.station, []).extend(found)
    out = [e for station, found in by_station.items() for e in _of_station(station, found)]
    for node in range(len(story.nodes)):
        beats = [r for r in story.records if isinstance(r, Heartbeat) and r.at.node_row == node]
        about = Evse(-1, -1, node)
        heard = [
            Reading(about, r.at.effect_ns, r.at.order, r.at.effect_ns, r.at.live, {"x.RSSI": r.rssi_dbm})
            for r in sorted(beats, key=lambda r: r.at.order)
        ]
        out += [e._replace(scope="node", subject=node) for e in _of_evse(heard)]
    return out


def _of_station(station: int, found: list[Expected]) -> list[Expected]:
    out: list[Expected] = []
    bad: set[int] = set()
    start, live = 0, False
    for e in sorted(found, key=lambda e: (e.order, e.evidence["evse"], e.time_ns)):
        number = e.evidence["evse"]
        if e.kind == "raise":
            first = not bad
            if first:
                start = e.start_ns
            if first or (e.live and not live):
                out.append(e._replace(subject=station, start_ns=start))
            live = e.live or (live and not first)
            bad.add(number)
        else:
            bad.discard(number)
            if not bad:
                out.append(e._replace(subject=station, start_ns=start, live=live))
    return out


def _median(blocks: dict[int, list[float]], now: int) -> float | None:
    """Return the median of the twelve-hour means before block `now`, in half decibels, of seven days."""
    known = [
        min(max(math.floor(0.5 - 2.0 * sum(values) / len(values)), 1), 255)
        for block, values in blocks.items()
        if now - 13 <= block < now
    ]
    return -statistics.median(known) / 2 if known else None


def _of_evse(readings: list[Reading]) -> list[Expected]:
    out: list[Expected] = []
    samples = [(r, v) for r in readings if (v := r.values.get("x.RSSI")) is not None and v == v]
    windows: dict[int, list[tuple[Reading, float]]] = {}
    blocks: dict[int, list[float]] = {}
    raised = live = False
    start = bad = 0
    for r, value in samples:
        window = r.time_ns // _HALF_HOUR
        if windows and window not in windows:
            closed = max(windows)
            held = windows[closed]
            blocks.setdefault(closed * _HALF_HOUR // _BLOCK, []).extend(v for _, v in held)
            mean = sum(v for _, v in held) / len(held)
            median = _median(blocks, closed * _HALF_HOUR // _BLOCK)
            weak = mean < -90 or (median is not None and mean <= median - 10)
            kind = ""
            if len(held) >= 2 and weak:
                fresh = held[-1][0].live and r.time_ns - (closed + 1) * _HALF_HOUR <= 3600 * S
                start = start if raised else closed
                bad = closed
                if not raised or (fresh and not live):
                    kind, raised, live = "raise", True, fresh
            elif len(held) >= 2 and raised:
                kind, raised = "clear", False
            if kind:
                evidence: dict[str, Any] = {"mean_dbm": mean, "samples": len(held), "limit_dbm": -90.0}
                if median is not None:
                    evidence |= {"limit_dbm": max(-90.0, median - 10), "median_dbm": median}
                    evidence["drop_db"] = median - mean
                times = (start * _HALF_HOUR, (bad + 1) * _HALF_HOUR)
                out.append(
                    Expected(r.order, "weak_signal", "station", 0, kind, "info", live, *times, evidence)
                )
        windows.setdefault(window, []).append((r, value))
    return out

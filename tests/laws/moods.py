"""What comes over a device for a while in a hostile story: it restarts, reconnects, loses stations, samples
slowly, loses its radio signal. A dice of its own, so that it changes nothing else in a story."""

from __future__ import annotations

import random
from typing import Any, Final

from models.records import Link
from tests.naive.plain import S

_SIGNAL: Final = {"good": (-70.0, -60.0), "edge": (-91.0, -89.0), "bad": (-105.0, -92.0), "none": (0.0, 0.0)}


class Moods:
    """Moods of the nodes (by row) and EVSEs (by row) of one story."""

    def __init__(self, seed: int, hostility: float) -> None:
        self.rng = random.Random(seed + 1)
        self.odd = hostility
        self._restless: dict[int, tuple[str, int, int]] = {}  # node -> (what, next, until)
        self._pace: dict[int, int] = {}
        self._signal: dict[int, str] = {}
        self._link = random.Random(seed + 11)
        self._links: dict[int, str] = {}

    def acts(self, node: int, now: int) -> list[str]:
        """Return what a node does now: ``boot``, ``reconnect``, ``link``."""
        rng = self.rng
        if node not in self._restless:
            if rng.random() < 0.01 * self.odd:
                what = rng.choice(["boot", "reconnect", "link"])
                self._restless[node] = (what, now, now + 2600 * S)
            return []
        what, at, until = self._restless[node]
        if now >= until:
            if now >= until + 4000 * S:
                del self._restless[node]
            return []
        if now < at:
            return []
        self._restless[node] = (what, now + rng.choice([100, 250, 500]) * S, until)
        return [what]

    def pace(self, evse: int) -> int:
        """Return how many times slower than declared an EVSE samples now."""
        if evse not in self._pace or self.rng.random() < 0.008:
            self._pace[evse] = self.rng.choice([2, 3]) if self.rng.random() < 0.6 * self.odd else 1
        return self._pace[evse]

    def signal(self, evse: int) -> dict[str, float]:
        """Return what an EVSE's radio shows."""
        if evse not in self._signal or self.rng.random() < 0.006:
            self._signal[evse] = self.rng.choice(list(_SIGNAL))
        low, high = _SIGNAL[self._signal[evse]]
        return {} if low == 0.0 else {"x.RSSI": round(self.rng.uniform(low, high), 1)}

    def rssi(self, node: int) -> float | None:
        """Return the radio signal that a node's heartbeat carries, None where it carries none."""
        if node not in self._links or self._link.random() < 0.02:
            self._links[node] = self._link.choice(list(_SIGNAL))
        low, high = _SIGNAL[self._links[node]]
        return None if low == 0.0 else round(self._link.uniform(low, high), 1)


def act(teller: Any, node: Any, now: int, what: str) -> None:
    """Let a node of `teller` restart, reconnect, or lose (and mostly find) its first station."""
    if what == "link":
        for online in (False, True) if node.seq % 3 else (False,):
            at = teller._numbered(node, now, "link")
            if at is not None:
                station = node.evses[0].station
                teller.story.records.append(Link(at=at, station_row=station, time_ns=now, online=online))
        return
    starts = what == "boot"
    node.boot, node.cid = node.boot + starts, 1 if starts else node.cid + 1
    node.seq = 0 if starts else node.seq
    teller._birth(node, now)

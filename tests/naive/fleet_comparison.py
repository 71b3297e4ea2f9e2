"""Twin of `fleet_comparison`: all sessions kept, each compared with those of peers since its EVSE's last."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.batch import IN_TRANSACTION, SUSPENDED_EV, SUSPENDED_EVSE
from models.records import Transaction

from .plain import Expected, Reading, S, Story

GAP = 14_400 * S
#: Stories last an hour or two, and no two EVSEs of a site are of one type.
LAW_CONFIG: dict[str, Any] = {
    "run_length": 3.0, "least_peers": 1, "margin": 1.0, "alike": "site", "clear_rank": 0.95
}  # fmt: skip
RING = 24
METRICS = ("current_by_offer", "power_by_peak", "rise_k_per_a2", "duration_h", "without_energy")
MORE_IS_WORSE = {"rise_k_per_a2", "without_energy"}


@dataclass
class Session:
    """A session that is over."""

    row: int
    site: int
    name: tuple[str, int]
    start_ns: int
    end_ns: int
    by: Any  # the reading or message that ended it
    figures: dict[str, float]


def emissions(story: Story) -> list[Expected]:
    """Return what the detector should emit."""
    found: list[Session] = []
    ended = [
        r for r in story.records if isinstance(r, Transaction) and r.event_type == "Ended" and r.evse_row >= 0
    ]
    for readings in story.by_evse():
        row = readings[0].about.row
        events: list[tuple[int, int, int, Any]] = [(r.order, 0, r.time_ns, r) for r in readings]
        events += [(r.at.order, 1, 0, r.at) for r in ended if r.evse_row == row]
        session: list[Reading] = []
        for _, is_end, _, event in sorted(events, key=lambda e: e[:3]):
            if not is_end and not _known(event):
                continue
            inside = not is_end and event.state & IN_TRANSACTION
            if session and (not inside or event.time_ns - session[-1].time_ns > GAP):
                if session[-1].time_ns - session[0].time_ns >= 60 * S:
                    found.append(_session(story, row, session, event))
                session = []
            if inside:
                session.append(event)
    found.sort(key=lambda s: (s.by.order, s.name, s.end_ns))
    out: list[Expected] = []
    for site in {s.site for s in found}:
        _Site(out).tell([s for s in found if s.site == site])
    return out


def _session(story: Story, row: int, session: list[Reading], by: Any) -> Session:
    station, evse_id = story.evses[row]
    site, name, _ = story.stations[station]
    begin, end = session[0].time_ns, session[-1].time_ns
    return Session(row, site, (name, evse_id), begin, end, by, figures(session))


def figures(session: list[Reading]) -> dict[str, float]:
    """Return what a session is compared in; what it does not tell is left out."""
    out = {"duration_h": (session[-1].time_ns - session[0].time_ns) / (3600 * S)}
    powers = [(r.time_ns / S, w) for r in session if math.isfinite(w := _watts(r))]
    steps = [(b - a, (v + w) / 2) for (a, v), (b, w) in itertools.pairwise(powers)]
    energy, active = sum(dt * w for dt, w in steps), sum(dt for dt, w in steps if w > 100.0)
    peak = max([0.0, *(w for _, w in powers)])
    amps = [a for r in session if (a := _amps(r)) is not None]
    taken = [
        a / offer
        for r in session
        if (a := _amps(r)) is not None
        and _watts(r) > 100.0
        and not r.state & (SUSPENDED_EV | SUSPENDED_EVSE)
        and (offer := r.values.get("Current.Offered", math.nan)) >= 6.0
    ]
    if len(taken) >= 3:
        out["current_by_offer"] = sum(taken) / len(taken)
    if active >= 600.0 and peak > 100.0:
        out["power_by_peak"] = energy / (peak * active)
    square = sum(a * a for a in amps) / len(amps) if amps else 0.0
    degrees = [d for r in session if (d := r.values.get("Temperature/Cable", math.nan)) == d]
    if active >= 1800.0 and len(amps) >= 3 and square >= 25.0 and degrees:
        out["rise_k_per_a2"] = (max(degrees) - degrees[0]) / square
    if powers:
        out["without_energy"] = 1.0 if energy < 72_000.0 else 0.0
    return {name: float(np.float32(value)) for name, value in out.items()}


class _Site:
    """The sessions of one site, told one after the other."""

    def __init__(self, out: list[Expected]) -> None:
        self.out = out
        self.told: list[Session] = []
        self.since: dict[int, int] = {}  # EVSE -> number of sessions told with its own last one
        self.m: dict[tuple[int, str], float] = {}
        self.rank: dict[tuple[int, str], float] = {}
        self.run: dict[tuple[int, str], tuple[int, int]] = {}  # start, sessions
        self.raised: dict[int, tuple[str, int, bool]] = {}

    def tell(self, sessions: list[Session]) -> None:
        """Compare each session with those before it; the first EVSE's until another one's are not kept."""
        for session in sessions:
            if all(s.row == session.row for s in sessions[: sessions.index(session) + 1]):
                continue
            alone = self._compare(session)
            self.told.append(session)
            if not alone:
                self.since[session.row] = len(self.told)

    def _compare(self, s: Session) -> bool:
        fresh = self.told[max(self.since.get(s.row, 0), len(self.told) - RING) :]
        peers = [p for p in fresh if p.row != s.row]
        for name in METRICS:
            values = {
                row: [p.figures[name] for p in peers if p.row == row and name in p.figures]
                for row in {p.row for p in peers}
            }
            known = [v for v in values.values() if v]
            if name in s.figures and known:
                self._bet((s.row, name), s, known)
        self._decide(s, peers)
        return not peers

    def _bet(self, key: tuple[int, str], s: Session, known: list[list[float]]) -> None:
        sign, value = 1 if key[1] in MORE_IS_WORSE else -1, s.figures[key[1]]
        ranks = [
            statistics.fmean(1.0 if sign * v < sign * value else 0.5 if v == value else 0.0 for v in peer)
            for peer in known
        ]
        rank, m = statistics.fmean(ranks), self.m.get(key, 1.0)
        if m <= 1.0:
            self.run[key] = (s.start_ns // S * S, 0)
        self.m[key] = min(max(m, 1.0) * (1.0 + 0.8 * (2.0 * rank - 1.0)), LAW_CONFIG["run_length"] ** 2)
        self.rank[key] = self.rank.get(key, 0.5) + 0.125 * (rank - self.rank.get(key, 0.5))
        self.run[key] = (self.run[key][0], self.run[key][1] + 1)

    def _decide(self, s: Session, peers: list[Session]) -> None:
        level = LAW_CONFIG["run_length"]
        if s.row in self.raised:
            name, start, live = self.raised[s.row]
            if self.rank[s.row, name] <= LAW_CONFIG["clear_rank"]:
                self._say("clear", name, s, peers)
                del self.raised[s.row]
                self.m[s.row, name] = 1.0
            elif s.by.live and not live:
                self.raised[s.row] = (name, start, True)
                self._say("raise", name, s, peers)
            return
        m = {name: self.m.get((s.row, name), 1.0) for name in METRICS}
        worst = max(METRICS, key=lambda name: m[name])
        if m[worst] >= level * (1.0 - 1e-9):
            self.raised[s.row] = (worst, self.run[s.row, worst][0], bool(s.by.live))
            self._say("raise", worst, s, peers)

    def _say(self, kind: str, name: str, s: Session, peers: list[Session]) -> None:
        _, start, live = self.raised[s.row]
        others = [p.figures[name] for p in peers if name in p.figures]
        evidence: dict[str, Any] = {"detector": "fleet_comparison", "metric": name}
        if name in s.figures:
            evidence["value"] = s.figures[name]
        if others:
            evidence["peers_median"] = statistics.median(others)
        evidence |= {"smoothed_rank": self.rank[s.row, name], "sessions": self.run[s.row, name][1]}
        self.out.append(
            Expected(s.by.order, "unusual", "evse", s.row, kind, "info", live, start, s.end_ns, evidence)
        )


def _watts(reading: Reading) -> float:
    nan = math.nan
    whole = reading.values.get("Power.Active.Import", nan)
    phases = sum(reading.values.get(f"Power.Active.Import@L{p}", nan) for p in (1, 2, 3))
    return whole if whole == whole else phases


def _amps(reading: Reading) -> float | None:
    names = ("Current.Import", *(f"Current.Import@L{p}" for p in (1, 2, 3)))
    known = [a for name in names if (a := reading.values.get(name, math.nan)) == a]
    return max(known) if known else None


_READ = (
    *(f"{name}{p}" for name in ("Power.Active.Import", "Current.Import") for p in ("", "@L1", "@L2", "@L3")),
    *("Current.Offered", "Temperature/Cable"),
)


def _known(reading: Reading) -> bool:
    return any(math.isfinite(reading.values.get(name, math.nan)) for name in _READ)

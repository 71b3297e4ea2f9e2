"""An EVSE whose sessions are worse than those of its peers: `unusual`, by the source `statistical`.

Peers are the site's EVSEs of the same connector type, kind of current and rated current. Finished sessions
are compared in the metrics of `_fleet`: current by what was offered, power by the session's peak, rise of
the plug by the square of the current, duration, sessions without energy. Each session is ranked among the
sessions that peers finished since the EVSE's own last one, each peer with equal weight: a rank above a half
is worse than usual. So that only a difference of a size that matters counts, the session is first improved
by a margin. Ranks need no distribution, and no outlier moves them far.

The ranks v feed a sequential test: M = max(M, 1) x (1 + 0.8 (2 v - 1)), raised at M = `run_length`. As long
as an EVSE is not worse than its peers by more than the margin, the factor's mean is at most 1 whatever came
before (each session of a peer is compared once), and so the mean number of sessions until a false alarm of
one metric is at least `run_length` (e-detectors: Shin, Ramdas, Rinaldo, 2022). Multiple testing: all
metrics of all EVSEs together raise, in the mean, at most metrics x sessions / `run_length` times, however
they depend on each other: with the defaults 1 false alarm in 2000 sessions, more than an EVSE-year. It
takes 16 sessions in a row that are worse than all peers', or about 30 that mostly are.

One finding an EVSE: the metric that raised it is named. It clears when the smoothed rank in that metric is
at most `clear_rank`.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.batch import F64
from models.detecting import CLEAR, INFO, RAISE, DetectorSpec, Emissions, Observed
from models.devices import DeviceTable
from models.errors import ConfigError
from models.units import NS_PER_S

from ._base import require
from ._fleet import CHANNELS, METRICS, N_METRICS, Done, Sessions, done, warm_up
from ._pool import KnownTable
from ._roles import check_snapshot

SPEC = DetectorSpec(
    "unusual",
    "evse",
    "statistical",
    CHANNELS,
    ("detector", "metric", "value", "peers_median", "smoothed_rank", "sessions"),
    peers=True,
)

NAME: Final = "fleet_comparison"
VERSION: Final = 2

_RING: Final = 24  # sessions of a group that are remembered
_BET: Final = 0.8
_SMOOTH: Final = 0.125  # about the last eight sessions
_MOST: Final = 65_535
_WORSE: Final = tuple(METRICS.values())

#: What is kept of an EVSE once it was compared.
_FIELDS: Final[list[Any]] = [
    ("compared", "i4"),  # number of the group's last session that the EVSE was compared with
    ("log_m", "f4", (N_METRICS,)),
    ("rank", "f4", (N_METRICS,)),  # smoothed
    ("run_s", "u4", (N_METRICS,)),  # start of the session with which M last left 1
    ("sessions", "u2", (N_METRICS,)),  # compared since then
    ("since_s", "u4"),  # start of what is raised
    ("raised", "i1"),  # metric + 1, 0: nothing
    ("live", "u1"),
]
_BLANK: Final[dict[str, Any]] = {"rank": 0.5, "compared": -1}


@dataclass(frozen=True, slots=True)
class Config:
    """How `fleet_comparison` compares.

    Attributes
    ----------
    run_length : float
        Least mean number of sessions until a false alarm of one metric. Unit: sessions. Default 10000.
        Source: own choice, at five metrics and four sessions a day at most one in 16 EVSE-months.
    least_peers : int
        Peers with sessions of their own since the EVSE's last one, that it takes. Unit: EVSEs. Default 2.
        Source: own choice, one odd peer must not decide; fewer wait.
    margin : float
        Ratio that is no difference yet, of all metrics but sessions without energy. Unit: 1. Default 1.3.
        Source: own choice, places and habits differ; a fault that matters takes or adds a third.
    clear_rank : float
        Smoothed rank at which it clears. Unit: 1. Default 0.6. Source: own choice, half is like the others.
    alike : str
        ``type`` compares with the same connector type, kind of current and rated current, ``site`` with all
        of the site. Unit: word. Default type. Source: cars differ by plug.
    """

    run_length: float = 10_000.0
    least_peers: int = 2
    margin: float = 1.3
    clear_rank: float = 0.6
    alike: str = "type"

    def __post_init__(self) -> None:
        require(
            self,
            "alike",
            run_length=(2.0, 1e9),
            least_peers=(1, 1000),
            margin=(1.0, 10.0),
            clear_rank=(0.0, 0.95),
        )
        if self.alike not in {"type", "site"}:
            raise ConfigError(f"[detectors.{NAME}] alike = {self.alike!r}: expected type or site")


@dataclass(slots=True)
class _Group:
    """Sessions of EVSEs that are peers; nothing is remembered before a second one has a session."""

    only: int  # the EVSE that alone had sessions, -1 once there are more
    number: int = 0  # of the next session
    evse: Any = None  # (ring,) int32
    figures: Any = None  # (ring, N_METRICS) float32

    def open(self) -> None:
        """Begin to remember."""
        self.only, self.evse = -1, np.full(_RING, -1, np.int32)
        self.figures = np.full((_RING, N_METRICS), np.nan, np.float32)

    def since(self, number: int, but: int) -> list[tuple[int, list[float]]]:
        """Return EVSE and figures of the sessions after `number`, without those of EVSE `but`."""
        first = max(number + 1, self.number - _RING, 0)
        at = [k % _RING for k in range(first, self.number)]
        rows, figures = self.evse[at].tolist(), self.figures[at].tolist()
        return [(row, x) for row, x in zip(rows, figures, strict=True) if row != but]

    def add(self, evse: int, figures: F64) -> None:
        """Remember a session."""
        self.evse[self.number % _RING], self.figures[self.number % _RING] = evse, figures
        self.number += 1


def rank_of(value: float, peers: dict[int, list[float]], worse_is_more: bool) -> float:
    """Return the share of peers' sessions that are better, each peer with equal weight; ties count half."""
    total = 0.0
    for values in peers.values():
        below = sum(v < value for v in values)
        above = sum(v > value for v in values)
        total += 0.5 + 0.5 * (below - above if worse_is_more else above - below) / len(values)
    return total / len(peers)


class _Detector:
    """Gathers sessions in a kernel; compares them, rare as they are, in Python."""

    def __init__(self, config: Config, resume_state: dict[str, Any] | None) -> None:
        self._c = config
        self._level = math.log(config.run_length)
        self._sessions = Sessions()
        self._compared = KnownTable(_FIELDS, _BLANK)
        self._groups: dict[tuple[int, ...], _Group] = {}
        if resume_state is not None:
            check_snapshot(NAME, VERSION, resume_state)
            self._compared.load(resume_state["evses"], NAME)
            self._sessions.load(resume_state, NAME)
            for key, only, number, evse, figures in resume_state["groups"]:
                group = self._groups[tuple(key)] = _Group(only, number)
                if only < 0:
                    group.evse, group.figures = np.array(evse, np.int32), np.array(figures, np.float32)
        warm_up(self._sessions)

    def process(self, seen: Observed, out: Emissions) -> None:
        """Take in one batch and emit what changed."""
        self._sessions.index.reserve(seen.devices.n_evses)
        self._compared.reserve(seen.devices.n_evses)
        sessions = done(seen, self._sessions)
        for j in range(len(sessions.evse)):
            self._compare(sessions, j, seen.devices, out)

    def _group(self, evse: int, devices: DeviceTable) -> _Group:
        site = devices.station_site[int(devices.evse_station[evse])]
        kind: tuple[int, ...] = ()
        if self._c.alike == "type":
            amps = devices.max_a[evse]
            kind = (int(devices.conn_type[evse]), int(devices.dc[evse]), round(amps) if amps == amps else -1)
        return self._groups.setdefault((site, *kind), _Group(evse))

    def _compare(self, sessions: Done, j: int, devices: DeviceTable, out: Emissions) -> None:
        evse = int(sessions.evse[j])
        group = self._group(evse, devices)
        figures = sessions.figures[j].astype(np.float32).astype(np.float64)  # as peers' are remembered
        if group.only == evse:
            return
        rec = self._compared.hold(evse)
        if group.only >= 0:
            group.open()
        peers = group.since(int(rec["compared"]), evse)
        raised = int(rec["raised"])
        own = figures.tolist()
        for k in range(N_METRICS):
            known: dict[int, list[float]] = {}
            for row, x in peers:
                if x[k] == x[k]:
                    known.setdefault(row, []).append(x[k])
            if own[k] == own[k] and len(known) >= self._c.least_peers:
                self._bet(rec, k, own[k], known, int(sessions.start_ns[j]))
        group.add(evse, figures)
        if len({row for row, _ in peers}) >= self._c.least_peers:
            rec["compared"] = group.number - 1  # else they wait for the next one
        live = bool(sessions.live[j])
        if raised and rec["rank"][raised - 1] <= self._c.clear_rank:
            self._emit(CLEAR, raised - 1, sessions, j, peers, out)
            rec["raised"], rec["log_m"][raised - 1] = 0, 0.0
        elif raised and live and not rec["live"]:
            rec["live"] = 1
            self._emit(RAISE, raised - 1, sessions, j, peers, out)
        elif not raised and float(rec["log_m"].max()) >= self._level:
            k = int(rec["log_m"].argmax())
            rec["raised"], rec["live"], rec["since_s"] = k + 1, live, rec["run_s"][k]
            self._emit(RAISE, k, sessions, j, peers, out)

    def _bet(self, rec: Any, k: int, value: float, peers: dict[int, list[float]], start_ns: int) -> None:
        """Rank a session in metric k and multiply M by what that is worth."""
        worse_is_more = _WORSE[k]
        margin = 1.0 if k == N_METRICS - 1 else self._c.margin
        better = value / margin if worse_is_more else value * margin
        rank = rank_of(better, peers, worse_is_more)
        log_m = max(float(rec["log_m"][k]), 0.0)
        if log_m == 0.0:
            rec["run_s"][k], rec["sessions"][k] = start_ns // NS_PER_S, 0
        rec["log_m"][k] = min(log_m + math.log1p(_BET * (2.0 * rank - 1.0)), 2.0 * self._level)
        rec["rank"][k] += _SMOOTH * (rank - rec["rank"][k])
        rec["sessions"][k] = min(rec["sessions"][k] + 1, _MOST)

    def _emit(
        self, kind: int, k: int, sessions: Done, j: int, peers: list[tuple[int, list[float]]], out: Emissions
    ) -> None:
        rec = self._compared.hold(int(sessions.evse[j]))
        evidence: dict[str, Any] = {"detector": NAME, "metric": list(METRICS)[k]}
        value = float(sessions.figures[j, k])
        others = [x[k] for _, x in peers if x[k] == x[k]]
        if value == value:
            evidence["value"] = round(value, 6)
        if others:
            evidence["peers_median"] = round(statistics.median(others), 6)
        evidence["smoothed_rank"] = round(float(rec["rank"][k]), 6)
        evidence["sessions"] = int(rec["sessions"][k])
        out.add(
            SPEC,
            order=int(sessions.order[j]),
            effect_ns=int(sessions.effect_ns[j]),
            subject=int(sessions.evse[j]),
            kind=kind,
            severity=INFO,
            start_ns=int(rec["since_s"]) * NS_PER_S,
            time_ns=int(sessions.end_ns[j]),
            live=bool(rec["live"]),
            score=max(float(rec["log_m"][k]), 0.0) / self._level,
            evidence=evidence,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state as plain data, copied."""
        groups = [
            [list(key), g.only, g.number, None, None]
            if g.only >= 0
            else [list(key), g.only, g.number, g.evse.copy(), g.figures.copy()]
            for key, g in self._groups.items()
        ]
        return {
            "code": NAME,
            "version": VERSION,
            "evses": self._compared.columns(),
            "groups": groups,
            **self._sessions.columns(),
        }

    def nbytes(self) -> int:
        """Return the bytes of state held."""
        rings = [g.evse.nbytes + g.figures.nbytes for g in self._groups.values() if g.only < 0]
        return self._sessions.nbytes + self._compared.nbytes + int(sum(rings))


def build(config: Config, resume_state: dict[str, Any] | None = None) -> _Detector:
    """Return the detector, with the state of `resume_state` if given."""
    return _Detector(config, resume_state)

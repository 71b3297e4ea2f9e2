"""A fleet in which everything breaks once at every severity, and beside it everything that only looks so.

`plan` lays out a fleet, the faults in it and the harmless scenarios; `play` runs it. Every fault has its
subject for itself, with a pause before the next one there; the first part of the time is healthy
everywhere, so that what is learned from an EVSE's own past has a past.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from models.errors import ConfigError

from . import harmless
from .config import AC_CHANNELS, DC_CHANNELS, FleetConfig, NodeConfig, SiteConfig, StationConfig
from .faults import FAULTS, SEVERITIES
from .fleet import Fleet
from .messages import SimMessage, Truth
from .topology import Topology

_HOUR_MS: Final = 3_600_000
_STEP_MS: Final = 60_000
#: Stations of the sites of harmless scenarios.
HARMLESS_STATIONS: Final = 14
#: Part of the time that is healthy everywhere.
HEALTHY_SHARE: Final = 0.4
#: Between two faults of one subject, hours: longer than any rule takes to clear.
_PAUSE_H: Final = 1.0

#: How long a fault lasts, hours, where an hour is not enough: rules over half an hour or longer, and
#: what shows only in the cars that come (contact, supply) or in several of them.
LASTS_H: Final[dict[str, float]] = {
    "contact_resistance": 18.0,
    "source_impedance": 18.0,
    "conductor_aging": 8.0,
    "start_failures": 8.0,
    "register_mismatch": 2.0,
    "value_frozen": 3.0,
    "silent_derate": 2.0,
    "pilot_jitter": 2.0,
    "message_loss": 3.0,
    "weak_signal": 3.0,
    "cadence_shift": 2.0,
    "flapping": 2.0,
    "reboot_loop": 2.0,
    "residual_current_rising": 2.0,
}
#: Sites break first, EVSEs last, where they fit between.
_WIDTH: Final = {"site": 0, "node": 1, "station": 2, "evse": 3}


class Planned(NamedTuple):
    """One fault or scenario to come. Times are epoch ms; `severity` is empty for scenarios."""

    code: str
    target: str
    at_ms: int
    until_ms: int
    severity: str


@dataclass(slots=True)
class Corpus:
    """A fleet and what happens to it.

    `left_out` names (code, severity) of faults for which the fleet or the time was too small;
    `harmless_sites` are those of the scenarios.
    """

    config: FleetConfig
    seed: int
    start_ms: int
    end_ms: int
    faults: list[Planned] = field(default_factory=list)
    scenarios: list[Planned] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    harmless_sites: frozenset[str] = frozenset()
    #: Filled by `play`: what was wrong, and where each scenario happened.
    truth: list[Truth] = field(default_factory=list)
    happened: list[Truth] = field(default_factory=list)

    def evses(self, *, harmless: bool = True) -> int:
        """Return the number of EVSEs, with or without those of the harmless scenarios."""
        return sum(
            station.evses
            for site in self.config.sites
            if harmless or site.site not in self.harmless_sites
            for node in site.nodes
            for station in node.stations
        )

    def play(self) -> Iterator[list[SimMessage]]:
        """Run it; yield the messages in order of arrival, and fill `truth` at the end."""
        fleet = Fleet(self.config, self.seed, self.start_ms)
        for item in self.faults:
            fleet.inject(*item)
        self.happened = [fleet.enact(*item[:4]) for item in self.scenarios]
        for now_ms in range(self.start_ms, self.end_ms, _STEP_MS):
            yield fleet.advance(min(now_ms + _STEP_MS, self.end_ms) - 1)
        yield fleet.finish()
        self.truth = fleet.truth


# -- the fleet -----------------------------------------------------------------------------------


def _ac(name: str, rng: random.Random, evses: int, *, type1: bool = False) -> StationConfig:
    channels = tuple(c for c in AC_CHANNELS if type1 or c != "x.PP.V")
    if type1:
        channels = tuple(c for c in channels if "@L2" not in c and "@L3" not in c)
    return StationConfig(
        name,
        evses,
        phases=1 if type1 else 3,
        max_a=32.0,
        connector="IEC_62196_T1" if type1 else "",
        resolution_wh=rng.choice((1.0, 1.0, 10.0, 0.1)),
        status16=rng.random() < 0.4,
        tx_start=rng.choice(("Authorized", "CablePluggedIn")),
        channels=channels,
    )


def _dc(name: str, rng: random.Random, evses: int = 2) -> StationConfig:
    kw, max_a = rng.choice(((60, 150), (150, 400)))
    return StationConfig(
        name,
        evses,
        dc=True,
        max_a=float(max_a),
        p_max_w=kw * 1000.0,
        station_w=kw * 1000.0 * 1.4,
        status16=rng.random() < 0.4,
        channels=DC_CHANNELS,
    )


def _alone(station: StationConfig, sample_s: float) -> NodeConfig:
    return NodeConfig(station.station, (station,), sample_s=sample_s, batch_s=3 * sample_s)


def _site(site: str, stations: list[StationConfig], sample_s: float, *, gateway: bool) -> SiteConfig:
    amps = sum(station.max_a * station.evses for station in stations if not station.dc)
    nodes = (
        (NodeConfig(f"{site}-gw", tuple(stations), True, sample_s, 3 * sample_s),)
        if gateway
        else tuple(_alone(station, sample_s) for station in stations)
    )
    return SiteConfig(site, nodes, limit_a=round(0.75 * amps) if amps >= 96 else 0.0)


def sites_of(stations: int, rng: random.Random, prefix: str = "K") -> list[SiteConfig]:
    """Return sites of five stations, every third behind a gateway; of eight stations two DC, one type 1."""
    out: list[SiteConfig] = []
    left, number = stations, 0
    while left:
        site = f"{prefix}{len(out) + 1:02d}"
        made = []
        for i in range(min(left, 5)):
            name = f"{site}-{i + 1}"
            kind = number % 8
            number += 1
            made.append(
                _dc(name, rng) if kind in {2, 6} else _ac(name, rng, 1 if kind == 4 else 2, type1=kind == 4)
            )
        left -= len(made)
        gateway = len(out) % 3 == 2
        out.append(_site(site, made, 20.0 if gateway else 10.0, gateway=gateway))
    return out


def _busy(sites: tuple[SiteConfig, ...]) -> FleetConfig:
    """Return a fleet at sites where cars come often and stay half as long as at home."""
    return FleetConfig(sites, arrivals_per_day=10.0, stay_scale=0.5)


def healthy(seed: int, stations: int, hours: float, start_ms: int) -> Corpus:
    """Return a fleet like that of `plan`, in which nothing breaks."""
    config = _busy(tuple(sites_of(stations, random.Random(seed), "H")))
    return Corpus(config, seed, start_ms, start_ms + int(hours * _HOUR_MS))


def _harmless_sites(rng: random.Random) -> list[SiteConfig]:
    alone = [_ac(f"N01-{i + 1}", rng, 1) for i in range(6)] + [_dc("N01-7", rng)]
    behind = [_ac(f"N02-{i + 1}", rng, 1) for i in range(4)]
    hot = [_ac(f"N03-{i + 1}", rng, 1) for i in range(2)] + [_dc("N03-3", rng)]
    throttled = _site("N02", behind, 20.0, gateway=True)
    return [
        _site("N01", alone, 10.0, gateway=False),
        SiteConfig("N02", throttled.nodes, limit_a=96.0),
        SiteConfig("N03", _site("N03", hot, 10.0, gateway=False).nodes),
    ]


#: scenario -> target, and hours (infinite: from the beginning to the end).
_SCENES: Final[dict[str, tuple[str, float]]] = {
    "single_phase_car": ("N01-1/1", 4.0),
    "taper": ("N01-7/1", 1.5),
    "suspended_ev": ("N01-2/1", 6.0),
    "throttling": ("N02", 3.0),
    "hot_day": ("N03", math.inf),
    "backlog_replay": ("N01-3", 4.0),
    "short_backlog": ("N01-4", 2.0),
    "meter_replacement": ("N01-5/1", 3.0),
    "clean_reconnect": ("N01-6", 3.0),
}


# -- the plan ------------------------------------------------------------------------------------


class _Calendar:
    """When each EVSE is free, ms."""

    def __init__(self, topology: Topology, first_ms: int, end_ms: int) -> None:
        self.topology = topology
        self.free_ms = [first_ms] * topology.n_evses
        self.end_ms = end_ms
        self._had: set[tuple[str, str]] = set()

    def place(self, code: str, names: list[str], lasts_ms: int, pause_ms: int) -> tuple[str, int] | None:
        """Take the target that is free first of those that fit, and return it with its time, None if none."""
        best: tuple[int, str, list[int]] | None = None
        for name in names:
            rows = self._rows(code, name)
            # what shows only under current is not taken back before the next car comes: a code has other
            # subjects for its other severities
            if not rows or (code, name) in self._had:
                continue
            at = max(self.free_ms[row] for row in rows)
            if at + lasts_ms <= self.end_ms and (best is None or at < best[0]):
                best = (at, name, rows)
        if best is None:
            return None
        at, name, rows = best
        self._had.add((code, name))
        for row in rows:
            self.free_ms[row] = at + lasts_ms + pause_ms
        return name, at

    def _rows(self, code: str, name: str) -> list[int]:
        """Return the EVSE rows that a fault at `name` keeps busy, none where it does not fit."""
        target, fault = self.topology.target(name), FAULTS[code]
        rows = [int(row) for row in target.evses]
        station = self.topology.stations[self.topology.evse_station[rows[0]]]
        type1 = station.connector == "IEC_62196_T1"
        fits = fault.scope == "site" or not (
            (fault.kind != "" and (fault.kind == "dc") != station.dc)
            or (code in NOT_ON_DC and station.dc)
            or (code in THREE_PHASE and station.phases != 3)
            or (code == "proximity_out_of_range") != type1
        )
        return rows if fits else []


#: Faults of channels, or of words, that DC stations of this corpus do not have.
NOT_ON_DC: Final = frozenset({"pilot_jitter", "diode_fault", "phase_open", "proximity_out_of_range"})
#: Faults that take three phases.
THREE_PHASE: Final = frozenset({"phase_open", "voltage_unbalance"})


def _names(topology: Topology, scope: str, sites: frozenset[str]) -> list[str]:
    """Return all targets of a scope but those of `sites`."""
    if scope == "site":
        return [site.site for site in topology.sites if site.site not in sites]
    out = []
    for row, station in enumerate(topology.stations):
        node = topology.station_node[row]
        if topology.sites[topology.node_site[node]].site in sites:
            continue
        if scope == "node":
            out.append(topology.nodes[node].node)
        elif scope == "station":
            out.append(station.station)
        else:
            out += [f"{station.station}/{i + 1}" for i in range(station.evses)]
    return list(dict.fromkeys(out))


def plan(
    seed: int,
    stations: int,
    hours: float,
    start_ms: int,
    *,
    codes: Iterable[str] = (),
    severities: Iterable[str] = SEVERITIES,
    lasts: float = 1.0,
) -> Corpus:
    """Return a fleet of `stations` stations in which the faults of `codes` (none = all) break for `hours`.

    `lasts` scales how long faults last. With at least 24 stations, `HARMLESS_STATIONS` of them play the
    harmless scenarios; a smaller fleet has none.

    Raises
    ------
    ConfigError
        If a code is not known, or the fleet is smaller than 2 stations or an hour.
    """
    if stations < 2 or hours < 1:
        raise ConfigError(f"fault corpus: {stations} stations for {hours} h, expected at least 2 and 1 h")
    wanted = sorted(codes) or sorted(FAULTS)
    for code in wanted:
        if code not in FAULTS:
            raise ConfigError(f"fault corpus: no fault {code!r}; there are {', '.join(sorted(FAULTS))}")
    rng = random.Random(seed)
    quiet = stations >= HARMLESS_STATIONS + 10
    sites = sites_of(stations - (HARMLESS_STATIONS if quiet else 0), rng)
    silent = _harmless_sites(rng) if quiet else []
    config = _busy((*sites, *silent))
    end_ms = start_ms + int(hours * _HOUR_MS)
    out = Corpus(config, seed, start_ms, end_ms, harmless_sites=frozenset(s.site for s in silent))
    topology = Topology(config, random.Random(0))
    first_ms = start_ms + int(HEALTHY_SHARE * hours * _HOUR_MS)
    _place_faults(out, topology, first_ms, [(c, s) for s in severities for c in wanted], lasts, rng)
    for name, (target, lasts_h) in _SCENES.items() if quiet else ():
        at = first_ms + rng.randrange(_HOUR_MS) if math.isfinite(lasts_h) else start_ms
        until = int(min(end_ms - _STEP_MS, at + lasts_h * _HOUR_MS))
        if until > at + _HOUR_MS // 2:
            out.scenarios.append(Planned(name, target, at, until, ""))
            harmless.find(name)
    return out


def _place_faults(
    out: Corpus,
    topology: Topology,
    first_ms: int,
    wanted: list[tuple[str, str]],
    lasts: float,
    rng: random.Random,
) -> None:
    calendar = _Calendar(topology, first_ms, out.end_ms - _HOUR_MS // 4)
    names = {scope: _names(topology, scope, out.harmless_sites) for scope in _WIDTH}

    def order(item: tuple[str, str]) -> tuple[int, float, int]:
        code, severity = item
        return _WIDTH[FAULTS[code].scope], -LASTS_H.get(code, 1.0), SEVERITIES.index(severity)

    for code, severity in sorted(wanted, key=order):
        scope = FAULTS[code].scope
        here = names[scope][:]
        rng.shuffle(here)
        lasts_ms = int(LASTS_H.get(code, 1.0) * lasts * _HOUR_MS)
        placed = calendar.place(code, here, lasts_ms, int(_PAUSE_H * lasts * _HOUR_MS))
        if placed is None:
            out.left_out.append((code, severity))
            continue
        target, at = placed
        at += rng.randrange(_STEP_MS)
        out.faults.append(Planned(code, target, at, at + lasts_ms, severity))
    out.faults.sort(key=lambda item: (item.at_ms, item.target, item.code))

"""Ready-made fleets: for demonstrations, for tests, and for benchmarks."""

from __future__ import annotations

import random
from typing import Final

from models.errors import ConfigError

from .config import (
    AC_CHANNELS,
    DC_CHANNELS,
    FleetConfig,
    NodeConfig,
    SiteConfig,
    StationConfig,
    TransportConfig,
)

_SLOW_AC: Final = ("x.Residual.DC", "x.Residual.AC", "Temperature/Body", "x.Supply12V", "x.RSSI", "Frequency")
_TOWNS: Final = ("AX", "BO", "CU", "DE", "EL", "FU", "GA", "HU", "IM", "JU", "KO", "LA")


def _ac(
    rng: random.Random, name: str, evses: int, *, max_a: float = 32.0, phases: int = 3, slow_every: int = 1
) -> StationConfig:
    channels = tuple(
        c for c in AC_CHANNELS if c != "x.PP.V" and (c != "Temperature/Outlet" or rng.random() < 0.5)
    )
    if phases == 1:
        channels = tuple(c for c in channels if "@L2" not in c and "@L3" not in c)
    return StationConfig(
        name,
        evses,
        phases=phases,
        max_a=max_a,
        resolution_wh=rng.choice((1.0, 1.0, 10.0, 0.1)),
        modulus_wh=0.0 if rng.random() < 0.9 else 100_000_000.0,
        status16=rng.random() < 0.4,
        tx_start=rng.choice(("Authorized", "CablePluggedIn")),
        channels=channels,
        slow_channels=_SLOW_AC if slow_every > 1 else (),
        slow_every=slow_every,
    )


def _dc(rng: random.Random, name: str, evses: int = 2) -> StationConfig:
    kw, max_a = rng.choice(((60, 150), (150, 400), (300, 500)))
    return StationConfig(
        name,
        evses,
        dc=True,
        max_a=float(max_a),
        p_max_w=kw * 1000.0,
        station_w=kw * 1000.0 * (1.0 if evses == 1 else 1.4),
        status16=rng.random() < 0.4,
        tx_start=rng.choice(("Authorized", "CablePluggedIn")),
        channels=DC_CHANNELS,
    )


def _alone(
    rng: random.Random, station: StationConfig, sample_s: float, batch_s: float, hb_s: float
) -> NodeConfig:
    vendor = rng.choice(("Elbe", "Voltaro", "Nordlade"))
    kind = f"DC{station.p_max_w / 1000:.0f}" if station.dc else f"AC{station.evse_w / 1000:.0f}"
    version = f"{rng.randrange(1, 5)}.{rng.randrange(10)}.{rng.randrange(10)}"
    return NodeConfig(
        station.station,
        (station,),
        sample_s=sample_s,
        batch_s=batch_s,
        hb_s=hb_s,
        vendor=vendor,
        model=f"{vendor[0]}-{kind}",
        fw=version,
    )


def _gateway(
    rng: random.Random,
    name: str,
    stations: tuple[StationConfig, ...],
    sample_s: float,
    batch_s: float,
    hb_s: float,
) -> NodeConfig:
    version = f"3.{rng.randrange(6)}.{rng.randrange(10)}"
    return NodeConfig(name, stations, True, sample_s, batch_s, hb_s, "Gridlink", "EdgeGW-2", version)


def demo_fleet(seed: int = 1) -> FleetConfig:
    """Return 60 EVSEs at six sites, AC and DC, gateways and stand-alone, busy, with samples every 1 to 5 s.

    Stations are named ``<site>-01`` and so on; ``AX01-01`` to ``AX01-08`` are stand-alone AC stations of
    two EVSEs with one-second samples, ``CU01-01`` to ``CU01-03`` stand-alone DC stations.
    """
    rng = random.Random(seed)
    sites: list[SiteConfig] = []

    def names(site: str, n: int) -> list[str]:
        return [f"{site}-{i + 1:02d}" for i in range(n)]

    alone = [_alone(rng, _ac(rng, name, 2), 1.0, 2.0, 30.0) for name in names("AX01", 8)]
    sites.append(SiteConfig("AX01", tuple(alone), limit_a=250.0))
    behind = tuple(_ac(rng, name, 2) for name in names("BO01", 6))
    sites.append(SiteConfig("BO01", (_gateway(rng, "BO01-gw", behind, 2.0, 4.0, 30.0),), limit_a=180.0))
    fast = [_alone(rng, _dc(rng, name), 1.0, 2.0, 30.0) for name in names("CU01", 3)]
    sites.append(SiteConfig("CU01", tuple(fast)))
    mixed_ac = tuple(_ac(rng, name, 1, max_a=16.0) for name in names("DE01", 8))
    mixed_dc = _alone(rng, _dc(rng, "DE01-09"), 2.0, 2.0, 30.0)
    gateway = _gateway(rng, "DE01-gw", mixed_ac, 5.0, 5.0, 60.0)
    sites.append(SiteConfig("DE01", (gateway, mixed_dc), limit_a=100.0))
    homes = [
        _alone(rng, _ac(rng, name, 1, phases=p), 5.0, 5.0, 60.0)
        for name, p in zip(names("EL01", 6), (3, 3, 1, 3, 3, 3), strict=True)
    ]
    sites.append(SiteConfig("EL01", tuple(homes), limit_a=120.0))
    depot = tuple(_ac(rng, name, 2, slow_every=5) for name in names("FU01", 4))
    hub = _alone(rng, _dc(rng, "FU01-05"), 1.0, 2.0, 30.0)
    sites.append(SiteConfig("FU01", (_gateway(rng, "FU01-gw", depot, 1.0, 5.0, 30.0), hub), limit_a=160.0))
    return FleetConfig(tuple(sites), arrivals_per_day=8.0, busy_at_start=0.7)


def mixed_fleet(
    stations: int,
    seed: int = 1,
    *,
    evses: int = 0,
    sample_s: float = 10.0,
    batch_s: float = 30.0,
    hb_s: float = 120.0,
    arrivals_per_day: float = 4.0,
    transport: TransportConfig | None = None,
) -> FleetConfig:
    """Return a fleet of `stations` at sites of up to six: a quarter DC, half of the sites behind a gateway.

    `evses` is the number of EVSEs a station, 0 = one or two (DC: two).
    """
    if not 1 <= stations <= 1_000_000:
        raise ConfigError(f"simulator: {stations} stations, expected 1 to 1000000")
    rng = random.Random(seed)
    sites: list[SiteConfig] = []
    left = stations
    while left:
        site = f"{_TOWNS[len(sites) % len(_TOWNS)]}{len(sites) // len(_TOWNS) + 1:02d}"
        count = min(left, rng.randrange(3, 7))
        left -= count
        # the first two sites of a fleet have one kind each, so that a small fleet has both
        gateway = len(sites) % 2 == 1
        made = [
            _dc(rng, f"{site}-{i + 1:02d}", evses or 2)
            if i % 4 == 2
            else _ac(rng, f"{site}-{i + 1:02d}", evses or rng.choice((1, 2)), max_a=rng.choice((16.0, 32.0)))
            for i in range(count)
        ]
        if gateway:
            nodes: tuple[NodeConfig, ...] = (
                _gateway(rng, f"{site}-gw", tuple(made), sample_s, batch_s, hb_s),
            )
        else:
            nodes = tuple(_alone(rng, station, sample_s, batch_s, hb_s) for station in made)
        amps = sum(station.max_a * station.evses for station in made if not station.dc)
        limit = 0.0 if amps < 64 else round(0.75 * amps)
        sites.append(SiteConfig(site, nodes, limit_a=limit))
    return FleetConfig(
        tuple(sites),
        arrivals_per_day=arrivals_per_day,
        transport=transport or TransportConfig(),
    )


def bench_fleet(
    evses: int,
    *,
    rows: int = 60,
    channels: int = 10,
    sample_s: float = 1.0,
    transport: TransportConfig | None = None,
) -> FleetConfig:
    """Return stand-alone AC stations of one EVSE that send `rows` rows of `channels` channels per message.

    Ten stations make a site. The network is perfect unless `transport` says otherwise.
    """
    if not 1 <= channels <= len(AC_CHANNELS):
        raise ConfigError(f"simulator: {channels} channels, expected 1 to {len(AC_CHANNELS)}")
    if not 1 <= rows <= 1000:
        raise ConfigError(f"simulator: {rows} rows a message, expected 1 to 1000")
    names = AC_CHANNELS[:channels]
    sites: list[SiteConfig] = []
    for first in range(0, evses, 10):
        site = f"B{first // 10:05d}"
        nodes = tuple(
            NodeConfig(
                f"{site}-{i:02d}",
                (StationConfig(f"{site}-{i:02d}", channels=names),),
                sample_s=sample_s,
                batch_s=rows * sample_s,
                hb_s=300.0,
            )
            for i in range(min(10, evses - first))
        )
        sites.append(SiteConfig(site, nodes))
    return FleetConfig(
        tuple(sites),
        arrivals_per_day=12.0,
        busy_at_start=0.5,
        transport=transport or TransportConfig.perfect(),
    )

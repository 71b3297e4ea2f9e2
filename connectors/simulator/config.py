"""What a simulated fleet consists of. Every value has its unit in the name and is checked on construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from models.devices import CONNECTOR_TYPES
from models.errors import ConfigError

#: What an AC station with all sensors measures; the first ten are the bench's ten channels.
AC_CHANNELS: Final[tuple[str, ...]] = (
    "Energy.Active.Import.Register",
    "Power.Active.Import",
    "Voltage@L1-N",
    "Voltage@L2-N",
    "Voltage@L3-N",
    "Current.Import@L1",
    "Current.Import@L2",
    "Current.Import@L3",
    "Current.Offered",
    "Temperature/Cable",
    "x.CP.V",
    "x.CP.Low.V",
    "x.Residual.DC",
    "x.Residual.AC",
    "Frequency",
    "Temperature/Body",
    "x.Supply12V",
    "x.RSSI",
    "Temperature/Outlet",
    "Power.Factor",
    "x.Contactor.Cycles",
    "x.PP.V",
)

#: What a DC station with all sensors measures.
DC_CHANNELS: Final[tuple[str, ...]] = (
    "Energy.Active.Import.Register",
    "Power.Active.Import",
    "Voltage",
    "Current.Import",
    "Current.Offered",
    "Temperature/Cable",
    "SoC",
    "Voltage@L1-N/Inlet",
    "Voltage@L2-N/Inlet",
    "Voltage@L3-N/Inlet",
    "Temperature/Outlet",
    "x.Output.V",
    "Voltage/EV",
    "x.Isolation.R",
    "x.Isolation.C",
    "x.CP.V",
    "Frequency",
    "Temperature/Body",
    "x.Supply12V",
    "x.RSSI",
    "x.Contactor.Cycles",
)


def _check(ok: bool, where: str, what: str, came: object, expected: str) -> None:
    if not ok:
        raise ConfigError(f"simulator: {where}: {what} is {came!r}, expected {expected}")


@dataclass(frozen=True, slots=True)
class StationConfig:
    """One charging station.

    Attributes
    ----------
    station : str
        Identity, unique in its site.
    evses : int
        1 to 8.
    dc : bool
    phases : int
        1 or 3 supply phases.
    max_a : float
        Rated current of a connector, A (AC: per phase; DC: output).
    p_max_w : float
        Rated power of one EVSE, W; 0 = from `max_a` (AC only).
    station_w : float
        Power that the EVSEs of a DC station share, W; 0 = `p_max_w` each.
    connector : str
        OCPI ConnectorType; empty = type 2, combo for DC.
    resolution_wh : float
        Step of the register, Wh.
    modulus_wh : float
        The register rolls over here, Wh; 0 = never.
    status16 : bool
        Also sends OCPP 1.6 status names.
    tx_start : str
        What starts a transaction: ``Authorized`` or ``CablePluggedIn``.
    channels : tuple of str
        What is measured, in this order; empty = all of its kind.
    slow_channels : tuple of str
        Channels out of `channels` that are sent only with every `slow_every`-th sample.
    slow_every : int
    """

    station: str
    evses: int = 1
    dc: bool = False
    phases: int = 3
    max_a: float = 32.0
    p_max_w: float = 0.0
    station_w: float = 0.0
    connector: str = ""
    resolution_wh: float = 1.0
    modulus_wh: float = 0.0
    status16: bool = False
    tx_start: str = "Authorized"
    channels: tuple[str, ...] = ()
    slow_channels: tuple[str, ...] = ()
    slow_every: int = 1

    def __post_init__(self) -> None:
        where = f"station {self.station!r}"
        known = DC_CHANNELS if self.dc else AC_CHANNELS
        _check(
            bool(self.station) and not set(self.station) & set("/+#"), where, "name", self.station, "a name"
        )
        _check(1 <= self.evses <= 8, where, "evses", self.evses, "1 to 8")
        _check(self.phases in {1, 3}, where, "phases", self.phases, "1 or 3")
        _check(6 <= self.max_a <= 3000, where, "max_a", self.max_a, "6 to 3000 A")
        _check(
            not self.dc or self.p_max_w > 0, where, "p_max_w", self.p_max_w, "the rated power of a DC EVSE"
        )
        _check(self.resolution_wh >= 0.001, where, "resolution_wh", self.resolution_wh, "at least 0.001 Wh")
        _check(self.slow_every >= 1, where, "slow_every", self.slow_every, "at least 1")
        _check(self.connector in CONNECTOR_TYPES, where, "connector", self.connector, "an OCPI ConnectorType")
        _check(
            self.tx_start in {"Authorized", "CablePluggedIn"},
            where,
            "tx_start",
            self.tx_start,
            "Authorized or CablePluggedIn",
        )
        unknown = [name for name in (*self.channels, *self.slow_channels) if name not in known]
        _check(not unknown, where, "channels", unknown, f"channels out of {', '.join(known)}")

    @property
    def fast(self) -> tuple[str, ...]:
        """Channels of every sample."""
        every = self.channels or (DC_CHANNELS if self.dc else AC_CHANNELS)
        return tuple(name for name in every if name not in self.slow_channels)

    @property
    def connector_type(self) -> str:
        """The OCPI connector type."""
        return self.connector or ("IEC_62196_T2_COMBO" if self.dc else "IEC_62196_T2")

    @property
    def evse_w(self) -> float:
        """Rated power of one EVSE, W."""
        return self.p_max_w or self.phases * 230.0 * self.max_a


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One MQTT client: a gateway, or (`gateway` false) one station named like the node."""

    node: str
    stations: tuple[StationConfig, ...]
    gateway: bool = False
    sample_s: float = 10.0
    batch_s: float = 10.0
    hb_s: float = 120.0
    vendor: str = "Elbe"
    model: str = "E-AC22"
    fw: str = "2.8.1"

    def __post_init__(self) -> None:
        where = f"node {self.node!r}"
        _check(bool(self.node) and not set(self.node) & set("/+#"), where, "name", self.node, "a name")
        _check(bool(self.stations), where, "stations", self.stations, "at least one station")
        _check(
            self.gateway or (len(self.stations) == 1 and self.stations[0].station == self.node),
            where,
            "stations",
            [s.station for s in self.stations],
            "one station named like the node, or gateway = True",
        )
        _check(0.1 <= self.sample_s <= 3600, where, "sample_s", self.sample_s, "0.1 to 3600 s")
        _check(self.batch_s >= self.sample_s, where, "batch_s", self.batch_s, "at least sample_s")
        _check(self.batch_s / self.sample_s <= 1000, where, "batch_s", self.batch_s, "at most 1000 samples")
        _check(1 <= self.hb_s <= 86400, where, "hb_s", self.hb_s, "1 to 86400 s")


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """One site: nodes behind a common feeder.

    `limit_a` is what load management may hand to the AC EVSEs, A per phase (0 = no limit);
    `feeder_ohm` the impedance per phase in ohm (0 = 7 V of sag at full load).
    """

    site: str
    nodes: tuple[NodeConfig, ...]
    limit_a: float = 0.0
    feeder_ohm: float = 0.0

    def __post_init__(self) -> None:
        where = f"site {self.site!r}"
        good = bool(self.site) and not self.site.startswith("_") and not set(self.site) & set("/+#")
        _check(good, where, "name", self.site, "a name without leading underscore")
        _check(self.limit_a == 0 or self.limit_a >= 6, where, "limit_a", self.limit_a, "0 or at least 6 A")
        _check(self.feeder_ohm >= 0, where, "feeder_ohm", self.feeder_ohm, "at least 0 ohm")


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """What the network does to messages.

    Attributes
    ----------
    latency_ms : float
        Median delay, ms; single messages take up to ten times as long.
    duplicate_share, reorder_share : float
        Share of QoS 1 messages that come twice, or after their successor.
    reconnects_per_day, stalls_per_day : float
        Clean reconnects of a node; stalls of up to `stall_max_s`, too short for the broker to notice,
        after which the backlog drains in order.
    skew_max_ms : float
        Station clocks are wrong by up to this, ms.
    keep_alive_s : float
        The broker publishes the will after 1.5 of it.
    backlog_max : int
        Messages a node keeps while it has no connection; beyond it the oldest are lost.
    drain_per_s : float
        Pace at which a backlog drains, messages per second.
    """

    latency_ms: float = 80.0
    duplicate_share: float = 0.002
    reorder_share: float = 0.002
    reconnects_per_day: float = 0.5
    stalls_per_day: float = 2.0
    stall_max_s: float = 45.0
    skew_max_ms: float = 1000.0
    keep_alive_s: float = 60.0
    backlog_max: int = 20_000
    drain_per_s: float = 50.0

    def __post_init__(self) -> None:
        for name in ("duplicate_share", "reorder_share"):
            share = getattr(self, name)
            _check(0 <= share <= 0.5, "transport", name, share, "0 to 0.5")
        for name in ("latency_ms", "reconnects_per_day", "stalls_per_day", "stall_max_s", "skew_max_ms"):
            value = getattr(self, name)
            _check(value >= 0, "transport", name, value, "at least 0")
        _check(self.keep_alive_s > 0, "transport", "keep_alive_s", self.keep_alive_s, "more than 0 s")
        _check(self.backlog_max > 0, "transport", "backlog_max", self.backlog_max, "at least 1 message")
        _check(self.drain_per_s > 0, "transport", "drain_per_s", self.drain_per_s, "more than 0 per second")

    @classmethod
    def perfect(cls) -> TransportConfig:
        """Return a network without any effect but a constant delay of 20 ms."""
        return cls(20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """A whole fleet.

    Attributes
    ----------
    sites : tuple of SiteConfig
    arrivals_per_day : float
        Cars a day and EVSE, on average.
    busy_at_start : float
        Share of EVSEs where a car plugs in during the first two minutes.
    stay_scale : float
        Stretches (above 1) or shortens the time cars stay.
    tx_periodic_s : float
        Time between periodic transaction updates, s.
    ambient_c, ambient_swing_c : float
        Mean and amplitude of the outdoor temperature over the day, °C.
    step_s : float
        Longest step of the physics, s: cars come, and powers change, on its grid.
    transport : TransportConfig
    """

    sites: tuple[SiteConfig, ...]
    arrivals_per_day: float = 3.0
    busy_at_start: float = 0.3
    stay_scale: float = 1.0
    tx_periodic_s: float = 900.0
    ambient_c: float = 14.0
    ambient_swing_c: float = 6.0
    step_s: float = 10.0
    transport: TransportConfig = field(default_factory=TransportConfig)

    def __post_init__(self) -> None:
        _check(bool(self.sites), "fleet", "sites", self.sites, "at least one site")
        _check(
            0 < self.arrivals_per_day <= 200, "fleet", "arrivals_per_day", self.arrivals_per_day, "0 to 200"
        )
        _check(0 <= self.busy_at_start <= 1, "fleet", "busy_at_start", self.busy_at_start, "0 to 1")
        _check(0.01 <= self.stay_scale <= 100, "fleet", "stay_scale", self.stay_scale, "0.01 to 100")
        _check(0.1 <= self.step_s <= 60, "fleet", "step_s", self.step_s, "0.1 to 60 s")
        _check(self.tx_periodic_s >= 10, "fleet", "tx_periodic_s", self.tx_periodic_s, "at least 10 s")
        for names in (
            [site.site for site in self.sites],
            [node.node for site in self.sites for node in site.nodes],
            [s.station for site in self.sites for node in site.nodes for s in node.stations],
        ):
            twice = sorted({name for name in names if names.count(name) > 1}) if len(names) < 2000 else []
            _check(len(set(names)) == len(names), "fleet", "names", twice, "every name once")

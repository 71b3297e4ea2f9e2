"""A simulated charging fleet: physics, sessions, transport effects and faults, the same for the same seed.

`Fleet` makes the messages and knows neither network nor clock; `live` publishes them over MQTT;
`fleets` holds ready-made configurations. The rooms inside:

config      what a fleet consists of        topology  names to row numbers
plant       electrical and thermal physics  sessions  cars come, charge and leave
sampling    what the meters show            wire      payloads, sequence numbers, births, batches
transport   delay, duplicates, outages      faults    what can be broken on purpose
"""

from .config import FleetConfig, NodeConfig, SiteConfig, StationConfig, TransportConfig
from .fleet import Fleet
from .fleets import bench_fleet, demo_fleet, mixed_fleet
from .messages import SimMessage, Truth

__all__ = [
    "Fleet",
    "FleetConfig",
    "NodeConfig",
    "SimMessage",
    "SiteConfig",
    "StationConfig",
    "TransportConfig",
    "Truth",
    "bench_fleet",
    "demo_fleet",
    "mixed_fleet",
]

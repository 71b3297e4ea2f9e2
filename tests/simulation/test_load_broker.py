"""Load management over a real broker: stations obey, the limit holds, without control they fall back.

The service runs as processes; six simulated stations with vehicles get their limits as messages. When the
worker that decides is killed, limits run out at the stations by themselves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.simulator import Fleet, FleetConfig, NodeConfig, SiteConfig, StationConfig
from connectors.simulator.live import LiveOptions, run_live
from connectors.simulator.manners import Manners
from connectors.simulator.obeying import Obeying
from connectors.simulator.publisher import Broker
from connectors.status import read_status
from tests.servers.ingesting import wait_for
from tests.servers.service import Service

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Vehicles are let in and authorised, and charge, after this.
HISTORY_MS = 240_000
STATIONS, LIMIT_A, FALLBACK_A, VALID_S = 6, 60.0, 6.0, 15.0
LOAD = {
    "site": "depot",
    "limit_a": LIMIT_A,
    "interval_s": 1.0,
    "reaction_s": 2.0,
    "valid_s": VALID_S,
    "renew_s": 7.0,
    "ramp_a_per_s": 10.0,
    "stations": [{"station": f"s{i}", "fallback_a": FALLBACK_A} for i in range(STATIONS)],
}


class Watched:
    """A fleet whose vehicles charge already, and the fullest phase of its site since somebody looked."""

    def __init__(self, service: Service) -> None:
        nodes = tuple(
            NodeConfig(f"s{i}", (StationConfig(f"s{i}", 1),), sample_s=2.0, batch_s=2.0)
            for i in range(STATIONS)
        )
        config = FleetConfig(
            sites=(SiteConfig(site="depot", nodes=nodes),),
            busy_at_start=1.0,
            stay_scale=20.0,
            tx_periodic_s=10.0,
        )
        self.fleet = Fleet(config, 3, time.time_ns() // 1_000_000 - HISTORY_MS)
        for _ in self.fleet.advance(self.fleet.start_ms + HISTORY_MS):
            pass  # nobody heard it; what runs is told with the births
        for node in range(STATIONS):
            self.fleet.reconnect(node)
        self.obeying = Obeying(self.fleet, Manners(), 1)
        self.service = service
        self.most_a = 0.0

    def offered_a(self) -> list[float]:
        """Return what each station offers its vehicle now, A per phase."""
        return [round(float(amps), 1) for amps in self.fleet.plant.offered_a]

    def site_a(self) -> float:
        """Return the fullest phase of the site."""
        return float(self.fleet.plant.i_a.sum(axis=1).max())

    def await_fallbacks(self, timeout_s: float) -> None:
        """Wait until each station was at its fallback; the first may have more before the last."""
        missing = set(range(STATIONS))

        def reached() -> bool:
            missing.difference_update(i for i, a in enumerate(self.offered_a()) if a == FALLBACK_A)
            return not missing

        wait_for(reached, f"{FALLBACK_A} A at each", timeout_s)

    def await_limits(self, most_a: float, least_a: float, timeout_s: float) -> None:
        """Wait until every station offers something between these; note the fullest phase meanwhile."""

        def reached() -> bool:
            self.most_a = max(self.most_a, self.site_a())
            return all(least_a <= amps <= most_a for amps in self.offered_a())

        wait_for(reached, f"{least_a} to {most_a} A at each", timeout_s)


@contextmanager
def running(watched: Watched) -> Iterator[None]:
    stop = threading.Event()
    watched.fleet.start_ms = time.time_ns() // 1_000_000
    address = Broker("127.0.0.1", watched.service.broker.port)
    options = LiveOptions(per_node=False)
    arguments = (watched.fleet, address, options, stop, watched.obeying)
    thread = threading.Thread(target=run_live, args=arguments)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def test_stations_keep_the_limit_and_fall_back_when_the_worker_is_killed(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "load": {"sites": [LOAD]},
        "flow": {"epoch_s": 0.5, "workers": 1},
        "journal": {"shards": 1, "min_free_mib": 1},
        "service": {"restart_min_s": 30.0, "restart_max_s": 30.0},
    }
    with Service(tmp_path, settings) as service:
        watched = Watched(service)
        with running(watched):
            # from unlimited to the fallback, as nothing more is sure, and then to a share of the connection
            assert watched.site_a() > LIMIT_A
            watched.await_fallbacks(45)
            watched.most_a = 0.0
            watched.await_limits(LIMIT_A, LIMIT_A / STATIONS - 1.5, 45)
            os.kill(read_status(service.data, "worker-00")["pid"], signal.SIGKILL)
            killed = time.monotonic()
            watched.await_limits(FALLBACK_A, FALLBACK_A, VALID_S + 5)
            assert time.monotonic() - killed <= VALID_S + 3
            assert watched.most_a <= LIMIT_A + 0.5
            assert watched.site_a() <= STATIONS * FALLBACK_A

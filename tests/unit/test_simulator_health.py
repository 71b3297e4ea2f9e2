"""A healthy day stays inside every threshold of the findings catalogue, and is no flat line either."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from connectors.simulator import Fleet, mixed_fleet

from .simulated import START_MS
from .simulated_rules import Log, node_raised, raised

HOURS = 24


@pytest.fixture(scope="module")
def day() -> Log:
    fleet = Fleet(mixed_fleet(9, 6, sample_s=20, batch_s=60, arrivals_per_day=5), 4, START_MS)
    return Log(fleet, fleet.advance(START_MS + HOURS * 3_600_000) + fleet.finish())


def test_no_channel_rule_is_broken(day: Log) -> None:
    topology = day.fleet.topology
    assert len(day.readings) == topology.n_evses >= 12
    for evse, row in enumerate(topology.evse_station):
        station = topology.stations[row]
        rows = day.of(station.station, topology.evse_number[evse])
        assert raised(rows, dc=station.dc, sample_s=20) == set(), (
            station.station,
            topology.evse_number[evse],
        )
        assert np.median(np.diff(rows["t"])) == pytest.approx(20_000, abs=50)


def test_no_communication_rule_is_broken(day: Log) -> None:
    for node in range(len(day.fleet.topology.nodes)):
        assert node_raised(day, node) == set()
    assert day.fleet.transport.dropped == 0
    assert day.fleet.truth == []


def test_contacts_of_a_kind_are_alike(day: Log) -> None:
    """Plugs warm up by I² within a factor of 1.8, as the contact rule expects of healthy siblings."""
    plant = day.fleet.plant
    relative = plant.k_per_a2 * plant.max_a**2
    for kind in (True, False):
        part = relative[plant.dc == kind]
        assert part.max() / part.min() < 1.8


def test_the_day_is_a_lively_one(day: Log) -> None:
    by_code: dict[str, int] = defaultdict(int)
    for _, item in day.tx:
        by_code[item.state] += 1
        by_code[item.event_type] += 1
    assert by_code["Ended"] > 20
    assert by_code["SuspendedEV"] > 3
    hot = [float(np.nanmax(rows["Temperature/Cable"])) for rows in day.readings.values()]
    assert max(hot) > 28
    swing = [float(np.ptp(rows["Temperature/Body"])) for rows in day.readings.values()]
    assert min(swing) > 6
    kinds = {
        tuple(p > 0.5 for p in _phases(rows)) for rows in day.readings.values() if "Voltage@L2-N" in rows
    }
    assert kinds
    energies = day.fleet.plant.energy_mwh / 1e6
    assert 20 < energies.sum() < 3000


def _phases(rows: dict[str, np.ndarray]) -> list[float]:
    return [float(np.nanmax(rows[f"Current.Import@{p}"])) for p in ("L1", "L2", "L3")]

"""A power event of a simulated site is one finding with what its stations show recorded under it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.simulator import FleetConfig, NodeConfig, SiteConfig, StationConfig, TransportConfig
from models import plugins
from models.faults import PARENTS
from models.outputs import FindingChange
from pipeline.config import Config
from pipeline.config_sections import JournalSection
from pipeline.detect import DetectConfig
from pipeline.flow import Stages

from .chain import T0_MS, fleet_messages, run_all, sharded

CONFIG = Config(journal=JournalSection(shards=1))
#: Only what has to do with it: a chain compiles what it loads.
DETECTORS = {
    code: plugins.load("models.detectors", code).Config()
    for code in (
        "site_power_event",
        "under_voltage",
        "voltage_dip",
        "voltage_unbalance",
        "offline",
        "flapping",
    )
}
CHILDREN = {child for child, parents in PARENTS.items() if "site_power_event" in parents}


def _changes(code: str, target: str, *, sample_s: float, batch_s: float) -> list[FindingChange]:
    """Return what changes at a site of four stations of their own, faulty from 300 s to 900 s."""
    nodes = tuple(
        NodeConfig(f"N{k}", (StationConfig(f"N{k}", 2),), sample_s=sample_s, batch_s=batch_s, hb_s=60)
        for k in range(4)
    )
    fleet = FleetConfig(
        (SiteConfig("S1", nodes, limit_a=128.0),),
        arrivals_per_day=4,
        busy_at_start=0.5,
        transport=TransportConfig.perfect(),
    )
    messages = fleet_messages(fleet, 5, 0.5, [(code, target, 300.0, 900.0)])
    stages = replace(Stages.of(CONFIG, None), detect=DetectConfig(DETECTORS))
    out = run_all(stages, sharded(CONFIG, messages))
    return sorted(out.findings.values(), key=lambda c: (c.order, c.change))


@pytest.mark.parametrize(("sample_s", "batch_s"), [(1.0, 30.0), (5.0, 10.0), (60.0, 60.0)])
def test_one_finding_with_its_children(sample_s: float, batch_s: float) -> None:
    changes = _changes("site_power_event", "S1", sample_s=sample_s, batch_s=batch_s)
    parents = [c for c in changes if c.code == "site_power_event"]
    assert [(c.state, c.scope, c.severity) for c in parents] == [
        ("raised", "site", "critical"),
        ("cleared", "site", "critical"),
    ]
    assert abs(parents[0].start - (T0_MS + 300_000)) <= 1000 * sample_s
    last = {c.finding_id: c for c in changes if c.code in CHILDREN}
    assert {c.code for c in last.values()} >= {"under_voltage"}
    assert len([c for c in last.values() if c.code == "under_voltage"]) == 8
    assert {c.parent for c in last.values()} == {parents[0].finding_id}


def test_a_fault_of_one_station_is_no_power_event() -> None:
    changes = _changes("under_voltage", "N1/1", sample_s=5.0, batch_s=10.0)
    assert "site_power_event" not in {c.code for c in changes}
    assert [c.parent for c in changes if c.code == "under_voltage"] == [None, None]

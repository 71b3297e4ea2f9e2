"""fleet_comparison: raise, clear, what must not raise, the bound on false alarms, and its ranks."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from models.batch import CHARGING, IN_TRANSACTION, STATE_KNOWN
from models.detecting import Emission, Emissions, Observed
from models.detectors import _fleet
from models.detectors import fleet_comparison as plugin
from models.devices import DeviceTable
from models.errors import ConfigError
from tests.laws.streams import batches
from tests.naive.plain import Evse, Message, Reading, S, Story
from tests.unit.detector_tape import START_NS

INSIDE = STATE_KNOWN | IN_TRANSACTION | CHARGING
HOUR = 3600.0


@dataclass
class Car:
    """One session at a plug."""

    hours: float = 1.0
    amps: float = 16.0
    offered: float = 16.0
    power_share: float = 1.0  # in the second half
    rise_c: float = 20.0


def site(n: int, **about: Any) -> Story:
    """Return a site with n stand-alone stations."""
    nodes = [(0, f"N{k}") for k in range(n)]
    return Story(["site"], nodes, [(0, f"N{k}", k) for k in range(n)], [(k, 1) for k in range(n)])


def charge(told: Story, evse: Evse, begin: float, car: Car, step: float = 600.0) -> None:
    """Record a session and a reading after it, each reading a message."""
    t = 0.0
    while t <= car.hours * HOUR + step:
        late, over = t > car.hours * HOUR / 2, t > car.hours * HOUR
        amps = 0.0 if over else car.amps * (car.power_share if late else 1.0)
        values = {
            "Power.Active.Import": 230.0 * amps,
            "Current.Import@L1": amps,
            "Current.Offered": car.offered,
            "Temperature/Cable": 20.0 + car.rise_c * min(1.0, t / HOUR),
        }
        at = START_NS + round((begin + t) * S)
        told.messages.append(Message(0, at, at, evse.node, "meter"))
        told.readings.append(Reading(evse, at, 0, at, True, values, None, STATE_KNOWN if over else INSIDE))
        t += step


def ordered(told: Story) -> Story:
    """Return the story with messages and readings numbered by time."""
    by = sorted(range(len(told.messages)), key=lambda k: (told.messages[k].recv_ns, told.messages[k].node))
    messages = [replace(told.messages[k], order=i) for i, k in enumerate(by)]
    readings = [replace(told.readings[k], order=i) for i, k in enumerate(by)]
    return replace(told, messages=messages, readings=readings)


def played(rounds: int, odd: Car | None, n: int = 4, until: int = 10**6, **about: Any) -> Story:
    """Return a site on which every plug has a session each 6 h; the first one is odd for `until` rounds."""
    told, rng = site(n), random.Random(1)
    evses = [Evse(k, k, k, sample_s=600.0, **about) for k in range(n)]
    for r in range(rounds):
        for evse in evses:
            hours, amps = rng.uniform(1.0, 3.0), rng.choice([10.0, 16.0])
            car = Car(hours, amps, power_share=rng.uniform(0.8, 1.0), rise_c=0.08 * amps * amps)
            if evse.row == 0 and odd is not None and r < until:
                part = amps / 16.0
                car = replace(odd, hours=odd.hours * hours, amps=odd.amps * part, rise_c=odd.rise_c * part**2)
            charge(told, evse, 6 * HOUR * r + 120.0 * evse.row, car)
    return ordered(told)


def run(told: Story, **config: Any) -> list[Emission]:
    """Return what the detector emits on a story."""
    detector = plugin.build(plugin.Config(**config))
    out = Emissions()
    for seen in batches(told):
        detector.process(seen, out)
    return out.drain()


@pytest.mark.parametrize(
    ("odd", "metric"),
    [
        (Car(amps=5.0, rise_c=0.0), "current_by_offer"),
        (Car(power_share=0.2), "power_by_peak"),
        (Car(rise_c=60.0), "rise_k_per_a2"),
        (Car(hours=0.3), "duration_h"),
        (Car(amps=0.0, rise_c=0.0), "without_energy"),
    ],
)
def test_an_evse_that_is_worse_is_named_with_the_metric(odd: Car, metric: str) -> None:
    found = run(played(30, odd))
    assert [(e.kind, e.subject) for e in found] == [(1, 0)]
    evidence = found[0].evidence
    assert evidence["detector"] == "fleet_comparison"
    assert evidence["metric"] == metric or (metric, evidence["metric"]) == ("duration_h", "without_energy")
    assert 16 <= evidence["sessions"] <= 30
    worse = _fleet.METRICS[evidence["metric"]]
    assert (evidence["value"] > evidence["peers_median"]) == worse


def test_it_clears_when_sessions_are_like_the_others_again() -> None:
    raised, cleared = run(played(50, Car(power_share=0.2), until=30))
    assert (raised.kind, cleared.kind) == (1, 3)
    assert cleared.start_ns == raised.start_ns < raised.time_ns
    assert cleared.evidence["smoothed_rank"] <= 0.6


def test_equal_peers_and_small_differences_stay_silent() -> None:
    assert run(played(40, None)) == []
    assert run(played(40, Car(power_share=0.8, rise_c=24.0))) == []


def test_other_types_are_no_peers_unless_the_site_is_asked_for() -> None:
    told = played(30, Car(power_share=0.2))
    kinds = {k: "IEC_62196_T2" if k == 0 else f"IEC_62196_{('T1', 'T3A', 'T3C')[k - 1]}" for k in range(4)}
    told = replace(
        told,
        readings=[replace(r, about=replace(r.about, conn_type=kinds[r.about.row])) for r in told.readings],
    )
    assert run(told) == []
    assert [e.subject for e in run(told, alike="site")] == [0]


def test_one_peer_is_too_few() -> None:
    assert run(played(30, Car(power_share=0.2), n=2)) == []
    assert [e.subject for e in run(played(30, Car(power_share=0.2), n=2), least_peers=1)] == [0]


def test_false_alarms_of_equal_evses_are_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are drawn, not recorded: 8 equal EVSEs, 500 sessions each, run length 200."""
    n, rounds, length = 8, 500, 200.0
    devices = DeviceTable()
    for k in range(n):
        node = devices.node(devices.site("S"), f"N{k}")
        devices.evse(devices.station(0, f"N{k}", node), 1, node)
    rng = np.random.default_rng(3)
    figures = np.column_stack([rng.gamma(2.0, 1.0, (n * rounds, 4)), rng.random(n * rounds) < 0.05])
    evses = np.tile(np.arange(n, dtype=np.int32), rounds)
    at = np.arange(n * rounds, dtype=np.int64)
    made = _fleet.Done(at[:1], evses, at, at, np.ones(n * rounds, "u1"), at * S, at * S + S, figures)
    monkeypatch.setattr(plugin, "done", lambda seen, state: made)
    out = Emissions()
    detector = plugin.build(plugin.Config(run_length=length, margin=1.0))
    detector.process(Observed(devices, batches(site(1))[0].rows, batches(site(1))[0].messages, []), out)
    raised = sum(e.kind == 1 for e in out.drain())
    assert raised <= 5 * n * rounds / length
    assert raised > 0  # the bound is not kept by never saying anything


def test_ranks() -> None:
    peers = {1: [1.0, 2.0], 2: [3.0]}
    assert plugin.rank_of(2.0, peers, True) == pytest.approx((0.75 + 0.0) / 2)
    assert plugin.rank_of(2.0, peers, False) == pytest.approx((0.25 + 1.0) / 2)
    with pytest.raises(ConfigError, match="type or site"):
        plugin.Config(alike="fleet")

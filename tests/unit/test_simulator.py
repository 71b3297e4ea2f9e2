"""The simulated fleet: deterministic, lawful to the schema, consistent in its registers and numbers."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.simulator import (
    Fleet,
    NodeConfig,
    SimMessage,
    SiteConfig,
    StationConfig,
    bench_fleet,
    demo_fleet,
    mixed_fleet,
)
from connectors.simulator.config import FleetConfig, TransportConfig
from models.errors import ConfigError

from .simulated import START_MS, columns, decode, items, kind_of

_MINUTE = 60_000


def _run(fleet: Fleet, minutes: float) -> list[SimMessage]:
    return fleet.advance(START_MS + int(minutes * _MINUTE)) + fleet.finish()


@pytest.fixture(scope="module")
def demo() -> tuple[Fleet, list[SimMessage]]:
    fleet = Fleet(demo_fleet(1), 5, START_MS)
    return fleet, _run(fleet, 20)


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    config = mixed_fleet(6, 2)
    first, second = (_run(Fleet(config, 11, START_MS), 30) for _ in range(2))
    assert first == second
    assert len(first) > 300
    assert first != _run(Fleet(config, 12, START_MS), 30)


@settings(max_examples=8)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=12))
def test_any_split_of_advance_gives_the_same_messages(steps_ms: list[int]) -> None:
    config = mixed_fleet(3, 4, sample_s=5, batch_s=15)
    whole, parts = Fleet(config, 9, START_MS), Fleet(config, 9, START_MS)
    for fleet in (whole, parts):
        fleet.inject(
            "under_voltage", fleet.topology.stations[0].station, START_MS + 60_000, START_MS + 90_000
        )
    out: list[SimMessage] = []
    now = START_MS
    for step in steps_ms:
        now += step
        out += parts.advance(now)
    assert out == whole.advance(now)


def test_a_call_returns_what_has_arrived_by_then_and_nothing_else() -> None:
    fleet = Fleet(demo_fleet(1), 5, START_MS)
    for now in range(START_MS, START_MS + 20_000, 50):
        assert all(now - 50 < message.t_ms <= now for message in fleet.advance(now))


def test_arrivals_never_go_back_and_every_payload_obeys_the_schema(
    demo: tuple[Fleet, list[SimMessage]],
) -> None:
    _, messages = demo
    assert {kind_of(m) for m in messages} == {"meter", "status", "tx", "conn", "link", "hb"}
    assert [m.t_ms for m in messages] == sorted(m.t_ms for m in messages)
    for message in messages:
        decode(message)
        assert message.qos == (0 if kind_of(message) == "hb" else 1)
        assert message.retain == (kind_of(message) == "conn")


def test_numbers_are_complete_from_one_on(demo: tuple[Fleet, list[SimMessage]]) -> None:
    _, messages = demo
    seen: dict[tuple[int, int], set[int]] = defaultdict(set)
    last: dict[int, int] = {}
    copies: dict[tuple[int, int, int], bytes] = {}
    for message in messages:
        if message.seq > 0:
            seen[message.node, message.boot].add(message.seq)
            before = copies.setdefault((message.node, message.boot, message.seq), message.payload)
            assert before == message.payload
            payload = decode(message)
            assert (payload.boot, payload.seq) == (message.boot, message.seq)
        elif kind_of(message) == "hb":
            assert decode(message).seq >= last.get(message.node, 0)
            last[message.node] = decode(message).seq
    for numbers in seen.values():
        assert numbers == set(range(1, len(numbers) + 1))
    assert len(copies) < sum(m.seq > 0 for m in messages), "no duplicate in twenty minutes of the demo"


def test_registers_are_the_integral_of_power_and_never_fall(demo: tuple[Fleet, list[SimMessage]]) -> None:
    fleet, messages = demo
    begin = Fleet(demo_fleet(1), 5, START_MS).plant.register_mwh
    assert np.array_equal(fleet.plant.register_mwh - begin, fleet.plant.energy_mwh)
    assert (fleet.plant.energy_mwh > 0).sum() > 20
    readings = columns(messages)
    for evse, station_row in enumerate(fleet.topology.evse_station):
        station = fleet.topology.stations[station_row]
        rows = readings[station.station, fleet.topology.evse_number[evse]]
        register = rows["Energy.Active.Import.Register"]
        assert (np.diff(register) >= 0).all()
        assert np.allclose(register * 1000 % (station.resolution_wh * 1000), 0)
        power, t_h = rows["Power.Active.Import"], rows["t"] / 3.6e6
        energy_wh = float((power[:-1] * np.diff(t_h)).sum())
        # power is sampled, the register counts every tick: ramps may differ by a sample's worth
        slack_wh = 2 * station.resolution_wh + 0.01 * energy_wh + float(power.max()) * 5 / 3600
        assert abs(register[-1] - register[0] - energy_wh) <= slack_wh, station.station


def test_energy_accumulates_in_integers_without_rounding_loss() -> None:
    fleet = Fleet(bench_fleet(3, rows=1), 1, START_MS)
    fleet.advance(START_MS)
    plant = fleet.plant
    plant._power_mw[:] = plant._metered_mw[:] = [1, 3_599_999, 22_080_001]
    before = plant.energy_mwh.copy()
    for _ in range(3600):
        plant.integrate(1000)
    assert (plant.energy_mwh - before).tolist() == [1, 3_599_999, 22_080_001]


def test_a_register_wraps_at_its_modulus_and_shows_its_resolution() -> None:
    station = StationConfig("A", resolution_wh=10.0, modulus_wh=1_000_000.0)
    node = NodeConfig("A", (station,), sample_s=1, batch_s=1)
    fleet = Fleet(FleetConfig((SiteConfig("S", (node,)),)), 1, START_MS)
    fleet.plant.register_mwh[0] = 1_000_012_345
    assert fleet.plant.shown_mwh(np.array([0]))[0] == 10_000


def test_a_transaction_tells_its_story_in_order() -> None:
    fleet = Fleet(replace(mixed_fleet(8, 3, arrivals_per_day=20), stay_scale=0.5), 2, START_MS)
    messages = _run(fleet, 240)
    stories: dict[str, list[Any]] = defaultdict(list)
    for _, item in items(messages, "tx"):
        stories[item.tx_id].append(item)
    ended = 0
    for story in stories.values():
        story.sort(key=lambda item: item.seq_no)
        assert [item.seq_no for item in story] == list(range(len(story)))
        assert story[0].event_type == "Started"
        assert [item.event_type for item in story[1:-1]] == ["Updated"] * (len(story) - 2)
        assert [item.t for item in story] == sorted(item.t for item in story)
        assert [item.reg_wh for item in story] == sorted(item.reg_wh for item in story)
        assert any(item.token_hash for item in story) or len(story) < 2
        if story[-1].event_type == "Ended":
            ended += 1
            assert story[-1].stopped_reason
    assert ended >= 10
    states = {item.state for story in stories.values() for item in story}
    assert states >= {"EVConnected", "Charging", "SuspendedEV"}
    reasons = {item.trigger for story in stories.values() for item in story}
    assert reasons >= {"Authorized", "ChargingStateChanged", "MeterValuePeriodic", "ChargingRateChanged"}


def test_no_power_outside_transactions_and_rows_carry_their_transaction() -> None:
    fleet = Fleet(mixed_fleet(8, 3, arrivals_per_day=20), 2, START_MS)
    readings = columns(_run(fleet, 90))
    for rows in readings.values():
        idle = rows["tx"] == 0
        assert (rows["Power.Active.Import"][idle] == 0).all()
    assert any((rows["Power.Active.Import"] > 1000).any() for rows in readings.values())


def test_cars_taper_and_scarce_sites_throttle(demo: tuple[Fleet, list[SimMessage]]) -> None:
    readings = columns(demo[1])
    dc = [rows for (name, _), rows in readings.items() if name.startswith("CU01")]
    powers = [rows["Power.Active.Import"][rows["SoC"] > 70] for rows in dc]
    assert any(len(p) > 20 and p[-1] < 0.8 * p[0] for p in powers if len(p)), "no taper above 70 %"
    offers = {
        float(o) for (n, _), rows in readings.items() if n.startswith("BO01") for o in rows["Current.Offered"]
    }
    assert any(6.0 <= offer < 32.0 for offer in offers)


def test_voltage_sags_with_the_site_current() -> None:
    fleet = Fleet(demo_fleet(1), 3, START_MS)
    volts, amps = [], []
    for minute in range(12):
        fleet.advance(START_MS + minute * _MINUTE)
        site = fleet.topology.evse_site == 0
        volts.append(fleet.plant.v_v[:, site].mean())
        amps.append(fleet.plant.i_a[:, site].sum())
    slope = np.polyfit(amps, volts, 1)[0]
    assert slope < 0


def test_network_effects_follow_their_settings() -> None:
    rough = TransportConfig(duplicate_share=0.2, reorder_share=0.2, stalls_per_day=200, reconnects_per_day=50)
    config = mixed_fleet(6, 2, sample_s=5, batch_s=5, transport=rough)
    messages = _run(Fleet(config, 1, START_MS), 60)
    numbered = [m for m in messages if m.seq > 0]
    keys = [(m.node, m.boot, m.seq) for m in numbered]
    assert 0.15 < 1 - len(set(keys)) / len(keys) < 0.22
    late = sum(b.seq < a.seq for a, b in _neighbours(numbered))
    assert late > 0.02 * len(keys)
    births = [decode(m) for m in messages if kind_of(m) == "conn" and m.node == 0]
    assert len(births) > 1
    assert [b.cid for b in births] == list(range(births[0].cid, births[0].cid + len(births)))
    assert len({b.boot for b in births}) == 1

    calm = _run(Fleet(mixed_fleet(6, 2, transport=TransportConfig.perfect()), 1, START_MS), 60)
    calm_keys = [(m.node, m.boot, m.seq) for m in calm if m.seq > 0]
    assert len(set(calm_keys)) == len(calm_keys)
    assert all(b.seq == a.seq + 1 for a, b in _neighbours([m for m in calm if m.seq > 0]))


def _neighbours(messages: list[SimMessage]) -> list[tuple[SimMessage, SimMessage]]:
    by_node: dict[int, list[SimMessage]] = defaultdict(list)
    for message in messages:
        by_node[message.node].append(message)
    return [pair for group in by_node.values() for pair in pairwise(group)]


def test_station_clocks_are_off_by_at_most_a_second() -> None:
    messages = _run(Fleet(mixed_fleet(10, 2), 1, START_MS), 10)
    skews = [m.t_ms - decode(m).t for m in messages if kind_of(m) == "hb"]
    assert max(abs(s) for s in skews) < 2000
    assert len({round(s, -2) for s in skews}) > 5


def test_the_demo_fleet_has_sixty_evses_at_six_sites() -> None:
    topology = Fleet(demo_fleet(), 1, START_MS).topology
    assert topology.n_evses == 60
    assert len(topology.sites) == 6
    assert sum(node.gateway for node in topology.nodes) == 3
    assert {station.dc for station in topology.stations} == {True, False}
    assert {node.sample_s for node in topology.nodes} <= {1.0, 2.0, 5.0}


def test_the_bench_fleet_makes_the_shape_asked_for() -> None:
    messages = _run(Fleet(bench_fleet(20, rows=60, channels=10), 1, START_MS), 5)
    full = [m for m in messages if kind_of(m) == "meter"]
    counts = [sum(len(s.rows) for s in decode(m).series) for m in full]
    assert max(counts) == 60
    assert sorted(counts)[len(counts) // 2] == 60
    assert all(len(s.ch) == 10 for m in full for s in decode(m).series)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: StationConfig("a/b"), "station 'a/b': name is 'a/b', expected a name"),
        (lambda: StationConfig("A", dc=True), "p_max_w is 0.0, expected the rated power"),
        (lambda: StationConfig("A", channels=("Volts",)), r"channels is \['Volts'\]"),
        (lambda: NodeConfig("N", (StationConfig("A"),)), "one station named like the node, or gateway"),
        (lambda: NodeConfig("A", (StationConfig("A"),), sample_s=10, batch_s=5), "batch_s is 5"),
        (lambda: SiteConfig("_op", ()), "without leading underscore"),
        (lambda: TransportConfig(duplicate_share=2), "duplicate_share is 2, expected 0 to 0.5"),
        (lambda: bench_fleet(1, channels=99), "99 channels, expected 1 to 22"),
        (lambda: mixed_fleet(0), "0 stations, expected"),
    ],
)
def test_wrong_configurations_say_what_was_expected(build: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        build()  # type: ignore[operator]  # a list of lambdas


def test_random_configurations_run(rng: random.Random) -> None:
    for _ in range(3):
        config = mixed_fleet(rng.randrange(1, 9), rng.randrange(1000), sample_s=rng.choice((2, 5, 20)))
        for message in _run(Fleet(config, rng.randrange(1000), START_MS), 10):
            decode(message)

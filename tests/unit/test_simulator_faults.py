"""Every injected fault shows in what it should show in, and nowhere else on the same EVSE's rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from connectors.simulator import (
    Fleet,
    FleetConfig,
    NodeConfig,
    SimMessage,
    SiteConfig,
    StationConfig,
    TransportConfig,
)
from connectors.simulator.faults import FAULTS, SEVERITIES
from connectors.simulator.faultspec import FaultSpec
from models.errors import ConfigError

from .simulated import START_MS, decode, items, kind_of
from .simulated_rules import Log, node_raised, raised

_MINUTE = 60_000
_BEGIN, _END = START_MS + 5 * _MINUTE, START_MS + 20 * _MINUTE


def _config() -> FleetConfig:
    ac = NodeConfig("AC1", (StationConfig("AC1", 2),), sample_s=5, batch_s=10, hb_s=60)
    dc_station = StationConfig("DC1", 2, dc=True, max_a=400, p_max_w=150_000)
    dc = NodeConfig("DC1", (dc_station,), sample_s=5, batch_s=10, hb_s=60)
    behind = (StationConfig("G1"), StationConfig("G2"), StationConfig("G3"))
    gateway = NodeConfig("GW", behind, gateway=True, sample_s=5, batch_s=10, hb_s=60)
    return FleetConfig(
        (SiteConfig("S1", (ac, dc, gateway), limit_a=128.0),),
        arrivals_per_day=4,
        busy_at_start=0.5,
        transport=TransportConfig.perfect(),
    )


def _run(code: str = "", target: str = "", severity: str = "clear", minutes: int = 15) -> Log:
    fleet = Fleet(_config(), 21, START_MS)
    end_ms = _BEGIN + minutes * _MINUTE
    if code:
        fleet.inject(code, target, _BEGIN, end_ms, severity)
    messages = fleet.advance(end_ms + 2 * _MINUTE) + fleet.finish()
    return Log(fleet, messages)


@pytest.fixture(scope="module")
def healthy() -> Log:
    return _run()


#: Codes that plain channel rules see, and what else the fault honestly breaks on its own EVSE.
_BY_RULE: dict[str, set[str]] = {
    "under_voltage": {"voltage_dip"},
    "over_voltage": set(),
    "voltage_dip": set(),
    "voltage_unbalance": {"voltage_dip"},
    "frequency_deviation": set(),
    "over_current": set(),
    "aux_supply": set(),
    "phase_open": set(),
    "connector_over_temperature": set(),
    "cabinet_over_temperature": set(),
    "contactor_welded": set(),
    "contactor_stuck_open": set(),
    "pilot_out_of_band": {"pilot_jitter"},
    "pilot_jitter": set(),
    "diode_fault": set(),
    "isolation_low": set(),
    "capacitance_high": set(),
    "residual_current_rising": set(),
    "residual_current_trip": {"residual_current_rising"},
    "register_rollback": {"register_mismatch"},
    "register_stuck": {"register_mismatch"},
    "register_mismatch": set(),
    "power_mismatch": set(),
    "value_frozen": set(),
}


@cache
def _all_at_once(severity: str) -> tuple[Log, dict[str, Any]]:
    """Return a run in which every code of `_BY_RULE` has a site and station of its own; empty = healthy."""
    sites = []
    for code in _BY_RULE:
        for dc in (False, True):
            name = f"{code}-{'dc' if dc else 'ac'}"
            station = StationConfig(name, dc=dc, max_a=400 if dc else 32, p_max_w=150_000 if dc else 0)
            sites.append(SiteConfig(name, (NodeConfig(name, (station,), sample_s=5, batch_s=30),)))
    transport = TransportConfig.perfect()
    config = FleetConfig(tuple(sites), arrivals_per_day=4, busy_at_start=0.5, transport=transport)
    fleet = Fleet(config, 21, START_MS)
    end_ms = _BEGIN + 40 * _MINUTE
    truths: dict[str, Any] = {}
    for code in _BY_RULE if severity else ():
        for kind in ("ac", "dc"):
            if FAULTS[code].kind in {"", kind} and (code, kind) not in _NOT_ON:
                name = f"{code}-{kind}"
                truths[name] = fleet.inject(code, name, _BEGIN, end_ms, severity)
    return Log(fleet, fleet.advance(end_ms + 2 * _MINUTE) + fleet.finish()), truths


#: Faults of channels that only the other kind of station has.
_NOT_ON = {("pilot_jitter", "dc"), ("diode_fault", "dc"), ("value_frozen", "dc"), ("phase_open", "dc")}


def _codes(log: Log, name: str) -> set[str]:
    return raised(log.of(name), dc=name.endswith("dc"), sample_s=5)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("code", sorted(_BY_RULE))
def test_a_fault_breaks_its_rule_and_no_other(code: str, severity: str) -> None:
    (log, truths), (healthy, _) = _all_at_once(severity), _all_at_once("")
    for name in (f"{code}-ac", f"{code}-dc"):
        assert _codes(healthy, name) == set()
        if name not in truths or (code, severity) == ("value_frozen", "subtle"):
            continue
        truth = truths[name]
        assert (truth.code, truth.site, truth.severity) == (code, name, severity)
        assert _codes(log, name) - _BY_RULE[code] == {code}
    assert truths.keys() & {f"{code}-ac", f"{code}-dc"}


#: Rules that need more than a quarter of an hour, minutes.
_SLOW = {"flapping": 55, "reboot_loop": 55, "message_loss": 30, "clock_error": 25}


@pytest.mark.parametrize("code", ["offline", "message_loss", "flapping", "reboot_loop", "clock_error"])
def test_a_fault_of_the_link_breaks_its_rule(code: str, healthy: Log) -> None:
    for severity in ("clear", "moderate", "subtle"):
        log = _run(code, "AC1", severity, _SLOW.get(code, 15))
        assert code in node_raised(log, 0), severity
        assert not node_raised(healthy, 0)
        (truth,) = log.fleet.truth
        assert (truth.node, truth.station, truth.evse) == ("AC1", "AC1", None)
        assert not node_raised(log, 1)


def test_offline_keeps_the_backlog_and_sends_it_after_the_next_birth(healthy: Log) -> None:
    log = _run("offline", "AC1")
    mine = [m for m in log.messages if m.node == 0]
    (will,) = [m for m in mine if m.will]
    assert will.retain
    assert _BEGIN + 90_000 <= will.t_ms < _BEGIN + 95_000
    silent = [m for m in mine if will.t_ms < m.t_ms < _END]
    assert silent == []
    first = next(m for m in mine if m.t_ms > will.t_ms)
    assert (decode(first).online, decode(first).cid) == (True, decode(will).cid + 1)
    numbers = [m.seq for m in mine if m.seq > 0]
    assert numbers == list(range(1, len(numbers) + 1)), "nothing lost, in order"
    assert np.array_equal(log.of("AC1")["t"], healthy.of("AC1")["t"])


def test_a_station_behind_a_gateway_goes_offline_by_link() -> None:
    log = _run("offline", "G2")
    (truth,) = log.fleet.truth
    assert (truth.node, truth.station) == ("GW", "G2")
    links = [item for name, item in items(log.messages, "link") if name == "G2"]
    assert [link.online for link in links] == [True, False, True]
    times = log.of("G2")["t"]
    assert not ((times > _BEGIN + 10_000) & (times < _END)).any()
    assert not any(m.will for m in log.messages)


def _under_load(code: str, severity: str) -> tuple[Fleet, Fleet]:
    """Return a healthy fleet and one with a fault at AC1/1, both after 70 minutes at full current there."""
    fleets = Fleet(_config(), 21, START_MS), Fleet(_config(), 21, START_MS)
    fleets[1].inject(code, "AC1/1", START_MS, START_MS + 100 * _MINUTE, severity)
    for fleet in fleets:
        fleet.advance(START_MS)
        fleet.sessions.hold(0, START_MS)
        fleet.advance(START_MS + 70 * _MINUTE)
    return fleets


@pytest.mark.parametrize(("severity", "least"), [("clear", 3.0), ("moderate", 2.2), ("subtle", 1.8)])
def test_contact_resistance_warms_the_plug_by_its_factor(severity: str, least: float) -> None:
    rises = []
    for fleet in _under_load("contact_resistance", severity):
        plant = fleet.plant
        surroundings = plant.ambient_c[0] + 0.35 * (plant.body_c[0] - plant.ambient_c[0])
        rises.append(plant.plug_c[0] - surroundings)
    assert rises[1] / rises[0] > least


def test_source_impedance_steepens_the_sag() -> None:
    good, bad = (fleet.plant for fleet in _under_load("source_impedance", "subtle"))
    ohm = (good.v_v[0, 0] - bad.v_v[0, 0]) / good.i_a[0, 0]
    assert ohm == pytest.approx(0.17, abs=0.01)


def test_silent_derate_cuts_a_hot_plug_and_gives_back_when_cool() -> None:
    rows = _run("silent_derate", "AC1/1").of("AC1", 1)
    on = rows["Current.Offered"] > 30
    share = rows["Current.Import@L1"][on] / rows["Current.Offered"][on]
    assert (share < 0.9).mean() > 0.2
    assert (share > 0.95).mean() > 0.05
    assert 60 < np.nanmax(rows["Temperature/Cable"]) < 65


def test_conductor_aging_widens_the_drop_to_the_car() -> None:
    rows = _run("conductor_aging", "DC1/1").of("DC1", 1)
    on = rows["Current.Import"] > 100
    ohm = np.median((rows["Voltage"][on] - rows["Voltage/EV"][on]) / rows["Current.Import"][on])
    assert ohm > 0.004 * 1.8


def test_proximity_leaves_its_band() -> None:
    rows = _run("proximity_out_of_range", "AC1/1", "subtle").of("AC1", 1)
    on = (rows["tx"] == 1) & (rows["Power.Active.Import"] > 0)
    assert (rows["x.PP.V"][on] > 1.82).mean() > 0.9


def test_a_frozen_temperature_takes_an_hour_to_tell() -> None:
    log = _run("value_frozen", "AC1/1", "subtle", 66)
    assert raised(log.of("AC1"), dc=False, sample_s=5) == {"value_frozen"}


def test_weak_signal_and_cadence(healthy: Log) -> None:
    weak, slow = _run("weak_signal", "AC1", "subtle"), _run("cadence_shift", "AC1/1", "subtle")
    drop = np.median(healthy.of("AC1")["x.RSSI"]) - np.median(weak.of("AC1")["x.RSSI"])
    assert drop > 10
    assert np.median(np.diff(slow.of("AC1")["t"])) == pytest.approx(10_000, abs=30)


def test_site_power_event_pulls_down_every_station() -> None:
    log = _run("site_power_event", "S1")
    for name in ("AC1", "G1", "G2", "G3"):
        rows = log.of(name)
        inside = (rows["t"] > _BEGIN + 10_000) & (rows["t"] < _END - 10_000)
        assert (rows["Voltage@L1-N"][inside] < 207).all()
    assert [item.code for _, item in log.events] == ["CX015"] * 10
    assert log.fleet.truth[0].station is None


def _codes_of_events(code: str, target: str, severity: str) -> list[tuple[str, str, bool]]:
    return [(item.code, item.taxonomy, item.cleared) for _, item in _run(code, target, severity).events]


@pytest.mark.parametrize(
    ("code", "severity", "event", "taxonomy"),
    [
        ("station_reported", "clear", "CX008", "mrec"),
        ("station_reported", "moderate", "InternalError", "ocpp16"),
        ("station_reported", "subtle", "E-7731", "vendor"),
        ("ev_communication", "clear", "EVCommunicationError", "ocpp16"),
        ("sub_device", "clear", "PowerMeterFailure", "ocpp16"),
        ("lock_failure", "clear", "CX001", "mrec"),
        ("broken_latch", "clear", "CX025", "mrec"),
        ("cable_cut", "clear", "CX026", "mrec"),
    ],
)
def test_reported_faults_come_and_clear(code: str, severity: str, event: str, taxonomy: str) -> None:
    assert _codes_of_events(code, "G1/1", severity) == [(event, taxonomy, False), (event, taxonomy, True)]


def test_phantom_cycles_and_failed_starts() -> None:
    cycles = [i for n, i in _run("phantom_plug_cycles", "AC1/1").status if n == "AC1" and i.evse == 1]
    back = [i.t for i in cycles if i.status == "Available"]
    assert any(c - a <= 120_000 for a, c in zip(back, back[2:], strict=False))
    failed = [
        item
        for n, item in _run("start_failures", "AC1/1").tx
        if n == "AC1" and item.stopped_reason == "Timeout"
    ]
    assert len(failed) >= 3


def test_every_fault_of_the_catalogue_is_covered_here() -> None:
    alone = {
        "offline", "message_loss", "flapping", "reboot_loop", "clock_error", "contact_resistance",
        "source_impedance", "silent_derate", "conductor_aging", "proximity_out_of_range", "weak_signal",
        "cadence_shift", "site_power_event", "station_reported", "ev_communication", "sub_device",
        "lock_failure", "broken_latch", "cable_cut", "phantom_plug_cycles", "start_failures",
    }  # fmt: skip
    assert set(FAULTS) == alone | set(_BY_RULE)
    assert all(code == fault.code for code, fault in FAULTS.items())


def test_after_a_fault_everything_is_as_before(healthy: Log) -> None:
    fleet = Fleet(_config(), 21, START_MS)
    for code, fault in FAULTS.items():
        target = "S1" if fault.scope == "site" else "DC1/1" if fault.kind == "dc" else "AC1/1"
        fleet.inject(code, target, _BEGIN, _BEGIN + 5 * _MINUTE)
    fleet.advance(_BEGIN + 6 * _MINUTE)
    bad, good = fleet.plant.faulty, Fleet(_config(), 21, START_MS).plant.faulty
    for name in vars(good):
        np.testing.assert_array_equal(getattr(bad, name), getattr(good, name), name)
    assert not fleet.transport.blocked(0)
    assert not fleet.sessions.held.any()
    assert not fleet.wire.drop_share.any()
    assert (fleet.wire.clock_ms == 0).all()


def test_injection_is_part_of_the_seeded_run_and_begins_no_earlier_than_now() -> None:
    def run(step_ms: int) -> list[SimMessage]:
        fleet = Fleet(_config(), 3, START_MS)
        out = fleet.advance(START_MS + 60_000)
        truth = fleet.inject("under_voltage", "AC1", START_MS, START_MS + 600_000)
        assert truth.start == fleet.now_ms > START_MS
        for now in range(START_MS + 60_000, START_MS + 900_000, step_ms):
            out += fleet.advance(now)
        return out + fleet.advance(START_MS + 900_000)

    assert run(7_000) == run(61_000)


def test_voltage_dips_list_their_episodes() -> None:
    (truth,) = _run("voltage_dip", "AC1/1").fleet.truth
    assert len(truth.episodes) == 8
    assert truth.record()["episodes"][0] == [_BEGIN, _BEGIN + 5250]


def test_a_fault_that_never_begins_is_not_true() -> None:
    fleet = Fleet(_config(), 3, START_MS)
    fleet.inject("under_voltage", "AC1", _BEGIN, _END)
    fleet.advance(START_MS + 1000)
    fleet.finish()
    assert fleet.truth == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("under_voltage@AX01-01", FaultSpec("under_voltage", "AX01-01")),
        ("offline@GW+1m~90s:moderate", FaultSpec("offline", "GW", 60.0, 90.0, "moderate")),
        ("register_stuck@A/2~2h", FaultSpec("register_stuck", "A/2", 10.0, 7200.0)),
        ("over_current@A/1+500ms", FaultSpec("over_current", "A/1", 0.5)),
    ],
)
def test_fault_texts(text: str, expected: FaultSpec) -> None:
    assert FaultSpec.parse(text) == expected


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda f: FaultSpec.parse("under_voltage"), "fault 'under_voltage', expected CODE@STATION"),
        (lambda f: FaultSpec.parse("flood@A"), "no fault 'flood'; there are aux_supply"),
        (lambda f: FaultSpec.parse("offline@A:huge"), "severity 'huge', expected one of clear"),
        (lambda f: FaultSpec.from_json(b"[1]"), "expected {code, station, evse"),
        (lambda f: FaultSpec.from_json(b"\xff{"), "expected {code, station, evse"),
        (lambda f: f.inject("offline", "nowhere", 1, 2), "no station, node or site 'nowhere'; there are AC1"),
        (lambda f: f.inject("offline", "AC1/3", _BEGIN, _END), "AC1 has EVSEs 1 to 2"),
        (
            lambda f: f.inject("isolation_low", "AC1", _BEGIN, _END),
            "a fault of dc EVSEs, the target has none",
        ),
        (lambda f: f.inject("offline", "AC1", _END, _BEGIN), "ends at"),
    ],
)
def test_wrong_injections_say_what_was_expected(act: Callable[[Fleet], object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        act(Fleet(_config(), 1, START_MS))


def test_births_after_a_reboot_start_numbers_again() -> None:
    log = _run("reboot_loop", "AC1")
    births = [decode(m) for m in log.messages if m.node == 0 and kind_of(m) == "conn"]
    assert len({b.boot for b in births}) >= 4
    assert {b.cid for b in births[1:]} == {1}

"""The fault corpus: everything breaks once, for itself, and what only looks broken happens as it says."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from connectors.simulator import Fleet, TransportConfig, Truth
from connectors.simulator.config import FleetConfig, NodeConfig, SiteConfig, StationConfig
from connectors.simulator.corpus import healthy, plan
from connectors.simulator.faults import FAULTS, SEVERITIES
from connectors.simulator.harmless import HARMLESS
from models.errors import ConfigError

from .simulated import START_MS, columns, decode, items, kind_of

_HOUR = 3_600_000


def test_every_fault_has_its_place_at_every_severity() -> None:
    corpus = plan(1, 40, 48, START_MS)
    assert corpus.left_out == []
    assert Counter((f.code, f.severity) for f in corpus.faults) == {
        (c, s): 1 for c in FAULTS for s in SEVERITIES
    }
    assert {f.code for f in corpus.scenarios} == set(HARMLESS)
    assert min(f.at_ms for f in corpus.faults) >= START_MS + 19 * _HOUR
    assert max(f.until_ms for f in corpus.faults) <= corpus.end_ms
    assert plan(1, 40, 48, START_MS).faults == corpus.faults
    assert plan(2, 40, 48, START_MS).faults != corpus.faults


def test_no_two_faults_share_a_subject_at_a_time() -> None:
    corpus = plan(3, 40, 48, START_MS)
    topology = Fleet(corpus.config, 3, START_MS).topology
    busy: dict[int, list[tuple[int, int]]] = {}
    for item in [*corpus.faults, *corpus.scenarios]:
        for evse in topology.target(item.target).evses.tolist():
            busy.setdefault(evse, []).append((item.at_ms, item.until_ms))
    for times in busy.values():
        assert all(b[0] - a[1] > 50 * 60_000 for a, b in pairwise(sorted(times)))
    sites = {topology.sites[topology.target(i.target).site].site for i in corpus.faults}
    assert not sites & corpus.harmless_sites


def test_what_has_no_room_is_said() -> None:
    corpus = plan(1, 6, 4, START_MS)
    assert ("contact_resistance", "clear") in corpus.left_out
    assert len(corpus.faults) + len(corpus.left_out) == 3 * len(FAULTS)
    assert corpus.scenarios == []
    assert corpus.evses() == corpus.evses(harmless=False) > 6
    with pytest.raises(ConfigError, match="no fault 'flood'"):
        plan(1, 6, 4, START_MS, codes=["flood"])
    with pytest.raises(ConfigError, match="1 stations for 4 h, expected at least 2"):
        plan(1, 1, 4, START_MS)


def test_playing_fills_the_truth() -> None:
    corpus = plan(1, 2, 3, START_MS, codes=["over_current", "source_impedance"], severities=["clear"])
    messages = [m for some in corpus.play() for m in some]
    assert [(t.code, t.severity) for t in corpus.truth] == [("over_current", "clear")]
    assert [m.t_ms for m in messages] == sorted(m.t_ms for m in messages)
    quiet = healthy(1, 4, 1, START_MS)
    assert sum(len(some) for some in quiet.play()) > 100
    assert quiet.truth == quiet.happened == []


def _fleet() -> Fleet:
    alone = [NodeConfig(f"A{i}", (StationConfig(f"A{i}"),), sample_s=10, batch_s=30) for i in range(4)]
    site = SiteConfig("S", tuple(alone), limit_a=96.0)
    config = FleetConfig((site,), arrivals_per_day=0.01, busy_at_start=0, transport=TransportConfig.perfect())
    return Fleet(config, 5, START_MS)


def _play(name: str, target: str, hours: float = 1.0) -> tuple[Fleet, list]:  # type: ignore[type-arg]
    fleet = _fleet()
    happened = fleet.enact(name, target, START_MS + 600_000, START_MS + 600_000 + int(hours * _HOUR))
    assert happened.code == name
    messages = fleet.advance(happened.end + 600_000) + fleet.finish()
    assert fleet.truth == []
    return fleet, messages


def test_a_single_phase_car_uses_one_phase_and_a_full_one_none() -> None:
    rows = columns(_play("single_phase_car", "A0/1")[1])["A0", 1]
    charging = rows["Current.Import@L1"] > 20
    assert charging.sum() > 200
    assert not rows["Current.Import@L2"][charging].any()
    rows = columns(_play("suspended_ev", "A0/1")[1])["A0", 1]
    assert ((rows["tx"] == 1) & (rows["Power.Active.Import"] == 0)).mean() > 0.5


def test_taper_and_throttling_lower_the_current_each_in_its_way() -> None:
    rows = columns(_play("taper", "A0/1", 1.5)[1])["A0", 1]
    on = rows["Power.Active.Import"] > 0
    assert (rows["Current.Import@L1"][on] < 0.6 * rows["Current.Offered"][on]).sum() > 20
    rows = columns(_play("throttling", "S", 1.5)[1])["A0", 1]
    offers = rows["Current.Offered"][rows["tx"] == 1]
    assert offers.max() > 20
    assert len(np.unique(offers)) > 3


def test_a_hot_day_grows_hot_and_stays_below_every_limit() -> None:
    rows = columns(_play("hot_day", "S", 5.0)[1])["A0", 1]
    assert rows["Temperature/Cable"].max() < 65
    assert rows["Temperature/Body"].max() < 70
    idle = rows["Temperature/Cable"][rows["tx"] == 0]
    assert idle.max() > idle[0] + 5
    assert (rows["Current.Import@L1"] > 20).any()


def test_backlogs_arrive_late_and_whole() -> None:
    for name in ("backlog_replay", "short_backlog"):
        fleet, messages = _play(name, "A0", 1.5)
        mine = [m for m in messages if m.node == 0]
        late = max(m.t_ms - decode(m).series[0].t0 for m in mine if kind_of(m) == "meter")
        assert late > (_HOUR // 2 if name == "backlog_replay" else 200_000)
        assert sum(m.will for m in mine) == (name == "backlog_replay")
        gaps = [b.t_ms - a.t_ms for a, b in pairwise(mine)]
        assert (max(gaps) > 3 * 120_000) == (name == "backlog_replay")
        assert not fleet.transport.blocked(0)
        numbers = [m.seq for m in mine if m.seq > 0]
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_new_meter_is_declared_before_it_counts() -> None:
    _, messages = _play("meter_replacement", "A0/1")
    births = [decode(m) for m in messages if m.node == 0 and kind_of(m) == "conn"]
    assert [b.cid for b in births] == [births[0].cid, births[0].cid + 1]
    assert births[0].evses[0].meter.serial != births[1].evses[0].meter.serial
    register = columns(messages)["A0", 1]["Energy.Active.Import.Register"]
    falls = np.flatnonzero(np.diff(register) < 0)
    assert len(falls) == 1
    assert register[falls[0] + 1] < 100
    assert [item.event_type for _, item in items(messages, "tx")][:1] == ["Started"]


def test_clean_reconnects_are_births_without_wills() -> None:
    _, messages = _play("clean_reconnect", "A0", 1.0)
    mine = [m for m in messages if m.node == 0 and kind_of(m) == "conn"]
    assert len(mine) == 5
    assert not any(m.will for m in mine)
    assert len({msgspec.json.decode(m.payload)["boot"] for m in mine}) == 1


def test_what_shows_only_under_current_is_true_from_the_first_current_on() -> None:
    fleet = _fleet()
    seen = fleet.inject("contact_resistance", "A0/1", START_MS, START_MS + 2 * _HOUR)
    fleet.inject("source_impedance", "A1/1", START_MS, START_MS + 2 * _HOUR)
    fleet.enact("single_phase_car", "A0/1", START_MS + _HOUR, START_MS + 2 * _HOUR)
    fleet.advance(START_MS + 3 * _HOUR)
    fleet.finish()
    assert fleet.truth == [seen]
    assert 0 <= seen.start - (START_MS + _HOUR) < 60_000


def _break(code: str, severity: str, minutes: int = 30) -> tuple[dict, list, Truth]:  # type: ignore[type-arg]
    fleet = _fleet()
    truth = fleet.inject(code, "A0/1", START_MS + 600_000, START_MS + (10 + minutes) * 60_000, severity)
    messages = fleet.advance(truth.end + 300_000) + fleet.finish()
    return columns(messages)["A0", 1], messages, truth


@pytest.mark.parametrize(("severity", "hot", "told"), [("clear", 1, 2), ("moderate", 1, 0), ("subtle", 0, 0)])
def test_a_cut_cable_opens_the_pilot_under_current(severity: str, hot: bool, told: int) -> None:
    rows, messages, truth = _break("cable_cut", severity)
    after = (rows["t"] > truth.start) & (rows["t"] < truth.start + 50_000)
    before = (rows["t"] < truth.start) & (rows["t"] > truth.start - 60_000)
    assert (rows["Current.Import@L1"][before] > 25).all()
    assert (rows["Current.Import@L1"][after] == 0).all()
    assert (rows["x.CP.V"][after] > 11).all()
    assert ((rows["Temperature/Cable"][after] > 150) == bool(hot)).all()
    assert ((rows["Temperature/Outlet"][after] > 150) == bool(hot)).all()
    assert len(items(messages, "event")) == told
    assert [i.stopped_reason for _, i in items(messages, "tx") if i.event_type == "Ended"] == [
        "EVDisconnected"
    ]


def test_a_contactor_sticks_at_once_later_or_now_and_then() -> None:
    shares = []
    for severity in SEVERITIES:
        rows, _, truth = _break("contactor_stuck_open", severity)
        on = (rows["t"] > truth.start) & (rows["t"] < truth.end) & (rows["Current.Offered"] > 0)
        shares.append((rows["Current.Import@L1"][on] < 1).mean())
    assert shares[0] == shares[1] == 1.0
    assert 0.1 < shares[2] < 0.3


def test_a_stuck_register_misses_less_the_less_the_car_takes() -> None:
    powers = []
    for severity in SEVERITIES:
        rows, _, truth = _break("register_stuck", severity)
        inside = (rows["t"] > truth.start + 60_000) & (rows["t"] < truth.end)
        assert np.ptp(rows["Energy.Active.Import.Register"][inside]) == 0
        powers.append(rows["Power.Active.Import"][inside].mean())
    assert powers[0] > 1.8 * powers[1] > 3 * powers[2] > 0


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(ConfigError, match="no scenario 'rain'; there are backlog_replay"):
        _fleet().enact("rain", "S", START_MS, START_MS + 1)

"""When most of a site lost its supply, and when it did not."""

from __future__ import annotations

import pytest

from models.records import Birth, StationEvent, Status
from tests.naive.plain import Evse, Story
from tests.unit.detector_tape import Tape, brief


class Site(Tape):
    """A site of stations with nodes of their own, or all behind one gateway."""

    def __init__(
        self, stations: int, *, gateway: bool = False, sample_s: float = 10.0, evses: int = 1
    ) -> None:
        super().__init__(sample_s=sample_s)
        names = [f"S{k}" for k in range(stations)]
        self.story = Story(
            ["site"],
            [(0, "gateway")] if gateway else [(0, name) for name in names],
            [(0, name, 0 if gateway else k) for k, name in enumerate(names)],
            [(k, 1 + n) for k in range(stations) for n in range(evses)],
        )
        self.all = [
            Evse(k, k // evses, 0 if gateway else k // evses, sample_s=sample_s)
            for k in range(stations * evses)
        ]
        for node in range(1 if gateway else stations):
            at = self.message(0, node, "conn", boot=1)
            self.record(Birth(at=at, online=True, cid=1, hb_s=60.0, sample_s=sample_s, batch_s=sample_s))

    def volts(self, t: float, row: int, pu: float, *, live: bool = True, phases: str = "123") -> None:
        self.about = self.all[row]
        values = {f"Voltage@L{p}-N": 230.0 * (pu if p in phases else 1.0) for p in "123"}
        self.sample(t, values, live=live)

    def normal(self, t: float) -> None:
        for row in range(len(self.all)):
            self.volts(t, row, 1.0)

    def loss(self, t: float, station: int, *, cleared: bool = False, code: str = "CX015") -> None:
        at = self.message(t, self.all[station].node, "event")
        self.record(
            StationEvent(
                at=at, station_row=station, evse_row=-1, conn=None, time_ns=at.effect_ns, event_id="1",
                code=code, taxonomy="mrec", cleared=cleared,
            )
        )  # fmt: skip

    def found(self) -> list[tuple[str, float, float]]:
        return brief(self.run("site_power_event"))


@pytest.mark.parametrize(
    ("stations", "low", "found"), [(5, 2, 0), (5, 3, 1), (10, 5, 0), (10, 6, 1), (3, 2, 0)]
)
def test_sixty_percent_and_at_least_three(stations: int, low: int, found: int) -> None:
    site = Site(stations)
    site.normal(0)
    for row in range(low):
        site.volts(10, row, 0.89)
    assert len(site.found()) == found


@pytest.mark.parametrize("stations", [1, 2])
def test_all_where_there_are_fewer(stations: int) -> None:
    site = Site(stations)
    site.normal(0)
    for row in range(stations):
        assert site.found() == []
        site.volts(10, row, 0.8)
    assert site.found() == [("raise", 10.0, 10.0)]


@pytest.mark.parametrize("pu", [0.0, 0.8])
def test_one_station_alone_needs_all_phases_and_some_voltage(pu: float) -> None:
    site = Site(1)
    site.normal(0)
    site.volts(10, 0, pu, phases="123" if pu == 0.0 else "1")
    assert site.found() == []


def test_three_meters_that_show_nothing_at_once() -> None:
    site = Site(3)
    site.normal(0)
    for row in range(3):
        site.volts(10 + row, row, 0.0)
    assert site.found() == [("raise", 10.0, 12.0)]


@pytest.mark.parametrize(
    ("sample_s", "apart", "found"), [(1.0, 10, 1), (1.0, 11, 0), (60.0, 60, 1), (60.0, 61, 0)]
)
def test_within_ten_seconds_or_one_sample_period(sample_s: float, apart: float, found: int) -> None:
    site = Site(3, sample_s=sample_s)
    site.normal(0)
    for row, t in enumerate((100, 100, 100 + apart)):
        site.volts(t, row, 0.8)
    assert len(site.found()) == found


@pytest.mark.parametrize("sample_s", [1.0, 20.0, 60.0, 900.0])
def test_clears_sixty_seconds_after_the_voltage_is_back(sample_s: float) -> None:
    site = Site(3, sample_s=sample_s)
    site.normal(0)
    for row in range(3):
        site.volts(sample_s, row, 0.7)
    for row in range(3):
        site.volts(2 * sample_s, row, 1.0)
    site.ticks(2 * sample_s, 2 * sample_s + 62)
    assert site.found() == [("raise", sample_s, sample_s), ("clear", sample_s, 2 * sample_s)]


def test_reported_power_loss_counts_at_one_node_and_clears() -> None:
    site = Site(3, gateway=True)
    site.normal(0)
    for station in range(3):
        site.loss(5 + station, station)
    site.ticks(8, 100)
    for station in range(2):
        site.loss(100, station, cleared=True)
    site.ticks(100, 162)
    assert site.found() == [("raise", 5.0, 7.0), ("clear", 5.0, 100.0)]


def test_other_reports_do_not_count_and_a_normal_state_ends_one() -> None:
    site = Site(3)
    site.normal(0)
    for station in range(3):
        site.loss(5, station, code="CX008")
    assert site.found() == []
    for station in range(2):
        site.loss(6, station)
    at = site.message(7, 0, "status")
    site.record(Status(at=at, station_row=0, evse_row=-1, conn=1, time_ns=at.effect_ns, status="Available"))
    site.loss(8, 2)
    assert site.found() == []


def wills(site: Site, t: float, nodes: int) -> None:
    for node in range(nodes):
        at = site.message(t + 0.1 * node, node, "conn", boot=1)
        site.record(Birth(at=at, online=False, cid=1))


@pytest.mark.parametrize(("nodes", "found"), [(2, 0), (3, 1)])
def test_silence_counts_from_three_nodes_on(nodes: int, found: int) -> None:
    site = Site(nodes)
    site.normal(0)
    wills(site, 20, nodes)
    site.ticks(21, 40)
    assert len(site.found()) == found


def test_a_gateway_that_falls_silent_is_offline_and_no_more() -> None:
    site = Site(10, gateway=True)
    site.normal(0)
    wills(site, 20, 1)
    site.ticks(21, 300)
    assert site.found() == []


def test_silence_without_a_will_takes_three_heartbeats() -> None:
    site = Site(3)
    site.normal(0)
    site.ticks(1, 179)
    assert site.found() == []
    site.ticks(179, 182)
    assert [kind for kind, _, _ in site.found()] == ["raise"]
    site.normal(182)
    site.ticks(183, 244)
    assert site.found() == [("raise", 0.0, 180.0), ("clear", 0.0, 182.0)]


def test_a_clean_reconnect_of_all_is_none() -> None:
    site = Site(5)
    site.normal(0)
    wills(site, 20, 5)
    for node in range(5):
        at = site.message(22, node, "conn", boot=1)
        site.record(Birth(at=at, online=True, cid=2, hb_s=60.0, sample_s=10.0, batch_s=10.0))
    site.ticks(23, 60)
    assert site.found() == []


def test_we_did_not_listen() -> None:
    site = Site(5)
    site.normal(0)
    site.ticks(1, 5)
    site.ticks(2000, 2100)
    assert site.found() == []


def test_a_dip_that_is_over_before_the_others_words_come_counts() -> None:
    site = Site(3, sample_s=1.0)
    site.normal(0)
    for row in range(3):
        for k, pu in enumerate((0.7, 0.7, 1.0)):
            site.about = site.all[row]
            values = {f"Voltage@L{p}-N": 230.0 * pu for p in (1, 2, 3)}
            site.sample(10 + k, values, arrives=15 + 10 * row)
    site.ticks(36, 100)
    assert site.found() == [("raise", 10.0, 10.0), ("clear", 10.0, 12.0)]


def test_evses_of_one_station_are_one_station() -> None:
    site = Site(3, evses=3)
    site.normal(0)
    for row in range(3):
        site.volts(10, row, 0.8)
    assert site.found() == []


def test_a_single_phase_car_or_one_weak_station_is_none() -> None:
    site = Site(4)
    site.normal(0)
    for k in range(1, 100):
        site.volts(10 * k, 0, 0.85 if k % 2 else 1.0)
        for row in (1, 2, 3):
            site.volts(10 * k, row, 0.97)
    assert site.found() == []


def test_backlog_is_not_live() -> None:
    site = Site(3)
    for row in range(3):
        site.volts(0, row, 1.0, live=False)
    for row in range(3):
        site.volts(10, row, 0.8, live=False)
    assert [e.live for e in site.run("site_power_event")] == [False]

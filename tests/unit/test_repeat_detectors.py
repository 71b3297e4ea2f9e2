"""`flapping` and `reboot_loop`: the exact limits, and what is neither."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import ConfigError
from models.plugins import load
from models.records import Birth, Link

from .detector_tape import Tape, at_ns, brief


def _births(tape: Tape, times: list[float], **fields: Any) -> None:
    """Births of the stand-alone station at `times`, each a new connection."""
    for i, t in enumerate(times):
        values: dict[str, Any] = {"boot": 1, "cid": i + 1, "retained": False} | fields
        at = tape.message(t, 0, "conn", boot=values.pop("boot"))
        tape.record(Birth(at=at, online=True, **values))


def _links(tape: Tape, times: list[float], *, lost: bool = True, late: float = 0.0) -> None:
    """Link-ups of the station behind the gateway, each after a loss unless `lost` is false."""
    for t in times:
        for online in (False, True) if lost else (True,):
            at = tape.message(t + late, 1, "link")
            tape.record(Link(at=at, station_row=1, time_ns=at_ns(t), online=online))


def test_six_births_within_an_hour_flap_until_they_do_not() -> None:
    tape = Tape()
    _births(tape, [0, 720, 1440, 2160, 2880, 3600])
    tape.ticks(3601, 3800, 1)
    found = tape.run("flapping")
    assert brief(found) == [("raise", 0, 3600), ("clear", 0, 3600)]
    assert [e.effect_ns for e in found] == [at_ns(3600), at_ns(3660)]
    assert found[0].evidence == {"times": 6, "span_s": 3600.0, "window_s": 3600.0}
    assert (found[0].scope, found[0].subject, found[0].severity) == ("node", 0, 1)


def test_flapping_goes_on_while_it_goes_on() -> None:
    tape = Tape()
    _births(tape, [600.0 * i for i in range(12)])
    tape.ticks(6601, 7400, 1)
    found = tape.run("flapping")
    assert brief(found) == [("raise", 0, 3000), ("clear", 0, 7200)]
    assert found[1].evidence == {"times": 12}


@pytest.mark.parametrize(
    ("times", "fields"),
    [
        ([0, 721, 1441, 2161, 2881, 3601], {}),  # an hour and a second
        ([0, 10, 20, 30, 40], {}),  # five
        ([0, 10, 20, 30, 40, 50, 60], {"cid": 7}),  # one birth, delivered again and again
        ([0, 10, 20, 30, 40, 50, 60], {"retained": True}),  # told by the broker, not by the station
    ],
)
def test_what_is_no_flapping(times: list[float], fields: dict[str, Any]) -> None:
    tape = Tape()
    _births(tape, times, **fields)
    assert tape.run("flapping") == []


def test_births_without_numbers_all_count() -> None:
    tape = Tape()
    _births(tape, [0, 10, 20, 30, 40, 50], boot=-1, cid=-1)
    assert brief(tape.run("flapping")) == [("raise", 0, 50)]


def test_station_behind_a_gateway_flaps_by_its_links_only() -> None:
    tape = Tape()
    _links(tape, [0, 60, 120, 180, 240, 300])
    (found,) = tape.run("flapping")
    assert (found.scope, found.subject, found.live) == ("station", 1, True)


def test_links_that_a_gateway_repeats_are_no_link_ups() -> None:
    """After each birth of its own a gateway says again which stations it has."""
    tape = Tape()
    _links(tape, [60.0 * i for i in range(20)], lost=False)
    assert tape.run("flapping") == []


def test_link_ups_told_late_have_the_time_they_happened_at() -> None:
    apart, together = Tape(), Tape()
    _links(apart, [0, 3600, 7200, 10_800, 14_400, 18_000], late=40_000)
    assert apart.run("flapping") == []
    _links(together, [0, 60, 120, 180, 240, 300], late=40_000)
    together.ticks(40_400, 40_410)
    assert [e.live for e in together.run("flapping")] == [False, False]
    assert brief(together.run("flapping")) == [("raise", 0, 300), ("clear", 0, 3600)]


@pytest.mark.parametrize(("late", "live"), [(900.0, True), (901.0, False)])
def test_link_ups_told_a_quarter_of_an_hour_late_are_still_news(late: float, live: bool) -> None:
    tape = Tape()
    _links(tape, [0, 60, 120, 180, 240, 300], late=late)
    assert [e.live for e in tape.run("flapping")] == [live]


def _boots(tape: Tape, times: list[float], **fields: Any) -> None:
    for i, t in enumerate(times):
        tape.message(t, 0, "meter", seq=1, **({"boot": 3 + i} | fields))


def test_four_growths_of_the_boot_counter_within_an_hour_are_a_loop() -> None:
    tape = Tape()
    _boots(tape, [0, 10, 1210, 2410, 3610])  # the first number is no growth
    tape.ticks(3611, 3700, 1)
    found = tape.run("reboot_loop")
    assert brief(found) == [("raise", 10, 3610), ("clear", 10, 3610)]
    assert [e.effect_ns for e in found] == [at_ns(3610), at_ns(3670)]
    assert found[0].evidence == {"times": 4, "span_s": 3600.0, "window_s": 3600.0}


@pytest.mark.parametrize(
    ("times", "fields"),
    [
        ([0, 10, 1210, 2410, 3611], {}),  # an hour and a second
        ([0, 10, 20, 30], {}),  # three growths
        ([0, 10, 20, 30, 40, 50], {"boot": 7}),  # one boot
        ([0, 10, 20, 30, 40, 50], {"live": False}),  # a backlog of many days
        ([0, 10, 20, 30, 40, 50], {"duplicate": True}),
    ],
)
def test_what_is_no_loop(times: list[float], fields: dict[str, Any]) -> None:
    tape = Tape()
    _boots(tape, times, **fields)
    assert tape.run("reboot_loop") == []


def test_clean_reconnect_is_no_reboot() -> None:
    tape = Tape()
    _births(tape, [0, 10, 20, 30, 40])
    assert tape.run("reboot_loop") == []


def test_jump_of_the_counter_is_one_boot() -> None:
    """Some devices number boots by their clock."""
    tape = Tape()
    for t, boot in ((0, 1), (10, 1_780_000_000), (20, 1_780_000_500)):
        tape.message(t, 0, "meter", boot=boot, seq=1)
    assert tape.run("reboot_loop") == []


@pytest.mark.parametrize("name", ["flapping", "reboot_loop"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match="window_s = 0"):
        load("models.detectors", name).Config(window_s=0)

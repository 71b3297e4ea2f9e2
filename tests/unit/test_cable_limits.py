"""capacitance_high, residual_current_trip, diode_fault: limits, durations, what says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from models import batch as b
from models.detecting import CRITICAL
from tests.unit.detector_tape import Tape, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.CHARGING
WAITING = b.STATE_KNOWN | b.IN_TRANSACTION


def tape(name: str, *samples: tuple[float, float], state: int = CHARGING, **also: float) -> Tape:
    """Return a tape of (time, value) of one channel, `also` with each."""
    out = Tape()
    for t, value in samples:
        out.sample(t, {name: value} | also, state=state)
    return out


@pytest.mark.parametrize(("microfarad", "found"), [(5.0, 0), (5.01, 1)])
def test_capacitance_above_five_microfarad(microfarad: float, found: int) -> None:
    assert len(tape("x.Isolation.C", (0, microfarad), (5, microfarad)).run("capacitance_high")) == found


def test_one_reading_of_capacitance_may_be_the_monitor_settling() -> None:
    once = tape("x.Isolation.C", (0, 1.0), (5, 9.0), (10, 1.0), (15, 9.0), (20, 1.0))
    assert once.run("capacitance_high") == []


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_capacitance_at_any_sample_period(period: float) -> None:
    found = tape("x.Isolation.C", *((i * period, 6.0) for i in range(3))).run("capacitance_high")
    assert brief(found) == [("raise", 0.0, period)]


@pytest.mark.parametrize(
    ("name", "milliampere", "found"),
    [
        ("x.Residual.DC", 5.99, 0),
        ("x.Residual.DC", 6.0, 1),
        ("x.Residual.DC", -6.0, 1),
        ("x.Residual.AC", 29.9, 0),
        ("x.Residual.AC", 30.0, 1),
    ],
)
def test_one_reading_at_the_trip_level(name: str, milliampere: float, found: int) -> None:
    emissions = tape(name, (0, milliampere)).run("residual_current_trip")
    assert [e.severity for e in emissions] == [CRITICAL] * found


def test_trip_names_the_kind_of_current_and_clears_a_minute_after() -> None:
    leak = Tape()
    for t, dc, ac in ((0, 0.4, 31.0), (10, 0.4, 1.0), (69, 0.4, 1.0), (70, 0.4, 1.0)):
        leak.sample(t, {"x.Residual.DC": dc, "x.Residual.AC": ac})
    found = leak.run("residual_current_trip")
    assert brief(found) == [("raise", 0.0, 0.0), ("clear", 0.0, 10.0)]
    assert found[0].evidence == {"residual_ma": 31.0, "limit_ma": 30.0, "kind": 2.0, "duration_s": 0.0}


def test_a_trip_found_in_backlog_is_raised_again_when_it_still_holds_live() -> None:
    leak = Tape()
    leak.sample(0, {"x.Residual.DC": 9.0}, live=False, arrives=2000)
    leak.sample(2001, {"x.Residual.DC": 9.0})
    found = leak.run("residual_current_trip")
    assert [(e.live, e.start_ns == found[0].start_ns) for e in found] == [(False, True), (True, True)]


@pytest.mark.parametrize(("volt", "last", "found"), [(-10.0, 5.0, 0), (-9.9, 4.9, 0), (-9.9, 5.0, 1)])
def test_half_wave_must_be_missing_for_five_seconds(volt: float, last: float, found: int) -> None:
    wave = tape("x.CP.Low.V", (0, volt), (last, volt))
    assert len(wave.run("diode_fault")) == found


@pytest.mark.parametrize(
    ("state", "also", "found"),
    [
        (CHARGING, {}, 1),
        (0, {}, 0),
        (0, {"Current.Import@L2": 6.0}, 1),
        (CHARGING, {"Current.Import@L2": 0.2}, 0),
        (WAITING, {"x.CP.V": 9.0, "Current.Offered": 6.0}, 1),
        (WAITING, {"x.CP.V": 9.0, "Current.Offered": 0.0}, 0),
        (WAITING, {"x.CP.V": 12.0, "Current.Offered": 6.0}, 0),
        (WAITING | b.SUSPENDED_EVSE, {"x.CP.V": 9.0, "Current.Offered": 6.0}, 0),
        (b.STATE_KNOWN, {"x.CP.V": 9.0, "Current.Offered": 32.0}, 0),
    ],
)
def test_a_steady_pilot_has_no_negative_half_wave(state: int, also: dict[str, Any], found: int) -> None:
    wave = tape("x.CP.Low.V", (0, 9.0), (10, 9.0), state=state, **also)
    assert len(wave.run("diode_fault")) == found

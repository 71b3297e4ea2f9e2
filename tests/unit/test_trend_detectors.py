"""isolation_low, residual_current_rising, conductor_aging: rules, drifts, run length, hard negatives."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models._kernel import kernel
from models.detecting import CRITICAL, WARNING
from models.detectors import _trend
from models.detectors._base import Table
from tests.laws.test_detector_laws import compare
from tests.unit.detector_tape import Tape, brief

HOUR = 3600.0


def leak(*samples: tuple[float, float], name: str = "x.Residual.DC") -> Tape:
    """Return a tape of (time, mA)."""
    tape = Tape()
    for t, milliampere in samples:
        tape.sample(t, {name: milliampere})
    return tape


@pytest.mark.parametrize(
    ("volt", "kohm", "found"), [(400, 40.0, 0), (400, 39.9, 1), (920, 91.0, 1), (50, 1.0, 0)]
)
def test_isolation_per_volt_of_output(volt: float, kohm: float, found: int) -> None:
    tape = Tape(dc=True)
    for t in (0, 5):
        tape.sample(t, {"x.Isolation.R": kohm, "x.Output.V": volt})
    emissions = tape.run("isolation_low")
    assert [e.severity for e in emissions] == [CRITICAL] * found


def test_isolation_without_a_voltage_says_nothing() -> None:
    tape = Tape(dc=True)
    for t in (0, 5):
        tape.sample(t, {"x.Isolation.R": 1.0})
    assert tape.run("isolation_low") == []


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_isolation_at_any_sample_period(period: float) -> None:
    tape = Tape(dc=True)
    for i in range(3):
        tape.sample(i * period, {"x.Isolation.R": 20.0, "Voltage": 400.0})
    assert brief(tape.run("isolation_low")) == [("raise", 0.0, period)]


@pytest.mark.parametrize(
    ("name", "milliampere", "last", "found"),
    [
        ("x.Residual.DC", 3.0, 600, 1),
        ("x.Residual.DC", 3.0, 590, 0),
        ("x.Residual.DC", 2.9, 600, 0),
        ("x.Residual.AC", 15.0, 600, 1),
        ("x.Residual.AC", 14.9, 600, 0),
    ],
)
def test_half_of_the_trip_level_for_ten_minutes(name: str, milliampere: float, last: int, found: int) -> None:
    tape = leak(*((float(t), milliampere) for t in range(0, last + 1, 10)), name=name)
    assert len(tape.run("residual_current_rising")) == found


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_rising_at_any_sample_period(period: float) -> None:
    tape = leak(*((i * period, 4.0) for i in range(int(1800 / period) + 1)))
    when = 600.0 if period <= 600 else period
    assert brief(tape.run("residual_current_rising")) == [("raise", 0.0, when)]


def grown(level: Callable[[float], float], hours: float, seed: int = 5) -> Tape:
    """Return a residual current with noise; `level` gives its mean by hour."""
    rng = random.Random(seed)
    period = 300.0
    return leak(
        *(
            (i * period, round(level(i * period / HOUR) + rng.gauss(0, 0.05), 3))
            for i in range(int(hours * HOUR / period))
        )
    )


def test_a_slow_rise_is_found_before_it_reaches_half_of_the_trip_level() -> None:
    tape = grown(lambda hour: 0.4 + max(0.0, hour - 10) * 0.02, 120)
    found = tape.run("residual_current_rising")
    assert [e.severity for e in found] == [WARNING]
    evidence = found[0].evidence
    assert evidence["residual_ma"] < 3.0
    assert evidence["level"] >= 0.5 * evidence["baseline"] + 0.5 - 1e-6
    assert evidence["cusum"] >= 12


@pytest.mark.parametrize(
    "level",
    [
        lambda hour: 0.4 + 0.2 * (hour % 24 < 8),  # load by night
        lambda hour: 2.5 if 30 < hour < 44 else 0.4,  # one leaky car for a night
        lambda hour: 1.0 if hour > 30 else 0.4,  # another car for good, far from the limit
    ],
)
def test_cars_and_days_are_no_drift(level: Callable[[float], float]) -> None:
    assert grown(level, 100).run("residual_current_rising") == []


def test_a_drift_that_is_mended_clears() -> None:
    tape = grown(lambda hour: 2.4 if 30 < hour < 60 else 0.4, 80)
    assert [kind for kind, _, _ in brief(tape.run("residual_current_rising"))] == ["raise", "clear"]


def test_isolation_drift_is_a_warning_and_the_limit_critical() -> None:
    tape = Tape(dc=True)
    rng = random.Random(2)
    for i in range(80 * 12):
        hour = i / 12
        kohm = 2500.0 if hour < 20 else 2500.0 * 0.9 ** (hour - 20)
        tape.sample(i * 300.0, {"x.Isolation.R": round(kohm * rng.uniform(0.95, 1.05), 1), "Voltage": 400.0})
        if kohm < 25:
            break
    found = tape.run("isolation_low")
    assert [(e.kind, e.severity) for e in found] == [(1, WARNING), (2, CRITICAL)]


def cable(milliohm: Callable[[int], float], sessions: int, offset_v: float = 0.0, seed: int = 4) -> Tape:
    """Return DC sessions of 30 min with a taper; each car has a voltmeter of its own."""
    rng = random.Random(seed)
    tape = Tape(dc=True)
    for session in range(sessions):
        car_v = rng.uniform(-offset_v, offset_v)
        for i in range(90):
            amps = 300.0 - 2.0 * i
            plug_c = 25.0 + 0.4 * i
            ohm = milliohm(session) / 1000 * (1 + 0.00393 * (plug_c - 20))
            values = {
                "Voltage": round(400 + rng.gauss(0, 0.2), 1),
                "Voltage/EV": round(400 - ohm * amps + car_v + rng.gauss(0, 0.2), 1),
                "Current.Import": amps,
                "Temperature/Cable": plug_c,
            }
            tape.sample(session * 5400 + i * 20.0, values)
    return tape


@pytest.mark.parametrize(("after", "found"), [(3.0, 0), (3.9, 0), (5.4, 1), (12.0, 1)])
def test_loop_resistance_of_an_aged_cable(after: float, found: int) -> None:
    emissions = cable(lambda session: 3.0 if session < 5 else after, 9).run("conductor_aging")
    assert len(emissions) == found
    if found:
        assert emissions[0].evidence["baseline_mohm"] == pytest.approx(3.0, rel=0.05)
        assert brief(emissions)[0][1] == pytest.approx(5 * 5400, abs=300)


def test_voltmeters_of_cars_are_no_aged_cable() -> None:
    """Offsets of 0.2 V are up to 1.7 mohm, more than half of the cable itself."""
    for seed in range(5):
        assert cable(lambda _: 3.0, 24, offset_v=0.2, seed=seed).run("conductor_aging") == []


def test_an_idle_dc_station_has_no_loop_resistance() -> None:
    tape = Tape(dc=True)
    for i in range(400):
        tape.sample(i * 60.0, {"Voltage": 400.0, "Voltage/EV": 0.0, "Current.Import": 5.0 * (i % 4)})
    assert tape.run("conductor_aging") == []


@pytest.mark.parametrize("name", ["residual_current_rising", "isolation_low", "conductor_aging"])
def test_drifts_equal_their_naive_twin(name: str) -> None:
    tapes = {
        "residual_current_rising": grown(lambda hour: 2.4 if 30 < hour < 60 else 0.4 + hour / 100, 80),
        "isolation_low": Tape(dc=True),
        "conductor_aging": cable(lambda session: 6.0 if 5 <= session < 9 else 3.0, 12),
    }
    for i in range(80 * 6):
        kohm = 60.0 if 180 < i < 400 else 2500.0 + i % 7
        tapes["isolation_low"].sample(i * 600.0, {"x.Isolation.R": kohm, "Voltage": 400.0})
    tape = tapes[name]
    found = tape.run(name)
    assert {e.kind for e in found} >= {1, 3}
    compare(found, importlib.import_module(f"tests.naive.{name}").emissions(tape.story))


@kernel
def _alarms(state: Any, z: Any, trend: _trend.Trend) -> int:
    """Return how many of the EVSEs' CUSUMs pass their limit within their blocks."""
    alarms = 0
    for e in range(len(state)):
        rec = state[e]
        for i in range(z.shape[1]):
            rec["block"] = i
            _trend.close_block(rec, z[e, i], trend)
            if rec["cusum"] >= trend.limit:
                alarms += 1
                break
    return alarms


def test_run_length_without_a_change() -> None:
    """A year of blocks of ten minutes for 40 EVSEs, baselines of 24: at most one in ten alarms.

    An alarm of the CUSUM is not yet a finding: the level must be half-way to the limit as well.
    """
    z = np.random.default_rng(1).standard_normal((40, 52_560))
    state = np.zeros(40, Table(_trend.TREND_FIELDS, {}).dtype)  # as detectors have it
    trend = _trend.Trend(1, 24, 1008, 12.0, 1e-6, 0.0, 0.5, 0.5, 1)
    assert _alarms(state, z, trend) <= 4

"""`weak_signal`: the absolute limit, the own level, and stations of several EVSEs."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from models.detecting import Emission
from models.records import Heartbeat
from tests.laws.test_detector_laws import compare
from tests.naive import weak_signal as twin
from tests.naive.plain import S

from .detector_tape import Tape, brief

HOUR = 3600.0
#: The first full half hour of the tape, s.
BEGIN = 600.0


def _signal(tape: Tape, start: float, end: float, step: float, dbm: float, wobble: float = 0.0) -> float:
    rng = random.Random(round(start))
    while start < end:
        tape.sample(start, {"x.RSSI": dbm + rng.uniform(-wobble, wobble)})
        start += step
    return start


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_half_an_hour_below_the_limit_raises_and_a_good_one_clears(period: float) -> None:
    tape = Tape(sample_s=period)
    _signal(tape, BEGIN, BEGIN + 1800, period, -90.1)
    _signal(tape, BEGIN + 1800, BEGIN + 3601, period, -89.9)
    found = tape.run("weak_signal")
    assert brief(found) == [("raise", BEGIN, BEGIN + 1800), ("clear", BEGIN, BEGIN + 1800)]
    assert (found[0].scope, found[0].subject, found[0].severity) == ("station", 0, 0)
    assert found[0].evidence == {
        "mean_dbm": pytest.approx(-90.1),
        "limit_dbm": -90.0,
        "samples": round(1800 / period),
        "evse": 1,
    }


def test_one_sample_in_half_an_hour_says_nothing() -> None:
    tape = Tape(sample_s=1800.0)
    _signal(tape, 0, 20_000, 1800, -100)
    assert tape.run("weak_signal") == []


@pytest.mark.parametrize(("drop", "raises"), [(9.5, False), (10.5, True)])
def test_ten_decibels_below_the_own_level(drop: float, raises: bool) -> None:
    tape = Tape(sample_s=60.0)
    t = _signal(tape, 0, 12 * HOUR, 60, -65, wobble=3)
    _signal(tape, t, t + 2 * HOUR, 60, -65 - drop)
    found = tape.run("weak_signal")
    assert bool(found) is raises
    if raises:
        assert found[0].evidence["median_dbm"] == pytest.approx(-65, abs=0.6)
        assert found[0].evidence["drop_db"] == pytest.approx(drop, abs=0.6)
        assert found[0].evidence["limit_dbm"] == found[0].evidence["median_dbm"] - 10


def test_own_level_is_not_known_before_its_first_twelve_hours_end() -> None:
    tape = Tape(sample_s=60.0)
    t = _signal(tape, BEGIN, BEGIN + 2 * HOUR, 60, -60)
    _signal(tape, t, t + 2 * HOUR, 60, -80)
    assert tape.run("weak_signal") == []


def test_level_of_days_gone_by_is_forgotten() -> None:
    """A station that was quiet for eight days is judged by what it does now."""
    tape = Tape(sample_s=60.0)
    t = _signal(tape, 0, 12 * HOUR, 60, -60)
    _signal(tape, t + 8 * 24 * HOUR, t + 8 * 24 * HOUR + 2 * HOUR, 60, -80)
    assert tape.run("weak_signal") == []


def test_daily_swing_is_well() -> None:
    tape = Tape(sample_s=300.0)
    for hour in range(72):
        _signal(tape, hour * HOUR, (hour + 1) * HOUR, 300, -66 - 6 * (hour % 24 in range(8, 20)), 2)
    assert tape.run("weak_signal") == []


def test_backlog_is_told_as_such_and_raised_live_when_it_still_holds() -> None:
    tape = Tape(sample_s=60.0)
    for i in range(30):
        tape.sample(BEGIN + 60.0 * i, {"x.RSSI": -95.0}, live=False)
    _signal(tape, BEGIN + 1800, BEGIN + 5401, 60, -95)
    assert [(e.kind, e.live) for e in tape.run("weak_signal")] == [(1, False), (1, True)]


def _pair(*spans: tuple[int, float, float, float]) -> list[Emission]:
    """Run EVSEs 1 and 2 of one station: (EVSE row, from, to, dBm)."""
    tape = Tape(sample_s=60.0)
    tape.story.evses[1] = (0, 2)
    tape.story.stations = [(0, "alone", 0)]
    tape.behind = replace(tape.about, row=1)
    times = [(t, row, dbm) for row, a, b, dbm in spans for t in range(int(a), int(b), 60)]
    for t, row, dbm in sorted(times):
        tape.sample(BEGIN + t + 30.0 * row, {"x.RSSI": dbm}, behind=bool(row))
    return tape.run("weak_signal")


def test_station_is_weak_from_its_first_evse_to_its_last() -> None:
    found = _pair(
        (0, 0, 3600, -95), (0, 3600, 9001, -60), (1, 0, 1800, -60), (1, 1800, 5400, -95), (1, 5400, 9001, -60)
    )
    assert [(e.kind, e.subject, e.evidence["evse"]) for e in found] == [(1, 0, 1), (3, 0, 2)]
    assert {e.start_ns for e in found} == {found[0].start_ns}


def test_equals_its_twin_over_ten_days() -> None:
    rng, tape, t, level = random.Random(8), Tape(sample_s=600.0), 0.0, -65.0
    while t < 10 * 24 * HOUR:
        if rng.random() < 0.05:
            level = rng.choice([-65.0, -72.0, -78.0, -92.0, -60.0])
        if rng.random() < 0.004:
            t += rng.choice([2, 30, 60]) * HOUR
        tape.sample(t, {"x.RSSI": round(level + rng.gauss(0, 2), 1)}, live=rng.random() < 0.95)
        t += 600
    found = tape.run("weak_signal")
    assert len(found) > 10
    assert any("median_dbm" in e.evidence for e in found)
    compare(found, twin.emissions(tape.story))
    assert all((e.time_ns - e.start_ns) % (1800 * S) == 0 for e in found)


def test_the_signal_of_heartbeats_is_judged_for_the_node() -> None:
    tape = Tape()
    for k in range(30):
        t = BEGIN + 300.0 * k
        dbm = -95.0 if 6 <= k < 18 else -60.0
        at = tape.message(t, 1, "heartbeat")
        tape.record(Heartbeat(at=at, time_ns=at.effect_ns, rssi_dbm=dbm))
    raised, cleared = tape.run("weak_signal")
    assert (raised.kind, cleared.kind) == (1, 3)
    assert (raised.scope, raised.subject) == ("node", 1)
    assert raised.evidence["mean_dbm"] == -95.0
    assert "evse" not in raised.evidence

"""`cadence_shift`: slower than declared, at every sample period, and what explains it."""

from __future__ import annotations

import random

import pytest

from tests.naive.plain import S

from .detector_tape import START_NS, Tape, brief

PERIODS = [1.0, 20.0, 60.0, 900.0]


def _samples(tape: Tape, start: float, n: int, step: float, **fields: bool) -> float:
    """Add n numbered readings `step` seconds apart; return when the next is due."""
    for _ in range(n):
        tape.sample(start, {"Voltage": 230.0}, **fields)
        start += step
    return start


def _tape(period: float) -> Tape:
    return Tape(sample_s=period)


@pytest.mark.parametrize("period", PERIODS)
def test_every_second_reading_missing_raises_and_clears(period: float) -> None:
    tape = _tape(period)
    n = max(4, round(1800 / period)) + 1
    t = _samples(tape, 0, n, period)
    slow = t - period
    t = _samples(tape, t, n, 2 * period)
    _samples(tape, t, 2 * n, period)
    raised, cleared = tape.run("cadence_shift")
    assert (raised.kind, cleared.kind) == (1, 3)
    assert (raised.scope, raised.subject, raised.severity) == ("evse", 0, 0)
    assert raised.start_ns >= START_NS + round(slow * S) - 1800 * S
    assert raised.time_ns - raised.start_ns >= 1800 * S
    assert raised.evidence["declared_s"] == period
    assert raised.evidence["interval_mean_s"] >= 1.4 * period
    assert raised.evidence["long_share"] > 0.5


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.39])
def test_declared_faster_and_a_little_slower_are_well(period: float, factor: float) -> None:
    tape = _tape(period)
    _samples(tape, 0, max(20, round(7200 / period)), factor * period)
    assert tape.run("cadence_shift") == []


def test_limit_is_more_than_half_of_the_intervals() -> None:
    for long_ones, raises in ((2, False), (3, True)):
        tape = _tape(600)
        t = 0.0
        for step in (600.0,) * (4 - long_ones) + (840.0,) * long_ones:
            tape.sample(t, {"Voltage": 230.0})
            t += step
        tape.sample(t, {"Voltage": 230.0})
        assert [k for k, *_ in brief(tape.run("cadence_shift"))] == (["raise"] if raises else [])


@pytest.mark.parametrize(("periods", "raises"), [(20.0, True), (20.01, False)])
def test_an_interval_of_more_than_twenty_periods_is_an_absence(periods: float, raises: bool) -> None:
    tape = _tape(60)
    _samples(tape, 0, 12, periods * 60)
    assert [k for k, *_ in brief(tape.run("cadence_shift"))] == (["raise"] if raises else [])


def test_jitter_and_single_losses_are_well() -> None:
    rng, tape, t = random.Random(4), _tape(20), 0.0
    for _ in range(400):
        tape.sample(t + rng.uniform(-5, 5), {"Voltage": 230.0})
        t += 20.0 * (1 + (rng.random() < 0.2))
    assert tape.run("cadence_shift") == []


def _numbered(tape: Tape, gap: int, every: int = 1) -> None:
    """Readings of half the declared rate whose messages pass over `gap` numbers, at every `every`-th."""
    seq = 0
    for i in range(200):
        seq += 1 + (gap if i % every == 0 else 0)
        tape.message(40.0 * i, 0, "status", boot=1, seq=seq)
        tape.sample(40.0 * i, {"Voltage": 230.0})


def test_lost_messages_explain_missing_readings() -> None:
    lost, whole = _tape(20), _tape(20)
    _numbered(lost, 1)
    assert lost.run("cadence_shift") == []
    _numbered(whole, 0)
    assert [k for k, *_ in brief(whole.run("cadence_shift"))] == ["raise"]


def test_losses_that_a_heartbeat_shows_explain_them_too() -> None:
    tape = _tape(20)
    for i in range(200):
        tape.message(40.0 * i, 0, "heartbeat", boot=1, seq=2 * i + 1)
        tape.message(40.0 * i, 0, "status", boot=1, seq=2 * i + 2)
        tape.sample(40.0 * i, {"Voltage": 230.0})
    assert tape.run("cadence_shift") == []


def test_restarts_explain_missing_readings() -> None:
    tape = _tape(20)
    for i in range(200):
        tape.message(40.0 * i, 0, "status", boot=i, seq=1)
        tape.sample(40.0 * i, {"Voltage": 230.0})
    assert tape.run("cadence_shift") == []


def test_backlog_says_nothing() -> None:
    tape = _tape(20)
    _samples(tape, 0, 200, 60, live=False)
    assert tape.run("cadence_shift") == []


def test_evse_that_is_measured_only_while_it_charges_is_well() -> None:
    tape, t = _tape(20), 0.0
    for _ in range(12):
        t = _samples(tape, t, 40, 20) + 3600
    assert tape.run("cadence_shift") == []


def test_new_declaration_begins_anew() -> None:
    tape = _tape(20)
    _samples(tape, 0, 80, 20)
    tape.sample(1610, {"Voltage": 230.0}, sample_s=60.0)
    _samples(tape, 1670, 100, 60)
    assert tape.run("cadence_shift") == []


def test_node_that_declares_nothing_is_not_judged() -> None:
    tape = Tape(sample_s=None)
    _samples(tape, 0, 30, 1000)
    assert tape.run("cadence_shift") == []

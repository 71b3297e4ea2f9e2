"""connector_over_temperature: limits, duration, severity, failed sensors."""

from __future__ import annotations

import pytest

from models.detecting import CRITICAL, WARNING
from tests.unit.detector_tape import Tape, brief

CABLE, OUTLET = "Temperature/Cable", "Temperature/Outlet"


def heat(tape: Tape, *samples: tuple[float, float]) -> Tape:
    for t, c in samples:
        tape.sample(t, {CABLE: c})
    return tape


@pytest.mark.parametrize(("dc", "warning", "critical"), [(False, 65.0, 80.0), (True, 90.0, 100.0)])
def test_limits_of_ac_and_dc_plugs(dc: bool, warning: float, critical: float) -> None:
    for c, severities in (
        (warning - 0.1, []),
        (warning, [WARNING]),
        (critical - 0.1, [WARNING]),
        (critical, [CRITICAL]),
    ):
        tape = heat(Tape(dc=dc), (0, c), (30, c))
        assert [e.severity for e in tape.run("connector_over_temperature")] == severities


@pytest.mark.parametrize(("second", "found"), [(29.9, 0), (30.0, 1)])
def test_needs_two_samples_and_thirty_seconds(second: float, found: int) -> None:
    tape = heat(Tape(), (0, 70), (second, 70))
    assert len(tape.run("connector_over_temperature")) == found
    assert heat(Tape(), (0, 70), (15, 64), (30, 70)).run("connector_over_temperature") == []


def test_rises_to_critical_and_keeps_it_until_it_clears() -> None:
    tape = heat(
        Tape(),
        (0, 70),
        (30, 70),
        (60, 85),
        (90, 85),
        (120, 70),
        (150, 60),
        (200, 66),
        (210, 60),
        (269, 60),
        (270, 60),
    )
    found = tape.run("connector_over_temperature")
    assert brief(found) == [("raise", 0.0, 30.0), ("update", 0.0, 90.0), ("clear", 0.0, 210.0)]
    assert [e.severity for e in found[:2]] == [WARNING, CRITICAL]
    assert found[1].evidence == {
        "temperature_c": 85.0,
        "limit_c": 80.0,
        "temperature_max_c": 85.0,
        "duration_s": 90.0,
        "sensor": 1.0,
    }


@pytest.mark.parametrize("failed", [150.0, 999.0, -40.0, float("nan")])
def test_a_failed_sensor_says_nothing_and_the_other_still_counts(failed: float) -> None:
    tape = Tape()
    for t in (0, 30):
        tape.sample(t, {CABLE: failed, OUTLET: 20.0})
    assert tape.run("connector_over_temperature") == []
    tape = Tape()
    for t in (0, 30):
        tape.sample(t, {CABLE: failed, OUTLET: 70.0})
    (found,) = tape.run("connector_over_temperature")
    assert found.evidence["sensor"] == 2.0
    assert heat(Tape(), (0, 149.9), (30, 149.9)).run("connector_over_temperature")[0].severity == CRITICAL


def test_hot_before_and_after_a_long_gap_is_not_one_run() -> None:
    assert heat(Tape(), (0, 70), (1801, 70)).run("connector_over_temperature") == []
    assert len(heat(Tape(), (0, 70), (1800, 70)).run("connector_over_temperature")) == 1


def test_found_in_backlog_and_still_hot_is_raised_live() -> None:
    tape = Tape()
    for t, live in ((0, False), (30, False), (60, True)):
        tape.sample(t, {CABLE: 70.0}, live=live)
    found = tape.run("connector_over_temperature")
    assert [(k, e.live) for (k, _, _), e in zip(brief(found), found, strict=True)] == [
        ("raise", False),
        ("raise", True),
    ]
    assert found[0].start_ns == found[1].start_ns

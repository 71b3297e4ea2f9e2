"""The exact band of `aux_supply`."""

from __future__ import annotations

import pytest

from tests.unit.detector_tape import Tape, brief

NAME = "x.Supply12V"


@pytest.mark.parametrize(("volts", "found"), [(10.8, 0), (10.79, 1), (13.2, 0), (13.21, 1)])
def test_band_is_ten_percent(volts: float, found: int) -> None:
    tape = Tape()
    for t in (0, 60):
        tape.sample(t, {NAME: volts})
    assert len(tape.run("aux_supply")) == found


@pytest.mark.parametrize(("second", "found"), [(59.0, 0), (60.0, 1)])
def test_takes_sixty_seconds(second: float, found: int) -> None:
    tape = Tape()
    for t in (0.0, second):
        tape.sample(t, {NAME: 9.0})
    assert len(tape.run("aux_supply")) == found


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
def test_is_about_the_station_at_any_period(step: float) -> None:
    tape = Tape(sample_s=step)
    bad = int(max(60.0, step) // step) + 1
    for k in range(bad):
        tape.sample(k * step, {NAME: 9.0})
    for k in range(bad, 2 * bad):
        tape.sample(k * step, {NAME: 12.0})
    found = tape.run("aux_supply")
    assert brief(found) == [("raise", 0.0, (bad - 1) * step), ("clear", 0.0, bad * step)]
    assert [(e.scope, e.subject) for e in found] == [("station", 0)] * 2
    assert found[0].evidence["deviation_percent"] == -25.0


def test_a_short_drop_when_a_contactor_pulls_is_none() -> None:
    tape = Tape(sample_s=20.0)
    for k in range(60):
        tape.sample(20.0 * k, {NAME: 10.0 if k % 10 < 3 else 12.0})
    assert tape.run("aux_supply") == []

"""The limits of `frequency_deviation`, and who decides for a site."""

from __future__ import annotations

import pytest

from tests.unit.detector_tape import Tape, brief


def hum(tape: Tape, t: float, hertz: float, *, behind: bool = False, live: bool = True) -> None:
    tape.sample(t, {"Frequency": hertz}, behind=behind, live=live)


def window(tape: Tape, start: float, hertz: float, step: float = 60.0, *, behind: bool = False) -> None:
    for k in range(int(600 // step)):
        hum(tape, start + k * step, hertz, behind=behind)


@pytest.mark.parametrize(("hertz", "found"), [(49.49, 1), (49.5, 0), (50.5, 0), (50.51, 1)])
def test_limit_of_the_ten_minute_mean(hertz: float, found: int) -> None:
    tape = Tape()
    window(tape, 0, hertz)
    hum(tape, 600, 50.0)
    assert len(tape.run("frequency_deviation")) == found


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 200.0])
def test_raises_after_a_window_and_clears_after_a_good_one(step: float) -> None:
    tape = Tape(sample_s=step)
    for start, hertz in ((0, 50.6), (600, 50.6), (1200, 50.0)):
        window(tape, start, hertz, step)
    hum(tape, 1800, 50.0)
    found = tape.run("frequency_deviation")
    assert brief(found) == [("raise", 0.0, 600.0), ("clear", 0.0, 1200.0)]
    assert [e.scope for e in found] == ["site", "site"]
    assert found[0].evidence == {
        "frequency_hz": pytest.approx(50.6),
        "nominal_hz": 50.0,
        "limit_hz": 50.5,
        "window_s": 600.0,
        "evses_off": 1,
        "evses": 1,
    }


@pytest.mark.parametrize(("hertz", "found"), [(46.9, 1), (47.0, 0), (52.0, 0), (52.1, 1)])
@pytest.mark.parametrize("step", [1.0, 900.0])
def test_two_samples_beyond_the_wide_band(hertz: float, found: int, step: float) -> None:
    tape = Tape(sample_s=step)
    hum(tape, 0, 50.0)
    hum(tape, step, hertz)
    assert tape.run("frequency_deviation") == []
    hum(tape, 2 * step, hertz)
    assert len(tape.run("frequency_deviation")) == found


def test_one_broken_meter_of_two_is_not_the_grid() -> None:
    tape = Tape()
    hum(tape, 0, 50.0, behind=True)
    window(tape, 1, 51.0)
    hum(tape, 601, 51.0)
    assert tape.run("frequency_deviation") == []
    tape = Tape()
    for k in range(11):
        hum(tape, 60 * k, 51.0)
        hum(tape, 60 * k + 1, 51.0, behind=True)
    found = tape.run("frequency_deviation")
    assert [(e.evidence["evses_off"], e.evidence["evses"]) for e in found] == [(2, 2)]


@pytest.mark.parametrize(("u_n_v", "hertz", "found"), [(120.0, 60.0, 0), (120.0, 50.0, 1), (240.0, 60.0, 0)])
def test_grids_of_60_hz(u_n_v: float, hertz: float, found: int) -> None:
    tape = Tape(u_n_v=u_n_v)
    window(tape, 0, hertz)
    hum(tape, 600, hertz)
    assert len(tape.run("frequency_deviation")) == found


def test_a_meter_without_supply_says_nothing() -> None:
    tape = Tape()
    window(tape, 0, 0.0)
    hum(tape, 600, 0.0)
    assert tape.run("frequency_deviation") == []

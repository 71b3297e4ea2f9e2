"""unusual: levels and shapes of a channel against its own history."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from models import plugins
from models.channels import CHANNEL_ID
from models.detecting import INFO, Emissions
from models.detectors import unusual
from models.errors import ConfigError
from tests.laws.streams import batches
from tests.unit.detector_tape import Tape, brief

CABLE, PILOT = "Temperature/Cable", "x.CP.V"
QUICK = {"learn_s": 3600.0, "learn_samples": 50}


def history(tape: Tape, step: float = 60.0, n: int = 200, channel: str = CABLE) -> float:
    """Record a cable between 20 and 40 degrees; return when it ends."""
    for k in range(n):
        tape.sample(k * step, {channel: 30.0 + 10.0 * math.sin(k / 5)})
    return n * step


@pytest.mark.parametrize("step", [1.0, 20.0, 60.0, 900.0])
@pytest.mark.parametrize(("value", "found"), [(59.5, 0), (60.5, 1), (0.5, 0), (-1.0, 1)])
def test_a_range_beyond_the_range_is_unusual(step: float, value: float, found: int) -> None:
    tape = Tape()
    end = history(tape, step, max(200, round(4000 / step)))
    tape.sample(end, {CABLE: value})
    emissions = tape.run("unusual", **QUICK)
    assert len(emissions) == found
    for e in emissions:
        assert e.severity == INFO
        assert e.evidence["channel"] == CABLE
        assert e.evidence["value"] == value
        assert e.evidence["score"] >= e.evidence["level"] == 1.0
        assert e.evidence["usual_low"] == pytest.approx(20.0, abs=0.2)
        assert e.evidence["usual_high"] == pytest.approx(40.0, abs=0.2)


def test_clears_an_hour_after_the_last_and_then_knows_the_value() -> None:
    tape = Tape()
    end = history(tape)
    for k, value in ((0, 70.0), (1, 30.0), (30, 30.0), (60, 30.0), (61, 30.0), (62, 70.0)):
        tape.sample(end + 60 * k, {CABLE: value})
    assert brief(tape.run("unusual", **QUICK)) == [
        ("raise", end, end),
        ("clear", end, end + 60),
    ]


def test_nothing_before_the_history_is_long_enough() -> None:
    for config in ({"learn_s": 13_000.0, "learn_samples": 50}, {"learn_s": 3600.0, "learn_samples": 201}, {}):
        tape = Tape()
        tape.sample(history(tape), {CABLE: 90.0})
        assert tape.run("unusual", **config) == []


def test_a_slow_rise_is_not_unusual_and_a_sensor_at_rest_may_move() -> None:
    tape = Tape()
    for k in range(600):
        tape.sample(60 * k, {CABLE: 20.0 + 0.1 * k})
    assert tape.run("unusual", **QUICK) == []
    for value, found in ((31.6, 0), (31.8, 1), (11.8, 0), (11.6, 1)):
        tape = Tape()
        for k in range(200):
            tape.sample(60 * k, {CABLE: 21.7})
        tape.sample(12_000, {CABLE: value})
        assert len(tape.run("unusual", **QUICK)) == found


@pytest.mark.parametrize(
    ("zero", "value", "found"), [(0.0, 9.0, 0), (0.0, 11.0, 1), (273.0, 9.0, 0), (273.0, 11.0, 1)]
)
def test_the_zero_of_a_temperature_does_not_matter_and_that_of_a_voltage_does(
    zero: float, value: float, found: int
) -> None:
    for channel in (CABLE, PILOT):
        tape = Tape()
        for k in range(200):
            tape.sample(60 * k, {channel: zero + 0.5 * (k % 2)})
        tape.sample(12_000, {channel: zero + value})
        expected = found if channel == CABLE else int(zero == 0.0)
        assert len(tape.run("unusual", levels=channel, excess_ranges=1.0, **QUICK)) == expected


def test_found_in_backlog_and_again_live() -> None:
    tape = Tape()
    end = history(tape)
    tape.sample(end, {CABLE: 70.0}, live=False)
    tape.sample(end + 60, {CABLE: 150.0})
    found = tape.run("unusual", **QUICK)
    assert [e.live for e in found] == [False, True]
    assert found[0].start_ns == found[1].start_ns


def test_a_shape_never_seen_is_unusual() -> None:
    tape = Tape()
    wave = [220.0 + 10.0 * math.sin(k / 3) for k in range(400)]
    for k in range(300, 330):
        wave[k] = 220.0 + 10.0 * (-1) ** k
    for k, value in enumerate(wave):
        tape.sample(300 * k, {PILOT: value})
    found = tape.run("unusual", levels="", shapes=PILOT)
    assert found
    assert {e.evidence["channel"] for e in found if e.evidence} == {PILOT}
    assert all(e.evidence["level"] == 0.45 for e in found if e.evidence)
    assert 300 <= brief(found)[0][1] / 300 <= 332


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"levels": "Heat"}, "not Heat"), ({"shapes": f"{CABLE} {CABLE}"}, f"not {CABLE}")],
)
def test_wrong_lists_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        unusual.Config(**settings)


def test_other_lists_start_afresh_and_state_is_counted() -> None:
    tape = Tape()
    end = history(tape)
    detector = unusual.build(unusual.Config())
    for seen in batches(tape.story):
        detector.process(seen, Emissions())
    saved = detector.snapshot()
    assert detector.nbytes() - detector.sparse.nbytes == 2 * 40  # beside what few EVSEs have
    assert list(saved["levels"]["n"]) == [200, 0]
    again = unusual.build(unusual.Config(levels=f"{CABLE} {PILOT}"), saved)
    assert again.snapshot()["levels"]["n"].size == 0
    shaped = unusual.build(unusual.Config(shapes=PILOT))
    for seen in batches(tape.story):
        shaped.process(seen, Emissions())
    assert 9_000 < shaped.nbytes() / 2 < 11_000
    assert end > 0


def test_the_default_channel_is_what_the_specification_says() -> None:
    assert unusual.SPEC.channels == (CHANNEL_ID[CABLE],)
    assert "unusual" in plugins.names("models.detectors")
    assert np.isfinite(unusual.Config().learn_s)

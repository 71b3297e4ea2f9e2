"""contact_resistance and silent_derate: physics in, findings out, and what must stay silent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from models import batch as b
from models.detecting import Emission
from tests.unit.detector_tape import Tape, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.OCCUPIED | b.CHARGING
HOUR = 3600.0


def plug(
    hours: float,
    k: Callable[[float], float],
    amps: Callable[[float], float],
    ambient: Callable[[float], float] = lambda t: 15.0,
    period: float = 60.0,
    **about: Any,
) -> list[Emission]:
    """Return what contact_resistance says of a plug that follows the physics; functions of seconds."""
    tape = Tape(**about)
    celsius, before, t = ambient(0.0), amps(0.0), 0.0
    while t < hours * HOUR:
        end = ambient(t) + k(t) * (before / 32.0) ** 2
        celsius += (end - celsius) * (1.0 - math.exp(-period / 420.0))
        before = amps(t)
        values = {
            "Current.Import@L1": before,
            "Current.Import@L2": 0.0,
            "Temperature/Cable": round(celsius, 1),
        }
        tape.sample(t, values)
        t += period
    return tape.run("contact_resistance")


def charges(t: float) -> float:
    """Charge at 32 A and at 16 A in turns, two hours each, with an hour between."""
    return 0.0 if t % (3 * HOUR) < HOUR else 32.0 if t % (6 * HOUR) < 3 * HOUR else 16.0


def healthy(t: float) -> float:
    return 14.0


@pytest.mark.parametrize(
    ("period", "factor"), [(20.0, 3.5), (60.0, 2.4), (60.0, 3.5), (300.0, 2.4), (300.0, 3.5)]
)
def test_a_contact_that_ages_is_found(period: float, factor: float) -> None:
    found = plug(30, lambda t: 14.0 * (factor if t > 15 * HOUR else 1.0), charges, period=period)
    assert [e.kind for e in found] == [1]
    assert 15 * HOUR < brief(found)[0][2] < 24 * HOUR
    assert found[0].evidence["baseline_k"] == pytest.approx(14.0, rel=0.15)
    assert found[0].evidence["rise_k"] > 1.8 * found[0].evidence["baseline_k"]


def test_a_mended_contact_clears() -> None:
    found = plug(48, lambda t: 14.0 * (3.0 if 15 * HOUR < t < 27 * HOUR else 1.0), charges)
    assert [e.kind for e in found] == [1, 3]


@pytest.mark.parametrize(
    ("amps", "ambient"),
    [
        (charges, lambda t: 15.0 + 10.0 * math.sin(t / (24 * HOUR) * 2 * math.pi)),  # hot days
        (charges, lambda t: 15.0 + (12.0 if t % (24 * HOUR) > 18 * HOUR else 0.0)),  # sun on the plug
        (lambda t: charges(t) * (0.4 if t % 2000 < 900 else 1.0), lambda t: 15.0),  # throttled
        (lambda t: min(32.0, charges(t)) * (1.0 if t % HOUR < 1800 else 0.3), lambda t: 15.0),  # taper
        (lambda t: 6.0 if t < 20 * HOUR else charges(t), lambda t: 15.0),  # small cars for a day
    ],
)
def test_healthy_plugs_stay_silent(amps: Callable[[float], float], ambient: Callable[[float], float]) -> None:
    assert plug(72, healthy, amps, ambient) == []


def test_a_cool_plug_may_double_its_little_heat() -> None:
    assert plug(40, lambda t: 2.0 if t < 20 * HOUR else 4.5, charges) == []


# -- silent derate ---------------------------------------------------------------------------------


def reading(amps: float, celsius: float, **more: float) -> dict[str, float]:
    return {
        "Current.Import@L1": amps, "Current.Offered": 32.0, "Temperature/Cable": celsius,
    } | {name.replace("_", "."): value for name, value in more.items()}  # fmt: skip


def derated(
    period: float, share: float = 0.6, hot: float = 64.0, state: int = CHARGING, **more: float
) -> Tape:
    """A plug that heats up at full current for half an hour, then gets `share` of the offer."""
    tape = Tape()
    t = 0.0
    while t <= 1800.0 + max(600.0, 3 * period):
        heating = hot - 8.0 * max(0.0, 1800.0 - t) / 1800.0
        tape.sample(t, reading(31.5 if t < 1800.0 else share * 32.0, heating, **more), state=state)
        t += period
    return tape


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
@pytest.mark.parametrize(
    ("share", "hot", "found"), [(0.6, 64.0, 1), (0.89, 64.0, 1), (0.6, 58.0, 0), (0.91, 64.0, 0)]
)
def test_a_hot_plug_that_gets_less(period: float, share: float, hot: float, found: int) -> None:
    raised = derated(period, share, hot).run("silent_derate")
    assert [e.kind for e in raised] == [1] * found
    assert all(brief([e])[0][1] == 1800.0 for e in raised)


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (CHARGING | b.SUSPENDED_EV, {}),
        (b.STATE_KNOWN | b.IN_TRANSACTION, {}),
        (CHARGING, {"SoC": 80.0}),
    ],
)
def test_a_car_that_limits_is_no_derate(state: int, more: dict[str, float]) -> None:
    assert derated(20.0, state=state, **more).run("silent_derate") == []


def test_a_car_that_never_took_the_offer_did_not_fall() -> None:
    tape = Tape()
    for i in range(200):
        tape.sample(i * 20.0, reading(16.0, 55.0 + i * 0.1), state=CHARGING)
    assert tape.run("silent_derate") == []


def test_load_management_lowers_the_offer_too() -> None:
    tape = Tape()
    for i in range(200):
        amps = 31.5 if i < 100 else 10.0
        values = reading(amps, 58.0 + i * 0.1) | {"Current.Offered": 32.0 if i < 100 else 10.0}
        tape.sample(i * 20.0, values, state=CHARGING)
    assert tape.run("silent_derate") == []


@pytest.mark.parametrize(("cools_to", "found"), [(55.0, 1), (60.0, 0)])
def test_a_current_that_comes_back_when_the_plug_cooled(cools_to: float, found: int) -> None:
    """The plug was not heating up any more when the current fell: what it does afterwards tells."""
    tape = Tape()
    for i in range(300):
        t = i * 20.0
        low = 3000.0 <= t < 4000.0
        celsius = 61.0 if t < 3000.0 else max(cools_to, 61.0 - (t - 3000.0) / 100.0)
        tape.sample(t, reading(16.0 if low else 31.5, celsius), state=CHARGING)
    raised = tape.run("silent_derate")
    assert brief(raised)[:1] == [("raise", 3000.0, 4000.0)] * found
    assert [e.kind for e in raised] == [1, 3] * found

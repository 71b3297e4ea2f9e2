"""Turns: nobody starves, with a departure that is right, wrong, past, or none at all."""

from __future__ import annotations

import pytest

from .load_yard import T0, Yard, settings

HOUR_MS = 3_600_000


def crowded(**wishes: tuple[float, float] | None) -> tuple[Yard, dict[str, float]]:
    """Let vehicles share 13 A, two at a time, for twelve minutes with turns of half a minute.

    A wish is hours until the departure and Wh; None: nothing is told. Returned is what each took, Wh.
    """
    yard = Yard(settings(13.0, n=len(wishes), rotation_s=30.0))
    took = dict.fromkeys(wishes, 0.0)
    for station in wishes:
        yard.plug(station)
    for station, wish in wishes.items():
        if wish is not None:
            departure_ms, energy_wh = round(T0 + wish[0] * HOUR_MS), wish[1]
            body = {"site": "yard", "station": station, "departure_ms": departure_ms, "energy_wh": energy_wh}
            assert yard.load.request(body, yard.now) == ""
    for _ in range(144):
        yard.run(5)
        for station in wishes:
            took[station] += yard.amps(station) * 690 * 5 / 3600
    assert yard.used() <= 13.0
    return yard, took


HURRY = (2.0, 40_000.0)


def test_a_departure_that_is_far_does_not_wait_until_it_presses() -> None:
    _, took = crowded(s0=HURRY, s1=HURRY, s2=(20.0, 5000.0))
    assert took["s2"] >= 0.15 * max(took.values())


@pytest.mark.parametrize("wish", [None, (-1.0, 5000.0), (20.0, 1e7)])
def test_who_says_nothing_useful_has_turns_beside_those_in_a_hurry(
    wish: tuple[float, float] | None,
) -> None:
    _, took = crowded(s0=HURRY, s1=HURRY, s2=wish)
    assert took["s2"] >= 0.15 * max(took.values())


def test_with_and_without_departures_alike_everyone_is_served() -> None:
    _, took = crowded(s0=(3.0, 9000.0), s1=None, s2=(3.0, 9000.0), s3=None)
    assert min(took.values()) >= 0.35 * max(took.values())


def test_those_without_a_departure_have_equal_turns() -> None:
    _, took = crowded(s0=None, s1=None, s2=None, s3=None)
    assert min(took.values()) >= 0.8 * max(took.values())

"""Charging profiles of a simulated station: which one holds, how they run out, and what ends with the car."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.simulator.profiles import Profiles
from models import _load_profiles as ours

T0 = 1_781_071_200_000


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 / 1000 + seconds, UTC).isoformat().replace("+00:00", "Z")


def profile(limit: float, number: int = 1, stack: int = 0, **other: Any) -> dict[str, Any]:
    schedule = {"startSchedule": at(-60), "chargingRateUnit": "A"} | other.pop("schedule", {})
    schedule.setdefault("chargingSchedulePeriod", [{"startPeriod": 0, "limit": limit}])
    given = {"id": number, "stackLevel": stack, "chargingProfilePurpose": "TxDefaultProfile"}
    return given | {"chargingProfileKind": "Absolute", "chargingSchedule": [schedule]} | other


def test_without_profiles_nothing_limits() -> None:
    assert Profiles().limit_a(T0, None) is None


def test_a_limit_runs_out_and_the_fallback_holds_again() -> None:
    kept = Profiles()
    fallback = ours.fallback(1, 6.0, 3, 0.0)["chargingProfile"]
    limit = ours.dynamic(1, 16.0, T0, T0 + 180_000, "tx1", 3, 0.0)["chargingProfile"]
    assert kept.set(fallback, T0, None)
    assert not kept.set(limit, T0, None)  # no transaction runs
    assert not kept.set(limit, T0, "tx0")
    assert kept.set(limit, T0, "tx1")
    assert kept.limit_a(T0 + 179_999, "tx1") == 16.0
    assert kept.limit_a(T0 + 180_000, "tx1") == 6.0


def test_the_limit_of_one_transaction_is_not_left_to_the_next() -> None:
    kept = Profiles()
    kept.set(ours.dynamic(1, 16.0, T0, T0 + 180_000, "tx1", 3, 0.0)["chargingProfile"], T0, "tx1")
    assert kept.limit_a(T0 + 1000, "tx1") == 16.0
    assert kept.limit_a(T0 + 2000, "tx2") is None
    assert len(kept) == 0


def test_the_highest_stack_level_counts_and_the_same_one_is_replaced() -> None:
    kept = Profiles()
    kept.set(profile(10, 1, 0), T0, None)
    kept.set(profile(20, 2, 3), T0, None)
    assert kept.limit_a(T0, None) == 20
    kept.set(profile(12, 3, 3), T0, None)
    assert kept.limit_a(T0, None) == 12
    assert len(kept) == 2


def test_a_limit_of_the_station_lies_above_all() -> None:
    kept = Profiles()
    kept.set(profile(32), T0, None)
    kept.set(profile(9, 5, 0, chargingProfilePurpose="ChargingStationMaxProfile"), T0, None)
    assert kept.limit_a(T0, None) == 9


def test_a_profile_can_be_cleared_by_id_and_by_purpose() -> None:
    kept = Profiles()
    kept.set(profile(10), T0, None)
    assert not kept.clear(7)
    assert kept.clear(1)
    kept.set(profile(10), T0, None)
    assert not kept.clear(None, "TxProfile")
    assert kept.clear(None, "TxDefaultProfile")
    assert kept.limit_a(T0, None) is None


@pytest.mark.parametrize(
    ("changes", "second", "limit"),
    [
        ({"validFrom": at(10)}, 9, None),
        ({"validFrom": at(10)}, 10, 16),
        ({"schedule": {"duration": 90}}, 29, 16),
        ({"schedule": {"duration": 90}}, 30, None),
        ({"chargingProfileKind": "Relative", "schedule": {"duration": 30}}, 29, 16),
        ({"chargingProfileKind": "Relative", "schedule": {"duration": 30}}, 30, None),
        ({"chargingProfileKind": "Recurring", "recurrencyKind": "Daily"}, 86_400, 16),
        ({"schedule": {"startSchedule": at(5)}}, 4, None),
    ],
)
def test_when_a_profile_is_valid(changes: dict[str, Any], second: int, limit: float | None) -> None:
    kept = Profiles()
    assert kept.set(profile(16, **changes), T0, None)
    assert kept.limit_a(T0 + second * 1000, None) == limit


def test_periods_follow_each_other_and_watts_become_amperes() -> None:
    kept = Profiles()
    periods = [
        {"startPeriod": 0, "limit": 6900, "numberPhases": 3},
        {"startPeriod": 120, "limit": 2300, "numberPhases": 1},
    ]
    kept.set(profile(0, schedule={"chargingRateUnit": "W", "chargingSchedulePeriod": periods}), T0, None)
    assert kept.limit_a(T0, None) == pytest.approx(10.0)
    assert kept.limit_a(T0 + 59_999, None) == pytest.approx(10.0)
    assert kept.limit_a(T0 + 60_000, None) == pytest.approx(10.0)

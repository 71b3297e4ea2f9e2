"""start_failures: what is a failed start, three in a row, and the comparison with the site."""

from __future__ import annotations

from typing import Any

import pytest

from models._beta import twice_as_often
from models.records import StationEvent
from tests.unit.detector_tape import Tape, at_ns, brief
from tests.unit.test_connector_detectors import transact


def attempt(tape: Tape, t: float, ok: bool, evse_row: int = 0, **end: Any) -> None:
    tx = f"{evse_row}/{t}"
    transact(tape, t, "Started", tx, 0, reg_mwh=0, evse_row=evse_row)
    if ok:
        transact(tape, t + 10, "Updated", tx, 1, charging_state="Charging", evse_row=evse_row)
    transact(
        tape, t + 200, "Ended", tx, 2, reg_mwh=1_000_000 if ok else 0, evse_row=evse_row,
        **{"stopped_reason": "Timeout"} | end,
    )  # fmt: skip


def event(tape: Tape, t: float, code: str) -> None:
    at = tape.message(t, 0, "event")
    tape.record(
        StationEvent(
            at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), event_id=str(t), code=code,
            taxonomy="mrec",
        )
    )  # fmt: skip


def test_three_in_a_row_and_a_success() -> None:
    tape = Tape()
    for i, ok in enumerate([True, False, False, False, False, True]):
        attempt(tape, i * 1000.0, ok)
    found = tape.run("start_failures")
    assert brief(found) == [("raise", 1200.0, 3200.0), ("clear", 1200.0, 5200.0)]
    assert (found[0].evidence["in_a_row"], found[0].evidence["reason"]) == (3.0, "Timeout")


@pytest.mark.parametrize("reason", ["DeAuthorized", "Reboot", "PowerLoss"])
def test_what_says_nothing_of_the_connector_is_not_counted(reason: str) -> None:
    tape = Tape()
    for i in range(5):
        attempt(tape, i * 1000.0, False, stopped_reason=reason)
    assert tape.run("start_failures") == []


@pytest.mark.parametrize("state", ["SuspendedEV", "SuspendedEVSE"])
def test_a_car_that_waits_did_not_fail(state: str) -> None:
    tape = Tape()
    for i in range(5):
        t, tx = i * 1000.0, f"T{i}"
        transact(tape, t, "Started", tx, 0, reg_mwh=0)
        transact(tape, t + 10, "Updated", tx, 1, charging_state=state)
        transact(tape, t + 900, "Ended", tx, 2, reg_mwh=0, stopped_reason="EVDisconnected")
    assert tape.run("start_failures") == []


@pytest.mark.parametrize(("after", "found"), [(59.0, 0), (60.0, 1)])
def test_charging_without_energy_fails_after_a_minute(after: float, found: int) -> None:
    tape = Tape()
    for i in range(3):
        t, tx = i * 1000.0, f"T{i}"
        transact(tape, t, "Started", tx, 0, reg_mwh=0)
        transact(tape, t + 10, "Updated", tx, 1, charging_state="Charging")
        transact(tape, t + 10 + after, "Ended", tx, 2, reg_mwh=0, stopped_reason="Local")
    assert len(tape.run("start_failures")) == found


@pytest.mark.parametrize(("code", "found"), [("CX011", 1), ("CX012", 1), ("CX014", 0)])
def test_cable_check_and_precharge_failures_are_failed_starts(code: str, found: int) -> None:
    tape = Tape()
    for t in (0, 31, 62):
        event(tape, t, code)
    assert len(tape.run("start_failures")) == found


def test_a_report_and_the_end_of_its_transaction_are_one_failure() -> None:
    tape = Tape()
    for i in range(2):
        transact(tape, i * 500.0, "Started", f"T{i}", 0, reg_mwh=0)
        event(tape, i * 500.0 + 5, "CX012")
        event(tape, i * 500.0 + 9, "CX012")
        transact(tape, i * 500.0 + 20, "Ended", f"T{i}", 1, reg_mwh=0, stopped_reason="Other")
    assert tape.run("start_failures") == []


@pytest.mark.parametrize(("every", "found"), [(2, 1), (6, 0)])
def test_fails_far_more_often_than_its_site(every: int, found: int) -> None:
    """The neighbours fail once in 20; here every second or every sixth start fails, never three in a row."""
    tape = Tape()
    tape.story.stations.append((0, "more", 0))
    tape.story.evses.append((2, 1))
    for i in range(60):
        attempt(tape, i * 1000.0, i % 20 != 7, evse_row=2)
    for i in range(30):
        attempt(tape, 60_000.0 + i * 1000.0, i % every != 0)
    found_here = [e for e in tape.run("start_failures") if e.kind == 1]
    assert len(found_here) == found
    assert all(e.evidence["posterior"] > 0.99 and e.evidence["in_a_row"] < 3 for e in found_here)


def test_posterior_against_known_values() -> None:
    assert twice_as_often(1, 1, 1, 1, 1.0) == pytest.approx(0.5, abs=1e-3)
    assert twice_as_often(1, 1, 1, 1, 2.0) == pytest.approx(0.25, abs=1e-3)  # P(p > 2q) of two uniforms
    assert twice_as_often(50, 50, 5, 95) > 0.999
    assert twice_as_often(5, 95, 5, 95) == pytest.approx(0.1394, abs=1e-3)  # a million draws of each

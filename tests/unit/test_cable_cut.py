"""cable_cut: sensors that fail together, a pilot that opens under current, and every lawful end."""

from __future__ import annotations

from typing import Any

import pytest

from models import batch as b
from models.detecting import CRITICAL
from models.records import Status, Transaction
from tests.unit.detector_tape import Tape, at_ns, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.CHARGING


def plug(tape: Tape, t: float, cable_c: float, outlet_c: float) -> None:
    tape.sample(t, {"Temperature/Cable": cable_c, "Temperature/Outlet": outlet_c})


def test_both_sensors_failed_together() -> None:
    tape = Tape()
    for t, cable_c, outlet_c in ((0, 40, 41), (10, 200, 199), (20, -45, 200), (30, 40, 40), (90, 40, 40)):
        plug(tape, t, cable_c, outlet_c)
    found = tape.run("cable_cut")
    assert brief(found) == [("raise", 10.0, 20.0), ("clear", 10.0, 30.0)]
    assert found[0].severity == CRITICAL
    assert found[0].evidence["cause"] == 1


@pytest.mark.parametrize("period", [1.0, 20.0, 60.0, 900.0])
def test_sensors_at_any_sample_period(period: float) -> None:
    tape = Tape()
    for i, celsius in enumerate((40, 200, 200)):
        plug(tape, i * period, celsius, celsius)
    assert brief(tape.run("cable_cut")) == [("raise", period, 2 * period)]


@pytest.mark.parametrize(
    "sensors",
    [
        [(200, 200), (200, 200), (200, 200)],  # never good
        [(40, 40), (200, 40), (200, 40), (200, 200), (200, 200)],  # one after the other
        [(40, 40), (200, 200), (40, 40), (200, 200), (40, 40)],  # a disturbed bus
    ],
)
def test_broken_sensors_are_no_cut(sensors: list[tuple[float, float]]) -> None:
    tape = Tape()
    for i, (cable_c, outlet_c) in enumerate(sensors):
        plug(tape, i * 10, cable_c, outlet_c)
    assert tape.run("cable_cut") == []


def pilot(tape: Tape, t: float, volt: float, amps: float, state: int = CHARGING) -> None:
    tape.sample(t, {"x.CP.V": volt, "Current.Import@L1": amps}, state=state)


def said(tape: Tape, t: float, event: str, trigger: str, reason: str = "", state: str = "") -> None:
    at = tape.message(t, 0, "tx")
    tape.record(
        Transaction(
            at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), time_reported_ns=at_ns(t), tx_id="T",
            seq_no=None, event_type=event, trigger=trigger, stopped_reason=reason, charging_state=state,
        )
    )  # fmt: skip


def stepped(step: float = 10.0, word: dict[str, Any] | None = None, state: int = CHARGING) -> Tape:
    """Return a charge whose pilot opens and whose current stops in one step; `word` is said in between."""
    tape = Tape()
    pilot(tape, 0, 6.0, 16.0, state)
    if word:
        said(tape, step / 2, **word)
    for i in range(1, 4):
        pilot(tape, i * step, 12.0, 0.0, b.STATE_KNOWN if word else state)
    return tape


def test_pilot_opens_under_current() -> None:
    found = stepped().run("cable_cut")
    assert brief(found) == [("raise", 10.0, 20.0)]
    assert found[0].evidence["cause"] == 2
    assert found[0].evidence["current_before_a"] == 16.0


def test_what_the_station_sees_of_a_cut_is_a_car_that_departed() -> None:
    word = {"event": "Ended", "trigger": "EVDeparted", "reason": "EVDisconnected", "state": "Idle"}
    assert len(stepped(word=word).run("cable_cut")) == 1


@pytest.mark.parametrize(
    "word",
    [
        {"event": "Ended", "trigger": "StopAuthorized", "reason": "Local"},
        {"event": "Ended", "trigger": "RemoteStop", "reason": "Remote"},
        {"event": "Updated", "trigger": "ChargingStateChanged", "state": "SuspendedEV"},
        {"event": "Updated", "trigger": "ChargingStateChanged", "state": "EVConnected"},
    ],
)
def test_a_stop_before_the_step_is_a_lawful_end(word: dict[str, Any]) -> None:
    assert stepped(word=word).run("cable_cut") == []


def test_an_ocpp16_status_may_tell_the_stop() -> None:
    tape = Tape()
    pilot(tape, 0, 6.0, 16.0)
    at = tape.message(5, 0, "status")
    tape.record(
        Status(
            at=at,
            station_row=0,
            evse_row=0,
            conn=1,
            time_ns=at_ns(5),
            status="Occupied",
            status16="Finishing",
        )
    )
    for t in (10, 20):
        pilot(tape, t, 12.0, 0.0)
    assert tape.run("cable_cut") == []


@pytest.mark.parametrize(("step", "found"), [(1.0, 1), (20.0, 1), (30.0, 1), (31.0, 0), (900.0, 0)])
def test_slow_readings_cannot_tell_a_step(step: float, found: int) -> None:
    assert len(stepped(step).run("cable_cut")) == found


def test_a_car_that_stops_before_it_is_unplugged_is_no_cut() -> None:
    tape = Tape()
    for t, volt, amps in ((0, 6.0, 16.0), (2, 9.0, 0.0), (4, 12.0, 0.0), (6, 12.0, 0.0)):
        pilot(tape, t, volt, amps)
    assert tape.run("cable_cut") == []


def test_unknown_to_charge_is_no_cut() -> None:
    assert stepped(state=0).run("cable_cut") == []


def test_a_connected_car_clears() -> None:
    tape = stepped()
    for t in (100, 160):
        pilot(tape, t, 9.0, 0.0)
    assert brief(tape.run("cable_cut"))[1:] == [("clear", 10.0, 100.0)]

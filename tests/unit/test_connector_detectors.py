"""Detectors of the connector: limits on both sides, clears, and what must stay silent."""

from __future__ import annotations

from typing import Any

import pytest

from models import batch as b
from models.detecting import SEVERITIES
from models.records import Status, Transaction
from tests.unit.detector_tape import Tape, at_ns, brief

CHARGING = b.STATE_KNOWN | b.IN_TRANSACTION | b.OCCUPIED | b.CHARGING
PLUGGED = b.STATE_KNOWN | b.OCCUPIED
FREE = b.STATE_KNOWN
PERIODS = (1.0, 20.0, 60.0, 900.0)


def times(period: float, seconds: float) -> list[float]:
    """Return sample times over at least `seconds`, two at least."""
    return [i * period for i in range(max(2, int(seconds // period) + 1))]


def samples(tape: Tape, period: float, seconds: float, values: dict[str, float], state: int) -> None:
    for t in times(period, seconds):
        tape.sample(t, values, state=state)


# -- cabinet ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize(("celsius", "found"), [(69.9, 0), (70.0, 1), (150.0, 0)])
def test_cabinet_limit(period: float, celsius: float, found: int) -> None:
    tape = Tape()
    samples(tape, period, 60, {"Temperature/Body": celsius}, FREE)
    raised = tape.run("cabinet_over_temperature")
    assert [e.kind for e in raised] == [1] * found
    assert all((e.scope, e.evidence["evse"]) == ("station", 1) for e in raised)


def test_cabinet_needs_a_minute_and_clears_after_one() -> None:
    tape = Tape()
    for t, celsius in ((0, 75), (59, 75), (60, 74), (70, 69), (129, 69), (130, 69)):
        tape.sample(t, {"Temperature/Body": celsius})
    assert brief(tape.run("cabinet_over_temperature")) == [("raise", 0.0, 60.0), ("clear", 0.0, 70.0)]


# -- welded contactor ------------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize(
    ("about", "values", "found"),
    [
        ({}, {"Power.Active.Import": 101.0}, 1),
        ({}, {"Power.Active.Import": 100.0}, 0),
        ({"dc": True}, {"x.Output.V": 60.1}, 1),
        ({"dc": True}, {"x.Output.V": 60.0}, 0),
        ({"dc": True}, {"Voltage": 400.0}, 1),
        ({"dc": True}, {"Power.Active.Import": 900.0}, 0),
    ],
)
def test_live_output_without_a_car(
    period: float, about: dict[str, Any], values: dict[str, float], found: int
) -> None:
    tape = Tape(**about)
    samples(tape, period, 60, values, FREE)
    raised = tape.run("contactor_welded")
    assert [e.kind for e in raised] == [1] * found
    assert all(SEVERITIES[e.severity] == "critical" for e in raised)


@pytest.mark.parametrize(
    "state",
    [0, CHARGING, PLUGGED, PLUGGED | b.CHARGING, FREE | b.IN_TRANSACTION, PLUGGED | b.SUSPENDED_EVSE],
)
def test_what_is_not_outside_a_transaction_is_no_weld(state: int) -> None:
    """Nothing known, charging, a Started that is lost or late, charging without transactions."""
    tape = Tape()
    samples(tape, 10, 600, {"Power.Active.Import": 7000.0}, state)
    assert tape.run("contactor_welded") == []


def test_output_after_the_end_with_the_car_still_plugged_in() -> None:
    tape = Tape()
    tape.sample(0, {"Power.Active.Import": 7000.0}, state=CHARGING)
    for t in (10, 40, 70):
        tape.sample(t, {"Power.Active.Import": 300.0}, state=PLUGGED)
    assert brief(tape.run("contactor_welded")) == [("raise", 10.0, 70.0)]


def test_a_new_car_after_that_may_wait_for_its_started() -> None:
    tape = Tape()
    tape.sample(0, {"Power.Active.Import": 7000.0}, state=CHARGING)
    tape.sample(10, {"Power.Active.Import": 0.0}, state=FREE)
    for t in (20, 80, 140):
        tape.sample(t, {"Power.Active.Import": 7000.0}, state=PLUGGED)
    assert tape.run("contactor_welded") == []


@pytest.mark.parametrize(("pilot", "found"), [(9.0, 1), (6.0, 0)])
def test_the_pilot_says_whether_a_plugged_car_asks(pilot: float, found: int) -> None:
    tape = Tape()
    samples(tape, 10, 60, {"Power.Active.Import": 300.0, "x.CP.V": pilot}, PLUGGED)
    assert len(tape.run("contactor_welded")) == found


# -- contactor that does not close -----------------------------------------------------------------


def offer(amps: float, offered: float = 16.0, **more: float) -> dict[str, float]:
    return {"Current.Import@L1": amps, "Current.Offered": offered} | more


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize(
    ("values", "state", "found"),
    [
        (offer(0.9), CHARGING, 1),
        (offer(1.0), CHARGING, 0),
        (offer(0.0, 6.0), CHARGING, 1),
        (offer(0.0, 5.9), CHARGING, 0),
        (offer(0.0), CHARGING | b.SUSPENDED_EV, 0),
        (offer(0.0), PLUGGED, 0),
        (offer(0.0, SoC=96.0), CHARGING, 0),
        (offer(0.0) | {"x.CP.V": 9.0}, CHARGING, 0),
        (offer(0.0) | {"x.CP.V": 6.0}, CHARGING, 1),
        (offer(0.0) | {"Power.Active.Import": 3000.0}, CHARGING, 0),
    ],
)
def test_nothing_flows(period: float, values: dict[str, float], state: int, found: int) -> None:
    tape = Tape()
    samples(tape, period, 60, values, state)
    assert [e.kind for e in tape.run("contactor_stuck_open")] == [1] * found


@pytest.mark.parametrize(("last", "found"), [(16.0, 1), (7.9, 0)])
def test_a_charge_that_tapered_is_done(last: float, found: int) -> None:
    tape = Tape()
    tape.sample(0, offer(last), state=CHARGING)
    for t in (10, 70):
        tape.sample(t, offer(0.1), state=CHARGING)
    assert len(tape.run("contactor_stuck_open")) == found


# -- proximity and latch ---------------------------------------------------------------------------


@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize(
    ("volts", "state", "kind", "found"),
    [
        (1.83, CHARGING, "IEC_62196_T1", 1),
        (1.82, CHARGING, "IEC_62196_T1", 0),
        (1.22, CHARGING, "IEC_62196_T1_COMBO", 1),
        (1.23, CHARGING, "IEC_62196_T1_COMBO", 0),
        (2.0, CHARGING, "IEC_62196_T2", 0),
        (2.0, PLUGGED, "IEC_62196_T1", 0),
    ],
)
def test_proximity_band(period: float, volts: float, state: int, kind: str, found: int) -> None:
    tape = Tape(conn_type=kind)
    samples(tape, period, 0, {"x.PP.V": volts}, state)
    assert len(tape.run("proximity_out_of_range")) == found


@pytest.mark.parametrize(("apart", "found"), [(290, 1), (301, 0)])
def test_three_episodes_in_ten_minutes(apart: float, found: int) -> None:
    tape = Tape(conn_type="IEC_62196_T1")
    for i in range(3):
        tape.sample(i * apart, {"x.PP.V": 2.0}, state=CHARGING)
        tape.sample(i * apart + 5, {"x.PP.V": 1.5}, state=CHARGING)
    raised = [e for e in tape.run("proximity_out_of_range") if e.kind == 1]
    assert len(raised) == found
    assert all(e.start_ns == at_ns(0) for e in raised)


def plug_in(tape: Tape, t: float, step: bool, period: float = 1.0) -> None:
    for i, volts in enumerate([4.46, 2.8, 1.5] if step else [4.46, 4.46, 1.5]):
        tape.sample(t + i * period, {"x.PP.V": volts}, state=PLUGGED)


def test_three_plug_ins_without_the_step_and_one_with_it() -> None:
    tape = Tape(conn_type="IEC_62196_T1", sample_s=1.0)
    for i, step in enumerate([True, False, False, False, False, True]):
        plug_in(tape, i * 100.0, step)
    found = tape.run("broken_latch")
    assert brief(found) == [("raise", 102.0, 302.0), ("clear", 102.0, 502.0)]
    assert (found[0].evidence["plug_ins"], found[1].evidence["plug_ins"]) == (3.0, 4.0)


@pytest.mark.parametrize(
    ("about", "period"),
    [
        ({"conn_type": "IEC_62196_T2", "sample_s": 1.0}, 1.0),
        ({"conn_type": "IEC_62196_T1", "sample_s": 5.0}, 1.0),
        ({"conn_type": "IEC_62196_T1", "sample_s": None}, 1.0),
        ({"conn_type": "IEC_62196_T1", "sample_s": 1.0}, 3.0),
    ],
)
def test_a_step_that_cannot_be_seen_is_not_missed(about: dict[str, Any], period: float) -> None:
    tape = Tape(**about)
    for i in range(5):
        plug_in(tape, i * 100.0, False, period)
    assert tape.run("broken_latch") == []


# -- plugs that come and go ------------------------------------------------------------------------


def status(tape: Tape, t: float, name: str) -> None:
    at = tape.message(t, 0, "status")
    tape.record(Status(at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), status=name))


def transact(tape: Tape, t: float, kind: str, tx: str = "T", n: int = 1, **fields: Any) -> None:
    at = tape.message(t, 0, "tx")
    evse_row = fields.pop("evse_row", 0)
    tape.record(
        Transaction(
            at=at, station_row=0, evse_row=evse_row, conn=1, time_ns=at_ns(t), time_reported_ns=at_ns(t),
            tx_id=tx, seq_no=n, event_type=kind, **fields,
        )
    )  # fmt: skip


def cycles(tape: Tape, n: int, period: float) -> None:
    for i in range(n):
        status(tape, i * period, "Occupied")
        status(tape, i * period + 10, "Available")


@pytest.mark.parametrize(
    ("n", "period", "found"), [(2, 20.0, 0), (3, 20.0, 1), (3, 55.0, 1), (3, 55.1, 0), (8, 60.0, 0)]
)
def test_three_cycles_in_two_minutes(n: int, period: float, found: int) -> None:
    tape = Tape()
    cycles(tape, n, period)
    assert len(tape.run("phantom_plug_cycles")) == found


def test_phantom_cycles_clear_two_minutes_after_the_last() -> None:
    tape = Tape()
    cycles(tape, 4, 20)
    tape.ticks(71, 200)
    found = tape.run("phantom_plug_cycles")
    assert brief(found) == [("raise", 0.0, 50.0), ("clear", 0.0, 70.0)]
    assert (found[1].effect_ns, found[1].evidence) == (at_ns(190), {"cycles": 4.0})


def test_short_charges_are_no_phantoms() -> None:
    tape = Tape()
    for i in range(4):
        status(tape, i * 25, "Occupied")
        transact(tape, i * 25 + 5, "Updated", f"T{i}", charging_state="Charging")
        status(tape, i * 25 + 20, "Available")
    assert tape.run("phantom_plug_cycles") == []


def test_statuses_sent_again_are_no_cycles() -> None:
    tape = Tape()
    for t in range(0, 100, 10):
        status(tape, t, "Available")
        status(tape, t + 1, "Available")
    assert tape.run("phantom_plug_cycles") == []

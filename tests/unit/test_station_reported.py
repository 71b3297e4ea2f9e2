"""station_reported: the event map at work, clears, expiry, backlog, severities."""

from __future__ import annotations

from typing import Any

import pytest

from models.detecting import CRITICAL, INFO, WARNING
from models.records import StationEvent, Status, Transaction
from tests.unit.detector_tape import START_NS, Tape, at_ns


def event(
    tape: Tape, t: float, code: str, *, taxonomy: str = "mrec", happened: float | None = None, **fields: Any
) -> None:
    at = tape.message(t, 0, "event", boot=1, seq=1)
    values: dict[str, Any] = {"station_row": 0, "evse_row": 0, "conn": 1, "event_id": "1"} | fields
    when = at_ns(t if happened is None else happened)
    tape.record(StationEvent(at=at, time_ns=when, code=code, taxonomy=taxonomy, **values))


def status(tape: Tape, t: float, word: str, **fields: Any) -> None:
    at = tape.message(t, 0, "status", boot=1, seq=1)
    tape.record(Status(at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), status=word, **fields))


def seen(tape: Tape) -> list[tuple[int, str, str, float]]:
    """Return (kind, code, scope, moment)."""
    return [(e.kind, e.code, e.scope, (e.effect_ns - START_NS) / 1e9) for e in tape.run("station_reported")]


def test_event_raises_under_its_code_with_the_stations_words() -> None:
    tape = Tape()
    event(tape, 5, "CX018", component="TemperatureSensor", value="71", tech_info="derating")
    (found,) = tape.run("station_reported")
    assert (found.code, found.scope, found.subject, found.source) == (
        "connector_over_temperature",
        "evse",
        0,
        "station",
    )
    assert found.taxonomy == "mrec:CX018"
    assert found.connector == 1
    assert found.evidence == {
        "code": "CX018",
        "component": "TemperatureSensor",
        "value": "71",
        "tech_info": "derating",
    }


def test_scope_is_what_the_code_is_about() -> None:
    tape = Tape()
    event(tape, 0, "CX003")  # a cabinet belongs to the station
    event(tape, 1, "CX008", evse_row=-1)
    assert seen(tape) == [
        (1, "cabinet_over_temperature", "station", 0.0),
        (1, "station_reported", "station", 1.0),
    ]


@pytest.mark.parametrize("code", ["CX011", "CX012"])
def test_failed_starts_are_no_findings_of_their_own(code: str) -> None:
    tape = Tape()
    event(tape, 0, code)
    assert tape.run("station_reported") == []


def test_repeated_event_is_one_finding_and_cleared_ends_it() -> None:
    tape = Tape()
    for t in (0, 10, 20):
        event(tape, t, "CX001")
    event(tape, 30, "CX002", cleared=True)
    event(tape, 40, "CX001", cleared=True)
    assert seen(tape) == [(1, "lock_failure", "evse", 0.0), (3, "lock_failure", "evse", 40.0)]


@pytest.mark.parametrize(
    ("word", "fields", "clears"),
    [
        ("Available", {}, True),
        ("Occupied", {}, True),
        ("Occupied", {"status16": "Charging"}, True),
        ("Faulted", {}, False),
        ("Unavailable", {}, False),
    ],
)
def test_next_normal_state_clears(word: str, fields: dict[str, str], clears: bool) -> None:
    tape = Tape()
    event(tape, 0, "CX001")
    status(tape, 10, word, **fields)
    assert [kind for kind, *_ in seen(tape)] == ([1, 3] if clears else [1])


def test_state_in_the_same_message_does_not_clear() -> None:
    tape = Tape()
    event(tape, 0, "HighTemperature", taxonomy="ocpp16")
    at = tape.story.records[-1].at
    tape.record(Status(at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(0), status="Occupied"))
    assert [kind for kind, *_ in seen(tape)] == [1]


def test_no_error_takes_back_what_1_6_reported() -> None:
    tape = Tape()
    event(tape, 0, "GroundFailure", taxonomy="ocpp16")
    event(tape, 1, "CX002")
    event(tape, 2, "NoError", taxonomy="ocpp16")
    assert [(k, m) for k, _, _, m in seen(tape)] == [(1, 0.0), (1, 1.0), (3, 2.0)]


def test_clears_after_a_day() -> None:
    tape = Tape()
    event(tape, 0, "CX001")
    tape.ticks(86_399, 86_402)
    assert seen(tape) == [(1, "lock_failure", "evse", 0.0), (3, "lock_failure", "evse", 86_400.0)]


@pytest.mark.parametrize(("age", "live"), [(900, True), (901, False)])
def test_old_events_are_backlog(age: float, live: bool) -> None:
    tape = Tape()
    event(tape, 1000, "CX001", happened=1000 - age)
    assert [e.live for e in tape.run("station_reported")] == [live]


def test_backlog_that_still_stands_is_raised_live_once_it_settled() -> None:
    tape = Tape()
    event(tape, 5000, "CX001", happened=0)
    tape.ticks(5001, 5700)
    found = tape.run("station_reported")
    assert [e.live for e in found] == [False, True]
    assert (found[1].effect_ns - START_NS) / 1e9 == 5600.0
    assert found[0].start_ns == found[1].start_ns
    tape = Tape()
    event(tape, 5000, "CX001", happened=0)
    event(tape, 5001, "CX001", happened=60, cleared=True)
    tape.ticks(5002, 5700)
    assert [(e.kind, e.live) for e in tape.run("station_reported")] == [(1, False), (3, False)]


@pytest.mark.parametrize(
    ("own", "expected"),
    [(None, WARNING), (0, CRITICAL), (3, CRITICAL), (4, WARNING), (6, WARNING), (7, INFO), (9, INFO)],
)
def test_the_stations_own_severity_counts(own: int | None, expected: int) -> None:
    tape = Tape()
    event(tape, 0, "CX001", severity=own)
    assert tape.run("station_reported")[0].severity == expected


def test_higher_severity_is_an_update() -> None:
    tape = Tape()
    event(tape, 0, "CX001", severity=5)
    event(tape, 1, "CX001", severity=8)
    event(tape, 2, "CX001", severity=1)
    found = tape.run("station_reported")
    assert [(e.kind, e.severity) for e in found] == [(1, WARNING), (2, CRITICAL)]


def transaction(tape: Tape, t: float, trigger: str, state: str) -> None:
    at = tape.message(t, 0, "tx", boot=1, seq=1)
    tape.record(
        Transaction(
            at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), time_reported_ns=at_ns(t), tx_id="T",
            seq_no=1, event_type="Updated", trigger=trigger, charging_state=state,
        )
    )  # fmt: skip


def test_lost_communication_with_the_car_ends_when_it_charges_again() -> None:
    tape = Tape()
    event(tape, 0, "CX001")
    transaction(tape, 1, "EVCommunicationLost", "EVConnected")
    transaction(tape, 2, "ChargingStateChanged", "SuspendedEV")
    transaction(tape, 3, "ChargingStateChanged", "Charging")
    assert seen(tape) == [
        (1, "lock_failure", "evse", 0.0),
        (1, "ev_communication", "evse", 1.0),
        (3, "ev_communication", "evse", 3.0),
    ]


def test_memory_is_bounded() -> None:
    tape = Tape()
    for i in range(5):
        event(tape, i, f"E{i}", taxonomy="vendor")
    found = tape.run("station_reported", open_max=2)
    assert [(e.kind, e.taxonomy) for e in found if e.kind == 3] == [
        (3, "vendor:E0"),
        (3, "vendor:E1"),
        (3, "vendor:E2"),
    ]

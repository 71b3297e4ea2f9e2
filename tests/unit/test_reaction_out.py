"""Who keeps an EVSE out of service: what a reaction must not undo."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.records import Record

from .test_reactions import HOT, POLICY, WORN, Event, available, finding, person, run


def test_what_another_finding_keeps_out_of_service_stays_so() -> None:
    policy = replace(POLICY, rules=(HOT, WORN))
    worn = finding(20, code="contact_resistance")
    events: list[Event] = [(10, finding(10)), (20, worn), (400, finding(400, "cleared"))]
    asks, rows = run(events, 500, policy)
    assert [ask.command for order, ask in asks if order == 400] == ["ClearChargingProfile"]
    kept = next(row for row in rows if row.reason.startswith("not undone"))
    assert (kept.state, kept.reason) == (
        "refused",
        "not undone: finding f-contac still keeps it out of service",
    )
    events.append((450, finding(450, "cleared", "contact_resistance")))
    asks, _ = run(events, 500, policy)
    assert asks[-1][1].body == {"operationalStatus": "Operative", "evse": {"id": 1}}


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (available(5, status="Unavailable"), "it was out of service already"),
        (person(5, "Inoperative"), "kim set it Inoperative already"),
    ],
)
def test_what_a_person_took_out_of_service_is_not_put_back(before: Record, reason: str) -> None:
    events: list[Event] = [(5, before), (10, finding(10)), (400, finding(400, "cleared"))]
    asks, rows = run(events, 500)
    assert [ask.command for _, ask in asks] == ["SetChargingProfile", "ClearChargingProfile"]
    assert reason in {row.reason for row in rows}


def test_a_person_who_takes_it_out_of_service_meanwhile_keeps_it_so() -> None:
    events: list[Event] = [(10, finding(10)), (350, person(350, "Inoperative"))]
    asks, rows = run([*events, (400, finding(400, "cleared"))], 500)
    assert [ask.command for order, ask in asks if order == 400] == ["ClearChargingProfile"]
    assert "not undone: kim set it Inoperative meanwhile" in {row.reason for row in rows}
    events.append((360, person(360, "Operative")))
    asks, _ = run([*events, (400, finding(400, "cleared"))], 500)
    assert next(ask.command for order, ask in asks if order == 400) == "ChangeAvailability"

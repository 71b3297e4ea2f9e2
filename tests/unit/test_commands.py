"""Commands of one shard: order, time, tries, answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models.command_check import COMMANDS
from models.command_repeat import ONCE, REPEATABLE
from models.command_types import CAMPAIGN, LOAD, SAFETY, CommandConfig, command_id
from models.commands import CommandBook
from models.errors import SnapshotError

from .commanding import CONFIG, T0, Desk, Stations, reset


def test_a_command_goes_out_and_its_answer_ends_it() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    assert cmd == command_id("depot", "s1", "operator/1") == "7fe7b2af-a2f9-55d4-8c5b-131809434619"
    assert desk.sent == [cmd]
    assert desk.answer(cmd, "Accepted", 2)
    assert desk.told(cmd) == [("asked", "requested"), ("send", "sent"), ("accept", "accepted")]
    row = desk.rows[-1]
    assert (row.asked_ms, row.sent_ms, row.ended_ms, row.sends, row.answers) == (T0, T0, T0 + 2000, 1, 1)
    assert [r.change for r in desk.rows] == [1, 2, 3]


def test_asking_twice_for_one_cause_is_asking_once() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    assert desk.ask(reset(), 1) == cmd
    desk.answer(cmd, "Rejected", 2)
    desk.ask(reset(), 3)
    assert desk.sent == [cmd]
    assert desk.state(cmd) == "rejected"


@pytest.mark.parametrize(
    ("command", "status", "body", "state"),
    [
        ("Reset", "Scheduled", {}, "scheduled"),
        ("Reset", "Rejected", {"statusInfo": {"reasonCode": "TxInProgress"}}, "rejected"),
        ("Reset", "", {"error": {"code": "InternalError", "description": "no"}}, "failed"),
        ("Reset", "Perhaps", {}, "failed"),
        ("Reset", "Expired", {}, "rejected"),
        ("UnlockConnector", "Unlocked", {}, "accepted"),
        ("UnlockConnector", "OngoingAuthorizedTransaction", {}, "rejected"),
        ("UnlockConnector", "Accepted", {}, "failed"),
        ("UpdateFirmware", "AcceptedCanceled", {}, "accepted"),
        ("TriggerMessage", "NotImplemented", {}, "rejected"),
    ],
)
def test_what_answers_mean(command: str, status: str, body: dict[str, Any], state: str) -> None:
    bodies = {
        "Reset": {"type": "Immediate"},
        "UnlockConnector": {"evseId": 1, "connectorId": 1},
        "TriggerMessage": {"requestedMessage": "Heartbeat"},
        "UpdateFirmware": {
            "requestId": 1,
            "firmware": {"location": "https://x.example/f", "retrieveDateTime": "2026-05-29T00:00:00Z"},
        },
    }
    desk = Desk()
    cmd = desk.ask(reset(command=command, body=bodies[command]))
    desk.answer(cmd, status, 1, **body)
    assert desk.state(cmd) == state, desk.reason(cmd)
    if state == "rejected" and body:
        assert "TxInProgress" in desk.reason(cmd)


def test_the_first_answer_stands_and_later_ones_are_told() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    desk.answer(cmd, "Rejected", 1)
    for i in range(20):
        desk.answer(cmd, "Accepted", 2 + i)
    assert {row.state for row in desk.rows if row.change > 2} == {"rejected"}
    told = [row for row in desk.rows if row.event == "accept"]
    assert len(told) == 7  # bounded: a station cannot fill the ledger
    assert told[0].note == "Accepted: an answer that counts no more: it was rejected before"
    assert (told[0].status, told[0].reason) == ("Rejected", "Rejected")
    assert desk.book.get(cmd).answers == 21  # type: ignore[union-attr]


def test_an_answer_of_another_station_or_to_nothing_is_none() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    assert not desk.answer(cmd, "Accepted", 1, station="s2")
    assert not desk.answer("11111111-0000-0000-0000-000000000000", "Accepted", 1)
    assert desk.state(cmd) == "sent"


def test_no_answer_sends_again_then_gives_up() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    for at in range(1, 80):
        desk.tick(at)
    assert [row.changed_ms - T0 for row in desk.rows if row.event == "resend"] == [10_000, 30_000]
    assert desk.told(cmd)[-1] == ("give_up", "failed")
    assert desk.rows[-1].changed_ms - T0 == 70_000
    assert desk.sent == [cmd] * 3
    desk.answer(cmd, "Accepted", 90)
    assert desk.state(cmd) == "failed"
    assert desk.rows[-1].event == "accept"


def test_a_station_that_does_repeats_again_gets_harmful_commands_once() -> None:
    desk = Desk(Stations(forgetful={"s1"}))
    once = desk.ask(reset())
    for at in range(1, 299):
        desk.tick(at)
    assert desk.state(once) == "sent"  # its answer may still come
    desk.tick(300)
    assert desk.told(once) == [("asked", "requested"), ("send", "sent"), ("expire", "expired")]
    assert "sent once" in desk.reason(once)
    assert "nobody knows whether it was done" in desk.reason(once)
    again = desk.ask(reset(cause="operator/2", command="ClearCache", body={}, expires_ms=T0 + 900_000), 320)
    desk.tick(331)
    assert desk.told(again)[-1] == ("resend", "sent")
    assert desk.sent == [once, again, again]


def test_what_waits_for_a_late_answer_makes_way_for_others_after_the_time_for_one() -> None:
    desk = Desk(Stations(forgetful={"s1"}))
    once = desk.ask(reset())
    other = desk.ask(reset(cause="b", command="ClearCache", body={}), 4)
    desk.back(5)  # it was never away: no reason to give up yet
    desk.tick(9)
    assert desk.state(once) == "sent"
    desk.tick(10)
    assert desk.told(once)[-1] == ("give_up", "failed")
    assert "nobody knows whether it was done" in desk.reason(once)
    assert desk.sent == [once, other]
    desk.answer(other, "Accepted", 11)
    once = desk.ask(reset(cause="c", expires_ms=T0 + 900_000), 20)
    desk.tick(100)
    desk.ask(reset(cause="d", command="ClearCache", body={}, expires_ms=T0 + 900_000), 110)
    desk.tick(110)
    assert desk.told(once)[-1] == ("give_up", "failed")


def test_a_refusal_of_a_repeat_says_that_an_earlier_try_may_have_done_it() -> None:
    desk = Desk(Stations(forgetful={"s1"}))
    for tries, told in ((1, "Unknown"), (2, "Unknown, to one of 2 tries: an earlier one may have done it")):
        body = {"chargingProfileId": 1}
        cmd = desk.ask(reset(cause=str(tries), command="ClearChargingProfile", body=body), 20 * tries)
        desk.tick(20 * tries + 10 * tries - 5)
        desk.answer(cmd, "Unknown", 20 * tries + 16)
        assert (desk.state(cmd), desk.reason(cmd)) == ("rejected", told)


def test_every_command_is_either_repeatable_or_not() -> None:
    assert set(REPEATABLE) | set(ONCE) == set(COMMANDS)
    assert not set(REPEATABLE) & set(ONCE)
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    told = {
        name: again
        for names, again in re.findall(r"^\| ([A-Z][A-Za-z, ]+) \| (yes|no) \|", page, re.MULTILINE)
        for name in names.split(", ")
    }
    assert told == dict.fromkeys(REPEATABLE, "yes") | dict.fromkeys(ONCE, "no")


def test_expiry_is_journaled_time() -> None:
    desk = Desk(Stations(away={"s1"}))
    cmd = desk.ask(reset(expires_ms=T0 + 5_000))
    desk.tick(4.999)
    assert desk.state(cmd) == "requested"
    desk.tick(5)
    assert desk.told(cmd)[-1] == ("expire", "expired")
    late = desk.ask(reset(cause="x", expires_ms=T0), 6)
    assert desk.told(late) == [("asked", "requested"), ("expire", "expired")]
    assert desk.sent == []


def test_a_station_that_is_away_gets_its_commands_when_it_is_back() -> None:
    desk = Desk(Stations(away={"s1"}))
    first, second = desk.ask(reset()), desk.ask(reset(cause="operator/2"), 1)
    assert desk.sent == []
    desk.back(30)
    assert desk.sent == [first]
    desk.answer(first, "Accepted", 31)
    assert desk.sent == [first, second]


def test_one_that_went_away_before_it_answered_is_asked_again_when_it_is_back() -> None:
    desk = Desk()
    cmd = desk.ask(reset(command="TriggerMessage", body={"requestedMessage": "Heartbeat"}))
    desk.places.away.add("s1")
    desk.tick(200)
    assert desk.state(cmd) == "sent"
    desk.back(250)
    assert desk.sent == [cmd, cmd]


def test_a_reset_that_is_followed_by_a_new_boot_was_done() -> None:
    desk = Desk()
    cmd = desk.ask(reset())
    desk.back(5, rebooted=False)
    assert desk.state(cmd) == "sent"
    desk.back(9, rebooted=True)
    assert desk.told(cmd)[-1] == ("restart", "accepted")


def test_one_in_flight_the_urgent_first_and_the_queue_is_bounded() -> None:
    desk = Desk()
    flying = desk.ask(reset())
    campaign = desk.ask(reset(cause="c", priority=CAMPAIGN))
    load = desk.ask(reset(cause="l", priority=LOAD))
    other = desk.ask(reset(cause="l2", priority=LOAD))
    full = desk.ask(reset(cause="l3", priority=LOAD))
    assert desk.told(full) == [("asked", "requested"), ("refuse", "failed")]
    assert "queue" in desk.reason(full)
    safe = desk.ask(reset(cause="s", priority=SAFETY))
    assert desk.told(campaign)[-1] == ("refuse", "failed")
    assert "safety" in desk.reason(campaign)
    for i, cmd in enumerate([flying, safe, load, other]):
        assert desk.sent[-1] == cmd
        desk.answer(cmd, "Accepted", 1 + i)
    assert desk.book.stations() == []


def test_the_urgent_one_waits_for_one_answer_not_for_further_tries() -> None:
    desk = Desk()
    slow = desk.ask(reset(priority=CAMPAIGN))
    desk.tick(10)  # its second try, whose answer would have 20 s
    safe = desk.ask(reset(cause="s", priority=SAFETY), 11)
    desk.tick(19.9)
    assert desk.sent == [slow, slow]
    desk.tick(20)
    assert desk.told(slow)[-1] == ("give_up", "failed")
    assert desk.sent[-1] == safe


def test_a_newer_wish_replaces_one_that_waits_and_not_one_that_left() -> None:
    desk = Desk()
    left = desk.ask(reset(replaces="limit"))
    old = desk.ask(reset(cause="b", replaces="limit"))
    other = desk.ask(reset(cause="c", replaces="else"))
    new = desk.ask(reset(cause="d", replaces="limit"))
    assert desk.state(left) == "sent"
    assert desk.told(old)[-1] == ("supersede", "failed")
    assert new in desk.reason(old)
    desk.answer(left, "Accepted", 1)
    desk.answer(other, "Accepted", 2)
    assert desk.sent == [left, other, new]


def test_taking_back() -> None:
    desk = Desk()
    sent, waiting = desk.ask(reset()), desk.ask(reset(cause="b"))
    for cmd in (sent, waiting, "nobody"):
        desk.book.cancel(cmd, "ben", T0, 0)
    desk.take()
    assert desk.told(sent)[-1] == ("cancel", "sent")
    assert desk.told(waiting)[-1] == ("cancel", "failed")
    assert "ben" in desk.reason(waiting)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "Explode"}, "no command 'Explode'; there are UpdateFirmware"),
        ({"body": {"type": "Now"}}, "Reset (OCPP 2.0.1): type: 'Now' is not one of"),
        ({"body": {}}, "'type' is a required property"),
        ({"body": {"type": "OnIdle", "evse": 1}}, "'evse' was unexpected"),
        ({"station": "nowhere"}, "no station 'nowhere' was ever heard of"),
        ({"body": {"type": "OnIdle", "customData": {"vendorId": "x" * 70_000}}}, "expected at most 65536"),
    ],
)
def test_what_cannot_be_sent_fails_and_says_why(fields: dict[str, Any], words: str) -> None:
    desk = Desk()
    cmd = desk.ask(reset(**fields))
    assert desk.told(cmd) == [("asked", "requested"), ("refuse", "failed")]
    assert words in desk.reason(cmd)
    assert desk.sent == []


def test_what_the_dialect_cannot_carry_fails() -> None:
    desk = Desk(Stations(deaf={"s1"}))
    cmd = desk.ask(reset())
    assert desk.told(cmd)[-1] == ("refuse", "failed")
    desk = Desk()
    first, second = desk.ask(reset()), desk.ask(reset(cause="b"))
    desk.places.deaf.add("s1")
    desk.answer(first, "Accepted", 1)
    assert desk.told(second)[-1] == ("refuse", "failed")


def test_ended_ones_are_forgotten_by_age_and_number() -> None:
    desk = Desk(config=CommandConfig(remember=5, remember_ms=1000))
    for i in range(9):
        desk.answer(desk.ask(reset(cause=str(i))), "Accepted", 0)
    known = [i for i in range(9) if desk.book.get(command_id("depot", "s1", str(i)))]
    assert known == [4, 5, 6, 7, 8]
    desk.tick(1)
    assert not any(desk.book.get(command_id("depot", "s1", str(i))) for i in range(9))


def test_what_is_held_stays_bounded_however_many_commands_there_were() -> None:
    desk = Desk(config=CommandConfig(remember=5))
    for i in range(500):
        desk.answer(desk.ask(reset(cause=str(i), expires_ms=T0 + 10**9)), "Accepted", 0)
        desk.rows.clear()
    assert len(desk.book.snapshot()["commands"]) == 5
    assert len(desk.book._due) < 100


def test_saved_state_of_another_version_is_refused() -> None:
    with pytest.raises(SnapshotError, match="version 99"):
        CommandBook(0, CONFIG, Stations(), {"version": 99})


def test_a_birth_before_the_time_for_an_answer_is_no_reason_to_give_up() -> None:
    desk = Desk(Stations(forgetful={"s1"}))
    once = desk.ask(reset(expires_ms=T0 + 8_000))
    desk.ask(reset(cause="b", command="ClearCache", body={}), 1)
    desk.back(5)
    assert desk.state(once) == "sent"
    desk.answer(once, "Accepted", 6)
    assert desk.state(once) == "accepted"

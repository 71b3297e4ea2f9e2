"""Commands of one shard: order, time, tries, answers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.command_states import ENDED
from models.command_types import CAMPAIGN, LOAD, SAFETY, CommandConfig, command_id
from models.commands import CommandBook
from models.errors import SnapshotError
from models.outputs import CommandRow

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


def test_a_station_that_does_repeats_again_gets_dangerous_commands_once() -> None:
    desk = Desk(Stations(forgetful={"s1"}))
    once = desk.ask(reset())
    desk.tick(11)
    assert desk.told(once)[-1] == ("give_up", "failed")
    again = desk.ask(
        reset(cause="operator/2", command="TriggerMessage", body={"requestedMessage": "Heartbeat"}), 20
    )
    desk.tick(31)
    assert desk.told(again)[-1] == ("resend", "sent")


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
    assert [c.ask.cmd_id for c in desk.book.open_of("depot", "s1")] == [left, other, new]


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


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "tick", "away", "back", "boot", "cancel", "old"]),
        st.integers(0, 5),  # which command
        st.integers(1, 3),  # which station
        st.sampled_from(["Accepted", "Rejected", "Scheduled", "Nonsense"]),
        st.integers(0, 25),  # seconds that pass
    ),
    max_size=60,
)


def play(
    steps: list[tuple[str, int, int, str, int]], restart_every: int
) -> tuple[list[CommandRow], list[str]]:
    desk = Desk()
    now = 0.0
    for i, (what, number, station_number, status, passed) in enumerate(steps):
        now += passed
        station = f"s{station_number}"
        ask = reset(
            station,
            cause=str(number),
            priority=number % 5,
            replaces="k" if number % 2 else "",
            expires_ms=T0 + round(now * 1000) + 1000 * (10 + 20 * number),
        )
        match what:
            case "ask":
                desk.ask(ask, now)
            case "answer" | "old":
                desk.answer(ask.cmd_id, status, now, station)
            case "away":
                desk.places.away.add(station)
            case "back" | "boot":
                desk.back(now, station, what == "boot")
            case "cancel":
                desk.book.cancel(ask.cmd_id, "x", T0 + round(now * 1000), 0)
                desk.take()
        desk.tick(now)
        if restart_every and i % restart_every == 0:
            desk.restart()
    desk.places.away.clear()
    for later in range(1, 400, 5):
        desk.tick(now + later)
        if restart_every:
            desk.restart()
    return desk.rows, desk.sent


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_every_command_ends_once_with_its_first_answer(steps: list) -> None:  # type: ignore[type-arg]
    rows, sent = play(steps, 0)
    by_id: dict[str, list[CommandRow]] = {}
    for row in rows:
        by_id.setdefault(row.cmd_id, []).append(row)
    for cmd_id, told in by_id.items():
        assert [row.change for row in told] == list(range(1, len(told) + 1))
        ends = [row for row in told if row.state in ENDED]
        assert ends, "it never ended"
        assert len({(row.state, row.ended_ms) for row in ends}) == 1, "it ended twice"
        assert told[-1].sends == sent.count(cmd_id) <= CONFIG.sends
        while_sent = [a for b, a in itertools.pairwise(told) if b.state == "sent"]
        answers = [row for row in while_sent if row.event in ("accept", "reject", "schedule", "error")]
        if answers:
            assert answers[0].state in ENDED
            assert told[-1].state == answers[0].state
    flying: dict[str, set[str]] = {}
    for row in rows:  # one in flight a station
        here = flying.setdefault(row.station, set())
        here.add(row.cmd_id) if row.state == "sent" else here.discard(row.cmd_id)
        assert len(here) <= 1


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_saving_and_restoring_anywhere_changes_nothing(steps: list, every: int) -> None:  # type: ignore[type-arg]
    assert play(steps, every) == play(steps, 0)

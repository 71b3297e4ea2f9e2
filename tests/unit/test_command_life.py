"""Whatever happens to commands, in whatever order: each ends once, as its first answer says."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from models.command_states import ENDED
from models.command_types import Ask
from models.outputs import CommandRow
from tests.naive.commands import NaiveBook

from .commanding import CONFIG, T0, Desk, Stations, reset

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


FORGETFUL = {"s3"}


def wish(number: int, station: str, now: float) -> Ask:
    """Return a wish: of two kinds, of which one must not be repeated to s3."""
    return reset(
        station,
        cause=str(number),
        command="Reset" if number % 2 else "ClearCache",
        body={"type": "OnIdle"} if number % 2 else {},
        priority=number % 5,
        replaces="k" if number % 2 else "",
        expires_ms=T0 + round(now * 1000) + 1000 * (10 + 20 * number),
    )


def play(
    steps: list[tuple[str, int, int, str, int]], restart_every: int
) -> tuple[list[CommandRow], list[str]]:
    desk = Desk(Stations(forgetful=set(FORGETFUL)))
    now = 0.0
    for i, (what, number, station_number, status, passed) in enumerate(steps):
        now += passed
        station = f"s{station_number}"
        ask = wish(number, station, now)
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


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 4))
def test_it_is_what_the_naive_book_says_at_every_step(steps: list, every: int) -> None:  # type: ignore[type-arg]
    desk = Desk(Stations(forgetful=set(FORGETFUL)))
    naive = NaiveBook(CONFIG, forgetful=set(FORGETFUL))
    now = 0.0
    asked: set[str] = set()
    ends = [("tick", 0, 1, "", 7)] * 40
    for i, (what, number, place, status, passed) in enumerate([*steps, *ends]):
        now += passed
        now_ms, station = T0 + round(now * 1000), f"s{place}"
        ask = wish(number, station, now)
        match what:
            case "ask":
                asked.add(ask.cmd_id)
                desk.ask(ask, now)
                naive.ask(ask, now_ms)
            case "answer" | "old":
                desk.answer(ask.cmd_id, status, now, station)
                naive.answer(ask.cmd_id, station, status, now_ms)
            case "away":
                desk.places.away.add(station)
                naive.away.add(station)
            case "back" | "boot":
                desk.back(now, station, what == "boot")
                naive.back(station, what == "boot", now_ms)
            case "cancel":
                desk.book.cancel(ask.cmd_id, "x", now_ms, 0)
                naive.cancel(ask.cmd_id, now_ms)
        desk.tick(now)
        naive.tick(now_ms)
        if every and i % every == 0:
            desk.restart()
        for cmd_id in asked:
            ours, theirs = desk.book.get(cmd_id), naive.get(cmd_id)
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                assert (ours.state, ours.sends, ours.ended_ms or 0) == (
                    theirs.state, theirs.sends, theirs.ended_ms,
                )  # fmt: skip

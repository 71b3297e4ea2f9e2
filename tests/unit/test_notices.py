"""What is told about findings: routes, once per state, quiet hours, digests, escalation, any cut."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import notice_text
from models._notice_rules import clock_minutes, quiet_minutes, zone_of
from models.notices import SETTLE_MS, Case, Notice, NoticePlanner, RouteRule
from models.outputs import FindingAction, FindingChange

from ._ledger_records import change

T0 = 1_795_509_000_000  # 2026-11-24T08:30Z
MIN = 60_000
HOUR = 60 * MIN
BERLIN = ZoneInfo("Europe/Berlin")


def at(minutes: float = 0, number: int = 1, **kw: Any) -> FindingChange:
    time_ms = T0 + round(minutes * MIN)
    return change(number, **({"changed_at": time_ms, "start": time_ms, "raised_at": time_ms} | kw))


def did(minutes: float, action: str, finding_id: str = "f1", **kw: Any) -> FindingAction:
    base: dict[str, Any] = {"by": "ann", "to": None, "until": None, "text": None, "site": "depot"}
    time_ms = T0 + round(minutes * MIN)
    return FindingAction(
        finding_id=finding_id, action_id=f"{action}{minutes}", action=action, at=time_ms, **(base | kw)
    )


def told(rules: Iterable[RouteRule], *steps: Any, until: float | None = None) -> list[Notice]:
    """Return the messages of a planner that sees `steps`, then the clock `until` (min)."""
    planner = NoticePlanner(rules)
    out: list[Notice] = []
    for step in steps:
        out += planner.change(step) if isinstance(step, FindingChange) else planner.action(step, 0)
    return out + (planner.clock(0, T0 + round(until * MIN)) if until is not None else [])


def lines(notices: Iterable[Notice]) -> list[tuple[str, float, list[str]]]:
    return [(n.route, (n.at - T0) / MIN, [f"{i.finding_id} {i.state}" for i in n.items]) for n in notices]


ALL = RouteRule("all")


def test_raised_and_cleared_are_told_once_each() -> None:
    steps = [at(), at(), at(1, 2), at(2, 3), at(2, 3), at(1, 2), at()]
    assert lines(told([ALL], *steps)) == [("all", 0, ["f1 raised"]), ("all", 2, ["f1 cleared"])]


def test_a_route_takes_its_sites_codes_severities_and_states() -> None:
    rules = [
        RouteRule("depot", sites=("dep*",)),
        RouteRule("yard", sites=("yard",)),
        RouteRule("voltage", codes=("*_voltage",), states=("raised",)),
        RouteRule("critical", severity="critical"),
        RouteRule("end", states=("cleared",)),
    ]
    assert [(n.route, n.items[0].state) for n in told(rules, at(), at(5, 3))] == [
        ("depot", "raised"), ("voltage", "raised"), ("depot", "cleared"), ("end", "cleared"),
    ]  # fmt: skip


@pytest.mark.parametrize("kw", [{"live": False}, {"planned": True, "severity": "info"}, {"parent": "f0"}])
def test_backlog_plans_and_children_are_never_told(kw: dict[str, Any]) -> None:
    rule = RouteRule("all", severity="info")
    assert told([rule], at(**kw), at(1, 2, **kw), at(2, 3, **kw), until=600) == []
    assert told([rule], at(), at(1, 3)) != []


def test_a_child_that_outlasts_its_parent_is_told_when_it_is_raised() -> None:
    steps = [at(parent="f0"), at(20, 2, state="raised")]
    assert lines(told([ALL], *steps)) == [("all", 20, ["f1 raised"])]


def test_what_waits_is_dropped_when_a_parent_takes_it() -> None:
    digest = RouteRule("all", digest_s=900)
    assert told([digest], at(1), at(2, 2, parent="f0"), until=60) == []
    assert lines(told([digest], at(1), at(2, 2, parent="f0"), at(20, 3, state="raised"), until=60)) == [
        ("all", 30, ["f1 raised"])
    ]


def test_worse_and_again_are_updates_told_once() -> None:
    worse = [at(), at(1, 2, severity="critical"), at(2, 4, state="updated", severity="critical")]
    assert lines(told([ALL], *worse)) == [("all", 0, ["f1 raised"]), ("all", 1, ["f1 updated"])]
    again = [at(), at(1, 3), at(9, 4, state="raised"), at(10, 5), at(12, 6, state="raised"), at(13, 7)]
    assert [n.items[0].state for n in told([ALL], *again)] == ["raised", "cleared", "updated"]


def test_a_route_for_critical_ones_hears_of_it_when_it_becomes_critical() -> None:
    rule = RouteRule("all", severity="critical")
    assert lines(told([rule], at(), at(3, 2, severity="critical"))) == [("all", 3, ["f1 raised"])]
    assert told([rule], at(), at(3, 3)) == []


def test_what_stood_before_the_route_is_not_told_but_its_turn_for_the_worse_is() -> None:
    rule = RouteRule("all", since_ms=T0 + 10 * MIN)
    assert told([rule], at(), at(20, 2), at(30, 3)) == []
    assert lines(told([rule], at(), at(20, 2, severity="critical"))) == [("all", 20, ["f1 updated"])]
    assert lines(told([rule], at(), at(5, 3), at(20, 4, state="raised"))) == [("all", 20, ["f1 raised"])]


def test_quiet_hours_hold_messages_until_their_local_end() -> None:
    night = RouteRule("all", quiet=quiet_minutes("22:00-06:00"), zone=BERLIN, urgent="critical")
    # 08:30Z is 09:30 in Berlin; 22:00 there is 750 minutes later, 06:00 is 1230.
    assert lines(told([night], at(749))) == [("all", 749, ["f1 raised"])]
    held = [at(751), at(800, finding_id="f2"), at(900, finding_id="f3", severity="critical")]
    assert lines(told([night], *held, until=1231)) == [
        ("all", 900, ["f3 raised"]), ("all", 1230, ["f1 raised", "f2 raised"]),
    ]  # fmt: skip
    over = told([night], at(751), at(760, 3), until=1231)
    assert lines(over) == [("all", 1230, ["f1 cleared"])]
    urgent = told([night], at(751), at(760, 2, severity="critical"), until=1231)
    assert lines(urgent) == [("all", 760, ["f1 raised"])]


def test_quiet_hours_follow_the_local_clock_over_its_changes() -> None:
    rule = RouteRule("all", quiet=quiet_minutes("22:00-06:00"), zone=BERLIN)
    for day, offset in (((2026, 3, 29), 4), ((2026, 10, 25), 5), ((2026, 11, 24), 5)):
        start = datetime.datetime(*day, 0, 30, tzinfo=BERLIN)
        end = datetime.datetime.fromtimestamp(
            rule.due_ms(round(start.timestamp() * 1000), "warning") / 1000, datetime.UTC
        )
        assert end == datetime.datetime(*day, offset, 0, tzinfo=datetime.UTC)
    noon = RouteRule("noon", quiet=quiet_minutes("12:00-13:00"))
    assert noon.due_ms(T0 + 215 * MIN, "warning") == T0 + 270 * MIN  # 12:05 -> 13:00
    assert noon.due_ms(T0 + 270 * MIN, "warning") == T0 + 270 * MIN


@given(st.integers(0, 400 * 24 * 60), st.sampled_from([60, 900, 3600, 7 * 3600, 86_400]))
@settings(max_examples=60, deadline=None)
def test_a_digest_goes_within_its_window_also_where_clocks_change(minute: int, digest_s: int) -> None:
    rule = RouteRule("all", digest_s=digest_s, zone=BERLIN)
    now = T0 + minute * MIN + 1
    due = rule.due_ms(now, "warning")
    assert now < due <= now + digest_s * 1000 + HOUR
    if digest_s == 86_400:
        local = datetime.datetime.fromtimestamp(due / 1000, BERLIN)
        assert (local.hour, local.minute) == (0, 0)


def test_a_digest_is_one_message_and_says_what_became_of_each() -> None:
    rule = RouteRule("all", digest_s=3600)
    steps = [at(1), at(2, finding_id="f2"), at(5, 3), at(31, finding_id="f3")]
    found = told([rule], *steps, until=91)
    assert lines(found) == [("all", 30, ["f1 cleared", "f2 raised"]), ("all", 90, ["f3 raised"])]
    assert told([rule], *steps, until=90.1) == found[:1]  # not before the settling time


def test_an_escalation_goes_to_its_route_unless_somebody_acknowledged() -> None:
    rules = [
        RouteRule("first", escalate_s=1800, escalate_to="boss"),
        RouteRule("boss", codes=("nothing",), escalate_s=3600, escalate_to="chief"),
        RouteRule("chief", codes=("nothing",)),
    ]
    assert lines(told(rules, at(), until=600)) == [
        ("first", 0, ["f1 raised"]), ("boss", 30, ["f1 escalated"]), ("chief", 90, ["f1 escalated"]),
    ]  # fmt: skip
    assert lines(told(rules, at(), did(29, "ack"), until=600)) == [("first", 0, ["f1 raised"])]
    assert lines(told(rules, at(), did(31, "ack"), at(40, 3), until=600)) == [
        ("first", 0, ["f1 raised"]), ("boss", 30, ["f1 escalated"]), ("first", 40, ["f1 cleared"]),
        ("boss", 40, ["f1 cleared"]),
    ]  # fmt: skip
    assert lines(told(rules, at(), at(10, 3), until=600)) == [
        ("first", 0, ["f1 raised"]), ("first", 10, ["f1 cleared"]),
    ]  # fmt: skip


def test_a_snooze_holds_what_is_due_until_it_ends() -> None:
    rules = [RouteRule("first", escalate_s=1800, escalate_to="boss"), RouteRule("boss", codes=("nothing",))]
    nap = did(5, "snooze", until=T0 + 120 * MIN)
    assert lines(told(rules, at(), nap, until=119)) == [("first", 0, ["f1 raised"])]
    assert lines(told(rules, at(), nap, until=121))[1:] == [("boss", 120, ["f1 escalated"])]
    assert lines(told(rules, at(), nap, did(60, "unsnooze"), until=61))[1:] == [
        ("boss", 60, ["f1 escalated"])
    ]
    assert lines(told(rules, at(), nap, at(10, 3), until=121))[1:] == [("first", 120, ["f1 cleared"])]
    assert lines(told(rules, at(), nap, did(4, "unsnooze"), until=61))[1:] == []  # an older word


def test_a_finding_is_forgotten_a_month_after_it_cleared() -> None:
    planner = NoticePlanner([ALL])
    planner.change(at())
    planner.change(at(1, 3))
    planner.clock(0, T0 + 29 * 24 * HOUR)
    assert set(planner.cases) == {"f1"}
    planner.clock(0, T0 + 31 * 24 * HOUR)
    assert (planner.cases, planner.forgotten) == ({}, {"f1"})


# -- laws ------------------------------------------------------------------------------------------

RULES = (
    RouteRule("chat", severity="info"),
    RouteRule("mail", digest_s=1800, urgent="critical", escalate_s=1200, escalate_to="boss"),
    RouteRule("night", quiet=(8 * 60 + 40, 9 * 60 + 20), escalate_s=600, escalate_to="mail"),
    RouteRule("boss", severity="critical", quiet=(9 * 60, 10 * 60), states=("raised", "cleared")),
)


@st.composite
def stories(draw: st.DrawFn) -> list[FindingChange | FindingAction]:
    """Return what happens to three findings and what people do, in order of time."""
    numbers: Counter[str] = Counter()
    steps: list[FindingChange | FindingAction] = []
    minute = 0.0
    for _ in range(draw(st.integers(1, 25))):
        minute += draw(st.sampled_from([0.0, 0.05, 1.0, 7.5, 30.0]))
        finding_id = draw(st.sampled_from(["f1", "f2", "f3"]))
        if draw(st.integers(0, 3)):
            numbers[finding_id] += 1
            state = draw(st.sampled_from(["raised", "raised", "updated", "cleared"]))
            kw = {
                "severity": draw(st.sampled_from(["info", "warning", "critical"])),
                "live": draw(st.sampled_from([True] * 9 + [False])),
                "parent": draw(st.sampled_from([None] * 7 + ["p"])),
                "planned": draw(st.sampled_from([False] * 9 + [True])),
            }
            steps.append(at(minute, numbers[finding_id], finding_id=finding_id, state=state, **kw))
        else:
            action = draw(st.sampled_from(["ack", "snooze", "unsnooze", "comment", "assign"]))
            until = T0 + round((minute + draw(st.sampled_from([1, 20, 90]))) * MIN)
            steps.append(did(minute, action, finding_id, until=until if action == "snooze" else None))
    return steps


def played(
    steps: Sequence[Any], clocks: Iterable[float], cuts: Iterable[int], end: float = 2000
) -> list[Notice]:
    """Return the messages when the clock is told at `clocks` (min) and the planner restored at `cuts`."""
    planner = NoticePlanner(RULES)
    out: list[Notice] = []
    beats = [(T0 + round(m * MIN), 1, None) for m in clocks]
    moments = [(s.changed_at if isinstance(s, FindingChange) else s.at, 0, s) for s in steps]
    for number, (time_ms, _, step) in enumerate(sorted([*moments, *beats], key=lambda m: m[:2])):
        if step is None:
            out += planner.clock(0, time_ms)
        else:
            out += planner.change(step) if isinstance(step, FindingChange) else planner.action(step, 0)
        if number in cuts:
            stored = msgspec.msgpack.encode(planner.cases)
            cases = msgspec.msgpack.decode(stored, type=dict[str, Case])
            planner = NoticePlanner(RULES, cases, planner.clocks)
    return out + planner.clock(0, T0 + round(end * MIN))


@given(stories(), st.lists(st.floats(0, 400), max_size=12), st.sets(st.integers(0, 30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_cut_of_the_stream_gives_the_same_messages(
    steps: list[Any], clocks: list[float], cuts: set[int]
) -> None:
    once = played(steps, [], [])
    assert sorted(map(repr, played(steps, clocks, cuts))) == sorted(map(repr, once))


@given(stories(), st.lists(st.integers(0, 24), max_size=10))
@settings(max_examples=150, deadline=None)
def test_each_state_is_told_at_most_once_also_when_records_come_again(
    steps: list[Any], again: list[int]
) -> None:
    once = played(steps, [], [])
    for index in sorted(again, reverse=True):
        if index < len(steps):  # what was put out before a crash is put out again after it
            steps = steps[: index + 1] + steps[max(0, index - 3) : index + 1] + steps[index + 1 :]
    planner = NoticePlanner(RULES)
    out: list[Notice] = []
    for step in steps:
        out += planner.change(step) if isinstance(step, FindingChange) else planner.action(step, 0)
    out += planner.clock(0, T0 + 2000 * MIN)
    assert sorted(map(repr, out)) == sorted(map(repr, once))
    keys = Counter((n.route, i.finding_id, i.state) for n in out for i in n.items)
    assert [key for key, count in keys.items() if count > 1] == []
    assert len({n.id for n in out}) == len(out)
    eligible = {s.finding_id for s in steps if isinstance(s, FindingChange) and s.live and not s.planned}
    assert {finding_id for _, finding_id, _ in keys} <= eligible


def test_the_settling_time_is_short() -> None:
    assert SETTLE_MS <= MIN


# -- words -----------------------------------------------------------------------------------------


def test_a_message_says_what_where_since_when_and_what_to_do() -> None:
    (notice,) = told([ALL], at(evidence={"voltage_mean_v": 201.25, "limit_v": 207.0, "raised_times": 4}))
    assert notice_text.subject(notice) == "[warning] Supply voltage too low, raised: depot/cs1/1"
    text = notice_text.text(notice, BERLIN, "https://charge.example/")
    assert text.splitlines() == [
        "Supply voltage too low at depot/cs1/1: raised",
        "  warning, under_voltage",
        "  since 2026-11-24 09:30 CET",
        "  measured: voltage mean 201.2 V, limit 207 V",
        "  raised 4 times in a row, each time within an hour of the one before",
        "  to do: check the feeder",
        "  https://charge.example/findings/f1",
    ]
    body = msgspec.json.decode(notice_text.payload(notice))
    assert body["items"][0]["finding"]["evidence"]["raised_times"] == 4
    assert (body["id"], body["route"], body["at"]) == (notice.id, "all", T0)


def test_a_long_digest_is_cut_and_says_so() -> None:
    rule = RouteRule("all", digest_s=3600)
    steps = [at(1, finding_id=f"f{i}", severity="critical" if i == 69 else "warning") for i in range(70)]
    (notice,) = told([rule], *steps, until=31)
    text = notice_text.text(notice, datetime.UTC)
    assert text.startswith("Supply voltage too low at depot")
    assert text.endswith("... and 20 more\n")
    assert notice_text.subject(notice) == "[critical] 70 findings: 70 raised"


@pytest.mark.parametrize("text", ["22:00", "25:00-06:00", "22:61-06:00", "a-b", "06:00-06:00", "22:0-06:00"])
def test_quiet_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HH:MM|time of day|at once"):
        quiet_minutes(text)


def test_times_and_zones() -> None:
    assert clock_minutes("07:30") == 450
    assert quiet_minutes("") is None
    with pytest.raises(ValueError, match="no time zone"):
        zone_of("Mars/Olympus")

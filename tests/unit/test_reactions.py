"""Reactions: steps in time, interlocks, limits, the breaker, undoing, and any cut of the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.command_types import Ask
from models.devices import DeviceTable
from models.outputs import FindingChange, Publish, ReactionRow
from models.reactions import TOPIC, Breaker, Reactions, Rule, RuleBook, Step
from models.records import Operator, Origin, Record, Status, Transaction
from tests.naive import reactions as naive

_T0_MS = 1_780_000_000_000
HOT = Rule(
    name="hot",
    codes=("connector_over_temperature",),
    severity="critical",
    safety=True,
    steps=(Step("limit", 0, 10.0), Step("stop", 120_000), Step("inoperative", 300_000)),
)
STUCK = Rule(name="stuck", codes=("register_stuck",), steps=(Step("reset_on_idle"),))
WORN = Rule(name="worn", codes=("contact_resistance",), safety=True, steps=(Step("inoperative"),))
POLICY = RuleBook(rules=(HOT, STUCK), act=True)
Event = tuple[int, Record | FindingChange | None]  # order; None: a tick


def devices() -> DeviceTable:
    """Return one site with two stations of two EVSEs."""
    table = DeviceTable()
    site = table.site("s1")
    for name in ("st1", "st2"):
        node = table.node(site, name)
        station = table.station(site, name, node)
        for evse in (1, 2):
            table.evse(station, evse, node)
    return table


class Desk:
    """Keeps what a policy decides."""

    def __init__(self) -> None:
        self.devices = devices()
        self.shard = 0
        self.now_ms = self.order = 0
        self.asks: list[tuple[int, Ask]] = []
        self.rows: list[Any] = []
        self.published: list[Publish] = []

    def ask(self, ask: Ask) -> str:
        self.asks.append((self.order, ask))
        return ask.cmd_id

    def report(self, stream: str, record: Any) -> None:
        assert stream == ("findings" if isinstance(record, FindingChange) else "reactions")
        self.rows.append(record)

    def publish(self, message: Publish) -> None:
        self.published.append(message)


def origin(order: int) -> Origin:
    at_ns = (_T0_MS + 1000 * order) * 1_000_000
    return Origin(order=order, pos=order, recv_ns=at_ns, effect_ns=at_ns, node_row=0)


def finding(
    order: int, state: str = "raised", code: str = "connector_over_temperature", evse: int = 1, **more: Any
) -> FindingChange:
    at_ms = _T0_MS + 1000 * order
    fields: dict[str, Any] = {
        "finding_id": f"f-{code}-{evse}",
        "code": code,
        "scope": "evse",
        "site": "s1",
        "node": "st1",
        "station": "st1",
        "evse": evse,
        "connector": None,
        "severity": "critical",
        "source": "rule",
        "state": state,
        "live": True,
        "planned": False,
        "raised_at": at_ms,
        "start": at_ms,
        "last": at_ms,
        "end": None,
        "score": 1.0,
        "evidence": {},
        "taxonomy": None,
        "advice": "",
        "parent": None,
        "change": 1,
        "changed_at": at_ms,
        "shard": 0,
        "order": order,
    }
    return FindingChange(**(fields | more))


def transaction(order: int, event: str, evse_row: int = 0, tx_id: str = "tx-1") -> Transaction:
    at = origin(order)
    return Transaction(
        at=at,
        station_row=0,
        evse_row=evse_row,
        conn=1,
        time_ns=at.recv_ns,
        time_reported_ns=at.recv_ns,
        tx_id=tx_id,
        seq_no=None,
        event_type=event,
    )


def available(order: int, evse_row: int = 0, status: str = "Available") -> Status:
    at = origin(order)
    return Status(
        at=at, station_row=0, evse_row=evse_row, conn=1, time_ns=at.recv_ns, status=status, status16=""
    )


def person(order: int, status: str, evse: int = 1) -> Operator:
    """Return a person's command that changes the availability of an EVSE."""
    inner = {"operationalStatus": status, "evse": {"id": evse}}
    wish = {"id": str(order), "site": "s1", "station": "st1", "command": "ChangeAvailability", "body": inner}
    return Operator(at=origin(order), topic="command", body=wish | {"by": "kim", "expires_s": 60.0})


def operator(order: int, action: str) -> Operator:
    return Operator(at=origin(order), topic="reactions", body={"action": action, "by": "kim"})


def run(
    events: list[Event], end: int, policy: RuleBook = POLICY, cuts: list[int] | None = None
) -> tuple[list[tuple[int, Ask]], list[ReactionRow]]:
    """Let a tick a second and the events reach the reactions, which are restored at every cut."""
    desk = Desk()
    where: Any = desk
    reactions = Reactions(policy)
    at = dict(events)
    for second in range(end):
        if second in (cuts or []):
            reactions = Reactions(policy, msgspec.json.decode(msgspec.json.encode(reactions.snapshot())))
        desk.order, desk.now_ms = second, _T0_MS + 1000 * second
        event = at.get(second)
        if isinstance(event, FindingChange):
            reactions.finding(event, where)
        elif event is not None:
            reactions.record(event, where)
        due = reactions.due_ms()
        if due is not None and due <= desk.now_ms:
            reactions.tick(where)
    return desk.asks, desk.rows


def told(rows: list[ReactionRow]) -> list[tuple[str, int, str]]:
    return [(row.rule, row.step, row.state) for row in rows]


def test_steps_follow_while_the_finding_is_open() -> None:
    asks, rows = run([(5, transaction(5, "Started")), (10, finding(10))], 1000)
    assert [(order, ask.command) for order, ask in asks] == [
        (10, "SetChargingProfile"),
        (130, "RequestStopTransaction"),
        (310, "ChangeAvailability"),
    ]
    limit = asks[0][1]
    profile = limit.body["chargingProfile"]
    assert profile["chargingSchedule"][0]["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 10.0}]
    assert (profile["chargingProfilePurpose"], limit.body["evseId"]) == ("ChargingStationMaxProfile", 0)
    assert (limit.priority, limit.by, limit.expires_ms) == (0, "reaction:hot", _T0_MS + 10_000 + 120_000)
    assert asks[1][1].body == {"transactionId": "tx-1"}
    assert asks[2][1].body == {"operationalStatus": "Inoperative", "evse": {"id": 1}}
    assert told(rows) == [("hot", 0, "sent"), ("hot", 1, "sent"), ("hot", 2, "sent")]


def test_clearing_ends_the_steps_and_undoes_in_reverse() -> None:
    asks, rows = run([(10, finding(10)), (400, finding(400, "cleared"))], 1000)
    commands = [(order, ask.command) for order, ask in asks]
    assert commands == [
        (10, "SetChargingProfile"),
        (310, "ChangeAvailability"),
        (400, "ChangeAvailability"),
        (400, "ClearChargingProfile"),
    ]
    assert asks[2][1].body == {"operationalStatus": "Operative", "evse": {"id": 1}}
    assert asks[3][1].body["chargingProfileId"] == asks[0][1].body["chargingProfile"]["id"]
    refused = [row for row in rows if row.state == "refused"]
    assert [(row.step, row.reason) for row in refused] == [(1, "no transaction runs there")]
    assert len({ask.cause for _, ask in asks}) == 4


def test_cleared_before_a_step_is_due_means_no_step() -> None:
    asks, _ = run([(10, finding(10)), (130, finding(130, "cleared"))], 1000)
    assert [ask.command for _, ask in asks] == ["SetChargingProfile", "ClearChargingProfile"]


def test_without_safety_a_charging_evse_is_left_alone_until_it_ends() -> None:
    stuck = finding(10, code="register_stuck")
    asks, rows = run([(5, transaction(5, "Started")), (10, stuck), (50, transaction(50, "Ended"))], 100)
    assert [(order, ask.command, ask.priority) for order, ask in asks] == [(50, "Reset", 4)]
    assert told(rows) == [("stuck", 0, "held"), ("stuck", 0, "sent")]
    assert rows[0].reason == "waits: EVSE 1 charges"


def test_a_late_message_of_an_ended_transaction_is_no_charging() -> None:
    events: list[Event] = [
        (1, transaction(1, "Started")),
        (2, transaction(2, "Ended")),
        (3, transaction(3, "Updated")),
        (10, finding(10, code="register_stuck")),
    ]
    assert [order for order, _ in run(events, 20)[0]] == [10]


def test_available_ends_what_nobody_ended() -> None:
    events: list[Event] = [
        (1, transaction(1, "Started")),
        (10, finding(10, code="register_stuck")),
        (30, available(30)),
    ]
    assert [order for order, _ in run(events, 40)[0]] == [30]


@pytest.mark.parametrize(
    "change",
    [
        {"severity": "warning"},
        {"live": False},
        {"planned": True},
        {"parent": "another"},
        {"station": None, "evse": None},
        {"code": "offline"},
    ],
)
def test_what_no_rule_is_about_sets_off_nothing(change: dict[str, Any]) -> None:
    assert run([(10, finding(10, **change))], 1000) == ([], [])


def test_it_begins_when_the_finding_becomes_critical() -> None:
    events: list[Event] = [
        (10, finding(10, severity="warning")),
        (100, finding(100, "updated", change=2)),
    ]
    assert [order for order, _ in run(events, 110)[0]] == [100]


def test_a_dry_run_records_alike_and_sends_nothing() -> None:
    events: list[Event] = [(10, finding(10)), (400, finding(400, "cleared"))]
    real, dry = run(events, 500), run(events, 500, replace(POLICY, act=False))
    assert dry[0] == []
    words = {"sent": "would send", "undone": "would undo"}
    assert told(dry[1]) == [(rule, step, words.get(state, state)) for rule, step, state in told(real[1])]


def test_a_station_gets_its_number_an_hour() -> None:
    rule = replace(STUCK, codes=("*",))
    events: list[Event] = [(k, finding(k, code=f"code-{k}")) for k in range(1, 6)]
    asks, rows = run(events, 20, RuleBook(rules=(rule,), act=True, station_per_h=3))
    assert len(asks) == 3
    assert [row.reason for row in rows if row.state == "refused"] == [
        "station st1 had its 3 commands of this hour"
    ] * 2
    later: list[Event] = [*events, (3700, finding(3700, code="later"))]
    assert len(run(later, 3800, RuleBook(rules=(rule,), act=True, station_per_h=3))[0]) == 4


def test_the_breaker_opens_by_number_and_closes_by_hand() -> None:
    policy = RuleBook(rules=(replace(STUCK, codes=("*",)),), act=True, station_per_h=99, fleet_per_h=2)
    events: list[Event] = [(k, finding(k, code=f"code-{k}")) for k in (1, 2, 3)]
    asks, rows = run([*events, (50, operator(50, "reset"))], 100, policy)
    assert [order for order, _ in asks] == [1, 2, 50]
    states = [row.state for row in rows]
    assert states == ["sent", "sent", "tripped", "held", "reset", "sent"]
    assert rows[2].reason == "the breaker was opened by itself, after 2 commands within an hour"


def test_an_open_breaker_still_lets_undo() -> None:
    events: list[Event] = [(1, finding(1)), (2, operator(2, "trip")), (9, finding(9, "cleared"))]
    assert [ask.command for _, ask in run(events, 20)[0]] == ["SetChargingProfile", "ClearChargingProfile"]


def test_a_rule_that_is_gone_is_still_undone() -> None:
    desk = Desk()
    where: Any = desk
    before = Reactions(POLICY)
    desk.now_ms = _T0_MS + 1000
    before.finding(finding(1), where)
    after = Reactions(RuleBook(rules=(STUCK,), act=True), before.snapshot())
    assert after.due_ms() is None
    after.finding(finding(9, "cleared"), where)
    assert [ask.command for _, ask in desk.asks] == ["SetChargingProfile", "ClearChargingProfile"]


def test_every_command_sent_is_told_to_the_control_shard() -> None:
    desk = Desk()
    where: Any = desk
    desk.now_ms = _T0_MS + 1000
    Reactions(POLICY).finding(finding(1), where)
    (message,) = desk.published
    assert message.topic == "evt/v1/_ctl/reaction"
    assert msgspec.json.decode(message.payload)["cause"] == desk.asks[0][1].cause


def test_the_breaker_of_the_fleet_stops_every_shard_and_says_so_loudly() -> None:
    desk, breaker = Desk(), Breaker(3)
    where: Any = desk

    def hear(action: str, second: int, cause: str = "") -> None:
        desk.now_ms = _T0_MS + 1000 * second
        breaker.forwarded("reaction", {"action": action, "cause": cause, "time_ms": desk.now_ms}, where)

    for second, cause in ((0, "a"), (1, "a"), (3599, "b"), (3601, "c")):
        hear("sent", second, cause)
    assert (
        desk.published == desk.rows == []
    )  # the first is told twice, and more than an hour old at the third
    breaker = Breaker(3, breaker.snapshot())
    hear("sent", 3602, "d")
    hear("sent", 3603, "e")
    (trip,) = desk.published
    assert trip.topic == TOPIC
    assert msgspec.json.decode(trip.payload)["action"] == "trip"
    (raised,) = desk.rows
    assert (raised.code, raised.severity, raised.state) == ("reactions_stopped", "critical", "raised")
    assert raised.evidence == {"commands_of_an_hour": 3, "limit": 3}
    hear("reset", 4000)
    hear("reset", 4000)
    assert [row.state for row in desk.rows] == ["raised", "cleared"]
    assert desk.rows[0].finding_id == desk.rows[1].finding_id


_EVENTS = st.lists(
    st.tuples(
        st.integers(0, 700),
        st.sampled_from(
            [
                "raised",
                "warning",
                "cleared",
                "stuck",
                "unstuck",
                "worn",
                "unworn",
                "start",
                "end",
                "trip",
                "reset",
                "free",
                "Unavailable",
                "Inoperative",
                "Operative",
            ]
        ),
        st.integers(1, 2),
    ),
    max_size=14,
)


def _event(order: int, what: str, evse: int) -> Record | FindingChange:
    if what in ("start", "end"):
        return transaction(
            order, "Started" if what == "start" else "Ended", evse - 1, f"tx-{evse}-{order // 200}"
        )
    if what in ("free", "Unavailable"):
        return available(order, evse - 1, "Available" if what == "free" else what)
    if what.endswith("perative"):
        return person(order, what, evse)
    if what.endswith("worn"):
        return finding(order, "raised" if what == "worn" else "cleared", "contact_resistance", evse)
    if what in ("trip", "reset"):
        return operator(order, what)
    code = "register_stuck" if what.endswith("stuck") else "connector_over_temperature"
    state = "cleared" if what in ("cleared", "unstuck") else "raised"
    return finding(order, state, code, evse, severity="warning" if what == "warning" else "critical")


@settings(max_examples=60, deadline=None)
@given(_EVENTS, st.lists(st.integers(1, 799), max_size=4, unique=True), st.integers(1, 4))
def test_any_cut_and_the_naive_twin_say_the_same(
    drawn: list[tuple[int, str, int]], cuts: list[int], per_h: int
) -> None:
    by_order = {order: (what, evse) for order, what, evse in drawn}
    events: list[Event] = [(order, _event(order, *by_order[order])) for order in sorted(by_order)]
    policy = replace(POLICY, rules=(HOT, STUCK, WORN), station_per_h=per_h, fleet_per_h=5)
    whole = run(events, 800, policy)
    assert run(events, 800, policy, cuts) == whole
    assert told(whole[1]) == naive.reactions(events, 800, policy, _T0_MS)

"""offline: wills, silence, links, rows that stay away, planned absence, our own deafness."""

from __future__ import annotations

from typing import Any

import pytest

from models.detecting import INFO, WARNING, Emission
from models.records import Birth, Link, Operator, Status, Transaction
from tests.unit.detector_tape import START_NS, Tape, at_ns, brief

HB_S = 60.0
MS = 1_000_000


def birth(tape: Tape, t: float, node: int = 0, *, boot: int = 1, cid: int = 1, **fields: Any) -> None:
    at = tape.message(t, node, "conn", boot=boot)
    fields = {"online": True, "hb_s": HB_S, "sample_s": 10.0, "batch_s": 20.0} | fields
    tape.record(Birth(at=at, cid=cid, **fields))


def will(tape: Tape, t: float, node: int = 0, *, boot: int = 1, cid: int = 1, retained: bool = False) -> None:
    at = tape.message(t, node, "conn", boot=boot)
    tape.record(Birth(at=at, online=False, cid=cid, retained=retained))


def heartbeat(tape: Tape, t: float, node: int = 0) -> None:
    tape.message(t, node, "heartbeat", boot=1, seq=0)


def link(tape: Tape, t: float, online: bool, happened: float | None = None) -> None:
    at = tape.message(t, 1, "link", boot=1, seq=1)
    when = at_ns(t if happened is None else happened)
    tape.record(Link(at=at, station_row=1, time_ns=when, online=online, reason="" if online else "no answer"))


def transaction(tape: Tape, t: float, kind: str) -> None:
    at = tape.message(t, 1, "tx", boot=1, seq=1)
    tape.record(
        Transaction(
            at=at,
            station_row=1,
            evse_row=1,
            conn=1,
            time_ns=at_ns(t),
            time_reported_ns=at_ns(t),
            tx_id="T",
            seq_no=0,
            event_type=kind,
        )
    )


def status(tape: Tape, t: float, word: str) -> None:
    at = tape.message(t, 0, "status", boot=1, seq=1)
    tape.record(Status(at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(t), status=word))


def maintenance(tape: Tape, t: float, **body: Any) -> None:
    at = tape.message(t, -1, "operator")
    tape.record(Operator(at=at, topic="maintenance", body=body))


def ms(t: float) -> int:
    return START_NS // MS + round(t * 1000)


def raised(found: list[Emission]) -> list[tuple[str, float]]:
    """Return (reason, moment) of what was raised."""
    return [(e.evidence["reason"], (e.effect_ns - START_NS) / 1e9) for e in found if e.kind == 1]


def test_will_counts_after_its_grace() -> None:
    tape = Tape()
    birth(tape, 0)
    will(tape, 10)
    tape.ticks(11, 30)
    found = tape.run("offline")
    assert raised(found) == [("will", 15.0)]
    assert (found[0].scope, found[0].subject, found[0].severity, found[0].planned) == (
        "node",
        0,
        WARNING,
        False,
    )
    assert found[0].start_ns == at_ns(10)


def test_reconnect_within_the_grace_is_no_absence() -> None:
    tape = Tape()
    birth(tape, 0)
    will(tape, 10)
    birth(tape, 12, cid=2)
    tape.ticks(13, 100)
    assert tape.run("offline") == []


@pytest.mark.parametrize(("boot", "cid", "found"), [(2, 1, 0), (1, 9, 0), (2, 2, 1), (3, 1, 1)])
def test_a_will_older_than_the_last_birth_is_ignored(boot: int, cid: int, found: int) -> None:
    tape = Tape()
    birth(tape, 0, boot=2, cid=2)
    will(tape, 10, boot=boot, cid=cid)
    tape.ticks(11, 30)
    assert len(tape.run("offline")) == found


def test_retained_words_are_state_and_not_news() -> None:
    tape = Tape()
    birth(tape, 0, retained=True)
    will(tape, 1, node=1, retained=True)
    tape.ticks(2, 2000)
    assert tape.run("offline") == []


def test_node_never_heard_is_nothing() -> None:
    tape = Tape()
    tape.ticks(0, 7200, 10)
    assert tape.run("offline") == []


def test_silence_of_three_heartbeats() -> None:
    tape = Tape()
    birth(tape, 0)
    heartbeat(tape, 60)
    tape.ticks(61, 239)
    assert tape.run("offline") == []
    tape.ticks(239, 242)
    found = tape.run("offline")
    assert raised(found) == [("silence", 240.0)]
    assert found[0].start_ns == at_ns(60)
    assert found[0].evidence == {
        "reason": "silence",
        "silent_s": 180.0,
        "limit_s": 180.0,
        "last_heard_ms": ms(60),
    }


def test_a_message_at_the_deadline_still_counts() -> None:
    tape = Tape()
    birth(tape, 0)
    tape.ticks(1, 180)
    heartbeat(tape, 180)
    tape.ticks(181, 300)
    assert tape.run("offline") == []


def test_a_duplicate_is_no_sign_of_life() -> None:
    tape = Tape()
    birth(tape, 0)
    tape.ticks(1, 100)
    tape.message(100, 0, "meter", boot=1, seq=1, duplicate=True)
    tape.ticks(101, 200)
    assert raised(tape.run("offline")) == [("silence", 180.0)]


def test_nodes_without_declared_heartbeat_get_libocpps_default() -> None:
    tape = Tape()
    tape.message(0, 0, "meter", boot=1, seq=1)
    tape.ticks(1, 5400, 10)
    assert tape.run("offline") == []
    tape.ticks(5400, 5410)
    assert raised(tape.run("offline")) == [("silence", 5400.0)]


def test_clears_a_minute_after_it_was_heard_again() -> None:
    tape = Tape()
    birth(tape, 0)
    will(tape, 10)
    tape.ticks(11, 100)
    heartbeat(tape, 100)
    tape.ticks(101, 170)
    found = tape.run("offline")
    assert brief(found) == [("raise", 10.0, 15.0), ("clear", 10.0, 100.0)]
    assert (found[1].effect_ns - START_NS) / 1e9 == 160.0


def test_a_will_during_the_return_goes_on_with_the_same_absence() -> None:
    tape = Tape()
    birth(tape, 0)
    will(tape, 10)
    tape.ticks(11, 100)
    birth(tape, 100, cid=2)
    will(tape, 130, cid=2)
    tape.ticks(131, 300)
    assert len(tape.run("offline")) == 1


def test_message_held_back_from_before_the_will_is_no_return() -> None:
    tape = Tape()
    birth(tape, 0)
    will(tape, 10)
    tape.message(12, 0, "meter", boot=1, seq=2, recv=9)
    tape.ticks(13, 100)
    assert raised(tape.run("offline")) == [("will", 15.0)]
    assert len(tape.run("offline")) == 1


def test_what_we_slept_through_is_not_their_silence() -> None:
    tape = Tape()
    birth(tape, 0)
    tape.ticks(1, 100)
    tape.ticks(4000, 4179)  # nothing was journaled for an hour
    assert tape.run("offline") == []
    tape.ticks(4179, 4182)
    assert raised(tape.run("offline")) == [("silence", 4180.0)]


def test_link_down_and_up() -> None:
    tape = Tape()
    birth(tape, 0, node=1)
    link(tape, 10, online=False)
    tape.ticks(11, 40)
    link(tape, 40, online=True)
    tape.ticks(41, 110)
    found = tape.run("offline")
    assert brief(found) == [("raise", 10.0, 10.0), ("clear", 10.0, 40.0)]
    assert (found[0].scope, found[0].subject) == ("station", 1)
    assert found[0].evidence["words"] == "no answer"


def test_rows_from_before_the_link_broke_are_no_return() -> None:
    tape = Tape()
    birth(tape, 0, node=1)
    link(tape, 10, online=False)
    tape.sample(5, {"Voltage@L1-N": 230.0}, arrives=12, behind=True)
    tape.ticks(13, 100)
    assert len(tape.run("offline")) == 1
    tape.sample(100, {"Voltage@L1-N": 230.0}, behind=True)
    tape.ticks(101, 170)
    assert brief(tape.run("offline")) == [("raise", 10.0, 10.0), ("clear", 10.0, 100.0)]


def test_rows_that_stay_away_in_a_transaction_while_the_gateway_is_heard() -> None:
    tape = Tape()
    birth(tape, 0, node=1)
    transaction(tape, 10, "Started")
    for t in (20, 40):
        tape.sample(t, {"Current.Import": 16.0}, behind=True)
    for t in range(50, 110, 10):
        heartbeat(tape, t, node=1)
    found = tape.run("offline")
    assert raised(found) == [("no_rows", 100.0)]
    assert found[0].start_ns == at_ns(40)


@pytest.mark.parametrize("ended", [True, False])
def test_no_rows_are_expected_outside_a_transaction(ended: bool) -> None:
    tape = Tape()
    birth(tape, 0, node=1)
    if ended:
        transaction(tape, 10, "Started")
        transaction(tape, 20, "Ended")
    for t in range(30, 600, 10):
        heartbeat(tape, t, node=1)
    assert tape.run("offline") == []


def test_silence_of_the_gateway_is_not_its_stations() -> None:
    tape = Tape()
    birth(tape, 0, node=1)
    transaction(tape, 10, "Started")
    tape.sample(20, {"Current.Import": 16.0}, behind=True)
    tape.ticks(21, 170)
    heartbeat(tape, 170, node=1)
    tape.ticks(171, 175)
    tape.sample(160, {"Current.Import": 16.0}, arrives=175, behind=True)
    assert tape.run("offline") == []


def test_stand_alone_station_may_send_no_rows_in_a_transaction() -> None:
    tape = Tape()
    birth(tape, 0)
    at = tape.message(10, 0, "tx", boot=1, seq=1)
    tape.record(
        Transaction(
            at=at, station_row=0, evse_row=0, conn=1, time_ns=at_ns(10), time_reported_ns=0, tx_id="T",
            seq_no=0, event_type="Started",
        )
    )  # fmt: skip
    for t in range(20, 600, 30):
        heartbeat(tape, t)
    assert tape.run("offline") == []


def test_link_told_late_is_backlog_until_it_settles() -> None:
    tape = Tape()
    birth(tape, 1000, node=1)
    link(tape, 1001, online=False, happened=50)
    for t in range(1030, 1600, 30):
        heartbeat(tape, t, node=1)
    assert [e.live for e in tape.run("offline")] == [False]
    for t in range(1600, 1610, 2):
        heartbeat(tape, t, node=1)
    found = tape.run("offline")
    assert [(e.live, e.start_ns) for e in found] == [(False, at_ns(50)), (True, at_ns(50))]


@pytest.mark.parametrize(
    ("body", "planned"),
    [
        ({"site": "site"}, True),
        ({"site": "site", "node": "alone"}, True),
        ({"site": "site", "station": "alone"}, True),
        ({"site": "site", "station": "other"}, False),
        ({"site": "elsewhere"}, False),
        ({"site": 7}, False),
        ({}, False),
    ],
)
def test_announced_maintenance_makes_it_planned(body: dict[str, Any], planned: bool) -> None:
    tape = Tape()
    birth(tape, 0)
    maintenance(tape, 1, **body, **{"from": ms(5), "until": ms(1000)})
    will(tape, 10)
    tape.ticks(11, 100)
    (found,) = tape.run("offline")
    assert (found.planned, found.severity) == (planned, INFO if planned else WARNING)


def test_planned_absence_that_outlasts_its_window_becomes_a_warning() -> None:
    tape = Tape()
    birth(tape, 0)
    maintenance(tape, 1, site="site", **{"from": ms(5), "until": ms(60)})
    will(tape, 10)
    tape.ticks(11, 100)
    found = tape.run("offline")
    assert [(e.kind, e.planned, e.severity) for e in found] == [(1, True, INFO), (2, False, WARNING)]
    assert (found[1].effect_ns - START_NS) / 1e9 == 61.0


@pytest.mark.parametrize("back", [True, False])
def test_planned_absence_told_late_stays_planned_until_it_settles(back: bool) -> None:
    tape = Tape()
    birth(tape, 4000, node=1)
    maintenance(tape, 4000, site="site", **{"from": ms(5), "until": ms(60)})
    link(tape, 4001, online=False, happened=10)
    tape.ticks(4002, 4100)
    if back:
        link(tape, 4100, online=True, happened=50)
    tape.ticks(4101, 4800)
    found = [(e.kind, e.planned, e.live) for e in tape.run("offline") if e.scope == "station"]
    settled = [(1, True, True), (2, False, True)]
    assert found == [(1, True, False), *([(3, True, False)] if back else settled)]


@pytest.mark.parametrize(
    ("word", "planned"), [("Unavailable", True), ("Available", False), ("Faulted", False)]
)
def test_unavailable_before_the_silence_makes_it_planned(word: str, planned: bool) -> None:
    tape = Tape()
    birth(tape, 0)
    status(tape, 5, word)
    tape.ticks(6, 200)
    (found,) = tape.run("offline")
    assert found.planned == planned

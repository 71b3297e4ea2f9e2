"""The findings manager: identity, changes, parents, joined sources, backlog, snapshots."""

from __future__ import annotations

import random
import uuid
from itertools import pairwise
from typing import Any

import pytest

from models.batch import ReadingBatch
from models.detecting import CLEAR, CRITICAL, INFO, RAISE, UPDATE, WARNING, Emission, Observed
from models.devices import DeviceTable
from models.errors import ConfigError, SnapshotError
from models.findings import FindingsConfig, FindingsManager
from models.outputs import FindingChange
from tests.laws.streams import message_columns
from tests.naive.plain import Message, S

T0 = 1_780_000_000 * S
MS = 1_000_000


def devices() -> DeviceTable:
    """A stand-alone station (EVSE row 0) and a gateway with station G1 of two EVSEs (rows 1, 2)."""
    table = DeviceTable()
    site = table.site("site")
    alone, gateway = table.node(site, "alone"), table.node(site, "gateway")
    table.evse(table.station(site, "alone", alone), 1, alone)
    behind = table.station(site, "G1", gateway)
    table.evse(behind, 1, gateway)
    table.evse(behind, 2, gateway)
    return table


DEVICES = devices()


def emission(order: int, code: str, kind: int, **fields: Any) -> Emission:
    """An emission at `order` seconds; EVSE row 0 unless said."""
    values: dict[str, Any] = {
        "order": order,
        "effect_ns": T0 + order * S,
        "code": code,
        "scope": "evse",
        "source": "rule",
        "subject": 0,
        "kind": kind,
        "severity": WARNING,
        "live": True,
        "start_ns": T0,
        "time_ns": T0 + order * S,
        "score": 1.0,
        "evidence": {},
        "connector": None,
        "taxonomy": None,
        "planned": False,
    }
    return Emission(**(values | fields))


def seen(start: int, end: int, records: list[Any] | None = None, spoken: bool = True) -> Observed:
    """A batch of ticks; each EVSE is spoken of in a reading at its start."""
    rows = ReadingBatch.empty(3 if spoken else 0)
    rows.evse[:], rows.order[:] = range(len(rows)), start
    ticks = [Message(o, T0 + o * S, T0 + o * S) for o in range(start, end)]
    return Observed(DEVICES, rows, message_columns(ticks), records or [])


def apply(manager: FindingsManager, *emissions: Emission, until: int = 10_000) -> list[FindingChange]:
    return manager.apply(list(emissions), seen(0, until), 3)


def states(changes: list[FindingChange]) -> list[tuple[str, str]]:
    return [(c.code, c.state) for c in changes]


def test_one_record_per_change_of_state() -> None:
    raised, cleared = apply(
        FindingsManager(),
        emission(5, "over_current", RAISE, evidence={"current_a": 20.0}, connector=1, score=1.25),
        emission(90, "over_current", CLEAR, time_ns=T0 + 30 * S, evidence={"duration_s": 30.0}),
    )
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"site/alone/1/over_current/{T0 // MS}"))
    assert raised.published() == {
        "finding_id": identity,
        "code": "over_current",
        "scope": "evse",
        "site": "site",
        "node": "alone",
        "station": "alone",
        "evse": 1,
        "connector": 1,
        "severity": "warning",
        "source": "rule",
        "state": "raised",
        "live": True,
        "planned": False,
        "raised_at": (T0 + 5 * S) // MS,
        "start": T0 // MS,
        "last": (T0 + 5 * S) // MS,
        "end": None,
        "score": 1.25,
        "evidence": {"current_a": 20.0},
        "taxonomy": None,
        "advice": raised.advice,
        "parent": None,
    }
    assert raised.advice
    assert (raised.change, cleared.change, raised.shard, cleared.order) == (1, 2, 3, 90)
    assert (cleared.finding_id, cleared.state, cleared.raised_at) == (identity, "cleared", raised.raised_at)
    assert cleared.end == cleared.last == (T0 + 30 * S) // MS
    assert cleared.evidence == {"current_a": 20.0, "duration_s": 30.0}


@pytest.mark.parametrize(
    ("code", "scope", "subject", "expected"),
    [
        ("over_current", "evse", 2, ("evse", "gateway", "G1", 2)),
        ("cabinet_over_temperature", "station", 1, ("station", "gateway", "G1", None)),
        ("cabinet_over_temperature", "station", 0, ("station", "alone", "alone", None)),
        ("offline", "station", 1, ("station", "gateway", "G1", None)),
        ("offline", "station", 0, ("node", "alone", "alone", None)),
        ("offline", "node", 0, ("node", "alone", "alone", None)),
        ("offline", "node", 1, ("node", "gateway", None, None)),
        ("site_power_event", "site", 0, ("site", None, None, None)),
    ],
)
def test_names_of_every_scope(code: str, scope: Any, subject: int, expected: tuple[Any, ...]) -> None:
    (change,) = apply(FindingsManager(), emission(0, code, RAISE, scope=scope, subject=subject))
    assert (change.scope, change.node, change.station, change.evse) == expected
    where = f"site/{expected[2] or expected[1] or ''}/{expected[3] or ''}/{code}/{T0 // MS}"
    assert change.finding_id == str(uuid.uuid5(uuid.NAMESPACE_URL, where))


def test_severity_is_an_update_and_repetition_is_not() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "connector_over_temperature", RAISE),
        emission(1, "connector_over_temperature", RAISE),
        emission(2, "connector_over_temperature", UPDATE, severity=CRITICAL),
        emission(3, "connector_over_temperature", UPDATE, severity=CRITICAL),
    )
    assert [(c.state, c.severity, c.change) for c in changes] == [
        ("raised", "warning", 1),
        ("updated", "critical", 2),
    ]


def test_score_is_an_update_when_it_moved_and_not_too_often() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "contact_resistance", RAISE, score=2.0),
        emission(899, "contact_resistance", UPDATE, score=4.0),
        emission(900, "contact_resistance", UPDATE, score=2.5),
        emission(901, "contact_resistance", UPDATE, score=2.6),
    )
    assert [(c.state, c.score) for c in changes] == [("raised", 2.0), ("updated", 2.6)]


def test_planned_is_told_when_it_changes() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "offline", RAISE, scope="node", planned=True, severity=INFO),
        emission(5, "offline", UPDATE, scope="node", planned=False, severity=WARNING),
    )
    assert [(c.planned, c.severity) for c in changes] == [(True, "info"), (False, "warning")]


def test_station_and_rule_of_one_code_are_one_finding() -> None:
    station = {"source": "station", "taxonomy": "mrec:CX004", "connector": 1}
    changes = apply(
        FindingsManager(),
        emission(0, "over_current", RAISE, evidence={"current_a": 20.0}),
        emission(
            3,
            "over_current",
            RAISE,
            evidence={"code": "CX004"},
            severity=CRITICAL,
            start_ns=T0 + S,
            **station,
        ),
        emission(5, "over_current", CLEAR),
        emission(9, "over_current", CLEAR, **station),
    )
    assert states(changes) == [("over_current", s) for s in ("raised", "updated", "cleared")]
    assert len({c.finding_id for c in changes}) == 1
    assert [c.source for c in changes] == ["rule"] * 3
    assert changes[1].evidence == {"current_a": 20.0, "code": "CX004", "sources": "rule, station"}
    assert (changes[1].severity, changes[1].taxonomy, changes[1].connector) == ("critical", "mrec:CX004", 1)
    assert changes[2].changed_at == (T0 + 9 * S) // MS


def test_station_codes_of_their_own_are_findings_of_their_own() -> None:
    station = {"source": "station"}
    changes = apply(
        FindingsManager(),
        emission(0, "station_reported", RAISE, taxonomy="mrec:CX008", **station),
        emission(1, "station_reported", RAISE, taxonomy="mrec:CX009", start_ns=T0 + S, **station),
        emission(2, "station_reported", CLEAR, taxonomy="mrec:CX008", **station),
    )
    assert [(c.state, c.taxonomy) for c in changes] == [
        ("raised", "mrec:CX008"),
        ("raised", "mrec:CX009"),
        ("cleared", "mrec:CX008"),
    ]
    assert len({c.finding_id for c in changes}) == 2


def test_child_is_recorded_under_its_parent_and_ends_quietly() -> None:
    manager = FindingsManager()
    changes = apply(
        manager,
        emission(0, "offline", RAISE, scope="node", subject=1),
        emission(1, "offline", RAISE, scope="station", subject=1),
        emission(1, "message_loss", RAISE, scope="node", subject=1),
        emission(1, "offline", RAISE, scope="node", subject=0),
        until=10,
    )
    by_key = {(c.code, c.scope, c.node): c for c in changes}
    parent = by_key[("offline", "node", "gateway")]
    assert parent.parent is None
    assert by_key[("offline", "station", "gateway")].parent == parent.finding_id
    assert by_key[("message_loss", "node", "gateway")].parent == parent.finding_id
    assert by_key[("offline", "node", "alone")].parent is None
    assert sorted(manager.open()) == sorted(
        [parent.finding_id, by_key[("offline", "node", "alone")].finding_id]
    )


def test_parent_at_the_same_moment_comes_first() -> None:
    changes = apply(
        FindingsManager(),
        emission(4, "under_voltage", RAISE),
        emission(4, "offline", RAISE, scope="node"),
        emission(4, "site_power_event", RAISE, scope="site"),
    )
    assert [c.code for c in changes] == ["site_power_event", "offline", "under_voltage"]
    assert [c.parent for c in changes] == [None, changes[0].finding_id, changes[0].finding_id]


@pytest.mark.parametrize(("cleared_at", "raised_again"), [(1400, False), (1501, True)])
def test_child_that_outlasts_its_parent_is_raised(cleared_at: int, raised_again: bool) -> None:
    manager = FindingsManager()
    changes = apply(
        manager,
        emission(0, "site_power_event", RAISE, scope="site"),
        emission(1, "under_voltage", RAISE),
        emission(10, "site_power_event", CLEAR, scope="site"),
        emission(cleared_at + 10, "under_voltage", CLEAR),
    )
    expected = ["raised", "cleared"] if not raised_again else ["raised", "raised", "cleared"]
    child = [c for c in changes if c.code == "under_voltage"]
    assert [c.state for c in child] == expected
    if raised_again:
        assert (child[1].parent, child[1].raised_at) == (None, (T0 + 1510 * S) // MS)
        assert child[1].finding_id == child[0].finding_id


def test_orphan_finds_another_parent() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "reboot_loop", RAISE, scope="node"),
        emission(1, "message_loss", RAISE, scope="node"),
        emission(2, "reboot_loop", CLEAR, scope="node"),
        emission(500, "offline", RAISE, scope="node"),
    )
    child = [c for c in changes if c.code == "message_loss"]
    offline = next(c for c in changes if c.code == "offline")
    assert [(c.state, c.parent) for c in child[1:]] == [("updated", offline.finding_id)]


def test_backlog_is_recorded_and_never_open() -> None:
    manager = FindingsManager()
    changes = apply(
        manager,
        emission(0, "offline", RAISE, scope="node", live=False),
        emission(1, "message_loss", RAISE, scope="node"),
        emission(2, "offline", CLEAR, scope="node", live=False),
    )
    assert [(c.code, c.state, c.live, c.parent) for c in changes] == [
        ("offline", "raised", False, None),
        ("message_loss", "raised", True, None),
        ("offline", "cleared", False, None),
    ]


def test_backlog_that_still_holds_becomes_live_under_its_name() -> None:
    manager = FindingsManager()
    changes = apply(
        manager,
        emission(0, "over_current", RAISE, live=False),
        emission(9, "over_current", RAISE),
        emission(99, "over_current", CLEAR),
    )
    assert [(c.state, c.live, c.change, c.raised_at) for c in changes] == [
        ("raised", False, 1, T0 // MS),
        ("raised", True, 2, (T0 + 9 * S) // MS),
        ("cleared", True, 3, (T0 + 9 * S) // MS),
    ]
    assert len({c.finding_id for c in changes}) == 1


def test_live_finding_with_another_start_ends_the_one_from_backlog() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "register_rollback", RAISE, live=False),
        emission(9, "register_rollback", RAISE, start_ns=T0 + 8 * S),
        emission(99, "register_rollback", CLEAR, start_ns=T0 + 8 * S),
    )
    assert [(c.state, c.live) for c in changes] == [
        ("raised", False),
        ("raised", True),
        ("cleared", False),
        ("cleared", True),
    ]
    assert len({c.finding_id for c in changes}) == 2


def test_same_finding_again_goes_on_counting() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "lock_failure", RAISE, source="station"),
        emission(1, "lock_failure", CLEAR, source="station"),
        emission(2, "lock_failure", RAISE, source="station"),
    )
    assert [c.change for c in changes] == [1, 2, 3]
    assert len({c.finding_id for c in changes}) == 1


def test_clear_without_raise_is_nothing() -> None:
    assert (
        apply(FindingsManager(), emission(0, "over_current", CLEAR), emission(1, "over_current", UPDATE))
        == []
    )


def drama(seed: int) -> list[Emission]:
    """Many raises and clears of parents and children, in order."""
    rng = random.Random(seed)
    on: set[tuple[str, str, int, str, bool]] = set()
    out = []
    choices = [
        ("site_power_event", "site", 0),
        ("offline", "node", 0),
        ("offline", "node", 1),
        ("offline", "station", 1),
        ("message_loss", "node", 1),
        ("under_voltage", "evse", 0),
        ("under_voltage", "evse", 2),
        ("over_current", "evse", 1),
    ]
    for order in range(0, 6000, 20):
        for code, scope, subject in rng.sample(choices, 3):
            source = rng.choice(["rule", "station"])
            key = (code, scope, subject, source, True)
            kind = CLEAR if key in on else RAISE
            on ^= {key}
            values: dict[str, Any] = {"scope": scope, "subject": subject, "source": source}
            if kind == RAISE:
                values |= {"start_ns": T0 + order * S, "live": rng.random() < 0.8}
            out.append(emission(order, code, kind, severity=rng.choice([INFO, WARNING, CRITICAL]), **values))
    return out


@pytest.mark.parametrize("seed", range(4))
def test_split_into_batches_and_restarts_change_nothing(seed: int) -> None:
    story = drama(seed)
    whole = FindingsManager().apply(story, seen(0, 7000), 0)
    assert {c.state for c in whole} == {"raised", "updated", "cleared"}
    assert any(c.parent for c in whole)
    rng = random.Random(seed)
    edges = [0, *sorted(rng.sample(range(1, 7000), 60)), 7000]
    manager, parts = FindingsManager(), []
    for low, high in pairwise(edges):
        part = [e for e in story if low <= e.order < high]
        rng.shuffle(part)
        manager = FindingsManager(resume_state=manager.snapshot())
        parts += manager.apply(part, seen(low, high), 0)
    assert parts == whole


def test_snapshot_is_a_copy_and_versioned() -> None:
    manager = FindingsManager()
    apply(manager, emission(0, "over_current", RAISE, evidence={"current_a": 1.0}), until=5)
    state = manager.snapshot()
    apply(manager, emission(9, "over_current", CLEAR))
    assert len(FindingsManager(resume_state=state).open()) == 1
    with pytest.raises(SnapshotError, match="version 7"):
        FindingsManager(resume_state=state | {"version": 7})


def test_wrong_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="orphan_s = -1"):
        FindingsConfig(orphan_s=-1.0)

"""What a finding is about, and that one cause is one: first contact, stand-alone stations, repetition."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from models.batch import ReadingBatch
from models.detecting import CLEAR, RAISE, Emission, Observed
from models.findings import FindingsConfig, FindingsManager
from models.outputs import FindingChange
from models.records import Birth, EvseInventory, Origin, Status
from tests.naive.plain import S

from .test_findings import MS, T0, apply, emission, seen


def _origin(order: int) -> Origin:
    at = T0 + order * S
    return Origin(order=order, pos=order, recv_ns=at, effect_ns=at, node_row=0)


_SPEAKS: dict[str, Any] = {
    "birth": Birth(at=_origin(50), online=True, evses=(EvseInventory(1),)),
    "status": Status(at=_origin(50), station_row=0, evse_row=0, conn=1, time_ns=T0, status="Available"),
    "reading": None,
}


def _batch(low: int, high: int, how: str) -> Observed:
    """Ticks in which the stand-alone station is first spoken of at 50."""
    inside = low <= 50 < high
    records = [_SPEAKS[how]] if inside and how != "reading" else []
    batch = seen(low, high, records, spoken=False)
    if inside and how == "reading":
        batch.rows = ReadingBatch.empty(1)
        batch.rows.order[:] = 50
    return batch


@pytest.mark.parametrize("how", list(_SPEAKS))
@pytest.mark.parametrize("edges", [(0, 100), (0, 41, 100), (0, 50, 51, 100), (0, 45, 56, 61, 100)])
def test_station_of_a_node_is_named_from_its_first_word_on_however_batches_are_cut(
    how: str, edges: tuple[int, ...]
) -> None:
    story = [
        emission(40, "offline", RAISE, scope="node", start_ns=T0 + S),
        emission(50, "offline", CLEAR, scope="node"),
        emission(50, "clock_error", RAISE, scope="node"),
        emission(60, "message_loss", RAISE, scope="node"),
    ]
    manager, changes = FindingsManager(), []
    for low, high in pairwise(edges):
        manager = FindingsManager(resume_state=manager.snapshot())
        part = [e for e in story if low <= e.order < high]
        changes += manager.apply(part, _batch(low, high, how), 0)
    assert [(c.code, c.state, c.node, c.station) for c in changes] == [
        ("offline", "raised", "alone", None),
        ("clock_error", "raised", "alone", "alone"),
        ("offline", "cleared", "alone", None),
        ("message_loss", "raised", "alone", "alone"),
    ]


def test_word_of_a_stand_alone_station_about_itself_is_of_its_node() -> None:
    """A will and ``up/link`` of one station say the same: one finding, which ends when both are over."""
    as_station: dict[str, Any] = {"scope": "station", "start_ns": T0 + S}
    changes = apply(
        FindingsManager(),
        emission(3, "offline", RAISE, **as_station),
        emission(5, "offline", RAISE, scope="node", start_ns=T0 + S),
        emission(9, "offline", CLEAR, **as_station),
        emission(12, "offline", CLEAR, scope="node"),
    )
    assert [(c.state, c.scope, c.station) for c in changes] == [
        ("raised", "node", "alone"),
        ("updated", "node", "alone"),
        ("cleared", "node", "alone"),
    ]
    assert len({c.finding_id for c in changes}) == 1
    assert [c.change for c in changes] == [1, 2, 3]
    assert changes[-1].changed_at == (T0 + 12 * S) // MS
    assert "sources" not in changes[-1].evidence


def test_station_behind_a_gateway_is_not_its_gateway() -> None:
    changes = apply(
        FindingsManager(),
        emission(3, "flapping", RAISE, scope="station", subject=1),
        emission(5, "flapping", RAISE, scope="node", subject=1),
    )
    assert [(c.scope, c.station) for c in changes] == [("station", "G1"), ("node", None)]


def _episodes(starts: list[int], length: int = 60, **fields: Any) -> list[Emission]:
    out = []
    for start in starts:
        at = {"start_ns": T0 + start * S} | fields
        out += [
            emission(start, "voltage_dip", RAISE, **at),
            emission(start + length, "voltage_dip", CLEAR, **at),
        ]
    return out


def _times(changes: list[FindingChange]) -> list[int | None]:
    return [c.evidence.get("raised_times") for c in changes if c.state == "raised"]


def test_raised_the_third_time_within_an_hour_of_each_other_is_one_finding_with_a_count() -> None:
    changes = apply(FindingsManager(), *_episodes([0, 1000, 4000, 7500]))
    raised = [c for c in changes if c.state == "raised"]
    first, second = raised[0].finding_id, raised[1].finding_id
    assert first != second
    assert [c.finding_id for c in raised] == [first, second, first, first]
    assert _times(changes) == [None, None, 3, 4]
    of_first = [c for c in changes if c.finding_id == first]
    assert [c.change for c in of_first] == [1, 2, 3, 4, 5, 6]
    assert {c.start for c in of_first} == {T0 // MS}
    assert [c.raised_at for c in of_first if c.state == "raised"] == [
        (T0 + t * S) // MS for t in (0, 4000, 7500)
    ]
    assert of_first[-1].end == (T0 + 7560 * S) // MS


@pytest.mark.parametrize(
    ("starts", "fields"),
    [
        ([0, 3601, 7202, 10_803], {}),  # more than an hour apart
        ([0, 1000], {}),  # twice
        ([0, 1000, 2000], {"live": False}),  # told late: nobody was called
    ],
)
def test_what_is_no_run_stays_apart(starts: list[int], fields: dict[str, Any]) -> None:
    changes = apply(FindingsManager(), *_episodes(starts, **fields))
    assert _times(changes) == [None] * len(starts)
    assert len({c.finding_id for c in changes}) == len(starts)


def test_run_goes_on_when_its_first_finding_was_forgotten() -> None:
    """The count of changes never restarts: the ledger keeps the first record of each number."""
    manager = FindingsManager(FindingsConfig(remembered=1))
    changes = apply(manager, *_episodes([0, 1000, 2000]))
    by_finding: dict[str, list[int]] = {}
    for change in changes:
        by_finding.setdefault(change.finding_id, []).append(change.change)
    assert sorted(by_finding.values()) == [[1, 2], [1, 2, 3, 4]]

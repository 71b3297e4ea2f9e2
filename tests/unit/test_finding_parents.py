"""Children that were raised before their parent."""

from __future__ import annotations

import itertools

import pytest

from models.detecting import CLEAR, RAISE
from models.findings import FindingsManager
from tests.naive.plain import S

from .test_findings import T0, apply, emission


@pytest.mark.parametrize("when", list(itertools.permutations([5, 20, 35])))
def test_children_stand_under_a_parent_whoever_comes_first(when: tuple[int, int, int]) -> None:
    manager = FindingsManager()
    parent_at, low_at, offline_at = when
    changes = apply(
        manager,
        emission(parent_at, "site_power_event", RAISE, scope="site"),
        emission(low_at, "under_voltage", RAISE, subject=1),
        emission(offline_at, "offline", RAISE, scope="node"),
        emission(40, "site_power_event", CLEAR, scope="site"),
        emission(60, "under_voltage", CLEAR, subject=1),
        emission(60, "offline", CLEAR, scope="node"),
    )
    parent = next(c for c in changes if c.code == "site_power_event")
    for code, at in (("under_voltage", low_at), ("offline", offline_at)):
        mine = [c for c in changes if c.code == code]
        states = ["raised", "cleared"] if at > parent_at else ["raised", "updated", "cleared"]
        assert [c.state for c in mine] == states
        assert [c.parent for c in mine[-2:]] == [parent.finding_id] * 2
        assert mine[0].parent == (parent.finding_id if at > parent_at else None)
    assert [c.state for c in changes if c.code == "site_power_event"] == ["raised", "cleared"]
    assert manager.open() == []


def test_a_parent_leaves_alone_what_began_long_before_or_elsewhere() -> None:
    changes = apply(
        FindingsManager(),
        emission(0, "under_voltage", RAISE, start_ns=T0 - 61 * S),
        emission(0, "under_voltage", RAISE, subject=1, start_ns=T0 - 60 * S),
        emission(0, "over_current", RAISE),
        emission(1, "site_power_event", RAISE, scope="site"),
    )
    assert [(c.code, c.evse, c.station) for c in changes if c.state == "updated"] == [
        ("under_voltage", 1, "G1")
    ]

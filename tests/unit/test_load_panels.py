"""Panels of panels: each phase of each keeps its limit, and what is left is shared max-min fair."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models._load_decide import Limits, Wishes, decide
from models._load_points import Points
from models.batch import F64
from models.load_settings import Outlet, Panel, SiteSettings

from .load_yard import T0

NEAR = 1e-4
WIRINGS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0,), (1,), (2,))


@st.composite
def sites(draw: st.DrawFn) -> tuple[SiteSettings, list[int], list[float]]:
    """Return a site with panels up to three deep, the legs of each vehicle, and what each can use, A."""
    amps = st.integers(7, 90).map(float)
    limit = st.tuples(amps, amps, amps)
    panels = [Panel("grid", "", draw(limit))]
    for i in range(draw(st.integers(1, 5))):
        depth = {"grid": 0} | {p.name: 0 for p in panels[1:]}
        for panel in panels[1:]:
            depth[panel.name] = depth[panel.parent] + 1
        parent = draw(st.sampled_from([p.name for p in panels if depth[p.name] < 3]))
        panels.append(Panel(f"p{i}", parent, draw(limit)))
    n = draw(st.integers(1, 8))
    outlets = tuple(
        Outlet(
            f"s{i}",
            1,
            draw(st.sampled_from([p.name for p in panels])),
            draw(st.sampled_from(WIRINGS)),
            priority=draw(st.integers(0, 1)),
        )
        for i in range(n)
    )
    legs = [draw(st.integers(1, len(outlet.wiring))) for outlet in outlets]
    caps = [draw(st.sampled_from((6.0, 10.0, 16.0, 32.0))) for _ in outlets]
    return SiteSettings("yard", tuple(panels), outlets, commissioned=True), legs, caps


def decided(site: SiteSettings, legs: list[int], caps: list[float]) -> tuple[Points, Limits, Wishes, F64]:
    points = Points(site)
    for i, outlet in enumerate(site.outlets):
        points.add(outlet.station, 1, outlet, 0, None)
        points.start(i, T0, f"tx{i}")
        points.uses[i] = 0
        points.uses[i, list(outlet.wiring[: legs[i]])] = 1
        points.judged[i], points.meas_ms[i] = 1, T0
    place = {panel.name: i for i, panel in enumerate(site.panels)}
    inline = np.zeros((len(site.panels), len(points)))
    for i, outlet in enumerate(site.outlets):
        inline[list(site.lines()[place[outlet.panel]]), i] = 1.0
    room = np.array([panel.limit_a for panel in site.panels])
    limits = Limits(inline, room, room, float("inf"))
    n = len(points)
    wishes = Wishes(np.array(caps), np.full(n, 2), points.priority.copy(), np.zeros(n), np.ones(n))
    share, _ = decide(points, limits, wishes, T0, 900_000, 230.0)
    return points, limits, wishes, share


@settings(max_examples=60, deadline=None)
@given(sites())
def test_no_phase_of_any_panel_carries_more_than_its_limit(
    drawn: tuple[SiteSettings, list[int], list[float]],
) -> None:
    site, legs, caps = drawn
    points, _, _, share = decided(site, legs, caps)
    parents = {panel.name: panel.parent for panel in site.panels}
    for panel in site.panels:
        for phase in range(3):
            carried = 0.0
            for i, outlet in enumerate(site.outlets):
                at = outlet.panel
                while at and at != panel.name:
                    at = parents[at]
                carried += share[i] if at == panel.name and phase in outlet.wiring[: legs[i]] else 0.0
            assert carried <= panel.limit_a[phase] + NEAR
    assert all(amps == 0.0 or 6.0 - NEAR <= amps <= cap + NEAR for amps, cap in zip(share, caps, strict=True))
    assert len(points) == len(share)


@settings(max_examples=60, deadline=None)
@given(sites())
def test_nobody_can_have_more_but_from_one_who_has_no_more(
    drawn: tuple[SiteSettings, list[int], list[float]],
) -> None:
    """The naive mark of max-min fairness: each who is let in is full, or stops at a limit where nobody of
    its class has more power and nobody of a later class has more than the least."""
    site, legs, caps = drawn
    points, limits, wishes, share = decided(site, legs, caps)
    uses = points.uses > 0
    carried = limits.inline @ (share[:, None] * uses)
    full = carried >= limits.room_a - NEAR
    power = share * uses.sum(axis=1)
    for i in np.flatnonzero(share > 0):
        if share[i] >= caps[i] - NEAR:
            continue
        stops = np.argwhere(full & (limits.inline[:, i] > 0)[:, None] & uses[i][None])
        assert len(stops)
        assert any(
            all(
                (power[j] <= power[i] + NEAR or share[j] <= 6.0 + NEAR)
                if wishes.rank[j] == wishes.rank[i]
                else (wishes.rank[j] < wishes.rank[i] or share[j] <= 6.0 + NEAR)
                for j in np.flatnonzero((share > 0) & (limits.inline[panel] > 0) & uses[:, phase])
            )
            for panel, phase in stops
        )


@settings(max_examples=40, deadline=None)
@given(sites())
def test_who_waits_finds_no_room_for_the_least(drawn: tuple[SiteSettings, list[int], list[float]]) -> None:
    site, legs, caps = drawn
    points, limits, _, share = decided(site, legs, caps)
    uses = points.uses > 0
    least = np.where(share > 0, 6.0, 0.0)
    left = limits.room_a - limits.inline @ (least[:, None] * uses)
    for i in np.flatnonzero(share == 0.0):
        own = left[limits.inline[:, i] > 0][:, uses[i]]
        assert own.min() < 6.0

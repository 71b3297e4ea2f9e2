"""What the page of load management shows: sites against their limits, and who gets how much."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from connectors.ledger_reader import LedgerReader

from .page import Page
from .power import HEIGHT, WIDTH

_SPAN_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
#: Minutes further apart are not joined.
_GAP_MS: Final = 180_000
_PHASES: Final = (1, 2, 3)
_LEVELS: Final = 4
#: The limit is not drawn on the edge of the chart.
_HEADROOM: Final = 1.05
_ROUND: Final = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 4.8, 6, 8, 10)
#: A share of the limit above this is shown as over it; below, it is rounding.
_OVER: Final = 1.005
#: A site reports every minute; after three without, what is shown is not now.
STALE_MS: Final = 240_000
_BAR: Final = 1000
#: What the causes of a limit say to a person.
CAUSES: Final = {
    "free": "nothing is charged",
    "full": "all the EVSE can give",
    "vehicle": "all the vehicle can use",
    "site": "its share of the site",
    "demand": "its share of the quarter hour",
    "turn": "waits for its turn",
    "off_peak": "waits for a cheaper quarter",
    "operator": "limited by an operator",
    "idle": "has finished",
    "fallback": "held by the station itself",
}
_LOW: Final = {"turn": "warning", "off_peak": "info", "operator": "info", "fallback": "critical"}


class LoadChart(NamedTuple):
    """Lines of the fullest phase over the last hour: coordinates from 0 to `WIDTH` and `HEIGHT`."""

    levels: list[str]
    hours: list[str]
    current: list[str]
    held: list[str]
    limit: list[str]
    words: str


def load_chart(rows: Sequence[dict[str, Any]], now_ms: int) -> LoadChart:
    """Return the chart of a site's minutes: current, what may be drawn, and the limit, A of the phase
    that is nearest to its limit."""
    since_ms = now_ms - _SPAN_MS
    points = [(row["start_ms"], *_fullest(row)) for row in rows if row["start_ms"] >= since_ms]
    highest = max((max(values) for _, *values in points), default=0.0)
    top = _ceiling(highest * _HEADROOM)
    runs: list[list[tuple[Any, ...]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= _GAP_MS:
            runs[-1].append(point)
        else:
            runs.append([point])

    def spot(time_ms: int, value: float) -> str:
        return f"{WIDTH * (time_ms - since_ms) / _SPAN_MS:.1f},{HEIGHT * (1 - value / top):.1f}"

    def lines(which: int) -> list[str]:
        # A minute's means end with it; the first of a run is drawn from its begin, so that one alone shows.
        return [
            " ".join(
                [spot(run[0][0], run[0][which])]
                + [spot(point[0] + _MINUTE_MS, point[which]) for point in run]
            )
            for run in runs
        ]

    hours = [
        time.strftime("%H:%M", time.gmtime((since_ms + _SPAN_MS * k // _LEVELS) / 1000))
        for k in range(_LEVELS + 1)
    ]
    levels = [f"{top * (_LEVELS - k) / _LEVELS:g} A" for k in range(_LEVELS + 1)]
    words = "Current of the fullest phase over the last hour: nothing measured."
    if points:
        words = (
            f"Current of the fullest phase over the last hour: now {points[-1][1]:.0f} A of "
            f"{points[-1][3]:.0f} A, highest {max(point[1] for point in points):.0f} A."
        )
    return LoadChart(levels, hours, lines(1), lines(2), lines(3), words)


def _ceiling(value: float) -> float:
    """Return the least round number, with round quarters, that is at least `value` (1 for 0 and less)."""
    scale = 1.0
    while scale * 10 <= value:
        scale *= 10
    return next(factor * scale for factor in _ROUND if factor * scale >= value)


def _fullest(row: dict[str, Any]) -> tuple[float, float, float]:
    """Return current, held and limit of the phase that is nearest to its limit."""
    phase = max(_PHASES, key=lambda p: row[f"current_l{p}_a"] - row[f"limit_l{p}_a"])
    return row[f"current_l{phase}_a"], row[f"held_l{phase}_a"], row[f"limit_l{phase}_a"]


class LoadPage:
    """Renders the page of load management."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @property
    def ledger(self) -> LedgerReader:
        """Where everything is read."""
        return self._page.ledger

    def shown(self, template: str, site: str, now_ms: int) -> str:
        """Return the page, or its live part, for a site; "" chooses the first."""
        sites = self.ledger.load_now()
        names = [row["site"] for row in sites]
        chosen = site if site in names else (names[0] if names else "")
        now = next((row for row in sites if row["site"] == chosen), None)
        minutes = self.ledger.load_minutes(chosen, now_ms - _SPAN_MS, now_ms) if chosen else []
        limits = self.ledger.limits_now(chosen) if chosen else []
        most = max((row["limit_a"] for row in limits), default=0.0) or 1.0
        evses = [
            row | {"width": round(_BAR * row["limit_a"] / most, 1), "badge": _LOW.get(row["cause"], "")}
            for row in limits
        ]
        return self._page.fill(
            template,
            sites=[row | {"share": _share(row), "over": _share(row) > _OVER} for row in sites],
            site=chosen,
            now=now,
            evses=sorted(evses, key=lambda row: row["cause"] != "fallback"),
            fullest=_fullest(now) if now else None,
            over=now is not None and _share(now) > _OVER,
            stale=now is not None and now_ms - now["start_ms"] > STALE_MS,
            causes=CAUSES,
            chart=load_chart(minutes, now_ms),
            width=WIDTH,
            height=HEIGHT,
            bar_width=_BAR,
            now_ms=now_ms,
        )


def _share(row: dict[str, Any]) -> float:
    """Return the current of the fullest phase as a share of its limit."""
    current, _, limit = _fullest(row)
    return current / limit if limit else 0.0

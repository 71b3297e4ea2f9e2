"""The load dashboard: managed sites against their limits, and what waits."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import Row, page, query_variable
from ._panels import Panel, coloured, dashed, graph, number
from ._query import AT_SITES, InfluxQuery, select, series, tag_values

_MEASUREMENT = "ev_load"
_RECENT = "10m"


def _last(field: str, how: str = "sum") -> str:
    """Return the query for the newest value of each site, added up (or the highest)."""
    last = select(f'last("{field}") AS "value"', _MEASUREMENT, where=AT_SITES, by=("site",))
    return select(f'{how}("value") AS "value"', last)


def _numbers() -> list[Panel]:
    told = {
        "ev_kw": ("Charging", "Power of all charging at the chosen sites, newest minute.", "kwatt"),
        "site_kw": ("Sites", "Power of the chosen sites, other load included, newest minute.", "kwatt"),
        "charging": ("Vehicles charging", "EVSEs whose vehicle draws current, newest minute.", "none"),
        "waiting": ("Waiting", "Vehicles paused: not everyone fits, or a cheaper quarter comes.", "none"),
        "lost": (
            "Lost",
            "Vehicles at stations that are silent or disobey.",
            "none",
        ),
    }
    return [
        number(
            1 + i,
            title,
            description,
            unit,
            [InfluxQuery(_last(field), title)],
            recent=_RECENT,
            decimals=1 if unit == "kwatt" else 0,
            none="none",
        )
        for i, (field, (title, description, unit)) in enumerate(told.items())
    ]


def _phase(phase: int) -> Panel:
    fields = {"measured": "current", "may be drawn": "held", "limit": "limit", "other load": "other"}
    queries = [
        InfluxQuery(
            series(f'max("{field}_l{phase}_a") AS "current"', _MEASUREMENT, where=AT_SITES, by=("site",)),
            f"$tag_site {words}",
        )
        for words, field in fields.items()
    ]
    panel = graph(
        10 + phase,
        f"L{phase}",
        "Highest minute: measured current, what it may come to if control is lost, the limit, other load.",
        "amp",
        queries,
        decimals=0,
        every="1m",
    )
    return dashed(panel, "/limit$|may be drawn$/")


def _demand() -> Panel:
    queries = [
        InfluxQuery(
            series(f'max("{field}") AS "power"', _MEASUREMENT, where=AT_SITES, by=("site",)),
            f"$tag_site {words}",
        )
        for field, words in (("projected_kw", "projected"), ("demand_limit_kw", "limit"), ("peak_kw", "peak"))
    ]
    panel = graph(
        20,
        "Quarter hour",
        "Mean power that the clock quarter comes to if nothing changes, its limit, the highest so far.",
        "kwatt",
        queries,
        decimals=1,
        every="1m",
    )
    return dashed(panel, "/limit$/")


def _vehicles() -> Panel:
    queries = [
        InfluxQuery(series(f'sum("{field}") AS "{field}"', last), field)
        for field in ("charging", "waiting", "lost", "commands")
        for last in (
            series(f'max("{field}") AS "{field}"', _MEASUREMENT, where=AT_SITES, by=("site",), fill="none"),
        )
    ]
    panel = graph(
        21,
        "Vehicles and commands",
        "Vehicles that charge, wait or are lost, and limits sent a minute, summed over the chosen sites.",
        "none",
        queries,
        decimals=0,
        every="1m",
    )
    return coloured(panel, {"charging": "green", "waiting": "orange", "lost": "red", "commands": "blue"})


def load() -> builders.Dashboard:
    """Return the load dashboard."""
    dashboard = page(
        "load",
        "Load",
        "Managed sites: phases against their limits, the quarter hour, who charges and who waits.",
        [
            Row(4, [(panel, width) for panel, width in zip(_numbers(), (5, 5, 5, 5, 4), strict=True)]),
            Row(9, [(_phase(phase), 8) for phase in (1, 2, 3)]),
            Row(9, [(_demand(), 12), (_vehicles(), 12)]),
        ],
        refresh="30s",
        since="now-12h",
    )
    sites = query_variable(
        "site", "Site", "Managed sites shown.", tag_values(_MEASUREMENT, "site"), everything=True
    )
    return dashboard.with_variable(sites)

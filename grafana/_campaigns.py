"""The dashboard of firmware campaigns: how far each one is, and what it stumbles over."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import Row, page, query_variable
from ._panels import Column, Panel, coloured, graph, number, rows, stacked
from ._query import InfluxQuery, select, series, tag_values

_TABLE: Final = "ev_campaign"
_EVERY: Final = "1m"
_CHOSEN: Final = ('"campaign" =~ /^$campaign$/',)
#: Parts of all stations, in the order of their way, and their colours.
_PARTS: Final = {
    "succeeded": "green", "failed": "red", "in_flight": "blue", "due": "orange", "waiting": "gray",
}  # fmt: skip


def _sum(field: str) -> str:
    """Return the newest value of a field, summed over the campaigns chosen."""
    last = select(f'last("{field}") AS "stations"', _TABLE, where=_CHOSEN, by=("campaign",))
    return select('sum("stations") AS "stations"', last)


def _numbers() -> list[Panel]:
    told = {
        "succeeded": ("Run the new version", "Stations whose own birth reports it.", "green"),
        "in_flight": ("Under way", "Stations that were asked and have not ended.", "blue"),
        "failed": ("Failed", "Failed, timed out, rejected or never reached: see the campaign's page.", "red"),
        "waiting": ("To come", "Stations whose wave is not open.", "blue"),
    }
    return [
        number(
            i,
            title,
            text,
            "none",
            [InfluxQuery(_sum(field), "stations")],
            steps=((None, "blue"), (1, colour)),
            decimals=0,
            none="none",
        )
        for i, (field, (title, text, colour)) in enumerate(told.items(), 1)
    ]


def _parts() -> Panel:
    queries = []
    for field in _PARTS:
        each = select(
            f'last("{field}") AS "stations"',
            _TABLE,
            where=_CHOSEN,
            by=("campaign",),
            every="$__interval",
            fill="none",
        )
        queries.append(InfluxQuery(series('sum("stations") AS "stations"', each), field))
    return coloured(
        stacked(
            graph(
                10,
                "Stations",
                "Where the stations of the campaigns chosen are. Failed that grows: the campaign pauses by "
                "its threshold.",
                "none",
                queries,
                decimals=0,
                every=_EVERY,
            )
        ),
        _PARTS,
    )


def _gate() -> Panel:
    return graph(
        11,
        "Telemetry gate",
        "Log likelihood ratio of the figure that speaks most against the new version, over the bound at "
        "which it counts as worse: at 1 the campaign pauses, below 0 the figures are as before or better.",
        "none",
        [
            InfluxQuery(
                series('last("gate_worst") AS "gate"', _TABLE, where=_CHOSEN, by=("campaign",)),
                "$tag_campaign",
            )
        ],
        decimals=2,
        every=_EVERY,
    )


def _table() -> Panel:
    fields = ("state", "wave", "succeeded", "in_flight", "failed", "due", "waiting")
    what = ", ".join(f'last("{field}") AS "{field}"' for field in fields)
    return rows(
        20,
        "Campaigns",
        "The newest figures of each campaign in the range shown.",
        [InfluxQuery(select(what, _TABLE, where=_CHOSEN, by=("campaign",)), table=True)],
        [
            Column("campaign", "Campaign"),
            Column("state", "State"),
            Column("wave", "Wave", decimals=0, width=80),
            Column("succeeded", "New version", decimals=0),
            Column("in_flight", "Under way", decimals=0),
            Column("failed", "Failed", decimals=0),
            Column("due", "Due", decimals=0),
            Column("waiting", "To come", decimals=0),
        ],
    )


def campaigns() -> builders.Dashboard:
    """Return the dashboard of campaigns."""
    variable = query_variable(
        "campaign", "Campaign", "Campaigns shown.", tag_values(_TABLE, "campaign"), everything=True
    )
    return page(
        "campaigns",
        "Firmware campaigns",
        "How far firmware campaigns are, what fails, and what the telemetry gate sees.",
        [
            Row(4, [(panel, 6) for panel in _numbers()]),
            Row(10, [(_parts(), 14), (_gate(), 10)]),
            Row(8, [(_table(), 24)], "Campaigns"),
        ],
        refresh="30s",
        since="now-48h",
    ).with_variable(variable)

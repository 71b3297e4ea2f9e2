"""Variables and panels that more than one dashboard has."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import choice, query_variable
from ._panels import QUALITY, SEVERITY, STATE, Column, Panel, bars, number, rows
from ._query import FINDING, InfluxQuery, select, tag_values

#: How far back findings are looked for: what a query of InfluxDB 3 Core may span.
FINDINGS_SINCE: Final = "48h"

ROLLUP: Final = {"1m": "1 min", "15m": "15 min"}
PER: Final = {"15m": "quarter hour", "1h": "hour", "1d": "day"}


def rollup_variable() -> builders.CustomVariable:
    """Return the choice of roll-up that graphs read; also the end of its measurement's name."""
    return choice(
        "rollup", "Roll-up", "Values that graphs are made of. Take 15 min for ranges over 48 h.", ROLLUP
    )


def per_variable() -> builders.CustomVariable:
    """Return the choice of time that a bar of energy sums; a multiple of a quarter hour."""
    return choice("per", "Energy per", "Time that one bar of energy stands for; days are UTC days.", PER)


def site_variable() -> builders.QueryVariable:
    """Return the choice of sites."""
    return query_variable("site", "Site", "Sites shown.", tag_values("ev_1m", "site"), everything=True)


def open_findings(where: tuple[str, ...], severity: str = "", by: tuple[str, ...] = ()) -> str:
    """Return the query that counts open live findings: the last change of each series of findings."""
    last = select(
        'last("open") AS "open", "severity" AS "severity"',
        "ev_finding",
        where=(*where, '"live" = true'),
        by=FINDING,
    )
    only = (f"\"severity\" = '{severity}'",) if severity else ()
    return select('sum("open") AS "findings"', last, where=only, by=by)


def open_findings_panels(first_id: int, where: tuple[str, ...]) -> list[Panel]:
    """Return one number for each severity."""
    advice = {
        "critical": "Act now: people or equipment may be at risk, or an EVSE is out of use.",
        "warning": "Plan a visit: something wears out or works below its rating.",
        "info": "For your knowledge; planned absences stand here too.",
    }
    return [
        number(
            first_id + i,
            f"Open: {severity}",
            f"{text} Counts findings raised or changed in the last {FINDINGS_SINCE} and still open; the "
            "live page lists older ones too.",
            "none",
            [InfluxQuery(open_findings(where, severity), severity)],
            steps=((None, "green"), (1, SEVERITY[severity])),
            decimals=0,
            recent=FINDINGS_SINCE,
            none="none",
        )
        for i, (severity, text) in enumerate(advice.items())
    ]


def finding_changes(panel_id: int, where: tuple[str, ...]) -> Panel:
    """Return the table of the latest changes of findings."""
    return rows(
        panel_id,
        "Latest finding changes",
        "Every raising, change and clearing in the range shown, the latest first; at most 200. Evidence "
        "holds the figures that decided. Rows that are not live come from a backlog and need no action.",
        [
            InfluxQuery(
                select(
                    '"severity", "state", "code", "site", "station", "evse", "evidence", "source", '
                    '"taxonomy", "parent", "planned", "live"',
                    "ev_finding",
                    where=where,
                )
                + " ORDER BY time DESC LIMIT 200",
                table=True,
            )
        ],
        [
            Column("Time", "Time", unit="dateTimeAsIso", width=170),
            Column("severity", "Severity", width=90, colours=SEVERITY),
            Column("state", "State", width=85, colours=STATE),
            Column("code", "Finding", width=190),
            Column("site", "Site", width=110),
            Column("station", "Station", width=140),
            Column("evse", "EVSE", width=65),
            Column("evidence", "Evidence"),
            Column("source", "Source", width=90),
            Column("taxonomy", "Station's code", width=120),
            Column("parent", "Explained by", width=130),
            Column("planned", "Planned", width=80),
            Column("live", "Live", width=70),
        ],
        none="no finding changed in this range",
    )


def energy_bars(panel_id: int, where: tuple[str, ...], by: tuple[str, ...], name: str) -> Panel:
    """Return the bars of billable energy."""
    return bars(
        panel_id,
        "Energy per $per",
        "Billable energy by the import registers, the same figures as in the ledger. A bar starts where "
        "its time starts. Quarters of quality missing are absent, not 0; late readings revise a quarter.",
        "watth",
        [
            InfluxQuery(
                select(
                    'sum("energy_wh") AS "energy"',
                    "ev_energy_15m",
                    where=where,
                    by=by,
                    every="$per",
                    fill="null",
                ),
                name,
            )
        ],
        decimals=1,
    )


def quality_bars(panel_id: int, where: tuple[str, ...]) -> Panel:
    """Return the count of quarter hours by quality."""
    return bars(
        panel_id,
        "Quarter hours by quality",
        "measured: register readings at both borders. interpolated: between readings near by. estimated: "
        "shared out between two far registers. missing: no register, not billable yet. Growing orange or "
        "red: look for stations that are offline or send no register.",
        "none",
        [
            InfluxQuery(
                select(
                    'count("revision") AS "quarters"',
                    "ev_energy_15m",
                    where=(*where, f"\"quality\" = '{quality}'"),
                    every="$per",
                    fill="null",
                ),
                quality,
            )
            for quality in QUALITY
        ],
        decimals=0,
        colours=QUALITY,
    )

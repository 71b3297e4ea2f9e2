"""The fleet dashboard: is everything charging that should, and what needs somebody to look."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import Row, page
from ._panels import Column, Panel, coloured, graph, number, rows
from ._query import AT_SITES, InfluxQuery, per_evse, select, series
from ._shared import (
    energy_bars,
    finding_changes,
    open_findings,
    open_findings_panels,
    per_variable,
    quality_bars,
    rollup_variable,
    site_variable,
)

#: Power above which an EVSE counts as charging, W: that of the contactor_welded rule.
CHARGING_W: Final = 100
#: How old a value may be to be called current.
RECENT: Final = "10m"


def _now(what: str, only: tuple[str, ...] = (), by: tuple[str, ...] = (), recent: str = "") -> str:
    """Return a SELECT over the last power of each EVSE; `recent` bounds its age within the query."""
    bound = (f"time > now() - {recent}",) if recent else ()
    last = per_evse('last("power_mean_w") AS "power"', "ev_1m", (*AT_SITES, *bound), every="")
    return select(what, last, where=only, by=by)


_CHARGING: Final = (f'"power" > {CHARGING_W}',)


def _numbers() -> list[Panel]:
    return [
        number(
            1,
            "Power now",
            f"Sum of the last known power of every EVSE, not older than {RECENT}.",
            "watt",
            [InfluxQuery(_now('sum("power") AS "power"'), "power")],
            recent=RECENT,
            decimals=1,
        ),
        number(
            2,
            "Charging now",
            f"EVSEs that draw more than {CHARGING_W} W.",
            "none",
            [InfluxQuery(_now('count("power") AS "evses"', _CHARGING), "EVSEs")],
            recent=RECENT,
            decimals=0,
            none="none",
        ),
        number(
            3,
            "Reporting now",
            f"EVSEs with a power reading in the last {RECENT}. Fewer than you have: see the offline "
            "findings.",
            "none",
            [InfluxQuery(_now('count("power") AS "evses"'), "EVSEs")],
            recent=RECENT,
            decimals=0,
            none="none",
            steps=((None, "red"), (1, "green")),
        ),
        number(
            4,
            "Energy in range",
            "Billable energy of all quarter hours that start in the range shown.",
            "watth",
            [InfluxQuery(select('sum("energy_wh") AS "energy"', "ev_energy_15m", where=AT_SITES), "energy")],
            decimals=1,
        ),
    ]


def _power() -> list[Panel]:
    mean = per_evse('mean("power_mean_w") AS "power"', "ev_$rollup", AT_SITES)
    evses = per_evse('max("power_max_w") AS "power"', "ev_$rollup", AT_SITES)
    return [
        graph(
            10,
            "Total power",
            "Sum of the mean power of all EVSEs. The newest point grows until every station has delivered.",
            "watt",
            [InfluxQuery(series('sum("power") AS "power"', mean), "power")],
            decimals=1,
        ),
        graph(
            11,
            "Power by site",
            "The same sum for each site. A site that falls to a gap has stopped to report.",
            "watt",
            [InfluxQuery(series('sum("power") AS "power"', mean, by=("site",)), "$tag_site")],
            decimals=1,
        ),
        coloured(
            graph(
                12,
                "EVSEs charging and reporting",
                f"charging: above {CHARGING_W} W at some moment. reporting: with a power reading at all; "
                "where it has a gap, a zero of charging means unknown.",
                "none",
                [
                    InfluxQuery(
                        series('count("power") AS "charging"', evses, where=_CHARGING, fill="0"), "charging"
                    ),
                    InfluxQuery(series('count("power") AS "reporting"', evses), "reporting"),
                ],
                decimals=0,
            ),
            {"charging": "green", "reporting": "blue"},
        ),
    ]


def _sites() -> Panel:
    return rows(
        20,
        "Sites",
        f"Power and counts are current (last {RECENT}), energy and findings those of the range shown. "
        "Click a site to open its stations.",
        [
            InfluxQuery(query, table=True)
            for query in (
                _now('sum("power") AS "power", count("power") AS "reporting"', by=("site",), recent=RECENT),
                _now('count("power") AS "charging"', _CHARGING, ("site",), RECENT),
                select('sum("energy_wh") AS "energy"', "ev_energy_15m", where=AT_SITES, by=("site",)),
                open_findings(AT_SITES, by=("site",)),
            )
        ],
        [
            Column(
                "site", "Site", link="/d/chargestream-station?var-site=${__value.text}&${__url_time_range}"
            ),
            Column("power", "Power now", unit="watt", decimals=1),
            Column("charging", "Charging", decimals=0, width=90),
            Column("reporting", "Reporting", decimals=0, width=95),
            Column("energy", "Energy", unit="watth", decimals=1),
            Column("findings", "Open findings", decimals=0, width=120),
        ],
        join="site",
    )


def fleet() -> builders.Dashboard:
    """Return the fleet dashboard."""
    numbers = [(panel, 4) for panel in _numbers()] + [
        (panel, width) for panel, width in zip(open_findings_panels(5, AT_SITES), (3, 3, 2), strict=True)
    ]
    total, by_site, evses = _power()
    dashboard = page(
        "fleet",
        "Fleet",
        "All sites: power, energy, EVSEs at work, and the findings that need somebody.",
        [
            Row(4, numbers),
            Row(9, [(total, 12), (by_site, 12)]),
            Row(9, [(evses, 8), (energy_bars(13, AT_SITES, ("site",), "$tag_site"), 16)]),
            Row(9, [(_sites(), 12), (quality_bars(14, AT_SITES), 12)], "Sites"),
            Row(11, [(finding_changes(21, AT_SITES), 24)], "Findings"),
        ],
        refresh="30s",
        since="now-24h",
    )
    for variable in (site_variable(), rollup_variable(), per_variable()):
        dashboard = dashboard.with_variable(variable)
    return dashboard

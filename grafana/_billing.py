"""The billing dashboard: what was charged and billed, where, and what a person still has to decide."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import Row, page
from ._panels import Column, Panel, bars, number, rows
from ._query import AT_SITES, InfluxQuery, select
from ._shared import energy_bars, per_variable, quality_bars, site_variable

#: Revenue is of one currency at a time: sums over several mean nothing.
_MONEY: Final = 'sum("total_incl") AS "revenue"'


def _numbers() -> list[Panel]:
    return [
        number(
            1,
            "Billed with tax",
            "Bills less credits made in the range shown, in the currency of the bills.",
            "none",
            [InfluxQuery(select(_MONEY, "ev_bill", where=AT_SITES), "revenue")],
            decimals=2,
            none="none",
        ),
        number(
            2,
            "Billed without tax",
            "Bills less credits made in the range shown, before tax.",
            "none",
            [InfluxQuery(select('sum("total_excl") AS "net"', "ev_bill", where=AT_SITES), "net")],
            decimals=2,
            none="none",
        ),
        number(
            3,
            "Energy billed",
            "Energy of bills less that of credits, by the registers at begin and end.",
            "watth",
            [InfluxQuery(select('sum("energy_wh") AS "energy"', "ev_bill", where=AT_SITES), "energy")],
            decimals=1,
            none="none",
        ),
        number(
            4,
            "Energy counted",
            "Energy of all quarter hours in the range shown. More than billed: sessions that run, wait for a "
            "person, or energy outside of any session.",
            "watth",
            [InfluxQuery(select('sum("energy_wh") AS "energy"', "ev_energy_15m", where=AT_SITES), "energy")],
            decimals=1,
        ),
    ]


def _counts() -> list[Panel]:
    return [
        number(
            5,
            "Bills",
            "Bills made in the range shown, credits not counted.",
            "none",
            [
                InfluxQuery(
                    select('count("total_incl") AS "bills"', "ev_bill", where=(*AT_SITES, '"credit" = 0')),
                    "bills",
                )
            ],
            decimals=0,
            none="none",
        ),
        number(
            6,
            "Credits",
            "Bills that were taken back in the range shown: late messages, decisions of people.",
            "none",
            [
                InfluxQuery(
                    select('count("total_incl") AS "credits"', "ev_bill", where=(*AT_SITES, '"credit" = 1')),
                    "credits",
                )
            ],
            steps=((None, "green"), (1, "orange")),
            decimals=0,
            none="none",
        ),
    ]


def _revenue() -> Panel:
    return bars(
        10,
        "Revenue per $per",
        "Bills less credits with tax, by the time at which they were made.",
        "none",
        [
            InfluxQuery(
                select(_MONEY, "ev_bill", where=AT_SITES, by=("site",), every="$per", fill="null"),
                "$tag_site",
            )
        ],
        decimals=2,
    )


def _sites() -> Panel:
    return rows(
        20,
        "Sites",
        "Bills less credits of the range shown by site, and the energy that its registers counted.",
        [
            InfluxQuery(query, table=True)
            for query in (
                select(
                    'sum("total_incl") AS "revenue", sum("energy_wh") AS "billed"', "ev_bill", where=AT_SITES,
                    by=("site",),
                ),
                select('sum("energy_wh") AS "counted"', "ev_energy_15m", where=AT_SITES, by=("site",)),
            )
        ],
        [
            Column("site", "Site"),
            Column("revenue", "Revenue with tax", decimals=2),
            Column("billed", "Energy billed", unit="watth", decimals=1),
            Column("counted", "Energy counted", unit="watth", decimals=1),
        ],
        join="site",
    )  # fmt: skip


def _latest() -> Panel:
    return rows(
        21,
        "Latest bills",
        "The latest 100 bills and credits of the range shown.",
        [
            InfluxQuery(
                select(
                    '"site", "station", "evse", "transaction_id", "energy_wh", "total_incl", "currency", '
                    '"credit", "cdr_id"',
                    "ev_bill",
                    where=AT_SITES,
                )
                + " ORDER BY time DESC LIMIT 100",
                table=True,
            )
        ],
        [
            Column("Time", "Made", unit="dateTimeAsIso", width=170),
            Column("site", "Site", width=120),
            Column("station", "Station", width=140),
            Column("evse", "EVSE", width=65),
            Column("transaction_id", "Transaction"),
            Column("energy_wh", "Energy", unit="watth", decimals=1, width=110),
            Column("total_incl", "With tax", decimals=2, width=100),
            Column("currency", "Currency", width=80),
            Column("credit", "Credit", width=70),
            Column("cdr_id", "CDR"),
        ],
        none="no bill was made in this range",
    )


def billing() -> builders.Dashboard:
    """Return the billing dashboard."""
    dashboard = page(
        "billing",
        "Billing",
        "Revenue and energy: what was billed, where, and how it compares with the registers.",
        [
            Row(4, [(panel, 4) for panel in [*_numbers(), *_counts()]]),
            Row(9, [(_revenue(), 12), (energy_bars(11, AT_SITES, ("site",), "$tag_site"), 12)]),
            Row(9, [(_sites(), 12), (quality_bars(12, AT_SITES), 12)], "Sites"),
            Row(11, [(_latest(), 24)], "Bills"),
        ],
        refresh="5m",
        since="now-48h",
    )
    for variable in (site_variable(), per_variable()):
        dashboard = dashboard.with_variable(variable)
    return dashboard

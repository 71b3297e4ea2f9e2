"""The fault dashboard: what is found how fast, what is over how fast, which codes and sites are worst."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders

from ._page import Row, page
from ._panels import Column, Panel, bars, number, rows
from ._query import AT_SITES, InfluxQuery, select
from ._shared import finding_changes, open_findings, open_findings_panels, per_variable, site_variable

_LIVE: Final = (*AT_SITES, '"live" = true', '"planned" != true')
_RAISED: Final = (*_LIVE, "\"state\" = 'raised'")
_CLEARED: Final = (*_LIVE, "\"state\" = 'cleared'")
_ACKED: Final = (*AT_SITES, "\"action\" = 'ack'")


def _span(later: str, earlier: str, where: tuple[str, ...], by: tuple[str, ...] = (), name: str = "") -> str:
    """Return the query for the mean time between two moments of findings, ms."""
    each = select(f'"{later}" - "{earlier}" AS "span"', "ev_finding", where=where)
    return select(f'mean("span") AS "{name or "mean"}"', each, by=by)


def _to_detect(by: tuple[str, ...] = (), name: str = "") -> str:
    return _span("raised_at_ms", "start_ms", _RAISED, by, name)


def _to_clear(by: tuple[str, ...] = (), name: str = "") -> str:
    return _span("end_ms", "raised_at_ms", _CLEARED, by, name)


def _to_acknowledge() -> str:
    return select('mean("after_s") AS "mean"', "ev_finding_action", where=_ACKED)


def _raised(by: tuple[str, ...] = (), every: str = "") -> str:
    return select(
        'count("open") AS "raised"', "ev_finding", where=_RAISED, by=by, every=every,
        fill="none" if every else "",
    )  # fmt: skip


def _numbers() -> list[Panel]:
    detect = "From the begin of the condition to its raise, mean over the findings raised in the range shown."
    clear = "From the raise to the end of the condition, mean over the findings cleared in the range shown."
    acknowledge = (
        "From the raise to an acknowledgement, mean over the acknowledgements in the range shown. The page "
        "/analytics counts the first one of each finding."
    )
    return [
        number(1, "Raised", "Live findings raised in the range shown, without planned ones.", "none",
               [InfluxQuery(_raised(), "raised")], decimals=0, none="none"),
        number(2, "Mean time to detect", detect, "ms", [InfluxQuery(_to_detect(), "mean")], decimals=1),
        number(3, "Mean time to acknowledge", acknowledge, "s", [InfluxQuery(_to_acknowledge(), "mean")],
               decimals=1),
        number(4, "Mean time to clear", clear, "ms", [InfluxQuery(_to_clear(), "mean")], decimals=1),
    ]  # fmt: skip


def _table(panel_id: int, title: str, description: str, key: str, column: Column) -> Panel:
    by = (key,)
    return rows(
        panel_id,
        title,
        description,
        [
            InfluxQuery(query, table=True)
            for query in (
                _raised(by),
                open_findings(AT_SITES, by=by),
                _to_detect(by, "detect"),
                _to_clear(by, "clear"),
            )
        ],
        [
            column,
            Column("raised", "Raised", decimals=0, width=90),
            Column("findings", "Open", decimals=0, width=80),
            Column("detect", "Time to detect", unit="ms", decimals=1),
            Column("clear", "Time to clear", unit="ms", decimals=1),
        ],
        join=key,
    )


def faults() -> builders.Dashboard:
    """Return the fault dashboard."""
    codes = _table(
        20, "By code", "What was raised in the range shown, by code: how often, how many are open, mean "
        "times to detect and to clear.", "code", Column("code", "Finding"),
    )  # fmt: skip
    sites = _table(
        21, "By site", "The same by site: sort by open or raised to see the worst. Click a site to open its "
        "stations.", "site",
        Column("site", "Site", link="/d/chargestream-station?var-site=${__value.text}&${__url_time_range}"),
    )  # fmt: skip
    raised = bars(
        10,
        "Raised per $per, by code",
        "How often each code was raised: a rise of one code at many places is seldom many defects.",
        "none",
        [InfluxQuery(_raised(("code",), "$per"), "$tag_code")],
        decimals=0,
    )
    numbers = [(panel, 4) for panel in _numbers()]
    numbers += [
        (panel, width) for panel, width in zip(open_findings_panels(5, AT_SITES), (3, 3, 2), strict=True)
    ]
    dashboard = page(
        "faults",
        "Faults",
        "How fast faults are found and over, which codes and sites have most.",
        [
            Row(4, numbers),
            Row(9, [(raised, 24)]),
            Row(12, [(codes, 12), (sites, 12)], "Where and what"),
            Row(11, [(finding_changes(22, AT_SITES), 24)], "Findings"),
        ],
        refresh="1m",
        since="now-24h",
    )
    for variable in (site_variable(), per_variable()):
        dashboard = dashboard.with_variable(variable)
    return dashboard

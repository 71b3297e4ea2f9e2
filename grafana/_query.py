"""InfluxQL texts for dashboards, and how Grafana stores them.

Only what InfluxDB 1.x, 2.x and 3 all answer: raw InfluxQL, every identifier in double quotes, every string
in single ones, ``$timeFilter`` in every SELECT. The server-side macros are ``$timeFilter`` and
``$__interval``; all other ``$names`` are variables of the dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.common import DataSourceRef

#: The data source that `provisioning/datasources/chargestream.yaml` makes.
DATASOURCE_UID: Final = "chargestream"
DATASOURCE_TYPE: Final = "influxdb"

EVSE: Final = ("site", "station", "evse")
FINDING: Final = ("code", "evse", "node", "scope", "site", "station")
INTERVAL: Final = "$__interval"

AT_SITES: Final = ('"site" =~ /^$site$/',)
AT_EVSES: Final = (*AT_SITES, '"station" =~ /^$station$/', '"evse" =~ /^$evse$/')
#: A station's own findings carry no EVSE.
ABOUT_EVSES: Final = (*AT_SITES, '"station" =~ /^$station$/', '("evse" =~ /^$evse$/ OR "evse" = \'-\')')


def datasource() -> DataSourceRef:
    """Return the reference to our data source."""
    return DataSourceRef(type_val=DATASOURCE_TYPE, uid=DATASOURCE_UID)


class InfluxQuery(variants.Dataquery, builder.Builder[variants.Dataquery]):
    """One raw InfluxQL target; the SDK has no type for it.

    Parameters
    ----------
    query : str
    name : str
        Names the series: may hold ``$tag_<tag>`` and ``$col``. Empty: Grafana's own.
    table : bool
        Rows with tags as columns instead of series.
    ref : str
        Letter of the target within its panel.
    """

    def __init__(self, query: str, name: str = "", *, table: bool = False, ref: str = "A") -> None:
        self.query, self.name, self.table, self.ref = query, name, table, ref

    def to_json(self) -> dict[str, object]:
        """Return the target as it stands in a dashboard."""
        target: dict[str, object] = {
            "refId": self.ref,
            "datasource": datasource(),
            "query": self.query,
            "rawQuery": True,
            "resultFormat": "table" if self.table else "time_series",
        }
        if self.name:
            target["alias"] = self.name
        return target

    def build(self) -> Self:
        """Return itself: it is its own builder."""
        return self


def select(
    what: str,
    source: str,
    *,
    where: Sequence[str] = (),
    by: Sequence[str] = (),
    every: str = "",
    fill: str = "",
) -> str:
    """Return one SELECT.

    Parameters
    ----------
    what : str
        Fields, with their quotes.
    source : str
        Name of a measurement, or a whole SELECT as subquery.
    where : sequence of str
        Conditions beside the time filter.
    by : sequence of str
        Tags to group by.
    every : str
        Length of time buckets, ``$__interval`` as a rule; empty: none.
    fill : str
        What an empty bucket holds: null, none or 0.
    """
    groups = [f"time({every})"] if every else []
    groups += [f'"{tag}"' for tag in by]
    parts = ["SELECT", what, "FROM", f"({source})" if source.startswith("SELECT ") else f'"{source}"']
    parts += ["WHERE", " AND ".join(["$timeFilter", *where])]
    if groups:
        parts += ["GROUP BY", ", ".join(groups)]
    if fill:
        parts.append(f"fill({fill})")
    return " ".join(parts)


def series(
    what: str, source: str, *, where: Sequence[str] = (), by: Sequence[str] = (), fill: str = "null"
) -> str:
    """Return a SELECT in buckets of the panel's interval."""
    return select(what, source, where=where, by=by, every=INTERVAL, fill=fill)


def per_evse(what: str, measurement: str, where: Sequence[str], every: str = INTERVAL) -> str:
    """Return the subquery that gives one value an EVSE (and bucket), to be summed or counted."""
    return select(what, measurement, where=where, by=EVSE, every=every, fill="none" if every else "")


def tag_values(measurement: str, tag: str, where: Sequence[str] = ()) -> str:
    """Return the query of a variable: the values of a tag."""
    return f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{tag}"' + (
        f" WHERE {' AND '.join(where)}" if where else ""
    )

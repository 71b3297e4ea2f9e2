"""Variables and the page of a dashboard: rows of panels laid out from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from ._panels import Panel
from ._query import datasource

UID_PREFIX: Final = "chargestream-"
TAG: Final = "chargestream"


def query_variable(
    name: str, label: str, description: str, query: str, *, everything: bool
) -> builders.QueryVariable:
    """Return a variable of tag values; `everything`: it starts at All, else at the first value."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(datasource())
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )
    return variable.current(VariableOption(True, ["All"], ["$__all"])) if everything else variable


def choice(name: str, label: str, description: str, values: Mapping[str, str]) -> builders.CustomVariable:
    """Return a variable with a fixed list, value -> what is shown; the first is the default."""
    first = next(iter(values))
    return (
        builders.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(f"{text} : {value}" for value, text in values.items()))
        .options([VariableOption(value == first, text, value) for value, text in values.items()])
        .current(VariableOption(True, values[first], first))
        .multi(False)
        .include_all(False)
    )


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, with their widths (24 together); a title starts a section."""

    height: int
    panels: Sequence[tuple[Panel, int]]
    title: str = ""


def page(
    name: str, title: str, description: str, rows_: Sequence[Row], *, refresh: str, since: str
) -> builders.Dashboard:
    """Return a dashboard with its panels laid out from top to bottom."""
    dashboard = (
        builders.Dashboard(title)
        .uid(UID_PREFIX + name)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .refresh(refresh)
        .time(since, "now")
        .timepicker(builders.TimePicker().refresh_intervals(["5s", "10s", "30s", "1m", "5m", "15m", "1h"]))
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("chargestream")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )
    y = 0
    for row in rows_:
        if row.title:
            section = builders.Row(row.title).grid_pos(GridPos(h=1, w=24, x=0, y=y)).id(1000 + y)
            dashboard = dashboard.with_row(section)
            y += 1
        x = 0
        for panel, width in row.panels:
            dashboard = dashboard.with_panel(panel.grid_pos(GridPos(h=row.height, w=width, x=x, y=y)))
            x += width
        y += row.height
    return dashboard


class _FindingsAnnotation(AnnotationQuery):
    """An InfluxQL annotation: Grafana keeps query and columns beside the fields that the SDK knows."""

    query = ""

    def to_json(self) -> dict[str, object]:
        """Return it as it stands in a dashboard, with the columns that make title, text and tags."""
        columns: dict[str, object] = {
            "query": self.query,
            "titleColumn": "code",
            "textColumn": "evidence",
            "tagsColumn": "severity,state",
            "timeEndColumn": "",
            "fromAnnotations": True,
        }
        target = {"refId": "Anno", "datasource": self.datasource, "rawQuery": True, "textEditor": True}
        return super().to_json() | columns | {"target": target | columns}


class _FindingsAnnotationBuilder(builders.AnnotationQuery):
    def __init__(self, query: str) -> None:
        super().__init__()
        self._internal: _FindingsAnnotation = _FindingsAnnotation()
        self._internal.query = query


def findings_annotation(query: str) -> builders.AnnotationQuery:
    """Return the annotation that marks each row of `query` (code, severity, state, evidence) in the "
    "graphs."""
    return (
        _FindingsAnnotationBuilder(query)
        .name("Findings")
        .datasource(datasource())
        .enable(True)
        .hide(False)
        .icon_color("orange")
    )

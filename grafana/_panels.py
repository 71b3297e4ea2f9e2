"""Panels as all dashboards have them: one look, one way to treat units, gaps and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

from ._query import InfluxQuery, datasource

Panel = timeseries.Panel | stat.Panel | table.Panel | statetimeline.Panel
#: (value from which it holds, colour); the first value is None: from below.
Steps = Sequence[tuple[float | None, str]]

#: Gap that a line still bridges: stations that send every five minutes are not dotted, an outage shows.
BRIDGED_MS: Final = 300_000
PLAIN: Final[Steps] = ((None, "blue"),)
SEVERITY: Final = {"critical": "dark-red", "warning": "orange", "info": "blue"}
STATE: Final = {"raised": "red", "updated": "orange", "cleared": "green"}
QUALITY: Final = {"measured": "green", "interpolated": "blue", "estimated": "orange", "missing": "red"}
FATE: Final = {
    "decoded": "green", "processed": "green", "late": "yellow", "duplicate": "blue",
    "invalid": "orange", "dead": "red", "held": "purple",
}  # fmt: skip


def _targets(queries: Sequence[InfluxQuery]) -> Sequence[InfluxQuery]:
    """Give the targets of a panel their letters."""
    for i, query in enumerate(queries):
        query.ref = chr(ord("A") + i)
    return queries


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Return absolute thresholds."""
    return (
        builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value, colour) for value, colour in steps])
    )


def mapping(colours: Mapping[str, str], texts: Mapping[str, str] | None = None) -> ValueMap:
    """Return the mapping that colours words."""
    texts = texts or {}
    return ValueMap(
        {
            word: ValueMappingResult(text=texts.get(word), color=colour, index=i)
            for i, (word, colour) in enumerate(colours.items())
        }
    )


def colour(name: str) -> DynamicConfigValue:
    """Return the property that fixes a colour."""
    return DynamicConfigValue("color", {"mode": FieldColorModeId.FIXED, "fixedColor": name})


def graph(
    number: int,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[InfluxQuery],
    *,
    decimals: int | None = None,
    every: str = "$rollup",
    calcs: Sequence[str] = ("lastNotNull", "max"),
) -> timeseries.Panel:
    """Return a line graph; `every` is the shortest bucket that holds a value. Longer gaps stay gaps."""
    panel = (
        timeseries.Panel()
        .id(number)
        .title(title)
        .description(description)
        .datasource(datasource())
        .unit(unit)
        .interval(every)
        .no_value("no data")
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
        .line_width(1)
        .fill_opacity(8)
        .line_interpolation(common.LineInterpolation.LINEAR)
        .show_points(common.VisibilityMode.AUTO)
        .point_size(4)
        .span_nulls(BRIDGED_MS)
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(list(calcs))
        )
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    for query in _targets(queries):
        panel = panel.with_target(query)
    return panel


def bars(
    number: int,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[InfluxQuery],
    *,
    decimals: int | None = None,
    every: str = "$per",
    colours: Mapping[str, str] | None = None,
) -> timeseries.Panel:
    """Return stacked bars, each standing over the span it sums."""
    panel = (
        graph(
            number, title, description, unit, queries,
            decimals=decimals, every=every, calcs=("sum", "max"),
        )
        .draw_style(common.GraphDrawStyle.BARS)
        .bar_alignment(common.BarAlignment.AFTER)
    )  # fmt: skip
    return coloured(panel, colours or {})


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """Pile the series up as areas: parts of a whole."""
    return (
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        .fill_opacity(40)
        .axis_soft_min(0)
    )


def coloured(panel: timeseries.Panel, colours: Mapping[str, str]) -> timeseries.Panel:
    """Give series their fixed colours by name."""
    for name, value in colours.items():
        panel = panel.override_by_name(name, [colour(value)])
    return panel


def limits(panel: timeseries.Panel, steps: Steps) -> timeseries.Panel:
    """Draw thresholds as dashed lines."""
    return panel.thresholds(thresholds(steps)).thresholds_style(
        common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
    )


def dashed(panel: timeseries.Panel, pattern: str) -> timeseries.Panel:
    """Draw the series whose name matches as dashed steps: a set-point, not a measurement."""
    return panel.override_by_regexp(
        pattern,
        [
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            DynamicConfigValue("custom.lineInterpolation", common.LineInterpolation.STEP_AFTER),
            DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


def number(
    panel_id: int,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[InfluxQuery],
    *,
    steps: Steps = PLAIN,
    decimals: int | None = None,
    recent: str = "",
    every: str = "",
    none: str = "no data",
    spark: bool = False,
) -> stat.Panel:
    """Return one big number: the last value. `recent` fixes the range to the time just passed."""
    panel = (
        stat.Panel()
        .id(panel_id)
        .title(title)
        .description(description)
        .datasource(datasource())
        .unit(unit)
        .no_value(none)
        .thresholds(thresholds(steps))
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA if spark else common.BigValueGraphMode.NONE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if recent:
        panel = panel.time_from(recent)
    if every:
        panel = panel.interval(every)
    for query in _targets(queries):
        panel = panel.with_target(query)
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """How a table shows one column; columns that are not named here are hidden."""

    field: str
    title: str
    unit: str = ""
    decimals: int | None = None
    width: int | None = None
    colours: Mapping[str, str] | None = None
    link: str = ""

    def properties(self) -> list[DynamicConfigValue]:
        """Return the overrides of this column."""
        found = [DynamicConfigValue("displayName", self.title)]
        if self.unit:
            found.append(DynamicConfigValue("unit", self.unit))
        if self.decimals is not None:
            found.append(DynamicConfigValue("decimals", self.decimals))
        if self.width is not None:
            found.append(DynamicConfigValue("custom.width", self.width))
        if self.colours:
            found.append(DynamicConfigValue("mappings", [mapping(self.colours)]))
            found.append(DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if self.link:
            found.append(DynamicConfigValue("links", [{"title": "Open the stations", "url": self.link}]))
        return found


def rows(
    number: int,
    title: str,
    description: str,
    queries: Sequence[InfluxQuery],
    columns: Sequence[Column],
    *,
    join: str = "",
    none: str = "no data",
) -> table.Panel:
    """Return a table of exactly `columns`; `join` is the column by which several queries become one."""
    panel = (
        table.Panel()
        .id(number)
        .title(title)
        .description(description)
        .datasource(datasource())
        .unit("none")
        .no_value(none)
        .show_header(True)
        .cell_height(common.TableCellHeight.SM)
        .filterable(True)
    )
    if join:
        panel = panel.with_transformation(
            DataTransformerConfig("joinByField", options={"byField": join, "mode": "outer"})
        )
    names = [column.field for column in columns]
    for transformation in (
        DataTransformerConfig("filterFieldsByName", options={"include": {"names": names}}),
        DataTransformerConfig("organize", options={"indexByName": {name: i for i, name in enumerate(names)}}),
    ):
        panel = panel.with_transformation(transformation)
    for column in columns:
        panel = panel.override_by_name(column.field, column.properties())
    for query in _targets(queries):
        panel = panel.with_target(query)
    return panel


def states(
    number: int,
    title: str,
    description: str,
    queries: Sequence[InfluxQuery],
    colours: Mapping[str, str],
    texts: Mapping[str, str],
    every: str,
) -> statetimeline.Panel:
    """Return a state timeline."""
    panel = (
        statetimeline.Panel()
        .id(number)
        .title(title)
        .description(description)
        .datasource(datasource())
        .unit("none")
        .interval(every)
        .no_value("no data")
        .mappings([mapping(colours, texts)])
        .color_scheme(builders.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .thresholds(thresholds(((None, "gray"),)))
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(70)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    for query in _targets(queries):
        panel = panel.with_target(query)
    return panel

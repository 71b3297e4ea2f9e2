"""The dashboards as files: generated from the code, complete, and inside what every InfluxDB answers."""

from __future__ import annotations

import importlib
import itertools
import re
from pathlib import Path

import pytest

from connectors.schema import MEASUREMENTS
from grafana import _query, _station, build

from . import _grafana as g

QUERIES = list(g.queries())
#: Functions that InfluxDB 1.x, 2.x and 3 share, of those we use.
FUNCTIONS = {"count", "last", "max", "mean", "min", "non_negative_derivative", "sum", "now", "time", "fill"}
KEYWORDS = {
    "SELECT", "AS", "FROM", "WHERE", "AND", "OR", "GROUP", "BY", "ORDER", "DESC", "LIMIT", "SHOW", "TAG",
    "VALUES", "WITH", "KEY", "null", "none", "true", "time",
}  # fmt: skip
DURATION = re.compile(r"\d+[smhd]?")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|=~ /(?:[^/\\]|\\.)*/")
LONGEST_RAW_MS = g.milliseconds("48h")


def test_the_checked_in_files_are_what_the_code_generates() -> None:
    for name in build.DASHBOARDS:
        text = (build.FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert text == build.render(name), f"{name}.json is stale: run python -m grafana.build"
    assert {path.stem for path in build.FOLDER.glob("*")} == set(build.DASHBOARDS)


def test_main_writes_every_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "grafana" / "dashboards"
    folder.mkdir(parents=True)
    monkeypatch.setattr(build, "FOLDER", folder)
    build.main()
    assert capsys.readouterr().out.split() == [f"grafana/dashboards/{name}.json" for name in build.DASHBOARDS]
    assert (folder / "fleet.json").read_text() == build.render("fleet")


def test_dashboards_are_known_by_their_own_uid_and_cannot_be_edited() -> None:
    found = g.dashboards()
    assert {name: d["uid"] for name, d in found.items()} == {n: f"chargestream-{n}" for n in found}
    for dashboard in found.values():
        assert dashboard["editable"] is False
        assert dashboard["title"]
        assert dashboard["description"]
        assert g.milliseconds(dashboard["refresh"]) >= 5000
        assert all(g.milliseconds(every) >= 5000 for every in dashboard["timepicker"]["refresh_intervals"])
        since = re.fullmatch(r"now-(\w+)", dashboard["time"]["from"])
        assert since
        assert g.milliseconds(since[1]) <= LONGEST_RAW_MS


@pytest.mark.parametrize("name", build.DASHBOARDS)
def test_every_panel_says_what_it_shows_and_in_which_unit(name: str) -> None:
    dashboard = g.dashboards()[name]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in g.panels(dashboard)]
    assert len(titles) == len(set(titles))
    for panel in g.panels(dashboard):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        assert panel["datasource"] == {"type": "influxdb", "uid": _query.DATASOURCE_UID}
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [chr(65 + i) for i in range(len(refs))]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"]
            assert target["rawQuery"] is True


@pytest.mark.parametrize("name", build.DASHBOARDS)
def test_panels_lie_on_the_grid_and_do_not_overlap(name: str) -> None:
    boxes = [(p["title"], p["gridPos"]) for p in g.dashboards()[name]["panels"]]
    for _, box in boxes:
        assert box["x"] + box["w"] <= 24
        assert min(box["w"], box["h"]) > 0
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} lies over {other}"


def outside_subset(text: str) -> list[str]:
    """Return what of a query is no quoted name, known keyword, shared function, number or operator."""
    bare = _QUOTED.sub(" ", text)
    bare = re.sub(r"\$timeFilter|\$__interval|\$per", " ", bare)
    words = re.findall(r"(\w+)(\s*\()?", bare)
    return [
        word
        for word, call in words
        if not (
            word in FUNCTIONS
            if call and word not in KEYWORDS
            else word in KEYWORDS or DURATION.fullmatch(word)
        )
    ]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_queries_stay_in_what_every_influxdb_answers(query: g.Query) -> None:
    assert outside_subset(query.text) == []
    assert ";" not in query.text
    selects = len(re.findall(r"\bSELECT\b", query.text))
    assert query.text.count("$timeFilter") == selects
    assert query.text.startswith("SHOW TAG VALUES " if query.kind == "variable" else "SELECT ")


@pytest.mark.parametrize(
    ("text", "offence"),
    [
        ('SELECT power_w FROM "ev_1m" WHERE $timeFilter', "power_w"),
        ('SELECT mean("power_w") FROM ev_1m WHERE $timeFilter', "ev_1m"),
        ('SELECT sample("power_w", 3) FROM "ev_1m" WHERE $timeFilter', "sample"),
        ('SELECT holt_winters("power_w", 3) FROM "ev_1m" WHERE $timeFilter', "holt_winters"),
        ('SELECT "power_w" FROM "ev_1m" WHERE $timeFilter SLIMIT 3', "SLIMIT"),
        ('SELECT "power_w" INTO "x" FROM "ev_1m" WHERE $timeFilter', "INTO"),
        ("SHOW SERIES", "SERIES"),
    ],
)
def test_the_subset_check_finds_offences(text: str, offence: str) -> None:
    assert outside_subset(text) == [offence]


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.parametrize("rollup", ["1m", "15m"])
def test_every_name_is_in_the_schema(query: g.Query, rollup: str) -> None:
    text = g.replaced(query.text, {"rollup": rollup})
    (measurement,) = re.findall(r'FROM "(\w+)"', text)
    spec = MEASUREMENTS[measurement]
    known = {field.name for field in spec.fields} | spec.tags.keys() | {measurement}
    aliases = set(re.findall(r'AS "(\w+)"', text))
    names = set(re.findall(r'"([^"]*)"', text))
    assert names - known - aliases == set()
    for alias in re.findall(
        r"\$tag_(\w+)", " ".join(t.get("alias", "") for t in query.panel.get("targets", []))
    ):
        assert alias in spec.tags


def test_a_series_is_cut_by_the_interval_that_grafana_takes() -> None:
    wrong = []
    for query in QUERIES:
        graph = query.panel.get("type") in {"timeseries", "state-timeline"}
        whole = "ev_reading" in query.text
        if graph and not whole and not re.search(r"time\((\$__interval|\$per)\)", query.text):
            wrong.append(str(query))
    assert wrong == []


#: Measurements that graphs may read over any range.
SMALL = {"ev_$rollup", "ev_bill", "ev_campaign", "ev_energy_15m", "ev_finding", "ev_load", "ev_pipeline"}


def test_single_readings_are_read_for_48_hours_at_most_else_roll_ups() -> None:
    for query in QUERIES:
        if "ev_reading" in query.text:
            assert g.milliseconds(query.panel["timeFrom"]) <= LONGEST_RAW_MS, str(query)
        elif query.panel.get("type") == "timeseries":
            measurement = re.findall(r'FROM "([\w$]+)"', query.text)
            assert measurement[0] in SMALL, str(query)


def test_bars_of_energy_never_split_a_quarter_hour() -> None:
    for query in QUERIES:
        if "ev_energy_15m" in query.text and "time(" in query.text:
            assert "time($per)" in query.text, str(query)
    for name in ("fleet", "station"):
        (per,) = [v for v in g.dashboards()[name]["templating"]["list"] if v["name"] == "per"]
        assert [option["value"] for option in per["options"]] == ["15m", "1h", "1d"]
        assert all(g.milliseconds(option["value"]) % g.milliseconds("15m") == 0 for option in per["options"])


def test_choices_of_places_are_multiple_and_start_sensibly() -> None:
    found = {
        name: {v["name"]: v for v in d["templating"]["list"] if v["type"] == "query"}
        for name, d in g.dashboards().items()
    }
    assert {name: list(variables) for name, variables in found.items()} == {
        "billing": ["site"],
        "fleet": ["site"],
        "station": ["site", "station", "evse"],
        "faults": ["site"],
        "pipeline": ["component", "part"],
        "campaigns": ["campaign"],
        "load": ["site"],
    }
    for variables in found.values():
        for variable in variables.values():
            assert variable["multi"] is True
            assert variable["includeAll"] is True
            assert variable["allValue"] == ".*"
            assert variable["datasource"]["uid"] == _query.DATASOURCE_UID
    assert "current" not in found["station"]["station"]  # Grafana takes the first: All would be too much


def test_every_variable_of_a_query_is_defined_in_its_dashboard() -> None:
    defined = {name: {v["name"] for v in d["templating"]["list"]} for name, d in g.dashboards().items()}
    for query in QUERIES:
        used = set(re.findall(r"\$(\w+)", query.text)) - {"timeFilter", "__interval"}
        used |= set(re.findall(r"\$(\w+)", query.panel.get("interval") or ""))
        assert used <= defined[query.dashboard], str(query)


def test_a_column_shown_is_a_column_queried() -> None:
    for dashboard in g.dashboards().values():
        for panel in g.panels(dashboard):
            if panel["type"] != "table":
                continue
            (include,) = [
                t["options"]["include"]["names"]
                for t in panel["transformations"]
                if t["id"] == "filterFieldsByName"
            ]
            text = " ".join(target["query"] for target in panel["targets"])
            assert [n for n in include if n != "Time" and f'"{n}"' not in text] == []


def test_limits_are_those_of_the_rules() -> None:
    voltage = importlib.import_module("models.detectors.under_voltage").Config()
    over = importlib.import_module("models.detectors.over_voltage").Config()
    plug = importlib.import_module("models.detectors.connector_over_temperature").Config()
    assert [value for value, _ in _station.VOLTAGE_LIMITS[1:]] == pytest.approx(
        [230 * voltage.ten_min_pu, 230 * over.ten_min_pu]
    )
    assert [value for value, _ in _station.TEMPERATURE_LIMITS[1:]] == [plug.ac_warning_c, plug.ac_critical_c]


def test_the_data_source_file_fits_the_dashboards_and_holds_no_secret() -> None:
    (source,) = g.provisioning("datasources")["datasources"]
    assert source["uid"] == _query.DATASOURCE_UID
    assert source["type"] == _query.DATASOURCE_TYPE
    assert source["jsonData"]["version"] == "InfluxQL"
    assert source["jsonData"]["dbName"] == source["database"] == "$INFLUX_DATABASE"
    assert source["jsonData"]["httpHeaderName1"] == "Authorization"
    assert source["secureJsonData"] == {"httpHeaderValue1": "Token $INFLUX_TOKEN"}
    assert source["url"] == "$INFLUX_URL"


def test_the_dashboard_provider_reads_files() -> None:
    (provider,) = g.provisioning("dashboards")["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
    assert provider["allowUiUpdates"] is False

"""Reads checked-in dashboards, and expands their queries as Grafana does before they reach InfluxDB."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

from grafana.build import DASHBOARDS, FOLDER

#: Characters that Grafana escapes in values put into a regular expression.
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Interval up to which Grafana rounds, ms -> the interval taken.
_STEPS = (
    (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000),
    (7500, 5000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000), (90_000, 60_000),
    (210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000),
    (1_500_000, 1_200_000), (2_700_000, 1_800_000), (5_400_000, 3_600_000), (9_000_000, 7_200_000),
    (16_200_000, 10_800_000), (32_400_000, 21_600_000), (86_400_000, 43_200_000),
    (604_800_000, 86_400_000),
)  # fmt: skip
MAX_DATA_POINTS = 1000

Json = dict[str, Any]
#: A variable's value: one, several chosen, or the pattern that stands for All.
Scope = Mapping[str, str | Sequence[str]]


def dashboards() -> dict[str, Json]:
    """Return the checked-in dashboards by name."""
    return {name: json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")) for name in DASHBOARDS}


def provisioning(folder: str, environment: Mapping[str, str] | None = None) -> Any:
    """Return a provisioning file, its variables replaced when an environment is given."""
    yaml: Any = importlib.import_module("yaml")
    text = (FOLDER.parent / "provisioning" / folder / "chargestream.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text if environment is None else Template(text).safe_substitute(environment))


def panels(dashboard: Json) -> list[Json]:
    """Return its panels without the headings of sections."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@dataclass(frozen=True)
class Query:
    """One query of a dashboard, wherever it stands."""

    dashboard: str
    place: str
    text: str
    kind: str  # series, table, annotation, variable
    panel: Json

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.place}"


def queries() -> Iterator[Query]:
    """Yield every query of every dashboard: panels, annotations, variables."""
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                kind = "table" if target["resultFormat"] == "table" else "series"
                yield Query(name, f"{panel['title']} {target['refId']}", target["query"], kind, panel)
        for annotation in dashboard["annotations"].get("list", []):
            yield Query(name, f"annotation {annotation['name']}", annotation["query"], "annotation", {})
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield Query(name, f"variable {variable['name']}", variable["query"], "variable", {})


def milliseconds(duration: str) -> int:
    """Return "15m" as 900000."""
    match = re.fullmatch(r"(\d+)([smhd])", duration)
    assert match, f"{duration!r} is no duration"
    return int(match[1]) * _UNITS_MS[match[2]]


def _duration(ms: int) -> str:
    for unit in ("d", "h", "m", "s"):
        if ms % _UNITS_MS[unit] == 0:
            return f"{ms // _UNITS_MS[unit]}{unit}"
    return f"{ms}ms"


def interval(span_ms: int, lowest: str) -> str:
    """Return the length of a bucket that Grafana takes for a range."""
    wanted = span_ms / MAX_DATA_POINTS
    rounded = next((step for limit, step in _STEPS if wanted < limit), 604_800_000)
    return _duration(max(rounded, milliseconds(lowest or "1s")))


def replaced(text: str, scope: Scope) -> str:
    """Put in the dashboard's variables, as the browser does; server macros stay."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in scope:
            return match[0]
        found = scope[name]
        if isinstance(found, str):
            return found
        return f"({'|'.join(_SPECIAL.sub(lambda m: chr(92) + m[0], one) for one in found)})"

    return re.sub(r"\$(\w+)", value, text)


def expanded(query: Query, scope: Scope, from_ms: int, to_ms: int) -> str:
    """Return what InfluxDB gets to see."""
    text = replaced(query.text, scope)
    recent = query.panel.get("timeFrom")
    if recent:
        from_ms = to_ms - milliseconds(recent)
    every = interval(to_ms - from_ms, replaced(query.panel.get("interval") or "", scope))
    text = text.replace("$timeFilter", f"time >= {from_ms}ms and time <= {to_ms}ms")
    text = text.replace("$__interval_ms", str(milliseconds(every))).replace("$__interval", every)
    return text.replace("$interval", every)

"""The evidence of a finding: which channels and limits, read from the journal, drawn and told."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.api.evidence import HEIGHT, WIDTH, Evidence, EvidenceReader, as_json, drawn
from connectors.api.settings import ApiSettings
from connectors.api.views import ViewSettings
from connectors.journal import JournalReader, JournalWriter
from connectors.ledger_reader import LedgerReader
from models import plugins
from models.channels import CHANNELS
from models.errors import StorageError
from models.evidence import _SETTINGS, MOST_MS, Ask, Line, Trace, panels, plan, thinned
from models.faults import FAULTS
from models.frame import Frame
from models.sharding import Sharder
from models.topics import Router
from pipeline.config import Config
from pipeline.evidence import JournalTraces
from tests.seeded import Fleet, Seeded, finding_id, seed

from ._api_client import Client

T0 = 1_795_500_000_000
HOT = finding_id("cedar-office", "CE03", 1, "connector_over_temperature")


def finding(code: str = "connector_over_temperature", **kw: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "finding_id": "f1", "change": 1, "code": code, "evidence": {}, "site": "depot", "node": "cs1",
        "station": "cs1", "evse": 1, "start": T0 + 600_000, "raised_at": T0 + 660_000, "last": T0 + 700_000,
        "end": None,
    }  # fmt: skip
    return base | kw


def lines(code: str, **evidence: Any) -> list[tuple[str, float, str]]:
    found = plan(finding(code, evidence=evidence), T0 + 10**9)
    return [(line.name, line.value, line.unit) for line in found.lines]


def names(code: str, **evidence: Any) -> list[str]:
    return [CHANNELS[c].name for c in plan(finding(code, evidence=evidence), T0 + 10**9).channels]


def test_limits_come_from_the_evidence_and_the_settings() -> None:
    assert lines("connector_over_temperature", temperature_c=71.0, limit_c=65.0) == [
        ("limit", 65.0, "Celsius")
    ]
    assert lines("under_voltage", voltage_mean_v=201.0, u_n_v=230.0, limit_v=207.0) == [
        ("nominal", 230.0, "V"),
        ("limit", 207.0, "V"),
    ]
    # the limit of a standard deviation is no level of the voltage
    assert lines("pilot_jitter", std_v=0.1, limit_v=0.08) == [("low", 5.47, "V"), ("high", 6.53, "V")]
    assert lines("proximity_out_of_range", proximity_v=1.1, low_v=1.23, high_v=1.82)[0] == ("low", 1.23, "V")
    band = lines("unusual", channel="Temperature/Cable", value=90.0, usual_low=10.0, usual_high=40.0)
    assert band == [("usual low", 10.0, "Celsius"), ("usual high", 40.0, "Celsius")]
    assert lines("offline", silent_s=90.0, limit_s=60.0) == []
    given = plan(finding("silent_derate"), T0 + 10**9, {"silent_derate": {"enabled": True, "hot_c": 58.0}})
    assert given.lines == (Line("hot", 58.0, "Celsius"),)


def test_channels_are_those_of_the_detector_with_the_units_of_the_evidence_first() -> None:
    assert names("connector_over_temperature") == ["Temperature/Cable", "Temperature/Outlet"]
    assert names("silent_derate", current_a=8.0, temperature_c=62.0)[0].startswith("Current")
    assert names("silent_derate", temperature_c=62.0, current_a=8.0)[0] == "Temperature/Cable"
    assert names("value_frozen", channel="Temperature/Outlet", value=31.0)[0] == "Temperature/Outlet"
    assert names("offline") == []


def test_every_code_of_the_catalogue_has_a_plan_and_every_setting_exists() -> None:
    for code in FAULTS:
        found = plan(finding(code), T0 + 10**9)
        assert found.since_ms < found.until_ms
    for code, fields in _SETTINGS.items():
        config = plugins.load("models.detectors", code).Config()
        assert [math.isfinite(getattr(config, name)) for name in fields] == [True] * len(fields)


def test_the_time_shown_is_around_the_condition_and_bounded() -> None:
    shown = plan(finding(end=T0 + 900_000), T0 + 10**9)
    assert (shown.since_ms, shown.until_ms) == (T0 - 300_000, T0 + 1_200_000)
    still = plan(finding(), T0 + 800_000)
    assert still.until_ms == T0 + 800_000, "not beyond now"
    week = plan(finding(start=T0 - 7 * 86_400_000), T0 + 10**9)
    assert week.until_ms - week.since_ms <= MOST_MS
    assert week.since_ms < T0 + 660_000 < week.until_ms, "the raise is in it"


def test_thinning_keeps_least_and_greatest() -> None:
    values = [float(math.sin(k / 50)) for k in range(5_000)]
    values[777], values[4_000] = 9.0, -9.0
    trace = Trace("x", "V", "s", 1, list(range(5_000)), values)
    less = thinned(trace, 100)
    assert len(less.values) <= 100
    assert (max(less.values), min(less.values)) == (9.0, -9.0)
    assert less.times_ms == sorted(less.times_ms)
    assert thinned(trace, 5_000) is trace
    assert [[t.name for t in panel] for panel in panels([trace, Trace("y", "A", "s", 1), less])] == [
        ["x", "x"]
    ]


def _journal(folder: Path, minutes: int = 40) -> Config:
    """Write a journal in which the plug of cs1/1 warms up, beside another station and another site."""
    config = Config.model_validate({"service": {"data_dir": str(folder)}, "journal": {"shards": 2}})
    channels = ["Temperature/Cable", "Voltage@L1-N", "Energy.Active.Import.Register"]
    messages = []
    for k in range(minutes * 2):
        for site, station in (("depot", "cs1"), ("depot", "cs2"), ("mall", "cs1")):
            t = T0 + 30_000 * k
            rows = [
                [10_000 * i, 20.0 + k if station == "cs1" else 20.0, 230.0, 100 * k + i] for i in range(3)
            ]
            series = [{"evse": n, "t0": t, "ch": channels, "rows": rows} for n in (1, 2)]
            body = {"v": 1, "boot": 1, "seq": k + 1, "series": series}
            topic = f"evt/v1/{site}/{station}/up/meter".encode()
            messages.append(((t + 30_000) * 1_000_000, topic, json.dumps(body).encode(), 0))
    sharder = Sharder(Router(config.topic_routes()), 2)
    folder.mkdir(parents=True, exist_ok=True)
    with JournalWriter(folder / "journal.db", 2, durable=False) as writer:
        for low in range(0, len(messages), 60):
            writer.append(sharder.split(Frame.build(messages[low : low + 60])))
    return config


def _asked(**kw: Any) -> Ask:
    seen = finding(**kw)
    return Ask(seen["site"], seen["node"], seen["station"], seen["evse"], plan(seen, T0 + 10**9))


def test_the_journal_gives_every_reading_of_the_evse(tmp_path: Path) -> None:
    read = JournalTraces(_journal(tmp_path))
    (trace,) = read(_asked()) or []
    assert (trace.name, trace.station, trace.evse, trace.unit) == ("Temperature/Cable", "cs1", 1, "Celsius")
    # from the journal's begin to 5 minutes after the last change, each 10 s
    assert trace.times_ms == list(range(T0, T0 + 1_000_000, 10_000))
    assert trace.values == [20.0 + (t - T0) // 30_000 for t in trace.times_ms]
    supply = read(_asked(code="under_voltage", evse=None, station=None, node=None)) or []
    assert {(t.station, t.evse) for t in supply} == {("cs1", 1), ("cs1", 2), ("cs2", 1), ("cs2", 2)}
    (register,) = read(_asked(code="register_rollback")) or []
    assert (register.unit, register.values[:4]) == ("Wh", [0.0, 1.0, 2.0, 100.0])
    (readings,) = read(_asked(code="offline", evse=None)) or []
    assert set(readings.values[:-1]) == {0.0, 12.0}, "two EVSEs, six readings a minute; none before the first"
    assert (
        JournalTraces(Config.model_validate({"service": {"data_dir": str(tmp_path / "none")}}))(_asked())
        is None
    )


def test_a_time_that_was_trimmed_away_is_not_half_told(tmp_path: Path) -> None:
    config = _journal(tmp_path, minutes=60)
    with JournalReader(tmp_path / "journal.db") as reader:
        ends = reader.ends()
    with JournalWriter(tmp_path / "journal.db", 2, durable=False) as writer:
        assert writer.trim(ends, keep_s=600.0) > 0
    assert JournalTraces(config)(_asked()) is None


def _seen(**kw: Any) -> Evidence:
    shown = plan(finding(evidence={"limit_c": 65.0}, end=T0 + 900_000), T0 + 10**9)
    times = list(range(shown.since_ms, shown.until_ms, 10_000))
    hot = Trace("Temperature/Cable", "Celsius", "cs1", 1, times, [20.0 + k / 3 for k in range(len(times))])
    marks = [("began", T0 + 600_000), ("raised", T0 + 660_000), ("over", T0 + 900_000)]
    return Evidence(shown, "journal", [hot], marks)._replace(**kw)


def test_drawing_puts_values_limits_and_moments_where_they_belong() -> None:
    (panel,) = drawn(_seen())
    assert (panel.unit, [s.label for s in panel.series]) == ("°C", ["Temperature/Cable"])
    assert panel.levels == ["80", "60", "40", "20"]
    ((y, words),) = panel.limits
    assert (y, words) == (HEIGHT * 15 / 60, "limit 65 °C")
    assert [(x, what) for x, what, _ in panel.marks] == [
        (WIDTH * 0.6, "began"),
        (WIDTH * 0.64, "raised"),
        (WIDTH * 0.8, "over"),
    ]
    (line,) = panel.series[0].lines
    assert line.startswith(f"0,{HEIGHT}")
    assert "Temperature/Cable between 20 and" in panel.words


def test_gaps_stay_open_lone_points_are_dots_and_flat_lines_have_a_scale() -> None:
    trace = Trace("x", "V", "s", 1, [T0, T0 + 10_000, T0 + 800_000], [5.0, 5.0, 5.0])
    (panel,) = drawn(_seen(traces=[trace]))
    assert len(panel.series[0].lines) == 1
    assert len(panel.series[0].dots) == 1
    assert panel.levels[0] == "6"
    two = [trace, Trace("x", "V", "s", 2, [T0], [5.0])]
    assert [s.label for s in drawn(_seen(traces=two))[0].series] == ["s/1 x", "s/2 x"]
    assert drawn(_seen(traces=[])) == []
    told = as_json("f1", _seen())
    assert told["marks"]["raised"] == T0 + 660_000
    assert told["series"][0]["points"][0] == (T0 - 300_000, 20.0)
    assert told["series"][0]["thinned"] is False


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=30))
    yield made
    made.ledger.close()


def test_page_and_api_show_what_the_journal_has(seeded: Seeded) -> None:
    asked: list[Ask] = []

    def source(ask: Ask) -> list[Trace]:
        asked.append(ask)
        times = list(range(ask.plan.since_ms, ask.plan.until_ms, 10_000))
        return [
            Trace(
                "Temperature/Cable", "Celsius", "CE03", 1, times, [90.0 + k % 20 for k in range(len(times))]
            )
        ]

    client = Client(seeded.url, seeded.folder, ApiSettings(views=ViewSettings(journal=source)))
    told = client.get(f"/api/v1/findings/{HOT[:8]}/evidence").json()
    assert (told["source"], told["lines"]) == (
        "journal",
        [{"name": "limit", "value": 100.0, "unit": "Celsius"}],
    )
    assert told["series"][0]["channel"] == "Temperature/Cable"
    assert (asked[0].site, asked[0].station, asked[0].evse) == ("cedar-office", "CE03", 1)
    page = client.get(f"/findings/{HOT}").text
    assert "limit 100 °C" in page
    assert 'class="trace s0"' in page
    assert "every reading, from the journal" in page
    assert len(asked) == 1, "what was read is remembered for a while"
    assert client.get("/api/v1/findings/none/evidence").status_code == 404


def test_without_the_journal_the_ledgers_minutes_are_shown(seeded: Seeded) -> None:
    def broken(_: Ask) -> list[Trace]:
        raise StorageError("the journal cannot be read")

    ledger = LedgerReader(seeded.url)
    row = ledger.finding(finding_id("alder-depot", "AL01", 1, "over_current"))
    assert row is not None
    for source in (None, broken, lambda _: None):
        seen = EvidenceReader(ledger, source).of(row, seeded.fleet.now_ms)
        assert seen.source == "rollups"
        assert (seen.traces[0].unit, len(seen.traces[0].values) > 3) == ("W", True)
    nothing = EvidenceReader(ledger).of(row | {"site": "nowhere", "finding_id": "x"}, seeded.fleet.now_ms)
    assert (nothing.source, nothing.traces) == ("none", [])
    text = Client(seeded.url, seeded.folder).get(f"/findings/{HOT}").text
    assert "minute means of power" in text or "Neither journal nor ledger" in text

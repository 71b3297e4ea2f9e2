"""Maintenance: health, what is due, visits; through flow, ledger, command, page and replay."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from connectors.broker import MosquittoBroker
from connectors.ledger_reader import LedgerReader
from connectors.maintenance_reader import MaintenanceReader
from models import plugins
from models.batch import CHARGING, STATE_KNOWN
from models.errors import ConfigError, DecodeError, StorageError
from models.inspections import TOPIC, WHAT, InspectionRequest, encode_inspection, read_inspection
from models.maintenance import DAY_MS, Assessment, FindingSeen, MaintenanceConfig, assess, visits
from models.outputs import InspectionRow, WearCounts, WearRow
from models.records import Status
from models.wear import Wear, WearConfig
from pipeline import cli, config
from pipeline.replay import replay
from tests.laws.streams import batches
from tests.seeded import Fleet, Seeded, seed
from tests.servers import require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for

from ._api_client import Client
from .detector_tape import Tape

NOW = 1_795_000_000_000
PLACE: dict[str, Any] = {"site": "depot", "station": "cs1", "evse": 1}


def worn(days: float = 10, **kw: Any) -> WearRow:
    zeros = dict.fromkeys(WearCounts.__struct_fields__, 0)
    counts = WearCounts(**(zeros | {"energy_mwh": None} | kw))
    return WearRow(**PLACE, time_ms=NOW, first_ms=NOW - round(days * DAY_MS), counts=counts)


def found(code: str, severity: str = "warning", **kw: Any) -> FindingSeen:
    base: dict[str, Any] = PLACE | {"finding_id": code, "code": code, "severity": severity, "state": "raised"}
    return FindingSeen(**(base | {"start": NOW - DAY_MS, "end": None} | kw))


def done(days_ago: float, what: str = "inspected", **counts: Any) -> InspectionRow:
    at = NOW - round(days_ago * DAY_MS)
    row = worn(**counts)
    return InspectionRow(
        inspection_id=f"{days_ago}", **PLACE, at_ms=at, recorded_ms=at, by="ann", what=what, note="",
        counts=row.counts,
    )  # fmt: skip


def one(
    wear: WearRow | None, findings: tuple[FindingSeen, ...] = (), inspections: tuple[InspectionRow, ...] = ()
) -> Assessment:
    (only,) = assess(MaintenanceConfig(), NOW, [wear] if wear else [], findings, inspections)
    return only


def test_an_evse_without_a_reason_is_well_and_needs_no_visit() -> None:
    well = one(worn(plug_cycles=100, hot_s=3600))
    assert (well.health, well.risk, well.due, well.reasons) == (100, 0.0, False, ())
    assert visits([well], 10) == []


@pytest.mark.parametrize(
    ("finding", "health"),
    [
        (found("contactor_welded", "critical"), 55),
        (found("contact_resistance"), 73),  # a trend weighs half as much again
        (found("offline", evse=None), 95),  # of the station, and mended from afar
        (found("contactor_stuck_open", raised_times=6), 73),
        (found("contactor_stuck_open", state="cleared", end=NOW), 91),
        (found("contactor_stuck_open", state="cleared", end=NOW - 15 * DAY_MS), 96),
        (found("contactor_stuck_open", state="cleared", end=NOW - 31 * DAY_MS), 100),
        (found("offline", station=None, evse=None), 100),  # a gateway, not a place for a technician
    ],
)
def test_health_counts_findings_by_severity_code_age_and_number(finding: FindingSeen, health: int) -> None:
    assert one(worn(), (finding,)).health == health


def test_an_open_finding_counts_before_cleared_ones_of_its_code() -> None:
    over = found("phase_open", "critical", state="cleared", end=NOW - DAY_MS, finding_id="a")
    both = one(worn(), (over, found("phase_open", finding_id="b")))
    (reason,) = both.reasons
    assert (reason.finding_id, reason.severity, reason.points) == ("b", "warning", 19.8)
    assert "2 times" in reason.text
    assert "isolate" not in reason.advice
    assert reason.advice


def test_wear_counts_from_half_a_life_and_anew_after_a_replacement() -> None:
    assert one(worn(plug_cycles=5_000)).health == 100
    assert one(worn(plug_cycles=10_000)).health == 70
    assert one(worn(plug_cycles=50_000)).health == 55
    assert one(worn(contactor_operations=100_000)).health == 70
    assert one(worn(hot_s=500 * 3600)).health == 70
    new_plug = done(30, "cable_replaced", plug_cycles=9_000)
    after = one(worn(plug_cycles=10_000, contactor_operations=75_000), (), (new_plug,))
    assert [(r.kind, r.what) for r in after.reasons] == [("wear", "contactor")]


def test_due_by_each_rule_since_the_last_inspection() -> None:
    assert one(worn(days=364)).due_by == ()
    assert one(worn(days=365)).due_by == ("calendar",)
    assert one(worn(days=400), (), (done(30),)).due_by == ()
    assert one(worn(plug_cycles=2_500)).due_by == ("cycles",)
    assert one(worn(energy_mwh=100_000_000_000)).due_by == ("energy",)
    inspected = done(10, plug_cycles=2_400)
    seen = one(worn(plug_cycles=2_500), (), (inspected,))
    assert (seen.due, seen.since.plug_cycles, seen.last_inspection_by) == (False, 100, "ann")
    assert one(None, (), (done(366),)).due_by == ("calendar",)
    assert "366 days since the last inspection" in one(None, (), (done(366),)).reasons[0].text


def test_counts_that_began_anew_count_whole_and_older_ones_not_at_all() -> None:
    assert one(worn(plug_cycles=7), (), (done(10, plug_cycles=900),)).since.plug_cycles == 7
    just_now = done(0, plug_cycles=900)
    assert one(worn(plug_cycles=898), (), (just_now,)).since.plug_cycles == 0


def test_visits_are_the_riskiest_grouped_by_site() -> None:
    places = [("a", 1, "critical"), ("b", 1, "warning"), ("a", 2, "info"), ("b", 2, "info"), ("c", 1, "info")]
    findings = [
        found("contactor_stuck_open", severity, site=site, evse=evse) for site, evse, severity in places
    ]
    ranked = assess(MaintenanceConfig(), NOW, [], findings, [])
    assert [(a.site, a.evse) for a in visits(ranked, 4)] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    overdue = assess(MaintenanceConfig(), NOW, [worn(days=1000)], findings, [])
    assert overdue[1].site == "depot"
    assert overdue[1].risk == 25.0


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="plug_life_cycles = 0"):
        MaintenanceConfig(plug_life_cycles=0)
    with pytest.raises(ConfigError, match=r"warm_c = 200.*expected 0 to 149"):
        WearConfig(warm_c=200.0)


def _wear(tape: Tape) -> WearCounts:
    wear = Wear(WearConfig())
    for seen in batches(tape.story):
        wear.process(seen.rows, seen.messages, seen.records, seen.devices)
    return wear.counts(0)


@pytest.mark.parametrize("period", [1, 20, 60, 900])
def test_hours_are_the_same_at_any_sample_period(period: int) -> None:
    whole = max(720, 8 * period)
    tape = Tape()
    for t in range(0, whole + 1, period):
        hot = {"Temperature/Cable": 66.0 if t < whole // 2 else 51.0}
        power = {"Power.Active.Import": 11_000.0 if t < whole // 4 else 0.0}
        tape.sample(t, hot | power, reg_wh=t)
    counts = _wear(tape)
    assert (counts.hot_s, counts.warm_s, counts.use_s) == (whole // 2, whole, whole // 4)
    assert (counts.energy_mwh, counts.contactor_operations) == (1000 * whole, 1)


def test_time_without_readings_failed_sensors_and_other_meters_do_not_count() -> None:
    tape = Tape()
    tape.sample(0, {"Temperature/Cable": 70.0, "Power.Active.Import": 11_000.0}, reg_wh=5_000)
    tape.sample(5_000, {"Temperature/Cable": 200.0}, reg_wh=6_000, state=STATE_KNOWN | CHARGING)
    tape.sample(5_060, {"Temperature/Body": 61.0}, reg_wh=10)  # register reset
    tape.sample(5_120, {"Current.Import@L2": 0.4}, reg_wh=900_000)  # another meter's
    tape.sample(5_180, {"Current.Import@L2": 6.0, "x.Contactor.Cycles": 812.0}, reg_wh=900_100)
    assert _wear(tape) == WearCounts(0, 812, 1_100_000, 60, 0, 0, 120)


def test_plug_cycles_of_two_connectors_and_of_1_6_words() -> None:
    tape = Tape()
    said = [(1, "Occupied", "Preparing"), (2, "Available", ""), (1, "Occupied", "Charging")]
    said += [(1, "Occupied", "SuspendedEV"), (1, "Occupied", "Charging"), (1, "Available", "Available")]
    said += [(1, "Occupied", "Preparing")]
    for k, (conn, status, status16) in enumerate(said):
        at = tape.message(10.0 * k, 0, "status")
        fields: dict[str, Any] = {"station_row": 0, "evse_row": 0, "conn": conn, "time_ns": at.recv_ns}
        tape.record(Status(at=at, **fields, status=status, status16=status16))
    counts = _wear(tape)
    assert (counts.plug_cycles, counts.contactor_operations, counts.energy_mwh) == (2, 2, None)


AT = ("--at", "2026-11-25T06:00Z", "--dry-run")
WORK: dict[str, Any] = {"site": "depot", "station": "cs1", "by": "ann", "what": "inspected"}


def test_a_record_of_work_is_checked() -> None:
    about: Any = msgspec.inspect.type_info(InspectionRequest)
    (what,) = (f.type for f in about.fields if f.name == "what")
    assert set(WHAT) == set(what.values)
    assert read_inspection(json.loads(encode_inspection(read_inspection(WORK)))) == read_inspection(WORK)
    for wrong in ({"what": "seen"}, {"evse": 0}, {"by": ""}, {"t": -1}):
        with pytest.raises(DecodeError, match="work at a station"):
            read_inspection(WORK | wrong)


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=3))
    yield made
    made.ledger.close()


def test_ledger_gives_what_is_judged(seeded: Seeded) -> None:
    now_ms = seeded.fleet.now_ms
    reader = MaintenanceReader(LedgerReader(seeded.url), MaintenanceConfig())
    all_sites = reader.assessments(now_ms)
    assert len(all_sites) == 60
    worst = all_sites[0]
    assert (worst.station, worst.evse, worst.health) == ("CE03", 1, 0)
    assert [(r.kind, r.what) for r in worst.reasons] == [
        ("finding", "connector_over_temperature"),
        ("wear", "plug"),
    ]
    assert (worst.last_inspection_by, worst.since.plug_cycles) == ("bob", 1_300)
    assert reader.assessments(now_ms, site="cedar-office")[0] == worst
    assert {a.due_by for a in all_sites if a.station == "AL02"} == {("calendar", "cycles"), ("calendar",)}
    codes = {r.what for a in all_sites for r in a.reasons if r.kind == "finding"}
    assert "voltage_dip" in codes, "cleared just now"
    assert not codes & {"offline", "over_voltage"}, "planned, explained by its parent, or of backlog"
    assert reader.find("CE03/1") == ("cedar-office", "CE03", 1)
    with pytest.raises(StorageError, match="has cedar-office/CE03/1, cedar-office/CE03/2"):
        reader.find("CE03")
    # the same inspection again, and an older count, change nothing
    seeded.apply("inspections", seeded.fleet.inspection(by="eve"))
    seeded.apply("wear", worn(plug_cycles=1), msgspec.structs.replace(worn(), time_ms=NOW - 1))
    (kept,) = reader.assessments(now_ms, site="depot")
    assert kept.counts.plug_cycles == 1
    assert [row["by"] for row in reader.inspections(station="CE03", evse=1)] == ["bob"]


def _run(seeded: Seeded, port: int, *words: str) -> int:
    path = seeded.folder.parent / "maintenance.toml"
    mqtt = {"port": port, "connect_timeout_s": 2.0, "reconnect_min_s": 0.1}
    path.write_text(tomli_w.dumps({"service": {"data_dir": str(seeded.folder)}, "mqtt": mqtt}))
    return cli.main(["maintenance", *words, "--config", str(path)])


def test_command_lists_shows_and_exports(seeded: Seeded, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(seeded, 1, "due", "--limit", "2") == 0
    text = capsys.readouterr().out
    assert text.startswith("cedar-office\n  CE03/1  health 0 ")
    assert "10,400 of 10,000 plug cycles" in text
    assert _run(seeded, 1, "due", "--by-rule", "--json") == 0
    due = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(a["station"], a["evse"]) for a in due} == {("AL02", 1), ("AL02", 2)}
    assert _run(seeded, 1, "show", "CE03/1") == 0
    assert "cleaned by bob: dust in the socket" in capsys.readouterr().out
    assert _run(seeded, 1, "export", "--site", "cedar-office") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 10
    assert (rows[0]["health"], rows[0]["energy_wh_since"]) == ("0", "500000.024")
    assert _run(seeded, 1, "export", "--format", "json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 60
    assert _run(seeded, 1, "record", "nowhere") == 2
    assert _run(seeded, 1, "record", "a/b/1", "--what", "cleaned", *AT) == 0
    topic, body = capsys.readouterr().out.split(" ", 1)
    assert (topic, json.loads(body)["evse"], json.loads(body)["t"]) == (TOPIC, 1, 1_795_586_400_000)


@pytest.mark.usefixtures("asked_in_memory")
def test_http_shows_and_refuses(seeded: Seeded) -> None:
    client = Client(seeded.url, seeded.folder)
    top = client.get("/api/v1/maintenance", choice="visits").json()
    assert (top[0]["station"], top[0]["reasons"][0]["what"]) == ("CE03", "connector_over_temperature")
    assert len(client.get("/api/v1/maintenance", choice="due").json()) == 2
    assert [a["station"] for a in client.get("/api/v1/maintenance", limit=2, offset=1).json()] != ["CE03"]
    done_at = client.get("/api/v1/maintenance/inspections", station="CE03").json()
    assert (done_at[0]["what"], done_at[0]["plug_cycles"]) == ("cleaned", 9_100)
    lines = client.get("/maintenance.csv").text.splitlines()
    assert len(lines) == 61
    page = client.get("/maintenance").text
    assert "10,400 of 10,000 plug cycles" in page
    assert "cleaned by bob" in page
    assert "CE03/1" not in client.get("/maintenance", choice="due").text
    assert client("POST", "/api/v1/maintenance/inspections", json=WORK).status_code == 503
    assert client("POST", "/api/v1/maintenance/inspections", json=WORK | {"what": "x"}).status_code == 422
    foreign = client("POST", "/maintenance", {"Origin": "http://evil"}, data=WORK)
    assert foreign.status_code == 403


@pytest.mark.server
def test_work_goes_through_the_broker_into_the_journal(seeded: Seeded, tmp_path: Path) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        journal = settings(tmp_path / "journal", broker.port)
        with ingesting(journal) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            words = (
                "record",
                "cedar-office/CE03/1",
                "--by",
                "ann",
                "--what",
                "cable_replaced",
                "--note",
                "new",
            )
            assert _run(seeded, broker.port, *words) == 0
            wait_for(lambda: len(journaled(journal)) == 1, "journaled")
            (message,) = journaled(journal)
    body = json.loads(message.payload)
    assert body.pop("id")
    assert body.pop("note") == "new"
    assert body == WORK | {"site": "cedar-office", "station": "CE03", "evse": 1, "what": "cable_replaced"}


def _message(second: float, topic: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"t": NOW + round(second * 1000), "topic": f"evt/v1/{topic}", "payload": body}


def test_replay_writes_what_wore_and_what_was_done(tmp_path: Path) -> None:
    plugged = {"evse": 1, "conn": 1, "t": NOW, "status": "Occupied"}
    lines = [_message(0, "depot/cs1/up/status", {"v": 1, "boot": 1, "seq": 1, "items": [plugged]})]
    channels = ["Power.Active.Import", "Energy.Active.Import.Register", "Temperature/Cable"]
    for k in range(121):
        t = NOW + 30_000 * k
        series = [{"evse": 1, "t0": t, "ch": channels, "rows": [[0, 12_000, 100 * k, 55.0]]}]
        meter = {"v": 1, "boot": 1, "seq": 2 + k, "series": series}
        lines.append(_message(30 * k + 1, "depot/cs1/up/meter", meter))
        if k == 60:
            lines.append(_message(30 * k + 2, "_op/maintenance", WORK | {"note": "half way"}))
            lines.append(_message(30 * k + 3, "_op/maintenance", WORK | {"what": "nothing"}))
            lines.append(_message(30 * k + 4, "_op/maintenance", {"site": "depot", "from": 1, "until": 2}))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    quiet = {name: {"enabled": False} for name in plugins.names("models.detectors")}
    summary = replay(config.Config(detectors=quiet), log, tmp_path / "out", write_points=False)
    assert summary["closes"]
    assert summary["messages"]["dead"] == 1
    (row,) = csv.DictReader((tmp_path / "out" / "maintenance.csv").read_text().splitlines())
    assert (row["plug_cycles"], row["contactor_operations"], row["energy_wh"]) == ("1", "1", "12000")
    assert (row["use_h"], row["warm_h"], row["hot_h"]) == ("1.00", "1.00", "0.00")
    assert (row["last_inspection_what"], row["energy_wh_since"]) == ("inspected", "6000")
    assert (row["plug_cycles_since"], row["last_inspection"]) == ("0", str(NOW + 1_802_000))

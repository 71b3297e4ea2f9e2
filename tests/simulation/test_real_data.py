"""Real and independently made input through the whole flow: all is understood, what alarms is explained.

What each set gives, and why, stands with its test. Needs the data folder (`CHARGESTREAM_DATA`).
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.influx_server import InfluxServer
from connectors.simulator.live import publish_all
from connectors.simulator.publisher import Broker
from models.units import wh_text
from pipeline.config import Config
from pipeline.config_sections import RouteSection
from pipeline.replay import replay
from tests.convert import ev_cpw, moved, ocpp16, sessions
from tests.servers import require
from tests.servers.ingesting import journaled
from tests.servers.service import Service

#: The log has the topics CH-001/in and CH-001/out: no site, so each station is one.
OCPP = Config(routes=(RouteSection(pattern="{node}/{rest}", dialect="ocpp_j"),))


@dataclass
class Replayed:
    """What a replay wrote."""

    summary: dict[str, Any]
    findings: list[dict[str, Any]]
    intervals: list[dict[str, str]]
    sessions: list[dict[str, Any]]

    def raised(self) -> list[dict[str, Any]]:
        """Return the changes that raised a finding."""
        return [change for change in self.findings if change["state"] == "raised"]

    def alarms(self) -> Counter[str]:
        """Return how often each code was raised as more than information."""
        return Counter(change["code"] for change in self.raised() if change["severity"] != "info")

    def last_sessions(self) -> list[dict[str, Any]]:
        """Return each transaction as its last revision has it."""
        return list({(r["site"], r["station"], r["transaction_id"]): r for r in self.sessions}.values())

    def energy_wh(self) -> dict[tuple[str, str, int], Decimal]:
        """Return the sum of the intervals of each EVSE."""
        out: dict[tuple[str, str, int], Decimal] = defaultdict(Decimal)
        for row in self.intervals:
            out[row["site"], row["station"], int(row["evse"])] += Decimal(row["energy_wh"] or 0)
        return out


def run(log: Path, out: Path, config: Config | None = None) -> Replayed:
    """Replay a log; everything in it must decode, and the account must close."""
    summary = replay(config or Config(), log, out, write_points=False)
    assert (out / "dead.jsonl").read_text() == ""
    assert summary["closes"]
    assert summary["waiting"] == summary["messages"]["dead"] == summary["rows"]["invalid"] == 0
    with (out / "intervals.csv").open(newline="") as file:
        intervals = list(csv.DictReader(file))
    findings = [json.loads(line) for line in (out / "findings.jsonl").read_text().splitlines()]
    lines = (out / "sessions.jsonl").read_text().splitlines()
    sessions = [json.loads(line, parse_float=Decimal) for line in lines]
    return Replayed(summary, findings, intervals, sessions)


def test_native_sample(data_dir: Path, tmp_path: Path) -> None:
    """A healthy fleet with six redelivered messages: nothing alarms.

    Its one finding is the announced maintenance of a station behind a gateway.
    """
    got = run(data_dir / "native-sample" / "messages.jsonl.gz", tmp_path)
    assert got.summary["messages"] == {"total": 1872, "decoded": 1866, "duplicate": 6, "dead": 0}
    assert got.summary["rows"] == {"in": 5221, "processed": 5195, "late": 0, "duplicate": 26, "invalid": 0}
    assert got.alarms() == {}
    [finding] = got.raised()
    assert (finding["code"], finding["severity"], finding["planned"]) == ("offline", "info", True)
    assert [change["state"] for change in got.findings] == ["raised", "cleared"]
    sessions = got.last_sessions()
    assert len(sessions) == 12
    assert {row["state"] for row in sessions} == {"complete"}
    # one meter of six digits passes its modulus
    assert [row["flags"] for row in sessions if row["flags"]] == [["register_rollover"]]
    [passed] = [row for row in sessions if row["flags"]]
    assert (passed["begin_wh"], passed["end_wh"], passed["energy_wh"]) == (991108, 8878, 17770)
    assert all(r["energy_wh"] == r["end_wh"] - r["begin_wh"] for r in sessions if not r["flags"])


def test_ev_cpw(data_dir: Path, tmp_path: Path) -> None:
    """Eight charging profiles, a minute a reading: nothing alarms.

    Each car's station says at its end that it is out of service and then falls silent: planned absence,
    for all but the last, whose log ends with it. The intervals hold the mean power over the whole time: the
    register at the transaction's begin gives the first minute, which no reading lies before.
    """
    log = tmp_path / "log.jsonl"
    messages = ev_cpw.convert(data_dir, log)
    got = run(log, tmp_path / "out")
    assert got.summary["messages"]["decoded"] == messages
    assert got.summary["rows"]["processed"] == got.summary["rows"]["in"] == 1657
    assert got.alarms() == {}
    assert [f["code"] for f in got.raised()] == ["offline"] * 7
    assert all(f["planned"] and f["evidence"]["reason"] == "silence" for f in got.raised())
    energy = got.energy_wh()
    profiles = sorted((data_dir / ev_cpw.SOURCE).glob("*/profile_1min.csv"))
    assert len(profiles) == len(energy) == 8
    for profile in profiles:
        with profile.open(newline="") as lines:
            powers = [Decimal(row["Real Power Avg (kW)"] or 0) * 1000 for row in csv.DictReader(lines)]
        assert abs(energy["EVCPW", profile.parent.name, 1] - sum(powers, Decimal(0)) / 60) <= Decimal("0.001")


def test_ocpp16_log(data_dir: Path, tmp_path: Path) -> None:
    """A generated OCPP 1.6-J log of two stations: two codes alarm, both as the log has it.

    ``lock_failure``: 70 StatusNotifications with ConnectorLockFailure. ``register_rollback``: the generator
    draws a new meterStart for each of the 30 transactions, below the register that the one before ended
    with, in all 29 that follow another. Late are 31 readings: those that each StopTransaction repeats from
    the transaction's begin after newer ones had come, and the first of a transaction that has the very time
    of the one before's end.
    """
    log = tmp_path / "log.jsonl"
    messages = ocpp16.convert(data_dir, log)
    got = run(log, tmp_path / "out", OCPP)
    with gzip.open(data_dir / ocpp16.SOURCE, "rt", newline="") as lines:
        source = [json.loads(line["msg"]) for line in csv.DictReader(lines)]
    calls = [message for message in source if message[0] == 2]
    locks = sum(m[3].get("errorCode") == "ConnectorLockFailure" for m in calls)
    assert got.summary["messages"] == {"total": messages, "decoded": messages, "duplicate": 0, "dead": 0}
    assert got.summary["rows"]["in"] == sum(_readings(m) for m in calls)
    assert got.alarms() == {"lock_failure": locks, "register_rollback": _falls(calls)}
    assert (locks, _falls(calls), got.summary["rows"]["late"]) == (70, 29, 31)


def _readings(call: list[Any]) -> int:
    """Return how many timestamped sets of values an OCPP call carries."""
    values = call[3].get("meterValue", call[3].get("transactionData", []))
    return len({value["timestamp"] for value in values})


def _falls(calls: list[list[Any]]) -> int:
    """Return how many transactions begin below the register that the one before them ended with."""
    last, falls = 0, 0
    for call in calls:
        if call[2] == "StartTransaction":
            falls += call[3]["meterStart"] < last
        if call[2] == "StopTransaction":
            last = call[3]["meterStop"]
    return falls


@pytest.mark.parametrize(("source", "most"), [("epfl", 250), ("acn", 400)])
def test_sessions_of_real_plugs(data_dir: Path, tmp_path: Path, source: str, most: int) -> None:
    """Sessions of two DC plugs and of two workplaces: the intervals of each plug add up to its sessions.

    To the mWh, over whatever quarters the readings' times cut them into; nothing alarms, though readings
    are hours apart and stations silent overnight.
    """
    log = tmp_path / "log.jsonl"
    messages, put = sessions.convert(data_dir, log, most, [source])
    got = run(log, tmp_path / "out")
    assert got.summary["messages"]["decoded"] == messages
    assert got.raised() == []
    wanted: dict[tuple[str, str, int], int] = defaultdict(int)
    for session in put.taken:
        site, station = session.node.split("/")
        wanted[site, station, session.evse] += session.energy_mwh
    energy = got.energy_wh()
    assert {plug: energy[plug] * 1000 for plug in wanted} == wanted
    assert sum(energy.values()) * 1000 == put.energy_mwh > 0
    assert len(put.taken) + put.left_out == most
    billed = {(row["station"], row["transaction_id"]): row for row in got.last_sessions()}
    assert len(billed) == len(put.taken)
    for session in put.taken:
        row = billed[session.node.split("/")[1], session.tx_id]
        assert (row["state"], row["flags"], row["energy_wh"] * 1000) == ("complete", [], session.energy_mwh)


@pytest.mark.server
@pytest.mark.slow
def test_through_a_real_broker_into_influxdb(data_dir: Path, tmp_path: Path) -> None:
    """Both native sets as if they ended now: the same counts, nothing alarms, InfluxDB equals the ledger.

    Heartbeats are left out (`tests.convert.moved`). The announced maintenance lies an hour back, so its
    absence is backlog: recorded as planned, never open.
    """
    for program in ("mosquitto", "influxd", "nginx"):
        require(program)
    cpw = tmp_path / "cpw.jsonl"
    ev_cpw.convert(data_dir, cpw)
    settings = {"influx": {"raw": "all"}}
    with InfluxServer(tmp_path / "influx") as influx, Service(tmp_path, settings, influx) as service:
        for log in (cpw, data_dir / "native-sample" / "messages.jsonl.gz"):
            messages = moved.moved(log, time.time_ns() // 1_000_000)
            sent = publish_all(messages, Broker("127.0.0.1", service.broker.port))
            assert sent.acknowledged == len(messages)
        closing = service.await_settled()
        came = [m for m in journaled(service.config) if not m.topic.startswith("evt/v1/_ctl/")]
        assert len(came) == 3165
        counted = closing["messages"]  # with what our own flow says of stations, journaled too
        assert {name: counted[name] for name in ("duplicate", "dead", "held")} == {
            "duplicate": 6,
            "dead": 0,
            "held": 0,
        }
        assert counted["total"] == counted["decoded"] + 6 >= 3165
        assert closing["rows"] == {"in": 6878, "processed": 6852, "late": 0, "duplicate": 26, "invalid": 0}
        assert service.get("/api/v1/findings") == []
        page = service.get("/live")
        assert "volvo-xc-40/1" in page
        ledger = service.ledger()
        changes, intervals = ledger.finding_changes(), ledger.intervals()
        ledger.close()
        assert {(c["code"], c["severity"], c["live"]) for c in changes} == {("offline", "info", False)}
        held = {
            (row["station"], row["evse"], row["start_ms"]): wh_text(row["energy_mwh"])
            for row in intervals
            if row["energy_mwh"] is not None
        }
        stored = influx.query('SELECT "energy_wh", "station", "evse" FROM "ev_energy_15m"')
        assert len(held) > 200
        assert held == {
            (row["station"], int(row["evse"]), row["time"] // 1_000_000): wh_text(
                round(row["energy_wh"] * 1000)
            )
            for row in stored
            if row["energy_wh"] is not None
        }
        raw = influx.query('SELECT count("power_w") AS "n" FROM "ev_reading" GROUP BY "site"')
        assert {str(row["site"]): row["n"] for row in raw}["EVCPW"] == 1657

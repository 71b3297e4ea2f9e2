"""The converters: every message decodes, registers are exact, nothing of the source is lost."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.msglog import read_frames
from models.topics import Route, Router
from models.units import NO_REGISTER
from pipeline.dialects import Message, native, ocpp_j
from tests.convert import ev_cpw, ocpp16, sessions

from .dialect_sink import CollectingSink, topic_of

NATIVE = Router([Route("evt/v1/{site}/{node}/{rest}", "native")])
RAW = Router([Route("{node}/{rest}", "ocpp_j")])


def decode(log: Path, module: Any, router: Router) -> tuple[list[tuple[str, str, dict[str, Any]]], Any]:
    """Return (node, call, arguments) of everything in a log; anything undecodable raises."""
    dialect = module.build({})
    calls = []
    last = 0
    for frame in read_frames(log):
        for i in range(len(frame)):
            sink = CollectingSink()
            topic = topic_of(router, frame.topic(i).decode())
            assert int(frame.recv_ns[i]) >= last
            last = int(frame.recv_ns[i])
            dialect.decode(Message(topic, frame.payload(i), last, False), sink)
            calls += [(topic.node, method, arguments) for method, arguments in sink.calls]
    return calls, dialect


def test_ocpp16(data_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "ocpp16.jsonl.gz"
    with gzip.open(data_dir / ocpp16.SOURCE, "rt", newline="") as lines:
        source = list(csv.DictReader(lines))
    assert ocpp16.convert(data_dir, log) == len(source)
    calls, dialect = decode(log, ocpp_j, RAW)
    asked = Counter(line["action"] for line in source)
    count = Counter(method for _, method, _ in calls)
    assert count["head"] == len(source)
    assert count["heartbeat"] == asked["Heartbeat"]
    assert count["status"] == asked["StatusNotification"]
    steps = [a for _, method, a in calls if method == "transaction"]
    started = [a["tx_id"] for a in steps if a["event_type"] == "Started"]
    ended = [a["tx_id"] for a in steps if a["event_type"] == "Ended"]
    assert len(started) == asked["StartTransaction"] == 30
    assert started == ended  # every answer was paired, every stop found its start
    assert all(a["evse"] == 1 for a in steps)
    assert count["rows"] == asked["MeterValues"] + asked["StopTransaction"]
    assert dialect.snapshot()["nodes"] == {}
    assert set(dialect.ignored) <= {
        "call Authorize",
        "message type 2 of the central system",
        "message type 3 of the station",
    }


def test_ev_cpw(data_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "cpw.jsonl"
    assert ev_cpw.convert(data_dir, log) > 1000
    calls, dialect = decode(log, native, NATIVE)
    assert dialect.unknown_channels == {}
    profiles = sorted((data_dir / ev_cpw.SOURCE).glob("*/profile_1min.csv"))
    assert len(profiles) == 8
    for profile in profiles:
        with profile.open(newline="") as lines:
            powers = [row["Real Power Avg (kW)"] for row in csv.DictReader(lines)]
        exact = sum(Decimal(p) for p in powers if p) * 1_000_000 / 60
        mine = [(m, a) for node, m, a in calls if node == profile.parent.name]
        registers = [int(a["reg_mwh"][0]) for m, a in mine if m == "rows"]
        assert len(registers) == len(powers)
        assert 0 <= exact - registers[-1] < 1
        assert registers == sorted(registers)
        ends = {a["event_type"]: a["reg_mwh"] for m, a in mine if m == "transaction"}
        assert ends == {"Started": 0, "Ended": registers[-1]}


@pytest.mark.parametrize("most", [60])
def test_sessions(data_dir: Path, tmp_path: Path, most: int) -> None:
    log = tmp_path / "sessions.jsonl"
    messages, put = sessions.convert(data_dir, log, most)
    calls, _ = decode(log, native, NATIVE)
    assert sum(m == "head" for _, m, _ in calls) == messages
    energy: dict[str, int] = {}
    registers: dict[tuple[str, int], list[int]] = defaultdict(list)
    for node, method, a in calls:
        if method == "transaction":
            sign = 1 if a["event_type"] == "Ended" else -1
            energy[a["tx_id"]] = energy.get(a["tx_id"], 0) + sign * a["reg_mwh"]
        elif method == "rows":
            registers[node, a["evse"]].append(int(a["reg_mwh"][0]))
    assert len(energy) + put.left_out == 2 * most
    assert sum(energy.values()) == put.energy_mwh > 0
    for readings in registers.values():
        assert NO_REGISTER not in readings
        assert readings == sorted(readings)
    assert len({node for node, _ in registers}) > 5

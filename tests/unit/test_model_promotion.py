"""A promotion in the journal: the whole flow judges by the model that stood there, however it is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models import plugins
from models.learned.promotion import TOPIC, promotion
from pipeline.config import Config
from pipeline.replay import replay
from tests.convert._native_log import NativeLog
from tests.naive.learned_power import FOLDER, MODEL, OTHER

T0_MS = 1_780_000_020_000
MINUTE = 60_000
#: channels of a reading: power, current and offer
NAMES = ["Power.Active.Import", "Current.Import@L1", "Current.Offered"]


def only(**wanted: dict[str, Any]) -> Config:
    """Return a configuration with no detectors but `wanted`."""
    off: dict[str, dict[str, Any]] = {name: {"enabled": False} for name in plugins.names("models.detectors")}
    return Config(detectors=off | wanted)


def sessions(log: NativeLog, n: int) -> None:
    """Record n sessions of half an hour in which power falls to 40 % after ten minutes."""
    node = "S/N"
    inventory = {"evse": 1, "u_n_v": 230, "phases": 1, "p_max_w": 3680, "conns": [{"conn": 1}]}
    log.add(T0_MS, node, "conn", online=True, cid=1, hb_s=900, sample_s=60, evses=[inventory])
    for k in range(n):
        begin = T0_MS + 1000 + k * 60 * MINUTE
        log.tx(begin, node, 1, f"T{k}", "Started", 0, chargingState="Charging")
        for i in range(30):
            amps = 16.0 if i < 10 else 6.4
            log.meter(begin + 1000 + i * MINUTE, node, 1, NAMES, [230.0 * amps, amps, 16.0], f"T{k}")
        log.tx(begin + 31 * MINUTE, node, 1, f"T{k}", "Ended", 0)


def with_requests(path: Path, requests: list[tuple[int, dict[str, str]]]) -> None:
    """Put operator messages into a log, by their time."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines += [{"t": t, "topic": TOPIC, "payload": body} for t, body in requests]
    path.write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["t"])))


def test_a_promotion_takes_place_where_it_stands_in_the_journal(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    recorded = NativeLog()
    sessions(recorded, 4)
    recorded.write(log)
    hour = 60 * MINUTE
    with_requests(
        log,
        [
            (T0_MS + hour + 5 * MINUTE, promotion("power", "model", OTHER.model_id, "Ann")),
            (T0_MS + 2 * hour + 5 * MINUTE, promotion("power", "model", "0000", "Ann")),  # nobody has it
            (T0_MS + 3 * hour + 12 * MINUTE, promotion("power", "model", MODEL.model_id[:6], "Ann")),
        ],
    )
    config = only(learned_power={"models": str(FOLDER), "model": MODEL.model_id})
    results = []
    for size in (8192, 3):
        flow = config.flow.model_copy(update={"batch_max_messages": size})
        out = tmp_path / str(size)
        assert replay(config.model_copy(update={"flow": flow}), log, out, write_points=False)["closes"]
        results.append((out / "findings.jsonl").read_bytes())
    assert results[0] == results[1]
    found = [json.loads(line) for line in results[0].splitlines()]
    judges = [f["evidence"]["model"] for f in found if f["state"] == "raised"]
    assert judges == [MODEL.model_id, OTHER.model_id, OTHER.model_id, MODEL.model_id]
    assert [f["state"] for f in found] == ["raised", "cleared"] * 4
    assert {f["source"] for f in found} == {"learned"}


def test_the_signal_of_heartbeats_reaches_its_detector(tmp_path: Path) -> None:
    log = NativeLog()
    log.add(T0_MS, "S/N", "conn", online=True, cid=1, hb_s=60, evses=[])
    for k in range(80):
        log.add(T0_MS + 1000 + k * MINUTE, "S/N", "hb", t=T0_MS + 1000 + k * MINUTE, rssi=-97)
    log.write(tmp_path / "log.jsonl")
    out = tmp_path / "out"
    assert replay(only(weak_signal={}), tmp_path / "log.jsonl", out, write_points=False)["closes"]
    (found,) = [json.loads(line) for line in (out / "findings.jsonl").read_bytes().splitlines()]
    assert (found["code"], found["scope"], found["node"]) == ("weak_signal", "node", "N")
    assert found["evidence"]["mean_dbm"] == -97.0

"""Measures this machine: the flow alone, ingest against mosquitto_sub, latency, state, starts.

Every figure is a median of `runs` and says what it includes. On a shared machine compare ratios of one run,
or figures of processor time (`_per_cpu_s`), rather than figures of two runs.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from connectors.journal import JournalReader
from connectors.msglog import LogWriter, read_frames
from connectors.simulator.fleet import Fleet
from connectors.simulator.fleets import bench_fleet
from models.frame import Frame

from .config import Config
from .flow import Stages
from .order import OrderStage
from .replay import replay, run_flow
from .replay_files import ResultFiles
from .replay_log import write_journal
from .warmup import warm_up

_START_MS: Final = 1_781_071_200_000
SHAPES: Final = {"60x10": (60, 10), "1x10": (1, 10)}


class _Series(msgspec.Struct):
    evse: int
    t0: int
    ch: list[str]
    rows: list[list[float | None]]
    st: str = ""


class _Meter(msgspec.Struct):
    boot: int
    seq: int
    series: list[_Series]


def machine() -> dict[str, Any]:
    """Return what this machine is."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass  # not Linux
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def make_log(path: Path, shape: str, readings: int) -> int:
    """Write a healthy fleet's log of about `readings` readings in messages of the given shape."""
    rows, channels = SHAPES[shape]
    evses = min(1000, max(1, readings // (rows * 4)))
    fleet = Fleet(bench_fleet(evses, rows=rows, channels=channels), 1, _START_MS)
    seconds = readings / fleet.topology.n_evses * fleet.topology.nodes[0].sample_s
    end_ms = _START_MS + int(seconds * 1000)
    count = 0
    with LogWriter(path) as log:
        for now_ms in range(_START_MS, end_ms, 10_000):
            for message in fleet.advance(min(now_ms + 10_000, end_ms) - 1):
                log.write_object(message.t_ms * 1_000_000, message.topic, message.payload)
                count += 1
    return count


def flow_speed(config: Config, log: Path, runs: int) -> dict[str, Any]:
    """Return readings/s of the whole replay, of journal → line protocol, and of bare msgspec decoding.

    `_per_cpu_s` are readings per second of this process's processor time: other load on the machine makes
    them lower by what it takes of the caches, not by what it takes of the processor.
    """
    stages = Stages.of(config, None)
    whole, whole_cpu, alone, alone_cpu, share = [], [], [], [], []
    summary: dict[str, Any] = {}
    warm_up(stages)
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as folder:
            out = Path(folder)
            cpu = time.process_time()
            summary = replay(config, log, out)
            rows = summary["rows"]["in"]
            whole_cpu.append(rows / (time.process_time() - cpu))
            whole.append(summary["rows_per_s"])
            write_journal(config, log, out / "journal.db")
            with JournalReader(out / "journal.db") as reader:
                began, cpu = time.perf_counter(), time.process_time()
                run_flow(config, stages, reader, ResultFiles(out / "alone"))
                alone.append(rows / (time.perf_counter() - began))
                alone_cpu.append(rows / (time.process_time() - cpu))
        share.append(alone_cpu[-1] / bare_decoding(log))
    return {
        "readings": summary["rows"]["in"],
        "replay_rows_per_s": round(statistics.median(whole)),
        "replay_rows_per_cpu_s": round(statistics.median(whole_cpu)),
        "flow_rows_per_s": round(statistics.median(alone)),
        "flow_rows_per_cpu_s": round(statistics.median(alone_cpu)),
        "share_of_bare_msgspec": round(statistics.median(share), 3),
        "closes": summary["closes"],
        "startup_s": summary["startup_s"],
    }


def bare_decoding(log: Path) -> float:
    """Return readings per second of processor time of msgspec alone, bytes to typed structs, over a log."""
    decoder = msgspec.json.Decoder(_Meter)
    payloads = [
        frame.payload(i)
        for frame in read_frames(log)
        for i in range(len(frame))
        if frame.topic(i).endswith(b"/up/meter")
    ]
    began = time.process_time()
    rows = sum(len(series.rows) for payload in payloads for series in decoder.decode(payload).series)
    return rows / (time.process_time() - began)


def state_and_scale(config: Config, counts: tuple[int, ...], readings: int) -> dict[str, Any]:
    """Return bytes of state per EVSE and ns per reading for fleets of several sizes.

    One shard holds the whole fleet; every EVSE sends messages of 10 readings; the flow runs from frame to
    encoded results in this thread.
    """
    out: dict[str, Any] = {}
    for count in counts:
        stages = Stages.of(config, None)
        order = stages.build_order(0, None)
        rest: list[Any] = [
            stages.build_detect(0, None),
            stages.build_bill(0, None),
            stages.build_control(0, None),
            stages.build_maintain(0, None),
            stages.build_emit(0, None),
        ]
        rounds = max(2, readings // (count * 10))
        first, spent, rows = 0, 0.0, 0
        for k in range(rounds):
            for frame in _round(count, k):
                began = time.process_time()
                rows += _through(order, rest, first, frame)
                # the first round meets every EVSE for the first time
                spent += time.process_time() - began if k else 0.0
                first += len(frame)
        measured = rows - count * 10
        held = [order, *(stage for stage in rest if hasattr(stage, "nbytes"))]
        out[str(count)] = {
            "ns_per_row": round(spent / measured * 1e9, 1),
            "bytes_per_evse": round(sum(stage.nbytes() for stage in held) / count),
        }
    return out


def _through(order: OrderStage, rest: list[Any], first: int, frame: Frame) -> int:
    items: list[Any] = order.process((0, first, frame))
    rows = sum(len(item.rows) for item in items)
    for stage in rest:
        items = [made for item in items for made in stage.process(item)]
    return rows


def _round(count: int, k: int) -> list[Frame]:
    """Return one message of 10 readings per EVSE, 8192 messages a frame, as round k."""
    t0 = _START_MS + 10_000 * k
    rows = ",".join(
        f"[{1000 * i},230.1,229.8,230.4,15.9,16.0,16.1,11040,{30 * (10 * k + i)},16,{40 + i}]"
        for i in range(10)
    )
    channels = (
        '["Voltage@L1-N","Voltage@L2-N","Voltage@L3-N","Current.Import@L1","Current.Import@L2",'
        '"Current.Import@L3","Power.Active.Import","Energy.Active.Import.Register","Current.Offered",'
        '"Temperature/Cable"]'
    )
    series = f'"series":[{{"evse":1,"t0":{t0},"ch":{channels},"rows":[{rows}]}}]'
    payload = f'{{"v":1,"boot":1,"seq":{k + 1},{series}}}'.encode()
    recv = (t0 + 10_000) * 1_000_000
    topics = [f"evt/v1/S{e // 100}/N{e}/up/meter".encode() for e in range(count)]
    return [
        Frame.from_columns(np.full(len(part), recv).tolist(), part, [payload] * len(part), [0] * len(part))
        for part in (topics[i : i + 8192] for i in range(0, count, 8192))
    ]


def starts(log: Path) -> dict[str, float]:
    """Return seconds from process start to ready, with an empty and with a filled kernel cache."""
    out = {}
    with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as folder:
        for name in ("cold_start_s", "warm_start_s"):
            env = os.environ | {"NUMBA_CACHE_DIR": f"{folder}/cache"}
            began = time.perf_counter()
            done = subprocess.run(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "pipeline",
                    "replay",
                    "--input",
                    str(log),
                    "--out",
                    f"{folder}/{name}",
                    "--json",
                ],
                env=env,
                check=True,
                capture_output=True,
            )
            summary = json.loads(done.stdout.splitlines()[-1])
            out[name] = round(time.perf_counter() - began - summary["wall_s"], 2)
    return out


def peak_rss_mb() -> float:
    """Return the peak resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def flows(config: Config, runs: int, readings: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure replay and flow over made logs of both shapes."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as folder:
        for shape in SHAPES:
            log = Path(folder, f"{shape}.jsonl")
            say(f"writing a log of {readings:,} readings, {shape}")
            make_log(log, shape, readings)
            say(f"replaying it, {runs} runs")
            figures[f"flow_{shape}"] = flow_speed(config, log, runs)
    return figures | {"peak_rss_mb": peak_rss_mb()}


def scale(config: Config, readings: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure state and time per reading of fleets of several sizes."""
    say("fleets of 1 k, 10 k and 100 k EVSEs")
    return {"scale": state_and_scale(config, (1_000, 10_000, 100_000), readings)}


def start_times(say: Callable[[str], None]) -> dict[str, Any]:
    """Measure cold and warm start."""
    with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as folder:
        small = Path(folder, "small.jsonl")
        make_log(small, "60x10", 6_000)
        say("cold and warm start (the cold one compiles every kernel)")
        return dict(starts(small))

"""Measure this machine: flow, ingest, latency, state, starts, pricing; or the flow over a given log."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = ("flow", "scale", "start", "pricing", "drain", "latency")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream bench``."""
    parser.add_argument(
        "--input", metavar="LOG", type=Path, help="measure the flow over this message log only"
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--runs", type=int, default=3, help="runs of each flow figure, median taken (3)")
    parser.add_argument("--readings", type=int, default=1_000_000, help="readings of the made logs (1000000)")
    parser.add_argument("--messages", type=int, default=200_000, help="backlog of the ingest figure (200000)")
    parser.add_argument(
        "--rate", type=int, default=1000, help="messages a second of the latency figure (1000)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the latency figure (30)")
    parser.add_argument(
        "--detectors",
        action="store_true",
        help="measure every detector instead: ns per reading, bytes per EVSE",
    )
    parser.add_argument("--only", choices=PARTS, help="measure only this")
    parser.add_argument("--json", action="store_true", help="print one JSON line, last")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    import os
    import sys

    from pipeline import bench, logs
    from pipeline import config as configuration

    config = configuration.load(args.config, {"CHARGESTREAM_INFLUX__ENABLED": "true"} | dict(os.environ))
    logs.setup("bench", "error", "text")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if args.detectors:
        return _detectors(args)
    if args.input:
        figures = bench.flow_speed(config, args.input, args.runs)
        figures = (
            {"rows_per_s": figures["replay_rows_per_s"]} | figures | {"peak_rss_mb": bench.peak_rss_mb()}
        )
    else:
        figures = _everything(args, config, say)
    print("\n".join(_table(figures)))
    if args.json or args.input:
        print(json.dumps(figures))
    return 0


def _detectors(args: argparse.Namespace) -> int:
    from pipeline import bench_detectors

    figures = bench_detectors.table(128, args.readings, 128)
    print("\n".join(bench_detectors.lines(figures)))
    if args.json:
        print(json.dumps(figures))
    return 0


def _everything(args: argparse.Namespace, config: Any, say: Callable[[str], None]) -> dict[str, Any]:
    from connectors.broker import mosquitto_path
    from pipeline import bench, bench_drain, bench_live, bench_pricing

    figures: dict[str, Any] = {"machine": bench.machine()}
    wanted = (args.only,) if args.only else PARTS
    if "flow" in wanted:
        figures |= bench.flows(config, args.runs, args.readings, say)
    if "scale" in wanted:
        figures |= bench.scale(config, args.readings, say)
    if "start" in wanted:
        figures |= bench.start_times(say)
    if "pricing" in wanted:
        figures["pricing"] = {name: round(value) for name, value in bench_pricing.figures().items()}
    if not {"drain", "latency"} & set(wanted):
        return figures
    if mosquitto_path() is None:
        say("mosquitto is not installed: no ingest and latency figures")
        return figures
    if "drain" in wanted:
        figures["drain"] = bench_drain.drain(args.messages, 200, 20_000, say)
    if "latency" in wanted:
        figures["latency"] = bench_live.latency(args.rate, args.seconds, say)
    return figures


def _table(figures: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += _table(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            for row in value:
                shown = "  ".join(f"{k} {v}" for k, v in row.items())
                lines.append(f"{prefix}{name:20} {shown}")
        else:
            lines.append(f"{prefix + name:44} {value}")
    return lines

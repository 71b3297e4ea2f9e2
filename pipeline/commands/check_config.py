"""Check a configuration and report every mistake at once, before any socket opens."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream check-config``."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="TOML file; without it the defaults and the environment",
    )


def run(args: argparse.Namespace) -> int:
    """Load the configuration; mistakes are raised, warnings printed to standard error."""
    from pipeline import config

    loaded = config.load(args.file, os.environ)
    for warning in config.warnings(loaded, os.environ):
        print(f"warning: {warning}", file=sys.stderr)
    off = sum(not table.get("enabled", True) for table in loaded.detectors.values())
    print(
        f"ok: {args.file or 'defaults'}: broker {loaded.mqtt.host}:{loaded.mqtt.port}, "
        f"{len(loaded.routes)} routes, {loaded.journal.shards} shards, {loaded.flow.workers} workers, "
        f"InfluxDB {'on' if loaded.influx.enabled else 'off'}, {off} detectors switched off"
    )
    return 0

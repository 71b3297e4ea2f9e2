"""Rehearse a disaster on simulated stations and real servers, and reckon up afterwards."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream drill``."""
    drills = parser.add_subparsers(dest="drill", metavar="DRILL", required=True)
    crash = drills.add_parser(
        "crash", help="SIGKILL ingest, workers, egress, InfluxDB and broker while messages flow"
    )
    crash.add_argument("--kills", type=int, default=25, help="number of kills (25)")
    crash.add_argument("--seed", type=int, default=1, help="decides fleet, victims and moments")
    crash.add_argument("--messages", type=int, default=10_000, help="least number of messages (10000)")
    crash.add_argument("--gap", type=float, default=1.2, help="mean seconds between kills (1.2)")
    crash.add_argument("--dir", metavar="DIR", type=Path, help="keep everything there")
    crash.add_argument("--json", action="store_true", help="print one JSON line, last")


def run(args: argparse.Namespace) -> int:
    """Run the drill; return 1 when it did not pass."""
    import sys

    from models.errors import ConfigError
    from pipeline import logs
    from pipeline.drill import CrashDrill, CrashOptions

    if args.kills < 1 or args.messages < 1 or args.gap < 0.5:
        raise ConfigError("drill crash: --kills and --messages are at least 1, --gap at least 0.5")
    logs.setup("drill", "error", "text")
    options = CrashOptions(args.kills, args.seed, args.messages, args.gap, args.dir)
    result = CrashDrill(options, lambda text: print(text, file=sys.stderr, flush=True)).run()
    print(_table(result))
    if args.json:
        print(json.dumps(result))
    return 0 if result["passed"] else 1


def _table(result: dict[str, Any]) -> str:
    lines = [f"{name:18} {value}" for name, value in result.items() if name != "passed"]
    return "\n".join([*lines, f"{'result':18} {'PASSED' if result['passed'] else 'FAILED'}"])

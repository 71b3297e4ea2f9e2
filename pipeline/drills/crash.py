"""The crash drill: kill everything at random moments on real servers, and reckon up."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUMMARY = "SIGKILL ingest, workers, egress, InfluxDB and broker while messages flow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--kills", type=int, default=25, help="number of kills (25)")
    parser.add_argument("--messages", type=int, default=10_000, help="least number of messages (10000)")
    parser.add_argument("--gap", type=float, default=1.2, help="mean seconds between kills (1.2)")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="keep everything there")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    from models.errors import ConfigError
    from pipeline.drill import CrashDrill, CrashOptions

    if args.kills < 1 or args.messages < 1 or args.gap < 0.5:
        raise ConfigError("drill crash: --kills and --messages are at least 1, --gap at least 0.5")
    return CrashDrill(CrashOptions(args.kills, args.seed, args.messages, args.gap, args.dir), say).run()

"""Receive from the MQTT broker into the journal, alone; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream ingest``."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="TOML file; without it the defaults and the environment",
    )


def run(args: argparse.Namespace) -> int:
    """Receive until told to stop; return the exit code."""
    from pipeline import process
    from pipeline.ingest import run_ingest

    config, stop = process.start("ingest", args.config)
    return run_ingest(config, stop)

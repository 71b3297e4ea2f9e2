"""Deliver results to InfluxDB, ledger and broker, alone; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream egress``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Deliver until told to stop; return the exit code."""
    from pipeline import process
    from pipeline.egress import run_egress

    config, stop = process.start("egress", args.config)
    return run_egress(config, stop)

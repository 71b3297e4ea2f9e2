"""Run the whole service: ingest, workers, egress and the page, under one supervisor."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream run``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C; return the exit code."""
    from pipeline import process
    from pipeline.supervisor import supervise

    config, stop = process.start("supervisor", args.config)
    return supervise(config, args.config, stop)

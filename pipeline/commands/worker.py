"""Run one worker process of the flow; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream worker``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument("--index", type=int, default=0, help="which worker this is, from 0 (default 0)")


def run(args: argparse.Namespace) -> int:
    """Run until told to stop; return the exit code."""
    from pipeline import process
    from pipeline.worker import run_worker

    config, stop = process.start(f"worker-{args.index:02d}", args.config)
    run_worker(config, args.index, stop)
    return 0

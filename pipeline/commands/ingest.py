"""Receive from the MQTT broker into the journal, alone; ends in order on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import threading
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
    from pipeline import config, logs
    from pipeline.ingest import run_ingest

    settings = config.load(args.config, os.environ)
    logs.setup("ingest", settings.service.log_level, settings.service.log_format)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return run_ingest(settings, stop)

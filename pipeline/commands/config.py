"""Print a commented sample configuration, or the effective one with secrets masked."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream config``."""
    parser.add_argument(
        "--show", metavar="FILE", type=Path, help="print what FILE and the environment amount to"
    )


def run(args: argparse.Namespace) -> int:
    """Print the sample, or with --show the effective configuration."""
    from pipeline import config

    print(config.show(config.load(args.show, os.environ)) if args.show else config.sample(), end="")
    return 0

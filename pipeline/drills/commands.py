"""The commands drill: a thousand commands with losses, repeats, a broker restart and killed workers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

SUMMARY = "a thousand commands with losses, repeats, a broker restart and killed workers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--commands", type=int, default=1000, help="number of commands (1000)")
    parser.add_argument("--stations", type=int, default=100, help="number of stations (100)")
    parser.add_argument("--loss", type=float, default=0.05, help="share of messages that are lost (0.05)")
    parser.add_argument("--double", type=float, default=0.05, help="share that arrives twice (0.05)")
    parser.add_argument("--kills", type=int, default=5, help="times that the workers are killed (5)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    from models.errors import ConfigError
    from pipeline.drill_commands import CommandsDrill, CommandsOptions

    if args.commands < 1 or args.stations < 1 or not 0 <= args.loss < 1 or not 0 <= args.double < 1:
        raise ConfigError("drill commands: --commands and --stations are at least 1, shares below 1")
    options = CommandsOptions(
        args.seed, args.commands, args.stations, loss=args.loss, double=args.double, kills=args.kills
    )
    return CommandsDrill(options, say).run()

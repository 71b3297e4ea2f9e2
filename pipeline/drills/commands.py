"""The commands drill: a thousand commands with losses, repeats, a broker restart and killed processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

SUMMARY = "a thousand commands with losses, repeats, a broker restart, killed workers and a killed egress"

MANNERS = "ignore=0.03,reject=0.05,twice=0.1,slow=0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--commands", type=int, default=1000, help="number of commands (1000)")
    parser.add_argument("--stations", type=int, default=100, help="number of stations (100)")
    parser.add_argument("--loss", type=float, default=0.05, help="share of messages that are lost (0.05)")
    parser.add_argument("--double", type=float, default=0.05, help="share that arrives twice (0.05)")
    parser.add_argument(
        "--naive", type=float, default=0.3, help="share of stations that keep no ids: OCPP-J (0.3)"
    )
    parser.add_argument(
        "--egress-kills", type=int, default=12, help="times that egress is killed or cut off in the act (12)"
    )
    parser.add_argument(
        "--manners", metavar="SHARES", default=MANNERS, help=f"how stations treat commands ({MANNERS})"
    )
    parser.add_argument("--kills", type=int, default=5, help="times that the workers are killed (5)")


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    from connectors.simulator.manners import parse
    from models.errors import ConfigError
    from pipeline.drill_commands import CommandsDrill, CommandsOptions

    shares = (args.loss, args.double, args.naive)
    if args.commands < 1 or args.stations < 1 or min(args.kills, args.egress_kills) < 0:
        raise ConfigError("drill commands: --commands and --stations are at least 1, kills at least 0")
    if not all(0 <= share <= 1 for share in shares) or args.loss == 1:
        raise ConfigError("drill commands: shares are from 0 to 1, --loss below 1")
    options = CommandsOptions(
        args.seed,
        args.commands,
        args.stations,
        loss=args.loss,
        double=args.double,
        kills=args.kills,
        naive=args.naive,
        egress_kills=args.egress_kills,
        manners=parse(args.manners),
    )
    return CommandsDrill(options, say).run()

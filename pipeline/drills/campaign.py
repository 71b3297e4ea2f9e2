"""The campaign drill: thousands of stations, four waves, and a control stage that is killed on the way."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

SUMMARY = "update thousands of simulated stations in four waves while the control stage is killed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--stations", type=int, default=10_000, help="size of the fleet (10000)")
    parser.add_argument("--kills", type=int, default=20, help="kills of the control stage (20)")
    parser.add_argument(
        "--broker",
        nargs="?",
        const="own",
        default="",
        metavar="HOST:PORT",
        help="in real time through the whole service; without an address with a broker of its own",
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    from models.errors import ConfigError
    from pipeline.drill_campaign import CampaignOptions, run_campaign

    least = 20 if args.broker else 200
    if args.stations < least:
        raise ConfigError(f"drill campaign: --stations {args.stations}: at least {least}, so that some fail")
    if args.kills < 0:
        raise ConfigError(f"drill campaign: --kills {args.kills}: expected 0 or more")
    if args.broker:
        from pipeline.drill_campaign_broker import BrokerOptions, run_broker

        at = "" if args.broker == "own" else args.broker
        if at and not at.rpartition(":")[2].isdecimal():
            raise ConfigError(f"drill campaign: --broker {at!r}: expected HOST:PORT")
        return run_broker(BrokerOptions(args.seed, args.stations, args.kills, at), say)
    return run_campaign(CampaignOptions(args.seed, args.stations, args.kills), say)


def table(result: dict[str, Any]) -> str:
    """Return the figures in words."""
    from pipeline.drill_campaign import table as words

    return words(result)

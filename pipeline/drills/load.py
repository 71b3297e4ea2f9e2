"""The load drill: a working day of vehicles at a site whose connection cannot serve them all at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUMMARY = "a simulated day of vehicles at one site: limits, fairness, and what the optimum would have been"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--evses", type=int, default=60, help="EVSEs, three-phase 32 A (60)")
    parser.add_argument("--site-a", type=float, default=200.0, help="A on each phase of the site (200)")
    parser.add_argument("--from-hour", type=float, default=0.0, help="hour of the day to begin with (0)")
    parser.add_argument("--hours", type=float, default=24.0, help="hour of the day to end with (24)")
    parser.add_argument(
        "--demand-kw", type=float, default=125.0, help="most mean power of a quarter hour, 0: none (125)"
    )
    parser.add_argument(
        "--ignoring", type=float, default=0.0, help="share of stations that ignore commands (0)"
    )
    parser.add_argument(
        "--dead-s", type=int, default=0, help="seconds without control, three times a day (0)"
    )
    parser.add_argument(
        "--stated",
        choices=("right", "drivers", "none"),
        default="right",
        help="departure and energy wanted: as they turn out, as drivers said, by nobody (right)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with ev/acn-sessions; default $CHARGESTREAM_DATA, else arrivals are made up",
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    import os

    from models.errors import ConfigError
    from pipeline.drill_load import LoadDrill, LoadOptions

    if not (1 <= args.evses <= 1000 and args.site_a >= 6 and 0 <= args.from_hour < args.hours <= 24):
        raise ConfigError(
            "drill load: --evses 1 to 1000, --site-a at least 6, 0 <= --from-hour < --hours <= 24"
        )
    if not (0 <= args.ignoring <= 1 and 0 <= args.dead_s <= 3600 and args.demand_kw >= 0):
        raise ConfigError("drill load: --ignoring 0 to 1, --dead-s 0 to 3600, --demand-kw at least 0")
    known = os.environ.get("CHARGESTREAM_DATA")
    options = LoadOptions(
        seed=args.seed,
        evses=args.evses,
        site_a=args.site_a,
        hours=args.hours,
        from_h=args.from_hour,
        ignoring=args.ignoring,
        dead_s=args.dead_s,
        demand_kw=args.demand_kw,
        stated=args.stated,
        data=args.data or (Path(known) if known else None),
    )
    return LoadDrill(options, say).run()

"""The gate drill: bad images must be stopped in the canary wave, harmless ones must pass."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

SUMMARY = "let the telemetry gate judge bad and harmless images, seed after seed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the drill's arguments."""
    parser.add_argument("--seeds", type=int, default=100, help="campaigns of each kind (100)")
    parser.add_argument("--stations", type=int, default=4000, help="size of the fleet (4000)")
    parser.add_argument("--canaries", type=int, default=1000, help="stations in the first wave (1000)")
    parser.add_argument(
        "--soak-hours",
        type=int,
        default=0,
        help="longest wait for a verdict (120 with 1000 canaries, more for fewer)",
    )


def run(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the drill.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    from models.errors import ConfigError
    from pipeline.drill_gate import GateOptions, run_gate

    if args.seeds < 1:
        raise ConfigError(f"drill gate: --seeds {args.seeds}: at least 1 campaign of each kind is needed")
    if not 20 <= args.canaries <= args.stations - 20:
        raise ConfigError(
            f"drill gate: --canaries {args.canaries} of --stations {args.stations}: the gate compares"
            f" at least 20 canaries with at least 20 that wait, so 20 to {args.stations - 20}"
        )
    if args.soak_hours and not 6 <= args.soak_hours <= 60 * 24:
        raise ConfigError(
            f"drill gate: --soak-hours {args.soak_hours}: expected 6 to 1440, or 0 by --canaries"
        )
    options = GateOptions(args.seed, args.seeds, args.stations, args.canaries, args.soak_hours)
    return run_gate(options, say)


def table(result: dict[str, Any]) -> str:
    """Return the figures in words."""
    from pipeline.drill_gate import table as words

    return words(result)

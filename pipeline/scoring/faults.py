"""Score fault detection: what of a simulated or recorded truth was found, how late, and what was not true."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ConfigError
from pipeline.arguments import duration_s

if TYPE_CHECKING:
    from ._fault_run import Score

PARTS = ("corpus", "healthy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream score faults``."""
    made = parser.add_argument_group("a simulated fleet, run through the whole flow")
    made.add_argument("--seed", metavar="N", type=int, default=1, help="same seed, same fleet and faults (1)")
    made.add_argument("--stations", metavar="K", type=int, default=40, help="stations of each fleet (40)")
    made.add_argument("--hours", metavar="H", type=float, default=48.0, help="simulated time (48)")
    made.add_argument("--code", metavar="CODE", action="append", default=[], help="only this fault; repeat")
    made.add_argument("--part", choices=PARTS, help="only the fleet with faults, or only the healthy one")
    made.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    made.add_argument("--out", metavar="DIR", type=Path, help="keep logs, truth and findings here")
    given = parser.add_argument_group("truth and findings from elsewhere")
    given.add_argument("--truth", metavar="FILE", type=Path, help="one truth per line")
    given.add_argument("--findings", metavar="FILE", type=Path, help="findings.jsonl of a replay")
    given.add_argument(
        "--evse-hours", metavar="N", type=float, help="EVSEs times hours that the findings cover, for rates"
    )
    parser.add_argument(
        "--tolerance",
        metavar="15m",
        type=duration_s,
        default=900.0,
        help="a finding raised this long after the end still counts (15m)",
    )
    parser.add_argument(
        "--early", metavar="60s", type=duration_s, default=60.0, help="and this long before the start (60s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line instead of the table")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    from models.fault_scoring import Rules

    from . import _fault_run as fault_run

    rules = Rules(round(args.early * 1000), round(args.tolerance * 1000))
    if (args.truth is None) != (args.findings is None):
        raise ConfigError("score faults: --truth and --findings go together")
    if args.truth is not None:
        score = fault_run.given(args.truth, args.findings, rules, args.evse_hours)
    else:
        score = _simulated(args, rules)
    if args.json:
        print(json.dumps(score.record()))
    else:
        print("\n".join(fault_run.table(score)))
    return 0


def _simulated(args: argparse.Namespace, rules: Any) -> Score:
    import os
    import sys

    from pipeline import config as configuration
    from pipeline import logs

    from . import _fault_run as fault_run

    config = configuration.load(args.config, dict(os.environ))
    logs.setup("score", "error", "text")
    setting = fault_run.Setting(args.seed, args.stations, args.hours, tuple(args.code))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    parts = (args.part,) if args.part else PARTS
    return fault_run.simulated(config, setting, parts, rules, args.out, say)

"""Rehearse a disaster or a roll-out on simulated stations, and reckon up afterwards."""

from __future__ import annotations

import argparse
import json
from typing import Any

from models import plugins


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream drill``."""
    from pipeline.drills import PACKAGE

    drills = parser.add_subparsers(dest="drill", metavar="DRILL", required=True)
    for name in plugins.names(PACKAGE):
        module = plugins.load(PACKAGE, name)
        one = drills.add_parser(name, help=module.SUMMARY)
        one.add_argument("--seed", type=int, default=1, help="decides everything that is left to chance (1)")
        module.add_arguments(one)
        one.add_argument("--json", action="store_true", help="print one JSON line, last")


def run(args: argparse.Namespace) -> int:
    """Run the drill; return 1 when it did not pass."""
    import sys

    from pipeline import logs
    from pipeline.drills import PACKAGE

    logs.setup("drill", "error", "text")
    module = plugins.load(PACKAGE, args.drill)
    result = module.run(args, lambda text: print(text, file=sys.stderr, flush=True))
    print((getattr(module, "table", None) or _table)(result))
    if args.json:
        print(json.dumps(result))
    return 0 if result["passed"] else 1


def _table(result: dict[str, Any]) -> str:
    lines = [f"{name:18} {value}" for name, value in result.items() if name != "passed"]
    return "\n".join([*lines, f"{'result':18} {'PASSED' if result['passed'] else 'FAILED'}"])

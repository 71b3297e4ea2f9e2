"""Compare the findings and the cost of two configurations over the same logs and journals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream backtest``."""
    parser.add_argument("--log", metavar="LOG", type=Path, action="append", default=[],
                        help="message log (.jsonl, .gz, .zst); may be given several times")  # fmt: skip
    parser.add_argument("--journal", metavar="DIR", type=Path, action="append", default=[],
                        help="data folder with a journal, which may be in use")  # fmt: skip
    parser.add_argument("--config", metavar="FILE", type=Path, action="append", required=True,
                        help="TOML file; give two, B is compared with A")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the comparison as one JSON line")


def run(args: argparse.Namespace) -> int:
    """Compare; return 2 unless there are two configurations, 1 when an account does not close."""
    import os
    import sys

    from pipeline import config as configuration
    from pipeline import logs
    from pipeline.backtest import report, run_side
    from pipeline.replay_journal import FrozenJournal

    if len(args.config) != 2:
        print(f"backtest: {len(args.config)} --config given; expected two, A and B", file=sys.stderr)
        return 2
    if not args.log and not args.journal:
        print("backtest: expected --log LOG or --journal DIR", file=sys.stderr)
        return 2
    configs = [configuration.load(path, dict(os.environ)) for path in args.config]
    logs.setup("backtest", configs[0].service.log_level, configs[0].service.log_format)
    journals = [FrozenJournal(folder) for folder in args.journal]
    named = zip(configs, args.config, strict=True)
    sides = [run_side(config, args.log, journals, str(path)) for config, path in named]
    found = report(*sides)
    print(json.dumps(found) if args.json else _table(found))
    return 0 if all(side.closes for side in sides) else 1


def _table(found: dict[str, Any]) -> str:
    lines = []
    for letter, side in zip("AB", found["configs"], strict=True):
        cost = f"{side['flow_ns_per_row']:.0f} ns a row"
        lines.append(f"{letter}  {side['name']}: {side['findings']} findings in {side['rows']} rows, {cost}")
    lines.append(f"\n{'code':28}{'new':>6}{'gone':>6}{'earlier':>9}{'later':>7}")
    for code, counts in found["by_code"].items():
        new, gone, earlier, later = (counts.get(k, 0) for k in ("new", "gone", "earlier", "later"))
        lines.append(f"{code:28}{new:>6}{gone:>6}{earlier:>9}{later:>7}")
    lines.append(f"{'same':28}{found['same']:>6}\n")
    for kind in ("new", "gone", "earlier", "later"):
        for finding in found[kind][:20]:
            where = "/".join(str(x) for x in (finding["site"], finding["station"] or finding["node"]) if x)
            evse = "" if finding["evse"] is None else f"/{finding['evse']}"
            shift = f", {finding['shift_s']:+.0f} s" if "shift_s" in finding else ""
            lines.append(f"{kind:8} {finding['code']} at {where}{evse}, start {finding['start']}{shift}")
        if len(found[kind]) > 20:
            lines.append(f"{kind:8} … and {len(found[kind]) - 20} more (--json has all)")
    return "\n".join(lines).rstrip()

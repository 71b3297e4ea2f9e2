"""Run the whole flow over a message log and write findings, intervals and the closing account."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream replay``."""
    parser.add_argument(
        "--input", metavar="LOG", type=Path, required=True, help="message log (.jsonl, .gz, .zst)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the results")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
    parser.add_argument(
        "--ledger", metavar="URL", default="", help="put energy, sessions and bills into a ledger too"
    )
    parser.add_argument("--no-points", action="store_true", help="do not write points.lp")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON line")


def run(args: argparse.Namespace) -> int:
    """Replay; return 1 when the account does not close."""
    import os

    from pipeline import config as configuration
    from pipeline import logs
    from pipeline.replay import replay

    env = {"CHARGESTREAM_INFLUX__ENABLED": "true"} | dict(os.environ)
    config = configuration.load(args.config, env)
    logs.setup("replay", config.service.log_level, config.service.log_format)
    summary = replay(config, args.input, args.out, write_points=not args.no_points, ledger=args.ledger)
    if args.json:
        print(json.dumps(summary))
    else:
        print(_table(summary, args.out))
    return 0 if summary["closes"] else 1


def _table(summary: dict[str, object], out: Path) -> str:
    lines = []
    for key in ("messages", "rows", "findings"):
        value = summary[key]
        assert isinstance(value, dict)
        lines.append(f"{key:10} " + ("  ".join(f"{k} {v}" for k, v in value.items()) or "none"))
    lines.append(f"{'account':10} " + ("closes" if summary["closes"] else "DOES NOT CLOSE"))
    speed = f"{summary['rows_per_s']} readings/s, {summary['wall_s']} s"
    lines.append(f"{'speed':10} {speed} after {summary['startup_s']} s start-up")
    lines.append(f"{'results':10} {out}")
    return "\n".join(lines)

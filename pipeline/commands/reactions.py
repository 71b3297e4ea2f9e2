"""Show what findings set off by themselves, and open or close the breaker of it."""

from __future__ import annotations

import argparse
import datetime
import getpass
import json
import os
import time
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream reactions``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser(
        "list", help="what was sent, would have been sent, held or refused; newest first"
    )
    for name in ("site", "rule", "finding"):
        listed.add_argument(f"--{name}", default="", help=f"only of this {name}")
    listed.add_argument("--limit", type=int, default=100)
    listed.add_argument("--json", action="store_true", help="whole records, one JSON object a line")
    for name, summary in (
        ("trip", "open the breaker: nothing more is sent by any rule"),
        ("reset", "close the breaker; what waited goes on where its finding is still open"),
    ):
        sub = actions.add_parser(name, help=summary)
        sub.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """List, trip or reset; return the exit code."""
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    if args.action == "list":
        _list(config, args)
    else:
        _operate(config, args.action, args.by or getpass.getuser())
    return 0


def _list(config: Any, args: argparse.Namespace) -> None:
    from connectors.ledger_reader import LedgerReader

    reader = LedgerReader(config.ledger_url())
    try:
        rows = reader.reactions(args.limit, site=args.site, rule=args.rule, finding=args.finding)
        stopped = reader.breaker()
    finally:
        reader.close()
    for row in rows:
        print(json.dumps(row) if args.json else _line(row))
    if not rows and not args.json:
        print("no reactions")
    if stopped and not args.json:
        reasons = "; ".join(sorted({row["reason"] for row in stopped}))
        print(f"THE BREAKER IS OPEN, nothing is sent: {reasons}. Close it: chargestream reactions reset")


def _line(row: dict[str, Any]) -> str:
    at = datetime.datetime.fromtimestamp(row["at_ms"] / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if not row["finding_id"]:
        return f"{at}  breaker {row['state']} (shard {row['shard']}): {row['reason']}"
    place = f"{row['site']}/{row['station']}" + (f"/{row['evse']}" if row["evse"] is not None else "")
    what = " ".join(part for part in (row["does"], row["reason"]) if part)
    what += f" → {row['answer']}" if row["answer"] else ""
    about = f"{place}  {row['code']} {row['finding_id'][:8]}"
    return f"{at}  {row['rule']} step {row['step'] + 1} {row['state']}: {what}  {about}"


def _operate(config: Any, action: str, by: str) -> None:
    import msgspec

    from connectors.mqtt import Publisher
    from models.errors import RetryLater
    from models.outputs import Publish
    from models.reactions import TOPIC
    from pipeline.ingest import mqtt_settings

    publisher = Publisher(mqtt_settings(config, f"-desk-{time.time_ns():x}"))
    try:
        payload = msgspec.json.encode({"action": action, "by": by})
        refused = publisher.publish([Publish(topic=TOPIC, payload=payload)])
    finally:
        publisher.close()
    if refused:
        raise RetryLater(f"the broker did not take the request: {refused[0].reason}")
    done = (
        "opened: no rule sends anything until `chargestream reactions reset`"
        if action == "trip"
        else "closed"
    )
    print(f"breaker {done}")

"""List findings, show one with its history, and acknowledge, assign, snooze or comment it."""

from __future__ import annotations

import argparse
import datetime
import getpass
import json
import os
import re
import time
from pathlib import Path
from typing import Any, Final

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_ACTIONS: Final = {
    "ack": "say that somebody has seen it",
    "assign": "give it to somebody",
    "snooze": "let it rest for a while",
    "unsnooze": "end a snooze",
    "comment": "add words to its history",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream finding``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="findings, critical ones first, then the youngest")
    listed.add_argument("--state", choices=("open", "cleared", "all"), default="open")
    for name in ("site", "code", "severity", "assignee"):
        listed.add_argument(f"--{name}", default="", help=f"only of this {name}")
    listed.add_argument("--search", default="", help="words that must all occur")
    listed.add_argument("--unacked", action="store_true", help="only those nobody acknowledged")
    listed.add_argument("--limit", type=int, default=100)
    shown = actions.add_parser("show", help="one finding: evidence, changes, what people did")
    shown.add_argument("finding", help="its id, or the first characters of it")
    for one in (listed, shown):
        one.add_argument("--json", action="store_true", help="whole records, one JSON object a line")
    for name, summary in _ACTIONS.items():
        sub = actions.add_parser(name, help=summary)
        sub.add_argument("finding", help="its id, or the first characters of it")
        sub.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
        if name == "assign":
            sub.add_argument("--to", required=True, metavar="NAME", help="empty: nobody any more")
        if name == "snooze":
            until = sub.add_mutually_exclusive_group(required=True)
            until.add_argument("--for", dest="span", metavar="SPAN", help="30m, 8h, 2d")
            until.add_argument("--until", metavar="TIME", help="2026-11-25T06:00Z")
        if name == "comment":
            sub.add_argument("text", nargs="+", help="the words")
        else:
            sub.add_argument("--text", nargs="+", default=[], help="words for the history")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """List, show or act; return the exit code."""
    from connectors.ledger_reader import LedgerReader
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    reader = LedgerReader(config.ledger_url())
    try:
        if args.action == "list":
            _list(reader, args)
        elif args.action == "show":
            _show(reader, args)
        else:
            _act(reader, config, args)
    finally:
        reader.close()
    return 0


def _list(reader: Any, args: argparse.Namespace) -> None:
    rows = reader.chosen_findings(
        args.limit,
        site=args.site,
        search=args.search,
        state=args.state,
        code=args.code,
        severity=args.severity,
        assignee=args.assignee,
        acked=False if args.unacked else None,
    )
    for row in rows:
        print(json.dumps(row) if args.json else _line(row))
    if not rows and not args.json:
        print("no findings")


def _show(reader: Any, args: argparse.Namespace) -> None:
    from models.errors import ConfigError
    from models.evidence_text import figures
    from models.faults import FAULTS

    found = reader.finding(args.finding)
    if found is None:
        raise ConfigError(f"the ledger has no finding {args.finding!r}, or several begin so")
    if args.json:
        print(json.dumps(found))
        return
    print(_line(found))
    print(f"  id        {found['finding_id']}")
    print(f"  fault     {FAULTS[found['code']].title if found['code'] in FAULTS else found['code']}")
    print(f"  evidence  {figures(found['evidence'], most=99)}")
    print(f"  advice    {found['advice']}")
    history = [(c["changed_at"], f"{c['state']} ({c['severity']})") for c in found["changes"]]
    history += [(a["at"], _told(a)) for a in found["actions"]]
    history += [(r["at_ms"], _reacted(r)) for r in found["reactions"]]
    for at, words in sorted(history):
        print(f"  {_utc(at)}  {words}")


def _reacted(row: dict[str, Any]) -> str:
    words = " ".join(part for part in (row["does"], row["reason"]) if part)
    answer = f" → {row['answer']}" if row["answer"] else ""
    return f"rule {row['rule']}, step {row['step'] + 1}, {row['state']}: {words}{answer}"


def _act(reader: Any, config: Any, args: argparse.Namespace) -> None:
    from connectors.operator import OperatorDesk
    from pipeline.ingest import mqtt_settings

    body: dict[str, Any] = {"action": args.action, "by": args.by or getpass.getuser()}
    body["text"] = " ".join(args.text) or None
    body["to"] = getattr(args, "to", None)
    if args.action == "snooze":
        body["until"] = _until_ms(args.span, args.until, time.time_ns() // 1_000_000)
    desk = OperatorDesk(mqtt_settings(config, f"-desk-{time.time_ns():x}"), reader)
    try:
        done = desk.act(args.finding, body)
    finally:
        desk.close()
    print(f"{done.finding_id}: {_told(body)}")


def _until_ms(span: str | None, until: str | None, now_ms: int) -> int:
    """Return when a snooze ends, epoch ms; times without a zone are UTC."""
    from models.errors import ConfigError

    if span is not None:
        found = re.fullmatch(r"(\d+)([mhd])", span)
        if found is None:
            raise ConfigError(f"--for {span!r}: expected minutes, hours or days, like 30m, 8h, 2d")
        return now_ms + int(found[1]) * _SECONDS[found[2]] * 1000
    try:
        when = datetime.datetime.fromisoformat(str(until))
    except ValueError as error:
        raise ConfigError(f"--until {until!r}: expected a time like 2026-11-25T06:00Z") from error
    when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    return round(when.timestamp() * 1000)


def _line(row: dict[str, Any]) -> str:
    where = "/".join(
        str(part) for part in (row["site"], row["station"] or row["node"], row["evse"]) if part is not None
    )
    state = [row["state"] if row["state"] == "cleared" else "open"]
    state += [f"acknowledged by {row['acked_by']}"] if row["acked_by"] else []
    state += [f"assigned to {row['assignee']}"] if row["assignee"] else []
    state += [f"snoozed until {_utc(row['snoozed_until'])}"] if row["snoozed_until"] else []
    state += [f"{row['comments']} comment{'s' if row['comments'] > 1 else ''}"] if row["comments"] else []
    head = f"{row['finding_id'][:8]}  {row['severity']:<8}  {row['code']:<26}  {where}"
    return f"{head}  since {_utc(row['start'])}  {', '.join(state)}"


def _told(action: dict[str, Any]) -> str:
    words = {"ack": "acknowledged", "assign": "assigned", "snooze": "snoozed", "unsnooze": "snooze ended"}
    told = f"{words.get(action['action'], 'commented')} by {action['by']}"
    if action["action"] == "assign":
        told += f" to {action['to']}" if action["to"] else " to nobody"
    if action.get("until"):
        told += f" until {_utc(action['until'])}"
    return told + (f": {action['text']}" if action["text"] else "")


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time_ms / 1000))

"""Send commands to stations, list them with what became of them, show one, take one back."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
from pathlib import Path
from typing import Any

from pipeline.arguments import count, duration_s

from ._command_words import utc

#: open: not ended; ended: in one of the last five.
_STATES = (
    "open", "ended", "requested", "sent", "accepted", "rejected", "scheduled", "expired", "failed",
)  # fmt: skip
_EVERYTHING = "a command and its history"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream command``."""
    from models.command_shorthand import WORDS

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    words = "; ".join(
        f"{name}: {w.does}" + (f" (VALUE: {w.value})" if w.value else "") for name, w in WORDS.items()
    )
    send = actions.add_parser("send", help="send a command to a station", description=f"Words: {words}.")
    send.add_argument("site")
    send.add_argument("station")
    send.add_argument("command", help=f"{', '.join(WORDS)}, or an OCPP 2.0.1 action with --body")
    send.add_argument("value", nargs="?", default="", help="what the word needs")
    send.add_argument("--evse", type=_evse, help="number of the EVSE")
    send.add_argument("--body", metavar="JSON", help="OCPP 2.0.1 request; @FILE reads it from a file")
    send.add_argument("--expires", metavar="5m", type=duration_s, default=300.0, help="its life (5m)")
    send.add_argument(
        "--wait",
        metavar="10s",
        type=duration_s,
        nargs="?",
        const=0.0,
        help="tell what becomes of it until it has ended, at most so long (its life); "
        "exit code 0: accepted or scheduled",
    )
    send.add_argument("--urgent", action="store_true", help="for safety: before all others")
    listed = actions.add_parser("list", help="commands, the newest first")
    for name in ("site", "station", "command", "by"):
        listed.add_argument(f"--{name}", default="", help=f"only of this {name}")
    listed.add_argument("--state", default="", choices=("", *_STATES), help="only in this state")
    listed.add_argument("--search", default="", help="words that must all occur")
    listed.add_argument("--limit", metavar="N", type=count, default=100, help="at most so many (100)")
    shown = actions.add_parser("show", help=_EVERYTHING)
    cancel = actions.add_parser("cancel", help="take back a command that was not sent yet")
    for one in (shown, cancel):
        one.add_argument("id", help="its id, or the first characters of it")
    for one in (listed, shown, send):
        one.add_argument("--json", action="store_true", help="whole records, one JSON object a line")
    for one in (send, cancel):
        one.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Send, list, show or take back; return the exit code."""
    from connectors.ledger_reader import LedgerReader
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    reader = LedgerReader(config.ledger_url())
    try:
        if args.action == "send":
            return _send(reader, config, args)
        if args.action == "list":
            _list(reader, args)
            return 0
        return _one(reader, config, args)
    finally:
        reader.close()


def _evse(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no EVSE; expected its number, such as 1")
    return int(text)


def _send(reader: Any, config: Any, args: argparse.Namespace) -> int:
    from models.command_request import MOST_EXPIRES_S
    from models.errors import ConfigError, DecodeError

    from . import _command_words as told

    if args.expires > MOST_EXPIRES_S:
        raise ConfigError(
            f"--expires {args.expires:g}: expected more than 0 and at most {MOST_EXPIRES_S:.0f} s"
        )
    if args.body is not None and args.value:
        raise ConfigError(
            f"value {args.value!r} and --body: a word has a value, an OCPP action a body; give one"
        )
    try:
        body = _wish(args)
        desk = _desk(reader, config)
        try:
            request = desk.command({name: value for name, value in body.items() if value is not None})
        finally:
            desk.close()
    except DecodeError as error:
        raise ConfigError(error.detail) from error
    told.hint(reader, args.site, args.station)
    cmd_id = request.ask(0).cmd_id
    if args.wait is not None:
        return told.follow(reader, cmd_id, args.wait or args.expires + told.GRACE_S, as_json=args.json)
    if args.json:
        known = {"cmd_id": cmd_id, "command": request.command, "site": args.site, "station": args.station}
        print(json.dumps(known))
    else:
        print(f"{cmd_id}  {request.command} asked for; see `chargestream command show {cmd_id[:8]}`")
    return 0


def _wish(args: argparse.Namespace) -> dict[str, Any]:
    """Return the body of the request; an OCPP action without a body has an empty one."""
    from models.command_check import COMMANDS
    from models.command_shorthand import WORDS, spell_out
    from models.command_types import OPERATOR, SAFETY
    from models.errors import ConfigError

    wish: dict[str, Any] = {"site": args.site, "station": args.station, "by": args.by or getpass.getuser()}
    wish |= {"expires_s": args.expires, "priority": SAFETY if args.urgent else OPERATOR, "evse": args.evse}
    if args.body is None and (args.command not in COMMANDS or args.value):
        wish["command"], wish["body"] = spell_out(args.command, args.evse, args.value)
    elif args.command in WORDS:
        raise ConfigError(f"{args.command} is a word, which takes no --body; an OCPP action does")
    else:
        wish["command"], wish["body"] = args.command, _body(args.body or "{}")
    return wish


def _body(text: str) -> Any:
    from models.errors import ConfigError

    try:
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except OSError as error:
        raise ConfigError(f"--body {text}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--body {text:.80}: expected a JSON object, or @FILE with one: {error}") from error


def _desk(reader: Any, config: Any) -> Any:
    from connectors.operator import OperatorDesk
    from pipeline.ingest import mqtt_settings

    return OperatorDesk(mqtt_settings(config, f"-desk-{time.time_ns():x}"), reader)


def _list(reader: Any, args: argparse.Namespace) -> None:
    names = ("site", "station", "state", "command", "by", "search")
    rows = reader.commands(args.limit, **{name: getattr(args, name) for name in names})
    for row in rows:
        print(json.dumps(row) if args.json else _line(row))
    if not rows and not args.json:
        print("no commands")


def _one(reader: Any, config: Any, args: argparse.Namespace) -> int:
    from models.command_states import ENDED
    from models.errors import ConfigError

    from . import _command_words as told

    found = reader.command(args.id)
    if found is None:
        raise ConfigError(f"the ledger has no command {args.id!r}, or several begin so")
    if args.action == "cancel":
        if found["state"] in ENDED:
            raise ConfigError(f"{found['cmd_id']}: it has ended: {told.ending(found)}")
        desk = _desk(reader, config)
        try:
            desk.take_back(found["cmd_id"], found["site"], args.by or getpass.getuser())
        finally:
            desk.close()
        left = "; it had left, so that is only noted" if found["state"] == "sent" else ""
        print(f"{found['cmd_id']}: asked to take it back{left}")
    elif args.json:
        print(json.dumps(found))
    else:
        print(_line(found))
        for name, value in (("id", found["cmd_id"]), ("cause", found["cause"])):
            print(f"  {name:<7} {value}")
        print(f"  {'body':<7} {json.dumps(found['body'])}\n  {'expires':<7} {utc(found['expires_ms'])}")
        for change in found["changes"]:
            print(f"  {told.change(change)}")
    return 0


def _line(row: dict[str, Any]) -> str:
    where = "/".join(str(part) for part in (row["site"], row["station"], row["evse"]) if part is not None)
    told = row["reason"] or row["status"]
    head = f"{row['cmd_id'][:8]}  {row['state']:<9}  {row['command']:<24}  {where}"
    return f"{head}  {utc(row['asked_ms'])} by {row['by']}" + (f": {told}" if told else "")

"""List, deliver again or drop what InfluxDB, ledger, broker, a partner or a notification server refused."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.outbox import DeadLetter, Letter

_PREVIEW = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream dead-letter``."""
    parser.add_argument("action", choices=("list", "retry", "drop"))
    parser.add_argument(
        "--data", metavar="DIR", type=Path, default=Path("var"), help="data folder (default var)"
    )
    consumers = ("influx", "ledger", "mqtt", "ocpi", "notify")
    parser.add_argument("--consumer", choices=consumers, help="only what this one refused")
    parser.add_argument("--id", type=int, nargs="+", action="extend", metavar="N", help="only these letters")
    parser.add_argument("--all", action="store_true", help="retry or drop everything")
    parser.add_argument("--json", action="store_true", help="list whole records, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """List, retry or drop; return the exit code."""
    from connectors.outbox import DeadLetter
    from models.errors import ConfigError
    from pipeline.egress import dead_letter_path

    path = dead_letter_path(args.data)
    if not path.exists():
        raise ConfigError(f"there is no dead-letter at {path}: give the service's data folder with --data")
    if args.action != "list" and not (args.id or args.consumer or args.all):
        raise ConfigError(f"{args.action}: say which letters, with --id, --consumer or --all")
    with DeadLetter(path) as letters:
        chosen = list(_chosen(letters, args))
        if args.action == "list":
            _show(chosen, args.json)
            return 0
        if args.action == "retry":
            _put_back(args.data, chosen)
        count = letters.drop([letter.id for letter in chosen])
    print(f"{count} {'put back into the outbox' if args.action == 'retry' else 'dropped'}")
    return 0


def _chosen(letters: DeadLetter, args: argparse.Namespace) -> Iterator[Letter]:
    after = 0
    while page := letters.list(args.consumer, after_id=after):
        after = page[-1].id
        yield from (letter for letter in page if not args.id or letter.id in args.id)


def _put_back(data_dir: Path, chosen: list[Letter]) -> None:
    """Append the records to an outbox of their own, which the egress process takes up like a worker's.

    Delivered twice they change nothing, so they are dropped from the dead-letter only afterwards.
    """
    from connectors.outbox import OutboxWriter

    with OutboxWriter(data_dir / "outbox" / "retry.db") as outbox:
        outbox.append([(letter.stream, _UNKNOWN_SHARD, letter.blob) for letter in chosen])


#: The dead-letter does not keep the shard, which matters only to rows of unusable messages.
_UNKNOWN_SHARD = -1


def _show(chosen: list[Letter], as_json: bool) -> None:
    for letter in chosen:
        if as_json:
            print(json.dumps(letter._asdict() | {"blob": _content(letter)}, default=repr))
            continue
        when = datetime.datetime.fromtimestamp(letter.when_ms // 1000, datetime.UTC).isoformat()
        where = f"{letter.consumer}/{letter.stream} record {letter.seq}"
        print(f"{letter.id}  {when}  {where}, refused {letter.tries} times")
        print(f"    {letter.reason}")
        text = _content(letter)
        preview = text if isinstance(text, str) else json.dumps(text, default=repr)
        print(f"    {preview[:_PREVIEW].rstrip()}{' ...' if len(preview) > _PREVIEW else ''}")
    if not chosen and not as_json:
        print("no dead letters")


def _content(letter: Letter) -> Any:
    """Return line protocol as text, other records as plain data, bytes that are neither as their repr."""
    import msgspec

    if letter.stream == "points":
        return letter.blob.decode("utf-8", "backslashreplace")
    try:
        return msgspec.msgpack.decode(letter.blob)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return repr(letter.blob)

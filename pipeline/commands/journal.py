"""Look into the journal: what it holds, whether it is sound, its messages as a log.

``info`` says which offsets and times are stored and how far each reader has come. ``verify`` reads every
message and checks it. ``export`` writes messages as a message log, which ``chargestream replay`` reads. All
three may run while the service runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from connectors.journal import JournalInfo, VerifyReport

JOURNAL_FILE: Final = "journal.db"
_NS_PER_MS: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream journal``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("info", "which offsets and times are stored, and how far each reader has come"),
        ("verify", "check the file and every message in it; exit code 1 when something is wrong"),
        ("export", "write messages as a message log"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--data", metavar="DIR", type=Path, required=True, help="data folder")
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "export":
            _add_export_arguments(action)


def _add_export_arguments(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--out", metavar="LOG", type=Path, required=True, help="log to write; .gz or .zst compress it"
    )
    action.add_argument(
        "--shard", metavar="N", type=int, action="append", help="may be repeated; default: all"
    )
    action.add_argument(
        "--from",
        metavar="T",
        dest="start_ms",
        type=time_ms,
        help="first arrival: 2026-11-24T08:00Z or epoch ms",
    )
    action.add_argument("--to", metavar="T", dest="stop_ms", type=time_ms, help="arrivals before this time")
    action.add_argument("--from-offset", metavar="N", type=int, default=0, help="first offset in each shard")
    action.add_argument("--to-offset", metavar="N", type=int, help="offsets before this one in each shard")


def time_ms(text: str) -> int:
    """Return a time given as ISO 8601 (UTC unless it says otherwise) or as epoch ms, in epoch ms.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is neither.
    """
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; expected ISO 8601 such as 2026-11-24T08:00Z, or epoch ms"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    from connectors.journal import describe, verify

    path = args.data / JOURNAL_FILE
    if args.action == "export":
        return _export(path, args)
    if args.action == "verify":
        report = verify(path)
        print(json.dumps(_report_data(report), indent=2) if args.json else _report_text(report))
        return 0 if report.ok else 1
    info = describe(path)
    print(json.dumps(_info_data(info), indent=2) if args.json else _info_text(info))
    return 0


def _export(path: Path, args: argparse.Namespace) -> int:
    from connectors.journal import export
    from connectors.msglog import LogWriter
    from models.command_request import shown_message
    from models.errors import StorageCorrupt
    from models.frame import RETAINED

    bounds: dict[str, int] = {"from_offset": args.from_offset}
    if args.start_ms is not None:
        bounds["from_ns"] = args.start_ms * _NS_PER_MS
    if args.stop_ms is not None:
        bounds["to_ns"] = args.stop_ms * _NS_PER_MS
    if args.to_offset is not None:
        bounds["to_offset"] = args.to_offset
    messages = export(path, args.shard, **bounds)
    try:
        # Before the log is created: a journal that is not there leaves no empty log behind.
        first = next(messages, None)
        with LogWriter(args.out) as log:
            while first is not None:
                recv_ns, topic, payload, flags = first
                named = topic.decode("utf-8", "replace")
                retained = bool(flags & RETAINED)
                log.write(recv_ns, named, shown_message(named, payload), retained=retained)
                first = next(messages, None)
    except StorageCorrupt:
        print(f"chargestream: {args.out} ends where the journal could not be read", file=sys.stderr)
        raise
    result = {"messages": log.messages, "out": str(args.out)}
    print(json.dumps(result) if args.json else f"{log.messages} messages written to {args.out}")
    return 0


def _report_data(report: VerifyReport) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "ok": report.ok,
        "shards": report.shards,
        "chunks": report.chunks,
        "messages": report.messages,
        "ticks": report.ticks,
        "bytes": report.frame_bytes,
        "error_count": report.error_count,
        "errors": report.errors,
    }


def _report_text(report: VerifyReport) -> str:
    lines = [
        f"{report.path}: {report.shards} shards, {report.chunks} chunks, {report.messages} messages, "
        f"{report.ticks} ticks, {report.frame_bytes} bytes",
        *report.errors,
    ]
    if report.error_count > len(report.errors):
        lines.append(f"... and {report.error_count - len(report.errors)} more")
    lines.append("sound" if report.ok else f"NOT sound: {report.error_count} errors")
    return "\n".join(lines)


def _info_data(info: JournalInfo) -> dict[str, Any]:
    return {
        "path": str(info.path),
        "file_bytes": info.file_bytes,
        "used_bytes": info.used_bytes,
        "last_tick": _ms(info.last_tick_ns),
        "shards": [
            {
                "shard": shard.shard,
                "first": shard.first,
                "end": shard.end,
                "oldest": _ms(shard.oldest_ns),
                "newest": _ms(shard.newest_ns),
            }
            for shard in info.shards
        ],
        "cursors": {
            name: {str(shard): offset for shard, offset in offsets.items()}
            for name, offsets in info.cursors.items()
        },
    }


def _info_text(info: JournalInfo) -> str:
    lines = [
        f"{info.path}: {len(info.shards)} shards, {info.used_bytes / 1e6:.1f} MB in use of "
        f"{info.file_bytes / 1e6:.1f} MB on disk, last tick {_iso(info.last_tick_ns)}",
        f"{'shard':>5} {'first':>12} {'end':>12}  {'oldest arrival':<24}  {'newest arrival':<24}",
    ]
    lines += [
        f"{s.shard:>5} {s.first:>12} {s.end:>12}  {_iso(s.oldest_ns):<24}  {_iso(s.newest_ns):<24}"
        for s in info.shards
    ]
    ends = {s.shard: s.end for s in info.shards}
    if not info.cursors:
        lines.append("no reader has set a cursor: nothing is trimmed")
    for name, offsets in info.cursors.items():
        behind = sum(max(ends.get(shard, 0) - offset, 0) for shard, offset in offsets.items())
        lines.append(f"reader {name}: {len(offsets)} shards, {behind} messages and ticks behind")
    return "\n".join(lines)


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // _NS_PER_MS


def _iso(time_ns: int | None) -> str:
    if time_ns is None:
        return "-"
    moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Try a route of messages about findings, or see what the open findings would cause."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.notices import Notice
    from pipeline.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream notify``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    tried = actions.add_parser("test", help="send a trial message and say what the server answered")
    tried.add_argument("--route", required=True, metavar="NAME", help="a table [notify.routes.NAME]")
    actions.add_parser("preview", help="what the open findings cause; sends nothing")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Try or preview; return the exit code."""
    from models.errors import ConfigError
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    if not config.notify.routes:
        raise ConfigError("there is no route: set a table [notify.routes.NAME] with url or mqtt_topic")
    return _test(config, args.route) if args.action == "test" else _preview(config)


def _test(config: Config, route: str) -> int:
    from models.errors import ConfigError, DeliveryError
    from pipeline.egress_notify import make_channel, trial

    if route not in config.notify.routes:
        raise ConfigError(f"there is no route {route!r}; routes are {', '.join(config.notify.routes)}")
    channel = make_channel(config, route, f"notify-test-{time.time_ns():x}")
    try:
        said = channel.send(trial(route, time.time_ns() // 1_000_000))
    except DeliveryError as error:
        print(f"{route}: not delivered: {error}")
        return 1
    finally:
        channel.close()
    print(f"{route}: delivered: {said}")
    return 0


def _preview(config: Config) -> int:
    """Print every message that the open findings caused or will cause, by the routes as they are now."""
    from connectors.ledger_reader import LedgerReader
    from models.notice_text import subject

    reader = LedgerReader(config.ledger_url())
    try:
        rows = reader.chosen_findings(10_000)
        histories = {r["finding_id"]: reader.finding(r["finding_id"]) or {} for r in rows if _handled(r)}
    finally:
        reader.close()
    now_ms = time.time_ns() // 1_000_000
    sent, waiting = _planned(config, rows, histories, now_ms)
    for notice in sorted(sent, key=lambda n: (n.route, n.at)):
        print(f"{notice.route}  {_local(config, notice.at)}  {subject(notice)}")
    for line in waiting:
        print(line)
    print(
        f"{len(rows)} open findings: {len(sent)} messages by now, {len(waiting)} states wait; none was sent"
    )
    return 0


def _handled(row: dict[str, Any]) -> bool:
    return row["acked_by"] is not None or row["snoozed_until"] is not None


def _planned(
    config: Config, rows: list[dict[str, Any]], histories: dict[str, Any], now_ms: int
) -> tuple[list[Notice], list[str]]:
    import msgspec

    from models.notices import NoticePlanner
    from models.outputs import FindingAction, FindingChange

    planner = NoticePlanner(config.notify.rules())
    told = []
    steps: list[tuple[int, int, Any]] = []
    for row in rows:
        raised = {str(k): v for k, v in row.items()} | {"state": "raised", "changed_at": row["raised_at"]}
        change = msgspec.convert(raised, FindingChange)
        steps.append((change.changed_at, 0, change))
    for history in histories.values():
        for action in history.get("actions", ()):
            named = {str(k): v for k, v in action.items()} | {"finding_id": history["finding_id"]}
            taken = msgspec.convert(named, FindingAction)
            steps.append((taken.at, 1, taken))
    shards = {row["finding_id"]: row["shard"] for row in rows}
    for _, kind, step in sorted(steps, key=lambda step: step[:2]):
        told += planner.action(step, shards[step.finding_id]) if kind else planner.change(step)
    for shard in set(shards.values()):
        told += planner.clock(shard, now_ms)
    lines = [
        f"{route}  {_local(config, due)}  waits: {state} of {case.change.code} {finding_id[:8]}"
        + (f", snoozed until {_local(config, case.snoozed_until)}" if case.snoozed_until > now_ms else "")
        for finding_id, case in planner.cases.items()
        for route, states in case.waiting.items()
        for state, due in states.items()
    ]
    return told, sorted(lines)


def _local(config: Config, time_ms: int) -> str:
    from models.notice_text import local_time
    from models.notices import zone_of

    return local_time(time_ms, zone_of(config.notify.time_zone))

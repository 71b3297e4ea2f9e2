"""Update the firmware of many stations in waves: create, approve, start, watch, pause, abort, roll back."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from models.campaign_rows import STATES
from pipeline.arguments import count

_ACTIONS: Final = {
    "approve": "let it be started; whoever made it may not",
    "start": "begin with the first wave",
    "pause": "ask no further station",
    "resume": "go on",
    "abort": "ask no further station, for good",
    "rollback": "bring updated stations back to the previous image",
}
_READING: Final = ("list", "status", "stations", "outlook", "why", "report")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream campaign``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make one from a TOML file (docs/campaigns.md)")
    create.add_argument("plan", metavar="FILE", type=Path, help="the plan")
    create.add_argument("--check", action="store_true", help="only say whether the plan is complete")
    for name, summary in _ACTIONS.items():
        sub = actions.add_parser(name, help=summary)
        sub.add_argument("campaign", help="its id")
        sub.add_argument("--text", default="", help="words for its history")
        if name == "resume":
            sub.add_argument("--waive-gate", action="store_true", help="this wave needs no telemetry gate")
    tag = actions.add_parser("tag", help="give stations a tag that targets can name")
    tag.add_argument("tag")
    tag.add_argument("station", nargs="+", metavar="SITE/STATION", help="patterns with * and ?")
    tag.add_argument("--remove", action="store_true", help="take it away")
    for one in actions.choices.values():
        one.add_argument("--by", default="", metavar="NAME", help="who does this (default: you)")
    actions.add_parser("list", help="all campaigns, the newest first")
    status = actions.add_parser("status", help="where one stands: history, waves, the gate")
    stations = actions.add_parser("stations", help="its stations, those that changed last first")
    stations.add_argument("--state", default="", choices=("", *STATES))
    stations.add_argument("--limit", metavar="N", type=count, default=100, help="at most so many (100)")
    ahead = actions.add_parser("outlook", help="waves to come, when each may begin, and when it may end")
    ahead.add_argument(
        "--stations", action="store_true", help="every station with its wave, or why it has none"
    )
    reasons = actions.add_parser("why", help="why a station does not run the version yet")
    report = actions.add_parser("report", help="write what became of it as CSV and HTML")
    report.add_argument("--out", metavar="DIR", type=Path, required=True)
    for one in (status, stations, ahead, reasons, report):
        one.add_argument("campaign", help="its id")
    reasons.add_argument("station", metavar="SITE/STATION")
    for name in ("list", "status", "stations", "outlook", "why"):
        actions.choices[name].add_argument("--json", action="store_true", help="one JSON object a line")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Read or ask; return the exit code."""
    from pipeline import config as configuration

    if args.action == "create" and args.check:
        from models.campaign_requests import check_request

        check_request(_plan(args, configuration.load(args.config, os.environ)))
        print(f"{args.plan}: complete")
        return 0
    config = configuration.load(args.config, os.environ)
    if args.action in _READING:
        _read(args, config)
    else:
        _ask(args, config)
    return 0


def _ask(args: argparse.Namespace, config: Any) -> None:
    from connectors.campaign_desk import CampaignDesk
    from pipeline.ingest import mqtt_settings

    by = args.by or getpass.getuser()
    if args.action == "create":
        body = _plan(args, config) | {"by": by}
    elif args.action == "tag":
        body = {"action": "tag", "by": by, "stations": args.station, "tags": [args.tag]}
        body["remove"] = args.remove
    else:
        body = {"id": args.campaign, "action": args.action, "by": by, "text": args.text}
        body["waive_gate"] = getattr(args, "waive_gate", False)
    desk = CampaignDesk(mqtt_settings(config, f"-campaign-{time.time_ns():x}"))
    try:
        desk.ask(body)
    finally:
        desk.close()
    what = args.tag if args.action == "tag" else body["id"]
    print(f"{what}: {args.action} asked by {by}; chargestream campaign status shows what came of it")


def _plan(args: argparse.Namespace, config: Any) -> dict[str, Any]:
    """Return the plan in a file; an image that is a name is looked up among the images we keep."""
    from models.campaign_requests import no_address, read_plan
    from models.errors import ConfigError

    try:
        plan: dict[str, Any] = tomllib.loads(args.plan.read_text())
    except OSError as error:
        raise ConfigError(
            f"{args.plan} cannot be read: {error.strerror}; expected a plan in TOML (docs/campaigns.md)"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{args.plan}: expected a plan in TOML (docs/campaigns.md): {error}") from error
    for name in ("image", "previous"):
        if isinstance(plan.get(name), str):
            plan[name] = _image(plan[name], config)
    plan = {"by": args.by or getpass.getuser()} | plan | {"action": "create"}
    if refused := no_address(read_plan(plan), tuple(config.firmware.foreign_hosts), ours=True):
        raise ConfigError(f"{args.plan}: {refused}")
    return plan


def _image(name: str, config: Any) -> dict[str, Any]:
    """Return an image of our own repository, verified."""
    import msgspec

    from ._firmware_keeping import open_store

    image: dict[str, Any] = msgspec.to_builtins(open_store(config).image(name, time.time_ns() // 1_000_000))
    return image


def _read(args: argparse.Namespace, config: Any) -> None:
    import msgspec

    from connectors.campaign_reader import CampaignReader
    from models.errors import ConfigError

    reader = CampaignReader(config.ledger_url())
    try:
        if args.action == "list":
            _list(reader, args.json)
            return
        found = reader.campaign(args.campaign)
        if found is None:
            raise ConfigError(
                f"the ledger has no campaign {args.campaign!r}; chargestream campaign list has all"
            )
        if args.action == "status":
            ahead = reader.outlook(args.campaign, _now_ms())
            told = found | {"outlook": msgspec.to_builtins(ahead)}
            print(json.dumps(told) if args.json else f"{_status(found)}\n{_ends(ahead)}")
        elif args.action == "outlook":
            _outlook(reader, args)
        elif args.action == "why":
            _why(reader, args)
        elif args.action == "stations":
            for row in reader.campaign_stations(args.campaign, args.limit, state=args.state):
                print(json.dumps(row) if args.json else _station(row))
        else:
            from connectors.campaign_report import write_report

            for path in write_report(
                found, reader.every_station(args.campaign), reader.findings(args.campaign), args.out
            ):
                print(path)
    finally:
        reader.close()


def _outlook(reader: Any, args: argparse.Namespace) -> None:
    import msgspec

    if args.stations:
        for row in reader.planned(args.campaign):
            print(json.dumps(row) if args.json else _planned(row))
        return
    ahead = reader.outlook(args.campaign, _now_ms())
    if args.json:
        print(msgspec.json.encode(ahead).decode())
        return
    for wave in ahead.waves:
        opens = "unknown: its windows open too seldom" if wave.opens_ms is None else _utc(wave.opens_ms)
        print(f"wave {wave.wave + 1:<4} {wave.stations:>9,} stations  not before {opens}")
    print(_ends(ahead))


def _planned(row: dict[str, Any]) -> str:
    wave = f"wave {row['planned_wave'] + 1}" if row["planned_wave"] >= 0 else ""
    place = f"{row['site']}/{row['station']}"
    return f"{place:<32} {wave:<9} {row['state']:<12} {row['fw']:<12} {row['reason']}"


def _ends(ahead: Any) -> str:
    """Return in words when a campaign may end."""
    if not ahead.waves and ahead.ends_ms is None:
        return "  nothing is ahead"
    needs = f" if {ahead.needs} now" if ahead.needs else ""
    ends = "unknown" if ahead.ends_ms is None else f"not before {_utc(ahead.ends_ms)}{needs}"
    likely = "" if ahead.likely_ms is None else f", likely {_utc(ahead.likely_ms)} at the pace so far"
    return f"  ends {ends}{likely}"


def _why(reader: Any, args: argparse.Namespace) -> None:
    from models.errors import ConfigError

    site, _, station = args.station.partition("/")
    if not station:
        raise ConfigError(f"{args.station!r}: expected SITE/STATION")
    found = reader.why(args.campaign, site, station, _now_ms())
    if args.json:
        print(json.dumps(found))
        return
    print(f"{args.station} {found['state']}")
    for reason in found["why"]:
        print(f"  {reason}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _list(reader: Any, as_json: bool) -> None:
    rows = reader.campaigns()
    for row in rows:
        print(json.dumps(row) if as_json else _line(row))
    if not as_json:
        if not rows:
            print("no campaigns")
        for row in reader.refused_requests(5):
            print(f"refused {_utc(row['at_ms'])} {row['by']}: {row['text']}")


def _line(row: dict[str, Any]) -> str:
    image, funnel = row["plan"]["image"], row["funnel"]["all"]
    done, total = funnel.get("succeeded", 0), sum(funnel.values())
    what = f"{image['vendor']} {image['model']} {image['version']}"
    return (
        f"{row['campaign']:<24} {row['state']:<20} {what:<32} {done} of {total}  made {_utc(row['made_ms'])}"
    )


def _status(row: dict[str, Any]) -> str:
    lines = [_line(row)]
    states = [state for state in STATES if state in row["funnel"]["all"]]
    for wave in sorted(row["funnel"]["waves"], key=lambda one: (one["wave"] < 0, one["wave"])):
        name = "not open yet" if wave["wave"] < 0 else f"wave {wave['wave'] + 1}"
        figures = "  ".join(f"{state} {wave['states'][state]}" for state in states if state in wave["states"])
        lines.append(f"  {name:<14} {figures}")
    for change in row["changes"]:
        by = f" by {change['by']}" if change["by"] else ""
        text = f": {change['text']}" if change["text"] else ""
        lines.append(f"  {_utc(change['at_ms'])}  {change['event']}{by}{text}")
        lines += [_metric(metric) for metric in (change["verdict"] or {}).get("metrics", [])]
    return "\n".join(lines)


def _metric(metric: dict[str, Any]) -> str:
    from models.gate_words import compared, decided

    return f"      {compared(metric)}\n        {decided(metric)}"


def _station(row: dict[str, Any]) -> str:
    place = f"{row['site']}/{row['station']}"
    reason = f"  {row['reason']}" if row["reason"] else ""
    return (
        f"{_utc(row['at_ms'])}  {place:<32} {row['state']:<12} attempt {row['attempt']}  {row['fw']}{reason}"
    )


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(time_ms / 1000))

"""Which EVSEs need a technician and why; record what was done; export all as CSV or JSON."""

from __future__ import annotations

import argparse
import datetime
import getpass
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from connectors.maintenance_reader import MaintenanceReader
    from models.maintenance import Assessment

_ACTIONS: Final = {
    "due": "EVSEs worth a visit, grouped by site: the riskiest, or all that are due by rule",
    "show": "one EVSE: health and its reasons, wear, what was done",
    "record": "say what was done at an EVSE or station; it goes through the broker into the journal",
    "export": "every EVSE with health, wear and last inspection",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream maintenance``."""
    from models.inspections import WHAT

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in _ACTIONS.items():
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
        if name in {"due", "export"}:
            sub.add_argument("--site", default="", help="only of this site")
        if name in {"due", "show"}:
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "due":
            sub.add_argument("--by-rule", action="store_true", help="all that are due by rule, and no others")
            sub.add_argument("--limit", type=int, help="at most so many (default: [maintenance])")
        if name == "show":
            sub.add_argument("place", metavar="SITE/STATION/EVSE", help="SITE and EVSE if needed")
        if name == "record":
            sub.add_argument("place", metavar="SITE/STATION[/EVSE]", help="without EVSE: the whole station")
            sub.add_argument("--what", choices=tuple(WHAT), default="inspected")
            sub.add_argument("--by", default="", metavar="NAME", help="who did it (default: you)")
            sub.add_argument("--note", nargs="+", default=[], help="words for the history")
            sub.add_argument("--at", metavar="TIME", help="when: 2026-11-25T06:00Z (default: now)")
            sub.add_argument("--dry-run", action="store_true", help="print the request and send nothing")
        if name == "export":
            sub.add_argument("--format", choices=("csv", "json"), default="csv")


def run(args: argparse.Namespace) -> int:
    """Run one action; return the exit code."""
    from connectors.ledger_reader import LedgerReader
    from connectors.maintenance_reader import MaintenanceReader
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    if args.action == "record":
        return _record(config, args)
    ledger = LedgerReader(config.ledger_url())
    try:
        reader = MaintenanceReader(ledger, config.maintenance.rules())
        now_ms = time.time_ns() // 1_000_000
        if args.action == "due":
            _due(reader, now_ms, args)
        elif args.action == "show":
            _show(reader, now_ms, args)
        else:
            _export(reader, now_ms, args)
    finally:
        ledger.close()
    return 0


def _due(reader: MaintenanceReader, now_ms: int, args: argparse.Namespace) -> None:
    from models.maintenance import as_json, visits

    found = reader.assessments(now_ms, site=args.site)
    if args.by_rule:
        found = [one for one in found if one.due]
        chosen = visits(found, args.limit or len(found))
    else:
        chosen = visits(found, args.limit or reader.config.visit_connectors)
    if args.json:
        for one in chosen:
            print(json.dumps(as_json(one)))
        return
    if not chosen:
        print("no EVSE needs a visit")
    site = None
    for one in chosen:
        if one.site != site:
            site = one.site
            print(site)
        _told(one)


def _told(one: Assessment) -> None:
    last = (
        "never inspected" if one.last_inspection_ms is None else f"inspected {_utc(one.last_inspection_ms)}"
    )
    print(f"  {one.station}/{one.evse}  health {one.health}  risk {one.risk:g}  {last}")
    for reason in one.reasons:
        print(f"    {reason.text}")
        if reason.advice:
            print(f"      {reason.advice}")


def _show(reader: MaintenanceReader, now_ms: int, args: argparse.Namespace) -> None:
    from models.maintenance import as_json

    site, station, evse = reader.find(args.place)
    found = reader.assessments(now_ms, site=site)
    one = next(a for a in found if (a.station, a.evse) == (station, evse))
    done = reader.inspections(site=site, station=station, evse=evse)
    if args.json:
        print(json.dumps(as_json(one) | {"inspections": done}))
        return
    print(site)
    _told(one)
    for title, counts in (("in all", one.counts), ("since then", one.since)):
        energy = "unknown" if counts.energy_mwh is None else f"{counts.energy_mwh / 1e6:,.1f} kWh"
        hours = [f"{s / 3600:,.1f} h {what}" for s, what in (
            (counts.use_s, "in use"), (counts.warm_s, "warm"), (counts.hot_s, "hot"),
            (counts.body_hot_s, "cabinet hot"),
        )]  # fmt: skip
        wear = f"{counts.plug_cycles:,} plug cycles, {counts.contactor_operations:,} contactor operations"
        print(f"    {title:<11} {wear}, {energy}, {', '.join(hours)}")
    for row in done:
        print(
            f"    {_utc(row['at_ms'])}  {row['what']} by {row['by']}"
            + (f": {row['note']}" if row["note"] else "")
        )


def _record(config: Any, args: argparse.Namespace) -> int:
    from connectors.ledger_reader import LedgerReader
    from connectors.operator import OperatorDesk
    from models.errors import ConfigError
    from models.inspections import TOPIC, encode_inspection, read_inspection
    from pipeline.ingest import mqtt_settings

    parts = args.place.split("/")
    if len(parts) not in {2, 3} or (len(parts) == 3 and not parts[2].isdecimal()):
        raise ConfigError(f"{args.place!r}: expected SITE/STATION or SITE/STATION/EVSE")
    body: dict[str, Any] = {"site": parts[0], "station": parts[1], "what": args.what}
    body["by"] = args.by or getpass.getuser()
    body["evse"] = int(parts[2]) if len(parts) == 3 else None
    body["note"] = " ".join(args.note) or None
    body["t"] = None if args.at is None else _time_ms(args.at)
    if args.dry_run:
        given = {name: value for name, value in body.items() if value is not None}
        print(f"{TOPIC} {encode_inspection(read_inspection(given)).decode()}")
        return 0
    ledger = LedgerReader(config.ledger_url())
    desk = OperatorDesk(mqtt_settings(config, f"-desk-{time.time_ns():x}"), ledger)
    try:
        done = desk.record(body)
    finally:
        desk.close()
        ledger.close()
    print(f"{args.place}: {done.what} by {done.by}")
    return 0


def _export(reader: MaintenanceReader, now_ms: int, args: argparse.Namespace) -> None:
    from models.maintenance import as_json
    from models.maintenance_csv import csv_lines

    found = reader.assessments(now_ms, site=args.site)
    if args.format == "json":
        for one in found:
            print(json.dumps(as_json(one)))
    else:
        sys.stdout.writelines(csv_lines(found))


def _time_ms(text: str) -> int:
    """Return a time in epoch ms; one without a zone is UTC."""
    from models.errors import ConfigError

    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--at {text!r}: expected a time like 2026-11-25T06:00Z") from error
    return round((when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def _utc(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000))

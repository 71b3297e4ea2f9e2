"""Show managed sites and limits in force, limit a site or an EVSE for a time, say when a vehicle leaves."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream load``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="managed sites now; of one site its EVSEs, too")
    status.add_argument("site", nargs="?", default="", help="only this site")
    limits = actions.add_parser("limits", help="every limit that was in force at a station")
    limits.add_argument("site")
    limits.add_argument("station")
    limits.add_argument("--evse", type=int, help="only this EVSE")
    limits.add_argument("--transaction", default="", metavar="ID", help="only in this transaction")
    for one in (status, limits):
        one.add_argument("--json", action="store_true", help="whole records, one JSON object a line")
    limit = actions.add_parser("limit", help="limit a site, or an EVSE of it, for a time")
    limit.add_argument("site")
    limit.add_argument("limit_a", metavar="AMPERES", type=float, help="per phase; 0 pauses")
    limit.add_argument("--station", default="", help="only this station's EVSE")
    limit.add_argument(
        "--for", dest="span", default="1h", metavar="SPAN", help="30m, 8h, 2d (1h); 0m ends one"
    )
    plan = actions.add_parser("plan", help="say when a vehicle leaves, how much it needs, how urgent it is")
    plan.add_argument("site")
    plan.add_argument("station")
    plan.add_argument("--departure", metavar="TIME", help="2026-11-25T06:00Z")
    plan.add_argument("--energy-kwh", type=float, help="wanted until then")
    plan.add_argument("--priority", type=int, help="0 comes first")
    for one in (limit, plan):
        one.add_argument("--evse", type=int, default=1, help="EVSE of the station (1)")
        one.add_argument("--by", default="", metavar="NAME", help="who wants this (default: you)")
    for one in actions.choices.values():
        one.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")


def run(args: argparse.Namespace) -> int:
    """Show or ask; return the exit code."""
    from pipeline import config as configuration

    config = configuration.load(args.config, os.environ)
    if args.action in ("status", "limits"):
        _read(args, config)
    else:
        _ask(args, config)
    return 0


def _read(args: argparse.Namespace, config: Any) -> None:
    from connectors.ledger_reader import LedgerReader

    reader = LedgerReader(config.ledger_url())
    try:
        if args.action == "limits":
            rows = reader.limits(args.site, args.station, args.evse, args.transaction)
            lines = [json.dumps(row) if args.json else _limit(row) for row in rows]
        else:
            lines = [json.dumps(row) if args.json else _site(row) for row in reader.load_now(args.site)]
            rows = reader.limits_now(args.site) if args.site else []
            lines += [json.dumps(row) if args.json else f"  {_limit(row)}" for row in rows]
    finally:
        reader.close()
    print("\n".join(lines) if lines or args.json else "nothing is managed here, or not since a minute")


def _site(row: dict[str, Any]) -> str:
    phases = " ".join(f"L{p} {row[f'current_l{p}_a']:.0f}/{row[f'limit_l{p}_a']:.0f} A" for p in (1, 2, 3))
    demand = "" if row["demand_limit_kw"] is None else f" of {row['demand_limit_kw']:.1f}"
    return (
        f"{_utc(row['start_ms'])}  {row['site']}  {row['site_kw']:.1f} kW  {phases}  quarter "
        f"{row['projected_kw']:.1f}{demand} kW  charging {row['charging']}, waiting {row['waiting']}, "
        f"lost {row['lost']}"
    )


def _limit(row: dict[str, Any]) -> str:
    amps = "free" if row["limit_a"] is None else f"{row['limit_a']:.1f} A" if row["limit_a"] else "paused"
    return f"{_utc(row['from_ms'])}  {row['station']}/{row['evse']}  {amps}  {row['cause']}"


def _ask(args: argparse.Namespace, config: Any) -> None:
    from connectors.load_desk import LoadDesk
    from pipeline.ingest import mqtt_settings

    now_ms = time.time_ns() // 1_000_000
    body: dict[str, Any] = {"site": args.site, "by": args.by or getpass.getuser(), "evse": args.evse}
    body["station"] = args.station
    if args.action == "limit":
        body |= {"limit_a": args.limit_a, "until_ms": now_ms + _span_ms(args.span)}
    else:
        energy = None if args.energy_kwh is None else args.energy_kwh * 1000
        body |= {"departure_ms": _moment_ms(args.departure), "energy_wh": energy, "priority": args.priority}
    desk = LoadDesk(mqtt_settings(config, f"-load-{time.time_ns():x}"))
    try:
        desk.ask({name: value for name, value in body.items() if value is not None})
    finally:
        desk.close()
    print(f"{args.site}: asked by {body['by']}; chargestream load status {args.site} shows what comes of it")


def _span_ms(span: str) -> int:
    from models.errors import ConfigError

    found = re.fullmatch(r"(\d{1,4})([mhd])", span)
    if not found:
        raise ConfigError(f"--for {span!r}: expected minutes, hours or days such as 30m, 8h, 2d")
    return int(found[1]) * _SECONDS[found[2]] * 1000


def _moment_ms(text: str | None) -> int | None:
    from models.errors import ConfigError

    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--departure {text!r}: expected a time such as 2026-11-25T06:00Z") from error
    if moment.tzinfo is None:
        raise ConfigError(f"--departure {text!r}: expected a time zone, such as a Z at its end")
    return round(moment.timestamp() * 1000)


def _utc(ms: int) -> str:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")

"""Tariffs: check a file, or simulate past sessions under several tariffs."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream tariff``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="say what kind of tariff a file holds and where it departs")
    check.add_argument("file", metavar="FILE", type=Path, help="tariff (JSON)")
    replay = actions.add_parser("simulate", help="revenue, peaks and customers' costs under several tariffs")
    replay.add_argument(
        "--tariff",
        metavar="FILE",
        type=Path,
        action="append",
        required=True,
        help="repeat; the first is the base",
    )
    replay.add_argument(
        "--sessions", metavar="FILE", type=Path, required=True, help="sessions.jsonl of a replay or an export"
    )
    replay.add_argument(
        "--load-profile", metavar="FILE", type=Path, help="intervals.csv: how energy flowed within sessions"
    )
    replay.add_argument(
        "--power-kw", metavar="KW", type=_power, help="without a profile: power until the energy is there"
    )
    replay.add_argument(
        "--prices", metavar="FILE", type=Path, action="append", help="market prices for spot tariffs; repeat"
    )
    replay.add_argument("--time-zone", metavar="ZONE", default="UTC", help="IANA name (UTC)")
    replay.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    return _check(args.file) if args.action == "check" else _simulate(args)


def _check(path: Path) -> int:
    from models.tariffs import read
    from models.tariffs.ocpi import Tariff221, Tariff230, cautions, departures

    data = _json(path)
    for tariff in [read(one) for one in (data if isinstance(data, list) else [data])]:
        print(f"ok: {path}: {type(tariff).__name__} {tariff.id!r} in {tariff.currency}")
        if isinstance(tariff, Tariff221 | Tariff230):
            for words in departures(tariff):
                print(f"departs: {words}")
            for words in cautions(tariff):
                print(f"mind: {words}")
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from connectors.prices import read_price_files
    from models.tariff_simulation import effect, latest, simulate
    from models.tariffs import read

    tariffs = [read(_json(path)) for path in args.tariff]
    sessions = latest(_rows(args.sessions))
    outcomes = simulate(
        tariffs,
        sessions,
        time_zone=args.time_zone,
        profiles=None if args.load_profile is None else _profiles(args.load_profile),
        prices=None if not args.prices else read_price_files(args.prices),
        power_kw=args.power_kw,
    )
    results = [outcome.to_json() | {"effect": effect(outcomes[0], outcome, sessions)} for outcome in outcomes]
    if args.json:
        print(json.dumps({"sessions": len(sessions), "tariffs": results}))
    else:
        print("\n".join(_table(results)))
    return 0


def _table(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        ("tariff", [r["tariff"] for r in results]),
        ("sessions", [str(r["sessions"]) for r in results]),
        ("not priced", [str(sum(r["unpriced"].values())) for r in results]),
        ("energy kWh", [r["energy_kwh"] for r in results]),
        (f"revenue excl. tax {results[0]['currency']}", [r["revenue_excl"] for r in results]),
        (f"revenue incl. tax {results[0]['currency']}", [r["revenue_incl"] for r in results]),
        ("mean per kWh", [r["mean_excl_per_kwh"] or "" for r in results]),
        (
            "highest peak kW",
            [max((p["peak_kw"] for p in r["demand_peaks"]), key=float, default="") for r in results],
        ),
        ("demand charge", [r["demand_charge"] for r in results]),
    ]
    names = ("pay_less", "pay_more", "same", "mean", "median", "p05", "p95", "largest_saving", "largest_rise")
    rows += [
        (f"{name.replace('_', ' ')}, to the first", [str(r["effect"].get(name, "")) for r in results])
        for name in names
    ]
    widths = [max(len(values[i]) for _, values in rows) for i in range(len(results))]
    table = [
        f"{name:32}" + "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=True))
        for name, values in rows
    ]
    reasons = {f"{r['tariff']}: {words}": n for r in results for words, n in r["unpriced"].items()}
    return table + [f"not priced under {words}: {n}" for words, n in reasons.items()]


def _highest(peaks: list[dict[str, Any]]) -> str:
    return max((str(peak["peak_kw"]) for peak in peaks), key=float, default="")


def _power(text: str) -> Decimal:
    try:
        power = Decimal(text)
    except InvalidOperation:
        power = Decimal(0)
    if not (power.is_finite() and power > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no power in kW")
    return power


def _profiles(path: Path) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Return (quarter start, mWh) by EVSE from ``intervals.csv``; the latest revision of a quarter counts."""
    import csv

    from models.errors import ConfigError
    from models.tariffs import exact

    newest: dict[tuple[str, str, str, int], tuple[int, int]] = {}
    try:
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                if row["energy_wh"] == "":
                    continue  # missing is no zero
                key = (row["site"], row["station"], row["evse"], int(row["start"]))
                revision = int(row.get("revision") or 0)
                if key not in newest or revision >= newest[key][0]:
                    newest[key] = (revision, int(exact(row["energy_wh"]) * 1000))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: no intervals.csv: {type(error).__name__}: {error}") from error
    made: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for (site, station, evse, start), (_, energy) in sorted(newest.items()):
        made.setdefault((site, station, evse), []).append((start, energy))
    return made


def _rows(path: Path) -> list[dict[str, Any]]:
    from models.errors import ConfigError
    from models.tariffs import loads

    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows += [loads(line)] if line.strip() else []
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: no JSON: {error}") from error
    return rows


def _json(path: Path) -> Any:
    from models.errors import ConfigError
    from models.tariffs import loads

    try:
        return loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON: {error}") from error

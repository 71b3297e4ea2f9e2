"""Price charging sessions: the cases of a file, or one OCPI CDR; one JSON line each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream price``."""
    parser.add_argument(
        "--case", metavar="FILE", type=Path, help="file of cases; paths in it are relative to it"
    )
    parser.add_argument("--case-id", metavar="ID", help="only this case")
    parser.add_argument("--tariff", metavar="FILE", type=Path, help="OCPI or OCPP 2.1 tariff (JSON)")
    parser.add_argument(
        "--cdr", metavar="FILE", type=Path, help="OCPI CDR (JSON); without --tariff by its own"
    )
    parser.add_argument(
        "--time-zone", metavar="ZONE", default="UTC", help="the CDR's location: IANA name (UTC)"
    )


def run(args: argparse.Namespace) -> int:
    """Price and print; exit code 1 if one of several cases cannot be priced."""
    from models.errors import ConfigError
    from models.pricing_cases import read_cdr

    if (args.case is None) == (args.cdr is None) or (args.case_id and args.case is None):
        raise ConfigError("give either --case FILE [--case-id ID] or --cdr FILE [--tariff FILE]")
    if args.case is not None:
        return _cases(args.case, args.case_id)
    cdr = _load(args.cdr)
    tariffs = None if args.tariff is None else [_load(args.tariff)]
    _show(read_cdr(cdr, tariffs, args.time_zone), stated=cdr.get("total_cost"))
    return 0


def _cases(path: Path, wanted: str | None) -> int:
    from models.errors import ConfigError
    from models.pricing import TariffError
    from models.pricing_cases import read_case

    data = _load(path)
    cases = data.get("cases") if isinstance(data, dict) else data
    if not isinstance(cases, list):
        raise ConfigError(f"{path}: expected an object with a list `cases`")
    chosen = [case for case in cases if wanted is None or case.get("id") == wanted]
    if not chosen:
        known = ", ".join(str(case.get("id")) for case in cases)
        raise ConfigError(f"{path}: no case {wanted!r}; there are {known}")
    failed = 0
    for case in chosen:
        try:
            _show(read_case(case, lambda reference: _referenced(path.parent, reference)))
        except TariffError as error:
            failed = 1
            print(json.dumps({"id": case.get("id"), "error": str(error)}))
    return failed


def _show(prepared: Any, stated: Any = None) -> None:
    from models.pricing import price

    shown = {"id": prepared.id} | price(prepared.tariff, prepared.session).to_json()
    if prepared.remarks:
        shown["remarks"] = prepared.remarks
    if stated is not None:
        shown["stated_total_cost"] = stated
    print(json.dumps(shown, default=float))


def _load(path: Path) -> Any:
    from models.errors import ConfigError
    from models.tariffs import loads

    try:
        return loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON: {error}") from error


def _referenced(folder: Path, reference: str) -> Any:
    """Return what ``path`` or ``path#/json/pointer`` refers to."""
    from models.errors import ConfigError

    name, _, pointer = reference.partition("#")
    data = _load(folder / name)
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            data = data[int(key)] if isinstance(data, list) else data[key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ConfigError(f"{reference}: the pointer leads nowhere at {key!r}") from error
    return data

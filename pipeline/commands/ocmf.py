"""Verify signed meter values, export them for the public transparency software, keep the register of keys.

Exit code of verify: 0 when every transaction is valid under a key that the operator vouches for, 1 when a
signature, a rule or that key is missing or wrong (the JSON says which), 2 for arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.ocmf import KeyRegister, SignedText


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream ocmf``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("verify", help="print a verdict on every record and transaction as JSON")
    export = actions.add_parser("export", help="write the XML container that the public software reads")
    for sub in (check, export):
        sub.add_argument("file", type=Path, help="raw OCMF, XML container, or an OCPI CDR with signed_data")
        sub.add_argument("--public-key", metavar="KEY", help="hex, base64 or PEM, or a file that holds it")
        sub.add_argument("--keys", metavar="FILE", type=Path, help="the operator's keys, TOML or JSON")
        sub.add_argument("--ledger", metavar="URL", help="ledger whose registered keys count as well")
    check.add_argument("--max-power-w", type=float, metavar="W", help="most power of the EVSE")
    check.add_argument("--meter-serial", metavar="SERIAL", default="", help="the meter it must come from")
    check.add_argument(
        "--worst-time", choices=("S", "R", "I", "U"), default="I",
        help="worst state of a clock to accept (default I, informative)",
    )  # fmt: skip
    export.add_argument("--transaction-id", metavar="ID", default="", help="id to write where there is none")
    export.add_argument("--output", metavar="FILE", type=Path, help="default: standard output")
    keys = actions.add_parser("keys", help="add, list or revoke keys in the ledger's register")
    keys.add_argument("operation", choices=("add", "list", "revoke"))
    keys.add_argument("--ledger", metavar="URL", required=True)
    keys.add_argument("--keys", metavar="FILE", type=Path, help="add all of this file")
    keys.add_argument("--serial", help="serial number of the meter")
    keys.add_argument("--public-key", metavar="KEY")
    keys.add_argument("--curve", help="of a bare point")


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; return the exit code."""
    return {"verify": _verify, "export": _export, "keys": _keys}[args.action](args)


def _verify(args: argparse.Namespace) -> int:
    from models.ocmf import Rules, transactions, verify_record, verify_transaction

    signed, keys = _signed(args.file), _register(args)
    rules = Rules(args.worst_time, args.max_power_w, args.meter_serial)
    records = [verify_record(each, keys, index) for index, each in enumerate(signed)]
    verdicts = [verify_transaction(group, rules) for group in transactions(records)]
    shown = [verdict.shown() for verdict in verdicts]
    valid = all(verdict.verdict == "valid" for verdict in verdicts)
    worst = min((v.verdict for v in verdicts), key=("invalid", "review", "unproven", "valid").index)
    print(
        json.dumps(
            {
                "records": [record.shown() for record in records],
                "verdict": worst,
                "transaction": shown[0] if len(shown) == 1 else None,
                "transactions": shown,
            },
            indent=1,
        )
    )
    if worst == "unproven":
        print("chargestream ocmf: no registered key: give --public-key, --keys or --ledger", file=sys.stderr)
    return 0 if valid else 1


def _export(args: argparse.Namespace) -> int:
    import dataclasses

    from connectors.ocmf_files import container
    from models.ocmf import verify_record

    signed, keys = _signed(args.file), _register(args)
    known = []
    for each in signed:
        payload = verify_record(each, keys).payload
        _, found = keys.find(payload.serial if payload else "", None)
        known.append(found[0].spki_hex() if found else "")
    named = [
        each if each.transaction_id else dataclasses.replace(each, transaction_id=args.transaction_id)
        for each in signed
    ]
    text = container(named, known)
    if args.output is None:
        sys.stdout.write(text)
    else:
        # newline: what is signed must not change on its way to the disk
        args.output.write_text(text, encoding="utf-8", newline="")
    return 0


def _signed(path: Path) -> list[SignedText]:
    from connectors.ocmf_files import read_signed
    from models.errors import ConfigError, DecodeError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    try:
        return read_signed(data)
    except DecodeError as error:
        raise DecodeError(error.reason, f"{path}: {error.detail}") from error


def _register(args: argparse.Namespace) -> KeyRegister:
    from connectors.meter_keys import MeterKeys
    from connectors.ocmf_files import read_keys, register

    keys = read_keys(args.keys) if args.keys else []
    if args.ledger:
        ledger = MeterKeys(args.ledger)
        keys += ledger.valid()
        ledger.close()
    return register(keys, _key_text(args.public_key) if args.public_key else "")


def _key_text(given: str) -> str:
    """Return the key itself, or what the file of that name holds."""
    try:
        path = Path(given)
        return path.read_text(encoding="ascii") if len(given) < 256 and path.is_file() else given
    except (OSError, ValueError):
        return given


def _keys(args: argparse.Namespace) -> int:
    import time

    from connectors.meter_keys import MeterKeys
    from connectors.ocmf_files import read_keys
    from models.errors import ConfigError
    from models.ocmf import KeyProblem

    now_ms = time.time_ns() // 1_000_000
    ledger = MeterKeys(args.ledger)
    if args.operation == "list":
        for row in ledger.all():
            print(json.dumps(row))
    elif args.operation == "revoke":
        if not args.serial:
            raise ConfigError("ocmf keys revoke: say which meter, with --serial")
        print(f"{ledger.revoke(args.serial, now_ms)} revoked")
    else:
        given = read_keys(args.keys) if args.keys else []
        if args.serial and args.public_key:
            given.append((args.serial, _key_text(args.public_key), args.curve))
        if not given:
            raise ConfigError("ocmf keys add: give --keys FILE, or --serial and --public-key")
        for serial, text, curve in given:
            try:
                key = ledger.add(serial, text, curve, str(args.keys or "command line"), now_ms)
            except KeyProblem as error:
                raise ConfigError(f"key of meter {serial}: {error}") from error
            print(f"{serial}: {key.curve} {key.fingerprint[:16]}")
    ledger.close()
    return 0

"""Create, list and revoke tokens of the billing API; of a token the ledger keeps only a hash."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

_MS_PER_DAY: Final = 86_400_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream token``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="print a new token, this once")
    create.add_argument("name", help="who will use it")
    create.add_argument(
        "--scope", nargs="+", action="extend", required=True, metavar="SCOPE", help="what it may do"
    )
    create.add_argument(
        "--site", nargs="+", action="extend", metavar="SITE", help="only these sites (default all)"
    )
    create.add_argument("--days", type=float, metavar="N", help="valid so long (default for ever)")
    listing = actions.add_parser("list", help="list tokens, one JSON object a line")
    revoke = actions.add_parser("revoke", help="end a token at once")
    revoke.add_argument("id", help="its token_id")
    for sub in (create, listing, revoke):
        sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
        sub.add_argument("--ledger", metavar="URL", help="instead of the configured ledger")


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; return the exit code."""
    import os
    import time

    from connectors.billing_writer import BillingWriter
    from models.errors import ConfigError
    from pipeline.config import load

    writer = BillingWriter(args.ledger or load(args.config, os.environ).ledger_url())
    now_ms = time.time_ns() // 1_000_000
    try:
        if args.action == "list":
            for row in writer.tokens():
                print(json.dumps(row))
        elif args.action == "revoke":
            if not writer.revoke_token(args.id, now_ms):
                raise ConfigError(f"there is no token {args.id} to revoke: chargestream token list")
            print(f"{args.id} revoked")
        else:
            expires_ms = None if args.days is None else now_ms + int(args.days * _MS_PER_DAY)
            token_id, token = writer.create_token(
                args.name, args.scope, now_ms, sites=args.site, expires_ms=expires_ms
            )
            print(json.dumps({"token_id": token_id, "token": token}))
    finally:
        writer.close()
    return 0

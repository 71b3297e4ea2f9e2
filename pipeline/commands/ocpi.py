"""Invite, list and disconnect partners over OCPI; the token of an invitation lets a partner register."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream ocpi``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    invite = actions.add_parser("invite", help="print a registration token for a partner, this once")
    listing = actions.add_parser("list", help="list partners, one JSON object a line")
    revoke = actions.add_parser("revoke", help="disconnect a partner at once")
    for sub in (invite, revoke):
        sub.add_argument("name", help="our name for the partner")
    for sub in (invite, listing, revoke):
        sub.add_argument("--config", metavar="FILE", type=Path, help="TOML file; without it the defaults")
        sub.add_argument("--ledger", metavar="URL", help="instead of the configured ledger")


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; return the exit code."""
    import os
    import time

    from connectors.billing_writer import BillingWriter
    from connectors.ocpi_store import OcpiStore
    from models.errors import ConfigError
    from pipeline.config import load

    config = load(args.config, os.environ)
    writer = BillingWriter(args.ledger or config.ledger_url())
    store, now_ms = OcpiStore(writer), time.time_ns() // 1_000_000
    try:
        if args.action == "invite":
            token = store.invite(args.name, now_ms)
            url = f"{config.ocpi.public_url.rstrip('/') or 'https://OUR-ADDRESS'}/ocpi/versions"
            print(json.dumps({"name": args.name, "versions_url": url, "token": token}))
        elif args.action == "revoke":
            if not store.revoke(args.name, now_ms):
                raise ConfigError(f"there is no partner {args.name!r} to disconnect: chargestream ocpi list")
            print(f"{args.name} disconnected")
        else:
            for party in store.parties():
                secret = ("token_sha256", "their_token")
                print(json.dumps({name: value for name, value in party.items() if name not in secret}))
    finally:
        writer.close()
    return 0

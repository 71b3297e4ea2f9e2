"""Invite, list and disconnect partners over OCPI; tell the flow anew of the tokens that they pushed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

_PATIENCE_S: Final = 60.0

if TYPE_CHECKING:
    from connectors.ocpi_store import OcpiStore
    from pipeline.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream ocpi``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    invite = actions.add_parser("invite", help="print a registration token for a partner, this once")
    listing = actions.add_parser("list", help="list partners, one JSON object a line")
    revoke = actions.add_parser("revoke", help="disconnect a partner at once")
    tokens = actions.add_parser("tell-tokens", help="tell the flow of every token anew: of a new data folder")
    for sub in (invite, revoke):
        sub.add_argument("name", help="our name for the partner")
    for sub in (invite, listing, revoke, tokens):
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
        elif args.action == "tell-tokens":
            print(f"{_tell(store, config)} tokens told")
        else:
            for party in store.parties():
                secret = ("token_sha256", "their_token")
                print(json.dumps({name: value for name, value in party.items() if name not in secret}))
    finally:
        writer.close()
    return 0


def _tell(store: OcpiStore, config: Config) -> int:
    """Publish every token that partners pushed, over the broker; return how many.

    Raises
    ------
    RetryLater
        If the broker does not take them.
    """
    import time

    import msgspec

    from connectors.mqtt import Publisher
    from models.errors import RetryLater
    from models.outputs import Publish
    from models.partner_tokens import TOPIC, token_message
    from pipeline.ingest import mqtt_settings

    salts = config.token_salts()
    messages = [
        Publish(topic=TOPIC, payload=msgspec.json.encode(token_message(token, last_updated_ms, salts)))
        for token, last_updated_ms in store.tokens()
    ]
    publisher = Publisher(mqtt_settings(config, f"-ocpi-{time.time_ns():x}"))
    try:
        if publisher.publish(messages, _PATIENCE_S):
            raise RetryLater("the broker refused some tokens; see its log, then run it again")
    finally:
        publisher.close()
    return len(messages)

"""Make development certificates: authorities, the broker's certificate, and those of nodes and people."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream pki``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="make the authorities of services and of nodes")
    server = actions.add_parser("server", help="certificate of a broker or web server")
    server.add_argument("host", nargs="+", help="names and addresses by which clients reach it")
    node = actions.add_parser("node", help="certificate of a station or gateway; its name is SITE/NODE")
    node.add_argument("site")
    node.add_argument("node", nargs="+")
    operator = actions.add_parser("operator", help="certificate of a person")
    service = actions.add_parser("service", help="certificate of a program of ours")
    for sub in (operator, service):
        sub.add_argument("name")
    revoke = actions.add_parser("revoke", help="put a certificate on the revocation list")
    revoke.add_argument("certificate", type=Path)
    for sub in (init, server, node, operator, service, revoke):
        sub.add_argument("--pki", metavar="DIR", type=Path, required=True, help="folder of the authorities")
    for sub in (init, server, node, operator, service):
        sub.add_argument("--days", type=int, help="how long it is good (init: 3650, others: 398)")


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says; return the exit code."""
    from connectors.pki import Pki
    from models.errors import ConfigError

    pki = Pki(args.pki)
    if args.action == "revoke":
        pki.revoke(args.certificate)
        print("revoked; tell the broker to read the list: kill -HUP its process")
        return 0
    days = args.days or (3_650 if args.action == "init" else 398)
    if not 1 <= days <= 36_500:
        raise ConfigError(f"--days {days}: expected 1 to 36500")
    if args.action == "init":
        pki.init(days)
        print(f"authorities in {args.pki}; guard ca.key and nodes-ca.key")
    elif args.action == "server":
        print(pki.server(args.host, days))
    elif args.action == "node":
        for name in args.node:
            print(pki.node(args.site, name, days))
    else:
        print(pki.staff(args.name, days))
    return 0

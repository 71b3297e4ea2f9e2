"""Write a mosquitto configuration with TLS and access lists: every node its own topics, commands by us."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream broker-config``."""
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the files")
    parser.add_argument("--pki", metavar="DIR", type=Path, required=True, help="folder of chargestream pki")
    parser.add_argument("--certificate", metavar="FILE", type=Path, required=True, help="of the broker")
    parser.add_argument("--data", metavar="DIR", type=Path, help="of the broker; default: data in --out")
    parser.add_argument("--node-port", type=int, default=8883)
    parser.add_argument("--staff-port", type=int, default=8884)
    parser.add_argument("--node-host", metavar="HOST", default="", help="address for nodes; default: all")
    parser.add_argument(
        "--staff-host", metavar="HOST", default="127.0.0.1", help="for services and operators"
    )
    parser.add_argument("--service", metavar="NAME", action="append", help="account; default: chargestream")
    parser.add_argument(
        "--receiver", metavar="NAME", action="append", default=[], help="account that only reads"
    )
    parser.add_argument("--operator", metavar="NAME", action="append", default=[], help="account of a person")
    parser.add_argument(
        "--service-topic", metavar="FILTER", action="append", default=[], help="more topics for services"
    )
    parser.add_argument("--user", metavar="NAME", default="mosquitto", help="account that mosquitto runs as")


def run(args: argparse.Namespace) -> int:
    """Write the files and print their paths; return the exit code."""
    from connectors.broker_config import BrokerPlan, write

    plan = BrokerPlan(
        pki=args.pki,
        certificate=args.certificate,
        data=args.data or args.out / "data",
        node_port=args.node_port,
        staff_port=args.staff_port,
        node_host=args.node_host,
        staff_host=args.staff_host,
        services=tuple(args.service or ["chargestream"]),
        receivers=tuple(args.receiver),
        operators=tuple(args.operator),
        service_topics=tuple(args.service_topic),
        user=args.user,
    )
    for path in write(plan, args.out):
        print(path)
    return 0

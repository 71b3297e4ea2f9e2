"""Show the whole pipeline at work on a simulated fleet, with its page; needs no server."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.arguments import duration_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``chargestream demo``."""
    parser.add_argument("--for", dest="duration", metavar="60s", type=duration_s, help="stop after this time")
    parser.add_argument("--port", type=int, default=0, help="port of the page (8080 if free, else any)")
    parser.add_argument("--data", metavar="DIR", type=Path, help="keep the data there")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated fleet")
    parser.add_argument(
        "--broker",
        choices=("mosquitto", "embedded"),
        default="mosquitto",
        help="mosquitto where it is installed (the default), or the embedded broker",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; return the exit code."""
    import signal
    import threading

    from pipeline import logs
    from pipeline.demo import DemoOptions, run_demo, to_screen

    logs.setup("demo", "warning", "text")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return run_demo(DemoOptions(args.duration, args.port, args.data, args.seed, args.broker), stop, to_screen)

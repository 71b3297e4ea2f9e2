"""Record messages from a live broker into a message log for replay."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from pipeline.arguments import duration_s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream record``."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file with [mqtt] and routes")
    parser.add_argument(
        "--out", metavar="LOG", type=Path, required=True, help="log to write; .gz or .zst compress it"
    )
    parser.add_argument(
        "--filter", metavar="T", action="append", help="MQTT filter, may be repeated (default: all routes)"
    )
    parser.add_argument(
        "--for", metavar="60s", dest="duration", type=duration_s, help="stop after this time (60s, 5m, 2h)"
    )
    parser.add_argument(
        "--include-retained", action="store_true", help="also record what the broker had retained before"
    )


def run(args: argparse.Namespace) -> int:
    """Record until the time is over, SIGINT or SIGTERM; say how many messages there were."""
    from connectors.msglog import LogWriter
    from connectors.recorder import Recorder
    from pipeline import process
    from pipeline.ingest import mqtt_settings

    config, stop = process.start("record", args.config)
    client_id = f"{config.service.instance}-record-{os.getpid()}"
    link = dataclasses.replace(mqtt_settings(config), client_id=client_id, share_group="")
    filters = tuple(args.filter) if args.filter else link.filters
    with LogWriter(args.out) as log:
        recorder = Recorder(link, filters, log, stop, include_retained=args.include_retained)
        print(f"recording {', '.join(filters)} from {link.host}:{link.port} to {args.out}", file=sys.stderr)
        recorder.run(args.duration)
    left_out = f", {recorder.retained} retained left out" if recorder.retained else ""
    lost = f", connection lost {recorder.gaps} times: the log has gaps" if recorder.gaps else ""
    print(f"{log.messages} messages recorded in {args.out}{left_out}{lost}")
    return 0

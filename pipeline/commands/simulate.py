"""Simulate a charging fleet: publish it over MQTT, or write its message log in fast time."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ConfigError, StorageError
from pipeline.arguments import duration_s

if TYPE_CHECKING:
    from connectors.simulator.config import FleetConfig
    from connectors.simulator.fleet import Fleet

#: Logs start here (2026-06-10T06:00:00Z) unless --start says otherwise: a seed is the same log forever.
LOG_START_MS = 1_781_071_200_000
_STEP_MS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``chargestream simulate``."""
    parser.add_argument("--broker", metavar="HOST:PORT", help="publish in real time to this MQTT broker")
    parser.add_argument("--log", metavar="FILE", type=Path, help="write a message log (.jsonl, .gz, .zst)")
    fleet = parser.add_argument_group("fleet")
    fleet.add_argument("--stations", metavar="N", type=int, default=10, help="stations (default: 10)")
    fleet.add_argument("--evses", metavar="N", type=int, default=0, help="EVSEs a station (default: 1 or 2)")
    fleet.add_argument("--demo", action="store_true", help="the demo's fleet: 60 EVSEs at six sites, lively")
    fleet.add_argument("--seed", metavar="S", type=int, default=1, help="same seed, same fleet (default: 1)")
    fleet.add_argument("--sample", metavar="10s", type=duration_s, default=10.0, help="sample period")
    fleet.add_argument("--batch", metavar="30s", type=duration_s, default=30.0, help="time between messages")
    fleet.add_argument(
        "--heartbeat", metavar="120s", type=duration_s, default=120.0, help="time between heartbeats"
    )
    fleet.add_argument(
        "--step", metavar="10s", type=duration_s, default=10.0, help="longest step of the physics, up to 60s"
    )
    fleet.add_argument("--shape", metavar="ROWSxCHANNELS", help="plain fleet for benchmarks, such as 60x10")
    fault = parser.add_argument_group("faults")
    fault.add_argument(
        "--fault",
        metavar="SPEC",
        action="append",
        default=[],
        help="CODE@STATION[/EVSE][+DELAY][~DURATION][:clear|moderate|subtle], may be repeated",
    )
    fault.add_argument("--truth", metavar="FILE", type=Path, help="write what was injected, as JSON Lines")
    fault.add_argument(
        "--list-faults", action="store_true", help="print the faults and the stations, and end"
    )
    live = parser.add_argument_group("with --broker")
    live.add_argument("--for", metavar="60s", dest="duration", type=duration_s, help="stop after this time")
    live.add_argument("--speed", metavar="X", type=float, default=1.0, help="simulated seconds per second")
    live.add_argument(
        "--rate", metavar="R", type=float, help="load: this many messages a second (see --shape)"
    )
    live.add_argument("--acked", metavar="FILE", type=Path, help="list every message the broker acknowledged")
    live.add_argument(
        "--manners",
        metavar="SHARES",
        default="",
        help="how stations treat commands, such as ignore=0.02,brick=0.01; there are ignore, reject, twice, "
        "slow, forgetful, ignore_limits, reboot_mid_install, brick, old_version, power_loss",
    )
    live.add_argument("--shared", action="store_true", help="one connection for all nodes, wills simulated")
    live.add_argument("--username", default="", help="MQTT user")
    live.add_argument("--password-file", metavar="FILE", type=Path, help="file with the MQTT password")
    fast = parser.add_argument_group("with --log")
    fast.add_argument("--hours", metavar="H", type=float, default=1.0, help="simulated time (default: 1)")
    fast.add_argument("--readings", metavar="N", type=int, help="with --shape: about this many readings")
    fast.add_argument(
        "--start", metavar="MS", type=int, default=LOG_START_MS, help="epoch ms of the first tick"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate; return 1 when the broker did not acknowledge everything."""
    if args.list_faults:
        return _list(args)
    if (args.broker is None) == (args.log is None):
        raise ConfigError("simulate: give either --broker HOST:PORT or --log FILE")
    return _live(args) if args.broker else _log(args)


def _config(args: argparse.Namespace) -> FleetConfig:
    from connectors.simulator import fleets

    if args.demo:
        return fleets.demo_fleet(args.seed)
    if args.shape or args.rate:
        rows, channels = _shape(args.shape or "1x10")
        if args.rate:
            return fleets.bench_fleet(max(1, round(args.rate * rows)), rows=rows, channels=channels)
        evses = min(1000, max(1, (args.readings or 60_000) // (rows * 4)))
        return fleets.bench_fleet(evses, rows=rows, channels=channels)
    fleet = fleets.mixed_fleet(
        args.stations,
        args.seed,
        evses=args.evses,
        sample_s=args.sample,
        batch_s=max(args.batch, args.sample),
        hb_s=args.heartbeat,
    )
    return dataclasses.replace(fleet, step_s=args.step)


def _shape(text: str) -> tuple[int, int]:
    rows, _, channels = text.partition("x")
    if not (rows.isdecimal() and channels.isdecimal()):
        raise ConfigError(f"simulate: --shape {text!r}, expected rows x channels such as 60x10")
    return int(rows), int(channels)


def _fleet(args: argparse.Namespace, start_ms: int) -> Fleet:
    from connectors.simulator.faultspec import FaultSpec
    from connectors.simulator.fleet import Fleet

    specs = [FaultSpec.parse(text) for text in args.fault]
    fleet = Fleet(_config(args), args.seed, start_ms)
    for spec in specs:
        spec.inject(fleet)
    return fleet


def _list(args: argparse.Namespace) -> int:
    from connectors.simulator.faults import FAULTS

    for code, fault in sorted(FAULTS.items()):
        print(f"{code:28} {fault.scope:8} {(fault.__doc__ or '').splitlines()[0]}")
    print()
    for station in _fleet(args, args.start).topology.stations:
        kind = "DC" if station.dc else "AC"
        print(f"{station.station:28} {station.evses} {kind} EVSE, {station.evse_w / 1000:.0f} kW")
    return 0


def _write_truth(args: argparse.Namespace, fleet: Fleet) -> None:
    if args.truth:
        text = "".join(json.dumps(truth.record()) + "\n" for truth in fleet.truth)
        try:
            args.truth.write_text(text)
        except OSError as error:
            raise StorageError(f"truth file {args.truth} cannot be written: {error.strerror}") from error


def _log(args: argparse.Namespace) -> int:
    from connectors.msglog import LogWriter

    fleet = _fleet(args, args.start)
    seconds = args.hours * 3600.0
    if args.readings:
        seconds = args.readings / fleet.topology.n_evses * fleet.topology.nodes[0].sample_s
    end_ms = args.start + int(seconds * 1000)
    with LogWriter(args.log) as log:
        for now_ms in range(args.start, end_ms, _STEP_MS):
            for message in fleet.advance(min(now_ms + _STEP_MS, end_ms) - 1):
                log.write_object(message.t_ms * 1_000_000, message.topic, message.payload)
        for message in fleet.finish():
            log.write_object(message.t_ms * 1_000_000, message.topic, message.payload)
    _write_truth(args, fleet)
    print(
        f"{log.messages} messages of {fleet.topology.n_evses} EVSEs over {seconds / 3600:.2f} h in {args.log}"
    )
    return 0


def _live(args: argparse.Namespace) -> int:
    import signal
    import threading
    import time

    from connectors.simulator.live import LiveOptions, run_live
    from connectors.simulator.manners import parse
    from connectors.simulator.publisher import Broker

    host, _, port = args.broker.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"simulate: --broker {args.broker!r}, expected HOST:PORT such as 127.0.0.1:1883")
    password = ""
    if args.password_file:
        try:
            password = args.password_file.read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"simulate: --password-file {args.password_file} cannot be read: {error.strerror}"
            ) from error
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    fleet = _fleet(args, time.time_ns() // 1_000_000)
    # Boots are counted by the clock: with those of the last run all would be taken for repeats of it.
    fleet.wire.boot = [boot + (fleet.start_ms - LOG_START_MS) // 1000 for boot in fleet.wire.boot]
    nodes = len(fleet.topology.nodes)
    print(f"simulating {fleet.topology.n_evses} EVSEs at {nodes} nodes for {args.broker}", file=sys.stderr)
    options = LiveOptions(
        args.duration or 0.0,
        args.speed,
        5000 if args.rate else 1000,
        False if args.shared or args.rate else None,
        args.acked,
        parse(args.manners),
    )
    result = run_live(fleet, Broker(host, int(port), args.username, password), options, stop)
    _write_truth(args, fleet)
    print(
        f"{result.sent} messages published in {result.wall_s:.1f} s ({result.sent / result.wall_s:.0f}/s), "
        f"{result.acknowledged} acknowledged, {result.unacknowledged} not, "
        f"at most {result.behind_s:.2f} s behind"
    )
    return 1 if result.unacknowledged else 0

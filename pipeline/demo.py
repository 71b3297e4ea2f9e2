"""The demo: an embedded broker, a simulated fleet with two faults, the whole pipeline and the page."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w

from connectors.broker import EmbeddedBroker, start_broker
from connectors.ledger_reader import LedgerReader
from connectors.status import read_status
from models.errors import ChargestreamError, ConfigError
from models.faults import FAULTS

from . import config as configuration
from .supervisor import Child, Supervisor, children

#: The two faults: one that the detectors infer, one that the station reports.
FAULTS_SHOWN: Final = ("over_current@AX01-03/1+10s", "residual_current_trip@EL01-02/1+20s")
EXPECTED: Final = ("over_current", "residual_current_trip")

_DRAIN_S: Final = 20.0
_START_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How the demo runs.

    Attributes
    ----------
    duration_s : float or None
        Stop after this time and sum up; None: until Ctrl-C.
    port : int
        Of the page; 0 = 8080 if it is free, else any free one.
    data_dir : Path or None
        Keep the data there; None: a temporary folder, removed at the end.
    seed : int
    broker : str
        ``mosquitto`` (if installed) or ``embedded``.
    """

    duration_s: float | None = None
    port: int = 0
    data_dir: Path | None = None
    seed: int = 1
    broker: str = "mosquitto"


def run_demo(options: DemoOptions, stop: threading.Event, say: Callable[[str], None]) -> int:
    """Run the demo until its time is over or `stop` is set; return the exit code.

    0 when every message is accounted for and, with a duration, both faults were found.
    """
    folder = options.data_dir or Path(tempfile.mkdtemp(prefix="chargestream-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    say("starting the MQTT broker")
    broker = start_broker(options.broker)
    try:
        say(f"broker: {type(broker).__name__} on {broker.host}:{broker.port}; data in {folder}")
        port = options.port or _free_port(8080)
        settings = _write_config(folder, broker.host, broker.port, port)
        config = configuration.load(settings, {})
        say("starting ingest, worker, egress, page (the first start compiles kernels, up to a minute or two)")
        supervisor = Supervisor(
            children(config, settings),
            folder / "data",
            stop_timeout_s=config.service.stop_timeout_s,
            say=lambda _: None,
        )
        # the simulated stations speak MQTT 3.1.1, for which the embedded broker has a port of its own
        stations = broker.port_311 if isinstance(broker, EmbeddedBroker) else broker.port
        return _watch(supervisor, config, f"{broker.host}:{stations}", options, stop, say)
    finally:
        broker.stop()
        if options.data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def _watch(
    supervisor: Supervisor,
    config: configuration.Config,
    broker: str,
    options: DemoOptions,
    stop: threading.Event,
    say: Callable[[str], None],
) -> int:
    code: list[int] = []
    thread = threading.Thread(target=lambda: code.append(supervisor.run()), name="supervisor")
    thread.start()
    try:
        if not _ready(supervisor, config, stop):
            say("the pipeline did not start; its own messages above say why")
            return 1
        simulator = Child("simulator", _simulator_arguments(broker, options.seed))
        supervisor.members.append(simulator)
        say("60 simulated EVSEs are charging; two of them will show a fault within half a minute")
        say(f"page: http://{config.api.host}:{config.api.port}/   (Ctrl-C stops)")
        stop.wait(options.duration_s)
        say("stopping: the fleet first, then what is still on its way")
        supervisor.remove(simulator)
        _drain(config)
    finally:
        supervisor.stop.set()
        thread.join()
    return max(code, default=1) or _sum_up(config, options, say)


def _simulator_arguments(broker: str, seed: int) -> tuple[str, ...]:
    faults = [part for fault in FAULTS_SHOWN for part in ("--fault", fault)]
    return ("simulate", "--broker", broker, "--demo", "--seed", str(seed), *faults)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no free TCP port on 127.0.0.1")


def _write_config(folder: Path, host: str, mqtt_port: int, port: int) -> Path:
    path = folder / "demo.toml"
    settings: dict[str, Any] = {
        "service": {
            "data_dir": str(folder / "data"),
            "instance": "chargestream-demo",
            "log_level": "warning",
        },
        "mqtt": {"host": host, "port": mqtt_port},
        "journal": {"shards": 4},
        "flow": {"epoch_s": 1.0, "latest_every_s": 1.0},
        "api": {"port": port},
    }
    path.write_text(tomli_w.dumps(settings), encoding="utf-8")
    return path


def _ready(supervisor: Supervisor, config: configuration.Config, stop: threading.Event) -> bool:
    """Wait until ingest is connected, the worker follows the journal and the page answers."""
    data = Path(config.service.data_dir)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and not stop.is_set() and not supervisor.stop.is_set():
        if (
            read_status(data, "ingest").get("connected")
            and read_status(data, "worker-00").get("pid")
            and read_status(data, "egress")
            and _answers(config.api.host, config.api.port)
        ):
            return True
        stop.wait(0.2)
    return False


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _drain(config: configuration.Config) -> None:
    """Wait until the newest accounted message is younger than the end of the fleet."""
    end_ms = time.time_ns() // 1_000_000
    deadline = time.monotonic() + _DRAIN_S
    while time.monotonic() < deadline:
        try:
            if (LedgerReader(config.ledger_url()).closes()["through_ms"] or 0) >= end_ms:
                return
        except ChargestreamError:
            pass  # busy or not made yet
        time.sleep(0.3)


def _sum_up(config: configuration.Config, options: DemoOptions, say: Callable[[str], None]) -> int:
    ledger = LedgerReader(config.ledger_url())
    closing, counts = ledger.closes(), ledger.counts()
    found = Counter(change["code"] for change in ledger.finding_changes() if change["state"] == "raised")
    ledger.close()
    messages, rows = closing["messages"], closing["rows"]
    say(f"messages {messages['total']:,}: decoded {messages['decoded']:,}, dead {messages['dead']}")
    say(f"readings {rows['in']:,} of {counts['evses']} EVSEs, {counts['intervals']} quarter-hour intervals")
    for code, n in sorted(found.items()):
        say(f"finding {n} × {code}: {FAULTS[code].title if code in FAULTS else code}")
    missing = [code for code in EXPECTED if code not in found]
    long_enough = options.duration_s is None or options.duration_s >= 35
    say("the account closes: nothing was lost" if closing["closes"] else "THE ACCOUNT DOES NOT CLOSE")
    if missing and long_enough and options.duration_s is not None:
        say(f"NOT FOUND: {', '.join(missing)}")
        return 1
    return 0 if closing["closes"] else 1


def to_screen(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"demo: {text}\n")
    sys.stdout.flush()

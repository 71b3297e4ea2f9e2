"""The figure that needs the whole service and a broker: from arrival to the finding published.

Needs mosquitto; everything listens on 127.0.0.1.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
import tomli_w
from paho.mqtt.enums import CallbackAPIVersion

from connectors.broker import MosquittoBroker
from connectors.status import read_status
from models.errors import DeliveryError

from . import config as configuration
from .supervisor import Supervisor, children

_STATIONS: Final = 200
_WAIT_S: Final = 180.0
#: One message in this many makes a finding.
_EVERY: Final = 20


def latency(rate: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Return p50 and p99 of publish → finding received, in ms, at `rate` messages a second.

    Real processes: broker, ingest, worker, egress. Most messages are healthy readings; every 20th is a
    station's own fault report, which makes a finding. The sender's and receiver's MQTT hops are included.
    """
    with tempfile.TemporaryDirectory(prefix="chargestream-bench-") as folder, MosquittoBroker() as broker:
        settings = _config(Path(folder), broker)
        config = configuration.load(settings, {})
        members = [child for child in children(config, settings) if child.name != "api"]
        supervisor = Supervisor(members, Path(folder, "data"), say=lambda _: None)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        try:
            _await(lambda: bool(_ready(Path(folder, "data"))))
            say(f"publishing {rate} messages a second for {seconds:.0f} s")
            delays = _Probe(broker.host, broker.port).run(rate, seconds)
        finally:
            supervisor.stop.set()
            thread.join()
    delays.sort()
    return {
        "rate_per_s": rate,
        "findings": len(delays),
        "p50_ms": round(statistics.median(delays) * 1000, 1) if delays else None,
        "p99_ms": round(delays[int(len(delays) * 0.99)] * 1000, 1) if delays else None,
        "max_ms": round(delays[-1] * 1000, 1) if delays else None,
    }


def _config(folder: Path, broker: MosquittoBroker) -> Path:
    path = folder / "bench.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "service": {"data_dir": str(folder / "data"), "log_level": "error"},
                "mqtt": {"host": broker.host, "port": broker.port},
            }
        ),
        encoding="utf-8",
    )
    return path


def _ready(data: Path) -> bool:
    return bool(
        read_status(data, "ingest").get("connected")
        and read_status(data, "worker-00").get("pid")
        and read_status(data, "egress")
    )


def _await(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not done():
        if time.monotonic() > deadline:
            raise DeliveryError(f"bench: the pipeline was not ready within {_WAIT_S:.0f} s")
        time.sleep(0.1)


class _Probe:
    """Sends readings and fault reports, and takes the time until each finding comes back."""

    def __init__(self, host: str, port: int) -> None:
        self._sent: dict[str, float] = {}
        self._delays: list[float] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(20_000)
        self._client.on_message = self._receive
        self._client.connect(host, port)
        self._client.loop_start()
        self._client.subscribe("evt/v1/+/+/finding", 1)
        self._seq = [0] * _STATIONS

    def _receive(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        now = time.perf_counter()
        finding = msgspec.json.decode(message.payload)
        sent = self._sent.pop(f"{finding['station']}/{finding['evse']}", None)
        if finding["state"] == "raised" and sent is not None:
            self._delays.append(now - sent)

    def run(self, rate: int, seconds: float) -> list[float]:
        """Return the delays in seconds."""
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            ahead = began + number / rate - time.perf_counter()
            if ahead > 0.001:
                time.sleep(ahead)
            station = number % _STATIONS
            if number % _EVERY == 0 and number > rate:
                self._fault(station, number)
            else:
                self._reading(station)
        deadline = time.monotonic() + 10
        while self._sent and time.monotonic() < deadline:
            time.sleep(0.05)
        self._client.disconnect()
        self._client.loop_stop()
        return self._delays

    def _publish(self, station: int, kind: str, body: dict[str, Any]) -> None:
        self._seq[station] += 1
        head = {"v": 1, "boot": 1, "seq": self._seq[station]}
        topic = f"evt/v1/S{station % 10}/N{station:04d}/up/{kind}"
        self._client.publish(topic, msgspec.json.encode(head | body), qos=1)

    def _reading(self, station: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        channels = ["Voltage@L1-N", "Current.Import@L1", "Power.Active.Import"]
        rows = [[0, 230.1, 0.0, 0.0]]
        self._publish(station, "meter", {"series": [{"evse": 1, "t0": now_ms, "ch": channels, "rows": rows}]})

    def _fault(self, station: int, number: int) -> None:
        item = {
            "evse": number,  # another EVSE each time: every report raises a finding of its own
            "t": time.time_ns() // 1_000_000,
            "eventId": str(number),
            "code": "CX008",
            "taxonomy": "mrec",
        }
        self._sent[f"N{station:04d}/{number}"] = time.perf_counter()
        self._publish(station, "event", {"items": [item]})

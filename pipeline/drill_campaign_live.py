"""Simulated stations over MQTT for the campaign drill: all of them on one connection, in real time."""

from __future__ import annotations

import heapq
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from models.topics import ROOT

from .drill_campaign_stations import NEW, OLD

_QUIET_S: Final = 2.0
#: Most births a second: a fleet does not come back all at once.
_BIRTHS_PER_S: Final = 800


@dataclass(slots=True)
class LiveStation:
    """One station; `kind` decides what becomes of an update."""

    site: str
    name: str
    kind: str
    fw: str = OLD
    boot: int = 1
    seq: int = 0
    charging: bool = False
    online: bool = True
    installs: int = 0
    while_charging: int = 0
    tx: int = 0
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)


class LiveFleet:
    """Stations that answer ``dn/cmd``; everything they do happens in one thread."""

    def __init__(self, stations: int, rng: random.Random, host: str, port: int) -> None:
        kinds = ["failing"] * round(stations * 0.02)
        kinds += ["bricked"] * round(stations * 0.01) + ["silent"] * round(stations * 0.01)
        kinds += ["good"] * (stations - len(kinds))
        rng.shuffle(kinds)
        self.stations = {
            (f"site-{i % 40:02d}", f"cs-{i:05d}"): LiveStation(f"site-{i % 40:02d}", f"cs-{i:05d}", kind)
            for i, kind in enumerate(kinds)
        }
        self.commands = self.again = self.refused = 0
        self._rng, self._at = rng, (host, port)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0
        self._heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._busy_until = time.monotonic() + _QUIET_S
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"drill-fleet-{time.time_ns():x}")
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(200)
        self._client.on_message = lambda _c, _u, m: self._heard.put((m.topic, bytes(m.payload)))
        self._thread = threading.Thread(target=self._run, name="fleet")

    def start(self) -> None:
        """Connect, and let every station be born; some have a car."""
        self._client.connect(*self._at)
        self._client.subscribe(f"{ROOT}/+/+/dn/cmd", qos=1)
        self._client.loop_start()
        for number, station in enumerate(self.stations.values()):
            self._later(number / _BIRTHS_PER_S, self._birth, station)
            if self._rng.random() < 0.15:
                self._later(number / _BIRTHS_PER_S + 1.0, self._plug, station)
        self._busy_until = time.monotonic() + len(self.stations) / _BIRTHS_PER_S + _QUIET_S
        self._thread.start()

    def stop(self) -> None:
        """Disconnect."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def idle(self) -> bool:
        """Return whether all births left."""
        return time.monotonic() > self._busy_until

    def _later(self, delay_s: float, do: Callable[..., None], *about: Any) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time.monotonic() + delay_s, self._serial, do, about))

    def _run(self) -> None:
        while not self._stop.is_set():
            while self._events and self._events[0][0] <= time.monotonic():
                _, _, do, about = heapq.heappop(self._events)
                do(*about)
            try:
                topic, payload = self._heard.get(timeout=0.02)
            except queue.Empty:
                continue
            self._command(topic, payload)

    def _publish(
        self, station: LiveStation, kind: str, body: dict[str, Any], *, numbered: bool = True
    ) -> None:
        told: dict[str, Any] = {"v": 1, "boot": station.boot}
        if numbered:
            station.seq += 1
            told["seq"] = station.seq
        topic = f"{ROOT}/{station.site}/{station.name}/up/{kind}"
        self._client.publish(topic, msgspec.json.encode(told | body), qos=1)

    def _birth(self, station: LiveStation) -> None:
        station.online = True
        body = {
            "online": True,
            "cid": 1,
            "vendor": "Volta",
            "model": "V2",
            "fw": station.fw,
            "proto": "ocpp2.0.1",
        }
        self._publish(station, "conn", body, numbered=False)

    def _tx(self, station: LiveStation, event: str, state: str) -> None:
        item = {
            "evse": 1,
            "t": _now(),
            "txId": f"{station.name}-{station.tx}",
            "seqNo": 0 if event == "Started" else 1,
            "eventType": event,
            "triggerReason": "CablePluggedIn" if event == "Started" else "EVDeparted",
            "chargingState": state,
            "reg_wh": 1000.0 * station.tx,
        }
        self._publish(station, "tx", {"items": [item]})

    def _plug(self, station: LiveStation) -> None:
        if not station.online:
            return
        station.charging, station.tx = True, station.tx + 1
        self._tx(station, "Started", "Charging")
        self._later(self._rng.uniform(30.0, 90.0), self._unplug, station)

    def _unplug(self, station: LiveStation) -> None:
        if station.charging and station.online:
            station.charging = False
            self._tx(station, "Ended", "Idle")

    def _command(self, topic: str, payload: bytes) -> None:
        _, _, site, name, *_ = topic.split("/")
        station = self.stations.get((site, name))
        body = msgspec.json.decode(payload)
        if station is None or body.get("action") != "UpdateFirmware":
            return
        self.commands += 1
        if station.kind == "silent" or not station.online or body["expires"] < _now():
            return
        known = station.answered.get(body["cmdId"])
        if known is not None:
            self.again += 1
            self._publish(station, "cmdres", known)
            return
        answer: dict[str, Any] = {"cmdId": body["cmdId"], "st": name, "t": _now(), "status": "Accepted"}
        if station.charging:
            self.refused += 1
            answer |= {"status": "Rejected", "statusInfo": {"reasonCode": "TxInProgress"}}
        station.answered[body["cmdId"]] = answer
        self._publish(station, "cmdres", answer)
        if answer["status"] == "Accepted":
            self._later(0.5 + self._rng.random(), self._fetch, station, body["payload"]["requestId"])

    def _status(self, station: LiveStation, request: int, status: str) -> None:
        self._publish(station, "fw", {"t": _now(), "requestId": request, "status": status})

    def _fetch(self, station: LiveStation, request: int) -> None:
        self._status(station, request, "Downloading")
        self._later(1.0 + 2.0 * self._rng.random(), self._install, station, request)

    def _install(self, station: LiveStation, request: int) -> None:
        if station.charging:
            self._later(2.0, self._install, station, request)
            return
        for status in ("Downloaded", "SignatureVerified", "Installing"):
            self._status(station, request, status)
        if station.kind == "failing":
            self._later(1.0, self._status, station, request, "InstallationFailed")
            return
        station.installs += 1
        station.while_charging += station.charging
        station.online = False
        self._publish(station, "conn", {"online": False, "cid": 1}, numbered=False)
        if station.kind == "good":
            self._later(2.0 + 3.0 * self._rng.random(), self._back, station, request)

    def _back(self, station: LiveStation, request: int) -> None:
        station.fw, station.boot, station.seq = NEW, station.boot + 1, 0
        self._birth(station)
        self._status(station, request, "Installed")


def _now() -> int:
    return time.time_ns() // 1_000_000

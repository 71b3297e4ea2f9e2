"""From an imported image to the station that runs it: a real broker, a real file server, signed addresses."""

from __future__ import annotations

import hashlib
import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import paho.mqtt.client as mqtt
import pytest
import tomli_w
from paho.mqtt.enums import CallbackAPIVersion

from connectors.broker import MosquittoBroker
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from models._firmware_signatures import check_signature
from models.campaigns import STEP_MS, CampaignBook
from models.firmware_urls import Grant, url_of
from models.outputs import Publish
from pipeline import cli
from tests.servers import require
from tests.servers.ingesting import Message, ingesting, journaled, settings, wait_for

from ._firmware_repo import DATA, VERSION, now_ms
from .test_firmware_http import SECRET, Served

OLD = "1.9.0"


class Station:
    """A station that fetches by HTTP what a command names, checks it, installs it, and is born anew."""

    def __init__(self, site: str, name: str, port: int) -> None:
        self.site, self.name, self.boot, self.fw = site, name, 1, OLD
        self.commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{site}-{name}")
        self._client.on_message = lambda _c, _u, m: self.commands.put(json.loads(m.payload))
        self._subscribed = False
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"evt/v1/{site}/{name}/dn/cmd", qos=1)
        wait_for(lambda: self._subscribed, "the subscription")
        self.birth()

    def say(self, kind: str, body: dict[str, Any]) -> None:
        told = {"v": 1, "boot": self.boot} | body
        self._client.publish(f"evt/v1/{self.site}/{self.name}/up/{kind}", json.dumps(told), qos=1)

    def birth(self) -> None:
        about = {"online": True, "vendor": "Acme", "model": "W22", "fw": self.fw, "proto": "ocpp2.0.1"}
        self.say("conn", about)

    def obey(self) -> httpx.Response:
        """Do one update; return the answer of the file server."""
        command = self.commands.get(timeout=5)
        assert command["action"] == "UpdateFirmware"
        self.say("cmdres", {"cmdId": command["cmdId"], "st": self.name, "t": now_ms(), "status": "Accepted"})
        wanted = command["payload"]["firmware"]
        answer = httpx.get(wanted["location"], timeout=5)
        assert answer.status_code == 200
        certificate, signature = wanted["signingCertificate"], wanted["signature"]
        check_signature("image", certificate, signature, "ecdsa-sha256", answer.content)
        self.boot, self.fw = self.boot + 1, VERSION
        self.birth()
        return answer

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "images")
    yield made
    made.close()


def written(folder: Path, served: Served, port: int, **more: Any) -> list[str]:
    """Write the configuration of an operator's machine; return the arguments that name it."""
    root = folder / "root.json"
    root.write_bytes(served.kept.pinned)
    firmware = {"repository": str(served.kept.folder), "root_file": str(root)} | more
    table = {"service": {"data_dir": str(folder / "data")}, "mqtt": {"port": port}, "firmware": firmware}
    path = folder / "operator.toml"
    path.write_text(tomli_w.dumps(table))
    return ["--config", str(path)]


def plan_file(folder: Path, **more: Any) -> str:
    path = folder / "plan.toml"
    path.write_text(tomli_w.dumps({"id": "spring", "gate": {"enabled": False}} | more))
    return str(path)


class Control:
    """The control shard's campaigns over the journal: takes in what is new, sends what they ask."""

    def __init__(self, served: Served, config: Any, port: int) -> None:
        def locate(image: str, campaign: str, site: str, station: str, until_ms: int) -> str:
            return url_of(served.base, Grant(image, campaign, site, station, until_ms), SECRET)

        self.book = CampaignBook(None, locate, hosts=())
        self.told: list[tuple[str, str]] = []
        self.ahead_ms = 0  # every look is a step of the book's clock
        self._config, self._taken = config, set[Message]()
        self._publisher = Publisher(MqttSettings("127.0.0.1", port, "control", connect_timeout_s=2.0))

    def step(self) -> None:
        found = journaled(self._config)
        self.ahead_ms += STEP_MS
        now = now_ms() + self.ahead_ms
        for message in sorted(set(found) - self._taken, key=lambda one: one.recv_ns):
            _, _, site, node, *rest = message.topic.split("/")
            body = json.loads(message.payload)
            if site == "_op":
                self.book.operator(body, now)
            elif rest == ["up", "conn"]:
                seen = {"site": site, "station": node, "order": len(self._taken), "boot": body["boot"]}
                self.book.seen(
                    "station", seen | {n: body[n] for n in ("online", "vendor", "model", "fw")}, now
                )
            self._taken.add(message)
        self.book.advance(now)
        out = self.book.drain()
        self.told += [(row.event, row.text) for row in out.campaigns]
        for ask in out.asks:
            body = {"v": 1, "cmdId": ask.cause, "st": ask.station, "action": ask.command, "payload": ask.body}
            body |= {"issued": now, "expires": ask.expires_ms}
            topic = f"evt/v1/{ask.site}/{ask.station}/dn/cmd"
            assert not self._publisher.publish([Publish(topic=topic, payload=msgspec.json.encode(body))])

    def until(self, event: str, done: Callable[[], bool] | None = None) -> None:
        def seen() -> bool:
            self.step()
            return done() if done else event in [name for name, _ in self.told]

        wait_for(seen, event)

    def close(self) -> None:
        self._publisher.close()


@pytest.mark.server
def test_an_image_goes_by_its_id_to_a_station_that_checks_it(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        at = written(tmp_path, served, broker.port)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            control, station = Control(served, config, broker.port), Station("depot", "CP1", broker.port)
            try:
                plan = plan_file(tmp_path, image=served.image.image_id)
                for words, event in (
                    (["create", plan, "--by", "ann"], "create"),
                    (["approve", "spring", "--by", "ann"], "refused"),
                    (["approve", "spring", "--by", "bob"], "approve"),
                    (["start", "spring", "--by", "ann"], "start"),
                ):
                    assert cli.main(["campaign", *words, *at]) == 0
                    control.until(event)
                began = time.monotonic()
                control.until("the command", lambda: not station.commands.empty())
                answer = station.obey()
                control.until("drained")
            finally:
                station.close()
                control.close()
    assert (
        hashlib.sha256(answer.content).hexdigest() == served.image.sha256 == hashlib.sha256(DATA).hexdigest()
    )
    run = control.book.runs["spring"]
    assert (run.state, run.members.counts()) == ("finished", {"succeeded": 1})
    assert time.monotonic() - began < 10.0
    # the address was the station's own, for this campaign, and for a time
    address = httpx.URL(str(answer.request.url))
    assert dict(address.params) | {"e": "", "m": ""} == {
        "c": "spring",
        "n": "depot",
        "s": "CP1",
        "e": "",
        "m": "",
    }
    assert 7000 < int(address.params["e"]) - now_ms() / 1000 < 7201 + control.ahead_ms / 1000
    for change in ({"s": "CP2"}, {"n": "mall"}, {"c": "winter"}, {"e": str(int(address.params["e"]) + 1)}):
        assert httpx.get(address.copy_merge_params(change)).status_code == 403
    late = Grant(served.image.image_id, "spring", "depot", "CP1", now_ms() - 2000)
    assert httpx.get(url_of(served.base, late, SECRET)).status_code == 403
    capsys.readouterr()


FOREIGN = "https://elsewhere.example/{station}.bin"


@pytest.mark.parametrize(
    ("hosts", "location", "refused"),
    [
        ([], FOREIGN, True),
        (["firmware.example"], FOREIGN, True),
        (["elsewhere.example"], FOREIGN, False),
        (["*.example"], FOREIGN, False),
        (["*"], "https://{site}/x.bin", True),
        (["elsewhere.example"], "https://elsewhere.example@evil.example/x", True),
        (["*"], "no address", True),
    ],
)
def test_a_foreign_address_is_refused_unless_its_host_is_known(
    served: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    hosts: list[str],
    location: str,
    refused: bool,
) -> None:
    at = written(tmp_path, served, 1, foreign_hosts=hosts)
    plan = plan_file(tmp_path, image=served.image.image_id, location=location)
    assert (cli.main(["campaign", "create", plan, "--check", *at]) != 0) is refused
    told = capsys.readouterr()
    assert ("firmware.foreign_hosts" in told.err) is refused
    # and who comes past the command line is told the same
    book = CampaignBook(None, lambda *_: "", hosts=tuple(hosts))
    image = msgspec.to_builtins(served.image)
    book.operator(
        {"action": "create", "id": "x", "by": "eve", "image": image, "location": location}, now_ms()
    )
    (row,) = book.drain().campaigns
    assert (row.event == "refused", "foreign_hosts" in row.text) == (refused, refused)

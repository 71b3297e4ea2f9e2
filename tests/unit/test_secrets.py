"""No secret gets into a log line, a page, the journal or any other file, whatever goes wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from connectors.broker import MosquittoBroker
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from models.errors import RetryLater
from models.outputs import Publish
from models.secret import Secret
from pipeline import cli
from pipeline.config import load
from pipeline.ingest import mqtt_settings
from tests.servers import free_port, require
from tests.servers.ingesting import wait_for

from ._firmware_repo import Kept
from ._processes import Running

MQTT, WRONG, INFLUX, URL, NOTIFY, MAIL, GROUP, BASIC, LEDGER = (
    f"{name}-{'z' * 30}"
    for name in ("mqtt", "wrong", "influx", "url", "notify", "mail", "group", "basic", "ledger")
)
PAGES = (
    "/", "/live", "/health", "/metrics", "/api/v1/evses", "/api/v1/dead", "/api/openapi.json",
    "/api/v1/sessions", "/api/v1/findings", "/nowhere",
)  # fmt: skip


def settings(folder: Path, kept: Kept, broker: MosquittoBroker, api: int, images: int) -> Path:
    """Write a configuration with a secret of every kind: by file, by environment, and in plain text."""
    (folder / "mqtt").write_text(MQTT)
    (folder / "pin.json").write_bytes(kept.pinned)
    (folder / "var").mkdir()
    path = folder / "c.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "service": {"data_dir": str(folder / "var"), "log_level": "debug"},
                "mqtt": {
                    "port": broker.port, "username": "us", "password": f"file:{folder / 'mqtt'}",
                    "share_group": "env:GROUP",
                },
                "journal": {"shards": 2, "min_free_mib": 1},
                "influx": {"enabled": True, "url": f"http://127.0.0.1:{free_port()}", "token": INFLUX},
                "api": {"port": api},
                "notify": {
                    "routes": {
                        "night": {"url": f"jsons://us:{NOTIFY}@127.0.0.1:1/"},
                        "mail": {"url": f"mailtos://us:{MAIL}@mail.example?to=a@b.example"},
                    }
                },
                "ledger": {"password": LEDGER},
                "firmware": {
                    "enabled": True, "chunks_enabled": True, "port": images, "url_secret": "env:URL_SECRET",
                    "repository": str(kept.folder), "root_file": str(folder / "pin.json"),
                    "online_keys_dir": str(kept.online.folder), "public_url": "https://fw.example",
                },
            }
        )
    )  # fmt: skip
    return path


def ask(url: str, token: str) -> str:
    """Return what a page answers, head and body, refusals as well."""
    request = urllib.request.Request(url, headers={"Authorization": f"Token {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"{answer.headers}{answer.read().decode(errors='replace')}"
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.headers}{error.read().decode(errors='replace')}"


def said(*words: str) -> str:
    """Run a command; return all that it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        cli.main(list(words))
    return out.getvalue()


def wishes(password: Any) -> dict[str, Any]:
    """Return a request to give a station a password, or something wrong instead of one."""
    setting = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    body = {"setVariableData": [setting | {"attributeValue": password}]}
    request = {"id": "p", "site": "S", "station": "N", "command": "SetVariables", "body": body}
    return request | {"by": "kim", "expires_s": 60.0}


PARTS = (("ingest",), ("egress",), ("api",), ("firmware", "serve"))
PHRASE, STATION = "phrase-" + "z" * 30, "station-" + "z" * 30


def exercise(folder: Path, kept: Kept, broker: MosquittoBroker) -> tuple[list[str], set[str]]:
    """Run every part, let much go right and wrong; return what was shown, and more secrets."""
    api, images = free_port(), free_port()
    config = settings(folder, kept, broker, api, images)
    (folder / "wrong").write_text(WRONG)
    wrong = folder / "wrong.toml"
    wrong.write_text(config.read_text().replace(str(folder / "mqtt"), str(folder / "wrong")))
    ours = ("--config", str(config))
    token = json.loads(said("token", "create", "tester", "--scope", "intervals", *ours))["token"]
    (image,) = kept.repo.images()
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(Running(folder / f"{number}.log", *part, *ours))
            for number, part in enumerate(PARTS)
        ]
        wait_for(lambda: _answers(api) and _answers(images), "both servers", 60)
        with pytest.raises(RetryLater, match="refused the login") as refused:
            Publisher(mqtt_settings(load(wrong, os.environ))).publish([Publish(topic="t", payload=b"")])
        login = MqttSettings("127.0.0.1", broker.port, "st", username="station", password=Secret(STATION))
        publisher = Publisher(login)
        body = {"image": image.image_id, "offset": 0, "length": 10, "token": "c=1"}
        for topic in ("evt/v1/S/N/up/conn", "evt/v1/S/N/up/fwreq", "evt/v1/_op/command"):
            assert publisher.publish([Publish(topic=topic, payload=json.dumps(body).encode())]) == []
        for wish in (json.dumps(wishes(BASIC)), json.dumps(wishes([BASIC])), json.dumps(wishes(BASIC))[1:]):
            assert publisher.publish([Publish(topic="evt/v1/_op/command", payload=wish.encode())]) == []
        publisher.close()
        url = said("firmware", "url", image.image_id, "--site", "S", "--station", "N", *ours).strip()
        base, query = f"http://127.0.0.1:{images}", url.partition("?")[2]
        pages = [ask(f"http://127.0.0.1:{api}{page}", token) for page in PAGES]
        pages += [
            ask(url.replace("https://fw.example", base), token),
            ask(f"{base}/firmware/x?{query}", token),
        ]
        pages += [Path(f"/proc/{each.process.pid}/cmdline").read_text() for each in running]
        for process in running:
            process.process.terminate()  # all at once, then waited for one by one
    shown = [said("config", "--show", str(config)), said("check-config", str(config))]
    shown += [said("firmware", action, *ours) for action in ("show", "list", "verify")]
    shown.append(
        said("journal", "export", "--data", str(folder / "var"), "--out", str(folder / "export.jsonl"))
    )
    assert any(re.search(r"token = .\*{8}", text) for text in shown)
    assert any("chargestream_firmware_downloads_completed" in page for page in pages)
    return [*pages, *shown, str(refused.value)], {token, query.rpartition("m=")[2]}


@pytest.mark.server
def test_no_secret_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mosquitto")
    monkeypatch.setenv("URL_SECRET", URL)
    monkeypatch.setenv("GROUP", GROUP)
    kept = Kept(tmp_path / "kept", passphrase=PHRASE)
    image = kept.add()
    with MosquittoBroker(users={"us": MQTT, "station": STATION}) as broker:
        shown, secrets = exercise(tmp_path, kept, broker)
    secrets |= {MQTT, WRONG, INFLUX, URL, NOTIFY, MAIL, GROUP, BASIC, LEDGER, PHRASE, STATION}
    for path in (*kept.offline.folder.iterdir(), *kept.online.folder.iterdir()):
        secrets |= set(path.read_text().splitlines()[1:-1])
    places = {f"shown {number}": text.encode() for number, text in enumerate(shown)}
    folders = (tmp_path.glob("*.log"), tmp_path.glob("export*"), (tmp_path / "var").rglob("*"))
    files = [path for found in (*folders, kept.folder.rglob("*")) for path in found if path.is_file()]
    places |= {str(path): path.read_bytes() for path in files}
    leaks = {(where, s[:12]) for where, blob in places.items() for s in secrets if s.encode() in blob}
    # A station's password has to be in the journal, of which we keep what came, and in nothing else.
    assert {(where, s) for where, s in leaks if s != BASIC[:12] or "journal.db" not in where} == set()
    # The places are the right ones: what is no secret is there.
    assert b"connected to MQTT broker" in places[str(tmp_path / "0.log")]
    assert image.image_id.encode() in places[str(tmp_path / "3.log")]
    exported = (tmp_path / "export.jsonl").read_text()
    assert "fwreq" in exported
    assert exported.count("BasicAuthPassword") == 2


def _answers(port: int) -> bool:
    try:
        ask(f"http://127.0.0.1:{port}/health", "none")
    except OSError:
        return False
    return True

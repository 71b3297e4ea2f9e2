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

MQTT, WRONG, INFLUX, URL, NOTIFY = (
    f"{name}-{'z' * 30}" for name in ("mqtt", "wrong", "influx", "url", "notify")
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
                "mqtt": {"port": broker.port, "username": "us", "password": f"file:{folder / 'mqtt'}"},
                "journal": {"shards": 2, "min_free_mib": 1},
                "influx": {"enabled": True, "url": f"http://127.0.0.1:{free_port()}", "token": INFLUX},
                "api": {"port": api},
                "notify": {"routes": {"night": {"url": f"jsons://us:{NOTIFY}@127.0.0.1:1/"}}},
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


@pytest.mark.server
def test_no_secret_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("mosquitto")
    kept = Kept(tmp_path / "kept", passphrase="phrase-" + "z" * 30)
    image = kept.add()
    monkeypatch.setenv("URL_SECRET", URL)
    api, images = free_port(), free_port()
    with MosquittoBroker(users={"us": MQTT, "station": "pw-" + "z" * 30}) as broker:
        config = settings(tmp_path, kept, broker, api, images)
        wrong = tmp_path / "wrong.toml"
        (tmp_path / "wrong").write_text(WRONG)
        wrong.write_text(config.read_text().replace(str(tmp_path / "mqtt"), str(tmp_path / "wrong")))
        token = json.loads(
            said("token", "create", "tester", "--scope", "intervals", "--config", str(config))
        )["token"]
        parts = (("ingest",), ("egress",), ("api",), ("firmware", "serve"), ("firmware", "serve-chunks"))
        with contextlib.ExitStack() as stack:
            for number, part in enumerate(parts):
                stack.enter_context(Running(tmp_path / f"{number}.log", *part, "--config", str(config)))
            for port, path in ((api, "/health"), (images, "/health")):
                wait_for(lambda port=port, path=path: _answers(port, path), path, 60)  # type: ignore[misc]
            with pytest.raises(RetryLater, match="refused the login") as refused:
                Publisher(mqtt_settings(load(wrong, os.environ))).publish([Publish(topic="t", payload=b"")])
            publisher = Publisher(
                MqttSettings(
                    "127.0.0.1", broker.port, "st", username="station", password=Secret("pw-" + "z" * 30)
                )
            )
            body = {"image": image.image_id, "offset": 0, "length": 10, "token": "c=1"}
            for topic in ("evt/v1/S/N/up/conn", "evt/v1/S/N/up/fwreq", "evt/v1/_op/command"):
                assert publisher.publish([Publish(topic=topic, payload=json.dumps(body).encode())]) == []
            publisher.close()
            url = said(
                "firmware", "url", image.image_id, "--site", "S", "--station", "N", "--config", str(config)
            ).strip()
            query = url.partition("?")[2]
            pages = [ask(f"http://127.0.0.1:{api}{page}", token) for page in PAGES]
            for address in (
                url.replace("https://fw.example", f"http://127.0.0.1:{images}"),
                f"http://127.0.0.1:{images}/firmware/x?{query}",
            ):
                pages.append(ask(address, token))
        shown = said("config", "--show", str(config)) + said("check-config", str(config))
        shown += said("firmware", "show", "--config", str(config)) + said(
            "firmware", "list", "--config", str(config)
        )
        shown += said(
            "journal", "export", "--data", str(tmp_path / "var"), "--out", str(tmp_path / "export.jsonl")
        )
    mac = query.rpartition("m=")[2]
    keys = [
        line
        for path in (*kept.offline.folder.iterdir(), *kept.online.folder.iterdir())
        for line in path.read_text().splitlines()[1:-1]
    ]
    secrets = {MQTT, WRONG, INFLUX, URL, NOTIFY, "phrase-" + "z" * 30, "pw-" + "z" * 30, token, mac, *keys}
    places = {f"page {number}": text.encode() for number, text in enumerate(pages)} | {
        "commands": f"{shown}{refused.value}".encode()
    }
    ours = [
        *tmp_path.glob("*.log"),
        *tmp_path.glob("export*"),
        *(tmp_path / "var").rglob("*"),
        *kept.folder.rglob("*"),
    ]
    places |= {str(path): path.read_bytes() for path in ours if path.is_file()}
    found = {
        (place, secret[:12])
        for place, blob in places.items()
        for secret in secrets
        if secret.encode() in blob
    }
    assert found == set()
    # The places are the right ones: what is no secret is there.
    assert b"connected to MQTT broker" in places[str(tmp_path / "0.log")]
    assert image.image_id.encode() in places[str(tmp_path / "3.log")]
    assert "fwreq" in (tmp_path / "export.jsonl").read_text()
    assert re.search(r"token = .\*{8}", shown)
    assert "chargestream_" in pages[3]


def _answers(port: int, path: str) -> bool:
    try:
        ask(f"http://127.0.0.1:{port}{path}", "none")
    except OSError:
        return False
    return True

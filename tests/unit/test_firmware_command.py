"""``chargestream firmware``: from the first key to a download, and what goes wrong on the way."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tomli_w

from connectors.firmware_chunks import read_chunk
from connectors.firmware_repository import Repository
from models import firmware
from pipeline import cli
from tests.servers import require
from tests.servers.ingesting import wait_for

from ._firmware_repo import DATA, vendor_now
from ._processes import Running

Run = Callable[..., tuple[int, str, str]]
SECRET = "u" * 40
IMAGE = "acme_w22_2.0.0"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder with an image, signature and certificates; return code, output, errors."""
    monkeypatch.chdir(tmp_path)
    who = vendor_now()
    Path("image.bin").write_bytes(DATA)
    Path("image.sig").write_bytes(base64.b64decode(who.signer.sign(DATA)))
    Path("vendor.pem").write_text(who.certificates)
    Path("root.pem").write_text(who.root.pem)
    Path("secret").write_text(SECRET + "\n")

    def command(*words: str) -> tuple[int, str, str]:
        try:
            code = cli.main(["firmware", *words])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


INIT = ("init-repo", "--repo", "repo", "--offline", "off", "--online", "on", "--pin", "pin.json")
TAKE = (
    "import", "image.bin", "--repo", "repo", "--offline", "off", "--vendor", "Acme", "--model", "W22",
    "--certificates", "vendor.pem", "--signature", "image.sig",
)  # fmt: skip


def configure(**more: object) -> Path:
    settings: dict[str, object] = {
        "enabled": True, "repository": "repo", "root_file": "pin.json", "url_secret": "file:secret",
        "public_url": "https://fw.example", "port": 0,
    }  # fmt: skip
    Path("c.toml").write_text(tomli_w.dumps({"firmware": settings | more}))
    return Path("c.toml")


def test_the_life_of_an_image(run: Run) -> None:
    assert run(*INIT, "--vendor-root", "root.pem")[0] == 0
    code, out, _ = run(
        *TAKE, "--version", "2.0.0", "--from-version", ">=1.5", "--online", "on", "--notes", "better"
    )
    assert code == 0
    assert out.startswith(f"{IMAGE}: {len(DATA)} bytes, SHA-256 ")
    assert out.endswith("published\n")
    pinned = ("--repo", "repo", "--pin", "pin.json")
    (line,) = run("list", *pinned)[1].splitlines()
    assert json.loads(line)["from_versions"] == [">=1.5"]
    shown = json.loads(run("show", IMAGE, *pinned)[1])
    assert (shown["signed_by"], shown["fits_ocpp"]) == ("CN=Signer", True)
    assert run("verify", *pinned) == (0, "1 of 1 images are good\n", "")
    assert run("refresh", "--repo", "repo", "--online", "on")[1] == "nothing to do\n"
    # Denied at once, given out again, and taken back for good.
    assert run("hold", IMAGE, "--reason", "odd", "--repo", "repo")[0] == 0
    assert '"held": "odd"' in run("list", *pinned)[1]
    assert run("hold", IMAGE, "--lift", "--repo", "repo")[0] == 0
    keys = ("--repo", "repo", "--offline", "off", "--online", "on")
    assert run("revoke", IMAGE, *keys)[0] == 2  # without a reason
    assert run("revoke", IMAGE, "--reason", "bricks", *keys)[0] == 0
    assert '"status": "revoked"' in run("list", *pinned)[1].replace('":"', '": "')
    code, _, err = run(*TAKE, "--version", "2.0.0")
    assert (code, "was revoked" in err) == (1, True)


def test_the_policy_by_command(run: Run) -> None:
    run(*INIT)
    code, _, err = run(*TAKE, "--version", "2.0.0")
    assert (code, "add the certificates between" in err) == (1, True)  # no root is trusted yet
    keys = ("--repo", "repo", "--offline", "off", "--online", "on")
    code, out, _ = run("policy", "--vendor-root", "root.pem", "--floor", "Acme", "W22", "1.9", *keys)
    assert code == 0
    root = json.loads(out.splitlines()[0])["roots"][0]["sha256"]
    assert run(*TAKE, "--version", "1.8")[0] == 1  # below the floor
    assert run(*TAKE, "--version", "2.0.0", "--online", "on")[0] == 0
    assert run("policy", "--floor", "Acme", "W22", "1.0", *keys)[0] == 1
    assert run("policy", "--remove-root", "ab", *keys)[0] == 2
    signer = firmware.fingerprint(vendor_now().signer.pem)
    assert run("policy", "--revoke-certificate", signer, *keys)[0] == 0
    code, out, _ = run("verify", "--repo", "repo", "--pin", "pin.json")
    assert (code, "was revoked" in out) == (1, True)
    run("policy", "--remove-root", root, *keys)
    shown = json.loads(run("show", "--repo", "repo", "--pin", "pin.json")[1])
    assert (shown["roots"], shown["revoked_certificates"]) == ([], [signer])


def test_after_a_theft(run: Run) -> None:
    run(*INIT, "--vendor-root", "root.pem")
    run(*TAKE, "--version", "2.0.0", "--online", "on")
    words = ("rotate", "snapshot", "timestamp", "--repo", "repo", "--offline", "off", "--new", "new")
    assert run(*words)[0] == 0
    pinned = ("--repo", "repo", "--pin", "pin.json")
    code, _, err = run("list", *pinned)
    assert (code, "does not verify" in err) == (1, True)
    assert run("publish", "--repo", "repo", "--online", "new")[1] == "published\n"
    assert IMAGE in run("list", *pinned)[1]
    assert run("resign", "--repo", "repo", "--offline", "off")[0] == 0
    assert Repository(Path("repo")).newest_targets().signed.version == 3


def test_offline_keys_with_a_passphrase(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_PHRASE", "correct horse")
    assert run(*INIT, "--vendor-root", "root.pem", "--passphrase", "env:KEY_PHRASE")[0] == 0
    assert "ENCRYPTED" in Path("off/targets.pem").read_text()
    code, _, err = run(*TAKE, "--version", "2.0.0")
    assert (code, "--passphrase" in err) == (2, True)
    assert run(*TAKE, "--version", "2.0.0", "--passphrase", "env:KEY_PHRASE")[0] == 0
    code, _, err = run(*TAKE, "--version", "3", "--passphrase", "env:NO_SUCH")
    assert (code, "NO_SUCH" in err) == (2, True)


def test_mistakes_are_told(run: Run) -> None:
    assert run(*TAKE, "--version", "1")[0] == 2  # there is no repository
    run(*INIT, "--vendor-root", "root.pem")
    assert run(*INIT)[0] == 2
    for words, text in (
        (("hold", "nothing", "--reason", "x", "--repo", "repo"), "no image"),
        (("show", "nothing", "--repo", "repo", "--pin", "pin.json"), "no image"),
        (("list", "--repo", "repo", "--pin", "none.json"), "none.json"),
        (("list",), "firmware.root_file"),
        (("url", IMAGE, "--site", "S", "--station", "CP1"), "url_secret"),
        ((*TAKE[:1], "none.bin", *TAKE[2:], "--version", "1"), "none.bin"),
    ):
        code, _, err = run(*words)
        assert code in {1, 2}, words
        assert text in err, words
    Path("image.bin").write_bytes(b"")
    assert "is empty" in run(*TAKE, "--version", "1")[2]
    Path("image.bin").write_bytes(DATA[1:])
    assert "does not hold" in run(*TAKE, "--version", "1")[2]


@pytest.mark.server
def test_stations_fetch_from_the_processes(run: Run, tmp_path: Path) -> None:
    """Over HTTPS with a broken-off download, and over MQTT; metadata is signed anew while it runs."""
    from connectors.broker import MosquittoBroker
    from tests.unit.test_firmware_chunks import Node

    require("mosquitto")
    run(*INIT, "--vendor-root", "root.pem")
    run(*TAKE, "--version", "2.0.0")  # not published: the server does it
    assert (
        cli.main(["pki", "init", "--pki", "pki"])
        == cli.main(["pki", "server", "127.0.0.1", "--pki", "pki"])
        == 0
    )
    with MosquittoBroker() as broker:
        config = configure(
            chunks_enabled=True, online_keys_dir="on", station_starts=3,
            tls_cert_file="pki/server/127.0.0.1.pem", tls_key_file="pki/server/127.0.0.1.key",
        )  # fmt: skip
        config.write_text(config.read_text() + f"\n[mqtt]\nport = {broker.port}\n")
        with (
            Running(tmp_path / "http.log", "firmware", "serve", "--config", str(config)) as server,
            Running(tmp_path / "mqtt.log", "firmware", "serve-chunks", "--config", str(config)) as chunks,
        ):
            wait_for(lambda: server.says("images at https://"), "the server", 30)
            wait_for(lambda: IMAGE in run("list", "--config", str(config))[1], "the publication")
            (address,) = re.findall(r"images at https://(\S+)/firmware/", (tmp_path / "http.log").read_text())
            words = (IMAGE, "--site", "S", "--station", "N1", "--config", str(config))
            url = run("url", *words)[1].strip()
            assert url.startswith(f"https://fw.example/firmware/{IMAGE}?c=by-hand&n=S&s=N1&e=")
            told = Node(broker.port, "told")
            told.client.subscribe("evt/v1/_op/firmware", 1)
            assert _fetch(address, url) == DATA
            assert _fetch(address, url, tries=2) is None  # too often
            word = json.loads(told.answers.get(timeout=10))
            assert (word["action"], word["site"], word["station"]) == ("shed", "S", "N1")
            assert 1 <= word["retry_after_s"] <= 21
            told.close()
            token = run("url", *words, "--token")[1].strip()
            wait_for(lambda: chunks.says("chunks are served over"), "the server of chunks", 30)
            node = Node(broker.port, "N1")
            got = bytearray()
            while len(got) < len(DATA):
                asked = {"image": IMAGE, "offset": len(got), "length": 1 << 20, "token": token}
                node.client.publish(node.request, json.dumps(asked), 1)
                got += read_chunk(node.answers.get(timeout=10))[1]
            node.close()
            assert bytes(got) == DATA
            status = Path("var/status/firmware.json")
            wait_for(lambda: json.loads(status.read_text())["in_flight"] == 0, "everybody out")
            assert json.loads(status.read_text())["started"] == 3
            assert json.loads(status.read_text())["refused"] == {"rate": 1}
            sent = Path("var/status/firmware-chunks.json")
            wait_for(lambda: json.loads(sent.read_text())["sent_bytes"] == len(DATA), "every chunk counted")
            assert server.stop() == 0
            assert chunks.stop() == 0


def _fetch(address: str, url: str, tries: int = 3) -> bytes | None:
    """Fetch in several tries, as over a bad line; None when put off."""
    parts, got = urlsplit(url), b""
    context = ssl.create_default_context(cafile="pki/ca.pem")
    for number in range(1, tries + 1):
        connection = http.client.HTTPSConnection(address, timeout=10, context=context)
        headers = {"Range": f"bytes={len(got)}-"} if got else {}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        if answer.status == 429:
            connection.close()
            return None
        assert answer.status == (206 if got else 200), answer.read()
        got += answer.read(50_000 if number == 1 else len(DATA))
        connection.close()
        if len(got) == len(DATA):
            return got
    return got


def test_the_configuration_names_what_is_missing(run: Run, tmp_path: Path) -> None:
    Path("c.toml").write_text("[firmware]\nenabled = true\ntls_cert_file = 'x'\n")
    code, _, err = run("serve", "--config", "c.toml")
    assert code == 2
    assert "root_file" in err
    run(*INIT)
    Path("secret").write_text("short")
    code, _, err = run("serve", "--config", str(configure()))
    assert (code, "32 or more" in err) == (1, True)
    assert os.environ.get("PWD") is not None

"""Through a real nginx on this machine nobody counts as a person here, however little it tells of itself."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from connectors.api.settings import ApiSettings
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings
from tests.servers import free_port, require
from tests.servers.ingesting import wait_for
from tests.servers.web import served

WORK = {"site": "a", "station": "b", "by": "x", "what": "cleaned"}
QUIET = 'proxy_http_version 1.1; proxy_set_header Connection "";'
#: What the proxy says of the caller, from nothing at all to everything.
WAYS = {
    "as it comes": "",
    "1.1": QUIET,
    "1.1, address of the caller": QUIET + "proxy_set_header X-Real-IP $remote_addr;",
    "1.1, appended": QUIET + "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "1.1, name": QUIET + "proxy_set_header Host $http_host;",
}
CONF = """
{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {servers}
}}
"""


class Proxied:
    """The application, and an nginx before it that listens at a port for each way."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.upstream, self.ports = upstream, {way: free_port() for way in WAYS}
        servers = "".join(
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {upstream}; {WAYS[way]} }} }}\n"
            for way, port in self.ports.items()
        )
        user = "user nobody nogroup;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(CONF.format(user=user, folder=folder, servers=servers))
        command = [str(require("nginx")), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(self._listens, "nginx")

    def _listens(self) -> bool:
        assert self.process.poll() is None
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", max(self.ports.values()))) == 0

    def ask(self, way: str, method: str = "POST", **more: str) -> httpx.Response:
        """Ask through a way; "" is without proxy."""
        address = f"http://127.0.0.1:{self.ports[way]}" if way else self.upstream
        path, body = ("/api/v1/maintenance/inspections", WORK) if method == "POST" else ("/", None)
        return httpx.request(method, address + path, json=body, headers=more, timeout=10)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    require("nginx")
    folder = tmp_path_factory.mktemp("proxied")
    folder.chmod(0o755)
    ledger = f"sqlite:///{folder / 'ledger.sqlite'}"
    Ledger(ledger).close()
    nowhere = MqttSettings("127.0.0.1", 1, "x", connect_timeout_s=0.2)
    fast = ApiSettings(10_000, 10_000, 10_000, 10_000, names=("depot.example",))
    with served(ledger, folder, broker=nowhere, settings=fast) as upstream:
        made = Proxied(folder, upstream)
        yield made
        made.process.terminate()
        made.process.wait(10)


@pytest.mark.server
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("claimed", ["", "127.0.0.1", "::1"])
def test_who_comes_through_a_proxy_is_not_here(proxied: Proxied, way: str, claimed: str) -> None:
    if way in ("1.1", "1.1, name") and not claimed and os.geteuid() != 0:
        pytest.skip("only root can give nginx another user")
    given = {"X-Forwarded-For": claimed} if claimed else {}
    answer = proxied.ask(way, **given)
    assert (answer.status_code, "chargestream token create" in answer.text) == (403, True), answer.text
    assert proxied.ask(way, "GET", **given).status_code == 200


@pytest.mark.server
def test_who_is_here_without_a_proxy_may(proxied: Proxied) -> None:
    """503: it went as far as the broker, which is not there."""
    assert proxied.ask("").status_code == 503
    for name, value in (
        ("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "x"), ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 x"), ("X-Real-IP", "127.0.0.1"),
    ):  # fmt: skip
        assert proxied.ask("", **{name: value}).status_code == 403, name


@pytest.mark.server
def test_only_known_names_are_answered_to(proxied: Proxied) -> None:
    for way in ("", "1.1, name"):
        for name, code in (
            ("depot.example", 200), ("DEPOT.example:8080", 200), ("localhost:80", 200), ("192.0.2.1", 200),
            ("[::1]:8080", 200), ("rebound.example", 421), ("depot.example.evil", 421), ("[::1", 421),
        ):  # fmt: skip
            answer = proxied.ask(way, "GET", Host=name)
            if way and name == "[::1":
                continue  # nginx itself refuses that
            assert answer.status_code == code, (way, name, answer.text)
            assert (code == 421) is ("api.names" in answer.text)


def test_the_kernel_tells_whose_program_is_at_the_other_end() -> None:
    from connectors.api.here import owner

    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as listening, socket.socket(family) as calling:
            try:
                listening.bind((address, 0))
            except OSError:
                continue  # no IPv6 here
            listening.listen(1)
            calling.connect(listening.getsockname())
            here, there = calling.getsockname()[1], listening.getsockname()[1]
            assert owner(here, there) == os.geteuid()
            assert owner(there, there) == owner(here, here) == -1

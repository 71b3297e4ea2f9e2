"""Starts MQTT brokers for the demo, drills and tests; production uses the operator's own broker.

Both listen on 127.0.0.1 only, keep their files in a folder of their own and stop with this process.
"""

from __future__ import annotations

import atexit
import base64
import getpass
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from models.errors import ConfigError, DeliveryError

_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 5.0


class Broker(Protocol):
    """A broker that we start and stop."""

    @property
    def host(self) -> str:
        """Address it listens on."""

    @property
    def port(self) -> int:
        """TCP port of MQTT 5."""

    def start(self) -> Self:
        """Start and return when it accepts connections."""

    def stop(self) -> None:
        """Stop in order; safe to call twice."""

    def kill(self) -> None:
        """Stop with SIGKILL, as a crash would."""

    def restart(self) -> Self:
        """Stop in order if it runs, and start on the same port."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS listener; with `require_client` it asks clients for a certificate of `ca`."""

    ca: Path
    cert: Path
    key: Path
    require_client: bool = True


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Launcher(ABC):
    """A broker child process: start, readiness, stop."""

    name = "broker"
    host = "127.0.0.1"

    def __init__(self, port: int | None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"chargestream-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line."""

    def _ports(self) -> list[int]:
        return [self.port]

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def log_path(self) -> Path:
        """What the broker printed."""
        return self.folder / "broker.log"

    def start(self) -> Self:
        """Start and return when every listener accepts connections.

        Raises
        ------
        DeliveryError
            If the broker ends or does not listen in time; with the last lines it printed.
        """
        if self._process is not None:
            return self
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder
            )
        atexit.register(self.close)
        deadline = time.monotonic() + _START_TIMEOUT_S
        waiting = self._ports()
        while waiting:
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                tail = self.log_path.read_text(errors="replace").splitlines()[-5:]
                what = f"ended with code {code}" if code is not None else "does not listen"
                raise DeliveryError(f"{self.name} on port {self.port} {what}: " + " | ".join(tail))
            if _accepts(waiting[0]):
                waiting = waiting[1:]
            else:
                time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Stop in order; safe to call twice."""
        self._end(force=False)

    def kill(self) -> None:
        """Stop with SIGKILL, as a crash would."""
        self._end(force=True)

    def _end(self, force: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if force:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def restart(self) -> Self:
        """Stop in order if it runs, and start on the same port."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop and remove the folder."""
        self.stop()
        atexit.unregister(self.close)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False


class MosquittoBroker(_Launcher):
    """An installed mosquitto with a generated configuration.

    Parameters
    ----------
    port : int, optional
        A free one when left out.
    persistence : bool
        Keep sessions and messages over a restart.
    save_every : int
        Changes after which all of it is written. At 1 a backlog costs its square: every message that comes
        or goes writes all that wait.
    users : dict of str to str, optional
        User name to password; left out: anybody may connect.
    acl : str, optional
        Text of an ACL file.
    tls : TlsFiles, optional
        Adds a TLS listener on `tls_port`.
    max_inflight : int
        Messages in flight per client, 0 = no limit but the client's receive maximum.
    """

    name = "mosquitto"

    def __init__(
        self,
        port: int | None = None,
        *,
        persistence: bool = False,
        save_every: int = 1,
        users: dict[str, str] | None = None,
        acl: str | None = None,
        tls: TlsFiles | None = None,
        max_inflight: int = 0,
    ) -> None:
        super().__init__(port)
        self.tls_port = free_port() if tls else None
        lines = [
            f"user {getpass.getuser()}",
            "per_listener_settings false",
            f"allow_anonymous {'false' if users else 'true'}",
            # The default drops all but 1,000 messages of a client that is away.
            "max_queued_messages 0",
            f"max_inflight_messages {max_inflight}",
            "set_tcp_nodelay true",
            "log_dest stdout",
        ]
        if persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/", "autosave_on_changes true"]
            lines += [f"autosave_interval {save_every}"]
        if users:
            lines.append(f"password_file {self._write('passwords', _password_lines(users), 0o600)}")
        if acl:
            lines.append(f"acl_file {self._write('acl', acl, 0o600)}")
        lines.append(f"listener {self.port} {self.host}")
        if tls:
            lines += [
                f"listener {self.tls_port} {self.host}",
                f"cafile {tls.ca}",
                f"certfile {tls.cert}",
                f"keyfile {tls.key}",
                f"require_certificate {str(tls.require_client).lower()}",
            ]
        self._config = self._write("mosquitto.conf", "\n".join(lines) + "\n", 0o600)

    def _write(self, name: str, text: str, mode: int) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def _command(self) -> list[str]:
        found = mosquitto_path()
        if found is None:
            raise ConfigError("mosquitto is not installed: install it, or the extra chargestream[broker]")
        return [found, "-c", str(self._config)]

    def _ports(self) -> list[int]:
        return [self.port] + ([self.tls_port] if self.tls_port else [])


def mosquitto_path() -> str | None:
    """Return the path of an installed mosquitto, also outside a user's PATH, or None."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _password_lines(users: dict[str, str]) -> str:
    """Return a mosquitto password file (PBKDF2-HMAC-SHA512, its format 7)."""
    lines = []
    for user, password in users.items():
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
        encoded = (base64.b64encode(part).decode() for part in (salt, digest))
        lines.append(f"{user}:$7$101${'$'.join(encoded)}\n")
    return "".join(lines)


# The child ends when our end of its standard input closes, so it never outlives us.
_EMBEDDED = """
import logging, os, sys, threading
from iotcore import Broker
logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
Broker(config_path=sys.argv[1]).run_forever()
"""

_LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 268435455
max_inflight_count = 1000
dynamic_filters = true
"""


class EmbeddedBroker(_Launcher):
    """The broker of the extra ``broker`` (iotcore): keeps nothing over a restart.

    `port` speaks MQTT 5 only, `port_311` MQTT 3.1.1 only.
    """

    name = "embedded broker"

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port)
        self.port_311 = free_port()
        self._config = self.folder / "broker.toml"
        self._config.write_text(
            "id = 0\n[router]\nid = 0\nmax_connections = 10010\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 104857600\nmax_segment_count = 10\n"
            + _LISTENER.format(version="v4", port=self.port_311)
            + _LISTENER.format(version="v5", port=self.port)
        )

    def _command(self) -> list[str]:
        if importlib.util.find_spec("iotcore") is None:
            raise ConfigError("iotcore is not installed: install the extra chargestream[broker]")
        # -P: a folder named iotcore where we run must not shadow the package.
        return [sys.executable, "-P", "-c", _EMBEDDED, str(self._config)]

    def _ports(self) -> list[int]:
        return [self.port, self.port_311]


def start_broker(prefer: str = "mosquitto", port: int | None = None) -> MosquittoBroker | EmbeddedBroker:
    """Start the preferred broker (``mosquitto`` or ``embedded``), else the other one.

    Raises
    ------
    ConfigError
        If neither is installed, or `prefer` is unknown.
    """
    if prefer not in {"mosquitto", "embedded"}:
        raise ConfigError(f"broker {prefer!r}: expected mosquitto or embedded")
    have_mosquitto = mosquitto_path() is not None
    have_embedded = importlib.util.find_spec("iotcore") is not None
    if have_mosquitto and (prefer == "mosquitto" or not have_embedded):
        return MosquittoBroker(port).start()
    if have_embedded:
        return EmbeddedBroker(port).start()
    raise ConfigError(
        "no MQTT broker here: install mosquitto, or the extra broker (pip install 'chargestream[broker]')"
    )

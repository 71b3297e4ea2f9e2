"""A broker on the configuration that our commands write, and clients of it with certificates."""

from __future__ import annotations

import contextlib
import getpass
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from pipeline import cli
from tests.servers import free_port, require
from tests.servers.ingesting import wait_for


class Secured:
    """A broker on the configuration that the commands wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pki = folder, folder / "pki"
        self.forged: dict[str, Path] = {}  # name -> certificate that no command of ours would make
        self.node_port, self.staff_port = free_port(), free_port()
        for words in (
            ["pki", "init"],
            ["pki", "server", "localhost", "127.0.0.1"],
            ["pki", "node", "S1", "N1", "N2", "N3"],
            ["pki", "node", "S2", "N1"],
            ["pki", "operator", "alice"],
            ["pki", "service", "chargestream"],
            ["pki", "service", "ingest"],
            ["pki", "service", "mallory"],
        ):
            assert cli.main([*words, "--pki", str(self.pki)]) == 0
        self._process: subprocess.Popen[bytes] | None = None
        code = cli.main(
            [
                "broker-config", "--out", str(folder / "broker"), "--pki", str(self.pki),
                "--certificate", str(self.pki / "server" / "localhost.pem"),
                "--node-port", str(self.node_port), "--staff-port", str(self.staff_port),
                "--node-host", "127.0.0.1", "--operator", "alice", "--receiver", "ingest",
                "--service-topic", "+/in", "--user", getpass.getuser(),
            ]
        )  # fmt: skip
        assert code == 0

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [require("mosquitto"), "-c", str(self.folder / "broker" / "mosquitto.conf")],
                stdout=log,
                stderr=log,
            )

        def listens() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            for port in (self.node_port, self.staff_port):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                except OSError:
                    return False
            return True

        wait_for(listens, "the broker")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def certificate(self, name: str) -> Path:
        return self.forged.get(name) or self.pki / ("nodes" if "/" in name else "staff") / f"{name}.pem"

    def reload(self) -> None:
        """Let the broker read revocation lists again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def connect(
        self, name: str, *, port: int = 0, client_id: str = "", session_s: int = 0, will: str = ""
    ) -> Client:
        port = port or (self.node_port if "/" in name else self.staff_port)
        return Client(self, name, port, client_id, session_s, will)


class Client:
    """A client with a certificate."""

    def __init__(
        self, secured: Secured, name: str, port: int, client_id: str, session_s: int, will: str
    ) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.answers: dict[int, list[int]] = {}
        self.connected = threading.Event()
        self.lost = threading.Event()
        client = self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id or f"c-{name}", protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )  # fmt: skip
        certificate = secured.certificate(name)
        context = ssl.create_default_context(cafile=str(secured.pki / "ca.pem"))
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        client.tls_set_context(context)
        client.on_connect = lambda _c, _u, _f, reason, _p: None if reason.is_failure else self.connected.set()
        client.on_disconnect = lambda *_: self.lost.set()
        client.on_message = lambda _c, _u, m: self.got.append((m.topic, bytes(m.payload)))
        client.on_publish = lambda _c, _u, mid, reason, _p: self.answers.update({mid: [reason.value]})
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self.answers.update(
            {mid: [r.value for r in reasons]}
        )
        if will:
            client.will_set(will, b"will", 1, retain=True)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho is loose
        properties.SessionExpiryInterval = session_s
        client.connect("127.0.0.1", port, clean_start=not session_s, properties=properties)
        client.loop_start()
        wait_for(lambda: self.connected.is_set() or self.lost.is_set(), "the broker's word")
        if not self.connected.is_set():
            self.close()
            raise ConnectionRefusedError(name)

    def publish(self, topic: str, payload: bytes = b"x", retain: bool = False) -> bool:
        """Return whether the broker took it."""
        mid = self.client.publish(topic, payload, 1, retain).mid
        wait_for(lambda: mid in self.answers or self.lost.is_set(), "an answer")
        return self.answers.get(mid, [0x87])[0] < 0x80

    def subscribe(self, topic: str) -> bool:
        """Return whether the broker granted it."""
        _, mid = self.client.subscribe(topic, 1)
        assert mid is not None
        wait_for(lambda: mid in self.answers, "an answer")
        return self.answers[mid][0] < 0x80

    def drop(self) -> None:
        """Lose the connection, so that the broker publishes the will."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def clients(secured: Secured, *names: str) -> Iterator[list[Client]]:
    made = [secured.connect(name) for name in names]
    try:
        yield made
    finally:
        for client in made:
            client.close()

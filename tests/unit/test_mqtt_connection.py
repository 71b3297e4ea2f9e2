"""What a person sees when the broker says no, is away, or throws us out; and TLS. With a real broker."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors import mqtt_wire as wire
from connectors.broker import MosquittoBroker, TlsFiles
from connectors.inbox import Inbox, Received
from connectors.mqtt import Publisher, Refusal
from connectors.mqtt_fast import LeanReceiver
from connectors.mqtt_link import Backoff, Link
from connectors.mqtt_receiver import Receiver
from connectors.mqtt_settings import MqttSettings
from models.errors import ConfigError, RetryLater
from models.frame import Frame
from models.outputs import Publish
from models.secret import Secret
from tests.servers import free_port, require
from tests.servers.fake_broker import CONNACK_5, FakeBroker
from tests.servers.ingesting import CLIENTS, send, wait_for

CLASSES: dict[str, type[Link]] = {"paho": Receiver, "lean": LeanReceiver}
QUICK: dict[str, Any] = {"reconnect_min_s": 0.1, "reconnect_max_s": 0.4, "connect_timeout_s": 3.0}


def link_to(port: int, client: str, version: str = "5", **more: Any) -> Link:
    """Return a started receiver with an inbox of its own."""
    settings = MqttSettings("127.0.0.1", port, "the-id", version, filters=("evt/v1/+/+/#",), **(QUICK | more))
    link = CLASSES[client](settings, Inbox(time.time_ns, 1 << 26))
    link.start()
    return link


def said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return what was logged at or above a level."""
    return [r.getMessage() for r in caplog.records if r.levelno >= level]


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "chargestream"):
        yield


@pytest.mark.server
@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_wrong_password(client: str, version: str, caplog: pytest.LogCaptureFixture) -> None:
    require("mosquitto")
    with MosquittoBroker(users={"ingest": "right"}) as broker:
        link = link_to(broker.port, client, version, username="ingest", password=Secret("wrong"))
        wait_for(lambda: link.status().last_error, "the refusal")
        time.sleep(0.5)
        link.close(5)
        good = link_to(broker.port, client, version, username="ingest", password=Secret("right"))
        wait_for(lambda: good.status().connected, "the right password connects")
        good.close(5)
    [line] = said(caplog)
    assert line == (
        f"MQTT broker 127.0.0.1:{broker.port} refused the login of client 'the-id' with user 'ingest': "
        "not authorized (reason code 135); check mqtt.username, mqtt.password and the broker's access "
        "rules; trying again, at most every 0.4 s"
    )


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_a_broker_that_comes_later(client: str, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    link = link_to(port, client)
    wait_for(lambda: link.status().last_error, "the attempt")
    time.sleep(0.4)
    [line] = said(caplog)
    assert f"MQTT broker 127.0.0.1:{port} cannot be reached" in line
    assert "check mqtt.host, mqtt.port and that the broker runs" in line
    require("mosquitto")
    with MosquittoBroker(port):
        wait_for(lambda: link.status().connected, "connected")
        link.close(5)
    assert said(caplog) == [line]


@pytest.mark.server
@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_a_duplicate_client_id_is_named_and_does_not_spin(
    client: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        first = link_to(broker.port, client, version, reconnect_max_s=8.0)
        second = link_to(broker.port, client, version, reconnect_max_s=8.0)
        wait_for(lambda: any("client id 'the-id'" in line for line in said(caplog)), "the reason")
        time.sleep(1.5)
        connects = first.status().connects + second.status().connects
        first.close(5)
        second.close(5)
    assert connects <= 16  # waits double; without them it would be hundreds
    reason = "another client uses the same client id 'the-id': give each installation its own mqtt.client_id"
    assert any(reason in line for line in said(caplog))
    assert len(said(caplog)) <= 8


def _pem(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


def _certificate(name: str, issuer: Any = None) -> tuple[Any, Any]:
    """Return (key, certificate), self-signed without `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    ca_key, ca = issuer or (key, None)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, issuer is None, issuer is None, False, False),
            critical=True,
        )
    )
    return key, built.sign(ca_key, hashes.SHA256())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of an authority, a broker's and a client's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    ca = _certificate("test authority")
    files = {"ca": _pem(folder / "ca.pem", ca[1].public_bytes(serialization.Encoding.PEM))}
    for name in ("broker", "client"):
        key, certificate = _certificate(name, ca)
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        files[f"{name}_key"] = _pem(folder / f"{name}.key", private)
        files[name] = _pem(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))
    return files


@pytest.mark.server
@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_tls_with_a_client_certificate(
    client: str, version: str, certificates: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    require("mosquitto")
    files = TlsFiles(certificates["ca"], certificates["broker"], certificates["broker_key"])
    authority = {"tls_enabled": True, "tls_ca_file": str(certificates["ca"])}
    ours = {"tls_cert_file": str(certificates["client"]), "tls_key_file": str(certificates["client_key"])}
    with MosquittoBroker(tls=files) as broker:
        assert broker.tls_port
        link = link_to(broker.tls_port, client, version, **authority, **ours)
        wait_for(lambda: link.status().connected, "connected over TLS")
        send(broker.port, [("evt/v1/s/n/up/meter", b"%d" % i * 3000) for i in range(200)])
        wait_for(lambda: link.status().messages == 200, "received over TLS")
        for received in link._inbox.take()[0]:
            link.ack(received)
        wait_for(lambda: link.status().in_flight == 0, "acknowledged over TLS")
        link.close(5)
        assert said(caplog) == []
        stranger = link_to(broker.tls_port, client, version, **authority)
        wait_for(lambda: stranger.status().last_error, "no certificate, no connection")
        assert not stranger.status().connected
        stranger.close(5)
        doubting = link_to(broker.tls_port, client, version, tls_enabled=True, **ours)
        wait_for(lambda: doubting.status().last_error, "an unknown authority")
        doubting.close(5)
    assert "TLS failed" in doubting.status().last_error
    assert "certificate verify failed" in doubting.status().last_error
    assert "check mqtt.tls_*" in doubting.status().last_error


def test_tls_files_that_do_not_belong_together(certificates: dict[str, Path]) -> None:
    settings = MqttSettings(
        "127.0.0.1",
        1,
        "x",
        tls_enabled=True,
        tls_ca_file=str(certificates["ca"]),
        tls_cert_file=str(certificates["client"]),
        tls_key_file=str(certificates["broker_key"]),
    )
    with pytest.raises(ConfigError, match=r"\[mqtt\] tls_ca_file=.*expected readable PEM files"):
        settings.tls_context()


def test_the_password_is_never_shown() -> None:
    assert "hunter2" not in repr(MqttSettings("h", 1, "x", password=Secret("hunter2")))


@pytest.mark.server
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_publisher(version: str) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        link = link_to(broker.port, "lean")
        wait_for(lambda: link.status().connected, "a listener")
        time.sleep(0.1)
        publisher = Publisher(MqttSettings("127.0.0.1", broker.port, "out", version, **QUICK))
        batch = [Publish(topic=f"evt/v1/s/n{i}/finding", payload=b"%d" % i, qos=i % 3) for i in range(3000)]
        assert publisher.publish(batch) == []
        wait_for(lambda: link.status().messages == 3000, "all arrived")
        wild = publisher.publish([Publish(topic="a/+", payload=b""), Publish(topic="b", payload=b"")])
        assert [r.index for r in wild] == [0]
        assert "wildcard" in wild[0].reason.lower()
        broker.kill()
        with pytest.raises(RetryLater) as caught:
            publisher.publish(batch[:2])
        assert caught.value.delay_s is not None
        with pytest.raises(RetryLater, match=r"cannot be reached.*check mqtt.host"):
            publisher.publish(batch[:2])
        broker.start()
        assert publisher.publish(batch[:10]) == []
        assert publisher.connected
        publisher.close()
        link.close(5)


@pytest.mark.server
def test_publisher_reports_what_the_broker_refuses() -> None:
    require("mosquitto")
    users = {"out": "pw"}
    with MosquittoBroker(users=users, acl="user out\ntopic write ok/#\n") as broker:
        login: dict[str, Any] = {"username": "out", "password": Secret("pw")}
        publisher = Publisher(MqttSettings("127.0.0.1", broker.port, "out", **QUICK, **login))
        refused = publisher.publish([Publish(topic=t, payload=b"") for t in ("ok/1", "no/2", "ok/3")])
        assert refused == [
            Refusal(
                1,
                "not authorized (reason code 135); "
                "check mqtt.username, mqtt.password and the broker's access rules",
            )
        ]
        publisher.close()
        wrong = Publisher(MqttSettings("127.0.0.1", broker.port, "out", username="out", **QUICK))
        with pytest.raises(
            RetryLater, match=r"refused the login of 'out': not authorized; check mqtt\.username"
        ):
            wrong.publish([Publish(topic="ok/1", payload=b"")])
        wrong.close()


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_a_refused_subscription_is_said(client: str, caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeBroker(CONNACK_5, bytes([0x90, 4, 0, 1, 0, 0x87]))
    link = link_to(fake.port, client)
    wait_for(lambda: link.status().last_error, "the refusal")
    link.close(5)
    fake.close()
    assert (
        f"MQTT broker 127.0.0.1:{fake.port} refused the subscription to evt/v1/+/+/#: not authorized "
        "(reason code 135); check mqtt.username, mqtt.password and the broker's access rules; "
        "nothing arrives from there"
    ) in said(caplog)[0]


@pytest.mark.parametrize("client", ["paho", "lean"])
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff\x01", b""])
def test_something_that_is_no_mqtt_broker(
    client: str, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeBroker(answer)
    link = link_to(fake.port, client, connect_timeout_s=0.5)
    wait_for(lambda: link.status().last_error, "the trouble")
    link.close(5)
    fake.close()
    assert f"MQTT broker 127.0.0.1:{fake.port} cannot be reached" in said(caplog)[0]


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_acknowledgements_of_a_former_connection_are_dropped(client: str) -> None:
    fake = FakeBroker(CONNACK_5)
    link = link_to(fake.port, client)
    wait_for(lambda: link.status().connected, "connected")
    frame = Frame.from_columns([0], [b"t"], [b""], [0])
    for generation, mid in ((link.generation - 1, 7), (link.generation, 9)):
        link.ack(Received(frame, np.array([mid], np.uint16), generation, link))
    wait_for(lambda: bytes([0x40, 2, 0, 9]) in fake.heard, "the acknowledgement of this connection")
    link.close(5)
    fake.close()
    assert bytes([0x40, 2, 0, 7]) not in fake.heard
    assert link.status().stale_acks == 1


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_a_full_inbox_stops_reading_and_nothing_is_dropped(client: str) -> None:
    body = b"\x00\x01t\x00" + b"x" * 1000  # no identifier: QoS 0
    packet = b"\x30" + wire.varint(len(body)) + body
    fake = FakeBroker(CONNACK_5, packet * 3000)
    settings = MqttSettings("127.0.0.1", fake.port, "the-id", filters=("t",), **QUICK)
    inbox = Inbox(time.time_ns, 200_000)
    link = CLASSES[client](settings, inbox)
    link.start()
    wait_for(lambda: inbox.full, "full")
    time.sleep(0.2)
    assert inbox.bytes < 200_000 + (2 << 20)  # the bound and what one read brings
    total = 0
    deadline = time.monotonic() + 10
    while total < 3000 and time.monotonic() < deadline:
        total += sum(len(item.frame) for item in inbox.take()[0])
        time.sleep(0.005)
    link.close(5)
    fake.close()
    assert total == 3000
    assert link.status().connects == 1


@pytest.mark.server
@pytest.mark.parametrize("client", ["paho", "lean"])
def test_pings_keep_a_quiet_connection_and_find_a_dead_one(client: str) -> None:
    require("mosquitto")
    fake = FakeBroker(CONNACK_5)  # answers no ping
    with MosquittoBroker() as broker:
        quiet = link_to(broker.port, client, keep_alive_s=1)
        dead = link_to(fake.port, client, keep_alive_s=1)
        wait_for(lambda: dead.status().last_error, "the dead connection is noticed", 5)
        wait_for(lambda: dead.status().connects >= 2, "and made anew", 5)
        assert quiet.status().connects == 1
        assert quiet.status().connected
        quiet.close(5)
        dead.close(5)
    fake.close()
    assert bytes.fromhex("c000") in fake.heard
    assert "connection lost" in dead.status().last_error


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_a_fault_of_ours_does_not_end_reception(
    client: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeBroker(CONNACK_5)
    fail = iter([True])

    def faulty(self: Link) -> None:
        if next(fail, False):
            raise ZeroDivisionError("oops")

    monkeypatch.setattr(CLASSES[client], "_subscribe", faulty)
    link = link_to(fake.port, client)
    wait_for(lambda: link.status().connects == 2 and link.status().connected, "connected again")
    link.close(5)
    fake.close()
    assert "oops" in caplog.text


def test_backoff_doubles_within_its_bounds() -> None:

    backoff = Backoff(0.5, 30.0, random.Random(1))
    waits = [backoff.next_s() for _ in range(12)]
    bounds = [min(30.0, 0.5 * 2**n) for n in range(12)]
    assert all(b / 2 <= w <= b for w, b in zip(waits, bounds, strict=True))
    assert len(set(waits)) == 12
    backoff.reset()
    assert backoff.next_s() <= 0.5

"""The generated configuration on a real mosquitto: who may do what, and whose certificate counts."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from connectors.pki import Pki
from models.outputs import Publish
from pipeline import cli
from tests.servers import require
from tests.servers.ingesting import wait_for

from ._secured import Secured, clients


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    require("mosquitto")
    made = Secured(tmp_path_factory.mktemp("secured"))
    made.start()
    yield made
    made.stop()


TOPICS = [
    "evt/v1/S1/N1/up/meter",
    "evt/v1/S1/N1/up/conn",
    "evt/v1/S1/N1/dn/cmd",
    "evt/v1/S1/N1/finding",
    "evt/v1/S1/N2/up/meter",
    "evt/v1/S1/N2/dn/cmd",
    "evt/v1/S2/N1/up/meter",
    "evt/v1/_op/command",
    "evt/v1/_ctl/station",
    "evt/v1/_op/campaign",
    "other",
]
MAY_PUBLISH = {
    "S1/N1": {"evt/v1/S1/N1/up/meter", "evt/v1/S1/N1/up/conn"},
    "alice": {"evt/v1/_op/command", "evt/v1/_op/campaign"},
    "ingest": set(),
    "mallory": set(),
    "chargestream": {
        "evt/v1/S1/N1/dn/cmd", "evt/v1/S1/N1/finding", "evt/v1/S1/N2/dn/cmd", "evt/v1/_op/command",
        "evt/v1/_ctl/station", "evt/v1/_op/campaign",
    },
}  # fmt: skip
MAY_READ = {
    "S1/N1": {"evt/v1/S1/N1/dn/cmd"},
    "alice": {"evt/v1/S1/N1/finding"},
    "ingest": {t for t in TOPICS if "/up/" in t or "/_" in t},
    "mallory": set(),
    "chargestream": {t for t in TOPICS if "/up/" in t or "/_" in t},
}


@pytest.mark.server
@pytest.mark.parametrize("name", list(MAY_PUBLISH))
def test_who_may_publish_what(secured: Secured, name: str) -> None:
    taken = set()
    client = secured.connect(name)
    for topic in TOPICS:
        if client.publish(topic):
            taken.add(topic)
            continue
        client.close()  # mosquitto 2.0.11 ends the connection over what it refuses
        client = secured.connect(name)
    client.close()
    assert taken == MAY_PUBLISH[name]


@pytest.mark.server
def test_who_may_read_what(secured: Secured) -> None:
    """Everybody subscribes to everything; what arrives is what each may read."""
    names = list(MAY_READ)
    with clients(secured, *names, "S1/N2", "S2/N1") as made:
        readers = dict(zip([*names, "S1/N2", "S2/N1"], made, strict=True))
        for client in readers.values():
            for topic in ("#", "evt/v1/#", "evt/v1/+/+/dn/#", *TOPICS):
                client.subscribe(topic)
        for topic in TOPICS[:-1]:
            node = "/".join(topic.split("/")[2:4])
            who = node if "/up/" in topic else "chargestream"
            assert readers[who].publish(topic, b"read-test"), topic
        time.sleep(0.3)
        for name in names:
            client = readers[name]
            assert {topic for topic, payload in client.got if payload == b"read-test"} == MAY_READ[name], name


@pytest.mark.server
def test_a_service_receives_over_a_shared_subscription(secured: Secured) -> None:
    with clients(secured, "ingest", "S1/N1") as (ingest, node):
        assert ingest.subscribe("$share/g/evt/v1/+/+/up/#")
        assert node.publish("evt/v1/S1/N1/up/meter", b"shared")
        wait_for(lambda: ("evt/v1/S1/N1/up/meter", b"shared") in ingest.got, "the message")


@pytest.mark.server
def test_no_node_gets_onto_the_listener_of_services_nor_the_other_way(secured: Secured) -> None:
    for name, port in (
        ("S1/N1", secured.staff_port),
        ("chargestream", secured.node_port),
        ("alice", secured.node_port),
    ):
        with pytest.raises(OSError):  # noqa: PT011  # which one depends on TLS
            secured.connect(name, port=port)


@pytest.mark.server
def test_a_node_cannot_take_over_the_session_of_another(secured: Secured) -> None:
    victim = secured.connect("S1/N1", client_id="same")
    thief = secured.connect("S1/N2", client_id="same")
    assert thief.publish("evt/v1/S1/N2/up/meter")
    assert not victim.lost.wait(0.3)
    assert victim.publish("evt/v1/S1/N1/up/meter")
    thief.close()
    victim.close()


def _log_in(secured: Secured, context: ssl.SSLContext) -> None:
    with (
        socket.create_connection(("127.0.0.1", secured.node_port), 5) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
        if not tls.recv(4):
            raise OSError("closed")


@pytest.mark.server
def test_wrong_certificates_are_refused(secured: Secured, tmp_path: Path) -> None:
    stranger = Pki(tmp_path / "pki")
    stranger.init()
    expired = Pki(secured.pki, lambda: datetime.now(UTC) - timedelta(days=30))
    for certificate in (
        secured.certificate("S1/N1"),
        stranger.node("S1", "N1"),  # another authority's
        expired.node("S1", "late", days=1),
        None,  # none at all
    ):
        context = ssl.create_default_context(cafile=str(secured.pki / "ca.pem"))
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        if certificate == secured.certificate("S1/N1"):
            _log_in(secured, context)  # the right one
            continue
        with pytest.raises(OSError):  # noqa: PT011  # which one depends on TLS
            _log_in(secured, context)
    # And a client of ours refuses a broker whose certificate is not of our authority.
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", secured.node_port), 5) as raw:
        ssl.create_default_context(cafile=str(tmp_path / "pki" / "ca.pem")).wrap_socket(
            raw, server_hostname="localhost"
        )


@pytest.mark.server
def test_a_revoked_certificate_is_refused(secured: Secured) -> None:
    with clients(secured, "S1/N3"):
        pass
    assert cli.main(["pki", "revoke", str(secured.certificate("S1/N3")), "--pki", str(secured.pki)]) == 0
    secured.stop()
    secured.start()
    with pytest.raises(OSError):  # noqa: PT011  # which one depends on TLS
        secured.connect("S1/N3")
    with clients(secured, "S1/N1"):
        pass


@pytest.mark.server
def test_messages_for_a_service_that_is_away_survive_a_restart(secured: Secured) -> None:
    """Per-listener access lists must not cost the queue of a persistent session."""
    ingest = secured.connect("ingest", client_id="durable", session_s=3_600)
    assert ingest.subscribe("evt/v1/+/+/up/#")
    ingest.close()
    with clients(secured, "S1/N1") as (node,):
        assert node.publish("evt/v1/S1/N1/up/meter", b"before")
    secured.stop()
    secured.start()
    with clients(secured, "S1/N1") as (node,):
        assert node.publish("evt/v1/S1/N1/up/meter", b"after")
    again = secured.connect("ingest", client_id="durable", session_s=3_600)
    wait_for(lambda: {p for _, p in again.got} >= {b"before", b"after"}, "both messages")
    again.close()


@pytest.mark.server
def test_our_own_client_connects(secured: Secured) -> None:
    certificate = secured.certificate("chargestream")
    settings: dict[str, Any] = {
        "tls_enabled": True,
        "tls_ca_file": str(secured.pki / "ca.pem"),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(certificate.with_suffix(".key")),
    }
    publisher = Publisher(MqttSettings("localhost", secured.staff_port, "ours", **settings))
    taken = publisher.publish(
        [
            Publish(topic="evt/v1/S1/N1/dn/cmd", payload=b"{}"),
            Publish(topic="evt/v1/S1/N1/up/fw", payload=b"{}"),
        ]
    )
    publisher.close()
    assert [(each.index, "not authorized" in each.reason) for each in taken] == [(1, True)]

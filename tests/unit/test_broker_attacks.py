"""A station, or a thief of its key, tries at a real mosquitto what the generated configuration must stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from connectors.pki import NODES, Pki
from pipeline import cli
from tests.servers import require
from tests.servers.ingesting import wait_for

from ._secured import Client, Secured

OTHERS = (
    "#", "$SYS/#", "$SYS/broker/clients/connected", "+/+/+/+/+/+", "evt/v1/#", "evt/v1/+/+/dn/#",
    "evt/v1/S1/N2/dn/cmd", "evt/v1/S1/N2/up/#", "evt/v1/_op/#", "evt/v1/_ctl/#",
    "$share/g/evt/v1/S1/N2/dn/#", "$share/g/#", "$share/g/evt/v1/+/+/up/#", "$CONTROL/dynamic-security/v1",
)  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    require("mosquitto")
    made = Secured(tmp_path_factory.mktemp("attacked"))
    made.start()
    yield made
    made.stop()


def everything(client: Client) -> Client:
    for topic in OTHERS:
        client.subscribe(topic)  # mosquitto grants it and judges each message; what counts is what arrives
    return client


def lets_in(secured: Secured, name: str) -> bool:
    try:
        secured.connect(name).close()
    except OSError:  # which one depends on TLS
        return False
    return True


@pytest.mark.server
def test_no_filter_gets_a_station_the_messages_of_others(secured: Secured) -> None:
    """Neither a share group nor a retained message is a way around the access list."""
    service, victim = secured.connect("chargestream"), secured.connect("S1/N2")
    assert service.publish("evt/v1/S1/N2/dn/limit", b"kept", retain=True)
    thief = everything(secured.connect("S1/N1"))
    assert thief.subscribe("evt/v1/S1/N1/dn/#")
    assert service.publish("evt/v1/S1/N2/dn/cmd", b"not yours")
    assert victim.publish("evt/v1/S1/N2/up/meter", b"not yours")
    assert service.publish("evt/v1/_ctl/station", b"not yours")
    assert service.publish("evt/v1/S1/N1/dn/cmd", b"yours")  # sent last: the others would be there by then
    wait_for(lambda: b"yours" in {payload for _, payload in thief.got}, "its own command")
    assert {topic for topic, _ in thief.got} == {"evt/v1/S1/N1/dn/cmd"}
    for client in (service, victim, thief):
        client.close()


@pytest.mark.server
def test_a_will_is_judged_like_any_message(secured: Secured) -> None:
    service, victim = secured.connect("chargestream"), secured.connect("S1/N2")
    assert service.subscribe("evt/v1/+/+/up/#")
    assert service.subscribe("evt/v1/_op/#")
    assert victim.subscribe("evt/v1/S1/N2/dn/#")
    for topic in ("evt/v1/S1/N2/dn/cmd", "evt/v1/S1/N1/dn/cmd", "evt/v1/_op/command", "evt/v1/S1/N1/up/conn"):
        secured.connect("S1/N1", will=topic).drop()
    wait_for(lambda: ("evt/v1/S1/N1/up/conn", b"will") in service.got, "the will that may be")
    assert [topic for topic, payload in service.got if payload == b"will"] == ["evt/v1/S1/N1/up/conn"]
    assert victim.publish("evt/v1/S1/N2/up/hb")  # has made the broker's turn since
    assert b"will" not in {payload for _, payload in victim.got}
    late = secured.connect("S1/N1")
    assert late.subscribe("evt/v1/S1/N1/dn/#")
    assert b"will" not in {payload for _, payload in late.got}
    for client in (service, victim, late):
        client.close()


@pytest.mark.server
@pytest.mark.parametrize(
    "topic",
    [
        "evt/v1/S1/N2/dn/cmd",
        "evt/v1/S1/N1/dn/cmd",
        "evt/v1/S1/N1/up",
        "$share/g/evt/v1/S1/N2/dn/cmd",
        "$SYS/x",
        "$CONTROL/dynamic-security/v1",
        "evt/v1/S1/N2/up/" + "x" * 60_000,
        "evt/v1/S1//N1/up/meter",
    ],
)
@pytest.mark.parametrize("retain", [False, True])
def test_a_station_publishes_nothing_but_its_own_up(secured: Secured, topic: str, retain: bool) -> None:
    thief = secured.connect("S1/N1")
    assert thief.publish(topic, retain=retain) is (topic == "evt/v1/S1/N1/up")
    thief.close()


@pytest.mark.server
@pytest.mark.parametrize("name", ["S1/+", "+/+", "#", "S1/N2/dn", "S1", "chargestream/x", "S1/N1/up/.."])
def test_no_name_in_a_certificate_of_nodes_opens_more(secured: Secured, name: str) -> None:
    """Even a stolen key of the authority of nodes makes no wildcard and no service."""
    path = secured.pki / "forged" / str(len(secured.forged))
    secured.forged[name] = Pki(secured.pki)._issue(NODES, path, name, 1, ExtendedKeyUsageOID.CLIENT_AUTH)
    service = secured.connect("chargestream")
    thief = everything(secured.connect(name, port=secured.node_port))
    assert service.publish("evt/v1/S1/N2/dn/cmd", b"not yours")
    assert service.publish("evt/v1/_op/command", b"not yours")
    assert not thief.publish("evt/v1/S1/N2/up/meter")
    assert thief.got == []
    again = secured.connect(name, port=secured.node_port)
    assert not again.publish("evt/v1/S1/N2/dn/cmd")
    for client in (service, thief, again):
        client.close()


@pytest.mark.server
def test_a_long_topic_and_many_levels_end_only_who_sends_them(secured: Secured) -> None:
    service, thief = secured.connect("chargestream"), secured.connect("S1/N1")
    thief.client.subscribe("/".join("x" * 30_000), 1)
    assert thief.lost.wait(10)
    again = secured.connect("S1/N1")
    assert again.publish("evt/v1/S1/N1/up/meter")
    assert service.publish("evt/v1/S1/N1/dn/cmd")
    for client in (service, thief, again):
        client.close()


@pytest.mark.server
def test_a_revoked_certificate_is_refused_as_soon_as_the_broker_is_told(secured: Secured) -> None:
    """Who is connected stays so until then; the documentation says how to end that too."""
    thief, other = secured.connect("S1/N3"), secured.connect("S1/N2")
    assert cli.main(["pki", "revoke", str(secured.certificate("S1/N3")), "--pki", str(secured.pki)]) == 0
    assert cli.main(["pki", "revoke", str(secured.certificate("mallory")), "--pki", str(secured.pki)]) == 0
    secured.reload()
    wait_for(lambda: not lets_in(secured, "mallory"), "the broker to read its lists")
    assert not lets_in(secured, "S1/N3")
    assert not thief.lost.is_set()
    assert other.publish("evt/v1/S1/N2/up/meter")
    secured.stop()
    assert thief.lost.wait(10)
    secured.start()
    assert not lets_in(secured, "S1/N3")
    for client in (thief, other):
        client.close()

"""Development certificates: what they say, and names that no certificate may have."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from connectors.broker_config import BrokerPlan, write
from connectors.pki import Pki
from models.errors import ConfigError


def test_names_that_would_break_topics_are_refused(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.init()
    for site, node in (
        ("S", "a/b"),
        ("+", "N"),
        ("S", "#"),
        ("_op", "N"),
        ("S", "up"),
        ("$SYS", "N"),
        ("S", ""),
        ("S", "a b"),
    ):
        with pytest.raises(ConfigError, match="level of MQTT topics"):
            pki.node(site, node)
    with pytest.raises(ConfigError, match="takes 64"):
        pki.node("s" * 40, "n" * 40)
    with pytest.raises(ConfigError, match="no host name"):
        pki.server(["bad host"])
    with pytest.raises(ConfigError, match="never overwritten"):
        pki.init()
    pki.node("S", "N")
    with pytest.raises(ConfigError, match="never overwritten"):
        pki.node("S", "N")
    with pytest.raises(ConfigError, match="pki init"):
        Pki(tmp_path / "none").staff("alice")


def test_what_certificates_say(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.init(days=100)
    found = x509.load_pem_x509_certificate(pki.server(["broker.example", "10.0.0.1"]).read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    node = pki.node("S", "N", days=7)
    assert x509.load_pem_x509_certificate(node.read_bytes()).subject.rfc4514_string() == "CN=S/N"
    assert node.with_suffix(".key").stat().st_mode & 0o777 == 0o600
    stranger = Pki(tmp_path / "other")
    stranger.init()
    pki.revoke(node)
    own = x509.load_pem_x509_crl((tmp_path / "nodes-ca.crl").read_bytes())
    assert len(own) == 1
    assert len(x509.load_pem_x509_crl((tmp_path / "ca.crl").read_bytes())) == 0


def test_an_account_has_one_role(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.init()
    plan = BrokerPlan(tmp_path, pki.server(["localhost"]), tmp_path / "data", operators=("chargestream",))
    with pytest.raises(ConfigError, match="twice"):
        write(plan, tmp_path / "out")
    missing = BrokerPlan(tmp_path, tmp_path / "none.pem", tmp_path / "data")
    with pytest.raises(ConfigError, match=r"none\.pem does not exist"):
        write(missing, tmp_path / "out")

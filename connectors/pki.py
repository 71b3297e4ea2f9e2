"""Development certificates: two authorities, a broker's certificate, and one for every node and person.

::

    PKI/ca.pem  ca.key  ca.crl                 servers, services, operators
    PKI/nodes-ca.pem  nodes-ca.key  nodes-ca.crl    stations and gateways
    PKI/server/  PKI/nodes/SITE/  PKI/staff/   what they issued, NAME.pem and NAME.key

Two, because the broker has a listener for nodes that trusts the second only: whatever a node's authority
issues, it is no service. For production use your own authority with the same names.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from models.errors import ConfigError, StorageError

from ._firmware_tuf import utc_now, write_file, write_private

STAFF: Final = "ca"
NODES: Final = "nodes-ca"
#: X.520: longest common name.
_MAX_NAME: Final = 64
_NAME: Final = re.compile(r"[^/+#$_\s\x00-\x1f\x7f][^/+#\s\x00-\x1f\x7f]*")
#: Levels of our topics, which no site or node may be named as.
_TAKEN: Final = {"up", "dn"}
_HOST: Final = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class Pki:
    """A folder of authorities and what they issued.

    Parameters
    ----------
    folder : Path
    now : callable
        The time that certificates begin at (an hour before, for clocks that are behind).
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] = utc_now) -> None:
        self.folder, self._now = folder, now

    def init(self, days: int = 3_650) -> None:
        """Make both authorities.

        Raises
        ------
        ConfigError
            If there are any.
        """
        for label, name in ((STAFF, "chargestream services"), (NODES, "chargestream nodes")):
            key = ec.generate_private_key(ec.SECP256R1())
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = self._builder(name, key, days).issuer_name(_name(name))
            builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
            builder = builder.add_extension(usage, critical=True)
            self._write(self.folder / label, builder.sign(key, hashes.SHA256()), key)
            self._list(label, [])

    def server(self, hosts: list[str], days: int = 398) -> Path:
        """Issue a broker's (or web server's) certificate for host names and addresses; return its path."""
        if not hosts:
            raise ConfigError("expected the host names or addresses by which clients reach the server")
        names = [_alternative(host) for host in hosts]
        return self._issue(
            STAFF,
            self.folder / "server" / hosts[0].replace("*", "_"),
            hosts[0][:_MAX_NAME],
            days,
            ExtendedKeyUsageOID.SERVER_AUTH,
            names,
        )

    def node(self, site: str, node: str, days: int = 398) -> Path:
        """Issue the certificate of a station or gateway, named ``site/node``; return its path."""
        for name in (site, node):
            check_name(name)
        path = self.folder / "nodes" / site / node
        return self._issue(NODES, path, f"{site}/{node}", days, ExtendedKeyUsageOID.CLIENT_AUTH)

    def staff(self, name: str, days: int = 398) -> Path:
        """Issue the certificate of a service or an operator; return its path."""
        check_name(name)
        return self._issue(STAFF, self.folder / "staff" / name, name, days, ExtendedKeyUsageOID.CLIENT_AUTH)

    def revoke(self, certificate: Path) -> None:
        """Put a certificate on its authority's revocation list; the broker reads that when told to (SIGHUP).

        Raises
        ------
        ConfigError
            If neither authority issued it.
        """
        found = _certificate(certificate)
        for label in (STAFF, NODES):
            authority = _certificate(self.folder / f"{label}.pem")
            if found.issuer == authority.subject:
                self._list(label, [*self._revoked(label), found.serial_number])
                return
        raise ConfigError(
            f"{certificate} was issued by {found.issuer.rfc4514_string()}, not by {self.folder}"
        )

    # -- helpers ---------------------------------------------------------------------------------

    def _builder(self, name: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        start = self._now().astimezone(UTC) - timedelta(hours=1)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(identifier, critical=False)
        )

    def _issue(
        self,
        label: str,
        path: Path,
        name: str,
        days: int,
        usage: x509.ObjectIdentifier,
        names: list[x509.GeneralName] | None = None,
    ) -> Path:
        authority, signing = self._authority(label)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key, days).issuer_name(authority.subject)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        digital = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = builder.add_extension(digital, critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return self._write(path, builder.sign(signing, hashes.SHA256()), key)

    def _authority(self, label: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        certificate = _certificate(self.folder / f"{label}.pem")
        path = self.folder / f"{label}.key"
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{path}: expected a P-256 key as chargestream pki init makes it")
        return certificate, key

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Path:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path.with_name(path.name + ".key"), pem)
        out = path.with_name(path.name + ".pem")
        out.write_bytes(certificate.public_bytes(Encoding.PEM))
        return out

    def _revoked(self, label: str) -> list[int]:
        try:
            found: list[int] = json.loads((self.folder / f"{label}.revoked.json").read_text())
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise StorageError(f"{self.folder / label}.revoked.json: {error}") from error
        return found

    def _list(self, label: str, serials: list[int]) -> None:
        """Write the revocation list of an authority; it is good as long as the authority."""
        authority, key = self._authority(label)
        now = self._now().astimezone(UTC) - timedelta(hours=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.subject)
            .last_update(now)
            .next_update(authority.not_valid_after_utc)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        blob = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        write_file(self.folder / f"{label}.revoked.json", json.dumps(serials).encode())
        write_file(self.folder / f"{label}.crl", blob)


def check_name(name: str) -> None:
    """Check the name of a site, node, service or operator: one level of a topic and none of ours.

    Raises
    ------
    ConfigError
        If it has ``/``, ``+``, ``#`` or white space in it, begins with ``_`` or ``$``, is ``up`` or ``dn``.
    """
    if not _NAME.fullmatch(name) or name in _TAKEN or len(name) > _MAX_NAME:
        raise ConfigError(
            f"name {name!r:.80}: expected at most {_MAX_NAME} characters without / + # and white space, not "
            "beginning with _ or $, and not up or dn: it becomes a level of MQTT topics"
        )


def _name(text: str) -> x509.Name:
    if not 0 < len(text) <= _MAX_NAME:
        raise ConfigError(f"{text!r:.90} has {len(text)} characters: a certificate's name takes {_MAX_NAME}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigError(f"{host!r} is no host name or address") from None
        return x509.DNSName(host)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        hint = "; chargestream pki init makes the authorities" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path} cannot be read: {error}{hint}") from error

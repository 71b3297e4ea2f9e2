"""A vendor for tests: root, certificate between, signer, and signatures over anything."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW_MS = 1_795_509_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def key_of(kind: str, label: str = "") -> Key:
    """Return a key: ``p256``, ``p384``, ``rsa``, ``ed25519``; one per label, made once."""
    if kind == "rsa":
        return rsa.generate_private_key(65_537, 2_048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "p384" else ec.SECP256R1())


@dataclass(frozen=True)
class Signer:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def sign(self, data: bytes, algorithm: str = "") -> str:
        """Return the base64 signature over `data`."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            blob = self.key.sign(data)
        elif isinstance(self.key, rsa.RSAPrivateKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
            blob = self.key.sign(data, padding.PKCS1v15() if "pkcs1" in algorithm else pss, hashes.SHA256())
        else:
            blob = self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(blob).decode()


def certify(
    name: str,
    issuer: Signer | None,
    kind: str = "p256",
    *,
    ca: bool = False,
    path_length: int | None = None,
    start: datetime = NOW - timedelta(days=100),
    days: int = 400,
    usage: x509.ObjectIdentifier | None = None,
    extra: x509.ExtensionType | None = None,
) -> Signer:
    """Return a certificate for `name`, signed by `issuer` (None: by itself)."""
    key = key_of(kind, name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra, critical=True)
    signing = issuer.key if issuer else key
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Signer(builder.sign(signing, algorithm), key)


@dataclass(frozen=True)
class Vendor:
    """Root, authority below it, and a signer."""

    root: Signer
    between: Signer
    signer: Signer

    @property
    def certificates(self) -> str:
        """Signing certificate first, then the one between."""
        return self.signer.pem + self.between.pem


@cache
def vendor(kind: str = "p256") -> Vendor:
    """Return the vendor whose signer has a key of this kind."""
    root = certify("Root", None, "p384", ca=True)
    between = certify("Firmware CA", root, "p256", ca=True, path_length=0)
    signer = certify(f"Signer {kind}", between, kind, usage=ExtendedKeyUsageOID.CODE_SIGNING)
    return Vendor(root, between, signer)

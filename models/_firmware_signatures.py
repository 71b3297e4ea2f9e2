"""Certificates and detached signatures of firmware, as OCPP's signed update needs them.

OCPP 2.0.1 L01 wants RSA-PSS or ECSchnorr with SHA-256; stations in the field verify ECDSA and PKCS #1 as well
(libocpp: OpenSSL's DigestVerify). ECSchnorr is in no library at hand and is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from ._firmware_versions import FirmwareError

_T = TypeVar("_T", bound=x509.ExtensionType)

#: ECDSA and RSA sign the SHA-256 of the file, Ed25519 the file itself.
ALGORITHMS: Final = ("ecdsa-sha256", "rsa-pss-sha256", "rsa-pkcs1v15-sha256", "ed25519")
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_MIN_RSA_BITS: Final = 2_048  # OCPP 2.0.1 A00.FR.505
_WEAK: Final = (hashes.MD5, hashes.SHA1)
_MAX_CHAIN: Final = 6
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
#: Critical extensions that `check_chain` looks at; any other critical one is refused (RFC 5280 §4.2).
_UNDERSTOOD: Final = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate and its PEM text, alone and normalised."""

    x509: x509.Certificate
    pem: str

    @property
    def name(self) -> str:
        """Its subject as text."""
        return self.x509.subject.rfc4514_string() or f"serial number {self.x509.serial_number:x}"

    @property
    def usual_algorithm(self) -> str:
        """The algorithm that its key is taken to sign with when nothing says which."""
        key = self.x509.public_key()
        if isinstance(key, ed25519.Ed25519PublicKey):
            return "ed25519"
        return "rsa-pss-sha256" if isinstance(key, rsa.RSAPublicKey) else "ecdsa-sha256"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose firmware we take.

    Attributes
    ----------
    roots : tuple of Certificate
        Root certificates of vendors (or ours, for images that we sign).
    revoked : frozenset of str
        SHA-256 fingerprints (lower-case hex) of certificates that count no longer.
    crls : tuple
        Certificate revocation lists of the issuers.
    """

    roots: tuple[Certificate, ...]
    revoked: frozenset[str] = frozenset()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


def read_certificates(pem: str) -> list[Certificate]:
    """Return the certificates of a PEM text, in its order.

    Raises
    ------
    FirmwareError
        If there is none, or one cannot be read.
    """
    blocks = _PEM.findall(pem)
    if not blocks:
        raise FirmwareError("format", "no certificate: expected PEM with -----BEGIN CERTIFICATE-----")
    try:
        found = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
        return [Certificate(each, each.public_bytes(Encoding.PEM).decode()) for each in found]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FirmwareError("format", f"a certificate cannot be read: {error}") from error


def trust_of(roots: Iterable[str], revoked: Iterable[str] = (), crls: Iterable[str] = ()) -> Trust:
    """Return the trust in PEM texts of roots, fingerprints, and PEM texts of revocation lists.

    Raises
    ------
    FirmwareError
        If one cannot be read.
    """
    certificates = tuple(each for text in roots for each in read_certificates(text))
    prints = frozenset(re.sub(r"[\s:]", "", text).lower() for text in revoked)
    for text in prints:
        if not re.fullmatch(r"[0-9a-f]{64}", text):
            raise FirmwareError("format", f"{text[:70]!r} is no SHA-256 fingerprint: expected 64 hex digits")
    try:
        lists = tuple(x509.load_pem_x509_crl(text.encode()) for text in crls)
    except ValueError as error:
        raise FirmwareError("format", f"a revocation list cannot be read: {error}") from error
    return Trust(certificates, prints, lists)


def fingerprint(pem: str) -> str:
    """Return the SHA-256 of a certificate's DER, hex."""
    return _print(read_certificates(pem)[0])


def _print(certificate: Certificate) -> str:
    return hashlib.sha256(certificate.x509.public_bytes(Encoding.DER)).hexdigest()


def check_chain(what: str, leaf: str, between: tuple[str, ...], trust: Trust, now_ms: int) -> None:
    """Check that `leaf` leads to a root of `trust` and that every certificate on the way counts at `now_ms`.

    Raises
    ------
    FirmwareError
        ``certificate``, ``expired`` or ``revoked``.
    """
    signer = read_certificates(leaf)[0]
    others = [each for text in between for each in read_certificates(text)]
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    _check_one(what, signer, trust, now)
    _check_leaf(what, signer)
    roots = {_print(root) for root in trust.roots}
    if _print(signer) in roots:
        return
    at, below = signer, 0
    for _ in range(_MAX_CHAIN):
        issuer = _issuer(at, trust.roots) or _issuer(at, others)
        if issuer is None:
            raise FirmwareError(
                "certificate",
                f"{what}: nothing known issued {at.name} (issuer {at.x509.issuer.rfc4514_string()}); add the "
                "certificates between to the chain, or the vendor's root to the trusted roots",
            )
        _check_one(what, issuer, trust, now)
        _check_authority(what, issuer, below)
        _check_lists(what, at, issuer, trust, now)
        if _print(issuer) in roots:
            return
        at, below = issuer, below + 1
    raise FirmwareError("certificate", f"{what}: the chain is longer than {_MAX_CHAIN} certificates")


def _issuer(of: Certificate, among: Iterable[Certificate]) -> Certificate | None:
    for each in among:
        if each.x509.subject != of.x509.issuer or each.x509 == of.x509:
            continue
        try:
            of.x509.verify_directly_issued_by(each.x509)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            continue
        return each
    return None


def _check_one(what: str, each: Certificate, trust: Trust, now: datetime) -> None:
    """Times, revocation by fingerprint, strength, extensions that nobody understands."""
    start, end = each.x509.not_valid_before_utc, each.x509.not_valid_after_utc
    if not start <= now <= end:
        raise FirmwareError(
            "expired",
            f"{what}: {each.name} is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, it is "
            f"{now:%Y-%m-%d %H:%M}; have the image signed with a valid certificate",
        )
    if _print(each) in trust.revoked:
        raise FirmwareError("revoked", f"{what}: {each.name} was revoked; have the image signed anew")
    _check_key(what, each)
    if isinstance(each.x509.signature_hash_algorithm, _WEAK):
        raise FirmwareError(
            "certificate", f"{what}: {each.name} is signed over SHA-1 or MD5; expected SHA-256"
        )
    for extension in each.x509.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise FirmwareError(
                "certificate", f"{what}: {each.name} has the critical extension {extension.oid.dotted_string}"
            )


def _check_key(what: str, each: Certificate) -> None:
    key = each.x509.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return
    size = getattr(key, "key_size", "?")
    raise FirmwareError(
        "certificate",
        f"{what}: {each.name} has a key of another kind ({type(key).__name__}, {size} bits); expected RSA of "
        f"{_MIN_RSA_BITS} bits or more, P-256, P-384, P-521 or Ed25519",
    )


def _check_leaf(what: str, signer: Certificate) -> None:
    usage = _extension(signer, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise FirmwareError("certificate", f"{what}: {signer.name} may not sign (key usage)")
    extended = _extension(signer, x509.ExtendedKeyUsage)
    allowed = {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extended is not None and not allowed & set(extended):
        raise FirmwareError(
            "certificate", f"{what}: {signer.name} is not for signing code (extended key usage)"
        )


def _check_authority(what: str, issuer: Certificate, below: int) -> None:
    basic = _extension(issuer, x509.BasicConstraints)
    if basic is None or not basic.ca:
        raise FirmwareError("certificate", f"{what}: {issuer.name} issued a certificate but is no authority")
    if basic.path_length is not None and below > basic.path_length:
        raise FirmwareError(
            "certificate",
            f"{what}: {issuer.name} allows {basic.path_length} authorities below it, not {below}",
        )
    usage = _extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise FirmwareError("certificate", f"{what}: {issuer.name} may not issue certificates (key usage)")


def _check_lists(what: str, each: Certificate, issuer: Certificate, trust: Trust, now: datetime) -> None:
    for revocations in trust.crls:
        if revocations.issuer != issuer.x509.subject:
            continue
        key = issuer.x509.public_key()
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
            continue
        if not revocations.is_signature_valid(key):
            continue
        until = revocations.next_update_utc
        if until is not None and until < now:
            raise FirmwareError(
                "expired",
                f"{what}: the revocation list of {issuer.name} ended {until:%Y-%m-%d %H:%M} UTC; "
                "fetch a new one",
            )
        if revocations.get_revoked_certificate_by_serial_number(each.x509.serial_number) is not None:
            raise FirmwareError(
                "revoked",
                f"{what}: {each.name} is on the revocation list of {issuer.name}; have it signed anew",
            )


def _extension(of: Certificate, kind: type[_T]) -> _T | None:
    try:
        return of.x509.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def check_signature(
    what: str, certificate: str, signature: str, algorithm: str, data: bytes | memoryview
) -> None:
    """Check a detached signature over `data` under the key of `certificate`.

    Raises
    ------
    FirmwareError
        ``signature``.
    """
    signer = read_certificates(certificate)[0]
    key = signer.x509.public_key()
    try:
        blob = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FirmwareError("signature", f"{what}: the signature is not base64: {error}") from error
    if algorithm not in ALGORITHMS:
        raise FirmwareError(
            "signature", f"{what}: algorithm {algorithm!r}: expected one of {', '.join(ALGORITHMS)}"
        )
    try:
        if algorithm == "ed25519" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(blob, data)
            return
        digest = hashlib.sha256(data).digest()
        sha256 = utils.Prehashed(hashes.SHA256())
        if algorithm == "ecdsa-sha256" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(blob, digest, ec.ECDSA(sha256))
            return
        if algorithm == "rsa-pss-sha256" and isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            key.verify(blob, digest, pss, sha256)
            return
        if algorithm == "rsa-pkcs1v15-sha256" and isinstance(key, rsa.RSAPublicKey):
            key.verify(blob, digest, padding.PKCS1v15(), sha256)
            return
    except InvalidSignature as error:
        raise FirmwareError(
            "signature",
            f"{what}: the signature ({algorithm}) does not hold under the key of {signer.name}: the file, "
            "the signature or the certificate is not the right one; get all three from the vendor again",
        ) from error
    raise FirmwareError(
        "signature",
        f"{what}: {algorithm} does not fit the key of {signer.name} ({type(key).__name__}); "
        f"{signer.usual_algorithm} would",
    )

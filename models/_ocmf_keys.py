"""Public keys of meters and the check of one signature, on every curve that OCMF names.

A key is read from what operators and devices write: SubjectPublicKeyInfo (DER) or a bare point, as hex or
base64, with blanks, or as PEM. The curve of a bare point is not in it and must be told.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils


class KeyProblem(ValueError):
    """A text that is no public key; says what it lacks."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One elliptic curve. `size` is the bytes of a coordinate, `curve` None where only `ecdsa` can."""

    name: str
    oid: bytes  # DER content of the object identifier
    size: int
    order: int
    curve: ec.EllipticCurve | None


_N192K1: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFE26F2FC170F69466A74DEFD8D


def _curves() -> dict[str, Curve]:
    given = (
        ("secp192k1", "2b8104001f", None),
        ("secp192r1", "2a8648ce3d030101", ec.SECP192R1()),
        ("secp256k1", "2b8104000a", ec.SECP256K1()),
        ("secp256r1", "2a8648ce3d030107", ec.SECP256R1()),
        ("secp384r1", "2b81040022", ec.SECP384R1()),
        ("brainpoolP256r1", "2b2403030208010107", ec.BrainpoolP256R1()),
        ("brainpoolP384r1", "2b240303020801010b", ec.BrainpoolP384R1()),
    )
    return {
        name: Curve(
            name,
            bytes.fromhex(oid),
            24 if curve is None else curve.key_size // 8,
            _N192K1 if curve is None else curve.group_order,
            curve,
        )
        for name, oid, curve in given
    }


#: Name -> curve; names as SEC 2 and RFC 5639 have them.
CURVES: Final = _curves()
_BY_OID: Final = {curve.oid: curve for curve in CURVES.values()}
_EC_PUBLIC_KEY: Final = bytes.fromhex("2a8648ce3d0201")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point on a curve, uncompressed (``04 x y``); equal keys are equal however they were written."""

    curve: str
    point: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 over curve name and point, hex."""
        return hashlib.sha256(self.curve.encode() + b"\0" + self.point).hexdigest()

    def spki_hex(self) -> str:
        """Return SubjectPublicKeyInfo (DER) as upper-case hex: what verification programs read."""
        oid = CURVES[self.curve].oid
        algorithm = _der(0x30, _der(0x06, _EC_PUBLIC_KEY) + _der(0x06, oid))
        return _der(0x30, algorithm + _der(0x03, b"\0" + self.point)).hex().upper()


def read_key(text: str, curve: str | None = None) -> PublicKey:
    """Return the key in `text`.

    Parameters
    ----------
    text : str
        SubjectPublicKeyInfo or a bare point: hex, base64 or PEM.
    curve : str, optional
        A name of `CURVES`: the curve of a bare point. A key that names its curve keeps that one.

    Raises
    ------
    KeyProblem
        If it is none, on an unknown curve, or the point is not on the curve.
    """
    found: KeyProblem | None = None
    for blob in _decodings(text):
        try:
            return _from_bytes(blob, curve)
        except KeyProblem as error:
            found = found or error
    raise found or KeyProblem("the key is neither hex nor base64")


def _decodings(text: str) -> list[bytes]:
    """Return what the text may stand for as bytes, the likelier first."""
    body = re.sub(r"-----(BEGIN|END)[A-Z ]*-----", "", text)
    body = re.sub(r"[\s:]", "", body)
    if not body.isascii() or len(body) > 4_096:
        return []
    found = []
    bare = body[2:] if body[:2] in ("0x", "0X") else body
    if len(bare) % 2 == 0 and re.fullmatch(r"[0-9A-Fa-f]+", bare):
        found.append(bytes.fromhex(bare))
    blob = from_base64(body)
    return [*found, blob] if blob else found


def from_base64(text: str) -> bytes | None:
    """Return the bytes of base64 text, also in its URL alphabet or without padding; None if it is none."""
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _from_bytes(blob: bytes, curve: str | None) -> PublicKey:
    if blob[:1] == b"\x30":
        return _from_spki(blob)
    known = None if curve is None else CURVES.get(curve)
    if known is None:
        raise KeyProblem("a bare point does not name its curve, and the record names none that is known")
    if len(blob) == 2 * known.size:
        blob = b"\x04" + blob
    return _on_curve(known, blob)


def _from_spki(blob: bytes) -> PublicKey:
    outer, rest = take_der(blob, 0x30)
    algorithm, bits = take_der(outer, 0x30)
    kind, parameters = take_der(algorithm, 0x06)
    if rest or kind != _EC_PUBLIC_KEY:
        raise KeyProblem("the key is no elliptic-curve SubjectPublicKeyInfo")
    oid, _ = take_der(parameters, 0x06)
    content, rest = take_der(bits, 0x03)
    known = _BY_OID.get(oid)
    if known is None:
        raise KeyProblem(f"the key lies on a curve that OCMF does not name (OID {oid.hex()})")
    if rest or content[:1] != b"\0":
        raise KeyProblem("the key's bit string is damaged")
    return _on_curve(known, content[1:])


def _on_curve(curve: Curve, point: bytes) -> PublicKey:
    """Return the key of `point`, which may be compressed, if it lies on the curve."""
    try:
        if curve.curve is None:
            key = _key_192k1(point)
            return PublicKey(curve.name, bytes(key.to_string("uncompressed")))
        loaded = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, point)
        numbers = loaded.public_numbers()
    except (ValueError, UnsupportedAlgorithm, AssertionError) as error:
        raise KeyProblem(f"the key is no point of {curve.name}: {error}") from error
    size = curve.size
    return PublicKey(curve.name, b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big"))


def verify(key: PublicKey, signature: tuple[int, int], signed: bytes) -> bool:
    """Return whether (r, s) signs the SHA-256 of `signed` under `key`; the digest is cut to the curve."""
    r, s = signature
    curve = CURVES[key.curve]
    if not (0 < r < curve.order and 0 < s < curve.order):
        return False
    digest = hashlib.sha256(signed).digest()
    if curve.curve is None:
        return _verify_192k1(key.point, r, s, digest)
    try:
        loaded = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, key.point)
        algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        loaded.verify(utils.encode_dss_signature(r, s), digest, algorithm)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1)
def _curve_192k1() -> Any:
    """Return secp192k1 (SEC 2, section 2.2.1) for `ecdsa`, which does not come with it."""
    from ecdsa import curves, ellipticcurve

    p = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFEE37
    plane = ellipticcurve.CurveFp(p, 0, 3, 1)
    generator = ellipticcurve.PointJacobi(
        plane,
        0xDB4FF10EC057E9AE26B07D0280B7F4341DA5D1B1EAE06C7D,
        0x9B2F2F6D9C5628A7844163D015BE86344082AA88D95E2F9D,
        1,
        _N192K1,
        generator=True,
    )
    return curves.Curve("SECP192k1", plane, generator, (1, 3, 132, 0, 31))


@lru_cache(maxsize=256)
def _key_192k1(point: bytes) -> Any:
    from ecdsa import VerifyingKey
    from ecdsa.errors import MalformedPointError

    try:
        return VerifyingKey.from_string(point, curve=_curve_192k1(), hashfunc=hashlib.sha256)
    except MalformedPointError as error:
        raise ValueError(str(error) or "malformed point") from error


def _verify_192k1(point: bytes, r: int, s: int, digest: bytes) -> bool:
    from ecdsa.keys import BadSignatureError

    try:
        return bool(
            _key_192k1(point).verify_digest(b"", digest, sigdecode=lambda *_: (r, s), allow_truncate=True)
        )
    except BadSignatureError:
        return False


def take_der(blob: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the content of the DER element at the start of `blob` and what follows it.

    Raises
    ------
    KeyProblem
        If another element or none stands there.
    """
    if len(blob) < 2 or blob[0] != tag:
        raise KeyProblem(f"expected DER tag {tag:#04x}")
    length, at = blob[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or len(blob) < 2 + count:
            raise KeyProblem("a DER length is damaged")
        length, at = int.from_bytes(blob[2 : 2 + count], "big"), 2 + count
    if len(blob) < at + length:
        raise KeyProblem("the DER ends too early")
    return blob[at : at + length], blob[at + length :]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x81, size])
    return bytes([tag]) + length + content

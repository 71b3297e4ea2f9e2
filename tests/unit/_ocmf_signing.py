"""Makes signed meter values for tests: keys on every curve, records as devices write them."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ecdsa import SigningKey
from ecdsa.util import sigencode_der

from models import _ocmf_keys

CURVES: dict[str, ec.EllipticCurve | None] = {
    "secp192k1": None,
    "secp192r1": ec.SECP192R1(),
    "secp256k1": ec.SECP256K1(),
    "secp256r1": ec.SECP256R1(),
    "secp384r1": ec.SECP384R1(),
    "brainpool256r1": ec.BrainpoolP256R1(),
    "brainpool384r1": ec.BrainpoolP384R1(),
}
BEGIN: dict[str, Any] = {
    "TM": "2026-03-01T10:00:00,000+0100 S", "TX": "B", "RV": 100.5, "RI": "1-0:1.8.0", "RU": "kWh",
    "RT": "AC", "EF": "", "ST": "G",
}  # fmt: skip
END: dict[str, Any] = {"TM": "2026-03-01T11:00:00,000+0100 S", "TX": "E", "RV": 111.25}
HEAD: dict[str, Any] = {
    "FV": "1.0", "GI": "gw", "GS": "gw-1", "GV": "1", "PG": "T7", "MV": "DZG", "MM": "DVH", "MS": "meter-1",
    "IS": True, "IL": "VERIFIED", "IF": [], "IT": "ISO14443", "ID": "04AB",
}  # fmt: skip


@lru_cache
def key(curve: str, number: int = 0) -> Any:
    """Return a private key, the same each time."""
    kind = CURVES[curve]
    if kind is None:
        return SigningKey.from_secret_exponent(0xABCDEF1234567 + number, curve=_ocmf_keys._curve_192k1())
    return ec.derive_private_key(0xABCDEF1234567 + number, kind)


def spki(curve: str, number: int = 0) -> str:
    private = key(curve, number)
    if CURVES[curve] is None:
        oid = bytes.fromhex("06052b8104001f")
        algorithm = bytes.fromhex("06072a8648ce3d0201") + oid
        point = b"\0" + private.verifying_key.to_string("uncompressed")
        body = b"\x30" + bytes([len(algorithm)]) + algorithm + b"\x03" + bytes([len(point)]) + point
        made: bytes = b"\x30" + bytes([len(body)]) + body
        return made.hex()
    blob: bytes = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return blob.hex()


def point(curve: str, number: int = 0) -> bytes:
    size = 24 if CURVES[curve] is None else (CURVES[curve].key_size + 7) // 8  # type: ignore[union-attr]
    return bytes.fromhex(spki(curve, number))[-2 * size - 1 :]


def sign(payload: str, curve: str, number: int = 0) -> bytes:
    private = key(curve, number)
    if CURVES[curve] is None:
        digest = hashlib.sha256(payload.encode()).digest()
        made: bytes = private.sign_digest_deterministic(
            digest, hashfunc=hashlib.sha256, sigencode=sigencode_der, allow_truncate=True
        )
        return made
    signed: bytes = private.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
    return signed


def record(
    *readings: dict[str, Any],
    curve: str = "secp256r1",
    number: int = 0,
    section: dict[str, Any] | None = None,
    payload: str | None = None,
    **head: Any,
) -> str:
    """Return a signed record; `section` replaces fields of the signature section, None leaves one out."""
    body = json.dumps(HEAD | head | {"RD": list(readings)}) if payload is None else payload
    made = sign(body, curve, number)
    fields: dict[str, Any] = {"SA": f"ECDSA-{curve}-SHA256", "SD": made.hex()} | (section or {})
    if fields.get("SE") == "base64":
        fields["SD"] = base64.b64encode(made).decode()
    return f"OCMF|{body}|{json.dumps({k: v for k, v in fields.items() if v is not None})}"

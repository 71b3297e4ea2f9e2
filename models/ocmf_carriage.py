"""Where signed meter values travel: OCPP signedMeterValue, OCPI signed_data. Both ways, texts untouched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .ocmf import SignedText

_CONTEXTS: Final = {"start": "Transaction.Begin", "end": "Transaction.End"}
_NATURES: Final = {"Transaction.Begin": "Start", "Transaction.End": "End"}
MAX_TEXT: Final = 1 << 20


def from_ocpp(signed: Mapping[str, Any], transaction_id: str = "", context: str = "") -> SignedText:
    """Return the record in an OCPP 2.x ``signedMeterValue`` (signedMeterData and publicKey are base64).

    Also of OCPP 1.6, where the value itself is the text: ``{"value": TEXT}``.
    """
    encoding = str(signed.get("encodingMethod") or "OCMF")
    if "ocmf" not in encoding.lower():
        return SignedText("", transaction_id, context, problem=f"encoding {encoding[:40]!r} is not OCMF")
    text = _plain(signed.get("signedMeterData", signed.get("value")))
    key = _plain(signed.get("publicKey")).removeprefix("oca:base16:asn1:")
    return SignedText(text, transaction_id, context, key)


def _plain(value: Any) -> str:
    """Return text that may be wrapped in base64; the key of a device is base64 of text or of bytes."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return ""
    if value.lstrip().startswith("OCMF|"):
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return value


def from_ocpi(found: Mapping[str, Any]) -> list[SignedText]:
    """Return the records in an OCPI CDR, or in its ``signed_data`` alone."""
    data = found.get("signed_data", found)
    values = data.get("signed_values") if isinstance(data, Mapping) else None
    if not isinstance(values, list):
        return []
    method = str(data.get("encoding_method") or "OCMF")
    key, session = data.get("public_key"), found.get("session_id")
    out = []
    for value in values:
        value = value if isinstance(value, Mapping) else {}
        nature = str(value.get("nature", "")).lower()
        texts = [value.get(name) for name in ("signed_data", "plain_data")]
        text = next((t for t in texts if isinstance(t, str) and t.lstrip().startswith("OCMF|")), texts[0])
        out.append(
            SignedText(
                text if isinstance(text, str) else "",
                session if isinstance(session, str) else "",
                _CONTEXTS.get(nature, ""),
                key if isinstance(key, str) else "",
                "" if "ocmf" in method.lower() else f"encoding {method[:40]!r} is not OCMF",
            )
        )
    return out


def to_ocpi(records: Sequence[SignedText], public_key: str = "") -> dict[str, Any]:
    """Return ``signed_data`` for a CDR: the texts as they came; `public_key` as the operator knows it."""
    out: dict[str, Any] = {"encoding_method": "OCMF"}
    if key := public_key or next((r.public_key for r in records if r.public_key), ""):
        out["public_key"] = key
    out["signed_values"] = [
        {
            "nature": _NATURES.get(record.context, "Intermediate"),
            "plain_data": record.text.split("|")[1] if record.text.count("|") >= 2 else record.text,
            "signed_data": record.text,
        }
        for record in records
    ]
    return out

"""Signed values of a transaction: checked when its end is judged, and written into its bill untouched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from ._tx_state import Tx
from .ocmf import KeyRegister, Rules, SignedText, split_texts, verify_record, verify_transaction
from .ocmf_carriage import from_ocpp, to_ocpi

#: ``check``: what fails goes to review; ``require``: what is missing or cannot be proven does too.
Mode = Literal["ignore", "check", "require"]
VALID: Final = "valid"
MISSING: Final = "missing"
UNSUPPORTED: Final = "unsupported"
#: Verdicts that a person must look at whatever the mode.
FAILED: Final = frozenset({"invalid", "review"})
_MOST_REASONS: Final = 8
_OTHER: Final = "is not OCMF"


@dataclass(frozen=True, slots=True)
class Signatures:
    """How signed values are checked; `keys` are those that the operator registered."""

    keys: KeyRegister = field(default_factory=KeyRegister)
    mode: Mode = "check"

    def check(self, tx: Tx, meter_serial: str) -> None:
        """Note in `tx` what its signed values prove; `meter_serial` is of the EVSE's meter, "" unknown.

        Only for a transaction whose end is known. What was checked once is not checked again.
        """
        if self.mode == "ignore":
            return
        what = hashlib.blake2b(msgspec.msgpack.encode(tx.signed), digest_size=8).hexdigest()
        if tx.final and tx.proof is not None and tx.proof["of"] == what:
            return  # another meter or key since then says nothing of it
        registered = bool(meter_serial) and bool(self.keys.find(meter_serial, None)[1])
        required = self.mode == "require"
        proof = {"of": what, "verdict": MISSING, "required": required}
        if tx.signed:
            rules = Rules(max_power_w=tx.p_max_w, meter_serial=meter_serial if registered else "")
            proof |= _proven(texts_of(tx.signed, tx.tx_id), self.keys, rules)
        tx.proof = proof if tx.signed or registered or required else None


def _proven(texts: list[SignedText], keys: KeyRegister, rules: Rules) -> dict[str, Any]:
    if any(_OTHER in text.problem for text in texts):
        return {"verdict": UNSUPPORTED, "reasons": sorted({text.problem for text in texts})[:_MOST_REASONS]}
    records = [verify_record(text, keys, index) for index, text in enumerate(texts)]
    found = verify_transaction(records, rules)
    begin, end = (found.span.begin, found.span.end) if found.span else (None, None)
    return {
        "verdict": found.verdict,
        "reasons": list(found.reasons[:_MOST_REASONS]),
        "energy_mwh": found.energy_mwh,
        "begin_mwh": None if begin is None else _mwh(begin.energy_mwh),
        "end_mwh": None if end is None else _mwh(end.energy_mwh),
        "algorithms": sorted({r.algorithm for r in records if r.algorithm}),
        "keys": sorted({r.key_fingerprint for r in records if r.key_trusted and r.key_fingerprint}),
    }


def _mwh(energy: Any) -> int | None:
    return None if energy is None else int(energy.to_integral_value())


def texts_of(signed: Sequence[Any], tx_id: str = "") -> list[SignedText]:
    """Return the records in what messages carried: texts, OCPP objects, or lists of them."""
    found: dict[tuple[str, str], SignedText] = {}
    for text in _each(signed, tx_id):
        found.setdefault((text.text, text.problem), text)
    return list(found.values())


def _each(signed: Sequence[Any], tx_id: str) -> Iterator[SignedText]:
    for item in signed:
        if isinstance(item, str):
            whole = from_ocpp({"value": item}, tx_id)
            for part in split_texts(whole.text):
                yield SignedText(part, tx_id)
        elif isinstance(item, Mapping):
            carried = {"value": item["data"]} if "data" in item else item
            yield from_ocpp(carried, tx_id, str(item.get("context") or ""))
        elif isinstance(item, list | tuple):
            yield from _each(item, tx_id)


def signed_data(signed: Sequence[Any]) -> dict[str, Any] | None:
    """Return OCPI ``signed_data`` of what messages carried, None when they carried nothing."""
    texts = texts_of(signed)
    if not texts:
        return None
    unknown = [text for text in texts if text.problem]
    if unknown:
        return _as_sent(signed)
    last = len(texts) - 1
    return to_ocpi([_with_context(text, i, last) for i, text in enumerate(texts)])


def _with_context(text: SignedText, index: int, last: int) -> SignedText:
    """Name what a record is where its message did not: the first begins, the last ends."""
    if text.context:
        return text
    context = "Transaction.End" if index == last else "Transaction.Begin" if index == 0 else ""
    return SignedText(text.text, text.transaction_id, context, text.public_key)


def _as_sent(signed: Sequence[Any]) -> dict[str, Any]:
    """Return signed values of a format that is not read here, as they came."""
    items = [item for value in signed for item in (value if isinstance(value, list) else [value])]
    methods = [str(i["encodingMethod"]) for i in items if isinstance(i, Mapping) and i.get("encodingMethod")]
    texts = [
        str(i.get("signedMeterData", i.get("data", ""))) if isinstance(i, Mapping) else str(i) for i in items
    ]
    last = len(texts) - 1
    return {
        "encoding_method": methods[0][:36] if methods else "OCMF",
        "signed_values": [
            {
                "nature": "End" if k == last else "Start" if k == 0 else "Intermediate",
                "plain_data": "",
                "signed_data": text,
            }
            for k, text in enumerate(texts)
        ],
    }

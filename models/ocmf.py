"""Signed meter values in the Open Charge Metering Format: are they genuine, and do they prove a transaction?

`verify_record` checks one signature, `verify_transaction` the records of one transaction together. A key that
comes with the message proves nothing about the meter: only keys that the operator registered (`KeyRegister`),
or gave by hand, make a transaction ``valid``. Nothing here raises for what a record holds: each input has a
verdict with its reason.

Format: OCMF 1.4.1 (S.A.F.E. e.V.); rules on transactions as the public transparency software has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from ._ocmf_keys import CURVES, KeyProblem, PublicKey, read_key, verify
from ._ocmf_record import (
    DEFAULT_ALGORITHM,
    Frame,
    Payload,
    Reading,
    RecordProblem,
    Signature,
    read_payload,
    read_signature,
    split_record,
)
from ._ocmf_rules import Check, Rules, Span, check_transaction
from .units import wh_text

__all__ = [
    "CURVES", "DEFAULT_ALGORITHM", "Check", "KeyProblem", "KeyRegister", "Payload", "PublicKey", "Reading",
    "RecordVerdict", "Rules", "SignedText", "TransactionVerdict", "read_key", "split_texts", "transactions",
    "verify_record", "verify_transaction",
]  # fmt: skip

_USUAL: Final = Rules()
_RECORD_START: Final = re.compile(r"^[ \t]*(?=OCMF\|)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SignedText:
    """A record as it arrived, and what its container says of it; the key in it is not trusted."""

    text: str
    transaction_id: str = ""
    context: str = ""
    public_key: str = ""
    problem: str = ""  # why the container's content is no OCMF text


class KeyRegister:
    """Public keys by meter serial, as the operator registered them.

    Parameters
    ----------
    keys : iterable of (serial, key text, curve name or None)
        A serial may have several. The curve is needed for bare points only; without one, the record's counts.
    for_all : str
        One key for every serial, given by hand.

    Raises
    ------
    KeyProblem
        If a key cannot be read; names its serial.
    """

    def __init__(self, keys: Iterable[tuple[str, str, str | None]] = (), *, for_all: str = "") -> None:
        self._keys: dict[str, list[tuple[str, str | None]]] = {}
        for serial, text, curve in keys:
            _must_read(text, curve, f"key of meter {serial}")
            self._keys.setdefault(serial.strip(), []).append((text, curve))
        if for_all:
            _must_read(for_all, None, "public key")
        self._for_all = for_all

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, serial: str, curve: str | None) -> tuple[str, list[PublicKey]]:
        """Return where the keys for `serial` come from (``argument``, ``register``) and the keys."""
        if self._for_all:
            return "argument", _readable([(self._for_all, None)], curve)
        return "register", _readable(self._keys.get(serial, []), curve)


def _readable(texts: Sequence[tuple[str, str | None]], curve: str | None) -> list[PublicKey]:
    found = []
    for text, own in texts:
        try:
            found.append(read_key(text, own or curve))
        except KeyProblem:
            continue  # a bare point of another curve than this record's
    return found


def _must_read(text: str, curve: str | None, what: str) -> None:
    """Raise KeyProblem unless `text` is a key, on any curve if it is a bare point."""
    problem = None
    for name in [curve] if curve else [None, *CURVES]:
        try:
            read_key(text, name)
            return
        except KeyProblem as error:
            problem = problem or error
    raise KeyProblem(f"{what}: {problem}")


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """What is known of one record.

    Attributes
    ----------
    signature_valid : bool or None
        None: there is no key to check it with.
    key_source : str
        ``argument``, ``register``, ``container``, ``record`` or empty; the first two are trusted.
    payload : Payload or None
        None when it cannot be read.
    """

    index: int
    signature_valid: bool | None
    algorithm: str | None
    reason: str
    key_source: str = ""
    key_fingerprint: str = ""
    payload: Payload | None = None
    signed: SignedText = SignedText("")

    @property
    def key_trusted(self) -> bool:
        """Whether the key is one that the operator vouches for."""
        return self.key_source in ("argument", "register")

    def shown(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        found = self.payload
        return {
            "index": self.index,
            "signature_valid": self.signature_valid,
            "algorithm": self.algorithm,
            "reason": self.reason,
            "key_source": self.key_source or None,
            "key_trusted": self.key_trusted,
            "key_fingerprint": self.key_fingerprint or None,
            "context": self.signed.context or None,
            "format_version": found.version if found else None,
            "meter_serial": found.serial if found else None,
            "pagination": found.pagination if found else None,
            "readings": [_shown_reading(r) for r in found.readings] if found else [],
        }


def _shown_reading(reading: Reading) -> dict[str, Any]:
    return {
        "TX": reading.tx,
        "TM": reading.time_text,
        "RI": reading.identifier,
        "RV": reading.value_text,
        "RU": reading.unit,
        "ST": reading.status,
        "EF": reading.error_flags,
    }


@dataclass(frozen=True, slots=True)
class TransactionVerdict:
    """What is known of one transaction.

    Attributes
    ----------
    verdict : str
        ``valid``: may be billed. ``invalid``: a signature or a record is wrong. ``review``: the signatures
        hold, a rule does not. ``unproven``: nothing is wrong, but no key that the operator vouches for.
    energy_mwh : int or None
        End minus begin, rounded half to even; None when there is no begin and end.
    """

    verdict: str
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    records: tuple[RecordVerdict, ...]
    transaction_id: str
    span: Span | None

    @property
    def energy_mwh(self) -> int | None:
        """Energy of the transaction, mWh."""
        return None if self.span is None else int(self.span.energy_mwh.to_integral_value())

    def shown(self) -> dict[str, Any]:
        """Return the verdict as plain data; energy in Wh as exact text."""
        span, payload = self.span, next((r.payload for r in self.records if r.payload), None)
        energy = self.energy_mwh
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "transaction_id": self.transaction_id or None,
            "records": [record.index for record in self.records],
            "energy_wh": None if energy is None else wh_text(energy),
            "begin": _shown_reading(span.begin) if span else None,
            "end": _shown_reading(span.end) if span else None,
            "duration_s": _seconds(span.duration_ms) if span else None,
            "duration_proven": span.duration_proven if span else False,
            "meter_serial": payload.serial if payload else None,
            "user": {"type": payload.id_type, "id": payload.user} if payload else None,
            "key_trusted": bool(self.records) and all(r.key_trusted for r in self.records),
            "checks": {c.rule: c.detail or "passed" for c in self.checks},
        }


def _seconds(duration_ms: int | None) -> float | None:
    return None if duration_ms is None else float(Decimal(duration_ms) / 1000)


def split_texts(text: str) -> list[str]:
    """Return the records of a text that holds one or several, each beginning a line with ``OCMF|``."""
    starts = [found.start() for found in _RECORD_START.finditer(text)]
    if len(starts) <= 1:
        return [text]
    return [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def verify_record(signed: SignedText, keys: KeyRegister, index: int = 0) -> RecordVerdict:
    """Return the verdict on one record; never raises for what it holds.

    A registered key decides alone. Only where there is none, the key of the container or the record is tried,
    which shows that the record is whole, not that it comes from the meter.
    """
    if signed.problem:
        return RecordVerdict(index, False, None, signed.problem, signed=signed)
    try:
        frame = split_record(signed.text)
        signature = read_signature(frame.signature)
    except RecordProblem as error:
        return RecordVerdict(index, False, None, str(error), signed=signed)
    payload, problem = None, ""
    try:
        payload = read_payload(frame.payload)
    except RecordProblem as error:
        problem = str(error)
    if signature.problem or problem:
        reason = signature.problem or problem
        return RecordVerdict(index, False, signature.algorithm, reason, payload=payload, signed=signed)
    return _with_keys(index, signed, frame, signature, payload, keys)


def _with_keys(
    index: int,
    signed: SignedText,
    frame: Frame,
    signature: Signature,
    payload: Payload | None,
    keys: KeyRegister,
) -> RecordVerdict:
    serial = payload.serial if payload else ""
    source, trusted = keys.find(serial, signature.curve)
    carried = _carried(signed, frame, signature.curve)
    offers = [(source, key) for key in trusted] or carried
    if not offers:
        reason = f"no public key of meter {serial or 'without a serial'} is registered"
        return RecordVerdict(index, None, signature.algorithm, reason, payload=payload, signed=signed)
    values = signature.values or (0, 0)
    hit = next(((name, key) for name, key in offers if verify(key, values, frame.signed)), None)
    name, key = hit or offers[0]
    reason = _reason(name, key, signature, hit is not None)
    if trusted and carried:
        reason += _compared(carried, key, values, frame, hit is not None)
    return RecordVerdict(
        index, hit is not None, signature.algorithm, reason, name, key.fingerprint, payload, signed
    )


def _carried(signed: SignedText, frame: Frame, curve: str | None) -> list[tuple[str, PublicKey]]:
    """Return the keys that came with the record."""
    found = []
    for source, text in (("container", signed.public_key), ("record", frame.key)):
        found += [(source, key) for key in _readable([(text, None)], curve) if text]
    return found


_SOURCES: Final = {
    "argument": "the given key",
    "register": "the registered key",
    "container": "the key in the file, which proves no meter",
    "record": "the key in the record, which proves no meter",
}


def _reason(source: str, key: PublicKey, signature: Signature, valid: bool) -> str:
    reason = f"signature {'matches' if valid else 'does not match'} {_SOURCES[source]}"
    if signature.curve != key.curve:
        reason += f"; the record names {signature.algorithm}, the key lies on {key.curve}"
    return reason


def _compared(
    carried: list[tuple[str, PublicKey]], key: PublicKey, values: tuple[int, int], frame: Frame, valid: bool
) -> str:
    others = [other for _, other in carried if other != key]
    if not others:
        return ""
    if not valid and any(verify(other, values, frame.signed) for other in others):
        return "; it matches another key, which came with it"
    return "; another key came with it"


def verify_transaction(records: Sequence[RecordVerdict], rules: Rules = _USUAL) -> TransactionVerdict:
    """Return the verdict on the records of one transaction; the same record twice counts once."""
    once = list({(r.signed.text.strip(), r.signed.problem): r for r in reversed(records)}.values())[::-1]
    payloads = [r.payload for r in once if r.payload]
    span, checks = check_transaction(payloads, rules) if payloads else (None, [])
    wrong = [f"record {r.index}: {r.reason}" for r in once if r.signature_valid is False]
    failed = [f"{c.rule}: {c.detail}" for c in checks if not c.passed]
    unproven = [f"record {r.index}: {r.reason}" for r in once if r.signature_valid is None]
    if not unproven and any(not r.key_trusted for r in once):
        unproven = ["no key of this meter is registered; the one in the message is not trusted"]
    if not once:
        wrong = ["no records"]
    verdict = "invalid" if wrong else "review" if failed else "unproven" if unproven else "valid"
    ids = {r.signed.transaction_id for r in once}
    return TransactionVerdict(
        verdict,
        (*wrong, *failed, *unproven),
        tuple(checks),
        tuple(records),
        next(iter(ids)) if len(ids) == 1 else "",
        span,
    )


def transactions(records: Sequence[RecordVerdict]) -> list[list[RecordVerdict]]:
    """Return the records by transaction: by the container's id, else a begin after an end is a new one."""
    groups: dict[str, list[list[RecordVerdict]]] = {}
    for record in records:
        parts = groups.setdefault(record.signed.transaction_id, [[]])
        marks = _marks(record)
        if (
            not record.signed.transaction_id
            and "B" in marks
            and _ended(parts[-1])
            and not _repeats(parts, record)
        ):
            parts.append([])
        parts[-1].append(record)
    return [part for parts in groups.values() for part in parts if part]


def _marks(record: RecordVerdict) -> set[str]:
    return {reading.tx for reading in record.payload.readings} if record.payload else set()


def _ended(part: list[RecordVerdict]) -> bool:
    return any(_marks(record) - {"B", "C", "X", "S", "T", ""} for record in part)


def _repeats(parts: list[list[RecordVerdict]], record: RecordVerdict) -> bool:
    return any(record.signed.text.strip() == known.signed.text.strip() for known in parts[-1])

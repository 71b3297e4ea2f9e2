"""One OCMF record as its sender wrote it: framing, payload, signature section.

Lenient where real devices deviate and nothing depends on it (numbers as text, blanks, spellings of OBIS codes
and times, missing optional fields); what cannot be read one way only is a problem, never a guess.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ._ocmf_keys import KeyProblem, from_base64, take_der

#: The algorithm of a signature section without SA.
DEFAULT_ALGORITHM: Final = "ECDSA-secp256r1-SHA256"
MAX_TEXT: Final = 1 << 20

BEGIN: Final = "B"
#: An error while charging; the transaction goes on.
EXCEPTION: Final = "X"
#: Ends of a transaction: at the car, locally, remotely, aborted, by power failure.
ENDS: Final = frozenset("ELRAP")

_CURVE_OF: Final = {
    "secp192k1": "secp192k1",
    "secp192r1": "secp192r1",
    "prime192v1": "secp192r1",
    "secp256k1": "secp256k1",
    "secp256r1": "secp256r1",
    "prime256v1": "secp256r1",
    "secp384r1": "secp384r1",
    "brainpool256r1": "brainpoolP256r1",
    "brainpoolp256r1": "brainpoolP256r1",
    "brainpool384r1": "brainpoolP384r1",
    "brainpoolp384r1": "brainpoolP384r1",
}
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[,.](\d{1,9}))?\s*(?:Z|([+-])(\d\d):?(\d\d))(?:\s+([A-Za-z]))?"
)
_OBIS: Final = re.compile(
    r"(?:([0-9a-zA-Z]{1,3})-([0-9a-zA-Z]{1,3}):)?([0-9A-Fa-f]{1,3})\.([0-9]{1,3})(?:\.([0-9A-Fa-f]{1,3}))?"
    r"(?:[*.&]([0-9A-Fa-f]{1,3}))?"
)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_WH: Final = {"kwh": Decimal(1000), "wh": Decimal(1)}


class RecordProblem(ValueError):
    """A record that cannot be read; says what stands there."""


class _Twice(ValueError):
    """A name that stands twice in one JSON object."""


class NumberText(str):
    """A JSON number as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """One entry of RD, with what it inherits from the one before.

    Attributes
    ----------
    time_ms : int or None
        Epoch ms; None when the text is no time.
    sync : str
        ``S`` synchronised, ``R`` relative, ``I`` informative, ``U`` unsynchronised; empty when not said.
    value : Decimal or None
        In `unit`; None when absent or no number. `value_text` is as written.
    obis : str
        Normalised ``C.D.E`` in upper-case hex without leading zeros, empty when absent or unreadable.
    """

    tx: str
    time_text: str
    time_ms: int | None
    sync: str
    value_text: str
    value: Decimal | None
    identifier: str
    obis: str
    unit: str
    current: str
    error_flags: str
    status: str

    @property
    def energy_mwh(self) -> Decimal | None:
        """The value in mWh, exact; None when it is no energy."""
        factor = _WH.get(self.unit.lower())
        return None if factor is None or self.value is None else self.value * factor * 1000

    @property
    def imports(self) -> bool | None:
        """Whether the register counts energy to the car; None when its code does not say."""
        group = self.obis.split(".")[0]
        if group in ("1", "B0", "B1", "B2", "B3"):
            return True
        return False if group in ("2", "C0", "C1", "C2", "C3") else None


@dataclass(frozen=True, slots=True)
class Payload:
    """What a record says; text fields are empty when absent."""

    version: str
    gateway: str
    gateway_serial: str
    pagination: str  # as written
    page: tuple[str, int] | None  # letter and number; None when it cannot be read
    meter_serial: str
    identified: bool | None
    level: str
    id_type: str
    user: str
    event_counter: str
    tariff_text: str
    readings: tuple[Reading, ...]

    @property
    def serial(self) -> str:
        """What the key register knows the meter by: MS, or GS where the gateway is the meter."""
        return self.meter_serial or self.gateway_serial


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature section. `curve` is None when the algorithm is unknown."""

    algorithm: str
    explicit: bool
    curve: str | None
    values: tuple[int, int] | None
    problem: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The parts of a record's text; `signed` are the bytes that are signed."""

    payload: str
    signature: str
    key: str

    @property
    def signed(self) -> bytes:
        """The payload exactly as sent."""
        return self.payload.encode()


def split_record(text: str) -> Frame:
    """Return the parts of ``OCMF|payload|signature``, also with a key as fourth part.

    Raises
    ------
    RecordProblem
        If the text is framed otherwise.
    """
    text = text.strip().removeprefix("\ufeff")
    if len(text) > MAX_TEXT:
        raise RecordProblem(f"{len(text)} characters, more than the {MAX_TEXT} a record may have")
    parts = text.split("|")
    if parts[0].strip() != "OCMF":
        raise RecordProblem(f"expected OCMF|payload|signature, the text starts with {text[:20]!r}")
    if not 3 <= len(parts) <= 4:
        raise RecordProblem(f"expected OCMF|payload|signature, found {len(parts)} parts")
    try:
        parts[1].encode()
    except UnicodeEncodeError as error:
        raise RecordProblem(f"the payload is no text: {error.reason}") from error
    return Frame(parts[1], parts[2], parts[3].strip() if len(parts) == 4 else "")


def read_payload(text: str) -> Payload:
    """Return what the payload says.

    Raises
    ------
    RecordProblem
        If it is no JSON object, names a field twice, or its readings are no list of objects.
    """
    found = _object(text, "payload")
    readings = found.get("RD", [])
    if not isinstance(readings, list) or not all(isinstance(entry, dict) for entry in readings):
        raise RecordProblem("RD is no list of readings")
    known = found.get("IS")
    pagination = _text(found, "PG")
    page = re.fullmatch(r"([TF])([0-9]{1,18})", pagination)
    return Payload(
        version=_text(found, "FV"),
        gateway=_text(found, "GI"),
        gateway_serial=_text(found, "GS"),
        pagination=pagination,
        page=(page[1], int(page[2])) if page else None,
        meter_serial=_text(found, "MS"),
        identified=known if isinstance(known, bool) else None,
        level=_text(found, "IL"),
        id_type=_text(found, "IT"),
        user=_text(found, "ID"),
        event_counter=_text(found, "EI"),
        tariff_text=_text(found, "TT"),
        readings=_readings(readings),
    )


def read_signature(text: str) -> Signature:
    """Return the signature section; what is wrong with it is in `problem`.

    Raises
    ------
    RecordProblem
        If it is no JSON object or names a field twice.
    """
    found = _object(text, "signature")
    algorithm = _text(found, "SA")
    named = re.fullmatch(r"ecdsa-([a-z0-9]+)-sha-?256", (algorithm or DEFAULT_ALGORITHM).lower())
    curve = _CURVE_OF.get(named[1]) if named else None
    values, problem = None, "" if curve else f"signature algorithm {algorithm[:60]!r} is unknown"
    coding = _text(found, "SE").lower() or "hex"
    mime = _text(found, "SM").lower()
    if mime not in ("", "application/x-der", "der"):
        problem = problem or f"signature format SM {mime[:60]!r} is unknown"
    if not problem:
        try:
            values = _der_signature(_signature_bytes(_text(found, "SD"), coding))
        except (KeyProblem, RecordProblem) as error:
            problem = f"signature data cannot be read: {error}"
    return Signature(algorithm or DEFAULT_ALGORITHM, bool(algorithm), curve, values, problem)


def _signature_bytes(text: str, coding: str) -> bytes:
    if coding not in ("hex", "base64"):
        raise RecordProblem(f"encoding SE {coding[:60]!r} is unknown, expected hex or base64")
    body = re.sub(r"\s", "", text)
    if not body:
        raise RecordProblem("SD is missing")
    if coding == "hex" and len(body) % 2 == 0 and re.fullmatch(r"[0-9A-Fa-f]+", body):
        return bytes.fromhex(body)
    blob = from_base64(body)  # devices that write base64 without saying so are known
    if blob is None:
        raise RecordProblem(f"SD is no {coding}")
    return blob


def _der_signature(blob: bytes) -> tuple[int, int]:
    """Return r and s; some devices leave out the sign byte, so they are read as unsigned."""
    body, rest = take_der(blob, 0x30)
    r, body = take_der(body, 0x02)
    s, body = take_der(body, 0x02)
    if rest or body:
        raise RecordProblem("bytes follow the signature")
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")


def _object(text: str, part: str) -> dict[str, Any]:
    try:
        found = json.loads(
            text,
            parse_float=NumberText,
            parse_int=NumberText,
            parse_constant=_no_constant,
            object_pairs_hook=_once,
        )
    except _Twice as twice:
        raise RecordProblem(f"the {part} names {str(twice)[:40]!r} twice") from None
    except RecursionError:
        raise RecordProblem(f"the {part} is nested too deeply") from None
    except ValueError as error:
        raise RecordProblem(f"the {part} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise RecordProblem(f"the {part} is no JSON object")
    return found


def _no_constant(name: str) -> Any:
    raise RecordProblem(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that stands twice: two programs would read two amounts from one signed text."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Twice(twice)
    return found


def _text(found: dict[str, Any], name: str) -> str:
    """Return a text or number field as text, empty when it is absent or something else."""
    value = found.get(name)
    return str(value).strip() if isinstance(value, str) else ""


def _readings(entries: list[dict[str, Any]]) -> tuple[Reading, ...]:
    found: list[Reading] = []
    before: dict[str, Any] = {}
    for entry in entries:
        # What equals the reading before may be left out; the value itself never may.
        before = {name: value for name, value in before.items() if name != "RV"} | entry
        time_text, time_ms, sync = read_time(_text(before, "TM"))
        value = _text(before, "RV")
        identifier = _text(before, "RI")
        found.append(
            Reading(
                tx=_text(before, "TX"),
                time_text=time_text,
                time_ms=time_ms,
                sync=sync,
                value_text=value,
                value=_decimal(value),
                identifier=identifier,
                obis=read_obis(identifier),
                unit=_text(before, "RU"),
                current=_text(before, "RT"),
                error_flags=_text(before, "EF"),
                status=_text(before, "ST"),
            )
        )
    return tuple(found)


def _decimal(text: str) -> Decimal | None:
    if not re.fullmatch(r"[+-]?[0-9]{1,13}(?:\.[0-9]{0,8})?", text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def read_time(text: str) -> tuple[str, int | None, str]:
    """Return the text, epoch ms or None, and the letter of synchronisation or ""."""
    found = _TIME.fullmatch(text)
    if not found:
        return text, None, ""
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction, sign, zone_h, zone_min, sync = found.groups()[6:]
    try:
        local = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        return text, None, (sync or "").upper()
    whole_ms = (local - _EPOCH) // datetime.timedelta(milliseconds=1)
    offset_min = (int(zone_h) * 60 + int(zone_min)) * (-1 if sign == "-" else 1) if sign else 0
    part_ms = int((fraction or "0").ljust(3, "0")[:3])
    return text, whole_ms + part_ms - offset_min * 60_000, (sync or "").upper()


def read_obis(text: str) -> str:
    """Return ``C.D.E`` of an OBIS code in any of its spellings, empty when it is none."""
    found = _OBIS.fullmatch(text)
    if not found:
        return ""
    parts = [part.upper().lstrip("0") or "0" for part in (found[3], found[4], found[5] or "0")]
    return ".".join(parts)

"""Files of signed meter values: raw records, XML container of the transparency software, OCPI signed_data.

And the operator's file of public keys. XML is read without entities, DTD or anything from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from models.errors import ConfigError, DecodeError
from models.ocmf import KeyProblem, KeyRegister, SignedText, split_texts
from models.ocmf_carriage import from_ocpi

MAX_BYTES: Final = 64 << 20
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_signed(data: bytes) -> list[SignedText]:
    """Return the records of a file: XML container, JSON with ``signed_data``, or raw records.

    Raises
    ------
    DecodeError
        If the file as a whole is none of these. A record that is none has its `problem`.
    """
    if len(data) > MAX_BYTES:
        raise DecodeError(
            "size", f"{len(data)} bytes, more than {MAX_BYTES} of signed meter values in one file"
        )
    head = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:5]
    if head.startswith(b"<") or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _from_xml(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DecodeError("encoding", f"neither XML nor UTF-8 text: {error}") from error
    if head.startswith((b"{", b"[")):
        return _from_json(text)
    if not text.strip():
        raise DecodeError("empty", "the file holds no signed meter values")
    return [SignedText(part) for part in split_texts(text)]


def _from_json(text: str) -> list[SignedText]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError("json", f"the file starts like JSON and is none: {error}") from error
    objects = found if isinstance(found, list) else [found]
    records = [record for each in objects if isinstance(each, dict) for record in from_ocpi(each)]
    if not records:
        raise DecodeError("json", "no signed_data with signed_values in it, as an OCPI CDR has")
    return records


def _from_xml(data: bytes) -> list[SignedText]:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DecodeError("xml", f"refused, a container needs no DTD and no entities: {error}") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DecodeError("xml", f"cannot be read: {error}") from error
    values = [each for each in root.iter() if _name(each) == "value"] or [root]
    records = [record for value in values for record in _records(value)]
    if not records:
        raise DecodeError("xml", "no signedData element: expected values / value / signedData, publicKey")
    return records


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _records(value: Any) -> Iterator[SignedText]:
    parts = [(_name(each), each) for each in value.iter()]
    key = next((each.text or "" for name, each in parts if name == "publicKey"), "")
    for name, element in parts:
        if name in ("signedData", "encodedData"):
            text, problem = _decoded(element)
            yield SignedText(
                text, value.get("transactionId", ""), value.get("context", ""), key.strip(), problem
            )


def _decoded(element: Any) -> tuple[str, str]:
    """Return the text of a signedData element, and why it is no OCMF text."""
    text = (element.text or "").strip()
    format_ = element.get("format", "OCMF")
    if format_.upper() != "OCMF":
        return text, f"format {format_[:40]!r} is not OCMF"
    if text.startswith("OCMF"):
        return text, ""
    packed = "".join(text.split())
    for decode in (bytes.fromhex, _base64, base64.b32decode):
        try:
            plain = decode(packed).decode()
        except (binascii.Error, ValueError):
            continue
        if plain.lstrip().startswith("OCMF"):
            return plain, ""
    return text, ""


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def container(records: Sequence[SignedText], key_of: Sequence[str] | None = None) -> str:
    """Return the XML container that the public transparency software reads.

    Parameters
    ----------
    records : sequence of SignedText
        Their texts go in to the byte.
    key_of : sequence of str, optional
        The key to write for each record; empty or absent: the one that came with it.

    Raises
    ------
    DecodeError
        If a text holds a character that XML cannot.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<values>"]
    for number, record in enumerate(records):
        key = (key_of[number] if key_of else "") or record.public_key
        attributes = "".join(
            f" {name}={_text(value, number, quoted=True)}"
            for name, value in (("transactionId", record.transaction_id), ("context", record.context))
            if value
        )
        lines.append(f"  <value{attributes}>")
        text = _text(record.text.strip(), number)
        lines.append(f'    <signedData format="OCMF" encoding="plain">{text}</signedData>')
        if key:
            lines.append(f'    <publicKey encoding="plain">{_text(key, number)}</publicKey>')
        lines.append("  </value>")
    return "\n".join([*lines, "</values>", ""])


def _text(value: str, number: int, *, quoted: bool = False) -> str:
    if found := _NOT_XML.search(value):
        raise DecodeError("xml", f"record {number} holds {found[0]!r}, which XML cannot")
    # A bare carriage return would come back as a line feed, and the signature would no longer match.
    escaped = html.escape(value, quote=quoted).replace("\r", "&#13;")
    return '"' + escaped.replace("\n", "&#10;") + '"' if quoted else escaped


def read_keys(path: Path) -> list[tuple[str, str, str | None]]:
    """Return (serial, key, curve or None) from the operator's key file, TOML or JSON.

    Either ``[[meter]]`` tables with ``serial``, ``public_key`` and, for bare points, ``curve``; or a table
    ``[keys]`` of serial = key.

    Raises
    ------
    ConfigError
        If the file or an entry cannot be read; names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as {path.suffix or 'TOML'}: {error}") from error
    entries = list(_entries(found)) if isinstance(found, dict) else []
    if not entries:
        raise ConfigError(f"{path}: no keys; expected [[meter]] tables with serial and public_key, or [keys]")
    for number, (serial, key, curve) in enumerate(entries, start=1):
        if not serial or not isinstance(key, str) or not isinstance(curve, str | None):
            raise ConfigError(f"{path}: entry {number}: expected text in serial, public_key and curve")
    return entries


def _entries(found: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    tables = found.get("meter", [])
    for each in tables if isinstance(tables, list) else []:
        if isinstance(each, dict):
            yield str(each.get("serial", "")), each.get("public_key", None), each.get("curve")
    keys = found.get("keys", {})
    if isinstance(keys, dict):
        yield from ((serial, key, None) for serial, key in keys.items())


def register(keys: Iterable[tuple[str, str, str | None]], for_all: str = "") -> KeyRegister:
    """Return the register of `keys`; what cannot be read is an error of configuration.

    Raises
    ------
    ConfigError
        If a key cannot be read.
    """
    try:
        return KeyRegister(keys, for_all=for_all)
    except KeyProblem as error:
        raise ConfigError(str(error)) from error

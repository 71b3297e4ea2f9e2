"""From a CDR's id to everything that led to it: the session's revision, its price, and journaled messages."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from models.bill_checks import Check, check_bill
from models.errors import StorageError
from models.topics import shard_of
from models.units import NS_PER_MS

from .billing_reader import BillingReader
from .journal import locate

#: Words of a transaction may come this long before its start by its clock.
_BEFORE_MS: Final = 15 * 60_000
#: What of a message is shown, where it has it.
_SHOWN: Final = ("event", "eventType", "event_type", "seqNo", "seq_no", "t", "reg", "register_wh", "decision")
_MOST_CHARACTERS: Final = 160


def explained(reader: BillingReader, id_: str) -> dict[str, Any] | None:
    """Return a CDR with its session, digests and checks; None if the ledger does not have it."""
    row = reader.cdr(id_)
    if row is None:
        return None
    key = row["site"], row["station"], row["transaction_id"]
    texts = {bill["id"]: str(bill["body"]) for bill in reader.bills(*key)}
    text = texts[id_]
    session = _session(reader, key, int(row["revision"]))
    cdr = json.loads(text)
    signed = (cdr.get("signed_data") or {}).get("signed_values", [])
    return {
        "id": id_,
        "site": key[0],
        "station": key[1],
        "transaction_id": key[2],
        "revision": int(row["revision"]),
        "sha256": digest(text.encode()),
        "text": text,
        "cdr": cdr,
        "session": session,
        "signed": [
            {"nature": value["nature"], "sha256": digest(value["signed_data"].encode())} for value in signed
        ],
        "bills": [
            {"id": bill, "sha256": digest(body.encode()), "credit": bool(json.loads(body).get("credit"))}
            for bill, body in texts.items()
        ],
        "checks": check_bill(text, session, texts),
    }


def digest(data: bytes) -> str:
    """Return the SHA-256 of data, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _session(reader: BillingReader, key: tuple[str, str, str], revision: int) -> dict[str, Any] | None:
    """Return the body of one revision of a session."""
    found = reader.session(*key)
    if found is None:
        return None
    for row in [found, *found["revisions"]]:
        if int(row["revision"]) == revision:
            body: dict[str, Any] = row["body"]
            return body
    return None


def messages(path: Path, found: dict[str, Any], shards: int) -> dict[str, Any]:
    """Return the journaled messages that name the transaction, and a digest of all others of its nodes.

    Parameters
    ----------
    path : Path
        The journal.
    found : dict
        What `explained` returned; a check of the journal is added to its ``checks``.
    shards : int
        Of the journal.

    Raises
    ------
    StorageError
        If there is no journal.
    """
    shard = shard_of(found["site"], shards)
    session = found["session"] or {}
    starts = [t for t in (session.get("start"), session.get("start_reported")) if t is not None]
    until_ms = round(datetime.fromisoformat(found["cdr"]["last_updated"]).timestamp() * 1000) + 1
    from_ms = min([*starts, until_ms]) - _BEFORE_MS
    span = from_ms * NS_PER_MS, until_ms * NS_PER_MS
    name = re.compile(
        rb"(?<![0-9A-Za-z_-])" + re.escape(found["transaction_id"].encode()) + rb"(?![0-9A-Za-z_-])"
    )
    naming: list[dict[str, Any]] = []
    nodes: set[bytes] = set()
    try:
        for offset, recv_ns, topic, payload, _ in locate(path, shard, *span):
            if name.search(payload):
                naming.append(_message(offset, recv_ns, topic, payload))
                nodes.add(topic.rpartition(b"/")[0])
        others, first, last, sums = 0, None, None, hashlib.sha256()
        for offset, _, topic, payload, _ in locate(path, shard, *span):
            if topic.rpartition(b"/")[0] in nodes and not name.search(payload):
                others, first, last = others + 1, offset if first is None else first, offset
                sums.update(hashlib.sha256(payload).digest())
    except StorageError as error:
        found["checks"].append(Check("journal", False, str(error)))
        return {"shard": shard, "says": "damaged", "messages": naming}
    says = f"{len(naming)} messages name the transaction, every checksum of the chunks is right"
    if not naming:
        says = "no message of that time names it: the journal no longer has it, or is another service's"
    found["checks"].append(Check("journal", True if naming else None, says))
    if others:
        says += (
            f"; {others} others of its node, offsets {first} to {last}, sha256 of theirs {sums.hexdigest()}"
        )
    return {"shard": shard, "says": says, "messages": naming}


def _message(offset: int, recv_ns: int, topic: bytes, payload: bytes) -> dict[str, Any]:
    received = datetime.fromtimestamp(recv_ns // 1_000_000_000, UTC)
    return {
        "offset": offset,
        "received": f"{received:%Y-%m-%dT%H:%M:%SZ}",
        "topic": topic.decode("utf-8", "replace"),
        "sha256": digest(payload),
        "says": _words(payload),
    }


def _words(payload: bytes) -> str:
    """Return what of a message is for people: known fields, else its beginning."""
    try:
        body = json.loads(payload)
    except ValueError:
        return f"{len(payload)} bytes that are no JSON"
    if isinstance(body, dict):
        known = {name: body[name] for name in _SHOWN if name in body}
        if known:
            return json.dumps(known)
    return json.dumps(body)[:_MOST_CHARACTERS]

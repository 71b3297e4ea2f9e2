"""Partners over OCPI, their tokens, and what was delivered to them."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import func, insert, select, update

from models.ocpi_objects import read_json

from . import _ledger_billing as b
from .billing_writer import BillingWriter, token_hash
from .ledger import number_changes, upsert

Row = dict[str, Any]
_JSON: Final = ("endpoints", "roles")


def new_token() -> str:
    """Return a token of 256 random bits."""
    return secrets.token_urlsafe(32)


def token_of(header: str) -> str:
    """Return the token of ``Authorization: Token BASE64``; some partners leave the base64 out."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "token":
        return ""
    value = value.strip()
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return value


class OcpiStore:
    """Reads and writes what OCPI needs beside bills and sessions. Thread-safe.

    Parameters
    ----------
    writer : BillingWriter
    """

    def __init__(self, writer: BillingWriter) -> None:
        self._engine = writer.engine
        self._tokens = upsert(self._engine.dialect.name, b.ocpi_tokens, "last_updated_ms", equal=True)
        self._delivered = upsert(self._engine.dialect.name, b.ocpi_deliveries, None, equal=False)

    def invite(self, name: str, now_ms: int) -> str:
        """Return a registration token for a partner; a partner of that name starts anew."""
        token = new_token()
        self._put(
            name,
            {
                "token_sha256": token_hash(token), "their_token": None, "versions_url": None, "version": None,
                "endpoints": None, "roles": None, "state": "invited", "updated_ms": now_ms,
            },
        )  # fmt: skip
        return token

    def register(
        self,
        name: str,
        *,
        our_token: str,
        their_token: str,
        versions_url: str,
        version: str,
        endpoints: Sequence[Row],
        roles: Sequence[Row],
        now_ms: int,
    ) -> None:
        """Note that a partner is connected; `our_token` is what it shows us from now on."""
        self._put(
            name,
            {
                "token_sha256": token_hash(our_token), "their_token": their_token,
                "versions_url": versions_url, "version": version, "endpoints": json.dumps(list(endpoints)),
                "roles": json.dumps(list(roles)), "state": "registered", "updated_ms": now_ms,
            },
        )  # fmt: skip

    def revoke(self, name: str, now_ms: int) -> bool:
        """Forget a partner's tokens; return whether there was one."""
        c = b.ocpi_parties.c
        # A hash that no token has: the column must differ from every other partner's.
        values = {"state": "revoked", "their_token": None, "token_sha256": token_hash(new_token())}
        statement = update(b.ocpi_parties).where(c.name == name, c.state != "revoked")
        with self._engine.begin() as db:
            return bool(db.execute(statement.values(**values, updated_ms=now_ms)).rowcount)

    def _put(self, name: str, values: Row) -> None:
        c = b.ocpi_parties.c
        with self._engine.begin() as db:
            changed = db.execute(update(b.ocpi_parties).where(c.name == name).values(**values)).rowcount
            if not changed:
                db.execute(insert(b.ocpi_parties), [{"name": name} | values])

    def party_of(self, token: str) -> Row | None:
        """Return the partner who shows `token`."""
        c = b.ocpi_parties.c
        query = select(b.ocpi_parties).where(c.token_sha256 == token_hash(token), c.state != "revoked")
        with self._engine.connect() as db:
            found = db.execute(query).mappings().first()
        return None if found is None else _party(dict(found))

    def parties(self) -> list[Row]:
        """Return every partner."""
        with self._engine.connect() as db:
            rows = db.execute(select(b.ocpi_parties).order_by(b.ocpi_parties.c.name)).mappings()
            return [_party(dict(row)) for row in rows]

    def put_token(self, body: Row, text: str, last_updated_ms: int) -> None:
        """Store a Token object as an eMSP wrote it; an older one does not replace a newer one."""
        row = {name: body[name] for name in ("country_code", "party_id", "uid", "type")}
        row |= {"last_updated_ms": last_updated_ms, "body": text}
        with self._engine.begin() as db:
            db.execute(self._tokens, number_changes(db, b.ocpi_tokens, [row]))

    def token(self, country_code: str, party_id: str, uid: str, type_: str) -> Row | None:
        """Return a Token object."""
        c = b.ocpi_tokens.c
        query = select(c.body).where(
            func.upper(c.country_code) == country_code.upper(),
            func.upper(c.party_id) == party_id.upper(),
            func.upper(c.uid) == uid.upper(),
            c.type == type_,
        )
        with self._engine.connect() as db:
            found = db.execute(query).scalar()
        return None if found is None else read_json(found)

    def tokens(self) -> Iterator[tuple[Row, int]]:
        """Yield every Token object with its ``last_updated``, epoch ms."""
        c = b.ocpi_tokens.c
        with self._engine.connect() as db:
            for body, updated_ms in db.execute(select(c.body, c.last_updated_ms).order_by(c.changed)):
                yield read_json(body), int(updated_ms)

    def delivered(self, cdr_id: str, party: str) -> bool:
        """Return whether a partner has taken a bill."""
        c = b.ocpi_deliveries.c
        query = select(c.cdr_id).where(c.cdr_id == cdr_id, c.party == party)
        with self._engine.connect() as db:
            return db.execute(query).first() is not None

    def note_delivery(self, cdr_id: str, party: str, location: str, now_ms: int) -> None:
        """Note that a partner has taken a bill, and where it says it keeps it."""
        row = {"cdr_id": cdr_id, "party": party, "location": location, "delivered_ms": now_ms}
        with self._engine.begin() as db:
            db.execute(self._delivered, [row])


def _party(row: Row) -> Row:
    return row | {name: json.loads(row[name] or "[]") for name in _JSON}


def emsps(party: Row) -> list[str] | None:
    """Return whose bills a partner may see, as ``NL*TNM``; None: everyone's, for it is a hub."""
    roles = [role for role in party["roles"] if isinstance(role, dict)]
    if any(role.get("role") == "HUB" for role in roles):
        return None
    return [
        f"{str(role.get('country_code', '')).upper()}*{str(role.get('party_id', '')).upper()}"
        for role in roles
        if role.get("role") in ("EMSP", "NSP", "OTHER")
    ]

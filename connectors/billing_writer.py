"""Writes what people decide and whom they let in: decisions on sessions, tokens of the API."""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import insert, select, update

from models.errors import ConfigError

from . import _ledger_billing as b
from ._ledger_engine import open_engine, parse_url, translated
from .ledger import Ledger, number_changes

#: What a token may be for; ``…:write`` changes something.
SCOPES: Final = (
    "intervals", "sessions", "cdrs", "tariffs", "aggregates", "reviews", "reviews:write", "tariffs:write",
    "payments", "payments:write", "commands:write", "findings:write", "campaigns:write", "campaigns:approve",
)  # fmt: skip
_PREFIX: Final = "cs_"
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Who shows a token."""

    token_id: str
    name: str
    scopes: frozenset[str]
    sites: tuple[str, ...] | None


def token_hash(token: str) -> str:
    """Return what the ledger keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class BillingWriter:
    """Writes decisions and tokens; creates the ledger if there is none. Thread-safe.

    Parameters
    ----------
    url : str
        As for `connectors.ledger.Ledger`.
    """

    def __init__(self, url: str) -> None:
        Ledger(url).close()
        self.url = parse_url(url)
        self.engine = open_engine(self.url, write=True)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def create_token(
        self,
        name: str,
        scopes: Sequence[str],
        now_ms: int,
        *,
        sites: Sequence[str] | None = None,
        expires_ms: int | None = None,
    ) -> tuple[str, str]:
        """Return (token id, token); the token itself is shown this once and stored nowhere.

        Raises
        ------
        ConfigError
            If a scope is unknown or there is none.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            wrong = f"unknown scope {unknown[0]!r}" if unknown else "no scope"
            raise ConfigError(f"token: {wrong}; expected some of {', '.join(SCOPES)}")
        token_id = secrets.token_hex(4)
        token = f"{_PREFIX}{secrets.token_urlsafe(_SECRET_BYTES)}"
        row = {
            "token_id": token_id,
            "name": name,
            "token_sha256": token_hash(token),
            "scopes": json.dumps(sorted(set(scopes))),
            "sites": None if sites is None else json.dumps(sorted(set(sites))),
            "created_ms": now_ms,
            "expires_ms": expires_ms,
            "revoked_ms": None,
        }
        with translated(self.url, "store a token"), self.engine.begin() as db:
            db.execute(insert(b.api_tokens), [row])
        return token_id, token

    def revoke_token(self, token_id: str, now_ms: int) -> bool:
        """Revoke a token at once; return whether there was one."""
        c = b.api_tokens.c
        statement = update(b.api_tokens).where(c.token_id == token_id, c.revoked_ms.is_(None))
        with translated(self.url, "revoke a token"), self.engine.begin() as db:
            return bool(db.execute(statement.values(revoked_ms=now_ms)).rowcount)

    def tokens(self) -> list[dict[str, Any]]:
        """Return every token there was, without what could be used as one."""
        c = b.api_tokens.c
        query = select(*(column for column in c if column.name != "token_sha256")).order_by(c.created_ms)
        with translated(self.url, "read tokens"), self.engine.connect() as db:
            return [
                dict(row) | {"scopes": json.loads(row["scopes"]), "sites": json.loads(row["sites"] or "null")}
                for row in db.execute(query).mappings()
            ]

    def decide(self, decision: dict[str, Any]) -> dict[str, Any]:
        """Record a decision on a session and return the row.

        Parameters
        ----------
        decision : dict
            Columns of ``reviews`` without `review_id` and `changed`.
        """
        row = decision | {"review_id": str(uuid.uuid4())}
        with translated(self.url, "store a decision"), self.engine.begin() as db:
            number_changes(db, b.reviews, [row])
            db.execute(insert(b.reviews), [row])
        return row


def any_token(db: Any) -> bool:
    """Return whether there ever was a token, ended ones too: who once had tokens is not open again."""
    return db.execute(select(b.api_tokens.c.token_id).limit(1)).first() is not None


def find_caller(db: Any, token: str, now_ms: int) -> Caller | None:
    """Return who shows `token`; None when it is unknown, expired or revoked."""
    c = b.api_tokens.c
    found = db.execute(select(b.api_tokens).where(c.token_sha256 == token_hash(token))).mappings().first()
    if found is None or found["revoked_ms"] is not None:
        return None
    if found["expires_ms"] is not None and found["expires_ms"] <= now_ms:
        return None
    sites = json.loads(found["sites"] or "null")
    return Caller(
        found["token_id"],
        found["name"],
        frozenset(json.loads(found["scopes"])),
        None if sites is None else tuple(sites),
    )

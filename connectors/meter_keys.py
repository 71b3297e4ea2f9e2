"""The ledger's register of meter keys: what the operator vouches for, and since when."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect, select, update

from models.ocmf import CURVES, KeyProblem, PublicKey, read_key

from . import _ledger_billing as b
from ._ledger_engine import open_engine, parse_url, sqlite_file, translated
from .ledger import Ledger, upsert


def registered_keys(url: str) -> list[tuple[str, str, str | None]]:
    """Return (serial, key, curve) of the keys that count, of a ledger that need not exist; creates nothing.

    Raises
    ------
    RetryLater
        If the database does not answer: without its keys nothing may be called proven.
    """
    address = parse_url(url)
    file = sqlite_file(address)
    if file is not None and not file.exists():
        return []
    engine = open_engine(address, write=False)
    c = b.meter_keys.c
    query = (
        select(c.serial, c.public_key, c.curve).where(c.revoked_ms.is_(None)).order_by(c.serial, c.added_ms)
    )
    try:
        with translated(address, "read meter keys"), engine.connect() as db:
            if not inspect(db).has_table(b.meter_keys.name):
                return []
            return [(row[0], row[1], row[2]) for row in db.execute(query)]
    finally:
        engine.dispose()


class MeterKeys:
    """Reads and writes the register. Nothing is deleted: a key that no longer counts is revoked.

    Parameters
    ----------
    url : str
        As for `connectors.ledger.Ledger`, which is created if there is none.
    """

    def __init__(self, url: str) -> None:
        Ledger(url).close()
        self.url = parse_url(url)
        self._engine = open_engine(self.url, write=True)

    def add(self, serial: str, text: str, curve: str | None, source: str, now_ms: int) -> PublicKey:
        """Register a key; the same key again, however written, changes nothing.

        Raises
        ------
        KeyProblem
            If it cannot be read, or is a bare point whose `curve` is not said.
        """
        if curve is not None and curve not in CURVES:
            raise KeyProblem(f"curve {curve!r} is unknown, expected one of {', '.join(CURVES)}")
        key = read_key(text, curve)
        row = {
            "serial": serial.strip(),
            "fingerprint": key.fingerprint,
            "public_key": key.spki_hex(),
            "curve": key.curve,
            "source": source,
            "added_ms": now_ms,
            "revoked_ms": None,
        }
        statement = upsert(self._engine.dialect.name, b.meter_keys, None, equal=False)
        with translated(self.url, "store a meter key"), self._engine.begin() as db:
            db.execute(statement, [row])
        return key

    def revoke(self, serial: str, now_ms: int) -> int:
        """Revoke all keys of a meter and return how many there were."""
        keys = b.meter_keys
        statement = update(keys).where(keys.c.serial == serial.strip(), keys.c.revoked_ms.is_(None))
        with translated(self.url, "revoke a meter key"), self._engine.begin() as db:
            return int(db.execute(statement.values(revoked_ms=now_ms)).rowcount)

    def all(self) -> list[dict[str, Any]]:
        """Return every key ever registered, by serial."""
        query = select(b.meter_keys).order_by(b.meter_keys.c.serial, b.meter_keys.c.added_ms)
        with translated(self.url, "read meter keys"), self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def valid(self) -> list[tuple[str, str, str | None]]:
        """Return (serial, key, curve) of all keys that are not revoked, for a `models.ocmf.KeyRegister`."""
        return registered_keys(self.url.render_as_string(hide_password=False))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

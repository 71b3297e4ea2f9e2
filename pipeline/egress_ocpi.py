"""Pushes bills to the partners whose customers charged: the consumer ``ocpi`` of the outbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from connectors.ocpi_client import OcpiClient
from connectors.ocpi_store import OcpiStore, emsps
from models.errors import ConfigError, Refused, RetryLater
from models.ocpi_objects import cdr_as, emsp_of, read_json
from models.outputs import CdrRow

from .egress_sinks import SLOW_S, Letter, Record

_Party = dict[str, Any]


class OcpiSink:
    """CDRs by POST, each once to each partner.

    A partner that does not answer is asked again, and its later bills wait. A bill that a partner
    refuses for good is a dead letter with the partner's words.

    Parameters
    ----------
    store : callable
        Returns the store; raises RetryLater while its database is away.
    insecure : bool
        Talk to partners without TLS.
    """

    name = "ocpi"
    streams: Mapping[str, float] = {"cdrs": SLOW_S}

    def __init__(self, store: Callable[[], OcpiStore], *, insecure: bool = False) -> None:
        self._store, self._insecure = store, insecure
        self._clients: dict[str, OcpiClient] = {}
        # While a partner is away the same records come again: what another one refused is not asked again.
        self._refused: dict[tuple[str, str], str] = {}
        self._decoder = msgspec.msgpack.Decoder(list[CdrRow])

    def deliver(self, stream: str, records: Sequence[Record]) -> list[Letter]:
        """Push all bills of `records` that are a partner's; one that does not answer delays no other."""
        store, letters = self._store(), []
        parties = {p["name"]: p for p in store.parties() if p["state"] == "registered"}
        away: dict[str, RetryLater] = {}
        for record in records:
            try:
                rows = self._decoder.decode(record.blob)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                letters.append(Letter(record.seq, record.blob, f"cannot be read: {error}"))
                continue
            for row in rows:
                reasons = self._push(store, parties, row, away)
                letters += [Letter(record.seq, msgspec.msgpack.encode([row]), reason) for reason in reasons]
        if away:
            raise next(iter(away.values()))
        self._refused.clear()
        return letters

    def _push(
        self,
        store: OcpiStore,
        parties: Mapping[str, dict[str, Any]],
        row: CdrRow,
        away: dict[str, RetryLater],
    ) -> list[str]:
        """Push one bill and return why it was refused, for each partner that did."""
        try:
            body = read_json(row.body)
        except msgspec.DecodeError as error:
            return [f"CDR {row.id} is no JSON: {error}"]
        whose = emsp_of(body.get("cdr_token"))
        for name, party in parties.items():
            own, url, key = emsps(party), receiver(party), (row.id, name)
            theirs = url is not None and (own is None or whose in own)
            if not theirs or name in away or key in self._refused or store.delivered(*key):
                continue
            try:
                data = cdr_as(body, row.ocpi_version, party["version"])
                location = self._client(party["their_token"]).post_cdr(str(url), data)
            except (Refused, ConfigError) as error:
                self._refused[key] = f"{name}: {error}"
            except RetryLater as error:
                away[name] = error
            else:
                store.note_delivery(*key, location, time.time_ns() // 1_000_000)
        return [reason for (id_, _), reason in self._refused.items() if id_ == row.id]

    def _client(self, token: str) -> OcpiClient:
        if token not in self._clients:
            self._clients[token] = OcpiClient(token, insecure=self._insecure)
        return self._clients[token]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


def receiver(party: Mapping[str, Any]) -> str | None:
    """Return where a partner takes bills, None when it takes none."""
    found = (
        e["url"]
        for e in party["endpoints"]
        if e.get("identifier") == "cdrs" and e.get("role", "RECEIVER") == "RECEIVER"
    )
    return next(found, None)

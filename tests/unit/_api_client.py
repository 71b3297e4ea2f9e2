"""Asks the web application as a client with a token does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx

from connectors.api.app import create_app
from connectors.api.settings import ApiSettings
from connectors.billing_writer import SCOPES, BillingWriter
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings

from ._ledger_records import blob, cdr, interval, session, tariff


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Client:
    """The application over a ledger, asked with a token; each request in an event loop of its own."""

    def __init__(
        self,
        url: str,
        folder: Path,
        settings: ApiSettings | None = None,
        broker: MqttSettings | None = None,
    ) -> None:
        fast = ApiSettings(rate_per_s=10_000, burst=10_000, strangers_per_s=1_000, strangers_burst=1_000)
        self.app = create_app(url, folder, "test", broker, settings or fast)
        self.token = ""
        self.kind = "Bearer"
        self.ocpi = ""  # what an OCPI partner shows

    def __call__(
        self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                shown = {"Authorization": f"{self.kind} {self.token}"} if self.token else {}
                return await http.request(method, path, headers=shown | (headers or {}), **more)

        return asyncio.run(ask())

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> httpx.Response:
        return self("GET", path, headers, params=parameters or None)


def filled(url: str) -> Ledger:
    """Return a ledger with some of everything."""
    ledger = Ledger(url)
    quarters = [interval(e, q) for e in (1, 2) for q in range(5)]
    quarters += [interval(1, 9, site="mall"), interval(2, 7, energy_mwh=None, quality="missing")]
    ledger.apply("intervals", [(0, blob(*quarters))])
    token = {"country_code": "NL", "party_id": "TNM", "uid": "u", "type": "RFID", "contract_id": "c"}
    sessions = [
        session(1),
        session(1, transaction_id="tx2", state="review", flags=("missing_started",), start_ms=None),
        session(3, transaction_id="tx3", site="mall", body={"cdr_token": token}, updated_ms=9_000),
    ]
    ledger.apply("sessions", [(0, blob(*sessions))])
    ledger.apply("cdrs", [(0, blob(cdr("c1"), cdr("c2", site="mall", last_updated_ms=6_000)))])
    ledger.apply("tariffs", [(0, blob(tariff()))])
    return ledger


def with_token(url: str, client: Client, *scopes: str, **more: Any) -> str:
    """Make a token, all scopes if none is given, let the client show it, and return its id."""
    writer = BillingWriter(url)
    token_id, client.token = writer.create_token("tester", scopes or SCOPES, now_ms(), **more)
    writer.close()
    return token_id

"""Bills over a real broker: whose customer, what was held back, what was authorised; equal to a replay.

An eMSP connects to the running service and pushes a token; a session that it pays for is watched, asked to
stop, held back, billed and pushed to it. A replay of the journal writes the same bill, to the byte.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.billing_reader import BillingReader, Choice
from connectors.journal import export
from models.partner_tokens import TOPIC as TOKEN_TOPIC
from models.partner_tokens import hashes_of
from pipeline.cli import main
from pipeline.ingest import JOURNAL_FILE
from pipeline.replay import replay
from tests.servers.ingesting import wait_for
from tests.servers.service import Service
from tests.unit.test_ocpi import TOKEN, Partner

pytestmark = [pytest.mark.server, pytest.mark.slow]

MINUTE = 60_000
CHANNELS = ["Energy.Active.Import.Register", "Power.Active.Import"]
TARIFF = {
    "id": "T", "currency": "EUR", "elements": [
        {"price_components": [{"type": "ENERGY", "price": 400, "vat": 19, "step_size": 1},
                              {"type": "TIME", "price": 0.6, "step_size": 1},
                              {"type": "PARKING_TIME", "price": 6, "step_size": 60}]}],
}  # fmt: skip
OBJECT = TOKEN | {
    "issuer": "eMSP", "valid": True, "whitelist": "ALWAYS", "last_updated": "2026-11-01T00:00:00Z",
}  # fmt: skip


class Station:
    """One station, written by hand: its messages carry their own times."""

    def __init__(self, service: Service, start_ms: int) -> None:
        self.service, self.start_ms, self.seq = service, start_ms, 0

    def send(self, kind: str, **body: Any) -> None:
        if kind != "conn":
            self.seq += 1
            body["seq"] = self.seq
        message = msgspec.json.encode({"v": 1, "boot": 1} | body)
        self.service.publish([(f"evt/v1/site/cp/up/{kind}", message)])

    def birth(self) -> None:
        meter = {"serial": "m1", "resolution_wh": 1, "modulus_wh": None}
        evse = {"evse": 1, "u_n_v": 230, "phases": 3, "p_max_w": 60_000, "meter": meter}
        conns = [{"conn": 1, "type": "IEC_62196_T2", "max_a": 32}]
        self.send(
            "conn", online=True, cid=1, hb_s=300, sample_s=2, batch_s=2, evses=[evse | {"conns": conns}]
        )

    def tx(self, t: int, kind: str, wh: float | None, number: int, **more: Any) -> None:
        item = {"evse": 1, "conn": 1, "t": t, "txId": "tx-1", "eventType": kind, "seqNo": number} | more
        self.send("tx", items=[item if wh is None else item | {"reg_wh": wh}])

    def read(self, t: int, wh: float) -> None:
        series = {"evse": 1, "conn": 1, "t0": t, "ch": CHANNELS, "rows": [[0, wh, None]]}
        self.send("meter", series=[series])


def asked(service: Service, path: str, token: str, method: str = "GET", body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}/ocpi{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Token {base64.b64encode(token.encode()).decode()}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["data"]


def journaled(service: Service, topic: str) -> list[Any]:
    return [json.loads(p) for _, t, p, _ in export(service.data / JOURNAL_FILE) if t.decode() == topic]


def settings(folder: Path) -> dict[str, dict[str, Any]]:
    (folder / "tariff.json").write_text(json.dumps(TARIFF))
    return {
        "billing": {"tariff_file": str(folder / "tariff.json"), "settle_s": 1.0, "running_cost_s": 0.5},
        "ocpi": {"enabled": True, "country_code": "DE", "party_id": "CHS", "insecure": True},
    }


def rows(service: Service, what: str) -> list[Any]:
    reader = BillingReader(service.config.ledger_url())
    try:
        return list(reader.changed(what, Choice(), 0, None))
    finally:
        reader.close()


def test_a_partners_customer_is_billed_over_the_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partner = Partner()
    try:
        with Service(tmp_path, settings(tmp_path)) as service:
            bill = _charged(service, partner, capsys)
            _same_again(service, tmp_path, bill)
    finally:
        partner.close()


def _charged(service: Service, partner: Partner, capsys: pytest.CaptureFixture[str]) -> Any:
    config = ("--config", str(service.file))
    assert main(["ocpi", "invite", "tnm", *config]) == 0
    invited = json.loads(capsys.readouterr().out)["token"]
    ours = asked(service, "/2.2.1/credentials", invited, "POST", partner.credentials())["token"]
    asked(service, "/2.2.1/tokens/NL/TNM/012345?type=RFID", ours, "PUT", OBJECT)
    wait_for(lambda: journaled(service, TOKEN_TOPIC), "the token in the journal")
    assert main(["ocpi", "tell-tokens", *config]) == 0
    assert "1 tokens told" in capsys.readouterr().out
    start = time.time_ns() // 1_000_000
    cp = Station(service, start)
    cp.birth()
    known = hashes_of("012345", "C1", "RFID", ())[0]
    payment = {
        "action": "authorize", "site": "site", "station": "cp", "evse": 1, "amount": "5.00",
        "currency": "EUR", "authorization_reference": "auth-7",
    }  # fmt: skip
    service.publish([("evt/v1/_op/payment", msgspec.json.encode(payment))])
    cp.tx(start, "Started", 1_000, 0, chargingState="Charging", idTokenHash=known, idTokenType="ISO14443")
    cp.read(start + 500, 1_000)
    wait_for(lambda: rows(service, "sessions"), "the session")
    time.sleep(max(0.0, start / 1000 + 1.5 - time.time()))
    return _stopped(service, cp, partner)


def _stopped(service: Service, cp: Station, partner: Partner) -> Any:
    """The money is used up; then the vehicle waits, held back, and then parks."""
    at = time.time_ns() // 1_000_000
    cp.read(at, 1_012)
    cp.tx(at, "Updated", 1_012, 1, chargingState="SuspendedEV")
    wait_for(
        lambda: [c for c in rows(service, "payments") if c["state"] == "stopping"],
        "the payment that is used up",
    )
    stops = journaled(service, "evt/v1/_op/command")
    assert {stop["command"] for stop in stops} == {"RequestStopTransaction"}
    held = {"v": 1, "site": "site", "station": "cp", "evse": 1, "from_ms": at, "held": True}
    free = held | {"held": False, "from_ms": at + 2_000}
    for word in (held, free):
        service.publish([("evt/v1/_op/held", msgspec.json.encode(word))])
    time.sleep(max(0.0, (at + 3_000) / 1000 - time.time()))
    cp.tx(at + 3_000, "Ended", 1_012, 2)
    cp.read(at + 3_100, 1_012)
    wait_for(lambda: partner.bills, "the bill at the partner", 60.0)
    [bill] = partner.bills
    return bill


def _same_again(service: Service, folder: Path, bill: Any) -> None:
    token = {name: bill["cdr_token"][name] for name in TOKEN}
    assert token == TOKEN
    assert bill["authorization_reference"] == "auth-7"
    waited = [[d["type"] for d in p["dimensions"]] for p in bill["charging_periods"]]
    assert waited == [["ENERGY", "TIME"], ["ENERGY", "TIME"], ["ENERGY", "PARKING_TIME"]]
    [session] = rows(service, "sessions")
    assert session["body"]["cdr_token"]["party_id"] == "TNM"
    assert [b - a for a, b in session["body"]["held"]] == [2_000]
    log = folder / "all.jsonl.zst"
    assert main(["journal", "export", "--data", str(service.data), "--out", str(log)]) == 0
    replay(service.config, log, folder / "again", write_points=False)
    more = ("--data", str(service.data), "--against", str(folder / "again" / "cdrs.jsonl"))
    assert main(["explain", bill["id"], "--config", str(service.file), *more]) == 0

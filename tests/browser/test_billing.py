"""The pages of billing in a real browser: sessions can be followed, decisions go their way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.billing_reader import BillingReader
from connectors.ledger import Ledger
from models.cashier import BillingPlan, Cashier, Place
from models.dynamic import Succession
from models.ocmf import KeyRegister
from models.signed_values import Signatures
from models.tariffs import read
from tests.servers import require
from tests.servers.ingesting import wait_for
from tests.servers.service import Service
from tests.servers.web import served
from tests.transaction_log import BEGIN, END, HOUR, MINUTE, T0, TxLog, charge, log_of, run_all
from tests.unit._ledger_records import interval
from tests.unit._ocmf_signing import spki
from tests.unit.test_signed_values import signed

from .chromium import Tab, chromium

pytestmark = [pytest.mark.browser, pytest.mark.server]
TARIFF: dict[str, Any] = {
    "id": "DAY", "currency": "EUR", "elements": [
        {"price_components": [{"type": "FLAT", "price": 0.5, "vat": 19, "step_size": 1}]},
        {"price_components": [{"type": "ENERGY", "price": 0.49, "vat": 19, "step_size": 1}],
         "restrictions": {"start_time": "00:00", "end_time": "23:00"}},
        {"price_components": [{"type": "ENERGY", "price": 0.59, "vat": 19, "step_size": 1}]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


def logs() -> list[TxLog]:
    """A proven session, one whose begin was never told, one whose signature is wrong."""
    good = log_of()
    good.tx(BEGIN, "Started", 500_000, tx="proven/1", seq=0, chargingState="Charging", idTokenHash="ab12",
            signed=signed("B", 500_000, BEGIN, "T1"))  # fmt: skip
    charge(good)
    good.tx(END, "Ended", 510_000, tx="proven/1", seq=1, signed=signed("E", 510_000, END, "T2"))
    good.tx(END + HOUR, "Started", 510_000, tx="wrong", seq=0, signed=signed("B", 510_000, END + HOUR, "T3"))
    good.tx(END + 2 * HOUR, "Ended", 511_000, tx="wrong", seq=1,
            signed=signed("E", 511_000, END + 2 * HOUR, "T4", number=1))  # fmt: skip
    lost = log_of()
    lost.site, lost.node = "mall", "M1"
    lost.messages = [(t, topic.replace("/s/cp/", "/mall/M1/"), body) for t, topic, body in lost.messages]
    lost.reads(BEGIN, END, 500_000, 512_345)
    lost.tx(END, "Ended", 512_345, tx="lost", seq=1)
    for log in (good, lost):
        log.until(END + 4 * HOUR)
    return [good, lost]


def filled(url: str) -> None:
    """Put what comes of `logs` into a ledger, and a day's load."""
    place = Place(Succession([read(TARIFF)], "Europe/Berlin"), "", "", "", "DEU", "", "0.00000", "0.00000")
    keys = Signatures(KeyRegister([("m1", spki("secp256r1"), None)]))
    ledger = Ledger(url)
    for log in logs():
        got = run_all(log.frame(), cashier=Cashier(BillingPlan("DE", "CHS", default=place)), signatures=keys)
        for stream, rows in (("sessions", got.sessions), ("cdrs", got.cdrs), ("costs", got.costs)):
            ledger.apply(stream, [(0, msgspec.msgpack.encode(rows))])
    first = T0 // 900_000
    day = [
        interval(
            1, first + q, site="s", station="cp", energy_mwh=None if q == 9 else 500_000 + q % 7 * 90_000
        )
        for q in range(30)
    ]
    ledger.apply("intervals", [(0, msgspec.msgpack.encode(day))])
    ledger.note_months({}, "Europe/Berlin")
    ledger.close()


def test_sessions_prices_evidence_and_load_can_be_followed(tab: Tab, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    filled(url)
    with served(url, tmp_path, "test-depot") as address:
        tab.complaints.clear()
        tab.open(f"{address}/sessions")
        assert len(tab.texts(".sessions tbody tr")) == 3
        assert "2 sessions wait" in tab.js("document.body.innerText")
        tab.js("document.querySelector('tr[data-key=\"s/cp/proven/1\"] a').click()")
        tab.until("document.querySelector('.lines') !== null")
        lines = tab.texts(".lines tbody tr")
        assert len(lines) == 5  # session fee, energy before and after eleven, idle time free
        assert "0.49" in "".join(lines[:3])
        assert "0.59" in "".join(lines[3:])
        text = tab.js("document.body.innerText")
        for words in ("proven/1", "10.000 kWh", "valid", "The signed values prove", "Total, rounded once"):
            assert words.lower() in text.lower(), words
        assert tab.js("document.querySelector('.line').points.length") > 3
        tab.screenshot(tmp_path / "session.png")
        tab.open(f"{address}/sessions?state=review")
        assert len(tab.texts(".sessions tbody tr")) == 2
        tab.open(f"{address}/reviews")
        assert len(tab.texts(".review form")) == 2
        tab.screenshot(tmp_path / "reviews.png")
        tab.open(f"{address}/tariffs")
        assert "0.49 per kWh (end time 23:00, start time 00:00)" in tab.js("document.body.innerText")
        tab.open(f"{address}/load?site=s")
        assert tab.js("document.querySelectorAll('rect.quarter').length") == 16
        assert tab.js("document.querySelectorAll('rect.gap').length") <= 1
        tab.screenshot(tmp_path / "load.png")
        tab.size(420)
        for page in ("sessions", "reviews", "tariffs", "load", "sessions/s/cp/proven%2F1"):
            tab.open(f"{address}/{page}")
            wide = tab.js("document.documentElement.scrollWidth")
            assert wide <= 420, (page, wide)
        tab.screenshot(tmp_path / "narrow.png")
        tab.size(1280)
        assert tab.complaints == []
        tab.open("about:blank#done")


@pytest.mark.slow
def test_a_decision_goes_through_broker_and_journal_and_comes_back(tab: Tab, tmp_path: Path) -> None:
    tariff = tmp_path / "tariff.json"
    tariff.write_text(json.dumps(TARIFF))
    settings: dict[str, dict[str, Any]] = {
        "billing": {"tariff_file": str(tariff), "settle_s": 1.0},
        "ocpi": {"country_code": "DE", "party_id": "CHS"},
    }
    now = time.time_ns() // 1_000_000 - T0
    log = TxLog(site="depot", node="CP7")
    log.birth(now - 3 * HOUR, batch_s=1)
    log.tx(now - HOUR, "Ended", 512_345, tx="lost", seq=1)
    log.tx(now - 2 * HOUR, "Updated", 500_000, tx="lost", seq=0)
    for t in range(now - 2 * HOUR, now - HOUR, 10 * MINUTE):
        log.read(t, 500_000 + (t - now + 2 * HOUR) * 12_345 // HOUR)
    with Service(tmp_path, settings) as service:
        frame = log.frame()
        service.publish([(frame.topic(i).decode(), frame.payload(i)) for i in range(len(frame))])
        wait_for(lambda: _state(service) == "review", "in review", 40)
        address = f"http://127.0.0.1:{service.port}"
        tab.complaints.clear()
        tab.open(f"{address}/reviews")
        tab.js("document.querySelector('[name=by]').value = 'ann'")
        tab.js("document.querySelector('[name=reason]').value = 'display photographed'")
        tab.js("document.querySelector('[name=energy_wh]').value = '12000.5'")
        tab.js("document.querySelector('button[value=bill]').click()")
        tab.until("document.body !== null && document.body.innerText.includes('ann: bill')")
        wait_for(lambda: _state(service) == "complete", "decided", 40)
        # session and bill are delivered one after the other
        wait_for(lambda: 'class="bills"' in service.get("/sessions/depot/CP7/lost"), "billed", 20)
        tab.open(f"{address}/sessions/depot/CP7/lost")
        text = tab.js("document.body.innerText")
        assert "12.0005 kWh" in text
        assert "Decided by ann" in text
        assert tab.texts(".bills tbody tr")
        assert tab.complaints == []
        tab.open("about:blank#done")


def _state(service: Service) -> str:
    reader = BillingReader(service.config.ledger_url())
    try:
        row = reader.session("depot", "CP7", "lost")
    finally:
        reader.close()
    return "" if row is None else str(row["state"])

"""People send commands in a real browser: the form reaches a real broker, and what became of it shows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from connectors.billing_writer import BillingWriter
from connectors.broker import MosquittoBroker
from connectors.mqtt_settings import MqttSettings
from tests.seeded import Fleet, Seeded, seed
from tests.servers import require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for
from tests.servers.web import served
from tests.unit.test_control import Bench, birth

from .chromium import Tab, chromium

pytestmark = [pytest.mark.browser, pytest.mark.server]
FORM = "document.querySelector('form.send')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=3))
    yield made
    made.ledger.close()


def _fill(tab: Tab, **fields: str) -> None:
    for name, value in fields.items():
        tab.js(f"{FORM}.querySelector('[name={name}]').value = {json.dumps(value)}")


def test_the_form_sends_a_command_and_its_row_follows_it(tab: Tab, seeded: Seeded, tmp_path: Path) -> None:
    require("mosquitto")
    writer = BillingWriter(seeded.url)
    _, token = writer.create_token("anna", ["commands:write"], 1)
    writer.close()
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        desk = MqttSettings("127.0.0.1", broker.port, "page", connect_timeout_s=3.0)
        with ingesting(config) as ingest, served(seeded.url, seeded.folder, "test-depot", desk) as address:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            tab.complaints.clear()
            tab.open(f"{address}/commands")
            tab.until("document.querySelector('#link').innerText.includes('live')")
            _fill(tab, site="depot", station="s1", word="limit", value="16", evse="1", token="wrong")
            tab.js(f"{FORM}.querySelector('button').click()")
            tab.until(f"{FORM}.querySelector('.done').innerText.includes('valid token')")
            tab.complaints.clear()  # the browser says that the answer was 401
            _fill(tab, token=token)
            tab.js(f"{FORM}.querySelector('button').click()")
            tab.until(f"{FORM}.querySelector('.done').innerText.includes('done')")
            wait_for(lambda: len(journaled(config)) == 1, "journaled")
            (message,) = journaled(config)
            bench = Bench().feed(birth(0), (message.recv_ns, message.topic.encode(), message.payload, 0))
            seeded.ledger.apply("commands", [(0, msgspec.msgpack.encode(bench.rows))])
            tab.until("document.querySelector('.commands tbody tr')?.innerText.includes('sent')")
            row = tab.texts(".commands tbody tr")[0]
            assert "SetChargingProfile" in row
            assert "anna" in row
            bench.control.book.answer(bench.rows[0].cmd_id, "depot", "s1", "Rejected", {}, 1, 1)
            seeded.ledger.apply("commands", [(0, msgspec.msgpack.encode(bench.control.book.drain()[0]))])
            tab.until("document.querySelector('.commands tbody tr').innerText.includes('rejected')")
            assert tab.js(f"{FORM}.querySelector('[name=station]').value") == "s1"
            tab.open(f"{address}/commands/{bench.rows[0].cmd_id}")
            history = " ".join(tab.texts(".history tbody tr"))
            assert "reject" in history
            assert tab.complaints == []

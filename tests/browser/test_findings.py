"""People act on findings in a real browser: the form reaches a real broker, and what they did shows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.api.settings import ApiSettings
from connectors.api.views import ViewSettings
from connectors.broker import MosquittoBroker
from connectors.mqtt_settings import MqttSettings
from models.evidence import Ask, Trace
from models.finding_actions import actions_of
from models.records import Operator, Origin
from tests.seeded import Fleet, Seeded, finding_id, seed
from tests.servers import require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for
from tests.servers.web import served

from .chromium import Tab, chromium

pytestmark = [pytest.mark.browser, pytest.mark.server]
HOT = finding_id("cedar-office", "CE03", 1, "connector_over_temperature")
ROW = f"document.querySelector('.findings tr[data-key=\"{HOT}\"]')"


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


def _fill(tab: Tab, name: str, value: str) -> None:
    tab.js(f"{ROW}.querySelector('[name={name}]').value = {json.dumps(value)}")


def _press(tab: Tab, action: str) -> None:
    tab.js(f"{ROW}.querySelector('button[value=\"{action}\"]').click()")


def test_form_of_a_finding_goes_to_the_journal_and_comes_back(
    tab: Tab, seeded: Seeded, tmp_path: Path
) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        desk = MqttSettings("127.0.0.1", broker.port, "page", connect_timeout_s=3.0)
        with ingesting(config) as ingest, served(seeded.url, seeded.folder, "test-depot", desk) as address:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            tab.complaints.clear()
            tab.open(f"{address}/")
            tab.until("document.querySelector('#link').innerText.includes('live')")
            tab.js("window.sameDocument = true")
            tab.js(f"{ROW}.querySelector('summary').click()")
            _fill(tab, "by", "ann")
            _fill(tab, "text", "on my way")
            shown = tab.js("document.querySelector('[data-now]').dataset.now")
            tab.until(f"document.querySelector('[data-now]').dataset.now !== '{shown}'")
            # the page renewed itself and left the open form and what is typed alone
            assert tab.js(f"{ROW}.querySelector('details').open") is True
            assert tab.js(f"{ROW}.querySelector('[name=text]').value") == "on my way"
            _press(tab, "ack")
            tab.until(f"{ROW}.querySelector('.done').innerText.includes('done')")
            _fill(tab, "to", "bob")
            _press(tab, "assign")
            wait_for(lambda: len(journaled(config)) == 2, "journaled")
            bodies = [json.loads(m.payload) for m in sorted(journaled(config), key=lambda m: m.recv_ns)]
            assert [(b["finding_id"], b["action"], b["by"], b["site"]) for b in bodies] == [
                (HOT, "ack", "ann", "cedar-office"),
                (HOT, "assign", "ann", "cedar-office"),
            ]
            assert (bodies[0]["text"], bodies[1]["to"]) == ("on my way", "bob")
            _journaled_to_ledger(seeded, bodies)
            tab.until(f"{ROW}.innerText.includes('acknowledged by ann')")
            tab.until(f"{ROW}.innerText.includes('assigned to bob')")
            assert tab.js("window.sameDocument") is True
            tab.open(f"{address}/findings/{HOT}")
            history = " ".join(tab.texts(".history tbody tr"))
            assert "acknowledged by ann" in history
            assert "on my way" in history
            assert tab.complaints == []
            tab.open("about:blank#done")


def _journaled_to_ledger(seeded: Seeded, bodies: list[dict[str, str]]) -> None:
    at = Origin(order=0, pos=0, recv_ns=time.time_ns(), effect_ns=0, node_row=-1)
    seeded.apply("finding_actions", *actions_of(Operator(at=at, topic="finding", body=b) for b in bodies))


def test_without_a_broker_the_form_says_so(tab: Tab, seeded: Seeded) -> None:
    with served(seeded.url, seeded.folder, "test-depot") as address:
        tab.open(f"{address}/")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        _fill(tab, "by", "ann")
        _press(tab, "ack")
        tab.until(f"{ROW}.querySelector('.done').textContent.includes('no broker')")
        tab.open("about:blank#done")


def test_evidence_of_a_finding_is_drawn(tab: Tab, seeded: Seeded, tmp_path: Path) -> None:
    def source(ask: Ask) -> list[Trace]:
        times = list(range(ask.plan.since_ms, ask.plan.until_ms, 10_000))
        warm = [40.0 + 70 * k / len(times) for k in range(len(times))]
        return [Trace("Temperature/Cable", "Celsius", "CE03", 1, times, warm)]

    settings = ApiSettings(views=ViewSettings(journal=source))
    with served(seeded.url, seeded.folder, "test-depot", settings=settings) as address:
        tab.complaints.clear()
        tab.open(f"{address}/findings/{HOT}")
        tab.until("document.querySelector('.evidence svg polyline') !== null")
        box = "document.querySelector('.evidence {}').getBoundingClientRect()"
        chart, line, limit, raised = (
            tab.js(f"(r => [r.left, r.top, r.right, r.bottom])({box.format(what)})")
            for what in ("svg", "polyline.trace", "path.limit", "path.mark.raised")
        )
        assert chart[2] - chart[0] > 600
        assert chart[1] <= line[1] < limit[1] < line[3] <= chart[3] + 2, "the line crosses the limit"
        assert chart[0] < raised[0] < chart[2]
        colours = {tab.js(f"getComputedStyle(document.querySelector('.evidence {what}')).stroke")
                   for what in ("polyline.trace", "path.limit", "path.mark.raised")}  # fmt: skip
        assert "none" not in colours
        assert tab.texts(".evidence .key.limit") == ["limit 100 °C"]
        tab.screenshot(tmp_path / "evidence.png")
        assert tab.complaints == []
        tab.open("about:blank#done")

"""The page of a campaign in a real browser: funnel, waves and the gate, renewed as stations go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.ledger import Ledger
from tests.servers import require
from tests.servers.web import served
from tests.unit.campaigning import HOUR, MINUTE, Bench

from .chromium import Tab, chromium

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


def campaign() -> Bench:
    """Return a campaign whose gate let the canaries pass, in its second wave."""
    gate = {"metrics": ["findings"], "min_soak_s": 3600, "min_stations": 20}
    bench = Bench(0)
    bench.now = time.time_ns() // 1_000_000 // HOUR * HOUR - 12 * HOUR
    bench.book.advance(bench.now)
    for number in range(200):
        bench.birth(number)
    waves = [{"count": 40}, {"percent": 60.0}]
    started = bench.started(waves=waves, gate=gate, name="winter image", retries=0, per_minute=6000)
    started.go(MINUTE)
    for number in started.asked()[:38]:
        started.update(number)
    for number in started.asked()[38:]:
        started.status(number, "InstallationFailed")
    noise = np.random.default_rng(3)
    for hour in range(started.now // HOUR + 1, started.now // HOUR + 8):
        started.hour(hour, noise.poisson(0.5, 200), 200)
        started.now = (hour + 1) * HOUR
        started.go(5 * MINUTE)
        if any(row.event == "gate" for row in started.campaigns):
            break
    for number in started.asked()[40:80]:
        started.result(number)
    for number in started.asked()[40:60]:
        started.status(number, "Installing")
    return started


def test_a_campaign_is_shown_as_it_goes(tab: Tab, tmp_path: Path) -> None:
    bench = campaign()
    folder = tmp_path / "data"
    folder.mkdir()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")

    def store() -> None:
        ledger.apply("campaigns", [(16, msgspec.msgpack.encode(bench.campaigns))])
        ledger.apply("campaign_stations", [(16, msgspec.msgpack.encode(bench.log))])

    store()
    with served(str(f"sqlite:///{folder / 'ledger.sqlite'}"), folder, "test-depot") as address:
        tab.complaints.clear()
        tab.open(f"{address}/campaigns")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        assert "38 of 200" in tab.texts("tbody")[0]
        tab.screenshot(tmp_path / "campaigns.png")
        tab.open(f"{address}/campaigns/c1")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        page = " ".join(tab.texts("main"))
        assert "Telemetry gate: pass" in page
        assert "run the new version" in page
        tab.screenshot(tmp_path / "campaign.png")
        for number in bench.asked()[40:70]:
            bench.update(number)
        store()
        tab.until("document.querySelector('[data-key=funnel-6] .n').innerText === '68'")
        assert tab.js("document.documentElement.scrollWidth <= window.innerWidth")
        assert tab.complaints == []
        tab.open("about:blank#done")
    ledger.close()

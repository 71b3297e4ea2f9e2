"""The page of load management in a real browser: site against limit, who gets how much, renewed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.ledger import Ledger
from models.load_rows import LimitRow, LoadRow
from tests.servers import require
from tests.servers.web import served
from tests.unit._ledger_records import blob

from .chromium import Tab, chromium

pytestmark = pytest.mark.browser
MINUTE = 60_000


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


def minute(start_ms: int, share: float, site: str = "depot") -> LoadRow:
    amps = (200 * share, 180 * share, 190 * share)
    return LoadRow(
        site=site, start_ms=start_ms, limit_a=(200.0,) * 3, current_a=amps, other_a=(40.0,) * 3,
        held_a=(196.0, 190.0, 192.0), ev_kw=100 * share, site_kw=131 * share, quarter_kwh=20.0,
        projected_kw=118.4, peak_kw=121.0, demand_limit_kw=125.0, charging=21, waiting=3, lost=1, commands=24,
    )  # fmt: skip


def limit(number: int, amps: float, cause: str, from_ms: int) -> LimitRow:
    return LimitRow(
        site="depot", station=f"cs{number:03d}", evse=1, from_ms=from_ms, limit_a=amps, cause=cause,
        transaction_id=f"t{number}",
    )  # fmt: skip


def test_sites_are_shown_against_their_limits(tab: Tab, tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    folder = tmp_path / "data"
    folder.mkdir()
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    ledger = Ledger(url)
    last = now // MINUTE * MINUTE - MINUTE
    rows = [minute(last - MINUTE * k, 0.9 - 0.3 * (k > 30) + 0.04 * (k % 5 - 2)) for k in range(55)]
    causes = ["site", "vehicle", "full", "turn", "off_peak", "operator", "idle", "fallback", "demand"]
    limits = [
        limit(
            k,
            0.0 if cause in ("turn", "off_peak", "fallback") else 6.0 + 3 * k,
            cause,
            now - 90_000 * (k + 1),
        )
        for k, cause in enumerate(causes)
    ]
    ledger.apply("loads", [(0, blob(*rows, minute(last, 0.4, "yard")))])
    ledger.apply("limits", [(0, blob(*limits))])
    with served(url, folder, "test-depot") as address:
        tab.complaints.clear()
        tab.open(f"{address}/managed?site=depot")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        page = " ".join(tab.texts("main"))
        assert "fullest phase of 200 A" in page
        assert "waits for its turn" in page
        assert "held by the station itself" in page
        assert "yard" in page
        assert tab.texts("#h-wish") == ["Limit depot for a time"]
        tab.screenshot(tmp_path / "load.png")
        ledger.apply("limits", [(0, blob(limit(3, 12.5, "site", now)))])
        tab.until("document.querySelector('main').innerText.includes('12.5 A')")
        tab.size(420)
        tab.open(f"{address}/managed")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        tab.screenshot(tmp_path / "load-narrow.png")
        tab.size(1280)
        assert tab.complaints == []
    ledger.close()

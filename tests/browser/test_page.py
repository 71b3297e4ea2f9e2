"""The page in a real browser, from a ledger that changes, and a server that goes away."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.outputs import DeviceRow
from tests.seeded import HOSTILE, HOSTILE_TOPIC, Fleet, Seeded, finding, seed
from tests.servers import free_port, require
from tests.servers.web import await_start, process, served, write_config

from .chromium import Tab, chromium

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=40))
    yield made
    made.ledger.close()


@pytest.fixture
def page(tab: Tab, seeded: Seeded) -> Iterator[str]:
    """Open the page of the seeded ledger and yield its address."""
    with served(seeded.url, seeded.folder, "test-depot") as address:
        tab.complaints.clear()
        tab.open(f"{address}/")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        yield address
        tab.open("about:blank#done")


def renewed(tab: Tab) -> None:
    """Wait until the page has renewed itself."""
    shown = tab.js("document.querySelector('[data-now]').dataset.now")
    tab.until(f"document.querySelector('[data-now]').dataset.now !== '{shown}'")


def test_everything_is_there_to_be_seen(tab: Tab, page: str, tmp_path: Path) -> None:
    assert tab.js("document.title") == "test-depot – charging, live"
    rows = tab.texts(".evses tbody tr")
    assert len(rows) == 60
    assert re.match(
        r"cedar-office\s+CE03/1 DC\s+Occupied\s+0\.00 kW\s+critical\s+200 A\s+48\.0 °C\s+44 %", rows[0]
    )
    first = tab.texts(".findings tbody tr")[0]
    assert "Power event at the site" in first
    assert "explains 3 more" in first
    assert len(tab.texts(".findings tbody tr")) == 8
    tiles = " ".join(tab.texts(".tile"))
    for text in ("EVSEs\n60", "open findings\n8", "messages\n48,211", "account\ncloses", "dead letters\n3"):
        assert text in tiles
    assert tab.texts(".state") == ["pipeline well"]
    widths = tab.js("[...document.querySelectorAll('.line')].map(e => e.getBoundingClientRect().width)")
    assert len(widths) == 2  # before and after the gap
    assert sum(widths) > 400
    assert "worker-00" in " ".join(tab.texts("section[data-key=pipeline] tbody tr"))
    assert HOSTILE_TOPIC in " ".join(tab.texts("section[data-key=dead] tbody tr"))
    assert "All times are UTC" in tab.texts("footer")[0]
    tab.screenshot(tmp_path / "page.png")
    assert tab.complaints == []


def test_hostile_text_stays_text(tab: Tab, page: str) -> None:
    assert HOSTILE in " ".join(tab.texts("td"))
    renewed(tab)
    assert HOSTILE in " ".join(tab.texts("td"))
    tab.open(f"{page}/?q=%22%3E{HOSTILE}&site=%27{HOSTILE}")
    tab.until("document.querySelector('#link').innerText.includes('live')")
    assert tab.js("document.querySelector('input[name=q]').value") == f'">{HOSTILE}'
    assert tab.js("document.querySelectorAll('script, img:not([src^=\"/static/\"]), b > script').length") == 2
    assert tab.complaints == []


def test_the_policy_would_keep_injected_script_from_running(tab: Tab, page: str) -> None:
    tab.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    tab.js(
        "document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.hit = 2'}))"
    )
    time.sleep(0.3)
    assert tab.js("window.hit") is None
    assert any("Content Security Policy" in text for text in tab.complaints)


def test_what_changes_in_the_ledger_appears_without_reload(tab: Tab, page: str, seeded: Seeded) -> None:
    tab.js("window.sameDocument = true")
    now_ms = time.time_ns() // 1_000_000
    new = finding(now_ms, "over_voltage", "elm-hub", "EL03", 1, severity="critical", minutes=0)
    seeded.apply("findings", new)
    place = next(p for p in seeded.fleet.places() if p[1:] == ("elm-hub", "EL03", 1))
    values = {"power_w": 9_999.0, "temperature_cable_c": 55.5}
    seeded.apply("latest", seeded.fleet.newest(*place, time_ms=now_ms, values=values))
    seeded.apply("devices", DeviceRow(
        site="new-site", station="NEW1", evse=1, node="NEW1", vendor="", model="", fw="", connector_type="",
        u_n_v=230.0, phases=0, p_max_w=None, max_a=None, dc=False, meter_serial="",
    ))  # fmt: skip
    tab.until("document.querySelector('.findings tbody').innerText.includes('Supply voltage too high')")
    row = "document.querySelector('[data-key=\"elm-hub/EL03/1\"]').innerText"
    tab.until(f"{row}.includes('10.00 kW') && {row}.includes('55.5 °C') && {row}.includes('critical')")
    tab.until("document.querySelectorAll('.evses tbody tr').length === 61")
    last = tab.texts(".evses tbody tr")[-1]
    assert re.match(r"new-site\s+NEW1/1\s+Unknown\s+–\s+–\s+–\s+–\s+–\s+never", last)
    cleared = finding(now_ms, "over_voltage", "elm-hub", "EL03", 1, state="cleared", end=now_ms, change=2)
    seeded.apply("findings", cleared)
    tab.until("!document.querySelector('.findings tbody').innerText.includes('Supply voltage too high')")
    assert tab.js("window.sameDocument")
    assert tab.complaints == []


def test_a_renewal_leaves_scroll_selection_focus_and_input_alone(tab: Tab, page: str, seeded: Seeded) -> None:
    tab.js("""
        window.scrollTo(0, 700);
        document.querySelector('.scroll').scrollTop = 321;
        const rows = [...document.querySelectorAll('.evses tbody tr')];
        const edge = (element) => element.getBoundingClientRect().top;
        window.fromTop = (row) => edge(row) - edge(row.closest('.scroll'));
        window.seen = rows.find((row) => window.fromTop(row) > 50 && !row.dataset.key.startsWith('elm'));
        window.row = document.querySelector('[data-key="alder-depot/AL01/1"]');
        const search = document.querySelector('input[name=q]');
        search.focus();
        search.value = 'half a wo';
        getSelection().selectAllChildren(document.querySelector('section[data-key=dead] code'));
    """)
    before = tab.js("window.fromTop(window.seen)")
    assert 50 < before < 150
    selected = tab.js("getSelection().toString()")
    assert selected == HOSTILE_TOPIC
    seeded.apply(
        "findings", finding(time.time_ns() // 1_000_000, "over_voltage", "elm-hub", "EL03", 1, minutes=0)
    )
    tab.until("document.querySelector('.findings tbody').innerText.includes('Supply voltage too high')")
    renewed(tab)
    assert tab.js("document.querySelectorAll('.evses .critical').length") == 2
    assert tab.js("window.fromTop(window.seen)") == pytest.approx(before, abs=1)
    assert tab.js("getSelection().toString()") == selected
    assert tab.js("document.querySelector('input[name=q]').value") == "half a wo"
    assert tab.js("window.row === document.querySelector('[data-key=\"alder-depot/AL01/1\"]')")


def test_renewing_many_times_needs_no_more_memory(tab: Tab, page: str) -> None:
    renew = "(async () => { for (let k = 0; k < 20; k++) await renew(); })()"

    def used() -> tuple[int, int]:
        tab.call("HeapProfiler.collectGarbage")
        nodes = tab.js("document.querySelectorAll('*').length")
        heap = tab.call("Runtime.getHeapUsage")["usedSize"]
        return int(nodes), int(heap)

    tab.js(renew)
    nodes, heap = used()
    tab.js(renew)
    tab.js(renew)
    more_nodes, more_heap = used()
    assert more_nodes <= nodes + 20
    assert more_heap <= heap + 1_000_000


def test_the_choice_of_a_site_narrows_the_tables(tab: Tab, page: str) -> None:
    tab.js("""
        const site = document.getElementById('site');
        site.value = 'birch-mall';
        site.dispatchEvent(new Event('change'));
    """)
    tab.until("location.search.includes('site=birch-mall') && document.readyState === 'complete'")
    assert {row.split()[0] for row in tab.texts(".evses tbody tr")} == {"birch-mall"}
    assert len(tab.texts(".findings tbody tr")) == 2
    renewed(tab)
    assert len(tab.texts(".evses tbody tr")) == 10


def test_pause_holds_the_page_still(tab: Tab, page: str) -> None:
    tab.js("document.getElementById('pause').click()")
    assert tab.texts("#link") == ["paused"]
    shown = tab.js("document.querySelector('[data-now]').dataset.now")
    time.sleep(2.6)
    assert tab.js("document.querySelector('[data-now]').dataset.now") == shown
    tab.js("document.getElementById('pause').click()")
    tab.until(f"document.querySelector('[data-now]').dataset.now !== '{shown}'")
    tab.until("document.querySelector('#link').innerText.includes('live')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_is_wider_than_the_window_and_text_can_be_read(
    tab: Tab, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    tab.size(width)
    tab.scheme(scheme)
    tab.open(f"{page}/?{scheme}={width}")
    tab.until("document.querySelector('#link').innerText.includes('live')")
    assert tab.js("document.documentElement.scrollWidth") == width
    assert tab.js(CONTRASTS) == []
    assert tab.js("[...document.querySelectorAll('input, select')].every(e => e.labels.length === 1)")
    tab.screenshot(tmp_path / f"{width}-{scheme}.png")
    tab.size(1280)


# Texts whose contrast to their background is below 4.5 (WCAG 2.2, 1.4.3), with it.
CONTRASTS = """(() => {
    const parts = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = parts(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    const found = new Set();
    for (const element of document.querySelectorAll('.page *')) {
        if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        if (!element.checkVisibility()) continue;
        const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) found.add(`${element.tagName}.${element.className} ${contrast.toFixed(2)}`);
    }
    return [...found];
})()"""


def test_a_server_that_is_gone_is_told_and_its_return_too(tab: Tab, seeded: Seeded, tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    config = write_config(tmp_path, seeded.folder, port)
    with process(config, tmp_path / "api.log") as running:
        await_start(running, address)
        tab.open(f"{address}/")
        tab.until("document.querySelector('#link').innerText.includes('live')")
        assert len(tab.texts(".evses tbody tr")) == 60
        running.send_signal(signal.SIGKILL)
        tab.until("!document.getElementById('gone').hidden")
        said = tab.texts("#gone")[0]
        assert re.fullmatch(
            r"The server does not answer\. What you see is from \d\d:\d\d:\d\d UTC\. Trying again\.", said
        )
        assert "no answer since" in tab.texts("#link")[0]
        assert len(tab.texts(".evses tbody tr")) == 60
        tab.screenshot(tmp_path / "gone.png")
    with process(config, tmp_path / "api-again.log") as running:
        await_start(running, address)
        tab.until("document.getElementById('gone').hidden", seconds=20)
        tab.until("document.querySelector('#link').innerText.includes('live')")
    tab.open("about:blank#done")

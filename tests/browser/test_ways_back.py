"""Everything that moves stations is done once by hand, in a real browser against a real broker.

The forms say what came of it beside their button, ask before what cannot be undone, send once, and send
nothing where the token, its scope or the server is missing.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.billing_writer import BillingWriter
from connectors.broker import MosquittoBroker
from connectors.mqtt_settings import MqttSettings
from models.load_rows import LoadRow
from models.outputs import ReactionRow
from tests.seeded import Fleet, Seeded, finding_id, seed
from tests.servers import free_port, require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for
from tests.servers.web import await_start, process, served, write_config
from tests.unit._ledger_records import blob
from tests.unit.campaigning import Bench as Campaign

from .chromium import Tab, chromium

pytestmark = [pytest.mark.browser, pytest.mark.server]
FORM = "document.querySelector('main form[method=post]')"
DONE = f"{FORM}.querySelector('.done')"
HOT = finding_id("cedar-office", "CE03", 1, "connector_over_temperature")
SCOPES = ("commands:write", "campaigns:write", "findings:write")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(require("chromium"), tmp_path_factory.mktemp("browser") / "profile") as opened:
        opened.size(1280)
        yield opened


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    """Yield a ledger with a campaign that runs, a managed site, and a breaker that is open."""
    made = seed(tmp_path_factory.mktemp("ledger") / "data", Fleet(time.time_ns() // 1_000_000, minutes=3))
    campaign = Campaign(4, name="winter", retries=0)
    made.ledger.apply("campaigns", [(16, msgspec.msgpack.encode(campaign.campaigns))])
    made.ledger.apply("campaign_stations", [(16, msgspec.msgpack.encode(campaign.log))])
    now_ms = made.fleet.now_ms
    minute = LoadRow(
        site="depot", start_ms=now_ms // 60_000 * 60_000 - 60_000, limit_a=(200.0,) * 3,
        current_a=(90.0,) * 3, other_a=(40.0,) * 3, held_a=(196.0,) * 3, ev_kw=40.0, site_kw=60.0,
        quarter_kwh=20.0, projected_kw=61.0, peak_kw=62.0, demand_limit_kw=125.0, charging=2,
        waiting=0, lost=0, commands=1,
    )  # fmt: skip
    made.ledger.apply("loads", [(0, blob(minute))])
    tripped = ReactionRow(
        finding_id="", rule="", change=0, step=-1, state="tripped", reason="the breaker was opened by kim",
        code="", site="", station="", evse=None, command="", body={}, cause="", at_ms=now_ms, order=7,
    )  # fmt: skip
    made.apply("reactions", tripped)
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def tokens(seeded: Seeded) -> dict[str, str]:
    writer = BillingWriter(seeded.url)
    made = {
        "anna": writer.create_token("anna", SCOPES, 1)[1],
        "reader": writer.create_token("reader", ["sessions"], 1)[1],
    }
    writer.close()
    return made


class Desk:
    """The pages in service, and what came of them to the journal."""

    def __init__(self, address: str, config: Any, token: str) -> None:
        self.address, self.config, self.token = address, config, token

    def sent(self, count: int) -> list[dict[str, Any]]:
        """Return what was journaled, once it is `count` messages."""
        wait_for(lambda: len(self._came()) >= count, f"{count} journaled")
        found = self._came()
        assert len(found) == count
        return [json.loads(payload) | {"topic": topic} for _, topic, payload in found]

    def _came(self) -> list[tuple[int, str, bytes]]:
        # What is for every shard is journaled in each.
        return sorted({(m.recv_ns, m.topic, m.payload) for m in journaled(self.config)})


@pytest.fixture
def desk(seeded: Seeded, tokens: dict[str, str], tmp_path: Path) -> Iterator[Desk]:
    require("mosquitto")
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        at = MqttSettings("127.0.0.1", broker.port, "page", connect_timeout_s=3.0)
        with ingesting(config) as ingest, served(seeded.url, seeded.folder, "test-depot", at) as address:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            yield Desk(address, config, tokens["anna"])


def shown(tab: Tab, address: str) -> None:
    """Open a page that renews itself."""
    tab.open(address)
    tab.until("document.querySelector('#link').innerText.includes('live')")
    tab.complaints.clear()


def fill(tab: Tab, **fields: str) -> None:
    for name, value in fields.items():
        tab.js(f"{FORM}.querySelector('[name={name}]').value = {json.dumps(value)}")


def press(tab: Tab, button: str = "button", times: int = 1) -> None:
    tab.js(f"for (let k = 0; k < {times}; k++) {FORM}.querySelector({json.dumps(button)}).click()")


def answer(tab: Tab, button: str) -> str:
    """Answer the question that stands before the page, and return it."""
    question = tab.until("document.querySelector('dialog[open] p')?.innerText")
    assert tab.js("document.activeElement.innerText") == "Cancel"
    tab.js(f"document.querySelector('dialog button[value={button}]').click()")
    tab.until("document.querySelector('dialog') === null")
    return str(question)


def said(tab: Tab, mood: str) -> str:
    """Return what the form says once it is in this mood."""
    tab.until(f"{DONE}.dataset.mood === {json.dumps(mood)}")
    return str(tab.js(f"{DONE}.textContent"))


def test_what_stops_charging_is_asked_about_and_sent_once(
    tab: Tab, desk: Desk, tokens: dict[str, str]
) -> None:
    shown(tab, f"{desk.address}/commands?site=alder-depot&station=AL01&evse=1")
    fill(tab, word="reset-now", token="cs_wrong")
    press(tab)
    assert "a valid token is needed" in said(tab, "bad")
    assert tab.js("document.activeElement.name") == "token"
    fill(tab, token=tokens["reader"])
    press(tab)
    tab.until(f"{DONE}.textContent === 'this token has no scope commands:write'")
    fill(tab, token=desk.token)
    press(tab)
    question = answer(tab, "no")
    assert question == "Restart AL01 at alder-depot at once? A transaction runs at AL01/1: it ends."
    assert "nothing was done" in said(tab, "")
    press(tab, times=2)
    answer(tab, "yes")
    said(tab, "good")
    press(tab)  # the late half of a double click
    fill(tab, word="limit", value="a lot", evse="2")
    time.sleep(0.9)
    press(tab)
    assert "ampere" in said(tab, "bad")
    assert [(body["command"], body["body"]["type"], body["by"]) for body in desk.sent(1)] == [
        ("Reset", "Immediate", "anna")
    ]


def test_a_campaign_is_paused_and_ended_by_hand(tab: Tab, desk: Desk) -> None:
    shown(tab, f"{desk.address}/campaigns/c1")
    fill(tab, token=desk.token, text="a storm comes")
    press(tab, "button[value=approve], button[value=pause]")
    said(tab, "good")
    press(tab, "button[value=abort]")
    assert answer(tab, "yes").startswith("End c1 for good? No further station is asked;")
    said(tab, "good")
    bodies = desk.sent(2)
    assert [(body["action"], body["by"]) for body in bodies] == [("pause", "anna"), ("abort", "anna")]
    assert bodies[0]["text"] == "a storm comes"
    fill(tab, token=desk.token)
    press(tab, "button[value=rollback]")
    assert "must install the previous image" in answer(tab, "no")
    desk.sent(2)


def test_a_site_is_limited_and_its_limit_lifted(tab: Tab, desk: Desk) -> None:
    shown(tab, f"{desk.address}/managed?site=depot")
    assert tab.js("document.querySelector('.line.limit').getBoundingClientRect().width") > 5, (
        "one minute shows"
    )
    fill(tab, limit_a="4", hours="2", token=desk.token)
    press(tab)
    assert answer(tab, "no").endswith("all charging at depot pauses for 2 h.")
    fill(tab, limit_a="32")
    press(tab)
    said(tab, "good")
    press(tab, "button[name=lift]")
    limit, lift = desk.sent(2)
    assert (limit["site"], limit["limit_a"], limit["by"]) == ("depot", 32.0, "anna")
    now_ms = time.time_ns() // 1_000_000
    assert 7_100_000 < limit["until_ms"] - now_ms <= 7_200_000
    assert now_ms - 60_000 < lift["until_ms"] <= now_ms


def test_the_breaker_is_closed_by_hand(tab: Tab, desk: Desk) -> None:
    shown(tab, f"{desk.address}/reactions")
    assert tab.texts(".state") == ["stopped: the breaker is open"]
    fill(tab, token=desk.token)
    press(tab, "button[value=reset]")
    assert answer(tab, "yes").startswith("Let reactions send commands again?")
    (body,) = desk.sent(1)
    assert (body["topic"], body["action"], body["by"]) == ("evt/v1/_op/reactions", "reset", "anna")


def test_a_finding_is_handled_on_its_own_page(tab: Tab, desk: Desk) -> None:
    shown(tab, f"{desk.address}/findings?severity=critical")
    assert len(tab.texts(".findings tbody tr")) == 3
    shown(tab, f"{desk.address}/findings/{HOT}")
    assert tab.js("document.querySelector('.evidence') !== null")
    fill(tab, token=desk.token)
    press(tab, "button[value=ack]")
    said(tab, "good")
    press(tab, "button[value='snooze:3600']")
    assert [body["action"] for body in desk.sent(2)] == ["ack", "snooze"]
    assert tab.js("document.querySelector('.evidence svg, .evidence p') !== null"), (
        "renewing keeps the evidence"
    )
    assert tab.js("location.pathname") == f"/findings/{HOT}"


def test_without_the_script_the_question_is_a_page(tab: Tab, desk: Desk) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.call("Page.navigate", url=f"{desk.address}/managed?site=depot")
        tab.until(
            "document.readyState === 'complete' && document.querySelector('form[method=post]') !== null"
        )
        fill(tab, limit_a="0", hours="1", token=desk.token)
        press(tab)
        tab.until("document.title.startsWith('Are you sure?') && document.readyState === 'complete'")
        fill(tab, token=desk.token)
        press(tab)
        tab.until("location.pathname === '/managed' && document.querySelector('#link') !== null")
        tab.call("Page.navigate", url=f"{desk.address}/findings/none-such")
        tab.until("document.title.startsWith('Not found')")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    (body,) = desk.sent(1)
    assert body["limit_a"] == 0.0


def test_a_server_that_is_gone_is_said_beside_the_button(tab: Tab, seeded: Seeded, tmp_path: Path) -> None:
    port = free_port()
    with process(write_config(tmp_path, seeded.folder, port), tmp_path / "api.log") as running:
        await_start(running, f"http://127.0.0.1:{port}")
        shown(tab, f"http://127.0.0.1:{port}/commands?site=depot&station=s1")
        running.send_signal(signal.SIGKILL)
        running.wait()
        fill(tab, token="cs_any")
        press(tab)
        assert "does not answer" in said(tab, "bad")
    tab.open("about:blank#done")

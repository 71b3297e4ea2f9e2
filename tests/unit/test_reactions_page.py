"""The page and JSON of automatic reactions, the list of findings, and how a browser is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.api.words import cause_link, command_words
from models.command_types import command_id
from models.outputs import ReactionRow
from tests.seeded import Fleet, Seeded, finding_id, seed

from ._api_client import Client

HOT = finding_id("cedar-office", "CE03", 1, "connector_over_temperature")
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def reaction(order: int, state: str, **more: Any) -> ReactionRow:
    base: dict[str, Any] = {
        "finding_id": HOT, "rule": "hot-plug", "change": order, "step": 0, "state": state, "reason": "why",
        "code": "connector_over_temperature", "site": "cedar-office", "station": "CE03", "evse": 1,
        "command": "Reset", "body": {"type": "OnIdle"}, "cause": f"reaction/{HOT}/hot-plug/0",
        "at_ms": 1_000 * order, "order": order,
    }  # fmt: skip
    return ReactionRow(**(base | more))


def breaker(order: int, state: str, shard: int = 0) -> ReactionRow:
    about = {"finding_id": "", "rule": "", "code": "", "site": "", "station": "", "evse": None, "command": ""}
    return reaction(order, state, reason=f"{state} by kim", step=-1, shard=shard, **about)


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=3))
    yield made
    made.ledger.close()


@pytest.fixture
def client(seeded: Seeded) -> Client:
    return Client(seeded.url, seeded.folder)


def test_reactions_lead_to_their_finding_and_command(seeded: Seeded, client: Client) -> None:
    assert "None. Rules in the configuration" in client.get("/reactions").text
    seeded.apply("reactions", reaction(1, "sent"), reaction(2, "held", step=1, reason="a car <b>charges"))
    page = client.get("/reactions").text
    assert f'href="/findings/{HOT}"' in page
    sent = command_id("cedar-office", "CE03", f"reaction/{HOT}/hot-plug/0")
    assert page.count(f'href="/commands/{sent}"') == 1
    assert "a car &lt;b&gt;charges" in page
    assert "What it set off" in client.get(f"/findings/{HOT}").text
    assert [row["state"] for row in client.get("/api/v1/reactions", rule="hot-plug").json()] == [
        "held",
        "sent",
    ]


def test_the_breaker_is_open_while_any_shard_says_so(seeded: Seeded, client: Client) -> None:
    assert "the breaker is closed" in client.get("/reactions").text
    seeded.apply("reactions", breaker(1, "tripped"), breaker(2, "reset"), breaker(3, "tripped", shard=1))
    page = client.get("/reactions/live").text
    assert "stopped: the breaker is open" in page
    assert "1 shard: tripped by kim" in page
    assert 'value="reset"' in page
    seeded.apply("reactions", breaker(4, "reset", shard=1))
    assert 'value="trip"' in client.get("/reactions").text


def test_findings_are_listed_by_state_and_severity(client: Client) -> None:
    assert client.get("/findings").text.count("<tr data-key=") == 8
    assert client.get("/findings", severity="critical").text.count("<tr data-key=") == 3
    cleared = client.get("/findings-live", state="cleared").text
    assert "voltage_dip" in cleared
    assert "None that match" in client.get("/findings", code="none_such").text


def test_a_browser_gets_pages_and_a_program_gets_data(seeded: Seeded, tmp_path: Path, client: Client) -> None:
    shown = client.get("/findings/none-such", BROWSER)
    assert (shown.status_code, "<title>Not found" in shown.text) == (404, True)
    assert client.get("/findings/none-such").json() == {"detail": "no such finding, or several begin so"}
    assert client.get("/api/v1/findings/none-such", BROWSER).status_code == 404
    assert client.get("/api/v1/findings/none-such", BROWSER).headers["content-type"] == "application/json"
    wrong = client.get("/sessions?state=lost", BROWSER)
    assert (wrong.status_code, "state: " in wrong.text) == (422, True)
    empty = Client(f"sqlite:///{tmp_path}/none.sqlite", tmp_path)
    for path in ("/campaigns", "/commands", "/managed", "/reactions", "/findings", "/sessions"):
        answer = empty.get(path, BROWSER)
        assert (answer.status_code, "there is no ledger" in answer.text) == (503, True), path
        assert '<nav class="ways"' in answer.text
        assert empty.get(path).headers["content-type"].startswith("text/plain")


def test_what_a_command_asks_for_in_words() -> None:
    periods = [{"startPeriod": 60 * k, "limit": 16.0 + k} for k in range(5)]
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}
    for schedules in ([schedule], schedule):
        body = {"evseId": 1, "chargingProfile": {"id": 1, "chargingSchedule": schedules}}
        assert command_words("SetChargingProfile", body) == "16, 17, 18, … A"
    assert command_words("SetChargingProfile", {"chargingProfile": {}}) == ""
    assert command_words("Reset", {"type": "OnIdle", "evseId": 2}) == "OnIdle, 2"
    assert cause_link("campaign/c 1/2") == "/campaigns/c%201"
    assert cause_link(f"reaction/{HOT}/hot-plug/0") == f"/findings/{HOT}"
    assert cause_link("load/a b/c/1/limit/7") == "/managed?site=a%20b"
    assert cause_link("operator/7") == ""

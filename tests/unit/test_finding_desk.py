"""People act on findings: commands and HTTP publish to a broker, ingest journals, the ledger shows it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from connectors.api.app import create_app
from connectors.broker import MosquittoBroker
from connectors.ledger_reader import LedgerReader
from connectors.mqtt_settings import MqttSettings
from models.finding_actions import TOPIC, actions_of, read_action
from models.records import Operator, Origin
from pipeline import cli
from tests.seeded import Fleet, Seeded, finding_id, seed
from tests.servers import free_port, require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for

pytestmark = pytest.mark.usefixtures("asked_in_memory")
HOT = finding_id("cedar-office", "CE03", 1, "connector_over_temperature")


@pytest.fixture
def seeded(tmp_path: Path) -> Iterator[Seeded]:
    made = seed(tmp_path / "data", Fleet(time.time_ns() // 1_000_000, minutes=3))
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[MosquittoBroker]:
    require("mosquitto")
    with MosquittoBroker() as running:
        yield running


def _config(seeded: Seeded, port: int) -> str:
    path = seeded.folder.parent / "desk.toml"
    mqtt = {"port": port, "connect_timeout_s": 2.0, "reconnect_min_s": 0.1}
    path.write_text(tomli_w.dumps({"service": {"data_dir": str(seeded.folder)}, "mqtt": mqtt}))
    return str(path)


def _ask(
    seeded: Seeded,
    method: str,
    path: str,
    port: int | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    """Ask the application, with a broker at `port` if given."""
    at = (
        None
        if port is None
        else MqttSettings("127.0.0.1", port, f"page-{time.time_ns()}", connect_timeout_s=2.0)
    )
    app = create_app(seeded.url, seeded.folder, "depot", at)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with app.router.lifespan_context(app), http:
            return await http.request(method, path, headers=headers, **more)

    return asyncio.run(ask())


def _apply(seeded: Seeded, payloads: list[bytes]) -> None:
    """Take journaled operator messages into the ledger, as the flow does."""
    at = Origin(order=0, pos=0, recv_ns=time.time_ns(), effect_ns=0, node_row=-1)
    records = [Operator(at=at, topic="finding", body=json.loads(payload)) for payload in payloads]
    seeded.apply("finding_actions", *actions_of(records))


@pytest.mark.server
def test_command_and_page_reach_the_journal_and_the_ledger(
    seeded: Seeded, broker: MosquittoBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(tmp_path / "journal", broker.port)
    file = _config(seeded, broker.port)
    with ingesting(config) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected")
        for words in (
            ["ack", HOT[:8], "--by", "ann", "--text", "on", "my", "way"],
            ["assign", HOT, "--to", "bob", "--by", "ann"],
            ["snooze", HOT, "--for", "8h", "--by", "ann"],
        ):
            assert cli.main(["finding", *words, "--config", file]) == 0
        body = {"action": "comment", "by": "carl", "text": "looks worn"}
        answer = _ask(seeded, "POST", f"/api/v1/findings/{HOT}/actions", broker.port, json=body)
        assert answer.status_code == 202
        form = _ask(
            seeded,
            "POST",
            f"/findings/{HOT}",
            broker.port,
            data={"action": "ack", "by": "dan", "text": "", "site": "x"},
        )
        assert (form.status_code, form.headers["location"]) == (303, "/?site=x")
        wait_for(lambda: len(journaled(config)) == 5, "journaled")
    messages = sorted(journaled(config), key=lambda m: m.recv_ns)
    assert {m.topic for m in messages} == {TOPIC}
    assert len({m.shard for m in messages}) == 1  # of the finding's site
    requests = [read_action(json.loads(m.payload)) for m in messages]
    assert {(r.finding_id, r.site) for r in requests} == {(HOT, "cedar-office")}
    assert [r.action for r in requests] == ["ack", "assign", "snooze", "comment", "ack"]
    _apply(seeded, [m.payload for m in messages])
    capsys.readouterr()
    assert cli.main(["finding", "show", HOT[:8], "--config", file]) == 0
    shown = capsys.readouterr().out
    for told in (
        "acknowledged by ann: on my way",
        "assigned by ann to bob",
        "commented by carl: looks worn",
    ):
        assert told in shown
    assert cli.main(["finding", "list", "--assignee", "bob", "--config", file]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{HOT[:8]}  critical  connector_over_temperature")
    assert "assigned to bob" in line
    assert "snoozed until" in line


def test_without_a_broker_the_command_says_so(seeded: Seeded, capsys: pytest.CaptureFixture[str]) -> None:
    file = _config(seeded, free_port())
    assert cli.main(["finding", "ack", HOT, "--by", "ann", "--config", file]) == 69
    assert "MQTT broker 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ack", "no-such-finding"], 1, "no finding 'no-such-finding'"),
        (["show", "no-such-finding"], 2, "no finding 'no-such-finding'"),
        (["snooze", HOT, "--for", "soon"], 2, "expected minutes, hours or days"),
        (["snooze", HOT, "--until", "soon"], 2, "expected a time like"),
    ],
)
def test_what_the_command_cannot_do_it_explains(
    seeded: Seeded, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    assert cli.main(["finding", *words, "--config", _config(seeded, free_port())]) == code
    assert said in capsys.readouterr().err


def test_list_says_where_what_and_since_when(seeded: Seeded, capsys: pytest.CaptureFixture[str]) -> None:
    file = _config(seeded, free_port())
    assert cli.main(["finding", "list", "--config", file]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert cli.main(["finding", "list", "--json", "--code", "offline", "--config", file]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["code"], row["planned"], row["acked_by"], row["comments"]) == ("offline", True, None, 0)
    assert cli.main(["finding", "list", "--site", "nowhere", "--config", file]) == 0
    assert capsys.readouterr().out == "no findings\n"


ACK = {"action": "ack", "by": "ann"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        (f"/api/v1/findings/{HOT}/actions", ACK, {}, 503),  # nobody listens at the broker's port
        (f"/api/v1/findings/{HOT}/actions", ACK, {"Sec-Fetch-Site": "cross-site"}, 403),
        (f"/api/v1/findings/{HOT}/actions", ACK, {"Origin": "https://elsewhere.example"}, 403),
        (f"/api/v1/findings/{HOT}/actions", ACK | {"by": ""}, {}, 422),
        (f"/api/v1/findings/{HOT}/actions", ACK | {"more": 1}, {}, 422),
        (f"/api/v1/findings/{HOT}/actions", {"action": "snooze", "by": "ann"}, {}, 422),
        (f"/api/v1/findings/{HOT}/actions", {"action": "snooze", "by": "ann", "until": 5}, {}, 422),
        ("/api/v1/findings/unknown/actions", ACK, {"Origin": "http://localhost"}, 404),
    ],
)
def test_what_is_not_done_has_a_reason(
    seeded: Seeded, path: str, body: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    answer = _ask(seeded, "POST", path, free_port(), headers, json=body)
    assert answer.status_code == status
    assert answer.text


def test_page_without_a_broker_says_that_nothing_can_be_done(seeded: Seeded) -> None:
    answer = _ask(seeded, "POST", f"/api/v1/findings/{HOT}/actions", None, json=ACK)
    assert (answer.status_code, "no broker" in answer.text) == (503, True)


@pytest.mark.parametrize(
    ("form", "status"), [({"by": "x", "action": "nonsense"}, 422), ({"text": "x" * 30_000}, 413)]
)
def test_form_that_is_wrong_is_refused(seeded: Seeded, form: dict[str, str], status: int) -> None:
    assert _ask(seeded, "POST", f"/findings/{HOT}", free_port(), data=form).status_code == status


def test_one_finding_has_its_history_and_its_page(seeded: Seeded) -> None:
    request = {"finding_id": HOT, "by": "<b>ann</b>"}
    bodies = [
        request | {"action": "ack"},
        request | {"action": "comment", "text": "<script>alert(1)</script>"},
    ]
    _apply(seeded, [json.dumps(body).encode() for body in bodies])
    found = _ask(seeded, "GET", f"/api/v1/findings/{HOT}").json()
    assert sorted(a["action"] for a in found["actions"]) == ["ack", "comment"]
    assert [c["state"] for c in found["changes"]] == ["raised"]
    assert (found["acked_by"], found["comments"]) == ("<b>ann</b>", 1)
    page = _ask(seeded, "GET", f"/findings/{HOT}").text
    assert "acknowledged by &lt;b&gt;ann&lt;/b&gt;" in page
    assert "<script>alert" not in page
    assert _ask(seeded, "GET", "/findings/unknown").status_code == 404
    assert _ask(seeded, "GET", "/api/v1/findings/unknown").status_code == 404


@pytest.mark.parametrize(
    ("query", "n"),
    [
        ("", 8),
        ("state=all", 13),
        ("code=offline", 1),
        ("severity=info", 1),
        ("acked=true", 0),
        ("acked=false", 8),
    ],
)
def test_lists_are_filtered(seeded: Seeded, query: str, n: int) -> None:
    reader = LedgerReader(seeded.url)
    everything = len(reader.chosen_findings(state="all"))
    reader.close()
    found = _ask(seeded, "GET", f"/api/v1/findings?{query}").json()
    assert len(found) == (everything if query == "state=all" else n)

"""People send commands: from the command line, over HTTP and by the page's form; who may, and what shows."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import tomli_w

from connectors.api.app import create_app
from connectors.billing_writer import BillingWriter
from connectors.broker import MosquittoBroker
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings
from models.command_check import CommandRefused, check_command
from models.command_request import TOPIC, shown_message
from models.command_secrets import shown
from models.command_shorthand import WORDS, spell_out
from models.outputs import CommandRow
from models.secret import MASK
from pipeline import cli
from tests.servers import free_port, require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for

from .commanding import Desk, reset
from .test_control import Bench, birth

WISH = {"site": "depot", "station": "s1", "word": "reset"}


class House:
    """A ledger, tokens and the application over them."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.ledger = Ledger(self.url)
        writer = BillingWriter(self.url)
        self.token = writer.create_token("anna", ["commands:write"], 1)[1]
        self.other = writer.create_token("reader", ["sessions"], 1)[1]
        self.elsewhere = writer.create_token("ben", ["commands:write"], 1, sites=["harbour"])[1]
        writer.close()
        at = None if port is None else MqttSettings("127.0.0.1", port, "page", connect_timeout_s=2.0)
        self.app = create_app(self.url, folder, "depot", at)
        self.file = folder / "desk.toml"
        mqtt = {"port": port or free_port(), "connect_timeout_s": 2.0, "reconnect_min_s": 0.1}
        self.file.write_text(tomli_w.dumps({"service": {"data_dir": str(folder)}, "mqtt": mqtt}))

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, headers=headers | more.pop("headers", {}), **more)

        return asyncio.run(go())

    def store(self, rows: list[CommandRow]) -> None:
        self.ledger.apply("commands", [(0, msgspec.msgpack.encode(rows))])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "data")
    yield made
    made.ledger.close()


@pytest.mark.parametrize(
    ("who", "wish", "code", "words"),
    [
        ("", WISH, 401, "a valid token is needed"),
        ("cs_guessed", WISH, 401, "a valid token is needed"),
        ("other", WISH, 403, "no scope commands:write"),
        ("elsewhere", WISH, 404, "there is none"),
        ("token", WISH, 503, "knows no broker"),
        ("token", WISH | {"word": "explode"}, 503, "knows no broker"),
        ("token", WISH | {"nonsense": 1}, 422, "nonsense"),
        ("token", {"site": "depot"}, 422, "station"),
    ],
)
def test_who_may_ask(house: House, who: str, wish: dict[str, Any], code: int, words: str) -> None:
    answer = house.ask("POST", "/api/v1/commands", getattr(house, who, who), json=wish)
    assert (answer.status_code, words in answer.text) == (code, True), answer.text


def test_a_form_of_another_page_or_without_a_token_is_refused(house: House) -> None:
    form = {"site": "depot", "station": "s1", "word": "reset"}
    assert house.ask("POST", "/commands", data=form).status_code == 401
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = house.ask("POST", "/commands", data=form | {"token": house.token}, headers=foreign)
    assert answer.status_code == 403


def told() -> list[CommandRow]:
    """Return the rows of a rejected command and of one with a token in it."""
    desk = Desk()
    first = desk.ask(reset(), 0)
    desk.answer(first, "Rejected", 2, statusInfo={"reasonCode": "TxInProgress"})
    command, body = spell_out("start", 1, "TAG-4711")
    desk.ask(reset("s2", "operator/2", command=command, body=body, by="ben"), 3)
    return desk.rows


def test_what_became_of_commands_is_read_everywhere(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told()
    house.store(rows[:2])
    house.store(rows)
    found = house.ask("GET", "/api/v1/commands").json()
    assert [(c["station"], c["state"], c["by"]) for c in found] == [
        ("s2", "sent", "ben"),
        ("s1", "rejected", "anna"),
    ]
    assert [c["station"] for c in house.ask("GET", "/api/v1/commands?state=open").json()] == ["s2"]
    assert [c["station"] for c in house.ask("GET", "/api/v1/commands?q=rejected+s1").json()] == ["s1"]
    one = house.ask("GET", f"/api/v1/commands/{rows[0].cmd_id[:8]}").json()
    assert [c["event"] for c in one["changes"]] == ["asked", "send", "reject"]
    assert house.ask("GET", "/api/v1/commands/zzz").status_code == 404
    ended = house.ask("DELETE", f"/api/v1/commands/{rows[0].cmd_id}", house.token)
    assert (ended.status_code, "it has ended: rejected" in ended.text) == (409, True)
    page = house.ask("GET", "/commands").text
    detail = house.ask("GET", f"/commands/{rows[0].cmd_id}").text
    assert "rejected" in page
    assert "TxInProgress" in detail
    assert "TAG-4711" not in page + json.dumps(found)
    assert cli.main(["command", "list", "--config", str(house.file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{rows[0].cmd_id[:8]}  rejected   Reset")
    assert cli.main(["command", "show", rows[0].cmd_id[:8], "--config", str(house.file)]) == 0
    assert "Rejected (TxInProgress)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explode"], "no word 'explode'; there are reset"),
        (["limit"], "it needs a value: ampere"),
        (["limit", "many"], "0 to 1000; came 'many'"),
        (["reset", "now"], "it takes no value"),
        (["Reset", "--body", '{"type": "Soon"}'], "'Soon' is not one of"),
        (["Reset", "--body", "{"], "expected a JSON object"),
    ],
)
def test_a_command_that_is_none_is_refused_at_once(
    house: House, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["command", "send", "depot", "s1", *words, "--config", str(house.file)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("evse", [None, 2])
def test_every_word_spells_a_right_request(word: str, evse: int | None) -> None:
    value = {"limit": "16", "trigger": "Heartbeat"}.get(word, "77" if WORDS[word].value else "")
    check_command(*spell_out(word, evse, value))
    with pytest.raises(CommandRefused, match="value"):
        spell_out(word, evse, "" if WORDS[word].value else "x")


def test_secrets_of_a_body_are_left_out() -> None:
    password = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    body = {
        "idToken": {"idToken": "TAG", "type": "Central"},
        "firmware": {"location": "https://user:pw@x.example/f.bin?sig=abc", "requestId": 1},
        "setVariableData": [{**password, "attributeValue": "hunter2"}],
    }
    text = json.dumps(shown(body | {"sixteen": [{"key": "AuthorizationKey", "value": "pw"}]}))
    assert json.loads(text)["sixteen"] == [{"key": "AuthorizationKey", "value": MASK}]
    text = json.dumps(shown(body))
    assert not {secret for secret in ("TAG", "user", "pw", "abc", "hunter2") if secret in text}
    assert (text.count(MASK), "x.example/f.bin" in text, "Central" in text) == (3, True, True)


@pytest.mark.parametrize("value", ["hunter2-" * 400, ["hunter2-x"], "hunter2-'x"])
def test_no_refusal_quotes_a_secret(value: Any) -> None:
    setting = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    body = {"setVariableData": [setting | {"attributeValue": value, "attributeType": 1}]}
    with pytest.raises(CommandRefused) as refused:
        check_command("SetVariables", body)
    assert "attributeType" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_recorded_request_keeps_no_secret() -> None:
    setting = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    body = {"setVariableData": [setting | {"attributeValue": "hunter2"}]}
    request = {"id": "1", "site": "S", "command": "SetVariables", "body": body, "by": "kim"}
    kept = json.loads(shown_message(TOPIC, json.dumps(request).encode()))
    assert kept["body"]["setVariableData"][0] == setting | {"attributeValue": MASK}
    assert kept | {"body": body} == request
    for other in (json.dumps(request).encode()[:-1], b'["hunter2"]', b"[" * 100_000):
        assert shown_message(TOPIC, other) == b"null"
    plain = b'{"id": "2",  "command": "Reset", "body": {"type": "OnIdle"}}'
    assert shown_message(TOPIC, plain) == plain
    assert shown_message("evt/v1/S/N/up/event", b"hunter2") == b"hunter2"


@pytest.mark.server
def test_command_line_and_page_reach_the_station_and_its_answer_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        house = House(tmp_path / "data", broker.port)
        config = settings(tmp_path / "journal", broker.port)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            send = ["command", "send", "depot", "s1"]
            assert cli.main([*send, "reset", "--by", "carl", "--config", str(house.file)]) == 0
            assert (
                house.ask("POST", "/api/v1/commands", house.token, json=WISH | {"evse": 1}).status_code == 202
            )
            refused = house.ask("POST", "/api/v1/commands", house.token, json=WISH | {"word": "explode"})
            assert (refused.status_code, "no word" in refused.text) == (422, True)
            form = {"site": "depot", "station": "s1", "word": "limit", "value": "16", "token": house.token}
            assert house.ask("POST", "/commands", data=form).headers["location"] == "/commands"
            wait_for(lambda: len(journaled(config)) == 3, "journaled")
        messages = sorted(journaled(config), key=lambda m: m.recv_ns)
        assert {m.topic for m in messages} == {TOPIC}
        assert [json.loads(m.payload)["by"] for m in messages] == ["carl", "anna", "anna"]
        bench = Bench().feed(birth(0), *((m.recv_ns, m.topic.encode(), m.payload, 0) for m in messages))
        assert [row.state for row in bench.rows] == ["requested", "sent", "requested", "requested"]
        house.store(bench.rows)
        waiting = bench.rows[-1].cmd_id
        assert house.ask("DELETE", f"/api/v1/commands/{waiting}", house.elsewhere).status_code == 404
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            assert house.ask("DELETE", f"/api/v1/commands/{waiting}", house.token).status_code == 202
            assert cli.main(["command", "cancel", waiting, "--by", "x", "--config", str(house.file)]) == 0
            wait_for(lambda: len(journaled(config)) == 5, "journaled")
        taken_back = sorted(journaled(config), key=lambda m: m.recv_ns)[3]
        bench.feed((time.time_ns(), taken_back.topic.encode(), taken_back.payload, 0))
        assert (bench.rows[-1].event, bench.rows[-1].state) == ("cancel", "failed")
        house.ledger.close()

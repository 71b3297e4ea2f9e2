"""Load management over HTTP and on the command line: reading, wishes, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from connectors.api.auth import Gate, RateLimit
from connectors.api.load import Load
from connectors.api.load_page import LoadPage, load_chart
from connectors.api.page import Page
from connectors.billing_reader import BillingReader
from connectors.billing_writer import BillingWriter
from connectors.ledger import Ledger
from connectors.load_desk import check_wish
from models.errors import DecodeError
from pipeline import cli

from ._ledger_records import blob
from .test_ledger_load import limit, load


class FakeDesk:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, body: dict[str, Any]) -> None:
        check_wish(body)
        self.asked.append(body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    ledger.apply("limits", [(0, blob(limit(1000, 6.0), limit(2000, 0.0, "turn")))])
    ledger.apply("loads", [(0, blob(load(60_000), load(120_000, 60.0)))])
    ledger.close()
    return tmp_path


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


class Client:
    """The application, asked without a server."""

    def __init__(self, app: FastAPI, writer: BillingWriter) -> None:
        self._app, self._writer = app, writer

    def token(self, *scopes: str) -> str:
        return self._writer.create_token("anna", scopes, 1)[1]

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self("GET", path, params=params)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self("POST", path, **more)


@pytest.fixture
def client(folder: Path, desk: FakeDesk) -> Iterator[Client]:
    page = Page(f"sqlite:///{folder / 'ledger.sqlite'}", folder, "test")
    app = FastAPI()
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    reader, writer = BillingReader(url), BillingWriter(url)
    limit = RateLimit(1000, 1000)
    Load(LoadPage(page), desk, Gate(reader, limit, limit)).add(app)  # type: ignore[arg-type]
    yield Client(app, writer)
    reader.close()
    writer.close()
    page.ledger.close()


def test_sites_minutes_and_limits_are_read(client: Client) -> None:
    assert [row["site_kw"] for row in client.get("/api/v1/load").json()] == [60.0]
    minutes = client.get("/api/v1/load/depot", since_ms=0, until_ms=100_000).json()
    assert [row["start_ms"] for row in minutes] == [60_000]
    now = client.get("/api/v1/load/depot/limits").json()
    assert [(row["limit_a"], row["cause"]) for row in now] == [(0.0, "turn")]
    every = client.get("/api/v1/load/depot/limits", station="cs1").json()
    assert len(every) == 2


def test_a_wish_is_passed_on_and_nonsense_is_refused(client: Client, desk: FakeDesk) -> None:
    wish = {"limit_a": 80.0, "until_ms": 2_000_000_000_000}
    mine = {"Authorization": f"Bearer {client.token('commands:write')}"}
    assert client.post("/api/v1/load/depot", json=wish, headers=mine).status_code == 202
    assert desk.asked == [{"site": "depot", "by": "anna", "station": "", "evse": 1} | wish]
    for nonsense in ({"limit_a": -1}, {"color": "red"}):
        assert client.post("/api/v1/load/depot", json=nonsense, headers=mine).status_code == 422
    foreign = mine | {"origin": "https://elsewhere.example"}
    assert client.post("/api/v1/load/depot", json=wish, headers=foreign).status_code == 403


def test_who_has_no_scope_is_refused(client: Client, desk: FakeDesk) -> None:
    wish = {"limit_a": 80.0}
    reader = {"Authorization": f"Bearer {client.token('sessions')}"}
    assert client.post("/api/v1/load/depot", json=wish).status_code == 401
    assert client.post("/api/v1/load/depot", json=wish, headers=reader).status_code == 403
    assert client.post("/managed", data={"site": "depot", "limit_a": "5", "hours": "1"}).status_code == 401
    assert desk.asked == []


def test_the_pages_form_limits_a_site(client: Client, desk: FakeDesk) -> None:
    token = client.token("commands:write")
    form = {"site": "depot", "limit_a": "50", "hours": "2", "token": token}
    answer = client.post("/managed", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/managed?site=depot")
    assert desk.asked[0]["limit_a"] == 50.0
    assert client.post("/managed", data=form | {"limit_a": "many"}).status_code == 422


def test_the_page_shows_the_site(client: Client) -> None:
    text = client.get("/managed").text
    assert "waits for its turn" in text
    assert "this quarter, projected" in text
    assert "cs1/1" in client.get("/managed-live", site="depot").text


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"site": "a", "by": "x"}, "expected limit_a"),
        ({"site": "a", "limit_a": 5.0}, "who wants it"),
        ({"site": "a", "by": "x", "energy_wh": 5.0}, "station"),
        ({"by": "x", "limit_a": 5.0}, "site"),
    ],
)
def test_an_incomplete_wish_says_what_is_missing(wish: dict[str, Any], said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        check_wish(wish)


def test_a_chart_without_minutes_says_so() -> None:
    assert "nothing measured" in load_chart([], 0).words


def test_the_command_line_shows_sites_and_limits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "c.toml"
    config.write_text(f'[service]\ndata_dir = "{folder}"\n')
    assert cli.main(["load", "status", "depot", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "60.0 kW" in said
    assert "cs1/1  paused  turn" in said
    assert cli.main(["load", "limits", "depot", "cs1", "--json", "--config", str(config)]) == 0
    assert [json.loads(line)["limit_a"] for line in capsys.readouterr().out.splitlines()] == [6.0, 0.0]
    assert cli.main(["load", "limit", "depot", "20", "--for", "ever", "--config", str(config)]) == 2
    assert "--for 'ever': expected minutes" in capsys.readouterr().err
    assert cli.main(["load", "plan", "depot", "cs1", "--departure", "soon", "--config", str(config)]) == 2

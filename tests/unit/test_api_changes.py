"""What changes something over HTTP asks who does it: found from the routes, so that none is forgotten."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route

from connectors.api.app import create_app
from connectors.api.settings import ApiSettings, OcpiSettings
from connectors.billing_writer import SCOPES, BillingWriter
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings

pytestmark = pytest.mark.usefixtures("asked_in_memory")
OURS = "127.0.0.1"
#: Needs a token even while there are none: it moves stations or money.
ALWAYS = {
    "/commands",
    "/commands/x",
    "/managed",
    "/reactions",
    "/api/v1/reactions/breaker",
    "/api/v1/commands",
    "/api/v1/commands/x",
    "/api/v1/load/x",
    "/api/v1/payments",
    "/api/v1/reviews/x/x/x",
}


def application(folder: Path) -> FastAPI:
    nowhere = MqttSettings(OURS, 1, "x", connect_timeout_s=0.2)
    fast = ApiSettings(10_000, 10_000, 10_000, 10_000, ocpi=OcpiSettings("NL", "ABC"))
    return create_app(f"sqlite:///{folder / 'ledger.sqlite'}", folder, "depot", nowhere, fast)


def changing(app: Any, under: str = "") -> Iterator[tuple[str, str]]:
    """Yield (method, path) of every route that may change something, its parameters filled in."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield from changing(route, under + route.path)
        elif hasattr(route, "original_router"):  # what FastAPI makes of include_router
            yield from changing(route.original_router, under)
        else:
            assert isinstance(route, Route) or hasattr(route, "methods"), f"what is {route}?"
            for method in sorted(set(route.methods or ()) - {"GET", "HEAD", "OPTIONS"}):
                yield method, under + re.sub(r"\{[^}]+\}", "x", route.path)


class Asking:
    """The application over an empty ledger, from an address and under a name."""

    def __init__(self, folder: Path) -> None:
        Ledger(f"sqlite:///{folder / 'ledger.sqlite'}").close()
        self.app = application(folder)
        self._writer = BillingWriter(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.close = self._writer.close

    def token(self, *scopes: str, name: str = "anna", sites: list[str] | None = None) -> str:
        return self._writer.create_token(name, scopes, 1, sites=sites)[1]

    def __call__(
        self, method: str, path: str, token: str = "", at: str = OURS, name: str = OURS, **more: Any
    ) -> httpx.Response:
        if token and (not path.startswith(("/api", "/ocpi"))):
            more["data"] = more.get("data", {}) | {"token": token}
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(at, 4711))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{name}:8080") as http:
                return await http.request(method, path, headers=headers | more.pop("headers", {}), **more)

        return asyncio.run(go())


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    made = Asking(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def all_routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    return sorted(set(changing(application(tmp_path_factory.mktemp("routes")))))


def test_all_are_found(all_routes: list[tuple[str, str]]) -> None:
    paths = {path for _, path in all_routes}
    assert paths >= ALWAYS | {
        "/api/v1/campaigns",
        "/api/v1/campaigns/x/actions",
        "/campaigns/x",
        "/maintenance",
    }
    assert any(path.startswith("/ocpi") for path in paths)
    assert len(all_routes) >= 20


def test_without_the_scope_nothing_is_done_anywhere(
    asking: Asking, all_routes: list[tuple[str, str]]
) -> None:
    reader = asking.token("sessions", "cdrs")
    for method, path in all_routes:
        ocpi = path.startswith("/ocpi")
        for token, code in (("", 401), ("cs_guessed", 401), (reader, 401 if ocpi else 403)):
            answer = asking(method, path, token)
            assert answer.status_code == code, (method, path, token, answer.status_code, answer.text)


def test_each_scope_opens_its_own(asking: Asking, all_routes: list[tuple[str, str]]) -> None:
    """A route that one scope opens is shut to all others but at most one (campaigns: make or approve)."""
    tokens = {scope: asking.token(scope) for scope in SCOPES if ":" in scope}
    for method, path in all_routes:
        if not path.startswith("/ocpi"):
            opened = {s for s, token in tokens.items() if asking(method, path, token).status_code != 403}
            assert 1 <= len(opened) <= 2, (method, path, opened)


def test_without_any_token_only_this_machine_may(asking: Asking, all_routes: list[tuple[str, str]]) -> None:
    for method, path in all_routes:
        if path.startswith("/ocpi"):
            continue
        always = path in ALWAYS
        for at, name in (("192.0.2.7", OURS), (OURS, "rebound.example"), ("192.0.2.7", "depot.example")):
            answer = asking(method, path, at=at, name=name)
            assert answer.status_code == (401 if always else 403), (method, path, answer.text)
            assert always or "chargestream token create" in answer.text
        for at, name in ((OURS, OURS), (OURS, "localhost"), ("::1", "[::1]")):
            answer = asking(method, path, at=at, name=name)
            assert (answer.status_code == 401) is always, (method, path, answer.text)
            assert answer.status_code != 403, (method, path, answer.text)


def test_who_once_had_tokens_is_not_open_again(asking: Asking) -> None:
    work = {"site": "a", "station": "b", "by": "x", "what": "cleaned"}
    assert asking("POST", "/api/v1/maintenance/inspections", json=work).status_code == 503  # no broker
    asking.token("sessions")
    writer_tokens = asking._writer.tokens()
    assert asking._writer.revoke_token(writer_tokens[0]["token_id"], 2)
    assert asking("POST", "/api/v1/maintenance/inspections", json=work).status_code == 401


def test_a_token_of_one_site_stays_there_and_campaigns_are_about_all(asking: Asking) -> None:
    mine = asking.token("findings:write", "campaigns:write", sites=["harbour"])
    work = {"site": "depot", "station": "b", "what": "cleaned"}
    assert asking("POST", "/api/v1/maintenance/inspections", mine, json=work).status_code == 404
    answer = asking("POST", "/api/v1/maintenance/inspections", mine, json=work | {"site": "harbour"})
    assert answer.status_code == 503
    answer = asking("POST", "/api/v1/campaigns", mine, json={"id": "c"})
    assert (answer.status_code, "harbour only" in answer.text) == (403, True)


def test_making_and_approving_are_two_rights(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is the token's, whatever the request says; the campaign refuses the name that made it."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("connectors.campaign_desk.CampaignDesk.ask", lambda _, body: asked.append(body))
    monkeypatch.setattr(
        "connectors.campaign_reader.CampaignReader.campaign", lambda _, name: {"campaign": name}
    )
    ann, bob = asking.token("campaigns:write"), asking.token("campaigns:approve", name="bob")
    approve, start = {"action": "approve", "by": "eve"}, {"action": "start"}
    path = "/api/v1/campaigns/c1/actions"
    assert asking("POST", "/api/v1/campaigns", ann, json={"id": "c1", "by": "eve"}).status_code == 202
    assert asking("POST", path, ann, json=approve).status_code == 403
    assert asking("POST", path, bob, json=start).status_code == 403
    assert asking("POST", path, bob, json=approve).status_code == 202
    assert asking("POST", "/campaigns/c1", ann, data=approve).status_code == 403
    assert asking("POST", "/campaigns/c1", ann, data=start).status_code == 303
    assert [(body["action"], body["by"]) for body in asked] == [
        ("create", "anna"), ("approve", "bob"), ("start", "anna"),
    ]  # fmt: skip


def test_forms_ask_for_a_name_until_there_are_tokens(asking: Asking) -> None:
    from connectors.api.page import Page  # the macro alone: a page with a form needs much in the ledger

    told: list[bool] = [False]
    page = Page("sqlite:///nowhere.sqlite", Path("."), "x")
    page.ask_for_tokens(lambda: told[0])
    form = page._templates.get_template("who.html").module.who  # type: ignore[attr-defined]
    assert 'name="by"' in form()
    told[0] = True
    assert 'name="token"' in form()
    page.ledger.close()

"""Both APIs keep to what their own OpenAPI says, whatever is asked (bounded schemathesis)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import checks

from connectors.api.settings import ApiSettings, OcpiSettings
from connectors.billing_writer import BillingWriter
from connectors.ocpi_store import OcpiStore

from ._api_client import Client, filled, with_token

FAST = ApiSettings(
    rate_per_s=1e6, burst=10**6, strangers_per_s=1e6, strangers_burst=10**6,
    ocpi=OcpiSettings("DE", "ABC", insecure=True),
)  # fmt: skip
#: What the page and the metrics are tested for elsewhere is not asked again here.
BILLING = r"^/api/v1/(intervals|sessions|cdrs|tariffs|aggregates|changes|reviews)"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("schema")
    url = f"sqlite:///{folder / 'ledger.sqlite'}"
    filled(url).close()
    made = Client(url, folder, FAST)
    with_token(url, made)
    writer = BillingWriter(url)
    store = OcpiStore(writer)
    token = store.invite("partner", 1)
    roles = [{"role": "EMSP", "country_code": "NL", "party_id": "TNM"}]
    store.register(
        "partner", our_token=token, their_token="t", versions_url="http://127.0.0.1:9/v", version="2.2.1",
        endpoints=[], roles=roles, now_ms=1,
    )  # fmt: skip
    made.ocpi = base64.b64encode(token.encode()).decode()
    yield made
    writer.close()


@pytest.fixture
def billing(client: Client) -> Any:
    return schemathesis.openapi.from_asgi("/api/openapi.json", client.app).include(path_regex=BILLING)


@pytest.fixture
def ocpi(client: Client) -> Any:
    mounted: Any = next(route for route in client.app.routes if getattr(route, "path", "") == "/ocpi")
    return schemathesis.openapi.from_asgi("/openapi.json", mounted.app).exclude(path_regex="credentials")


bounded = settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
CHECKS = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance,
]  # fmt: skip


def try_out(schema: Any, authorization: str) -> int:
    """Ask each operation in ways that its description allows and in ways that it does not."""
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        allowed = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
        wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @bounded
        @given(allowed | wrong)
        def one(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": authorization}, checks=CHECKS)

        one()
        count += 1
    return count


def test_the_billing_api_keeps_to_its_description(billing: Any, client: Client) -> None:
    assert try_out(billing, f"Bearer {client.token}") == 18


def test_ocpi_keeps_to_its_description(ocpi: Any, client: Client) -> None:
    assert try_out(ocpi, f"Token {client.ocpi}") == 9


def test_the_descriptions_are_complete(client: Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert len([p for p in paths if re.match(BILLING, p)]) == 18
    assert len(client.get("/ocpi/openapi.json").json()["paths"]) == 8

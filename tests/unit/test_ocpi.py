"""OCPI as an operator: connecting, what a partner sees and pages through, tokens, bills that are pushed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.api.settings import ApiSettings, OcpiSettings
from connectors.billing_writer import BillingWriter
from connectors.ledger import Ledger
from connectors.mqtt import Publisher
from connectors.ocpi_client import OcpiClient
from connectors.ocpi_store import OcpiStore, token_of
from connectors.outbox import OutboxReader
from models.billing_rows import CostRow
from models.errors import ConfigError, RetryLater
from models.ocpi_objects import (
    VersionProblem,
    cdr_as,
    kwh,
    read_json,
    session_of,
    short_id,
    tariff_as,
    write_json,
)
from models.outputs import Publish
from pipeline.cli import main
from pipeline.egress_ocpi import OcpiSink
from pipeline.egress_sinks import Record

from ._api_client import Client
from ._ledger_records import blob, cdr, session, tariff

OWN = OcpiSettings("DE", "ABC", "Operator", insecure=True, currency="EUR", token_salts=("pepper",))
TOKEN = {"country_code": "NL", "party_id": "TNM", "uid": "012345", "type": "RFID", "contract_id": "C1"}


def body(id_: str, party: str = "TNM", **more: Any) -> str:
    data = {
        "id": id_, "cdr_token": TOKEN | {"party_id": party}, "total_energy": 12.5,
        "total_cost": {"excl_vat": 4.10, "incl_vat": 4.879}, "tariffs": [{"id": "t", "elements": []}],
    }  # fmt: skip
    return json.dumps(data | more)


class Partner:
    """An eMSP on this machine: lists versions and endpoints, takes bills."""

    def __init__(self) -> None:
        self.bills: list[Any] = []
        self.asked: list[str] = []
        self.answers: list[tuple[int, int]] = []  # (HTTP status, OCPI status) of the next posts
        partner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def answer(self, code: int, status: int, data: Any = None) -> None:
                blob_ = json.dumps(
                    {"data": data, "status_code": status, "status_message": "said so"}
                ).encode()
                self.send_response(code)
                self.send_header("Location", f"{partner.url}/cdrs/1")
                self.send_header("Content-Length", str(len(blob_)))
                self.end_headers()
                self.wfile.write(blob_)

            def do_GET(self) -> None:
                partner.asked.append(token_of(self.headers["Authorization"]))
                if self.path == "/versions":
                    self.answer(200, 1000, [{"version": "2.2.1", "url": f"{partner.url}/2.2.1"}])
                else:
                    found = {"identifier": "cdrs", "role": "RECEIVER", "url": f"{partner.url}/cdrs"}
                    self.answer(200, 1000, {"version": "2.2.1", "endpoints": [found]})

            def do_POST(self) -> None:
                partner.asked.append(token_of(self.headers["Authorization"]))
                data = read_json(self.rfile.read(int(self.headers["Content-Length"])))
                code, status = partner.answers.pop(0) if partner.answers else (201, 1000)
                if status == 1000:
                    partner.bills.append(data)
                self.answer(code, status)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def credentials(self, token: str = "their-token") -> dict[str, Any]:
        roles = [{"role": "EMSP", "party_id": "TNM", "country_code": "NL"}]
        return {"token": token, "url": f"{self.url}/versions", "roles": roles}


@pytest.fixture
def partner() -> Iterator[Partner]:
    made = Partner()
    yield made
    made.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = Ledger(url)
    bills = [cdr(f"c{n}", last_updated_ms=n * 1_000, body=body(f"c{n}")) for n in range(1, 6)]
    bills.append(cdr("foreign", body=body("foreign", party="XYZ")))
    opened.apply("cdrs", [(0, blob(*bills))])
    known = {"cdr_token": TOKEN, "auth_method": "AUTH_REQUEST"}
    rows = [session(2, body=known, updated_ms=7_000), session(1, transaction_id="other")]
    opened.apply("sessions", [(0, blob(*rows))])
    price = {"id": "t1", "currency": "EUR", "elements": [], "min_price": {"excl_vat": 1, "incl_vat": 1.19}}
    taxed = {"id": "t2", "tax_included": "YES", "elements": [{"price_components": [{"vat": 19}]}]}
    opened.apply(
        "tariffs",
        [
            (
                0,
                blob(
                    tariff(body=json.dumps(price)),
                    tariff(id="t2", ocpi_version="2.3.0", body=json.dumps(taxed)),
                ),
            )
        ],
    )
    yield opened
    opened.close()


@pytest.fixture
def store(url: str, ledger: Ledger) -> Iterator[OcpiStore]:
    writer = BillingWriter(url)
    yield OcpiStore(writer)
    writer.close()


@pytest.fixture
def client(url: str, store: OcpiStore, tmp_path: Path) -> Client:
    fast = ApiSettings(1e4, 10_000, 1e4, 10_000, OWN)
    made = Client(url, tmp_path, fast)
    made.kind = "Token"
    show(made, store.invite("tnm", 1))
    return made


def show(client: Client, token: str) -> None:
    client.token = base64.b64encode(token.encode()).decode()


def connect(client: Client, partner: Partner) -> None:
    answer = client("POST", "/ocpi/2.2.1/credentials", json=partner.credentials())
    assert answer.json()["status_code"] == 1000, answer.text
    show(client, answer.json()["data"]["token"])


def data(client: Client, path: str, **parameters: Any) -> Any:
    answer = client.get(path, **parameters)
    assert (answer.status_code, answer.json()["status_code"]) == (200, 1000), answer.text
    return answer.json()["data"]


def test_a_partner_connects_renews_and_leaves(client: Client, partner: Partner, store: OcpiStore) -> None:
    invited = client.token
    assert [v["version"] for v in data(client, "/ocpi/versions")] == ["2.2.1", "2.3.0"]
    details = data(client, "/ocpi/2.3.0")
    assert {(e["identifier"], e["role"]) for e in details["endpoints"]} == {
        ("cdrs", "SENDER"), ("credentials", "SENDER"), ("sessions", "SENDER"), ("tariffs", "SENDER"),
        ("tokens", "RECEIVER"),
    }  # fmt: skip
    assert data(client, "/ocpi/2.2.1/cdrs") == [], "not connected yet: whose customers are these?"
    assert client("PUT", "/ocpi/2.2.1/credentials", json=partner.credentials()).status_code == 405
    connect(client, partner)
    assert partner.asked == ["their-token"] * 2
    assert client("POST", "/ocpi/2.2.1/credentials", json=partner.credentials()).status_code == 405
    ours = data(client, "/ocpi/2.2.1/credentials")
    assert ours["roles"][0]["party_id"] == "ABC"
    assert token_of(f"Token {client.token}") == ours["token"]
    connected, client.token = client.token, invited
    assert client.get("/ocpi/versions").status_code == 401, "the invitation is used up"
    client.token = connected
    renewed = client("PUT", "/ocpi/2.2.1/credentials", json=partner.credentials("second")).json()["data"]
    assert client.get("/ocpi/versions").status_code == 401
    show(client, renewed["token"])
    (party,) = store.parties()
    assert (party["their_token"], party["state"], party["version"]) == ("second", "registered", "2.2.1")
    assert client("DELETE", "/ocpi/2.2.1/credentials").status_code == 200
    assert client.get("/ocpi/versions").status_code == 401
    assert store.parties()[0]["their_token"] is None


def test_a_partner_that_cannot_be_reached_is_not_connected(client: Client, partner: Partner) -> None:
    gone = partner.credentials() | {"url": "http://127.0.0.1:9/versions"}
    assert client("POST", "/ocpi/2.2.1/credentials", json=gone).json()["status_code"] == 3001
    other = client("POST", "/ocpi/2.3.0/credentials", json=partner.credentials()).json()
    assert (other["status_code"], "does not offer version 2.3.0" in other["status_message"]) == (3001, True)
    assert client("POST", "/ocpi/2.2.1/credentials", json={"token": "x"}).json()["status_code"] == 2001
    connect(client, partner)


def test_bills_come_in_pages_by_date_and_only_a_partners_own(client: Client, partner: Partner) -> None:
    connect(client, partner)
    answer = client.get("/ocpi/2.2.1/cdrs", limit=2)
    assert [c["id"] for c in answer.json()["data"]] == ["c1", "c2"]
    assert (answer.headers["x-total-count"], answer.headers["x-limit"]) == ("5", "1000")
    found = answer.json()["data"]
    while "link" in answer.headers:
        answer = client.get(answer.headers["link"].removeprefix("<").partition(">")[0])
        found += answer.json()["data"]
    assert [c["id"] for c in found] == ["c1", "c2", "c3", "c4", "c5"]
    window = {"date_from": "1970-01-01T00:00:02Z", "date_to": "1970-01-01T00:00:04"}
    assert [c["id"] for c in data(client, "/ocpi/2.2.1/cdrs", **window)] == ["c2", "c3"]
    assert data(client, "/ocpi/2.2.1/cdrs/c1")["total_cost"] == {"excl_vat": 4.1, "incl_vat": 4.879}
    newer = data(client, "/ocpi/2.3.0/cdrs/c1")
    assert newer["total_cost"] == {"before_taxes": 4.1, "taxes": [{"name": "VAT", "amount": 0.779}]}
    assert client.get("/ocpi/2.2.1/cdrs/foreign").json()["status_code"] == 2003
    for wrong in ({"limit": 0}, {"offset": -1}, {"date_from": "yesterday"}, {"date_from": "0001-01-01"}):
        refused = client.get("/ocpi/2.2.1/cdrs", **wrong)
        assert (refused.status_code, refused.json()["status_code"]) == (400, 2001), wrong
    assert client.get("/ocpi/2.1.1/cdrs").status_code == 400


def test_sessions_and_tariffs_are_sent(ledger: Ledger, client: Client, partner: Partner) -> None:
    connect(client, partner)
    known = {"cdr_token": TOKEN, "auth_method": "AUTH_REQUEST"}
    (found,) = data(client, "/ocpi/2.2.1/sessions")
    assert {n: found[n] for n in ("id", "kwh", "status", "auth_method", "last_updated", "end_date_time")} == {
        "id": "cs1-tx1", "kwh": 11.000002, "status": "COMPLETED", "auth_method": "AUTH_REQUEST",
        "last_updated": "1970-01-01T00:00:07Z", "end_date_time": "1970-01-01T01:00:01Z",
    }  # fmt: skip
    running = session(1, transaction_id="runs", state="open", end_ms=None, body=known, updated_ms=3_000)
    cost = CostRow(
        site="depot", station="cs1", transaction_id="runs", evse=1, time_ms=20_000, energy_mwh=2_500_000,
        currency="CHF", total_excl="1.00", total_incl="1.08", tariff_id="t",
    )  # fmt: skip
    ledger.apply("sessions", [(0, blob(running))])
    ledger.apply("costs", [(0, blob(cost))])
    (now,) = data(client, "/ocpi/2.2.1/sessions", date_from="1970-01-01T00:00:10Z")
    assert {n: now[n] for n in ("id", "kwh", "status", "total_cost", "currency", "last_updated")} == {
        "id": "cs1-runs", "kwh": 2.5, "status": "ACTIVE", "currency": "CHF",
        "total_cost": {"excl_vat": 1, "incl_vat": 1.08}, "last_updated": "1970-01-01T00:00:20Z",
    }  # fmt: skip
    assert now["cdr_token"] == TOKEN
    assert [t["id"] for t in data(client, "/ocpi/2.2.1/tariffs")] == ["t1"]
    older, newer = data(client, "/ocpi/2.3.0/tariffs")
    assert (older["tax_included"], older["min_price"]) == ("NO", {"before_taxes": 1, "after_taxes": 1.19})
    assert newer["tax_included"] == "YES"


def published(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return what the API told the flow."""
    outbox = OutboxReader(folder / "outbox" / "api.db")
    blobs = [data for _, _, data in outbox.read("publish", 0, 100)]
    outbox.close()
    messages = [m for data in blobs for m in msgspec.msgpack.decode(data, type=list[Publish])]
    return [(m.topic, msgspec.json.decode(m.payload)) for m in messages]


def test_partners_tell_us_their_tokens(
    client: Client, partner: Partner, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(client, partner)
    path = "/ocpi/2.2.1/tokens/NL/TNM/012345"
    token = TOKEN | {
        "issuer": "TNM", "valid": True, "whitelist": "ALLOWED", "last_updated": "2026-01-02T00:00:00Z",
        "visual_number": "1-2",
    }  # fmt: skip
    assert client.get(path).status_code == 404
    assert client("PUT", path, json=token).status_code == 200
    assert data(client, path, type="RFID")["visual_number"] == "1-2"
    told = published(tmp_path)
    assert [(topic, body["token"]) for topic, body in told] == [("evt/v1/_op/token", TOKEN)]
    assert sha256(b"pepper012345").hexdigest() in told[0][1]["hashes"]
    change = {"valid": False, "last_updated": "2026-01-03T00:00:00Z"}
    assert client("PATCH", path, json=change).status_code == 200
    assert data(client, path.lower())["valid"] is False
    assert client("PUT", path, json=token).status_code == 200, "older: taken, but the newer one stands"
    assert data(client, path)["valid"] is False
    assert client("PATCH", path, json={"valid": True}).status_code == 400
    assert client("PATCH", path, json={"last_updated": "x"}).status_code == 400
    assert client("PUT", path, json=token | {"uid": "9"}).status_code == 400
    assert client("PUT", path, json=token | {"last_updated": "0001-01-01"}).status_code == 400
    assert client("PUT", "/ocpi/2.2.1/tokens/NL/XYZ/1", json=token).status_code == 404
    sent: list[Publish] = []
    monkeypatch.setattr(Publisher, "publish", lambda _, messages, timeout_s: sent.extend(messages))
    assert main(["ocpi", "tell-tokens", "--ledger", url]) == 0
    again = msgspec.json.decode(sent[0].payload)
    assert (len(sent), again["token"], again["last_updated"]) == (1, TOKEN, 1_767_398_400_000)


def record(*rows: Any) -> Record:
    return Record(1, 0, msgspec.msgpack.encode(list(rows)))


def test_bills_are_pushed_once_to_whose_customer_it_was(
    client: Client, partner: Partner, store: OcpiStore
) -> None:
    connect(client, partner)
    sink = OcpiSink(lambda: store, insecure=True)
    mine, foreign = cdr("p1", body=body("p1")), cdr("p2", body=body("p2", party="XYZ"))
    assert sink.deliver("cdrs", [record(mine, foreign)]) == []
    assert [b["id"] for b in partner.bills] == ["p1"]
    assert partner.bills[0]["total_cost"]["incl_vat"] == Decimal("4.879")
    assert partner.asked[-1] == "their-token"
    assert sink.deliver("cdrs", [record(mine)]) == []
    assert len(partner.bills) == 1, "delivered again after a crash it does not reach them twice"
    partner.answers = [(200, 2001), (503, 0)]
    third, fourth = (cdr(f"p{n}", body=body(f"p{n}")) for n in (3, 4))
    (letter,) = sink.deliver("cdrs", [record(third)])
    assert "OCPI status 2001: said so" in letter.reason
    with pytest.raises(RetryLater, match="answered 503"):
        sink.deliver("cdrs", [record(fourth)])
    assert sink.deliver("cdrs", [record(fourth)]) == []
    assert [b["id"] for b in partner.bills] == ["p1", "p4"]
    (broken,) = sink.deliver("cdrs", [Record(2, 0, b"\xc1")])
    assert "cannot be read" in broken.reason
    store.revoke("tnm", 5)
    assert sink.deliver("cdrs", [record(cdr("p5", body=body("p5")))]) == []
    sink.close()


def test_addresses_without_tls_are_refused_unless_allowed() -> None:
    strict = OcpiClient("t")
    with pytest.raises(ConfigError, match="must be https"):
        strict.post_cdr("http://127.0.0.1:9/cdrs", {})
    strict.close()
    with pytest.raises(RetryLater):
        OcpiClient("t", insecure=True).post_cdr("http://127.0.0.1:9/cdrs", {})


def test_the_command_invites_lists_and_disconnects(
    url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ocpi", "invite", "hub", "--ledger", url]) == 0
    invited = json.loads(capsys.readouterr().out)
    assert len(invited["token"]) > 40
    assert main(["ocpi", "list", "--ledger", url]) == 0
    text = capsys.readouterr().out
    assert (json.loads(text)["state"], "token_sha256" in text) == ("invited", False)
    assert main(["ocpi", "revoke", "hub", "--ledger", url]) == 0
    assert main(["ocpi", "revoke", "hub", "--ledger", url]) == 2


def test_the_token_command(url: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "erp", "--scope", "cdrs", "--days", "1", "--ledger", url]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["token", "list", "--ledger", url]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["token_id"], listed["scopes"], listed["sites"]) == (made["token_id"], ["cdrs"], None)
    assert listed["expires_ms"] - listed["created_ms"] == 86_400_000
    assert main(["token", "revoke", made["token_id"], "--ledger", url]) == 0
    assert main(["token", "revoke", made["token_id"], "--ledger", url]) == 2
    assert main(["token", "create", "erp", "--scope", "all", "--ledger", url]) == 2


def test_versions_convert_there_and_back() -> None:
    old = read_json(body("c"))
    new = cdr_as(old, "2.2.1", "2.3.0")
    assert cdr_as(new, "2.3.0", "2.2.1")["total_cost"] == old["total_cost"]
    assert cdr_as({"total_cost": {"excl_vat": 1}}, "2.2.1", "2.3.0")["total_cost"]["taxes"] == []
    with pytest.raises(VersionProblem):
        tariff_as({"tax_included": "YES", "elements": [{"price_components": [{"vat": 1}]}]}, "2.3.0", "2.2.1")
    assert tariff_as({"tax_included": "YES", "elements": []}, "2.3.0", "2.2.1") == {"elements": []}
    assert write_json({"a": Decimal("0.10")}) == b'{"a":0.10}'
    assert write_json([kwh(n) for n in (0, 1, 11_000_002, 10**12)]) == b"[0,0.000001,11.000002,1000000]"
    assert len(short_id("s", "x" * 40, "y")) == 36
    row = {"start_ms": None, "body": {"cdr_token": TOKEN}}
    assert session_of(row, "DE", "ABC", "EUR") is None

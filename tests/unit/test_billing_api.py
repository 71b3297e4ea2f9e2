"""The billing API: tokens and scopes, pages, formats, ETags, changes, decisions."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from connectors.api.auth import RateLimit
from connectors.api.settings import ApiSettings
from connectors.billing_writer import SCOPES, BillingWriter
from connectors.ledger import Ledger
from connectors.outbox import OutboxReader
from connectors.site_months import months
from models.errors import ConfigError
from models.outputs import Publish

from ._api_client import Client, filled, now_ms, with_token
from ._ledger_records import blob, cdr, interval, session


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    opened = filled(url)
    yield opened
    opened.close()


@pytest.fixture
def client(url: str, ledger: Ledger, tmp_path: Path) -> Client:
    made = Client(url, tmp_path)
    with_token(url, made)
    return made


ADDRESSES = {
    "/api/v1/intervals": "intervals",
    "/api/v1/sessions": "sessions",
    "/api/v1/sessions/depot/cs1/tx1": "sessions",
    "/api/v1/cdrs": "cdrs",
    "/api/v1/cdrs/c1": "cdrs",
    "/api/v1/tariffs": "tariffs",
    "/api/v1/tariffs/DE/ABC/t1": "tariffs",
    "/api/v1/aggregates/months": "aggregates",
    "/api/v1/aggregates/quarters?since_ms=0&until_ms=1": "aggregates",
    "/api/v1/aggregates/reconciliation?since_ms=0&until_ms=1": "aggregates",
    "/api/v1/reviews": "reviews",
    **{f"/api/v1/changes/{r}": r for r in ("intervals", "sessions", "cdrs", "tariffs", "reviews")},
    "/api/v1/changes/payments": "payments",
    "/api/v1/payments": "payments",
}


@pytest.mark.parametrize("path", ADDRESSES)
def test_each_address_needs_its_scope_and_no_other(url: str, client: Client, path: str) -> None:
    assert client.get(path).status_code == 200
    with_token(url, client, *(s for s in SCOPES if s != ADDRESSES[path]))
    assert client.get(path).status_code == 403
    with_token(url, client, ADDRESSES[path])
    assert client.get(path).status_code == 200
    client.token = ""
    refused = client.get(path)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    client.token = "cs_wrong"
    assert client.get(path).status_code == 401


def test_tokens_end_and_are_nowhere_in_the_ledger(url: str, client: Client, tmp_path: Path) -> None:
    writer = BillingWriter(url)
    with_token(url, client, "cdrs", expires_ms=now_ms() - 1)
    assert client.get("/api/v1/cdrs").status_code == 401
    token_id = with_token(url, client, "cdrs")
    assert client.get("/api/v1/cdrs").status_code == 200
    stored = b"".join(p.read_bytes() for p in tmp_path.glob("ledger.sqlite*"))
    assert client.token.encode() not in stored
    assert token_id.encode() in stored
    assert writer.revoke_token(token_id, now_ms())
    assert not writer.revoke_token(token_id, now_ms())
    assert client.get("/api/v1/cdrs").status_code == 401
    assert {t["token_id"]: bool(t["revoked_ms"]) for t in writer.tokens()}[token_id]
    assert all("token_sha256" not in t for t in writer.tokens())
    for scopes in ((), ("cdrs", "everything")):
        with pytest.raises(ConfigError, match="expected some of intervals"):
            writer.create_token("x", scopes, 1)
    writer.close()


def test_a_token_for_one_site_sees_that_site(url: str, client: Client) -> None:
    with_token(url, client, sites=["mall"])
    assert [s["transaction_id"] for s in client.get("/api/v1/sessions").json()] == ["tx3"]
    assert [c["id"] for c in client.get("/api/v1/cdrs").json()] == ["c2"]
    assert {i["site"] for i in client.get("/api/v1/intervals").json()} == {"mall"}
    assert "depot" not in client.get("/api/v1/intervals", format="csv").text
    assert client.get("/api/v1/sessions/depot/cs1/tx1").status_code == 404
    assert client.get("/api/v1/cdrs/c1").status_code == 404
    assert client.get("/api/v1/intervals", site="depot").json() == []
    assert {r["site"] for r in client.get("/api/v1/changes/sessions").json()["items"]} == {"mall"}
    wanted = {"decision": "bill", "reason": "seen", "session_revision": 1}
    assert client("POST", "/api/v1/reviews/depot/cs1/tx2", json=wanted).status_code == 404


def test_pages_follow_one_another_to_the_end(client: Client) -> None:
    for path in ("/api/v1/intervals", "/api/v1/sessions", "/api/v1/cdrs"):
        whole = client.get(path).json()
        found: list[Any] = []
        following = f"{path}?limit=2"
        for _ in range(20):
            answer = client.get(following)
            found += answer.json()
            if "link" not in answer.headers:
                break
            following = answer.headers["link"].removeprefix("<").partition(">")[0]
        assert found == whole
    assert len(whole) == 2
    for cursor in ("x", "AAAA", "W10", "WyJhIiwiYiIsMSwxZTk5XQ", "WyJhIiwiYiIsdHJ1ZSwxXQ"):
        assert client.get("/api/v1/intervals", cursor=cursor).status_code == 422, cursor


def test_etags_change_with_the_data_only(client: Client, ledger: Ledger) -> None:
    first = client.get("/api/v1/cdrs")
    known = {"If-None-Match": first.headers["etag"]}
    again = client.get("/api/v1/cdrs", known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get("/api/v1/cdrs", known, limit=1).status_code == 200, "another question"
    ledger.apply("cdrs", [(0, blob(cdr("c1"), cdr("c9")))])
    assert len(client.get("/api/v1/cdrs", known).json()) == 3


def test_intervals_are_the_same_in_every_format(client: Client) -> None:
    rows = client.get("/api/v1/intervals").json()
    assert len(rows) == 12
    answer = client.get("/api/v1/intervals", format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[0] == "site,station,evse,start,energy_wh,quality,revision"
    read = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(r["site"], r["evse"], r["start"]) for r in read] == [
        (r["site"], str(r["evse"]), str(r["start_ms"])) for r in rows
    ]
    assert [r["energy_wh"] for r in read][:2] == ["1.001", "1.011"]
    assert [r["energy_wh"] for r in read if r["quality"] == "missing"] == [""]
    answer = client.get("/api/v1/intervals", format="parquet")
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column("energy_mwh").to_pylist() == [r["energy_mwh"] for r in rows]
    assert table.column("station").to_pylist() == [r["station"] for r in rows]
    assert [t.timestamp() * 1000 for t in table.column("start").to_pylist()] == [r["start_ms"] for r in rows]
    assert str(table.schema.field("start").type) == "timestamp[ms, tz=UTC]"
    chosen = client.get("/api/v1/intervals", evse=2, since_ms=900_000, until_ms=1_800_000, format="csv").text
    assert len(chosen.splitlines()) == 2


@pytest.mark.parametrize(("path", "count"), [("/api/v1/sessions", 3), ("/api/v1/cdrs", 2)])
def test_lists_are_the_same_in_every_format(client: Client, path: str, count: int) -> None:
    rows = client.get(path, limit=1).json()
    read = list(csv.DictReader(io.StringIO(client.get(path, format="csv", limit=1).text)))
    table = pq.read_table(io.BytesIO(client.get(path, format="parquet", limit=1).content)).to_pylist()
    assert len(read) == len(table) == count
    assert read[0]["transaction_id"] == table[0]["transaction_id"] == rows[0]["transaction_id"]
    if path.endswith("sessions"):
        assert (read[0]["energy_wh"], table[0]["energy_mwh"]) == ("11000.001", 11_000_001)
        assert (read[1]["start"], table[1]["start"], rows[0]["flags"]) == ("", None, [])


def test_sessions_are_chosen_and_shown_whole(client: Client, ledger: Ledger) -> None:
    ledger.apply("sessions", [(0, blob(session(2)))])
    whole = client.get("/api/v1/sessions/depot/cs1/tx1").json()
    assert [r["revision"] for r in whole["revisions"]] == [1, 2]
    assert (whole["revision"], whole["decisions"]) == (2, [])
    ids = {
        state: [s["transaction_id"] for s in client.get("/api/v1/sessions", state=state).json()]
        for state in ("complete", "review", "open")
    }
    assert ids == {"complete": ["tx3", "tx1"], "review": ["tx2"], "open": []}
    assert len(client.get("/api/v1/sessions", since_ms=1_001).json()) == 0
    assert client.get("/api/v1/sessions/depot/cs1/none").status_code == 404
    assert client.get("/api/v1/cdrs/none").status_code == 404
    assert client.get("/api/v1/tariffs/DE/ABC/none").status_code == 404
    assert client.get("/api/v1/sessions", state="wrong").status_code == 422


def test_changes_since_a_cursor_miss_nothing(client: Client, ledger: Ledger) -> None:
    answer = client.get("/api/v1/changes/intervals", limit=5).json()
    seen = [(r["evse"], r["start_ms"], r["revision"]) for r in answer["items"]]
    while (answer := client.get("/api/v1/changes/intervals", since=answer["next"], limit=5).json())["items"]:
        seen += [(r["evse"], r["start_ms"], r["revision"]) for r in answer["items"]]
    assert len(seen) == len(set(seen)) == 12
    ledger.apply("intervals", [(0, blob(interval(1, 0, 2), interval(1, 1, 1)))])
    later = client.get("/api/v1/changes/intervals", since=answer["next"]).json()
    assert [(r["start_ms"], r["revision"]) for r in later["items"]] == [(0, 2)]


def test_months_are_local_and_quarters_sum(client: Client, ledger: Ledger, url: str) -> None:
    # 2026-03-29T00:00Z is 01:00 in Berlin; its March ends at 22:00Z, a summer hour early.
    march_end = 1_774_994_400_000
    ledger.apply(
        "intervals",
        [(0, blob(*(interval(1, 0, site="b", start_ms=march_end + d, energy_mwh=5) for d in (-900_000, 0))))],
    )
    assert ledger.note_months({"b": "Europe/Berlin"}, "UTC") > 0
    assert ledger.note_months({"b": "Europe/Berlin"}, "UTC") == 0
    assert ledger.note_months({"b": "UTC"}, "UTC") > 0
    ledger.note_months({"b": "Europe/Berlin"}, "UTC")
    found = client.get("/api/v1/aggregates/months", site="b").json()
    assert [(m["month"], m["energy_wh"], m["time_zone"]) for m in found] == [
        ("2026-03", "0.005", "Europe/Berlin"), ("2026-04", "0.005", "Europe/Berlin"),
    ]  # fmt: skip
    assert "2026-04" in client.get("/api/v1/aggregates/months", format="csv").text
    hours = client.get("/api/v1/aggregates/quarters", since_ms=0, until_ms=7_200_000, site="depot").json()
    assert [(q["start_ms"], q["energy_mwh"], q["evses"], q["evses_missing"]) for q in hours] == [
        *((q * 900_000, 3_002 + 20 * q, 2, 0) for q in range(5)),
        (6_300_000, None, 1, 1),
    ]
    spans = [
        (end - start) // 3_600_000 for _, start, end in months(march_end - 1, march_end, "Europe/Berlin")
    ]
    assert spans == [31 * 24 - 1, 30 * 24]


def test_a_decision_is_recorded_and_told_to_the_flow(client: Client, tmp_path: Path) -> None:
    (waiting,) = client.get("/api/v1/reviews").json()
    assert (waiting["transaction_id"], waiting["flags"], waiting["decision"]) == (
        "tx2", ["missing_started"], None,
    )  # fmt: skip
    wanted = {"decision": "bill", "reason": "meter photo", "session_revision": 1, "energy_mwh": 7_000}
    answer = client("POST", "/api/v1/reviews/depot/cs1/tx2", json=wanted)
    assert answer.status_code == 201
    assert answer.json()["decided_by"] == "tester"
    (waiting,) = client.get("/api/v1/reviews").json()
    assert waiting["decision"]["reason"] == "meter photo"
    assert len(client.get("/api/v1/changes/reviews").json()["items"]) == 1
    with OutboxReader(tmp_path / "outbox" / "api.db") as outbox:
        ((_, _, data),) = outbox.read("publish", 0, 10)
    (message,) = msgspec.msgpack.decode(data, type=list[Publish])
    told = json.loads(message.payload)
    assert message.topic == "evt/v1/_op/review"
    assert (told["transaction_id"], told["energy_mwh"], told["by"]) == ("tx2", 7_000, "tester")
    for change, code in (
        ({"session_revision": 2}, 409), ({"decision": "maybe"}, 422), ({"reason": ""}, 422),
        ({"energy_mwh": -1}, 422), ({"card_number": "4111111111111111"}, 422),
    ):  # fmt: skip
        assert client("POST", "/api/v1/reviews/depot/cs1/tx2", json=wanted | change).status_code == code
    assert client("POST", "/api/v1/reviews/depot/cs1/tx1", json=wanted).status_code == 409
    assert client("POST", "/api/v1/reviews/depot/cs1/tx9", json=wanted).status_code == 404


def test_who_asks_too_often_waits(url: str, ledger: Ledger, tmp_path: Path) -> None:
    client = Client(url, tmp_path, ApiSettings(rate_per_s=0.01, burst=3, strangers_per_s=0.01))
    with_token(url, client)
    codes = [client.get("/api/v1/tariffs").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    assert int(client.get("/api/v1/tariffs").headers["retry-after"]) > 90
    with_token(url, client)
    assert client.get("/api/v1/tariffs").status_code == 200, "each token has its own rate"
    client.token = "guess"
    codes = [client.get("/api/v1/tariffs").status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2


def test_the_bucket_refills_in_time() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 3, lambda: now[0])
    assert [limit.wait_s("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limit.wait_s("b") == 0.0
    now[0] = 0.5
    assert [limit.wait_s("a") for _ in range(2)] == [0.0, 0.5]
    now[0] = 100.0
    assert [limit.wait_s("a") for _ in range(4)][-1] == 0.5
    assert limit.wait_s("b", cost=0.0) == limit.wait_s("b", cost=0.0) == 0.0


def test_without_a_ledger_the_answer_is_503(tmp_path: Path) -> None:
    client = Client(f"sqlite:///{tmp_path / 'none.sqlite'}", tmp_path)
    client.token = "x"
    answer = client.get("/api/v1/sessions")
    assert (answer.status_code, "there is no ledger" in answer.text) == (503, True)


def test_sums_of_the_view_and_of_the_api_are_equal(client: Client, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    (total,) = db.execute("SELECT sum(energy_mwh) FROM intervals").fetchone()
    db.close()
    rows = client.get("/api/v1/aggregates/quarters", since_ms=0, until_ms=10**12).json()
    assert sum(row["energy_mwh"] or 0 for row in rows) == total

"""The page and JSON of firmware images, and what the health says of their repository."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.api.settings import ApiSettings
from connectors.billing_writer import BillingWriter
from connectors.mqtt_settings import MqttSettings
from connectors.status import write_status
from models.campaign_requests import read_plan

from ._api_client import Client
from ._firmware_repo import Kept

DAY_MS = 86_400_000


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


@pytest.fixture
def client(kept: Kept, tmp_path: Path) -> Client:
    return Client(f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path, ApiSettings(images=kept.store()))


def test_every_image_with_its_state(kept: Kept, client: Client) -> None:
    kept.add(version="1.0", release_notes="<b>first</b>", from_versions=(">=0.5",))
    kept.add(version="2.0")
    kept.add(version="3.0")
    kept.repo.hold("acme_w22_2.0", "looks bad")
    kept.repo.revoke("acme_w22_1.0", "bricks", kept.offline)
    kept.repo.publish(kept.online)
    rows = {row["version"]: row for row in client.get("/api/v1/firmware").json()}
    assert [rows[v]["given_out"] for v in ("1.0", "2.0", "3.0")] == [False, False, True]
    assert rows["2.0"]["why_not"] == "held back: looks bad"
    assert rows["3.0"]["signed_by"] == "CN=Signer"
    assert not {"signature", "chain", "signing_certificate"} & set(rows["3.0"])
    page = client.get("/images").text
    for text in ("bricks", "looks bad", "&lt;b&gt;first", "&gt;=0.5", "any version", "CN=Signer", "targets"):
        assert text in page
    assert "<b>first" not in page
    assert 'href="/images"' in client.get("/").text
    kept.repo.change_policy(lambda p: p.with_floor("Acme", "W22", "4"), kept.offline)
    kept.repo.publish(kept.online)
    assert "below the floor" in client.get("/images").text


def test_a_repository_that_does_not_verify(kept: Kept, client: Client) -> None:
    (kept.repo.metadata / "timestamp.json").write_text("{}")
    assert "does not verify" in client.get("/images").text
    assert client.get("/api/v1/firmware").status_code == 503


def test_downloads_are_shown(client: Client, tmp_path: Path) -> None:
    assert "No server of images" in client.get("/images").text
    counts = {"completed": 1_234, "started": 1_300, "broken": 66, "in_flight": 2, "sent_bytes": 5_000_000}
    write_status(tmp_path, "firmware", counts)
    write_status(tmp_path, "firmware-chunks", {"chunks": 7, "sent_bytes": 100, "waiting": 0})
    page = client.get("/images").text
    assert "1,234 of 1,300 downloads sent whole, 66 broken off, 2 on their way" in page
    assert "7 chunks" in page
    assert "chargestream_firmware_downloads_completed_total 1234.0" in client.get("/metrics").text


def test_without_a_repository_there_is_no_page(tmp_path: Path) -> None:
    client = Client(f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path)
    assert client.get("/images").status_code == 404
    assert 'href="/images"' not in client.get("/").text


def test_the_health_tells_of_terms_in_time(client: Client, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000

    def problems(**status: object) -> list[str]:
        write_status(tmp_path, "firmware", {"pid": 1, **status})
        found: list[str] = client.get("/health").json()["problems"]
        return [line for line in found if line.startswith(("firmware:", "no firmware"))]

    assert problems(ends_ms={"root": now_ms + 31 * DAY_MS, "targets": now_ms + 15 * DAY_MS}) == []
    (line,) = problems(ends_ms={"targets": now_ms + 13 * DAY_MS, "timestamp": now_ms + DAY_MS})
    assert line.startswith("firmware: the targets metadata ends in 31")
    assert "firmware resign" in line
    assert len(problems(ends_ms=dict.fromkeys(("root", "targets", "timestamp"), now_ms))) == 3
    (line,) = problems(problem="timestamp was expired")
    assert line == "no firmware image is given out: timestamp was expired"


def test_terms_are_those_of_the_metadata(kept: Kept) -> None:
    ends = kept.store().ends()
    days = {role: round((end - datetime.now(UTC)).total_seconds() / 86_400) for role, end in ends.items()}
    assert days == {"root": 365, "targets": 90, "snapshot": 7, "timestamp": 1}


def test_a_campaign_names_images_and_goes_on_only_with_what_is_given_out(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        kept.add(version=version)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("connectors.campaign_desk.CampaignDesk.ask", lambda _, body: asked.append(body))
    nowhere = MqttSettings("127.0.0.1", 1, "x", connect_timeout_s=0.2)
    url = f"sqlite:///{tmp_path}/l.sqlite"
    writer = BillingWriter(url)
    client = Client(url, tmp_path, ApiSettings(images=kept.store()), nowhere)
    client.token = writer.create_token("ann", ["campaigns:write", "campaigns:approve"], 1)[1]
    plan = {"id": "c1", "by": "ann", "image": "acme_w22_2.0", "previous": "acme_w22_1.0"}
    assert client("POST", "/api/v1/campaigns", json=plan).status_code == 202
    assert asked[0]["image"]["sha256"] == kept.repo.images()[1].sha256
    assert asked[0]["previous"]["version"] == "1.0"
    read_plan(asked[0])
    told = client("POST", "/api/v1/campaigns", json=plan | {"image": "acme_w22_9"})
    assert (told.status_code, "acme_w22_9 is not given out" in told.text) == (422, True)
    found = {"campaign": "c1", "plan": asked[0]}
    monkeypatch.setattr("connectors.campaign_reader.CampaignReader.campaign", lambda _, name: found)
    kept.repo.hold("acme_w22_1.0", "looks bad")
    for action, code in (("start", 202), ("rollback", 422), ("pause", 202), ("abort", 202)):
        told = client("POST", "/api/v1/campaigns/c1/actions", json={"action": action, "by": "ann"})
        assert told.status_code == code, action
        assert ("looks bad" in told.text) is (code == 422)
    kept.repo.hold("acme_w22_2.0", "worse")
    for action in ("approve", "start", "resume"):
        told = client("POST", "/api/v1/campaigns/c1/actions", json={"action": action, "by": "bob"})
        assert (told.status_code, "worse" in told.text) == (422, True)
    assert [body["action"] for body in asked] == ["create", "start", "pause", "abort"]
    writer.close()

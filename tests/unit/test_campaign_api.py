"""Campaigns over HTTP and on the command line: what the ledger has, what is asked, the report."""

from __future__ import annotations

import asyncio
import csv
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
from connectors.api.campaign_page import BAR, bar, funnel
from connectors.broker import MosquittoBroker
from connectors.campaign_report import csv_lines
from connectors.ledger import Ledger
from connectors.mqtt_settings import MqttSettings
from models.campaign_rows import CampaignStationRow
from pipeline import cli
from tests.servers import require
from tests.servers.ingesting import ingesting, journaled, settings, wait_for

from .campaigning import NEW, Bench, plan

#: The control shard's number.
pytestmark = pytest.mark.usefixtures("asked_in_memory")
SHARD = 16


def stored(folder: Path, bench: Bench) -> Ledger:
    """Return a ledger that has what a bench told."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.apply("campaigns", [(SHARD, msgspec.msgpack.encode(bench.campaigns))])
    ledger.apply("campaign_stations", [(SHARD, msgspec.msgpack.encode(bench.log))])
    return ledger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with a campaign of two waves: one station failed, some are under way."""
    made = tmp_path_factory.mktemp("data")
    bench = Bench(40, waves=[{"count": 10}], name="winter image", retries=0, error=0.3, max_in_flight=20)
    bench.go()
    first = bench.asked()
    for number in first[:9]:
        bench.update(number)
    bench.status(first[9], "InstallationFailed")
    bench.go()
    for number in bench.asked()[10:14]:
        bench.result(number)
    bench.operator({"id": "none", "action": "start", "by": "eve"})
    ledger = stored(made, bench)
    yield made
    ledger.close()


def ask(
    folder: Path, method: str, path: str, broker: MqttSettings | None = None, **more: Any
) -> httpx.Response:
    """Ask the application."""
    app = create_app(f"sqlite:///{folder / 'ledger.sqlite'}", folder, "depot", broker)

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        async with app.router.lifespan_context(app), http:
            return await http.request(method, path, **more)

    return asyncio.run(asked())


def test_lists_and_one(folder: Path) -> None:
    (found,) = ask(folder, "GET", "/api/v1/campaigns").json()
    assert (found["campaign"], found["state"], found["plan"]["name"]) == ("c1", "running", "winter image")
    one = ask(folder, "GET", "/api/v1/campaigns/c1").json()
    assert one["funnel"]["waves"][0] == {"wave": 0, "states": {"failed": 1, "succeeded": 9}}
    assert [change["event"] for change in one["changes"]][:4] == ["create", "approve", "start", "wave"]
    failed = ask(folder, "GET", "/api/v1/campaigns/c1/stations?state=failed").json()
    assert [row["reason"] for row in failed] == ["InstallationFailed"]
    for path in ("/api/v1/campaigns/c2", "/campaigns/c2", "/api/v1/campaigns/c2/report.csv"):
        assert ask(folder, "GET", path).status_code == 404


def test_pages_and_report(folder: Path) -> None:
    listed = ask(folder, "GET", "/campaigns").text
    assert "9 of 40" in listed
    assert "there is no campaign &#39;none&#39;" in listed
    shown = ask(folder, "GET", "/campaigns/c1").text
    for words in (
        "winter image",
        "wave 2 opens with 30 stations",
        "InstallationFailed",
        "Pause",
        "Roll back",
    ):
        assert words in shown
    assert "style=" not in shown
    table = list(csv.DictReader(ask(folder, "GET", "/api/v1/campaigns/c1/report.csv").text.splitlines()))
    assert len(table) == 40
    assert {row["fw"] for row in table if row["state"] == "succeeded"} == {NEW}
    report = ask(folder, "GET", "/api/v1/campaigns/c1/report.html").text
    assert "9 of 40 stations run Volta V2 2.0.0" in report
    assert '<link rel="stylesheet" href="/static/page.css">' in report
    assert "approved by bob" in report


def test_what_is_asked_is_checked_before_it_leaves(folder: Path) -> None:
    path = "/api/v1/campaigns"
    assert ask(folder, "POST", path, json=plan(id="c2")).status_code == 503  # no broker
    nowhere = MqttSettings("127.0.0.1", 1, "x", connect_timeout_s=0.2)
    for body in (plan(id="a b"), plan(success=3), [1], "text"):
        assert ask(folder, "POST", path, nowhere, json=body).status_code == 422
    assert (
        ask(folder, "POST", f"{path}/c1/actions", nowhere, json={"action": "go", "by": "x"}).status_code
        == 422
    )
    assert ask(folder, "POST", f"{path}/c9/actions", json={"action": "start", "by": "x"}).status_code == 404
    foreign = {"origin": "http://evil.example"}
    start = {"action": "start", "by": "x"}
    assert ask(folder, "POST", f"{path}/c1/actions", json=start, headers=foreign).status_code == 403
    assert ask(folder, "POST", "/campaigns/c1", data=start, headers=foreign).status_code == 403


def test_the_command_line_reads(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(tomli_w.dumps({"service": {"data_dir": str(folder)}}))
    at = ["--config", str(config)]
    assert cli.main(["campaign", "list", *at]) == 0
    told = capsys.readouterr().out
    assert "9 of 40" in told
    assert "eve: there is no campaign 'none'" in told
    assert cli.main(["campaign", "status", "c1", *at]) == 0
    told = capsys.readouterr().out
    assert "wave 1         succeeded 9  failed 1" in told
    assert "approve by bob" in told
    assert cli.main(["campaign", "stations", "c1", "--state", "failed", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "failed"
    assert cli.main(["campaign", "report", "c1", "--out", str(tmp_path / "out"), *at]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["c1.csv", "c1.html"]
    saved = (tmp_path / "out" / "c1.html").read_text()
    assert "<style>" in saved
    assert "href=" not in saved  # it needs nothing but itself
    assert cli.main(["campaign", "status", "c7", *at]) != 0


def test_a_plan_in_a_file_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.toml"
    good = {name: value for name, value in plan().items() if value is not None}
    config = tmp_path / "c.toml"
    config.write_text(tomli_w.dumps({"firmware": {"foreign_hosts": ["fw.example"]}}))
    at = ["--check", "--config", str(config)]
    path.write_text(tomli_w.dumps(good))
    assert cli.main(["campaign", "create", str(path), *at]) == 0
    path.write_text(tomli_w.dumps(good | {"success": 2.0}))
    assert cli.main(["campaign", "create", str(path), *at]) != 0
    assert "success" in capsys.readouterr().err


def test_bars_and_funnels_add_up() -> None:
    states = {"succeeded": 5, "requested": 2, "failed": 1, "waiting": 2}
    parts = bar(states)
    assert sum(part.width for part in parts) == pytest.approx(BAR)
    assert [(part.kind, part.stations) for part in parts] == [
        ("done", 5), ("flying", 2), ("bad", 1), ("later", 2),
    ]  # fmt: skip
    assert [count for _, count, _ in funnel(states)] == [8, 8, 5, 5, 5, 5]
    assert bar({}) == []
    assert funnel({})[0] == ("in open waves", 0, 0.0)


def test_a_table_that_spreadsheets_do_not_run() -> None:
    row = CampaignStationRow(
        campaign="c", site="=1+1", station="a,b", change=1, state="failed", wave=-1, attempt=1, failed=1,
        request_id=None, fw_before="1", fw="1", reason='@x "y"', asked_ms=None, ended_ms=0, at_ms=0,
    )  # fmt: skip
    (read,) = csv.DictReader("".join(csv_lines([msgspec.structs.asdict(row)])).splitlines())
    assert (read["site"], read["station"], read["reason"]) == ("'=1+1", "a,b", '\'@x "y"')
    assert (read["wave"], read["asked"], read["ended"]) == ("", "", "1970-01-01T00:00:00Z")


@pytest.mark.server
def test_requests_reach_the_control_shard(folder: Path, tmp_path: Path) -> None:
    require("mosquitto")
    with MosquittoBroker() as broker:
        config = settings(tmp_path / "journal", broker.port)
        at = MqttSettings("127.0.0.1", broker.port, f"page-{time.time_ns()}", connect_timeout_s=2.0)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            assert ask(folder, "POST", "/api/v1/campaigns", at, json=plan(id="c2")).status_code == 202
            form = {"action": "resume:waive", "by": "bob", "text": "known"}
            unsure = ask(folder, "POST", "/campaigns/c1", at, data=form)
            assert (unsure.status_code, unsure.json()["sure"]) == (409, "Resume without the gate")
            sure = form | {"sure": "yes"}
            assert ask(folder, "POST", "/campaigns/c1", at, data=sure).status_code == 303
            wait_for(lambda: len(journaled(config)) == 2, "journaled")
        found = journaled(config)
    assert {message.shard for message in found} == {config.journal.shards}
    bodies = [json.loads(message.payload) for message in found]
    assert bodies[0] == plan(id="c2")
    assert bodies[1] == {"id": "c1", "action": "resume", "by": "bob", "text": "known", "waive_gate": True}

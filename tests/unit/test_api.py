"""The web application without a browser: every address, its limits, and /metrics against the ledger."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.api.health import HealthReader
from connectors.api.page import SHOWN_EVSES, SHOWN_FINDINGS
from connectors.ledger_reader import LedgerReader
from models.outputs import LatestRow
from tests.seeded import HOSTILE, HOSTILE_TOPIC, SITES, Fleet, Seeded, account, dead_letters, finding, seed
from tests.servers.web import Get, client, metrics


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    made = seed(tmp_path_factory.mktemp("api") / "data", Fleet(time.time_ns() // 1_000_000))
    yield made
    made.ledger.close()


@pytest.fixture(scope="module")
def get(seeded: Seeded) -> Get:
    return client(seeded.url, seeded.folder)


@pytest.fixture(scope="module")
def reader(seeded: Seeded) -> Iterator[LedgerReader]:
    opened = LedgerReader(seeded.url)
    yield opened
    opened.close()


def test_the_page_shows_everything_and_may_load_nothing_foreign(get: Get) -> None:
    answer = get("/")
    assert answer.status_code == 200
    for text in (
        "depot",
        "Draws more than offered",
        "CE03/1",
        "current 18.4 A, limit 18.1 A",
        "UTC",
        "closes",
    ):
        assert text in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r'(?:src|href|action)="(?![/#])', answer.text)
    assert not re.search(
        r"<style|\sstyle=|\son\w+=[\"']|<script(?! src=\"/static/(?:page|forms).js\")", answer.text
    )


def test_hostile_text_is_escaped_and_data_stays_as_it_came(get: Get) -> None:
    page = get("/live").text
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert HOSTILE not in get("/", site=HOSTILE, q=f'"{HOSTILE}').text
    newest = get("/api/v1/dead").json()[0]
    assert newest["topic"] == HOSTILE_TOPIC
    assert newest["payload"] == f'{{"x": "{HOSTILE}"}}'


def test_no_template_marks_text_as_safe() -> None:
    for path in (Path(__file__).parents[2] / "connectors/api/templates").iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text()), path.name


def test_findings_of_which_a_parent_is_open_are_only_counted(get: Get) -> None:
    found = get("/api/v1/findings").json()
    assert [f["severity"] for f in found] == ["critical"] * 3 + ["warning"] * 4 + ["info"]
    event = next(f for f in found if f["code"] == "site_power_event")
    assert event["consequences"] == 3
    codes = {f["code"] for f in found}
    assert not {"voltage_dip", "over_voltage"} & codes  # cleared, and of a backlog
    assert [(f["code"], f["planned"]) for f in found if f["code"] == "offline"] == [("offline", True)]
    assert "explains 3 more" in get("/live").text


def test_the_most_urgent_evses_come_first(get: Get) -> None:
    rows = re.findall(r'<tr data-key="([^"/]+/[^"/]+/\d)"', get("/live").text)
    assert rows[:6] == [
        "cedar-office/CE03/1", "elm-hub/EL01/2", "alder-depot/AL01/1", "birch-mall/BI02/1",
        "dock-street/DO04/2", "birch-mall/BI05/2",
    ]  # fmt: skip
    assert len(rows) == 60
    ordered = [(e["site"], e["station"], e["evse"]) for e in get("/api/v1/evses").json()]
    assert len(ordered) == 60
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("site", "q", "evses", "findings"),
    [
        ("birch-mall", "", 10, 2),
        ("", "ce03/1", 1, 1),
        ("", "CE03 CRITICAL", 0, 1),
        ("cedar-office", "charging", 4, 0),
        ("", "cedar-office Charging", 4, 0),
        ("", "combo", 20, 0),
        ("", "100%", 0, 0),
        ("", "o_e", 0, 0),
        ("nowhere", "", 0, 0),
    ],
)
def test_site_and_search_choose(get: Get, site: str, q: str, evses: int, findings: int) -> None:
    assert len(get("/api/v1/evses", site=site, q=q).json()) == evses
    assert len(get("/api/v1/findings", site=site, q=q).json()) == findings
    page = get("/live", site=site, q=q).text
    assert len(re.findall(r'<tr data-key="[^"/]+/[^"/]+/\d"', page)) == evses
    assert ("None that match." in page) == (evses == 0 or findings == 0)


def test_the_data_has_the_shape_that_billing_reads(get: Get, seeded: Seeded) -> None:
    evse = get("/api/v1/evses", q="CE03/1").json()[0]
    assert evse["values"]["soc_percent"] == 44
    assert (evse["open_findings"], evse["worst"], evse["dc"], evse["status"]) == (
        1,
        "critical",
        True,
        "Occupied",
    )
    assert evse["reg_mwh"] == 1_234_567_890 + 1_000_003 * 24
    assert get("/api/v1/evses", limit=1, offset=59).json()[0]["station"] == "FI05"
    now_ms = seeded.fleet.now_ms
    power = get("/api/v1/power", since_ms=now_ms - 3_600_000, until_ms=now_ms).json()
    assert len(power) == 48
    assert {p["evses"] for p in power} == {60}
    one = get("/api/v1/power", since_ms=now_ms - 3_600_000, until_ms=now_ms, site=SITES[0]).json()
    assert one[0]["evses"] == 10
    binary = get("/api/v1/dead").json()[2]
    assert set(binary["payload"]) == {"base64"}
    assert len(get("/api/v1/dead", limit=1).json()) == 1


@pytest.mark.parametrize(
    "query",
    [
        "/api/v1/evses?limit=0", "/api/v1/evses?limit=10001", "/api/v1/evses?offset=-1",
        "/api/v1/evses?limit=x",
        "/api/v1/findings?limit=0", "/api/v1/findings?limit=10001", "/api/v1/dead?limit=1001",
        "/api/v1/power", "/api/v1/power?since_ms=99999999999999999999&until_ms=1",
        f"/api/v1/evses?q={'x' * 201}", f"/?site={'x' * 201}", f"/live?q={'x' * 201}",
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(get: Get, query: str) -> None:
    answer = get(query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"


def test_static_files_are_those_of_the_folder_and_no_others(get: Get) -> None:
    for name, kind in (
        ("page.js", "text/javascript"),
        ("page.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/x.js", "/static/"):
        assert get(path).status_code == 404


#: Addresses that have tests of their own.
_ELSEWHERE = ("campaigns", "commands", "payments", "maintenance", "load", "firmware", "models", "analytics",
    "reactions")  # fmt: skip


def test_openapi_names_every_data_address(get: Get) -> None:
    paths = get("/api/openapi.json").json()["paths"]
    names = {"power", "evses", "findings", "dead"}
    one = "/api/v1/findings/{finding_id}"
    # Those of billing, which need a token, and of the way back have tests of their own.
    ours = {
        path
        for path, found in paths.items()
        if not any("billing" in m.get("tags", ()) for m in found.values())
        and not path.startswith(tuple(f"/api/v1/{name}" for name in _ELSEWHERE))
    }
    told = {f"{one}/actions", f"{one}/evidence"}
    assert ours == {"/health", one, *told, *(f"/api/v1/{name}" for name in names)}


def test_health_says_that_all_is_well(seeded: Seeded, get: Get) -> None:
    seeded.statuses()
    found = get("/health").json()
    assert (found["well"], found["problems"]) == (True, [])
    assert found["closing"]["closes"] is True
    assert found["unsaved_messages"] == 400
    assert 0 <= found["behind_s"] < 600
    assert found["processes"] == dict.fromkeys(
        ["ingest", "worker-00", "worker-01", "egress", "api"], "running"
    )


def test_without_a_ledger_the_page_says_so_and_data_are_unavailable(tmp_path: Path) -> None:
    get = client(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path)
    page = get("/")
    assert page.status_code == 200
    assert "there is no ledger at" in page.text
    assert "no process has reported yet" in page.text
    assert page.text.count("Not known: the ledger cannot be read.") == 2
    for name in ("evses", "findings", "dead"):
        answer = get(f"/api/v1/{name}")
        assert answer.status_code == 503
        assert "start the egress process" in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
    health = get("/health")
    assert (health.status_code, health.json()["well"], health.json()["closing"]) == (200, False, None)
    found = metrics(get("/metrics").text)
    assert found["ledger_readable",] == 0
    assert ("account_messages",) not in found
    seed(tmp_path, Fleet(time.time_ns() // 1_000_000, minutes=1)).ledger.close()
    assert len(get("/api/v1/evses").json()) == 60
    assert get("/health").json()["well"]


def test_an_empty_ledger_is_shown_as_empty(tmp_path: Path) -> None:
    made = Seeded(tmp_path, Fleet(time.time_ns() // 1_000_000))
    made.statuses()
    get = client(made.url, tmp_path)
    page = get("/").text
    assert "None heard of yet." in page
    assert "no readings of power" in page
    assert get("/health").json()["well"]
    made.ledger.close()


def test_figures_that_json_does_not_know_do_not_break_it(tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    made = Seeded(tmp_path, Fleet(now_ms))
    strange = {"voltage_v": math.nan, "limit_v": math.inf, "words": None}
    made.apply("findings", finding(now_ms, "under_voltage", "s", "c", 1, evidence=strange, score=math.inf))
    values = {"power_w": math.nan, "soc_percent": math.nan}
    made.apply("latest", LatestRow(site="s", station="c", evse=1, time_ms=2**53, status="Odd", state=0,
                                   reg_mwh=None, values=values))  # fmt: skip
    get = client(made.url, tmp_path)
    assert get("/").status_code == 200
    assert json.loads(get("/api/v1/evses").text)[0]["values"] == {"power_w": None, "soc_percent": None}
    assert json.loads(get("/api/v1/findings").text)[0]["score"] is None
    made.ledger.close()


def test_a_large_fleet_is_cut_short_and_said_to_be(tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    made = Seeded(tmp_path, Fleet(now_ms, sites=("a", "b"), per_site=200))
    made.apply("devices", *made.fleet.devices())
    made.apply("findings", *(finding(now_ms, "under_voltage", "a", "A01", k) for k in range(60)))
    get = client(made.url, tmp_path)
    page = get("/live").text
    assert page.count("<tr data-key") == SHOWN_EVSES + SHOWN_FINDINGS
    assert "the 200 most urgent of 400 EVSEs" in page
    assert "the 50 most urgent of 60 findings" in page
    made.ledger.close()


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("ingest", {"connected": 0, "last_error": "refused"},
         "ingest is not connected to the MQTT broker: refused"),
        ("ingest", {"connected": 1, "receivers": 3}, "2 of 3 receivers are not connected to the MQTT broker"),
        ("ingest", {"storage_full": True}, "the disk of the journal is full"),
        ("ingest", {"clock_behind_ns": 90_000_000_000}, "it is 90 s behind journaled time"),
        ("worker-00", {"shed_bytes": 2_500_000}, "worker-00 left out 2.5 MB of points for InfluxDB"),
        ("egress",
         {"consumers": {"influx": {"state": "waiting", "last_error": "no answer", "lag_records": 1234}}},
         "influx: no answer (1,234 records wait)"),
        ("egress", {"consumers": {"mqtt": {"state": "idle", "dead_letters": 2}}},
         "mqtt refused 2 deliveries for good: see `chargestream dead-letter list`"),
        ("supervisor", {"worker-01": {"pid": None, "running": False, "last_exit": -9}},
         "worker-01 is not running (killed by SIGKILL)"),
        ("supervisor", {"worker-01": {"pid": None, "running": False, "last_exit": 1}},
         "worker-01 is not running (exit code 1)"),
    ],
)  # fmt: skip
def test_each_problem_is_told_in_words(
    seeded: Seeded, get: Get, name: str, change: dict[str, Any], text: str
) -> None:
    seeded.statuses({name: change})
    problems = get("/health").json()["problems"]
    seeded.statuses()
    assert len(problems) == 1
    assert text in problems[0]


def test_a_process_that_reports_no_more_is_told(seeded: Seeded, reader: LedgerReader) -> None:
    read = HealthReader(reader, seeded.folder).read
    seeded.statuses()
    seeded.age("worker-00", 25)
    health = read(seeded.fleet.now_ms)
    assert [p for p in health.problems if "worker" in p] == ["worker-00 has not said anything for 25 s"]
    seeded.statuses({"worker-00": {"pid": 999}})  # what it said last was before its restart
    states = {p.name: p.state for p in read(time.time_ns() // 1_000_000).processes}
    assert states["worker-00"] == "starting"
    seeded.statuses()


def test_processes_are_known_without_a_supervisor(seeded: Seeded, reader: LedgerReader) -> None:
    seeded.statuses()
    seeded.age("supervisor", 3_600)
    health = HealthReader(reader, seeded.folder).read(time.time_ns() // 1_000_000)
    seeded.statuses()
    assert [(p.name, p.state, p.restarts) for p in health.processes] == [
        ("ingest", "running", None), ("worker-00", "running", None), ("worker-01", "running", None),
        ("egress", "running", None),
    ]  # fmt: skip


def test_results_that_lag_and_an_open_account_are_told(tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    made = Seeded(tmp_path, Fleet(now_ms))
    made.statuses()
    made.apply("account", account(now_ms - 60_000), account(now_ms - 60_000, first=50_000))
    made.apply("dead", *dead_letters(now_ms))
    get = client(made.url, tmp_path)
    found = get("/health").json()
    assert any(re.fullmatch(r"results are 6\d s behind what arrives", p) for p in found["problems"])
    account_text = "the account does not close: shard 0, messages 48211 to 49999 are in no range"
    assert account_text in found["problems"]
    assert "something is missing" in get("/live").text
    assert metrics(get("/metrics").text)["account_closes",] == 0
    made.ledger.close()


@pytest.mark.parametrize(
    "address",
    [
        "/", "/sessions", "/reviews", "/tariffs", "/load", "/managed", "/commands", "/campaigns",
        "/maintenance", "/analytics", "/models",
    ],
)  # fmt: skip
def test_every_page_leads_to_every_other_and_says_where_one_is(get: Get, address: str) -> None:
    page = get(address).text
    ways = page[page.index('<nav class="ways"') : page.index("</nav>")]
    for name in ("/", "/sessions", "/managed", "/commands", "/campaigns", "/maintenance", "/models"):
        assert f'href="{name}"' in ways
    assert f'<a href="{address}" aria-current="page">' in ways

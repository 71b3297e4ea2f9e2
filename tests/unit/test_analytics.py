"""Figures of findings: by code, by site, over HTTP."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.analytics_reader import AnalyticsReader
from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from models.batch import MessageColumns, ReadingBatch
from models.devices import DeviceTable
from models.outputs import FindingAction, FindingChange
from models.shard import ShardBatch
from pipeline.emit import EmitConfig, EmitStage

from ._api_client import Client
from ._ledger_records import blob, change

NOW = time.time_ns() // 1_000_000
HOUR = 3_600_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")

    def finding(name: str, hours_ago: float, detect_s: float, **kw: Any) -> None:
        raised = NOW - round(hours_ago * HOUR)
        base = {"finding_id": name, "raised_at": raised, "start": raised - round(detect_s * 1000)}
        ledger.apply("findings", [(0, blob(change(1, **base | {"changed_at": raised} | kw)))])

    def cleared(name: str, hours_ago: float, after_s: float, **kw: Any) -> None:
        raised = NOW - round(hours_ago * HOUR)
        at = raised + round(after_s * 1000)
        base = {
            "finding_id": name,
            "raised_at": raised,
            "start": raised - 10_000,
            "changed_at": at,
            "end": at,
        }
        ledger.apply("findings", [(0, blob(change(3, **base | kw)))])

    def acked(name: str, hours_ago: float, after_s: float, action: str = "ack") -> None:
        at = NOW - round(hours_ago * HOUR) + round(after_s * 1000)
        done = FindingAction(
            finding_id=name, action_id=f"{name}{after_s}", site="depot", action=action, by="ann", to=None,
            until=None, text="x", at=at,
        )  # fmt: skip
        ledger.apply("finding_actions", [(0, blob(done))])

    finding("a", 2, 30)
    finding("b", 3, 90, severity="critical", site="mall")
    cleared("c", 4, 600)
    finding("d", 5, 10, code="offline")
    acked("a", 2, 120)
    acked("a", 2, 900)  # the first counts
    acked("b", 3, 60, "comment")
    acked("c", 4, 60)
    for name, kw in (("x1", {"live": False}), ("x2", {"planned": True}), ("x3", {"parent": "a"})):
        finding(name, 1, 5, **kw)
    finding("old", 24 * 40, 5)
    ledger.close()
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


def test_figures_by_code_by_site_and_in_all(url: str) -> None:
    reader = AnalyticsReader(LedgerReader(url))
    month = NOW - 30 * 24 * HOUR
    voltage, offline = reader.figures(month, "code")
    assert voltage == {
        "code": "under_voltage", "raised": 3, "open": 2, "critical": 1, "detect_mean_s": 43.333, "acked": 2,
        "ack_mean_s": 90.0, "cleared": 1, "clear_mean_s": 600.0,
    }  # fmt: skip
    assert (offline["code"], offline["acked"], offline["ack_mean_s"], offline["clear_mean_s"]) == (
        "offline",
        0,
        None,
        None,
    )
    assert [(r["site"], r["open"], r["critical"]) for r in reader.figures(month, "site")] == [
        ("mall", 1, 1),
        ("depot", 2, 0),
    ]
    (everything,) = reader.figures(month, "all")
    assert (everything["raised"], everything["open"]) == (4, 3)
    assert reader.figures(month, "all", site="mall")[0]["raised"] == 1
    (nothing,) = reader.figures(NOW + HOUR, "all")
    assert (nothing["raised"], nothing["open"], nothing["detect_mean_s"]) == (0, 0, None)
    assert reader.figures(0, "all")[0]["raised"] == 5


def test_http_tells_them(url: str, tmp_path: Path) -> None:
    client = Client(url, tmp_path)
    assert client.get("/api/v1/analytics", by="all").json()[0]["raised"] == 4
    assert client.get("/api/v1/analytics", days=365).json()[0]["raised"] == 4
    rows = list(csv.DictReader(client.get("/analytics.csv").text.splitlines()))
    assert (rows[0]["code"], rows[0]["detect_mean_s"], rows[1]["ack_mean_s"]) == (
        "under_voltage",
        "43.333",
        "",
    )
    page = client.get("/analytics").text
    assert "Findings raised in the last 30 days" in page
    assert "1 critical" in page
    assert "90 s" in page
    assert "/?site=mall" not in client.get("/analytics", site="depot").text
    assert client.get("/analytics", days=0).status_code == 422


def _batch(findings: list[FindingChange], actions: list[FindingAction]) -> ShardBatch:
    empty = ReadingBatch.empty()
    return ShardBatch(
        0, 0, 0, DeviceTable(), empty, empty, empty, MessageColumns.empty(), [], [], None,
        findings=findings, finding_actions=actions,
    )  # fmt: skip


def test_acknowledgements_of_known_findings_become_points_however_they_are_cut() -> None:
    raised = change(1, raised_at=NOW, start=NOW - 5_000, changed_at=NOW)
    cleared = change(3, raised_at=NOW, changed_at=NOW + 50_000)
    about: dict[str, Any] = {"site": "depot", "by": "ann", "to": None, "until": None, "text": None}
    ack = FindingAction(finding_id="f1", action_id="1", action="ack", at=NOW + 40_000, **about)
    late = FindingAction(finding_id="f1", action_id="2", action="comment", at=NOW + 60_000, **about)
    other = FindingAction(finding_id="f2", action_id="3", action="ack", at=NOW + 41_000, **about)
    cuts = [
        [_batch([raised, cleared], [ack, other, late])],
        [_batch([raised], []), _batch([], [ack]), _batch([cleared], [other]), _batch([], [late])],
    ]
    told = []
    for cut in cuts:
        stage = EmitStage(0, EmitConfig())
        lines: list[bytes] = []
        for batch in cut:
            for stream, _, data in stage.process(batch)[0]:
                lines += [line for line in data.splitlines() if stream == "points" and b"_action" in line]
            stage = EmitStage(0, EmitConfig(), stage.snapshot())
        told.append(lines)
    assert told[0] == told[1]
    assert [line.split(b" ")[:2] for line in told[0]] == [
        [
            b"ev_finding_action,action=ack,code=under_voltage,site=depot",
            b'after_s=40,finding_id="f1"',
        ],
        [
            b"ev_finding_action,action=comment,code=under_voltage,site=depot",
            b'after_s=60,finding_id="f1"',
        ],
    ]

"""Reactions of the whole service: a fault, commands, answers, undoing, and the breaker."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from connectors.ledger_reader import LedgerReader
from pipeline import cli
from tests.servers.ingesting import wait_for
from tests.servers.service import Service

_RULES = {
    "enabled": True,
    "dry_run": False,
    "station_per_h": 10,
    "fleet_per_h": 2,
    "rules": {
        "trip": {
            "codes": ["station_reported"],
            "severity": "info",
            "safety": True,
            "steps": [{"action": "limit", "limit_a": 10.0}, {"action": "inoperative", "after_s": 2.0}],
        }
    },
}


def simulate(service: Service) -> subprocess.Popen[bytes]:
    words = f"simulate --broker 127.0.0.1:{service.broker.port} --stations 6 --seed 3 --sample 1s --batch 1s"
    words += " --heartbeat 10s --step 1s --for 90s --fault station_reported@AX01-01/1+1s~5s"
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline", *words.split()], stderr=subprocess.DEVNULL
    )


def states(service: Service) -> list[tuple[int, str, str, str]]:
    reader = LedgerReader(service.config.ledger_url())
    try:
        rows = reader.reactions(rule="trip")
    finally:
        reader.close()
    return [(row["step"], row["state"], row["does"], row["answer"]) for row in rows[::-1]]


def said(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main(list(words)) == 0
    return out.getvalue()


def page(service: Service, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.server
@pytest.mark.slow
def test_from_a_fault_to_the_breaker(tmp_path: Path) -> None:
    with Service(tmp_path, {"reactions": _RULES}) as service:
        fleet = simulate(service)
        try:
            undone = [
                (0, "sent", "limit the station to 10 A per phase", "accepted"),
                (1, "sent", "set Inoperative", "accepted"),  # the second of the hour: the breaker opens
                (1, "undone", "set Operative", "accepted"),
                (0, "undone", "lift the limit of the station", "accepted"),
            ]
            wait_for(lambda: states(service) == undone, "all undone", 60)
        finally:
            fleet.terminate()
            fleet.wait(10)
        _explained(service)
        _stopped(service)
        assert "breaker closed" in said("reactions", "reset", "--by", "kim", *ours(service))
        wait_for(lambda: not stops(service), "the finding cleared")
        wait_for(lambda: "reactions reset" not in page(service, "/health"), "no problem")
        assert "breaker was closed by kim" in said("reactions", "list", *ours(service))


def ours(service: Service) -> list[str]:
    return ["--config", str(service.file)]


def stops(service: Service) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page(service, "/api/v1/findings?code=reactions_stopped"))
    return found


def _explained(service: Service) -> None:
    """Finding, rule, command and answer lead to each other, on the page and at the terminal."""
    rows = json.loads(page(service, "/api/v1/reactions?rule=trip"))
    finding_id, cmd_id = rows[-1]["finding_id"], rows[-1]["cmd_id"]
    for path in (f"/findings/{finding_id}", "/reactions"):
        shown = page(service, path)
        assert shown.count('<td class="long">accepted</td>') == 4, path
        assert f'<a href="/commands/{cmd_id}">SetChargingProfile</a>' in shown
    assert f'href="/findings/{finding_id}"' in page(service, "/reactions")
    assert f'href="/findings/{finding_id}"' in page(service, f"/commands/{cmd_id}")
    told = said("finding", "show", finding_id, *ours(service))
    assert "rule trip, step 1, sent: limit the station to 10 A per phase → accepted" in told
    assert told.count("→ accepted") == 4


def _stopped(service: Service) -> None:
    """Whoever looks anywhere sees that nothing is sent, and how to go on."""
    wait_for(lambda: [f["severity"] for f in stops(service)] == ["critical"], "the loud finding")
    why = "the breaker was opened by"
    wait_for(lambda: f"no reaction is sent: {why}" in page(service, "/health"), "the problem")
    assert why in page(service, "/reactions")
    assert "THE BREAKER IS OPEN, nothing is sent" in said("reactions", "list", *ours(service))

"""A new model in the running service: in silence beside the old one, compared, put into use, and kept."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.status import read_status
from models.learned.promotion import TOPIC
from pipeline import cli
from pipeline.replay import replay
from tests.convert._native_log import NativeLog
from tests.naive.learned_power import FOLDER, MODEL, OTHER
from tests.servers.ingesting import wait_for
from tests.servers.service import Service
from tests.unit.test_model_promotion import MINUTE, NAMES, only

pytestmark = [pytest.mark.server, pytest.mark.slow]


def sessions(folder: Path, n: int) -> list[list[tuple[str, bytes]]]:
    """Return the messages of n sessions of the last hours, in each of which power falls to 40 %."""
    begin = time.time_ns() // 1_000_000 - (n + 1) * 60 * MINUTE
    inventory = {"evse": 1, "u_n_v": 230, "phases": 1, "p_max_w": 3680, "conns": [{"conn": 1}]}
    log = NativeLog()
    log.add(begin, "S/N", "conn", online=True, cid=1, hb_s=900, sample_s=60, evses=[inventory])
    for k in range(n):
        at = begin + 1000 + k * 60 * MINUTE
        log.tx(at, "S/N", 1, f"T{k}", "Started", 0, chargingState="Charging")
        for i in range(30):
            amps = 16.0 if i < 10 else 6.4
            log.meter(at + 1000 + i * MINUTE, "S/N", 1, NAMES, [230.0 * amps, amps, 16.0], f"T{k}")
        log.tx(at + 31 * MINUTE, "S/N", 1, f"T{k}", "Ended", 0)
    log.write(folder / "log.jsonl")
    parts: list[list[tuple[str, bytes]]] = [[]]
    for line in (folder / "log.jsonl").read_text().splitlines():
        message = json.loads(line)
        parts[-1].append((message["topic"], json.dumps(message["payload"]).encode()))
        if '"Ended"' in line:
            parts.append([])
    return parts[:n]


class Operator:
    """What a person does with models at a running service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.config = ("--config", str(service.file))

    def run(self, *arguments: str) -> str:
        """Run a command to its good end, in this process; return what it printed."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert cli.main(list(arguments)) == 0
        return said.getvalue()

    def running(self) -> dict[str, Any]:
        """Return what ``models running`` says of the one learned detector."""
        (entry,) = json.loads(self.run("models", "running", "--json", *self.config))
        found: dict[str, Any] = entry
        return found

    def promote(self, model_id: str, role: str) -> None:
        """Ask for a model in a role and wait until all shards have it."""
        asked = ("models", "promote", model_id, "--models", str(FOLDER), "--role", role, "--by", "Ann")
        assert f"asked for as {role}" in self.run(*asked, *self.config)

        def taken() -> bool:
            said = read_status(self.service.data, "worker-00").get("models", [])
            return bool(said) and all(part[role] == model_id for part in said)

        wait_for(taken, f"{model_id} as {role}", 15.0)

    def judges(self) -> list[str]:
        """Return the models that found something, in the order of the sessions."""
        ledger = self.service.ledger()
        try:
            return judges(ledger.finding_changes())
        finally:
            ledger.close()


def judges(changes: list[dict[str, Any]]) -> list[str]:
    """Return the models that raised something, in the order of the sessions."""
    raised = sorted((c["start"], c["evidence"]["model"]) for c in changes if c["state"] == "raised")
    return [model for _, model in raised]


def test_a_model_is_tried_in_silence_promoted_and_kept(tmp_path: Path) -> None:
    play = sessions(tmp_path, 4)
    detectors = only(learned_power={"models": str(FOLDER), "model": MODEL.model_id}).detectors
    with Service(tmp_path, {"detectors": detectors}) as service:
        people = Operator(service)
        found: list[str] = []

        def charge(judge: str) -> None:
            """Let the next car charge: `judge` finds it unusual, and nobody else says anything."""
            service.publish(play[len(found)])
            found.append(judge)
            wait_for(lambda: people.judges() == found, f"findings of {found}")

        charge(MODEL.model_id)
        people.promote(OTHER.model_id, "shadow")
        charge(MODEL.model_id)
        wait_for(lambda: people.running()["compared"]["both"] == 1, "the shadow compared")
        said = people.running()
        assert (said["model"], said["shadow"], said["refused"]) == (MODEL.model_id, OTHER.model_id, "")
        assert OTHER.model_id in service.get("/models")

        people.promote(OTHER.model_id, "model")
        charge(OTHER.model_id)
        os.kill(read_status(service.data, "worker-00")["pid"], signal.SIGKILL)
        charge(OTHER.model_id)  # what people chose outlives the process
        assert service.await_settled()["closes"]

        log = tmp_path / "journal.jsonl"
        people.run("journal", "export", "--data", str(service.data), "--out", str(log))
        asked = [line for line in log.read_text().splitlines() if TOPIC in line]
        assert [json.loads(line)["payload"]["by"] for line in asked] == ["Ann", "Ann"]
        replay(service.config, log, tmp_path / "again", write_points=False)
        again = [json.loads(line) for line in (tmp_path / "again/findings.jsonl").read_text().splitlines()]
        assert judges(again) == found

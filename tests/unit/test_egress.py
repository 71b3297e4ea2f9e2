"""The egress process: own pace for each consumer, cursors after acceptance, dead letters, clean stop."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.broker import MosquittoBroker
from connectors.influx import InfluxSettings, InfluxWriter
from connectors.influx_server import InfluxServer
from connectors.ledger import Ledger
from connectors.ledger_reader import LedgerReader
from connectors.mqtt import Publisher
from connectors.mqtt_settings import MqttSettings
from connectors.status import read_status
from models.outputs import Publish
from models.secret import Secret
from pipeline.cli import main
from pipeline.egress import SinkFactory, outboxes
from pipeline.egress_sinks import InfluxSink, LedgerSink, MqttSink
from tests.servers import free_port, require

from ._egress_tools import T0, cursor, letters, lines, put, running, until
from ._ledger_records import account, blob, change, interval


def influx_sink(server: InfluxServer, **settings: Any) -> SinkFactory:
    token = Secret(server.token, "env:INFLUX_TOKEN")
    base: dict[str, Any] = {"token": token, "bucket": "ev/autogen", "blocked_retry_s": 0.05}
    return lambda _: InfluxSink(InfluxSettings(server.url, **(base | settings)))


@pytest.fixture
def server(tmp_path: Path) -> InfluxServer:
    require("influxd")
    require("nginx")
    return InfluxServer(tmp_path / "influx")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield opened
    opened.close()


@pytest.mark.server
def test_a_dead_influxdb_delays_neither_ledger_nor_broker(
    tmp_path: Path, server: InfluxServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.egress._HEALTH_S", 0.2)
    require("mosquitto")
    require("mosquitto_sub")
    reader = LedgerReader(str(ledger.url))
    with MosquittoBroker() as broker:
        listen = f"mosquitto_sub -h 127.0.0.1 -p {broker.port} -t # -C 2 -F"
        command = [*listen.split(), "%t %r %p"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as heard:
            time.sleep(0.3)
            mqtt = MqttSettings("127.0.0.1", broker.port, "egress")
            sinks: dict[str, SinkFactory] = {
                "influx": influx_sink(server),
                "ledger": lambda _: LedgerSink(lambda: ledger),
                "mqtt": lambda name: MqttSink(Publisher(mqtt), tmp_path / "claims.db"),
            }
            health = InfluxWriter(InfluxSettings(server.url, "ev", Secret(server.token)))
            messages = [
                Publish(topic="a/1", payload=b"one"),
                Publish(topic="a/2", payload=b"two", retain=True),
            ]
            with running(tmp_path, sinks, ledger=lambda: ledger, health=health, finish_s=5.0):
                put(tmp_path, [("points", 0, lines(1_000)), ("findings", 0, blob(change()))])
                put(tmp_path, [("publish", 0, blob(*messages)), ("account", 0, blob(account(0, 9)))])
                put(
                    tmp_path,
                    [("points", 1, lines(1_000, 1_000)), ("intervals", 1, blob(interval()))],
                    "worker-01",
                )
                until(lambda: reader.counts()["findings"] and reader.counts()["intervals"], "ledger")
                assert heard.communicate(timeout=10)[0] == "a/1 0 one\na/2 0 two\n"
                until(
                    lambda: read_status(tmp_path, "egress").get("consumers", {}).get("influx", {})["retries"],
                    "status",
                )
                status = read_status(tmp_path, "egress")
                assert status["consumers"]["influx"]["state"] == "waiting"
                assert "cannot be reached" in status["consumers"]["influx"]["last_error"]
                assert status["consumers"]["ledger"]["last_error"] == ""
                assert cursor(tmp_path, "influx", "points") == 0
                with server:
                    until(
                        lambda: read_status(tmp_path, "egress")["consumers"]["influx"]["lag_records"] == 0,
                        "InfluxDB",
                    )
                    assert server.query('SELECT count("v") FROM "m"')[0]["count"] == 2_000
                    until(lambda: (read_status(tmp_path, "egress")["closing"] or {}).get("closes"), "closing")
                    until(lambda: server.query('SELECT * FROM "ev_pipeline"'), "health points")
                    (sums,) = server.query(
                        'SELECT last("messages") AS "n", last("closes") AS "ok" FROM "ev_pipeline"'
                    )
                    assert (sums["n"], sums["ok"]) == (9, True)
        status = read_status(tmp_path, "egress")
    reader.close()
    assert sorted(status["outboxes"]) == ["worker-00", "worker-01"]
    assert status["closing"]["messages"]["total"] == 9
    assert status["dead_letters"] == 0
    assert status["outboxes"]["worker-00"]["mqtt"]["delivered"] == 1


@pytest.mark.server
def test_after_a_wrong_token_is_corrected_everything_is_written(tmp_path: Path, server: InfluxServer) -> None:
    put(tmp_path, [("points", 0, lines(100, i * 100)) for i in range(20)])
    with server:
        wrong = influx_sink(server, token=Secret("wrong-xyz", "env:INFLUX_TOKEN"))
        with running(tmp_path, {"influx": wrong}):
            until(lambda: read_status(tmp_path, "egress").get("consumers", {}).get("influx"), "status")
            until(
                lambda: read_status(tmp_path, "egress")["consumers"]["influx"]["retries"] > 1, "a second try"
            )
        said = read_status(tmp_path, "egress")["consumers"]["influx"]["last_error"]
        assert said.startswith(f"InfluxDB at {server.url} refused the token from env:INFLUX_TOKEN (401: ")
        assert said.endswith(
            "set influx.token to one that may write to bucket ev/autogen. "
            "Points wait in the outbox, none is lost"
        )
        assert cursor(tmp_path, "influx", "points") == 0
        with running(tmp_path, {"influx": influx_sink(server)}) as egress:
            until(lambda: egress.drains and egress.drains[0].state.delivered == 20, "delivery")
        assert server.query('SELECT count("v") FROM "m"')[0]["count"] == 2_000
    assert letters(tmp_path) == []


@pytest.mark.server
def test_a_type_conflict_goes_to_the_dead_letter_and_comes_back_by_retry(
    tmp_path: Path, server: InfluxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = b'm,k=a v="text" %d\n' % (T0 + 60)
    put(
        tmp_path,
        [
            ("points", 0, lines(50)),
            ("points", 3, lines(10, 50) + bad + lines(10, 70)),
            ("points", 0, lines(5, 90)),
        ],
    )
    with server:
        with running(tmp_path, {"influx": influx_sink(server)}) as egress:
            until(lambda: egress.drains and egress.drains[0].state.delivered == 3, "delivery")
        ((consumer, stream, seq, kept, reason),) = letters(tmp_path)
        assert (consumer, stream, seq, kept) == ("influx", "points", 2, bad)
        assert reason.startswith("400: partial write: field type conflict")
        assert server.query('SELECT count("v") FROM "m"')[0]["count"] == 75
        assert cursor(tmp_path, "influx", "points") == 3

        assert main(["dead-letter", "list", "--data", str(tmp_path)]) == 0
        listed = capsys.readouterr().out
        assert "influx/points record 2, refused 1 times" in listed
        assert "field type conflict" in listed
        server.query('DROP MEASUREMENT "m"')
        assert main(["dead-letter", "retry", "--data", str(tmp_path), "--consumer", "influx"]) == 0
        assert capsys.readouterr().out == "1 put back into the outbox\n"
        with running(tmp_path, {"influx": influx_sink(server)}) as egress:
            until(lambda: sum(d.state.delivered for d in egress.drains) == 1, "the retry")
        assert server.query('SELECT "v" FROM "m"') == [{"time": T0 + 60, "v": "text"}]
    assert [path.name for path in outboxes(tmp_path)] == ["retry.db", "worker-00.db"]
    assert letters(tmp_path) == []


def test_one_bad_row_does_not_take_its_neighbours_along(tmp_path: Path, ledger: Ledger) -> None:
    bad = interval(evse=2**63, energy_mwh=0)
    records = [blob(interval(1)), blob(interval(2), bad, interval(3)), b"\xc1", blob(interval(4))]
    put(tmp_path, [("intervals", 0, data) for data in records])
    with running(tmp_path, {"ledger": lambda _: LedgerSink(lambda: ledger)}) as egress:
        until(lambda: egress.drains and egress.drains[0].state.delivered == 4, "delivery")
    reader = LedgerReader(str(ledger.url))
    assert [row["evse"] for row in reader.intervals()] == [1, 2, 3, 4]
    reader.close()
    first, second = letters(tmp_path)
    assert (first[2], first[3]) == (2, blob(bad))
    assert "cannot store intervals" in first[4]
    assert (second[2], second[3]) == (3, b"\xc1")
    assert "cannot be read" in second[4]


@pytest.mark.server
def test_the_process_survives_kills_and_stops_in_order(
    tmp_path: Path, server: InfluxServer, seed: int
) -> None:
    """Killed at random moments, it loses nothing and doubles nothing; SIGTERM ends it with code 0."""
    rng = random.Random(seed)
    n = 25
    put(tmp_path, [(s, 0, d) for i in range(n) for s, d in (
        ("points", lines(200, i * 200)),
        ("intervals", blob(*(interval(e, i) for e in range(20)))),
        ("account", blob(account(i * 5, i * 5 + 5))),
    )])  # fmt: skip
    environment = os.environ | {
        "CHARGESTREAM_SERVICE__DATA_DIR": str(tmp_path),
        "CHARGESTREAM_INFLUX__ENABLED": "true",
        "CHARGESTREAM_INFLUX__URL": server.url,
        "CHARGESTREAM_INFLUX__TOKEN": "env:TEST_TOKEN",
        "CHARGESTREAM_INFLUX__BATCH_POINTS": "100",
        "CHARGESTREAM_MQTT__PORT": str(free_port()),
        "TEST_TOKEN": server.token,
    }
    command = [sys.executable, "-P", "-m", "pipeline", "egress"]
    with server:
        for _ in range(3):
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
                until(lambda: (tmp_path / "ledger.sqlite").exists(), "the ledger")
                time.sleep(rng.uniform(0.0, 0.4))
                process.kill()
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as last:
            until(lambda: cursor(tmp_path, "influx", "points") == 3 * n - 2, "all points")
            until(lambda: cursor(tmp_path, "ledger", "account") == 3 * n, "the ledger")
            last.send_signal(signal.SIGTERM)
            _, said = last.communicate(timeout=20)
        assert last.returncode == 0
        assert server.query('SELECT count("v"), sum("v") FROM "m"') == [
            {"time": 0, "count": 200 * n, "sum": sum(range(200 * n))}
        ]
    assert "INFO egress: stopped: " in said
    assert server.token not in said
    reader = LedgerReader(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    assert reader.counts()["intervals"] == 20 * n
    assert reader.closes()["closes"]
    assert reader.closes()["messages"]["total"] == 5 * n
    reader.close()

"""What goes wrong in the field, against the real service: what a person is told, and that the stream goes on.

=====================  =====================================================================================
failure                proved by
=====================  =====================================================================================
wrong InfluxDB token   `test_a_wrong_token`; the words alone: test_influx, test_egress
dead InfluxDB          `test_a_dead_influxdb`; ledger and broker undelayed: test_egress
full disk              `test_a_full_disk`; what is stored and acknowledged: test_ingest_delivery, test_journal
garbage payloads       `test_garbage`; any bytes at all: test_dialect_fuzz
clock 10 years off     `test_a_clock_ten_years_off`; correction: test_sequencing; rule: test_clock_error
5 MB message           `test_a_message_of_five_megabytes`; nothing else kept of it: test_ingest_delivery
duplicate client id    `test_a_duplicate_client_id`; no spinning, both protocols: test_mqtt_connection
=====================  =====================================================================================

One service serves all cases, in this order: it starts with a wrong token. Each case has stations of its own,
and that the stream goes on means for all of them: later messages become intervals and findings in the ledger
and points in InfluxDB, and nobody had to restart anything.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from connectors.influx_server import InfluxServer
from models.topics import ROOT
from tests.servers import require
from tests.servers.ingesting import wait_for
from tests.servers.service import Service

pytestmark = [pytest.mark.server, pytest.mark.slow]

QUARTER_MS: Final = 900_000
MINUTE_MS: Final = 60_000
TEN_YEARS_MS: Final = 315_576_000_000
_MIB: Final = 1 << 20
_SPARE_MIB: Final = 256  # from the start of the service to its disk being "full"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder on a disk that few others write to, so that its room stays as it is."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 1024 * _MIB
    path = Path(tempfile.mkdtemp(prefix="chargestream-failures-", dir=shared if roomy else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """Return the service; its InfluxDB token is wrong at first, its disk nearly full."""
    for program in ("mosquitto", "influxd", "nginx"):
        require(program)
    with InfluxServer(folder / "influx") as influx:
        free_mib = shutil.disk_usage(folder).free // _MIB
        settings: dict[str, dict[str, Any]] = {
            "journal": {"min_free_mib": min(free_mib - _SPARE_MIB, 1_048_576)},
            "mqtt": {"max_payload_bytes": 4 * _MIB},
        }
        with Service(folder, settings, influx, token="wrong-token-xyz") as running:
            yield running


class Station:
    """A stand-alone station of a site of its own, a reading a minute, 6 kW."""

    def __init__(self, service: Service, site: str, clock_off_ms: int = 0) -> None:
        self.service, self.site, self.clock_off_ms = service, site, clock_off_ms
        self.seq = 0
        now_ms = self._now_ms()
        self.first_ms = now_ms // QUARTER_MS * QUARTER_MS - 2 * QUARTER_MS
        birth = {
            "v": 1, "online": True, "boot": 1, "cid": 1, "vendor": "T", "model": "T1", "serial": site,
            "fw": "1", "hb_s": 60, "sample_s": 60, "batch_s": 900, "proto": "native",
            "evses": [{
                "evse": 1, "u_n_v": 230, "phases": 3, "p_max_w": 22_080,
                "meter": {"serial": f"M-{site}", "resolution_wh": 1},
                "conns": [{"conn": 1, "type": "IEC_62196_T2", "max_a": 32}],
            }],
        }  # fmt: skip
        heartbeat = {"v": 1, "boot": 1, "seq": 0, "t": now_ms + clock_off_ms, "uptime_s": 60}
        service.publish([(self.topic("conn"), json.dumps(birth).encode())])
        service.publish([(self.topic("hb"), json.dumps(heartbeat).encode())])

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def topic(self, kind: str) -> str:
        """Return the topic of a kind of message."""
        return f"{ROOT}/{self.site}/{self.site}-01/up/{kind}"

    def numbered(self, kind: str, **body: Any) -> tuple[str, bytes]:
        """Return the next numbered message."""
        self.seq += 1
        return self.topic(kind), json.dumps({"v": 1, "boot": 1, "seq": self.seq} | body).encode()

    def work(self) -> None:
        """Send the readings of two quarters and of what there is of the present one, and a fault of now."""
        now_ms = self._now_ms()
        messages = []
        for t0 in range(self.first_ms, now_ms, 5 * MINUTE_MS):
            rows = [
                [t - t0, 6000.0, (t - self.first_ms) / MINUTE_MS * 100.0]
                for t in range(t0, min(t0 + 5 * MINUTE_MS, now_ms), MINUTE_MS)
            ]
            channels = ["Power.Active.Import", "Energy.Active.Import.Register"]
            series = {"evse": 1, "conn": 1, "t0": t0 + self.clock_off_ms, "ch": channels, "rows": rows}
            messages.append(self.numbered("meter", series=[series]))
        event = {
            "eventId": 1,
            "evse": 1,
            "t": now_ms + self.clock_off_ms,
            "code": "CX001",
            "taxonomy": "mrec",
        }
        messages.append(self.numbered("event", items=[event | {"severity": 5, "techInfo": "latch"}]))
        self.service.publish(messages)

    def intervals(self) -> list[tuple[int, int | None, str]]:
        """Return (start relative to the first reading, mWh, quality) of what the ledger has."""
        ledger = self.service.ledger()
        try:
            rows = [row for row in ledger.intervals() if row["site"] == self.site]
        finally:
            ledger.close()
        return [(row["start_ms"] - self.first_ms, row["energy_mwh"], row["quality"]) for row in rows]

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the open findings by code."""
        found = self.service.get(f"/api/v1/findings?site={self.site}")
        return {str(finding["code"]): finding for finding in found}

    def await_ledger(self) -> None:
        """Wait until the ledger has the energy of both quarters, and the fault."""
        wanted = [(0, 1_500_000, "measured"), (QUARTER_MS, 1_500_000, "measured")]
        wait_for(lambda: self.intervals()[:2] == wanted, f"{wanted} of {self.site}", 30)
        wait_for(lambda: "lock_failure" in self.findings(), f"lock_failure of {self.site}", 30)

    def await_influx(self) -> None:
        """Wait until InfluxDB has the same energy."""
        influx = self.service.influx
        assert influx is not None
        query = f'SELECT "energy_wh" FROM "ev_energy_15m" WHERE "site" = \'{self.site}\''
        wait_for(
            lambda: [row["energy_wh"] for row in influx.query(query)][:2] == [1500.0, 1500.0],
            f"points of {self.site}",
            30,
        )

    def await_all(self) -> None:
        """Wait until what was sent has become intervals, findings and points."""
        self.await_ledger()
        self.await_influx()


def test_a_wrong_token(service: Service) -> None:
    assert service.influx is not None
    station = Station(service, "token")
    station.work()
    station.await_ledger()
    told = service.await_problem("influx: ", "records wait")
    assert f"InfluxDB at {service.influx.url} refused the token from file:{service.token} (401: " in told
    assert "set influx.token to one that may write to bucket ev/autogen" in told
    wait_for(lambda: "refused the token" in service.log_text(), "the same in the log")
    assert "wrong-token-xyz" not in service.log_text() + told
    service.token.write_text(service.influx.token)
    station.await_influx()
    service.await_no_problem("influx")


def test_a_dead_influxdb(service: Service) -> None:
    assert service.influx is not None
    service.influx.kill()
    station = Station(service, "dead-influx")
    station.work()
    station.await_ledger()
    told = service.await_problem("influx: ", "records wait")
    words = f"InfluxDB at {service.influx.url} cannot take points now (502: 502 Bad Gateway"
    assert words in told  # influxd is gone, the proxy in front of it is not
    assert "Points wait in the outbox" in told
    wait_for(lambda: words in service.log_text(), "the same in the log")
    service.influx.restart()
    station.await_influx()
    service.await_no_problem("influx")


def test_a_full_disk(service: Service, folder: Path) -> None:
    station = Station(service, "full-disk")
    too_little = shutil.disk_usage(folder).free - service.config.journal.min_free_mib * _MIB
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, too_little + 32 * _MIB)
    try:
        station.work()  # the broker acknowledges, and keeps what we do not
        told = service.await_problem("disk of the journal is full")
        assert "nothing is acknowledged until there is room" in told
        assert "Nothing is acknowledged, so the broker keeps all new messages" in service.log_text()
        assert station.intervals() == []
    finally:
        ballast.unlink()
    station.await_all()
    service.await_no_problem("disk")
    assert "there is room again" in service.log_text()


def test_garbage(service: Service) -> None:
    station = Station(service, "garbage")
    meter, what = station.topic("meter"), station.topic("nonsense")
    garbage = [
        (meter, b"\x00\xff\xfe"),
        (meter, b'{"v":1,"boot":1,"seq":1,"series":[{"evse":1'),
        (meter, b'{"v":1,"boot":1,"seq":"first","series":[]}'),
        (station.topic("hb"), b"hello"),
        (station.topic("meter.mp"), b"\xc1"),
        (what, b"{}"),
        (f"{ROOT}//-01/up/meter", b"{}"),
        (f"{ROOT}/_op/maintenance", b"[]"),
    ]
    service.publish(garbage)
    station.work()
    station.await_all()
    dead: dict[str, Any] = {}

    def all_told() -> bool:  # other shards' workers may be behind the one that station.await_all saw
        dead.update({row["topic"]: row for row in service.get("/api/v1/dead?limit=1000")})
        return dead.keys() >= {topic for topic, _ in garbage}

    wait_for(all_told, "every piece of garbage among the dead messages")
    for topic, payload in garbage:
        row = dead[topic]
        assert row["reason"], row
        assert len(row["detail"]) > 15, f"{payload!r} is not explained: {row}"
    page = service.get("/live")
    assert "garbage-01/up/meter" in page


def test_a_message_of_five_megabytes(service: Service) -> None:
    station = Station(service, "huge")
    service.publish([(station.topic("meter"), b'{"v":1,"boot":1,"seq":99,"pad":"' + b"x" * 5_000_000)])
    station.work()
    station.await_all()
    told: list[dict[str, Any]] = []

    def is_told() -> bool:  # what the station sent to its own shard says nothing of when others were written
        rows = service.get("/api/v1/dead?limit=1000")
        told[:] = [row for row in rows if row["topic"] == station.topic("meter")]
        return bool(told)

    wait_for(is_told, "the message among the dead ones")
    (row,) = told
    assert row["reason"] == "size"
    assert row["detail"] == "payload is larger than mqtt.max_payload_bytes; only its start was kept"


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_ten_years_off(service: Service, years: int) -> None:
    """Its times are corrected: the energy falls into the quarters in which it flowed."""
    station = Station(service, f"clock{years}", years // 10 * TEN_YEARS_MS)
    station.work()
    station.await_all()
    finding = station.findings()["clock_error"]
    assert finding["severity"] == "warning"
    assert finding["evidence"]["skew_s"] == pytest.approx(-years / 10 * TEN_YEARS_MS / 1000, abs=60)
    assert abs(finding["start"] - time.time_ns() // 1_000_000) < 120_000  # by arrival, not by that clock
    page = service.get(f"/live?site={station.site}")
    assert "Clock wrong" in page
    assert "Check its time source" in page


def test_a_duplicate_client_id(service: Service) -> None:
    name = f"{service.config.service.instance}-ingest"
    twin = mqtt.Client(CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5, reconnect_on_failure=True)
    twin.reconnect_delay_set(1, 1)
    told: list[str] = []

    def shown() -> bool:
        told[:] = [line for line in service.problems() if f"same client id '{name}'" in line]
        return bool(told)

    twin.connect("127.0.0.1", service.broker.port)
    twin.loop_start()
    try:
        wait_for(shown, "the reason on the page", 30)
    finally:
        twin.disconnect()
        twin.loop_stop()
    assert "give each installation its own mqtt.client_id" in told[0]
    assert f"another client uses the same client id '{name}'" in service.log_text()
    service.await_no_problem("not connected")
    station = Station(service, "twin")
    station.work()
    station.await_all()


def test_nothing_was_lost_and_nobody_restarted(service: Service) -> None:
    closing = service.await_settled()
    assert closing["closes"]
    assert closing["messages"]["dead"] == 9
    supervised = json.loads((service.data / "status" / "supervisor.json").read_text())
    assert {name: child["restarts"] for name, child in supervised.items()} == dict.fromkeys(supervised, 0)
    wait_for(lambda: service.problems() == [], "all is well", 15)
    assert "Traceback" not in service.log_text()
    assert service.stop() == 0

"""Nothing is acknowledged that is not on disk, and nothing gets lost: with a real broker."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.broker import EmbeddedBroker, MosquittoBroker
from connectors.journal import JournalWriter
from connectors.status import read_status
from models.errors import StorageCorrupt
from models.frame import OVERSIZE, OVERSIZE_PREFIX_BYTES, REDELIVERED, RETAINED, Frame
from models.secret import Secret
from models.topics import shard_of
from tests.servers import require
from tests.servers.ingesting import (
    CLIENTS,
    heard,
    ingest_process,
    ingesting,
    journaled,
    meter,
    send,
    settings,
    wait_for,
)

pytestmark = pytest.mark.server


@pytest.fixture
def broker() -> Any:
    """A mosquitto of its own for each test."""
    require("mosquitto")
    with MosquittoBroker() as started:
        yield started


def payloads(config: Any) -> list[int]:
    """Return the numbers in the journaled payloads, sorted."""
    return sorted(int(m.payload) for m in journaled(config))


@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_acknowledged_only_when_on_disk(
    client: str, version: str, broker: MosquittoBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    append = JournalWriter.append

    def held(self: JournalWriter, frames: dict[int, Frame]) -> dict[int, int]:
        gate.wait(20)
        return append(self, frames)

    monkeypatch.setattr(JournalWriter, "append", held)
    config = settings(tmp_path, broker.port, client=client, protocol_version=version)
    with ingesting(config) as ingest:
        link = ingest.sources[0].status()
        wait_for(lambda: link.connected, "connected")
        send(broker.port, meter(0, 40))
        wait_for(lambda: link.in_flight == 40, "all in flight")
        assert link.acked == 0
        gate.set()
        wait_for(lambda: link.acked == 40, "acknowledged after the commit")
        assert link.in_flight == 0
    assert payloads(config) == list(range(40))


@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_the_session_outlives_us_and_the_broker(client: str, version: str, tmp_path: Path) -> None:
    require("mosquitto")
    with MosquittoBroker(persistence=True) as broker:
        config = settings(tmp_path, broker.port, client=client, protocol_version=version)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            send(broker.port, meter(0, 30))
            wait_for(lambda: ingest.counters.messages == 30, "journaled")
        send(broker.port, meter(30, 60))
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.counters.messages == 30, "what came while we were away")
            broker.restart()
            wait_for(lambda: ingest.sources[0].status().connects == 2, "connected again")
            send(broker.port, meter(60, 90))
            wait_for(lambda: len(set(payloads(config))) == 90, "what came after the broker's restart")
    found = journaled(config)
    # Our last acknowledgements may not have reached the broker before it went down.
    assert sorted(int(m.payload) for m in found if not m.flags & REDELIVERED) == list(range(90))
    stamps = [(m.shard, m.recv_ns) for m in found]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_killed_between_receiving_and_committing(
    client: str, broker: MosquittoBroker, tmp_path: Path
) -> None:
    config = settings(tmp_path, broker.port, {"group_commit_ms": 1000.0}, client=client)
    with ingest_process(config, tmp_path) as process:
        wait_for(lambda: read_status(tmp_path, "ingest").get("connected") == 1, "connected", 30)
        send(broker.port, meter(0, 1))
        wait_for(lambda: len(journaled(config)) == 1, "the first is journaled at once")
        send(broker.port, meter(1, 200))
        time.sleep(0.1)
        process.kill()
        process.wait()
    assert payloads(config) == [0]
    with ingest_process(config, tmp_path) as process:
        wait_for(lambda: len(journaled(config)) >= 200, "what was not acknowledged came again", 30)
        process.terminate()
        assert process.wait(15) == 0
    assert payloads(config) == list(range(200))
    flags = {int(m.payload): m.flags for m in journaled(config)}
    assert flags[0] == 0
    assert {flags[i] for i in range(1, 200)} == {REDELIVERED}
    assert "stopped: 199 messages" in (tmp_path / "ingest.log").read_text()


@pytest.mark.parametrize(("client", "version"), [("paho", "5"), ("lean", "3.1.1"), ("lean", "5")])
def test_a_huge_message_and_garbage_do_not_stop_the_stream(
    client: str,
    version: str,
    broker: MosquittoBroker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = settings(
        tmp_path, broker.port, client=client, protocol_version=version, max_payload_bytes=1 << 20
    )
    huge = b"{" + b"x" * 5_000_000
    garbage = [b"", b"\x00\xff\xfe", b"{not json", bytes(range(256)) * 8, b"y" * (1 << 20)]
    with heard(caplog), ingesting(config) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected")
        topic = "evt/v1/site/node/up/meter"
        send(broker.port, [(topic, b"1"), (topic, huge), *((topic, g) for g in garbage), (topic, b"2")])
        link = ingest.sources[0].status()
        wait_for(lambda: link.acked == 3 + len(garbage), "all acknowledged, the huge one too")
        assert link.oversize == 1
    found = [(m.payload, m.flags) for m in journaled(config)]
    kept = (huge[:OVERSIZE_PREFIX_BYTES], OVERSIZE)
    assert found == [(b"1", 0), kept, *((g, 0) for g in garbage), (b"2", 0)]
    assert "message of 5000001 bytes on evt/v1/site/node/up/meter is longer than mqtt.max" in caplog.text


@pytest.mark.parametrize(("client", "version"), CLIENTS)
def test_retained_is_marked_and_not_only_because_it_was_published_so(
    client: str, version: str, broker: MosquittoBroker, tmp_path: Path
) -> None:
    config = settings(tmp_path, broker.port, client=client, protocol_version=version)
    send(broker.port, [("evt/v1/s/n/up/conn", b"1")], retain=True)
    with ingesting(config) as ingest:
        wait_for(lambda: ingest.counters.messages == 1, "the retained birth")
        send(broker.port, [("evt/v1/s/n/up/conn", b"2")], retain=True)
        wait_for(lambda: ingest.counters.messages == 2, "the new birth")
    assert [(m.payload, m.flags & RETAINED) for m in journaled(config)] == [(b"1", RETAINED), (b"2", 0)]
    with ingesting(config) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected again")
        send(broker.port, [("evt/v1/s/n/up/hb", b"3")])
        wait_for(lambda: (b"3", 0) in [(m.payload, m.flags) for m in journaled(config)], "the heartbeat")
    again = [m.payload for m in journaled(config) if m.flags & RETAINED]
    # MQTT 5 asks for retained messages with a new subscription only; 3.1.1 cannot.
    assert again == ([b"1"] if version == "5" else [b"1", b"2"])


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_two_receiver_processes_share(client: str, broker: MosquittoBroker, tmp_path: Path) -> None:
    config = settings(tmp_path, broker.port, client=client, receivers=2, share_group=Secret("ingest"))
    with ingesting(config) as ingest:
        wait_for(lambda: ingest.status()["connected"] == 2, "both connected", 30)
        send(broker.port, meter(0, 400))
        wait_for(lambda: ingest.counters.messages == 400, "all journaled")
        each = [source.status for source in ingest.sources]
        wait_for(lambda: sum(s().acked for s in each) == 400, "all acknowledged")
        assert all(s().acked > 50 for s in each)
        victim: Any = ingest.sources[0]
        victim._process.kill()
        send(broker.port, meter(400, 500))
        wait_for(lambda: ingest.counters.messages >= 500, "the other one and the restarted one go on", 30)
    assert sorted(set(payloads(config))) == list(range(500))


@pytest.mark.parametrize("client", ["paho", "lean"])
def test_a_full_disk_withholds_acknowledgements_and_goes_on_by_itself(
    client: str, broker: MosquittoBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path, broker.port, client=client)
    with heard(caplog), ingesting(config, max_bytes=200_000) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected")
        send(broker.port, [("evt/v1/s/n/up/meter", b"%d" % i + b" " * 20_000) for i in range(30)])
        wait_for(lambda: ingest.counters.storage_full, "full")
        link = ingest.sources[0].status()
        wait_for(lambda: link.messages == 30, "received")
        assert 0 <= link.acked < 30
        wait_for(lambda: read_status(tmp_path, "ingest").get("storage_full"), "full in the status file")
        ingest._writer.max_bytes = 0
        wait_for(lambda: link.acked == 30, "acknowledged when there is room")
    assert payloads(config) == list(range(30))
    assert "Nothing is acknowledged, so the broker keeps all new messages" in caplog.text
    assert "bytes are in use" in caplog.text
    assert "there is room again" in caplog.text


def test_stopped_while_the_disk_is_full(broker: MosquittoBroker, tmp_path: Path) -> None:
    config = settings(tmp_path, broker.port, client="lean")
    with ingesting(config, max_bytes=150_000) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected")
        send(broker.port, [("evt/v1/s/n/up/meter", b"%d" % i + b" " * 20_000) for i in range(30)])
        wait_for(lambda: ingest.counters.storage_full, "full")
    with ingesting(config):
        wait_for(lambda: len(set(payloads(config))) == 30, "the broker kept what was not acknowledged")


def test_a_damaged_journal_stops_ingest(
    broker: MosquittoBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, broker.port, client="lean")

    def damaged(self: JournalWriter, frames: dict[int, Frame]) -> dict[int, int]:
        raise StorageCorrupt("page 7")

    with pytest.raises(StorageCorrupt, match="page 7"), ingesting(config) as ingest:  # noqa: PT012 (raised on exit)
        link = ingest.sources[0].status()
        wait_for(lambda: link.connected, "connected")
        monkeypatch.setattr(JournalWriter, "append", damaged)
        send(broker.port, meter(0, 5))
        wait_for(lambda: not link.connected, "disconnected")
        assert link.acked == 0


def test_a_damaged_file_ends_the_process_with_the_code_for_storage(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal at all" * 1000)
    config = settings(tmp_path, 1)
    with ingest_process(config, tmp_path) as process:
        assert process.wait(30) == 74
    assert "chargestream: storage: journal" in (tmp_path / "ingest.log").read_text()


def test_operator_messages_go_to_their_site_or_to_all(broker: MosquittoBroker, tmp_path: Path) -> None:
    config = settings(tmp_path, broker.port, client="paho")
    with ingesting(config) as ingest:
        wait_for(lambda: ingest.sources[0].status().connected, "connected")
        send(broker.port, [("evt/v1/_op/maintenance", b'{"site":"depot"}'), ("evt/v1/_op/tariff", b"{}")])
        wait_for(lambda: ingest.counters.messages == 2, "journaled")
    found = sorted((m.topic, m.shard) for m in journaled(config))
    assert found == [
        ("evt/v1/_op/maintenance", shard_of("depot", 4)),
        *(("evt/v1/_op/tariff", shard) for shard in range(4)),
    ]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_the_embedded_broker_serves(version: str, tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    with EmbeddedBroker() as broker:
        port = broker.port if version == "5" else broker.port_311
        config = settings(tmp_path, port, client="lean", protocol_version=version)
        with ingesting(config) as ingest:
            wait_for(lambda: ingest.sources[0].status().connected, "connected")
            send(port, meter(0, 50), version=version)
            wait_for(lambda: ingest.counters.messages == 50, "journaled")
            broker.kill()
            broker.start()
            wait_for(lambda: ingest.sources[0].status().connects == 2, "connected again")
    assert payloads(config) == list(range(50))

"""Chunks over a real broker: whole images, damage, resumption, busy nodes, a broker that restarts."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from connectors.broker import MosquittoBroker
from connectors.firmware_chunks import REQUESTS, Chunks, ChunkServer, Waiting, read_chunk
from connectors.firmware_pace import TokenBucket
from connectors.mqtt_settings import MqttSettings
from models.errors import DecodeError
from models.firmware import FirmwareError
from models.firmware_urls import Grant, query_of
from models.secret import Secret
from tests.servers import require
from tests.servers.ingesting import wait_for

from ._firmware_repo import DATA, Kept, now_ms

SECRET = Secret("s" * 40)
TOPIC = "evt/v1/S/N1/up/fwreq"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    made = Kept(tmp_path_factory.mktemp("chunks"))
    made.add()
    return made


@pytest.fixture
def chunks(kept: Kept) -> Chunks:
    return Chunks(kept.store(), [SECRET], 16_384)


def token(kept: Kept, site: str = "S", expires_ms: int = 0) -> str:
    image = kept.repo.images()[0].image_id
    return query_of(Grant(image, "c-1", site, "N1", expires_ms or now_ms() + 3_600_000), SECRET)


def request(kept: Kept, offset: int = 0, length: int = 16_384, **more: Any) -> bytes:
    body = {"v": 1, "image": kept.repo.images()[0].image_id, "offset": offset, "length": length}
    return msgspec.json.encode(body | {"token": token(kept)} | more)


def test_chunks_make_the_image(kept: Kept, chunks: Chunks) -> None:
    got = bytearray()
    while len(got) < len(DATA):
        head, block = read_chunk(chunks.answer(TOPIC, request(kept, len(got), 70_000)))
        assert (head["offset"], head["length"]) == (len(got), len(block))
        assert len(block) <= 16_384
        got += block
    assert bytes(got) == DATA
    assert head["size"] == len(DATA)
    assert chunks.counts.sent_bytes == len(DATA)
    small, _ = read_chunk(chunks.answer(TOPIC, request(kept, len(DATA) - 5, 100)))
    assert small["length"] == 5
    damaged = bytearray(chunks.answer(TOPIC, request(kept)))
    damaged[-1] ^= 1
    with pytest.raises(FirmwareError, match="damaged"):
        read_chunk(bytes(damaged))


def test_what_is_refused_says_why(kept: Kept, chunks: Chunks) -> None:
    for payload, reason in (
        (b"{", "format"),
        (b"\xff", "format"),
        (b'{"image":"x"}', "format"),
        (request(kept, token="c=1"), "unsigned"),
        (request(kept, token="&".join(f"x{i}=1" for i in range(50))), "unsigned"),
        (request(kept, token=token(kept, site="T")), "unsigned"),
        (request(kept, token=token(kept, expires_ms=now_ms() - 1_000)), "expired"),
        (request(kept, image="other"), "unsigned"),
        (request(kept, offset=len(DATA)), "range"),
        (request(kept, offset=-1), "range"),
        (request(kept, length=0), "range"),
    ):
        head, block = read_chunk(chunks.answer(TOPIC, payload))
        assert (head["error"], block) == (reason, b""), payload
        assert "retry_s" not in head
    kept.repo.hold(kept.repo.images()[0].image_id, "looks bad")
    try:
        told: list[tuple[str, str]] = []
        chunks = Chunks(
            kept.store(), [SECRET], 16_384, withdrawn=lambda g, why: told.append((g.campaign, why))
        )
        assert "looks bad" in read_chunk(chunks.answer(TOPIC, request(kept)))[0]["detail"]
        assert [(campaign, "looks bad" in why) for campaign, why in told] == [("c-1", True)]
    finally:
        kept.repo.hold(kept.repo.images()[0].image_id, "")


def test_a_broken_store_is_no_fault_of_the_node(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    image = kept.add()
    (kept.repo.targets / f"{image.sha256}.{image.image_id}").write_bytes(b"EVIL")
    head, _ = read_chunk(Chunks(kept.store(), [SECRET], 1_000).answer(TOPIC, request(kept)))
    assert (head["error"], head["retry_s"]) == ("unavailable", 60)
    assert str(tmp_path) not in json.dumps(head)


def test_nodes_take_turns_and_none_takes_all() -> None:
    waiting = Waiting(2)
    assert waiting.put("a", b"1")
    assert waiting.put("a", b"1")  # again: waits once
    assert waiting.put("a", b"2")
    assert not waiting.put("a", b"3")
    assert waiting.put("b", b"1")
    assert len(waiting) == 3
    assert [waiting.take(0) for _ in range(4)] == [("a", b"1"), ("b", b"1"), ("a", b"2"), None]


def test_a_request_in_the_journal_is_no_dead_message() -> None:
    from models import batch as b
    from pipeline.dialects import Message, Topic, native

    asked = Topic(TOPIC, "native", b.OTHER, "S", "N1", rest="up/fwreq")
    dialect = native.build({})
    dialect.decode(Message(asked, b"{}", 0, False), None)  # type: ignore[arg-type]  # nothing goes into the sink
    other = msgspec.structs.replace(asked, rest="up/fwreqs")
    with pytest.raises(DecodeError):
        dialect.decode(Message(other, b"{}", 0, False), None)  # type: ignore[arg-type]  # nor here


# -- over a broker ---------------------------------------------------------------------------------------


class Node:
    """A node without HTTP that fetches its image by chunks."""

    def __init__(self, port: int, name: str) -> None:
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.request, self.topic = f"evt/v1/S/{name}/up/fwreq", f"evt/v1/S/{name}/dn/fwchunk"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.on_message = lambda _c, _u, message: self.answers.put(bytes(message.payload))
        self.client.on_connect = lambda client, *_: client.subscribe(self.topic, 1)
        self.ready = threading.Event()
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def fetch(
        self, kept: Kept, stop_at: int = len(DATA), start: bytes = b"", timeout_s: float = 0.3
    ) -> bytes:
        """Ask for one chunk after the other, again when no answer comes."""
        got = bytearray(start)
        deadline = time.monotonic() + 30
        while len(got) < stop_at:
            assert time.monotonic() < deadline, "no chunks come"
            self.client.publish(self.request, request(kept, len(got)), 1)
            try:
                head, block = read_chunk(self.answers.get(timeout=timeout_s))
            except queue.Empty:
                continue
            if head.get("offset") == len(got):
                got += block
        return bytes(got)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker() -> Iterator[MosquittoBroker]:
    require("mosquitto")
    with MosquittoBroker(persistence=True) as started:
        yield started


@pytest.mark.server
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_an_image_over_a_broker_that_restarts(
    kept: Kept, chunks: Chunks, broker: MosquittoBroker, version: str
) -> None:
    settings = MqttSettings(
        "127.0.0.1", broker.port, "chunks-0", version, filters=(REQUESTS,),
        share_group="fw" if version == "5" else "",
        reconnect_min_s=0.05, reconnect_max_s=0.2,
    )  # fmt: skip
    server = ChunkServer(settings, chunks, TokenBucket(0, 0), 4, 2)
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        assert server.subscribed.wait(10)
        node = Node(broker.port, "N1")
        half = node.fetch(kept, len(DATA) // 2)
        assert half == DATA[: len(half)]
        broker.restart()
        wait_for(server.subscribed.is_set, "the server back")
        node.close()
        node = Node(broker.port, "N1")  # the node, too, was away
        assert node.fetch(kept, start=half) == DATA
        for _ in range(20):  # far more than may wait
            node.client.publish(node.request, request(kept, 0, 1 + _), 1)
        heads = [read_chunk(node.answers.get(timeout=5))[0] for _ in range(20)]
        errors = {head.get("error") for head in heads}
        assert errors <= {None, "busy"}
        node.close()
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()

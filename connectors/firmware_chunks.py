"""Gives images out piece by piece over MQTT, to nodes that have no HTTP.

A node asks on ``evt/v1/<site>/<node>/up/fwreq`` and is answered on ``…/dn/fwchunk``: one line of JSON, and
after its line break the bytes themselves. Nothing is remembered of a node but the requests that it waits for,
so it goes on where it was whatever happened to either side.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from models.errors import RetryLater
from models.firmware import FirmwareError
from models.firmware_urls import Grant, read_grant
from models.secret import Secret

from .firmware_pace import TokenBucket
from .firmware_store import FirmwareStore
from .mqtt import connect, new_client
from .mqtt_settings import MqttSettings

_LOG = logging.getLogger("chargestream.firmware")

REQUESTS: Final = "evt/v1/+/+/up/fwreq"
#: How long the broker keeps a chunk for a node that is away (MQTT 5): it asks again anyway.
_CHUNK_EXPIRY_S: Final = 60
_RETRY_S: Final = 10
_MAX_NODES: Final = 100_000
_POLL_S: Final = 0.2


class Request(msgspec.Struct, frozen=True):
    """What a node asks for: `length` bytes of `image` from `offset`; `token` is the query of its location."""

    image: str
    offset: int
    token: str
    length: int = 16_384
    v: int = 1


@dataclass(slots=True)
class ChunkCounts:
    """Counts since the start."""

    requests: int = 0
    chunks: int = 0
    sent_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Chunks:
    """Turns requests into answers; knows no broker.

    Parameters
    ----------
    store : FirmwareStore
    secrets : sequence of Secret
        That sign locations.
    max_bytes : int
        Longest chunk; who asks for more gets so much.
    now_ms : callable
    withdrawn : callable
        Is told of every station that is refused an image, and why.
    """

    def __init__(
        self,
        store: FirmwareStore,
        secrets: Sequence[Secret],
        max_bytes: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        withdrawn: Callable[[Grant, str], None] = lambda _grant, _reason: None,
    ) -> None:
        self._withdrawn = withdrawn
        self._store, self._secrets, self._max, self._now_ms = store, tuple(secrets), max_bytes, now_ms
        self._decode = msgspec.json.Decoder(Request)
        self.counts = ChunkCounts()

    def answer(self, topic: str, payload: bytes) -> bytes:
        """Return the answer to a request."""
        self.counts.requests += 1
        try:
            request = self._decode.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self.refusal("", 0, "format", f"expected image, offset, length and token as JSON: {error}")
        try:
            return self._chunk(topic.split("/")[2], request)
        except (FirmwareError, ValueError) as error:
            reason = error.reason if isinstance(error, FirmwareError) else "unsigned"
            if reason in {"repository", "hash"}:
                _LOG.error("a chunk cannot be given out: %s", error)
                text = "images cannot be given out at the moment"
                return self.refusal(request.image, request.offset, "unavailable", text, 60)
            return self.refusal(request.image, request.offset, reason, str(error))
        except OSError as error:
            _LOG.error("a chunk cannot be read: %s", error)
            text = "images cannot be given out at the moment"
            return self.refusal(request.image, request.offset, "unavailable", text, 60)

    def refusal(self, image: str, offset: int, reason: str, detail: str, retry_s: int = 0) -> bytes:
        """Return an answer without bytes; `retry_s` 0: asking again will not help."""
        self.counts.refused[reason] += 1
        head = {"v": 1, "image": image[:130], "offset": offset, "error": reason, "detail": detail[:300]}
        return _line(head | ({"retry_s": retry_s} if retry_s else {}))

    def _chunk(self, site: str, request: Request) -> bytes:
        grant = read_grant(request.image, request.token, self._secrets, self._now_ms())
        if grant.site != site:
            raise FirmwareError("unsigned", f"the token is for site {grant.site}, the node is of {site}")
        try:
            image = self._store.image(request.image, self._now_ms())
        except FirmwareError as error:
            if error.reason in ("revoked", "rollback"):
                self._withdrawn(grant, error.detail)
            raise
        if not 0 <= request.offset < image.size_bytes or request.length < 1:
            raise FirmwareError(
                "range",
                f"offset {request.offset}, length {request.length}: the image has {image.size_bytes} bytes",
            )
        size = min(request.length, self._max, image.size_bytes - request.offset)
        with self._store.path(image).open("rb") as file:
            block = os.pread(file.fileno(), size, request.offset)
        if len(block) != size:
            raise OSError(f"{image.image_id} ended early")
        self.counts.chunks += 1
        self.counts.sent_bytes += size
        head = {
            "v": 1,
            "image": image.image_id,
            "offset": request.offset,
            "length": size,
            "size": image.size_bytes,
            "sha256": image.sha256,
            "crc32": zlib.crc32(block),
        }
        return _line(head) + block


def _line(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode() + b"\n"


def read_chunk(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Return head and bytes of an answer, as a node reads it.

    Raises
    ------
    FirmwareError
        If the checksum does not fit.
    """
    line, _, block = payload.partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    if "error" not in head and (len(block) != head["length"] or zlib.crc32(block) != head["crc32"]):
        raise FirmwareError("hash", f"chunk at {head['offset']} of {head['image']} was damaged: ask again")
    return head, block


class Waiting:
    """Requests that wait, fair to all nodes: one of each in turn, so many of one at most."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._nodes: dict[str, deque[tuple[str, bytes]]] = {}
        self._turns: deque[str] = deque()
        self._changed = threading.Condition()

    def put(self, topic: str, payload: bytes) -> bool:
        """Add a request; False when its node has too many. The same request twice waits once."""
        with self._changed:
            queue = self._nodes.get(topic)
            if queue is None:
                if len(self._nodes) >= _MAX_NODES:
                    return False
                queue = self._nodes[topic] = deque()
                self._turns.append(topic)
            if (topic, payload) in queue:
                return True
            if len(queue) >= self._window:
                return False
            queue.append((topic, payload))
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> tuple[str, bytes] | None:
        """Return the next request, or None when there is none in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._turns), timeout_s):
                return None
            topic = self._turns.popleft()
            queue = self._nodes[topic]
            found = queue.popleft()
            if queue:
                self._turns.append(topic)
            else:
                del self._nodes[topic]
            return found

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._nodes.values())


class ChunkServer:
    """Serves chunks on one MQTT connection until told to stop; several servers share the requests.

    Parameters
    ----------
    settings : MqttSettings
        The account may publish to ``evt/v1/+/+/dn/fwchunk``; `share_group` is shared by all servers.
    chunks : Chunks
    pace : TokenBucket
    window : int
        Requests of one node that may wait.
    in_flight : int
        Chunks that wait for the broker's acknowledgement.
    """

    def __init__(
        self, settings: MqttSettings, chunks: Chunks, pace: TokenBucket, window: int, in_flight: int
    ) -> None:
        self.settings, self.chunks, self._pace = settings, chunks, pace
        self.waiting = Waiting(window)
        self._room = threading.BoundedSemaphore(in_flight)
        self._mids: dict[int, bool] = {}  # published, not acknowledged -> takes part of the room
        self._early: set[int] = set()
        self._lock = threading.Lock()
        self._lost = threading.Event()
        self._client: paho.Client | None = None
        self._in_flight = in_flight
        self.said = ""
        self.subscribed = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Connect, serve, and connect anew when the connection is lost, until `stop` is set."""
        wait_s = self.settings.reconnect_min_s
        while not stop.is_set():
            try:
                self._open()
                self._serve(stop)
                wait_s = self.settings.reconnect_min_s
            except (OSError, RetryLater) as error:
                self._say(f"{self.settings.host}:{self.settings.port}: {error}")
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, self.settings.reconnect_max_s)
            finally:
                self._close()

    def _say(self, text: str) -> None:
        if text != self.said:
            self.said = text
            _LOG.warning("MQTT broker %s", text)

    def _open(self) -> None:
        self._lost.clear()
        self._room = threading.BoundedSemaphore(self._in_flight)
        self._mids.clear()
        self._early.clear()
        client = self._client = new_client(self.settings, self.settings.tls_context(), persistent=False)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda *_: self._lost.set()
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.max_inflight_messages_set(self._in_flight)
        connect(client, self.settings, persistent=False)
        client.loop_start()

    def _close(self) -> None:
        client, self._client = self._client, None
        self.subscribed.clear()
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if self._lost.is_set():
                raise RetryLater("connection lost")
            found = self.waiting.take(_POLL_S)
            if found is None:
                continue
            topic, payload = found
            answer = self.chunks.answer(topic, payload)
            wait_s = self._pace.take(len(answer))
            if wait_s:
                stop.wait(wait_s)
            while not self._room.acquire(timeout=_POLL_S):
                if stop.is_set() or self._lost.is_set():
                    return
            self._publish(topic, answer, bounded=True)

    def _publish(self, topic: str, answer: bytes, *, bounded: bool) -> None:
        client = self._client
        if client is None:
            return
        properties = None
        if self.settings.version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho is loose
            properties.MessageExpiryInterval = _CHUNK_EXPIRY_S
        # In 3.1.1 a chunk cannot expire: at QoS 0 the broker keeps none for a node that is away.
        qos = 1 if properties is not None else 0
        answer_topic = topic.removesuffix("up/fwreq") + "dn/fwchunk"
        info = client.publish(answer_topic, answer, qos, False, properties)
        with self._lock:
            if info.mid not in self._early:
                self._mids[info.mid] = bounded
                return
            self._early.discard(info.mid)
        if bounded:
            self._room.release()

    def _on_publish(self, _c: Any, _u: Any, mid: int, _reason: Any, _p: Any) -> None:
        with self._lock:
            bounded = self._mids.pop(mid, None)
            if bounded is None:
                self._early.add(mid)  # acknowledged before `publish` returned
        if bounded:
            self._room.release()

    def _on_connect(self, client: paho.Client, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            self._say(f"{self.settings.host}:{self.settings.port} refused the login: {reason}")
            self._lost.set()
            return
        self.said = ""
        _LOG.info("chunks are served over %s:%d", self.settings.host, self.settings.port)
        client.subscribe([(f, 0) for f in self.settings.subscriptions])

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        if len(message.payload) > 4_096 or self.waiting.put(message.topic, bytes(message.payload)):
            return
        text = "too many requests of this node wait: ask for the next chunk when one has come"
        self._publish(message.topic, self.chunks.refusal("", 0, "busy", text, _RETRY_S), bounded=False)

"""Which shard a message belongs to, and a run of messages cut by shard."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from .frame import COPY, OVERSIZE, Frame
from .publish_scan import gather
from .topics import CONTROL_SITE, FLEET_REQUESTS, OPERATOR_SITE, ROOT, Router, shard_of

ALL_SHARDS: Final = -1
_OPERATOR: Final = -2
_OPERATOR_PREFIX: Final = f"{ROOT}/{OPERATOR_SITE}/".encode()
_CONTROL_PREFIXES: Final = (
    f"{ROOT}/{CONTROL_SITE}/".encode(),
    *(_OPERATOR_PREFIX + request.encode() for request in FLEET_REQUESTS),
)
_CACHED_TOPICS: Final = 1 << 17
#: Below this many messages plain Python is quicker than setting up the kernels.
_SMALL: Final = 24


class _SiteOnly(msgspec.Struct):
    site: str


class Sharder:
    """Assigns messages to shards by the site in their topic.

    Operator messages go to the shard of the ``site`` in their JSON payload; those that name none concern
    everybody and go to every shard of sites. What concerns the fleet as a whole (``_ctl/...``, and requests
    about campaigns and firmware) goes to the control shard, which comes after those of the sites. A topic
    that no route reads goes by its own name, to be found dead in the flow.

    Parameters
    ----------
    router : Router
    shards : int
        Shards of sites; the control shard is number `shards`.
    """

    def __init__(self, router: Router, shards: int) -> None:
        self.shards = shards
        self.control = shards
        self._router = router
        self._cache: dict[bytes, int] = {}
        self._operator = msgspec.json.Decoder(_SiteOnly)
        # Compile or load the kernel now, not while the first messages wait.
        _pick(Frame.ticks([0] * (_SMALL + 1)), np.arange(_SMALL + 1))

    def assign(self, frame: Frame) -> NDArray[np.int32]:
        """Return the shard of each message, `ALL_SHARDS` for those that go to every one; shape (n,)."""
        found: list[int] = []
        get, topics, start = self._cache.get, frame.topics, 0
        for row, end in enumerate(frame.topic_end.tolist()):
            topic = topics[start:end]
            start = end
            shard = get(topic)
            if shard is None:
                shard = self._learn(topic)
            if shard == _OPERATOR:
                shard = self._by_payload(frame, row)
            found.append(shard)
        return np.array(found, np.int32)

    def _learn(self, topic: bytes) -> int:
        if topic.startswith(_CONTROL_PREFIXES):
            shard = self.control
        elif topic.startswith(_OPERATOR_PREFIX):
            shard = _OPERATOR
        else:
            text = topic.decode(errors="replace")
            match = self._router.match(text)
            shard = shard_of(match.site if match else text, self.shards)
        if len(self._cache) >= _CACHED_TOPICS:
            self._cache.clear()
        self._cache[topic] = shard
        return shard

    def _by_payload(self, frame: Frame, row: int) -> int:
        if frame.flags[row] & OVERSIZE:
            return ALL_SHARDS
        try:
            return shard_of(self._operator.decode(frame.payload(row)).site, self.shards)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ALL_SHARDS

    def split(self, frame: Frame) -> dict[int, Frame]:
        """Return the messages of each shard that has any, in order of arrival."""
        shard = self.assign(frame)
        if len(shard) and int(shard.min()) == ALL_SHARDS:
            everywhere = shard == ALL_SHARDS
            copies = np.where(everywhere, self.shards, 1)
            rows = np.repeat(np.arange(len(shard)), copies)
            shard = np.repeat(shard, copies)
            shard[shard == ALL_SHARDS] = np.tile(np.arange(self.shards), int(everywhere.sum()))
        else:
            rows = np.arange(len(shard))
        order = np.argsort(shard, kind="stable")
        cut = _pick(frame, rows[order])
        if len(rows) > len(frame):
            repeated = np.zeros(len(rows), np.bool_)
            repeated[1:] = rows[1:] == rows[:-1]
            cut.flags[repeated[order]] |= COPY  # every shard sees it, one counts it
        return _cut(cut, shard[order])


def _pick(frame: Frame, rows: NDArray[np.int64]) -> Frame:
    """Return the messages `rows` of `frame`, in that order."""
    if len(rows) <= _SMALL:
        return Frame.from_columns(
            frame.recv_ns[rows].tolist(),
            [frame.topic(int(i)) for i in rows],
            [frame.payload(int(i)) for i in rows],
            frame.flags[rows].tolist(),
        )
    topic_end, topics = _pick_bytes(frame.topics, frame.topic_end, rows)
    payload_end, payloads = _pick_bytes(frame.payloads, frame.payload_end, rows)
    return Frame(frame.recv_ns[rows], topic_end, payload_end, frame.flags[rows], topics, payloads)


def _pick_bytes(
    data: bytes, ends: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], bytes]:
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    start, end = starts[rows], ends[rows]
    new_ends = np.cumsum(end - start)
    out = np.empty(int(new_ends[-1]), np.uint8)
    gather(np.frombuffer(data, np.uint8), start, end, out)
    return new_ends, out.tobytes()


def _cut(frame: Frame, shard: NDArray[np.int32]) -> dict[int, Frame]:
    """Cut a frame that is sorted by shard."""
    borders = np.flatnonzero(np.diff(shard)) + 1
    starts = [0, *borders.tolist()]
    stops = [*borders.tolist(), len(shard)]
    return {int(shard[a]): frame.slice(a, b) for a, b in zip(starts, stops, strict=True) if b > a}

"""Publish a message log to a broker as if it ended now: ``python -m tests.convert.moved --help``.

Every node's times are moved so that its last message is of this moment; nodes of one log then end together.
Messages go out in the order of the log as fast as the broker takes them. Heartbeats are left out: they carry
the clock of the moment they are sent in, and would tell of a wrong clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from connectors.msglog import read_frames
from connectors.simulator.live import publish_all
from connectors.simulator.messages import SimMessage
from connectors.simulator.publisher import Broker
from models.topics import OPERATOR_SITE, ROOT
from models.units import NS_PER_MS

#: Keys of native payloads that hold a time in epoch ms.
TIMES = frozenset({"t", "t0", "from", "until"})


def moved(log: Path, end_ms: int) -> list[SimMessage]:
    """Return the messages of a native log, each node's times moved so that it ends at `end_ms`."""
    messages = [(topic, t_ms, payload) for topic, t_ms, payload in _read(log) if not topic.endswith("/up/hb")]
    last: dict[str, int] = {}
    for topic, t_ms, _ in messages:
        last[_node(topic)] = max(t_ms, last.get(_node(topic), 0))
    # what operators say is about a site as a whole: it moves with the log
    last[OPERATOR_SITE] = max(last.values())
    out = []
    for topic, t_ms, payload in messages:
        by_ms = end_ms - last[_node(topic)]
        body = msgspec.json.encode(_shifted(msgspec.json.decode(payload), by_ms))
        out.append(SimMessage(t_ms + by_ms, topic, body))
    return out


def _read(log: Path) -> Iterator[tuple[str, int, bytes]]:
    for frame in read_frames(log):
        for i in range(len(frame)):
            yield frame.topic(i).decode(), int(frame.recv_ns[i]) // NS_PER_MS, frame.payload(i)


def _node(topic: str) -> str:
    if topic.startswith(f"{ROOT}/{OPERATOR_SITE}/"):
        return OPERATOR_SITE
    return "/".join(topic.split("/")[2:4])


def _shifted(value: Any, by_ms: int) -> Any:
    if isinstance(value, list):
        return [_shifted(item, by_ms) for item in value]
    if isinstance(value, dict):
        return {
            key: item + by_ms if key in TIMES and isinstance(item, int) else _shifted(item, by_ms)
            for key, item in value.items()
        }
    return value


def main() -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="native message log")
    parser.add_argument("--host", default="127.0.0.1", help="broker (127.0.0.1)")
    parser.add_argument("--port", type=int, default=1883, help="its port (1883)")
    args = parser.parse_args()
    messages = moved(args.log, time.time_ns() // NS_PER_MS)
    sent = publish_all(messages, Broker(args.host, args.port))
    print(f"{sent.sent} messages sent, {sent.acknowledged} acknowledged")


if __name__ == "__main__":
    main()
